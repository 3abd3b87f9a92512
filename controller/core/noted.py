"""What is noted of a running session beside its energy. Values only; the rules stand in `recognition` and `charge_told`."""

from __future__ import annotations

from dataclasses import dataclass

from controller.core.habits import Draw
from controller.core.snapshot import LooksLike


@dataclass(slots=True)
class Sketch:
    """What one session has shown so far, and what it looks like. phases 0, most_ma 0: nothing yet. own_ma: the most it drew
    while it might have drawn clearly more. said: what the vehicle tells of itself."""

    session: str
    phases: int = 0
    most_ma: int = 0
    own_ma: int = 0
    said: Draw | None = None
    looks_like: LooksLike | None = None
    look_s: float = float("-inf")  # when to look again
    looked_at: tuple[int, int] | None = None  # phases and whole amps that it was last judged by


@dataclass(frozen=True, slots=True)
class Note:
    """A state of charge that a person told, and the energy of the session at that time."""

    session: str
    soc: int
    energy_wh: int
