"""Currents in status documents: amps as floats there, whole mA here. Both ways; unknown stays None."""

from __future__ import annotations

from typing import Any

from controller.core.model import PerPhase


def amps_list(phases: PerPhase[int] | PerPhase[int | None]) -> list[float | None]:
    return [None if milli is None else milli / 1e3 for milli in phases]


def ma(value: float | None) -> int | None:
    return None if value is None else round(value * 1e3)


def phases_ma(values: list[Any]) -> PerPhase[Any]:
    l1, l2, l3 = values
    return PerPhase(ma(l1), ma(l2), ma(l3))
