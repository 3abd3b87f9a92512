"""How an EVSE is wired and used, in status documents: phases by name, "L2 L3 L1". Both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.core.snapshot import EvseView, RotationView


def names(phases: Sequence[int]) -> str:
    return " ".join(f"L{phase + 1}" for phase in phases)


def wiring_doc(view: EvseView) -> dict[str, Any]:
    rotation = view.rotation
    return {
        "phases": None if view.phases is None else names(view.phases),
        "phases_used": None if view.phases_used is None else names(view.phases_used),
        "rotation": None
        if rotation is None
        else {"likely": names(rotation.likely), "confidence": rotation.confidence, "seen": rotation.seen},
    }


def with_wiring(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the view; a document of before has none of them."""
    rotation = doc.get("rotation")
    return {
        "phases": _phases(doc.get("phases")),
        "phases_used": _phases(doc.get("phases_used")),
        "rotation": None
        if rotation is None
        else RotationView(_phases(rotation["likely"]) or (), rotation["confidence"], rotation["seen"]),
    }


def _phases(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(int(name[1:]) - 1 for name in text.split())
