"""The verbs of an EVSE: whether they make sense now, how their arguments are written, which call of the console they are.

Pure. The controller decides; a refusal here only spares a person a question whose answer is known. What a verb will do
is told by `ui.consequences`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from controller.core.model import EvseState, number_of
from controller.core.snapshot import EvseView
from controller.core.units import parse_current_ma, parse_duration_s, parse_energy_wh, parse_power_w
from ui.picture import Picture

Args = dict[str, object]
Refusing = Callable[[EvseView], str | None]


class Verb(StrEnum):
    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    LIMIT = "limit"
    DEPART = "depart"
    UNLOCK = "unlock"
    TRIGGER = "trigger"
    RESET = "reset"
    OUT = "unavailable"
    IN = "available"
    SOC = "soc"
    DISCHARGE = "discharge"
    FIRMWARE = "firmware"


# The others are typed behind `:` only: rare, or with much to say.
KEYS = {
    "s": Verb.START, "x": Verb.STOP, "p": Verb.PAUSE, "r": Verb.RESUME, "l": Verb.LIMIT,
    "d": Verb.DEPART, "u": Verb.UNLOCK, "t": Verb.TRIGGER, "b": Verb.RESET, "o": Verb.OUT, "i": Verb.IN,
}  # fmt: skip
SHORT = {Verb.OUT: "out", Verb.IN: "in service"}  # where eighty columns must hold them all

QUESTIONS = {
    Verb.LIMIT: 'limit ("10", "12.5 A", "none" removes it): Enter = next, Esc = cancel',
    Verb.START: 'start (nothing, or "16 A, 20 kWh, 80 %, 1 h, token ID"): Enter, Esc = cancel',
    Verb.DEPART: 'departs when, with how much ("05:30 80 %", "05:30 40 kWh"): Enter, Esc = cancel',
    Verb.TRIGGER: "have it send (status, values, boot, heartbeat, firmware): Enter, Esc = cancel",
    Verb.RESET: "restart it how (soft, hard, idle = once nothing charges): Enter, Esc = cancel",
    Verb.SOC: 'state of charge as its driver says ("40 %"): Enter, Esc = cancel',
    Verb.DISCHARGE: 'discharge ("5 kW, 30 %, 1 h": power, down to, how long): Enter, Esc = cancel',
    Verb.FIRMWARE: "to which version, from where (1.8.34 https://host/image.bin): Enter, Esc = cancel",
}
SUGGESTED = {Verb.TRIGGER: "status", Verb.RESET: "soft"}  # stands in the line already

# What the depot itself can foresee; the others are told from here.
PREVIEWED = frozenset({Verb.START, Verb.STOP, Verb.PAUSE, Verb.RESUME, Verb.LIMIT, Verb.DEPART})
# Handed to the station by its protocol, which answers; no order of the depot's.
ERRANDS = frozenset({Verb.UNLOCK, Verb.TRIGGER, Verb.RESET, Verb.OUT, Verb.IN})

LEAVES_SOON = timedelta(hours=1)
TRIGGERS = (
    "status",
    "values",
    "boot",
    "heartbeat",
    "firmware",
    "logs",
    "certificate",
    "diagnostics",
    "transaction",
)
_RESETS: Mapping[str, Args] = {"soft": {}, "hard": {"hard": True}, "idle": {"when_idle": True}}
_OF_EVSE = ("status", "values", "transaction")  # a boot or a heartbeat is the whole station's

_RUNNING = {EvseState.CHARGING, EvseState.DISCHARGING, EvseState.SUSPENDED_EV, EvseState.SUSPENDED_EVSE}


@dataclass(frozen=True, slots=True)
class Order:
    """What a person is about to confirm."""

    verb: Verb
    args: Args = field(default_factory=dict)


# --- whether it makes sense -------------------------------------------------------------------------------------------


def refusal(verb: Verb, evse: EvseView) -> str | None:
    """Why the verb makes no sense for this EVSE now, in one line; None when it does."""
    asks = _REFUSING.get(verb)
    return None if asks is None else asks(evse)


def _start(evse: EvseView) -> str | None:
    if not evse.connected:
        return "the station is not connected"
    if evse.state in (EvseState.FAULTED, EvseState.UNAVAILABLE):
        return f"the EVSE is {evse.state}"
    return "a session is already running" if evse.state in _RUNNING else None


def _stop(evse: EvseView) -> str | None:
    if not evse.connected:
        return "the station is not connected"
    return None if evse.session is not None or evse.state in _RUNNING else "no session to stop"


def _pause(evse: EvseView) -> str | None:
    if evse.session is None:
        return "no session to pause"
    return "already paused" if evse.paused else None


def _resume(evse: EvseView) -> str | None:
    return None if evse.paused else "not paused"


def _errand(evse: EvseView) -> str | None:
    if not any(channel.startswith("ocpp") for channel in evse.channels):
        return f"only an OCPP station can be asked; this one is on {', '.join(evse.channels) or 'no channel'}"
    return None if evse.connected else "the station is not connected"


def _in(evse: EvseView) -> str | None:
    return _errand(evse) or (None if evse.state is EvseState.UNAVAILABLE else "it is not out of service")


def _session(evse: EvseView) -> str | None:
    return "no session there" if evse.session is None else None


_REFUSING: Mapping[Verb, Refusing] = {
    Verb.START: _start, Verb.STOP: _stop, Verb.PAUSE: _pause, Verb.RESUME: _resume,
    Verb.UNLOCK: _errand, Verb.TRIGGER: _errand, Verb.RESET: _errand, Verb.OUT: _errand, Verb.IN: _in,
    Verb.SOC: _session, Verb.DISCHARGE: _session,
}  # fmt: skip


def word(order: Order, evse: EvseView, picture: Picture) -> str | None:
    """What must be typed for it instead of `y`, because it cannot be taken back: the name of what it is done to. None
    for everything else."""
    if order.verb is Verb.FIRMWARE or (order.verb is Verb.RESET and order.args.get("hard")):
        return evse.station
    if order.verb is Verb.RESET and not order.args.get("when_idle"):
        evses = picture.snapshot.evses if picture.snapshot else ()
        hit = [each for each in evses if each.station == evse.station and leaves_soon(each, picture)]
        return evse.station if hit else None
    return evse.id if order.verb in (Verb.STOP, Verb.UNLOCK) and leaves_soon(evse, picture) else None


def leaves_soon(evse: EvseView, picture: Picture) -> bool:
    departs = None if evse.session is None else evse.session.departs
    if departs is None or picture.snapshot is None:
        return False
    return departs - picture.snapshot.time < LEAVES_SOON


def manner(order: Order) -> str:
    """How, in a word, for the list of what was asked."""
    if order.verb is Verb.RESET:
        return "hard" if order.args.get("hard") else "when idle" if order.args.get("when_idle") else "soft"
    return str(order.args.get("message") or "")


# --- which call it is ---------------------------------------------------------------------------------------------------


def call_of(order: Order, evse: EvseView) -> tuple[str, Args]:
    """The console's call, with its arguments."""
    number = number_of(evse.id)
    match order.verb:
        case Verb.DEPART | Verb.SOC:
            vehicle = None if evse.session is None else evse.session.vehicle
            return str(order.verb), {"target": vehicle or evse.id, **order.args}
        case Verb.UNLOCK:
            return _asked(evse, "unlock", {"evse": number})
        case Verb.OUT:
            return _asked(evse, "available", {"evse": number, "off": True})
        case Verb.IN:
            return _asked(evse, "available", {"evse": number})
        case Verb.RESET:
            return _asked(evse, "reset", order.args)
        case Verb.TRIGGER:
            where = {"evse": number} if order.args.get("message") in _OF_EVSE else {}
            return _asked(evse, "trigger", {**order.args, **where})
        case Verb.FIRMWARE:
            return "firmware-upgrade", {"stations": [evse.station], **order.args}
        case _:
            return str(order.verb), {"evse": evse.id, **order.args}


