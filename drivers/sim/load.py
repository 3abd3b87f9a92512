"""A load that stands in a file: one or three currents, like "40 A" or "40 A, 38.5 A, 41 A".

Owns that format, for simulators in different processes: one writes what its chargers draw, a meter in another reads
it, and a person changes the building's load with an editor.
"""

from __future__ import annotations

import logging
from pathlib import Path

from controller.core.units import parse_current_ma
from drivers.sim.evse import NOTHING, Amps

log = logging.getLogger(__name__)


class FileLoad:
    """Call it for the amps per grid phase in the file now. What cannot be read is logged once and changes nothing;
    before the first good content the load is 0."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._amps = NOTHING
        self._trouble = ""

    def __call__(self) -> Amps:
        try:
            self._amps = _amps(self._path.read_text(encoding="utf-8"))
            self._trouble = ""
        except (OSError, ValueError) as error:
            if str(error) != self._trouble:
                log.warning("%s: %s", self._path, error)
                self._trouble = str(error)
        return self._amps


def write_amps(path: Path, amps: Amps) -> None:
    """Replaces the file at once, so that no reader sees half of it. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(", ".join(f"{one:.2f} A" for one in amps) + "\n", encoding="utf-8")
    fresh.replace(path)


def _amps(text: str) -> Amps:
    values = [parse_current_ma(part.strip()) / 1e3 for part in text.strip().split(",")]
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ValueError(f"{len(values)} currents; write one, or one for each phase")
    l1, l2, l3 = values
    return (l1, l2, l3)
