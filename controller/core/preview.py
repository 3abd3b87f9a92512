"""What an order would bring, before it is given: amps here and for the others, energy missing when the vehicle leaves.

Owns the arithmetic and its words. Asks the real allocator with a twin of the one demand that the order would change and
everything else as it was in the last step (`core.why`), so it tells where things settle, not what happens on the way there.
Energy until departure: what the plan holds ready, else the current as it is now. Pure; changes nothing; promises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from controller.core import charge_told
from controller.core.allocator import Demand
from controller.core.demand import BY_OPERATOR
from controller.core.events import (
    DepartureSet,
    LimitWished,
    PauseWished,
    ResumeWished,
    StartWished,
    StopWished,
)
from controller.core.model import CircuitId, Departure, EvseId, Moment
from controller.core.proof import Proof
from controller.core.readiness import HELD
from controller.core.session import Session
from controller.core.state import State
from controller.core.units import power_for_current_w
from controller.core.watts import dc_limit_w
from controller.core.why import Outcome, outcome
from controller.core.wishes import refusal

Previewed = StartWished | StopWished | PauseWished | ResumeWished | LimitWished
MORE_MA = 100  # a smaller change is no news
LEAST_WH = 100  # less energy is no news either
TOLD = 3  # circuits in words
APPETITE = "takes "  # how a cap begins that is the vehicle's own doing (`core.tempo`)
_LIFTED = ("no session", "paused by operator")  # what a start or a resume ends


@dataclass(frozen=True, slots=True)
class Consequence:
    """refused: why the order would not be taken. now_ma, then_ma: granted before and after; None while out of reach. others:
    how much more (or less) the others on a circuit get on its most loaded phase. less_wh: what the order costs the vehicle
    until it departs; short_wh: what it then lacks of its need. None: nobody can know."""

    subject: str
    lines: tuple[str, ...]
    refused: str | None = None
    now_ma: int | None = None
    then_ma: int | None = None
    others: tuple[tuple[CircuitId, int], ...] = ()
    departs: datetime | None = None
    less_wh: int | None = None
    short_wh: int | None = None


def preview(state: State, proof: Proof, order: Previewed, now: Moment) -> Consequence:
    """`proof`: of the newest step."""
    evse, session = order.evse, state.sessions.running.get(order.evse)
    name = _name(evse, session)
    if (refused := _refused(state, order)) is not None:
        return Consequence(evse, (f"it would be refused: {refused}",), refused)
    demand = next((demand for demand in proof.demands if demand.evse == evse), None)
    if demand is None:
        return Consequence(evse, (f"{name} is out of reach: it holds as soon as the station is back",))
    twin = _twin(state, demand, order)
    before = outcome(proof, proof.rooms, proof.demands)
    after = outcome(proof, proof.rooms, [twin if each is demand else each for each in proof.demands])
    now_ma = before[evse][0] if session is not None else 0
    then_ma = after[evse][0] if session is not None or isinstance(order, StartWished) else 0
    others = _others(proof, evse, before, after)
    lines = [_own(state, name, order, now_ma, then_ma, after[evse][1], now)]
    departs, less_wh, short_wh = None, None, None
    if session is not None and (departure := _departure(state, session, now)) is not None:
        departs = departure.at
        less_wh, short_wh = _lost(state, session, departure, order, now_ma, then_ma, now)
        lines.append(_leaves(name, _clock(state, departure.at, now), less_wh, short_wh))
    elif session is not None:
        lines.append(f"nobody has said when {name} leaves")
    lines.append(_shared(others))
    return Consequence(evse, tuple(lines), None, now_ma, then_ma, others, departs, less_wh, short_wh)


def preview_departure(state: State, order: DepartureSet, now: Moment) -> Consequence:
    """Whether what is asked for fits until then."""
    asked, running = order.departure, state.sessions.running
    at = _clock(state, asked.at, now)
    session = next((s for s in running.values() if asked.target in (s.evse, s.vehicle)), None)
    if session is None:
        text = f"{asked.target} is not here: what fits until {at} shows when it comes"
        return Consequence(asked.target, (text,), departs=asked.at)
    missing_wh = charge_told.missing_wh(state, asked)
    hours = max(0.0, (asked.at - now.utc).total_seconds() / 3600)
    most_w = _power_w(state, session, _cap_ma(state, session.evse), now)
    if missing_wh is None:
        text = f"how much it needs is not known; {_kwh(most_w * hours)} fit at most until {at}"
        return Consequence(asked.target, (text,), departs=asked.at)
    if missing_wh <= 0:
        text = f"{asked.target} has that already"
        return Consequence(asked.target, (text,), departs=asked.at, short_wh=0)
    short_wh = max(0, missing_wh - int(most_w * hours))
    lines = [
        f"{asked.target} needs {_kwh(missing_wh)} until {at}: {_kw(missing_wh / max(hours, 1 / 60))} on average,"
        f" {_kw(most_w)} at most"
    ]
    if short_wh:
        lines.append(f"that does not fit: it leaves at {at} with {_kwh(short_wh)} less than asked")
    if state.desks[session.evse].paused:
        lines.append("it is paused by an operator: nothing is charged until it is resumed")
    lines.append("others may have to wait for it: `depot plan` shows whom, once it is set")
    return Consequence(asked.target, tuple(lines), departs=asked.at, short_wh=short_wh)


# --- amps -----------------------------------------------------------------------------------------------------------


def _refused(state: State, order: Previewed) -> str | None:
    begins = isinstance(order, StartWished | ResumeWished)
    if begins and state.campaigns.holds(state.site.evses[order.evse].station):
        return HELD
    return refusal(state, order)


def _twin(state: State, demand: Demand, order: Previewed) -> Demand:
    """The demand as it would be made with the order on the desk."""
    cap = (demand.cap_ma, demand.cap_why)
    beside = (
        () if cap in demand.caps else (cap,)
    )  # set after all others: surplus, turns, what the vehicle takes
    match order:
        case StopWished():
            return demand._replace(cap_ma=0, cap_why="no session", caps=((0, "no session"),), held=False)
        case PauseWished():
            why = "paused by operator"
            return demand._replace(cap_ma=0, cap_why=why, caps=((0, why),), held=False)
        case LimitWished():
            return _capped(demand, (*demand.caps, *beside), order.limit_ma, replaced=True)
        case StartWished() | ResumeWished():
            # by hand: neither plan nor surplus holds it back
            wish = None if state.plan is None else state.plan.wishes.get(order.evse)
            lifted = (*_LIFTED, "plan" if wish is None else wish.why or "plan")
            known = (*demand.caps, *(each for each in beside if each[1].startswith(APPETITE)))
            caps = tuple(each for each in known if each[1] not in lifted)
            limit_ma = order.limit_ma if isinstance(order, StartWished) else None
            return _capped(demand, caps, limit_ma, replaced=limit_ma is not None)


def _capped(
    demand: Demand, caps: Sequence[tuple[int, str]], limit_ma: int | None, *, replaced: bool
) -> Demand:
    kept = [cap for cap in caps if not replaced or cap[1] != BY_OPERATOR]
    if replaced and limit_ma is not None:
        kept.append((limit_ma, BY_OPERATOR))
    cap_ma, why = min(kept, key=lambda cap: cap[0])
    return demand._replace(cap_ma=cap_ma, cap_why=why, caps=tuple(kept))


def _others(proof: Proof, evse: EvseId, before: Outcome, after: Outcome) -> tuple[tuple[CircuitId, int], ...]:
    sums: dict[CircuitId, list[int]] = {}
    for other, (ma, _) in after.items():
        change_ma = ma - before[other][0]
        if other == evse or not change_ma or not proof.grants[other][2]:
            continue
        unit = proof.site.evses[other]
        for phase in unit.phases:
            sums.setdefault(unit.circuit, [0, 0, 0])[phase] += change_ma
    most = ((circuit, max(phases, key=abs)) for circuit, phases in sums.items())
    return tuple((circuit, ma) for circuit, ma in most if abs(ma) >= MORE_MA)


# --- energy ---------------------------------------------------------------------------------------------------------


def _departure(state: State, session: Session, now: Moment) -> Departure | None:
    told = state.agenda.told(state.departures, state.sessions.running, now.utc)
    keys = (session.vehicle or "", session.evse)
    ahead = (told[key].departure for key in keys if key in told)
    return next((each for each in ahead if each.at > now.utc), None)


def _lost(
    state: State,
    session: Session,
    departure: Departure,
    order: Previewed,
    now_ma: int,
    then_ma: int,
    now: Moment,
) -> tuple[int | None, int | None]:
    """What it gets less until it departs, and what it then lacks."""
    hours = (departure.at - now.utc).total_seconds() / 3600
    missing_wh = charge_told.missing_wh(state, departure)
    need_wh = float("inf") if missing_wh is None else max(0, missing_wh)
    planned_wh = _planned_wh(state, session.evse, departure.at, now)
    if planned_wh is None:
        planned_wh = _power_w(state, session, now_ma, now) * hours
    before_wh = min(need_wh, planned_wh)
    match order:
        case StopWished() | PauseWished():
            after_wh = 0.0
        case _:
            after_wh = min(need_wh, _power_w(state, session, then_ma, now) * hours)
    if isinstance(order, ResumeWished | StartWished) or (
        isinstance(order, LimitWished) and then_ma >= now_ma
    ):
        after_wh = max(before_wh, after_wh)
    short_wh = None if missing_wh is None else round(max(0.0, need_wh - after_wh))
    return round(max(0.0, before_wh - after_wh)), short_wh


def _planned_wh(state: State, evse: EvseId, until: datetime, now: Moment) -> float | None:
    plan = state.plan
    power_w = () if plan is None else plan.evses_w.get(evse, ())
    if plan is None or not power_w:
        return None
    total_wh = 0.0
    for (start, end), watts in zip(pairwise(plan.slots), power_w, strict=False):
        seconds = (min(end, until) - max(start, now.utc)).total_seconds()
        total_wh += max(0, watts) * max(0.0, seconds) / 3600
    return total_wh


def _power_w(state: State, session: Session, current_ma: int, now: Moment) -> int:
    """The most it takes with that current."""
    evse = state.site.evses[session.evse]
    phases = state.usage.phases(session.evse, now.mono_s) or evse.phases
    if evse.dc is None:
        power_w = power_for_current_w(current_ma, state.site.voltage_mv, len(phases))
    else:
        power_w = dc_limit_w(evse.dc, current_ma)
    vehicle = None if session.vehicle is None else state.site.vehicles[session.vehicle].max_power_w
    return power_w if vehicle is None else min(power_w, vehicle)


def _cap_ma(state: State, evse: EvseId) -> int:
    limit_ma, most_ma = state.desks[evse].limit_ma, state.site.evses[evse].max_ma
    return most_ma if limit_ma is None else min(limit_ma, most_ma)


# --- words ----------------------------------------------------------------------------------------------------------


def _name(evse: EvseId, session: Session | None) -> str:
    return evse if session is None or session.vehicle is None else session.vehicle


def _own(
    state: State, name: str, order: Previewed, now_ma: int, then_ma: int, bound_by: str, now: Moment
) -> str:
    session = state.sessions.running.get(order.evse)
    had = f"{_a(now_ma)} now"
    if session is not None and now_ma:
        had += f" ({_kw(_power_w(state, session, now_ma, now))})"
    match order:
        case StopWished() if session is None:
            return f"a start that waits at {name} is given up"
        case StopWished():
            return f"the session of {name} ends: {had}, then nothing"
        case PauseWished():
            return f"{name} pauses and keeps its session: {had}, then 0 A"
        case _ if session is None and isinstance(order, LimitWished):
            return f"{name} has no session: the limit waits for the next one"
        case _ if then_ma and then_ma == now_ma:
            return f"{name} keeps {_a(then_ma)}, bound by {bound_by}"
        case _ if then_ma:
            instead = f" instead of {_a(now_ma)}" if now_ma else ""
            return f"{name} gets {_a(then_ma)}{instead}, bound by {bound_by}"
        case _:
            return f"{name} gets nothing yet, {had}: {bound_by}"


def _leaves(name: str, at: str, less_wh: int | None, short_wh: int | None) -> str:
    at = f"{name} leaves at {at}"
    if less_wh is not None and less_wh >= LEAST_WH:
        lacks = "" if short_wh is None else f", {_kwh(short_wh)} short of its need"
        return f"{at} with {_kwh(less_wh)} less{lacks if (short_wh or 0) >= LEAST_WH else ''}"
    if short_wh is None:
        return f"{at}; how much it needs is not known"
    return f"{at} as planned" if short_wh < LEAST_WH else f"{at}, {_kwh(short_wh)} short with or without this"


def _shared(others: Sequence[tuple[CircuitId, int]]) -> str:
    """The largest changes first."""
    if not others:
        return "the others keep what they have"
    ranked = sorted(others, key=lambda other: -abs(other[1]))
    told = [f"{_a(abs(ma))} {'more' if ma > 0 else 'less'} on {circuit}" for circuit, ma in ranked[:TOLD]]
    rest = "; smaller changes elsewhere" if len(ranked) > TOLD else ""
    return f"others get {', '.join(told)}{rest}"


def _clock(state: State, at: datetime, now: Moment) -> str:
    zone = ZoneInfo(state.site.timezone)
    there = at.astimezone(zone)
    same = (at - now.utc).total_seconds() < 86_400
    return f"{there:%H:%M}" if same else f"{there:%a %d %b %H:%M}"


def _a(milli: int) -> str:
    return f"{milli / 1000:.1f}".removesuffix(".0") + " A"


def _kw(watts: float) -> str:
    return f"{watts / 1000:.1f} kW"


def _kwh(energy_wh: float) -> str:
    return f"{energy_wh / 1000:.1f}".removesuffix(".0") + " kWh"
