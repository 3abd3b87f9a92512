"""Sampled values of OCPP meter values -> numbers we can trust, or None.

Owns units, phases, contexts and their many spellings. Pure. Source: OCPP 1.6 section 7.42-7.47, 2.0.1 part 2 section J
(the same values, units as objects) and what stations really send: lower-case units, `Current.Import.L1` as a measurand,
commas in numbers, a Transaction.Begin sample behind the live one, line-to-line phases, a neutral that would overwrite a
phase. A value that cannot be read is unknown, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from controller.core.model import PerPhase
from controller.core.units import load_ma, load_w, whole

REGISTER = "Energy.Active.Import.Register"
_DEFAULT_MEASURAND = REGISTER  # OCPP 1.6 section 7.42: a value without a measurand

_CURRENT = {"": 1.0, "a": 1.0, "ma": 1e-3, "amp": 1.0, "amps": 1.0}
_POWER = {"": 1.0, "w": 1.0, "kw": 1e3, "mw": 1e6}
_ENERGY = {"": 1.0, "wh": 1.0, "kwh": 1e3, "mwh": 1e6}
_VOLTAGE = {"": 1.0, "v": 1.0, "mv": 1e-3, "kv": 1e3}
_PERCENT = {"": 1.0, "percent": 1.0, "%": 1.0}

# measurand -> units and the largest magnitude that can be true (A, W, Wh, %)
_MEASURANDS: Mapping[str, tuple[Mapping[str, float], float]] = {
    "current.import": (_CURRENT, 5e3),
    "current.export": (_CURRENT, 5e3),
    "current.offered": (_CURRENT, 5e3),
    "current.import.offered": (_CURRENT, 5e3),
    "power.active.import": (_POWER, 5e6),
    "power.active.export": (_POWER, 5e6),
    "energy.active.import.register": (_ENERGY, 1e12),
    "soc": (_PERCENT, 100.0),
    "voltage": (_VOLTAGE, 2e3),
}
_SYNONYMS = {"current.import.offered": "current.offered"}  # OCPP 2.1
_ENDING = "transaction.end"
_NOT_LIVE = frozenset({"transaction.begin", _ENDING})
_PHASE = re.compile(r"l([123])(?:-n)?")
_PHASE_SUFFIX = re.compile(r"(.+)\.(l[123](?:-n)?|n)")
_NEUTRAL = "n"

Values = dict[
    tuple[str, int | None], float
]  # (measurand in small letters, phase 0..2 or None for all) -> base unit


def newest_values(meter_values: object, not_before: datetime | None, live: bool = True) -> Values:
    """The newest readable value of each measurand and phase; later time stamps win, the outlet wins over the inlet.

    Entries stamped before `not_before` are left out. `live` leaves out what belongs to the begin or end of a
    transaction.
    """
    entries = [entry for entry in _dicts(meter_values) if not _older(entry, not_before)]
    entries.sort(key=lambda entry: parse_time(entry.get("timestamp")) or datetime.min.replace(tzinfo=UTC))
    found: Values = {}
    samples = [
        sample
        for entry in entries
        for sample in _dicts(entry.get("sampledValue"))
        if not (live and _word(sample, "context") in _NOT_LIVE)
    ]
    samples.sort(key=_is_outlet)  # the inlet first: the outlet wins
    for sample in samples:
        _read(sample, found)
    return found


def currents_ma(values: Values, conductors: int) -> PerPhase[int | None]:
    """Import minus export per conductor. One value without a phase is taken for each conductor: loads round up."""
    parts = [_net(values, "current.import", "current.export", phase, load_ma) for phase in range(3)]
    if any(part is not None for part in parts):
        return PerPhase(*parts)
    overall = _net(values, "current.import", "current.export", None, load_ma)
    return PerPhase(*(overall if phase < conductors else None for phase in range(3)))


def power_w(values: Values, conductors: int) -> int | None:
    """Import minus export: the overall value, else the sum when every conductor was reported."""
    overall = _net(values, "power.active.import", "power.active.export", None, load_w)
    if overall is not None:
        return overall
    parts = [_net(values, "power.active.import", "power.active.export", phase, load_w) for phase in range(3)]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) >= conductors else None


def dc_power_w(values: Values) -> int | None:
    """Of a DC output: as told, else from the volts and amps of the vehicle's side."""
    told = power_w(values, 3)
    if told is not None:
        return told
    volts = values.get(("voltage", None))
    amps = {name: values.get((name, None)) for name in ("current.import", "current.export")}
    if volts is None or not any(value is not None for value in amps.values()):
        return None
    return load_w(volts * ((amps["current.import"] or 0.0) - abs(amps["current.export"] or 0.0)))


