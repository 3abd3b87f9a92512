"""What a connector's reading says about its currents.

Owns the step from the platform's one power (and, over REST, one current and one voltage) to amps per conductor. The
power alone does not tell over how many phases it flows; `current` is the highest phase on AC (G-16), so both together
do: that is the spread, 3.0 for a vehicle on three equal phases, 1.0 for one phase. The stream carries power only, so
the spread of the last REST read stands until the next. Must not guess: a conductor nobody can know is None.
Pure. Source: Open Platform REFERENCE sections 7 and 12, GAPS G-16, G-29.
"""

from __future__ import annotations

from datetime import datetime

from controller.core import watts
from controller.core.events import EvseSample
from controller.core.model import Evse, EvseState, Moment, PerPhase, each_phase
from controller.core.readings import Readings
from controller.core.units import load_ma
from drivers.openplatform.settings import CHANNEL
from drivers.openplatform.words import ConnectorReading

_TELLING_MA = 2_000  # below this, rounding and standby say more than phases do
_BALANCED = 0.85  # of the wired phases: covers a low voltage and a poor power factor, and no missing phase


def spread_of(evse: Evse, reading: ConnectorReading, readings: Readings) -> float | None:
    """Over how many phases of nominal voltage the power flows, as measured; None when this reading does not tell."""
    wired = float(len(evse.phases))
    if wired == 1 or evse.dc is not None:
        return wired
    if reading.voltage_v is not None and reading.voltage_v * 1000 > readings.highest_ac_voltage_mv:
        return wired  # the vehicle's side of a DC station, whose grid side is balanced
    power_w, current_ma = reading.power_w, reading.current_ma
    if not reading.voltage_v or power_w is None or current_ma is None or abs(current_ma) < _TELLING_MA:
        return None
    return min(wired, abs(power_w) * 1e6 / (abs(current_ma) * readings.phase_voltage_mv))


def evse_sample(
    evse: Evse,
    reading: ConnectorReading,
    spread: float | None,
    stamp: datetime | None,
    now: Moment,
    readings: Readings,
) -> EvseSample:
    """The fact to report. Export is negative; session energy of a discharge is none of the import register."""
    taken_s = now.mono_s
    if stamp is not None and now.utc_trusted:
        age_s = (now.utc - stamp).total_seconds()
        if age_s > readings.stamp_tolerance_s:
            taken_s -= age_s
    return EvseSample(
        evse=evse.id,
        channel=CHANNEL,
        taken_s=taken_s,
        current_ma=_conductors(evse, reading, spread, readings),
        power_w=reading.power_w,
        register_wh=None if _exports(reading) else reading.energy_wh,
        soc=reading.soc,
    )


def _conductors(
    evse: Evse, reading: ConnectorReading, spread: float | None, readings: Readings
) -> PerPhase[int | None]:
    wired = len(evse.phases)
    if evse.dc is not None:  # volts and amps are the vehicle's
        signed_w = (
            None
            if reading.power_w is None
            else (-abs(reading.power_w) if _exports(reading) else reading.power_w)
        )
        return each_phase(None if signed_w is None else watts.load_ma(evse.dc, signed_w))
    if spread is None and readings.kw_limit_spreads == "wired" and evse.rotation_known:
        spread = float(wired)  # as the limit was written
    highest_ma = _highest_ma(reading, spread, readings)
    balanced = highest_ma == 0 or (spread is not None and spread >= _BALANCED * wired)
    used = wired if balanced else 1  # which others carry something, and what, is not said
    return PerPhase(*(highest_ma if conductor < used else None for conductor in range(3)))


def _highest_ma(reading: ConnectorReading, spread: float | None, readings: Readings) -> int | None:
    """From power and spread, and as reported where that is the AC side; the larger one counts."""
    known: list[int] = []
    power_w = reading.power_w
    if power_w == 0:
        known.append(0)
    elif power_w is not None and spread is not None:
        # a spread of less than half a phase is no spread but reactive current, which REST reads show themselves
        known.append(load_ma(abs(power_w) * 1000 / (readings.phase_voltage_mv * max(spread, 0.5))))
    ac = reading.voltage_v is not None and 0 < reading.voltage_v * 1000 <= readings.highest_ac_voltage_mv
    if ac and reading.current_ma is not None:
        known.append(abs(reading.current_ma))
    highest_ma = max(known, default=None)
    return -highest_ma if highest_ma and _exports(reading) else highest_ma


def _exports(reading: ConnectorReading) -> bool:
    return reading.state is EvseState.DISCHARGING or (reading.power_w or 0) < 0
