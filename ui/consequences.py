"""What a verb will do, in words and with the values it starts from, for the person who is asked to confirm it. Pure.

The depot's own preview (`controller.core.preview`) knows more about amps and hours; this is what a dashboard can say at
once, and all that is said of what the depot does not foresee: what becomes of a station that restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.core.snapshot import EvseView
from ui import format as fmt
from ui.picture import Picture, vehicle_name
from ui.verbs import Args, Order, Verb, leaves_soon


def preview(order: Order, evse: EvseView, picture: Picture, plan: Mapping[str, Any] | None = None) -> str:
    """What will happen, in words and with the values it starts from; with the plan at hand, also what the vehicle
    loses by it."""
    who = vehicle_name(evse) if evse.session else "the vehicle"
    granted, measured = fmt.limit_amps(evse.grant_ma), _measured(evse)
    text = _consequence(order, evse, picture, who, granted, measured)
    if not evse.connected:
        text += f" The station is not connected: it follows when it is back; {_reserve(evse)} stay reserved."
    if order.verb in (Verb.STOP, Verb.UNLOCK, Verb.RESET) and leaves_soon(evse, picture):
        text += f" {who} leaves within the hour and will not get what is missing."
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
        case Verb.DEPART:
            return _depart_consequence(order.args, evse, picture, who)
        case Verb.SOC:
            return f"SOC {evse.id}: {who} counts as {order.args.get('soc')} % full from now on; plans are made anew."
        case Verb.DISCHARGE:
            return f"DISCHARGE {evse.id}: {who} feeds back {_fed_back(order.args)}; its session goes on after that."
        case Verb.FIRMWARE:
            source = f" from {order.args['url']}" if order.args.get("url") else ""
            return (
                f"FIRMWARE {evse.station}: upgrade to {order.args.get('version')}{source} as soon as nobody charges"
                " there; it restarts, and a failed upgrade needs somebody on site."
            )
        case _:
            return _asked_of_the_station(order, evse, picture, who)


def _asked_of_the_station(order: Order, evse: EvseView, picture: Picture, who: str) -> str:
    ends = f"the session of {who} ends{_so_far(evse, picture)}" if evse.session else "no session runs here"
    away = f"it is away for some minutes and {_reserve(evse)} stay reserved"
    match order.verb:
        case Verb.UNLOCK:
            return f"UNLOCK {evse.id}: the cable is released; {ends}."
        case Verb.OUT:
            after = "once the session is over" if evse.session else "at once"
            return f"OUT OF SERVICE {evse.id}: nobody can charge here until it is put back, {after}; kept over restarts."
        case Verb.IN:
            return f"IN SERVICE {evse.id}: it may be used again."
        case Verb.TRIGGER:
            return (
                f"TRIGGER {evse.id}: the station sends {order.args.get('message')} now; nothing else changes."
            )
        case _:
            others = _others(evse, picture)
            if order.args.get("when_idle"):
                return f"RESET {evse.station}: it restarts once nothing charges there (OCPP 2.x); {away}."
            how = "HARD RESET" if order.args.get("hard") else "RESET"
            tidy = (
                "at once, without ending anything in order" if order.args.get("hard") else "after tidying up"
            )
            return f"{how} {evse.station}: it restarts {tidy}; {ends}{others}; {away}."


def _others(evse: EvseView, picture: Picture) -> str:
    """Who else charges at the same station."""
    evses = picture.snapshot.evses if picture.snapshot else ()
    found = [each for each in evses if each.station == evse.station and each.id != evse.id and each.session]
    return f", and of {', '.join(f'{vehicle_name(each)} at {each.id}' for each in found)}" if found else ""


def _depart_consequence(args: Args, evse: EvseView, picture: Picture, who: str) -> str:
    at, now = datetime.fromisoformat(str(args["at"])), picture.snapshot.time if picture.snapshot else None
    when = fmt.clock(at, picture.place)[:5] if now is None else fmt.short_time(at, now, picture.place)
    soc, energy_wh = args.get("soc"), args.get("energy_wh")
    need = (
        f"{soc} %" if soc is not None else f"{fmt.kilo(energy_wh)} kWh" if isinstance(energy_wh, int) else "?"
    )
    before = _leaves(evse, picture)
    instead = f", {before} until now" if before else ""
    return f"DEPART {evse.id}: {who} leaves {when} with {need}{instead}; plans are made anew, others may wait for it."


def _leaves(evse: EvseView, picture: Picture) -> str:
    if evse.session is None or evse.session.departs is None or picture.snapshot is None:
        return ""
    return fmt.short_time(evse.session.departs, picture.snapshot.time, picture.place)


def _fed_back(args: Args) -> str:
    power_w, min_soc, seconds = args.get("power_w"), args.get("min_soc"), args.get("duration_s")
    words = [f"{fmt.kilo(power_w)} kW" if isinstance(power_w, int) else "?"]
    words += [f"down to {min_soc} %"] if min_soc is not None else []
    words += [f"for {fmt.age(float(seconds))}"] if isinstance(seconds, int) else ["until it is ended"]
    return " ".join(words)


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
    if isinstance(seconds := args.get("duration_s"), int):
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
