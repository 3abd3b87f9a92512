"""How an EVSE is wired, on the wire and in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from controller.cli.looks import told_wiring
from controller.core.snapshot import RotationView
from controller.core.wire_wiring import wiring_doc, with_wiring


@pytest.mark.parametrize(
    ("phases", "used", "rotation"),
    [(None, None, None), ((1, 2, 0), (1,), RotationView((1, 2, 0), 0.97, 12)), ((0,), None, None)],
)
def test_both_ways(phases: Any, used: Any, rotation: Any) -> None:
    view: Any = SimpleNamespace(phases=phases, phases_used=used, rotation=rotation)
    assert with_wiring(wiring_doc(view)) == {"phases": phases, "phases_used": used, "rotation": rotation}
    assert with_wiring({}) == {"phases": None, "phases_used": None, "rotation": None}


@pytest.mark.parametrize(
    ("phases", "confidence", "said"),
    [
        (None, 0.97, 'L2 L3 L1 seems right (97 % sure, 12 observations): write phases = "L2 L3 L1"'),
        ("L2 L3 L1", 0.97, "L2 L3 L1 seems right (97 % sure, 12 observations)"),
        (
            None,
            0.8,
            "L2 L3 L1 seems right (80 % sure, 12 observations); not sure enough yet to write it down",
        ),
    ],
)
def test_what_the_operator_may_write(phases: str | None, confidence: float, said: str) -> None:
    rotation = {"likely": "L2 L3 L1", "confidence": confidence, "seen": 12}
    doc = {"phases": phases, "phases_used": "L2", "rotation": rotation}
    used, line = told_wiring(doc)
    assert used == f"phases     {phases or 'unknown'}, the vehicle uses L2"
    assert line.removeprefix("rotation   ") == said