def register_wh(values: Values) -> int | None:
    """The energy register: the overall value, else the sum of the phases."""
    name = REGISTER.casefold()
    if (name, None) in values:
        overall = values[name, None]
    else:
        parts = [value for (measurand, _), value in values.items() if measurand == name]
        if not parts:
            return None
        overall = sum(parts)
    return whole(overall) if overall >= 0 else None


def ending_wh(meter_values: object) -> int | None:
    """The register at the end of a transaction, where a station says that it is that."""
    endings = [
        {"sampledValue": [each for each in _dicts(entry.get("sampledValue")) if _is_ending(each)]}
        for entry in _dicts(meter_values)
    ]
    return register_wh(newest_values(endings, None, live=False))


def soc(values: Values) -> int | None:
    value = values.get(("soc", None))
    return whole(value) if value is not None and value >= 0 else None


def offered_ma(values: Values) -> int | None:
    """What the station offers the vehicle, per phase; the largest if it says so per phase."""
    offers = [value for (measurand, _), value in values.items() if measurand == "current.offered"]
    return load_ma(max(offers)) if offers else None


def number(value: object) -> float | None:
    """A finite number from a JSON number or text ("16", " 16,5 "); None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value.strip().replace(",", "."))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e15 else None  # false for NaN and infinity as well


def parse_time(value: object) -> datetime | None:
    """An ISO 8601 time as aware UTC; one without a zone is taken for UTC. None when unreadable."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read(sample: Mapping[str, Any], found: Values) -> None:
    measurand = _word(sample, "measurand") or _DEFAULT_MEASURAND.casefold()
    phase_text = _word(sample, "phase")
    suffix = _PHASE_SUFFIX.fullmatch(measurand)
    if suffix is not None and not phase_text:
        measurand, phase_text = suffix[1], suffix[2]
    known = _MEASURANDS.get(measurand)
    if known is None or phase_text == _NEUTRAL or _word(sample, "format") == "signeddata":
        return
    phase: int | None = None
    if phase_text:
        match = _PHASE.fullmatch(phase_text)
        if match is None:
            return  # line to line, or nothing we know
        phase = int(match[1]) - 1
    scales, most = known
    scale = _scale(sample, scales)
    value = number(sample.get("value"))
    if scale is None or value is None or not abs(value * scale) <= most:
        return
    found[_SYNONYMS.get(measurand, measurand), phase] = value * scale


def _scale(sample: Mapping[str, Any], scales: Mapping[str, float]) -> float | None:
    """Of the unit to the base unit; OCPP 2.x says it in an object, with a power of ten beside it."""
    unit = sample.get("unitOfMeasure")
    if not isinstance(unit, dict):
        return scales.get(_word(sample, "unit"))
    scale, power = scales.get(_word(unit, "unit")), number(unit.get("multiplier", 0))
    if scale is None or power is None or not abs(power) <= 12:
        return None
    return float(scale * 10**power)


def _net(
    values: Values, plus: str, minus: str, phase: int | None, rounded: Callable[[float], int]
) -> int | None:
    taken, given = values.get((plus, phase)), values.get((minus, phase))
    if taken is None and given is None:
        return None
    return rounded((taken or 0.0) - abs(given or 0.0))


def _older(entry: Mapping[str, Any], not_before: datetime | None) -> bool:
    taken = parse_time(entry.get("timestamp"))
    return not_before is not None and taken is not None and is_plausible(taken) and taken < not_before


def is_plausible(moment: datetime) -> bool:
    """A station without a clock says 1970 or 2000; such a stamp says nothing."""
    return moment.year >= 2020


def _is_outlet(sample: Mapping[str, Any]) -> bool:
    return _word(sample, "location") in ("", "outlet", "cable", "ev")


def _is_ending(sample: Mapping[str, Any]) -> bool:
    return _word(sample, "context") == _ENDING


def _word(sample: Mapping[str, Any], key: str) -> str:
    value = sample.get(key)
    return value.strip().casefold() if isinstance(value, str) else ""


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            yield item
