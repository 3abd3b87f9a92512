"""The five verbs of an EVSE: whether they make sense now, how their arguments are written, what they will do.

Pure. The controller decides; a refusal here only spares a person a question whose answer is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.core.model import EvseState
from controller.core.snapshot import EvseView
from controller.core.units import parse_current_ma, parse_duration_s, parse_energy_wh
from ui import format as fmt
from ui.picture import Picture, vehicle_name

Args = dict[str, object]


class Verb(StrEnum):
    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    LIMIT = "limit"


KEYS = {"s": Verb.START, "x": Verb.STOP, "p": Verb.PAUSE, "r": Verb.RESUME, "l": Verb.LIMIT}

QUESTIONS = {
    Verb.LIMIT: 'limit ("10", "12.5 A", "none" removes it): Enter = next, Esc = cancel',
    Verb.START: 'start (nothing, or "16 A, 20 kWh, 80 %, 1 h, token ID"): Enter, Esc = cancel',
}

_RUNNING = {EvseState.CHARGING, EvseState.DISCHARGING, EvseState.SUSPENDED_EV, EvseState.SUSPENDED_EVSE}


@dataclass(frozen=True, slots=True)
class Order:
    """What a person is about to confirm."""

    verb: Verb
    args: Args = field(default_factory=dict)


def refusal(verb: Verb, evse: EvseView) -> str | None:
    """Why the verb makes no sense for this EVSE now, in one line; None when it does."""
    match verb:
        case Verb.START:
            if not evse.connected:
                return "the station is not connected"
            if evse.state in (EvseState.FAULTED, EvseState.UNAVAILABLE):
                return f"the EVSE is {evse.state}"
            return "a session is already running" if evse.state in _RUNNING else None
        case Verb.STOP:
            if not evse.connected:
                return "the station is not connected"
            return None if evse.session is not None or evse.state in _RUNNING else "no session to stop"
        case Verb.PAUSE:
            if evse.session is None:
                return "no session to pause"
            return "already paused" if evse.paused else None
        case Verb.RESUME:
            return None if evse.paused else "not paused"
        case Verb.LIMIT:
            return None


def parse(verb: Verb, text: str) -> Args:
    """The arguments of `limit` and `start` as typed. Raises ValueError with what is wrong, in one line."""
    return _limit_args(text) if verb is Verb.LIMIT else _start_args(text)


def _limit_args(text: str) -> Args:
    text = text.strip()
    if text.lower() == "none":
        return {"limit_ma": None}
    return {"limit_ma": _not_negative(parse_current_ma(f"{text} A" if _is_number(text) else text), text)}


def _start_args(text: str) -> Args:
    args: Args = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, value = _start_arg(part)
        if name in args:
            raise ValueError(f'"{part}": {name.partition("_")[0]} is given twice')
        args[name] = value
    return args


def _start_arg(part: str) -> tuple[str, object]:
    if part.lower().startswith("token "):
        return "token", part[6:].strip()
    if part.endswith("%"):
        percent = part[:-1].strip()
        if not percent.isdecimal() or not 0 < int(percent) <= 100:
            raise ValueError(f'"{part}" is not a state of charge; write it like "80 %"')
        return "soc", int(percent)
    readers: tuple[tuple[str, Callable[[str], int | float]], ...] = (
        ("limit_ma", parse_current_ma),
        ("energy_wh", parse_energy_wh),
        ("duration_s", parse_duration_s),
    )
    for name, read in readers:
        try:
            value = read(part)
        except ValueError:
            continue
        return name, _not_negative(value, part)
    raise ValueError(f'"{part}" is none of "16 A", "20 kWh", "80 %", "1 h", "token ID"')


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _not_negative(value: int | float, text: str) -> int | float:
    if value < 0:
        raise ValueError(f'"{text}" is below zero')
    return value


def preview(order: Order, evse: EvseView, picture: Picture, plan: Mapping[str, Any] | None = None) -> str:
    """What will happen, in words and with the values it starts from; with the plan at hand, also what the vehicle
    loses by it."""
    who = vehicle_name(evse) if evse.session else "the vehicle"
    granted, measured = fmt.limit_amps(evse.grant_ma), _measured(evse)
    text = _consequence(order, evse, picture, who, granted, measured)
    if not evse.connected:
        text += f" The station is not connected: it follows when it is back; {_reserve(evse)} stay reserved."
    return text + (_loses(evse, plan, picture) if order.verb in (Verb.STOP, Verb.PAUSE) else "")


def _loses(evse: EvseView, plan: Mapping[str, Any] | None, picture: Picture) -> str:
    """` BUS-07 then leaves 05:10 with 12.0 kWh less than planned.`, where a plan says so."""
    session = evse.session
    if session is None or session.departs is None or picture.snapshot is None:
        return ""
    at = fmt.short_time(session.departs, picture.snapshot.time, picture.place)
    found = [each for each in (plan or {}).get("evses") or () if each.get("evse") == evse.id]
    planned = found[0].get("planned_wh") if found else None
    if isinstance(planned, int) and planned >= 100:
        return f" Without it {vehicle_name(evse)} leaves {at} with {fmt.kilo(planned)} kWh less than planned."
    short = session.short_wh
    return f" {vehicle_name(evse)} lacks {fmt.kilo(short)} kWh for {at} already." if short else ""


def _consequence(
    order: Order, evse: EvseView, picture: Picture, who: str, granted: str, measured: str
) -> str:
    match order.verb:
        case Verb.START:
            return f"START {evse.id}: {_bounds(order.args)}; the current follows the grant, at most {_most(order, evse)} A."
        case Verb.STOP:
            return f"STOP {evse.id}: the session of {who} ends{_so_far(evse, picture)}. It does not start again by itself."
        case Verb.PAUSE:
            return f"PAUSE {evse.id}: grant {granted} A becomes 0 A (measured {measured} A); {who} waits{_so_far(evse, picture)}."
        case Verb.RESUME:
            return f"RESUME {evse.id}: {who} may draw again, up to {_most(order, evse)} A as circuits allow."
        case Verb.LIMIT:
            return _limit_consequence(order.args.get("limit_ma"), evse, granted, measured)


def _limit_consequence(wanted: object, evse: EvseView, granted: str, measured: str) -> str:
    now = f"grant now {granted} A, measured {measured} A"
    if not isinstance(wanted, int):
        before = fmt.limit_amps(evse.operator_limit_ma) if evse.operator_limit_ma is not None else "no"
        return f"LIMIT {evse.id}: the operator limit ({before} A) is removed; circuits and station still bind; {now}."
    text = f"LIMIT {evse.id}: at most {fmt.limit_amps(wanted)} A until the limit is removed; {now}."
    if wanted == 0:
        return text + " 0 A stops the charging."
    return text + (" Above what the EVSE may draw anyway: no effect." if wanted >= evse.limit_ma else "")


def _bounds(args: Args) -> str:
    words = []
    if isinstance(energy := args.get("energy_wh"), int):
        words.append(f"{fmt.kilo(energy)} kWh")
    if isinstance(soc := args.get("soc"), int):
        words.append(f"{soc} %")
    if isinstance(seconds := args.get("duration_s"), float):
        words.append(fmt.age(seconds))
    token = f" with token {args['token']}" if "token" in args else ""
    return f"a session begins{token}, until {' or '.join(words) if words else 'it is stopped'}"


def _most(order: Order, evse: EvseView) -> str:
    asked = order.args.get("limit_ma")
    limits = [evse.limit_ma, evse.operator_limit_ma, asked if isinstance(asked, int) else None]
    return fmt.limit_amps(min(limit for limit in limits if limit is not None))


def _measured(evse: EvseView) -> str:
    known = [value for value in evse.measured_ma if value is not None]
    return fmt.load_amps(max(known) if known else None)


def _reserve(evse: EvseView) -> str:
    return f"{fmt.commitment_amps(evse.commitment_ma)} A"


def _so_far(evse: EvseView, picture: Picture) -> str:
    session = evse.session
    if session is None:
        return ""
    text = f" after {fmt.kilo(session.energy_wh)} kWh"
    if session.soc is not None:
        text += f" at {session.soc} %"
    if session.departs is not None and picture.snapshot is not None:
        text += f", departs {fmt.short_time(session.departs, picture.snapshot.time, picture.place)}"
    return text