def _asked(evse: EvseView, question: str, args: Args) -> tuple[str, Args]:
    return "station-ask", {"station": evse.station, "question": question, "args": args}


# --- what is typed behind it -----------------------------------------------------------------------------------------------


def parse(verb: Verb, text: str, picture: Picture) -> Args:
    """The arguments of a verb as typed. Raises ValueError with what is wrong, in one line."""
    match verb:
        case Verb.LIMIT:
            return _limit_args(text)
        case Verb.DEPART:
            return _depart_args(text, picture)
        case Verb.TRIGGER:
            return {"message": _one_of(text, TRIGGERS)}
        case Verb.RESET:
            return dict(_RESETS[_one_of(text, tuple(_RESETS))])
        case Verb.SOC:
            return {"soc": _percent(text.strip())}
        case Verb.DISCHARGE:
            return _discharge_args(text)
        case Verb.FIRMWARE:
            version, _, url = text.strip().partition(" ")
            if not version:
                raise ValueError("firmware needs a version, like 1.8.34")
            return {"version": version, "url": url.strip() or None}
        case _:
            return _start_args(text)


def _one_of(text: str, known: tuple[str, ...]) -> str:
    wanted = text.strip().casefold()
    if wanted not in known:
        raise ValueError(f'"{text.strip()}" is none of {", ".join(known)}')
    return wanted


