"""What a meter's own values say against it: the wrong map, transformers turned round or swapped, sudden mirrors.

Pure. Owns the judgement that needs nothing but the meter; what needs the currents of our own EVSEs is in the core.
`doubts` is for people (`depot meter probe`): nothing acts on it. `Continuity` makes the bus drop readings: where a load
turns into the same feed-in, or into a tenth, from one poll to the next and on every phase at once, the meter has changed
and not the load. The opposite changes are believed: more load than there is harms no fuse.
Source: field notes of the projects named in the meter files; the power of a conductor is never above its volts x amperes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from controller.core.model import PerPhase
from drivers.modbus.registers import Measured

LOADED_A = 5.0  # below, ripple and rounding say more than the wiring does
JUMP_ABOVE_MA = 5_000
LEAST_MA = 1_000  # on every phase: a phase at rest says nothing
JUMP_TOLERANCE_PCT = 2
BELIEVED_AFTER_S = 60.0
_FACTORS = ((-1.0, "has turned round"), (0.1, "is a tenth of what it was"))


def doubts(measured: Measured) -> tuple[str, ...]:
    """One line each for what looks wrong in these values, worst first."""
    return tuple(_doubts(measured))


class _Conductor(NamedTuple):
    name: str
    volts: float
    amps: float
    watts: float

    @property
    def factor(self) -> float:
        return self.watts / (self.volts * abs(self.amps))


def _doubts(measured: Measured) -> Iterator[str]:
    known = [
        _Conductor(f"L{n}", volts, amps, watts)
        for n, (volts, amps, watts) in enumerate(
            zip(measured.voltage_v, measured.current_a, measured.power_w, strict=False), 1
        )
        if volts is not None and amps is not None and watts is not None
    ]
    for one in known:
        most_w = 1.1 * one.volts * abs(one.amps) + 50
        if abs(one.watts) > most_w:
            yield (
                f"{one.name} shows {one.watts:.0f} W, more than {one.volts:.0f} V and {one.amps:.1f} A can be: "
                "another kind of meter, or transformers set differently for current and power?"
            )
    yield from _sum(measured)
    loaded = [one for one in known if abs(one.amps) >= LOADED_A and one.volts > 0]
    if len(loaded) > 1 and all(0.4 <= abs(one.factor) <= 0.6 for one in loaded):
        yield "every loaded phase has a power factor near 0.5: are the transformers on the phases of their voltages?"
    elif loaded and any(one.watts < 0 for one in loaded) and any(one.watts > 0 for one in loaded):
        backward = ", ".join(one.name for one in loaded if one.watts < 0)
        yield f"{backward} feeds back while others draw: a transformer turned round, unless something there generates"
    elif loaded and all(one.watts < 0 for one in loaded):
        yield "every loaded phase feeds back: write invert = true, unless something there generates"
    for n, volts in enumerate(measured.voltage_v, 1):
        if volts == 0:
            yield f"L{n} has no voltage"
    if not any(amps is not None for amps in measured.current_a):
        yield "it tells no currents, so it cannot guard a circuit"


def _sum(measured: Measured) -> Iterator[str]:
    phases = [watts for watts in measured.power_w if watts is not None]
    total = measured.total_power_w
    if total is None or len(phases) < 2 or len(phases) != len(measured.power_w):
        return
    if abs(sum(phases) - total) > max(100.0, 0.05 * sum(map(abs, phases))):
        yield f"the total of {total:.0f} W is not the sum of the phases, {sum(phases):.0f} W"


class Continuity:
    """Compares each reading with the last that was believed. A change that stays is believed after a minute: then the
    core, which knows what our EVSEs draw, has to find it out."""

    def __init__(self) -> None:
        self._last: PerPhase[int | None] | None = None
        self._since_s: float | None = None

    def objection(self, current_ma: PerPhase[int | None], taken_s: float) -> str | None:
        """Why this reading is not to be believed, or None."""
        how = None if self._last is None else _jump(self._last, current_ma)
        if how is not None:
            self._since_s = taken_s if self._since_s is None else self._since_s
            if taken_s - self._since_s <= BELIEVED_AFTER_S:
                return f"every current {how}, from one poll to the next"
        self._last, self._since_s = current_ma, None
        return None


def _jump(before: PerPhase[int | None], after: PerPhase[int | None]) -> str | None:
    pairs = [
        (old, new) for old, new in zip(before, after, strict=True) if old is not None and new is not None
    ]
    if (
        len(pairs) < 3
        or max(abs(old) for old, _ in pairs) < JUMP_ABOVE_MA
        or sum(old for old, _ in pairs) <= 0
    ):
        return None
    if min(abs(old) for old, _ in pairs) < LEAST_MA:
        return None
    for factor, how in _FACTORS:
        expected = [(factor * old, new) for old, new in pairs]
        if all(abs(new - one) <= abs(one) * JUMP_TOLERANCE_PCT / 100 for one, new in expected):
            return how
    return None
