"""evse.N of a station: what one output can give, and what it asks of its supply.

Owns the keys of AC outlets (amps) and of DC outputs (kilowatts) and their rules. A DC output is counted at the amps that
its supply carries at a low voltage, with its losses. Source: INTERFACE section 3, README; losses and voltage: scheduling
reference section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.config.table import Table
from controller.config.values import (
    IN_WATTS,
    Wrong,
    current_ma,
    flag,
    in_amps,
    in_kw,
    one_of,
    phases,
    positive_current_ma,
    power_or_none_w,
    power_w,
    shown,
)
from controller.core.model import Dc
from controller.core.watts import dc_limit_w, load_ma

EVSE_KEYS = "max min phases current step max_power min_power efficiency surplus phase_switching"

ALL_PHASES = (0, 1, 2)
DEFAULT_MIN_MA = 6_000  # the lowest current IEC 61851 can signal
DEFAULT_STEP_MA = 1_000
DEFAULT_MIN_W = 3_000  # as an AC outlet: 6 A of the supply; below, rectifiers waste most of it
DEFAULT_EFFICIENCY_PCT = 92
LOW_PCT = 90  # of the nominal voltage (EN 50160): the same watts draw more amps there
UNKNOWN = "unknown"

_AC_ONLY = {"max": 'max_power = "180 kW"', "min": 'min_power = "3 kW"', "step": "max_power alone"}
_DC_ONLY = {"max_power": 'max = "32 A"', "min_power": 'min = "6 A"', "efficiency": "max alone"}


@dataclass(frozen=True, slots=True)
class Fallback:
    """As written: amps, or the power of DC outputs."""

    current_ma: int
    power_w: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Amps are those of the supply, per phase."""

    max_ma: int
    min_ma: int
    step_ma: int
    phases: tuple[int, ...]
    rotation_known: bool = True
    dc: Dc | None = None
    phase_switching: bool = False

    def words(self, current_ma: int) -> str:
        """A current as people know it here."""
        if self.dc is None or current_ma == 0:
            return in_amps(current_ma)
        return in_kw(self.dc.max_power_w if current_ma == self.max_ma else dc_limit_w(self.dc, current_ma))


def read_fallback(value: object) -> Fallback:
    if isinstance(value, str) and IN_WATTS.fullmatch(value):
        return Fallback(0, power_or_none_w(value))
    return Fallback(current_ma(value))


def read_output(table: Table, nominal_mv: int) -> Output | None:
    """None when something decisive is missing or wrong, which is noted."""
    is_dc = table.optional("current", one_of("ac", "dc"), "ac") == "dc"
    for key, instead in (_AC_ONLY if is_dc else _DC_ONLY).items():
        if key in table:
            kind = "an AC outlet" if is_dc else 'a DC output, current = "dc"'
            table.note(key, f"belongs to {kind}", f"write {instead}")
    return _dc(table, nominal_mv) if is_dc else _ac(table)


def _ac(table: Table) -> Output | None:
    max_ma = table.required("max", positive_current_ma, '"32 A"')
    min_ma = table.optional("min", positive_current_ma, DEFAULT_MIN_MA)
    step_ma = table.optional("step", positive_current_ma, DEFAULT_STEP_MA)
    wired = table.optional("phases", _phases_or_unknown, ALL_PHASES)
    switches = table.optional("phase_switching", flag, False)
    if switches and len(wired) < 3:
        instead = "leave it out" if wired else 'name them, like phases = "L2 L3 L1"'
        table.note("phase_switching", "needs an outlet on three phases that are known", instead)
    if max_ma is None:
        return None
    if min_ma > max_ma:
        table.note(
            "min",
            f"the minimum of {in_amps(min_ma)} is above the maximum of {in_amps(max_ma)}",
            f'write min = "{in_amps(max_ma)}" or less, or raise max',
        )
        return None
    if min_ma % step_ma:
        table.note(
            "step",
            f"the minimum of {in_amps(min_ma)} is not a whole number of steps of {in_amps(step_ma)}",
            f'write min = "{in_amps(-(-min_ma // step_ma) * step_ma)}"',
        )
    known = bool(wired)
    return Output(max_ma, min_ma, step_ma, wired or ALL_PHASES, known, phase_switching=switches)


def _dc(table: Table, nominal_mv: int) -> Output | None:
    most_w = table.required("max_power", power_w, '"180 kW"')
    least_w = table.optional("min_power", power_w, None)
    efficiency_pct = table.optional("efficiency", _efficiency_pct, DEFAULT_EFFICIENCY_PCT)
    if "phase_switching" in table:
        table.note("phase_switching", "a DC output takes all its phases", "leave it out")
    if len(table.optional("phases", phases, ALL_PHASES)) != 3:
        table.note("phases", "a DC output is fed by three phases", "leave it out")
    if most_w is None:
        return None
    least_w = min(DEFAULT_MIN_W, most_w) if least_w is None else least_w
    if least_w > most_w:
        table.note("min_power", "is above max_power", "write less, or leave it out")
        return None
    dc = Dc(most_w, nominal_mv * LOW_PCT // 100, efficiency_pct)
    max_ma, min_ma = (
        -(-load_ma(dc, watts) // DEFAULT_STEP_MA) * DEFAULT_STEP_MA for watts in (most_w, least_w)
    )
    return Output(max_ma, min_ma, DEFAULT_STEP_MA, ALL_PHASES, dc=dc)


def _phases_or_unknown(value: object) -> tuple[int, ...]:
    """Empty: nobody knows."""
    return () if value == UNKNOWN else phases(value)


def _efficiency_pct(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 <= value <= 1:
        raise Wrong(f"{shown(value)} is not an efficiency", "write what comes out of what goes in, like 0.94")
    return int(value * 100 + 1e-9)
