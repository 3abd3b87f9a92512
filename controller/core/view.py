"""The picture of one step: what belief, books and decisions look like to people (`Snapshot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from controller.core.background import Assumed, Sight
from controller.core.belief import UNKNOWN, Belief
from controller.core.commitments import Account, Commitments
from controller.core.demand import NO_WISH, Desk
from controller.core.grid import Grid
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Departure,
    Evse,
    EvseId,
    EvseState,
    Moment,
    PerPhase,
    Plan,
    Quality,
    Site,
)
from controller.core.orders import IDLE_MA, Orders
from controller.core.sessions import Session
from controller.core.snapshot import (
    ChannelView,
    CircuitView,
    EvseView,
    MeterView,
    SessionView,
    Snapshot,
)
from controller.core.supervisor import Alarms


class Decided(Protocol):
    """What the brain remembers of its last decision for one EVSE."""

    grant_ma: int
    bound_by: str


def mask(token: str | None) -> str | None:
    """Id tokens are shown by their last four characters only."""
    return None if token is None else f"…{token[-4:]}"


def picture(
    site: Site,
    grid: Grid,
    belief: Belief,
    commitments: Commitments,
    sessions: Mapping[EvseId, Session],
    desks: Mapping[EvseId, Desk],
    decided: Mapping[EvseId, Decided],
    plan: Plan | None,
    departures: Mapping[str, Departure],
    assumed: Mapping[CircuitId, Assumed],
    sights: Mapping[CircuitId, Sight],
    committed_ma: Sequence[int],
    alarms: Alarms,
    orders: Orders,
    now: Moment,
) -> Snapshot:
    state, text = _site_state(sights, belief, now)
    wishes = plan.wishes if plan is not None else {}
    evses = []
    for evse in site.evses.values():
        session = sessions.get(evse.id)
        shown = None
        if session is not None:
            vehicle = site.vehicle_of(session.token)
            departure = departures.get(vehicle or "") or departures.get(evse.id)
            wish = wishes.get(evse.id, NO_WISH)
            shown = SessionView(
                session.id,
                mask(session.token),
                vehicle,
                session.started,
                session.energy_wh,
                session.soc,
                None if departure is None or departure.at < now.utc else departure.at,
                wish.short_wh,
            )
        account = commitments.accounts[evse.id]
        evses.append(_evse(evse, belief, account, shown, desks[evse.id], decided[evse.id], now.mono_s))
    return Snapshot(
        time=now.utc,
        site=site.name,
        state=state,
        text=text,
        timezone=site.timezone,
        circuits=tuple(
            _circuit(site, grid, belief, circuit, assumed, committed_ma, now.mono_s)
            for circuit in site.circuits.values()
        ),
        evses=tuple(evses),
        meters=_meters(site, belief, now.mono_s),
        channels=tuple(
            ChannelView(c.channel, c.state, c.text, c.host, c.region, c.enabled_by)
            for c in belief.channels.values()
        ),
        alarms=alarms.views(),
        orders=orders.views(),
    )


def _site_state(sights: Mapping[CircuitId, Sight], belief: Belief, now: Moment) -> tuple[str, str]:
    root = sights.get(SITE, Sight.CLEAR)
    if root is Sight.BLIND:
        seen = any(meter.reading is not None for meter in belief.meters.values())
        if seen:
            return "failsafe", "meter blind: every EVSE at its fallback until ten good readings"
        return "starting", "no meter reading yet: every EVSE at its fallback"
    worst = max(sights.values(), default=Sight.CLEAR)
    if worst is not Sight.CLEAR:
        return "degraded", "a meter is late: no raises until it is back"
    return "auto", "" if now.utc_trusted else "clock not trusted: schedules rest"


def _circuit(
    site: Site,
    grid: Grid,
    belief: Belief,
    circuit: Circuit,
    assumed: Mapping[CircuitId, Assumed],
    committed_ma: Sequence[int],
    now_s: float,
) -> CircuitView:
    measured, background, age, quality = UNKNOWN, UNKNOWN, None, None
    load = assumed.get(circuit.id)
    if circuit.meter is not None:
        meter = belief.meters[circuit.meter]
        age, quality = meter.age_s(now_s), belief.quality(circuit.meter, now_s)
        if meter.reading is not None and quality is Quality.GOOD:
            measured = meter.reading.current_ma
    if load is not None and load.sight is not Sight.CLEAR:
        background = PerPhase(*load.lower_ma)
        quality = Quality.SUBSTITUTED if quality is Quality.STALE else quality
    elif load is not None:
        background = belief.backgrounds[circuit.id].estimate_ma()
    elif circuit.assumed_load_ma is not None:
        background = PerPhase(*circuit.assumed_load_ma)
    return CircuitView(
        id=circuit.id,
        parent=circuit.parent,
        limit_ma=circuit.limit_ma,
        measured_ma=measured,
        background_ma=background,
        committed_ma=grid.per_phase(list(committed_ma), circuit.id),
        meter=circuit.meter,
        meter_age_s=age,
        quality=quality,
    )


def _evse(
    evse: Evse,
    belief: Belief,
    account: Account,
    session: SessionView | None,
    desk: Desk,
    decided: Decided,
    now_s: float,
) -> EvseView:
    known = belief.evses[evse.id]
    station = belief.stations[evse.station]
    sample = known.fresh(now_s)
    state = belief.state(evse.id)
    if state is EvseState.SUSPENDED_EVSE and (known.highest_ma(now_s) or 0) > IDLE_MA:
        state = EvseState.CHARGING  # current is stronger evidence than a late status
    return EvseView(
        id=evse.id,
        station=evse.station,
        circuit=evse.circuit,
        connected=bool(station.channels),
        channels=tuple(station.channels) or (evse.link.channel,),
        state=state,
        limit_ma=evse.max_ma,
        grant_ma=decided.grant_ma if session is not None else None,
        commanded_ma=account.sent[-1].limit_ma if account.sent else account.accepted_now_ma(now_s),
        accepted_ma=account.accepted_now_ma(now_s),
        measured_ma=known.current_ma if sample is not None else UNKNOWN,
        power_w=None if sample is None else sample.power_w,
        commitment_ma=account.commitment_ma(now_s),
        bound_by=decided.bound_by,
        paused=desk.paused,
        operator_limit_ma=desk.limit_ma,
        fallback_ma=evse.fallback_ma,
        fallback_stored=account.fallback_ma is not None,
        lease_left_s=account.lease_left_s(now_s),
        session=session,
        fault=known.fault,
        identity=station.identity,
    )


def _meters(site: Site, belief: Belief, now_s: float) -> tuple[MeterView, ...]:
    views = []
    for meter in site.meters.values():
        known = belief.meters[meter.id]
        reading, quality = known.reading, belief.quality(meter.id, now_s)
        good = reading if quality is Quality.GOOD else None
        views.append(
            MeterView(
                id=meter.id,
                kind=meter.kind,
                age_s=known.age_s(now_s),
                quality=quality,
                power_w=None if good is None else good.power_w,
                current_ma=UNKNOWN if good is None else good.current_ma,
                import_wh=None if reading is None else reading.import_wh,
                error=known.error,
            )
        )
    return tuple(views)
