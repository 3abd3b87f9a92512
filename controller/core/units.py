"""Units: the only place where text and floats become integers, and where rounding is decided.

Inside the controller every quantity is an integer: currents in mA (`_ma`), voltages in mV (`_mv`), powers in W
(`_w`), energies in Wh (`_wh`). Times are float seconds (`_s`). Limits round down, loads round up, energy is
never rounded (it arrives as whole Wh).
"""

from __future__ import annotations

import math
import re

_QUANTITY = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")

MOST = 1e15  # no quantity of a depot is larger; beyond it floats stop counting whole units

_CURRENT = {"mA": 1.0, "A": 1e3}
_VOLTAGE = {"mV": 1.0, "V": 1e3, "kV": 1e6}
_POWER = {"W": 1.0, "kW": 1e3, "MW": 1e6}
_ENERGY = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6}
_DURATION = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _parse(text: str, scale: dict[str, float], kind: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not {_a(kind)}; write it like "{example}"')
    number, unit = match.groups()
    if unit not in scale:
        known = ", ".join(scale)
        raise ValueError(
            f'"{text}": unit "{unit}" is not {_a(kind)} unit ({known}); write it like "{example}"'
        )
    # decimal text times a power of ten: rounding to 6 digits removes binary dust (16.1 A is 16100 mA, not 16099.9)
    value = round(float(number) * scale[unit], 6)
    if abs(value) > MOST:
        raise ValueError(f'"{text}" is too large for {_a(kind)}')
    return value


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def parse_current_ma(text: str) -> int:
    """Reads "16 A" as 16000; fractions of a mA round down. Raises ValueError with the expected form."""
    return math.floor(_parse(text, _CURRENT, "current", "16 A"))


def parse_voltage_mv(text: str) -> int:
    """Reads "230 V" as 230000. Raises ValueError."""
    return math.floor(_parse(text, _VOLTAGE, "voltage", "230 V"))


def parse_power_w(text: str) -> int:
    """Reads "7.4 kW" as 7400; fractions of a W round down. Raises ValueError."""
    return math.floor(_parse(text, _POWER, "power", "7.4 kW"))


def parse_energy_wh(text: str) -> int:
    """Reads "30 kWh" as 30000. Raises ValueError."""
    return math.floor(_parse(text, _ENERGY, "energy", "30 kWh"))


def parse_duration_s(text: str) -> float:
    """Reads "90 s", "30 m", "2 h" as seconds. Raises ValueError."""
    return _parse(text, _DURATION, "duration", "90 s")


def limit_ma(amps: float) -> int:
    """A limit given in amps, rounded down to whole mA. Raises ValueError on NaN or infinity."""
    return math.floor(round(_finite(amps) * 1e3, 6))


def load_ma(amps: float) -> int:
    """A load given in amps, rounded away from zero to whole mA. Raises ValueError on NaN or infinity."""
    milli = round(_finite(amps) * 1e3, 6)
    return math.ceil(milli) if milli >= 0 else math.floor(milli)


def load_w(watts: float) -> int:
    """A power given in watts, rounded away from zero. Raises ValueError on NaN or infinity."""
    exact = round(_finite(watts), 6)
    return math.ceil(exact) if exact >= 0 else math.floor(exact)


def whole(number: float) -> int:
    """The nearest integer of a finite float, for values where no direction is the safe one (V, Wh, %)."""
    return round(_finite(number))


def floor_to_step(milli: int, step: int) -> int:
    """The largest multiple of `step` that is not above `milli`; `step` must be positive."""
    return milli - milli % step


def current_for_power_ma(power_w: int, voltage_mv: int, phases: int) -> int:
    """The current per phase at which `phases` phases carry `power_w`, rounded down. Voltage is phase to neutral."""
    return power_w * 1_000_000 // (voltage_mv * phases)


def power_for_current_w(current_ma: int, voltage_mv: int, phases: int) -> int:
    """The power of `current_ma` on each of `phases` phases, rounded down."""
    return current_ma * voltage_mv * phases // 1_000_000


def amps(milli: int | None) -> float | None:
    """mA as A for people and JSON; None stays None."""
    return None if milli is None else milli / 1e3


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    return number