def _limit_args(text: str) -> Args:
    text = text.strip()
    if text.lower() == "none":
        return {"limit_ma": None}
    return {"limit_ma": _not_negative(parse_current_ma(f"{text} A" if _is_number(text) else text), text)}


def _depart_args(text: str, picture: Picture) -> Args:
    """`05:30 80 %`: the next half past five in the site's time."""
    at, _, rest = text.strip().partition(" ")
    hour, colon, minute = at.partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and picture.snapshot):
        raise ValueError(f'"{at}" is not a time; write it like "05:30 80 %"')
    here = picture.snapshot.time.astimezone(picture.place)
    try:
        leaves = here.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    except ValueError:
        raise ValueError(f'"{at}" is not a time; write it like "05:30 80 %"') from None
    if leaves <= here:
        leaves += timedelta(days=1)
    rest = rest.strip(" ,")
    need: Args = {"soc": _percent(rest)} if rest.endswith("%") else {"energy_wh": parse_energy_wh(rest)}
    return {"at": leaves.isoformat(), **need}


def _discharge_args(text: str) -> Args:
    args: Args = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part.endswith("%"):
            args["min_soc"] = _percent(part)
        elif part.lower().endswith("w"):
            args["power_w"] = parse_power_w(part)
        else:
            args["duration_s"] = round(parse_duration_s(part))
    if not args.get("power_w"):
        raise ValueError('discharge needs a power, like "5 kW"')
    return args


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
        return "soc", _percent(part)
    readers: tuple[tuple[str, Callable[[str], int | float]], ...] = (
        ("limit_ma", parse_current_ma),
        ("energy_wh", parse_energy_wh),
        ("duration_s", lambda text: round(parse_duration_s(text))),
    )
    for name, read in readers:
        try:
            value = read(part)
        except ValueError:
            continue
        return name, _not_negative(value, part)
    raise ValueError(f'"{part}" is none of "16 A", "20 kWh", "80 %", "1 h", "token ID"')


def _percent(text: str) -> int:
    percent = text.removesuffix("%").strip()
    if not (percent.isascii() and percent.isdecimal()) or not 0 < int(percent) <= 100:
        raise ValueError(f'"{text}" is not a state of charge; write it like "80 %"')
    return int(percent)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _not_negative(value: int | float, text: str) -> int | float:
    if value < 0:
        raise ValueError(f'"{text}" is below zero')
    return value
