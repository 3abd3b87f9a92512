"""The picture of one step: what belief, books and decisions look like to people (`Snapshot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controller.core.agenda import Told
from controller.core.background import GOOD_AGAIN, Assumed, Sight
from controller.core.belief import UNKNOWN, Belief
from controller.core.demand import NO_WISH
from controller.core.grid import Grid
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Moment,
    PerPhase,
    Quality,
    Site,
    VehicleId,
)
from controller.core.orders import IDLE_MA
from controller.core.recognition import suggestion
from controller.core.snapshot import (
    ChannelView,
    CircuitView,
    EvseView,
    MeterView,
    SessionView,
    Snapshot,
)
from controller.core.state import State
from controller.core.storing import measured


def mask(token: str | None) -> str | None:
    """Id tokens are shown by their last four characters only, and short ones not at all."""
    if token is None:
        return None
    return f"…{token[-4:]}" if len(token) > 4 else "…"


def picture(
    state: State,
    assumed: Mapping[CircuitId, Assumed],
    sights: Mapping[CircuitId, Sight],
    committed_ma: Sequence[int],
    now: Moment,
) -> Snapshot:
    """The snapshot of this step. committed_ma: per resource of the grid."""
    site, belief = state.site, state.belief
    word, text = _site_state(sights, belief, now)
    calling, quiet = state.alarms.views()
    return Snapshot(
        time=now.utc,
        site=site.name,
        state=word,
        text=text,
        timezone=site.timezone,
        circuits=tuple(
            _circuit(state.grid, belief, circuit, assumed, committed_ma, now.mono_s)
            for circuit in site.circuits.values()
        ),
        evses=tuple(_evse(state, evse, now) for evse in site.evses.values()),
        meters=_meters(site, belief, now.mono_s),
        channels=tuple(
            ChannelView(c.channel, c.state, c.text, c.host, c.region, c.enabled_by)
            for c in belief.channels.values()
        ),
        alarms=calling,
        orders=state.orders.views(),
        peak=None if state.peak is None else state.peak.view(now),
        grid_limits=state.inputs.views(now),
        batteries=state.batteries.views(lambda unit: measured(state, unit, now)),
        planner="" if state.plan is None else state.plan.by,
        planner_text="" if state.plan is None else state.plan.why,
        alarms_quiet=quiet,
    )


def _site_state(sights: Mapping[CircuitId, Sight], belief: Belief, now: Moment) -> tuple[str, str]:
    root = sights.get(SITE, Sight.CLEAR)
    if root is Sight.BLIND:
        track = belief.backgrounds[SITE]
        state = "failsafe" if track.was_clear else "starting"
        return state, f"site meter: {track.good} of {GOOD_AGAIN} good readings, every EVSE at its fallback"
    worst = max(sights.values(), default=Sight.CLEAR)
    if worst is not Sight.CLEAR:
        return "degraded", "a meter is late: no raises until it is back"
    return "auto", "" if now.utc_trusted else f"{belief.clock.doubt or 'clock not trusted'}: schedules rest"


def _circuit(
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
        quality = quality if quality is Quality.GOOD or age is None else Quality.SUBSTITUTED
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
        trip_margin_pct=_margin_pct(belief, circuit.id),
    )


def _margin_pct(belief: Belief, circuit: CircuitId) -> int | None:
    bimetal = belief.bimetals.get(circuit)
    margins = None if bimetal is None else bimetal.margins_pct()
    return None if margins is None else min(margins)


def _session(state: State, evse: Evse, now: Moment) -> SessionView | None:
    session = state.sessions.running.get(evse.id)
    if session is None:
        return None
    vehicle = session.vehicle
    told = _told(state, vehicle, evse.id, now) if state.agenda.shown else None
    wish = state.plan.wishes.get(evse.id, NO_WISH) if state.plan is not None else NO_WISH
    return SessionView(
        id=session.id,
        token=mask(session.token),
        vehicle=vehicle,
        started=session.started,
        energy_wh=session.energy_wh,
        soc=session.soc,
        departs=None if told is None else told.departure.at,
        short_wh=wish.short_wh,
        departs_by=None if told is None else told.by,
        looks_like=suggestion(state, session),
    )


def _told(state: State, vehicle: VehicleId | None, evse: EvseId, now: Moment) -> Told | None:
    """The departure to come; that of the vehicle before that of the place."""
    known = [told for key in (vehicle, evse) if key and (told := state.agenda.shown.get(key))]
    return next((each for each in known if each.departure.at >= now.utc), None)


def _evse(state: State, evse: Evse, now: Moment) -> EvseView:
    now_s = now.mono_s
    account, memory = state.commitments.accounts[evse.id], state.memory[evse.id]
    known, desk = state.belief.evses[evse.id], state.desks[evse.id]
    station = state.belief.stations[evse.station]
    session = _session(state, evse, now)
    is_over = session is None and not known.recent  # the newest sample is that of a session that has ended
    sample = None if is_over else known.fresh(now_s)
    word = state.belief.state(evse.id)
    if word is EvseState.SUSPENDED_EVSE and (known.highest_ma(now_s) or 0) > IDLE_MA:
        word = EvseState.CHARGING  # current is stronger evidence than a late status
    if state.belief.connected(evse.id) and known.feeds_back(now_s) and word is not EvseState.FAULTED:
        word = EvseState.DISCHARGING
    accepted_ma = account.accepted_now_ma(now_s)
    return EvseView(
        id=evse.id,
        station=evse.station,
        circuit=evse.circuit,
        connected=station.connected,
        channels=tuple(station.channels) or (evse.link.channel,),
        state=word,
        limit_ma=evse.max_ma,
        grant_ma=memory.grant_ma if session is not None else None,
        commanded_ma=account.sent[-1].limit_ma if account.sent else accepted_ma,
        accepted_ma=accepted_ma,
        measured_ma=known.current_ma if sample is not None else UNKNOWN,
        power_w=None if sample is None else sample.power_w,
        commitment_ma=account.commitment_ma(now_s),
        bound_by=memory.bound_by,
        paused=desk.paused,
        operator_limit_ma=desk.limit_ma,
        fallback_ma=evse.fallback_ma,
        fallback_stored=account.fallback_ma is not None,
        lease_left_s=account.lease_left_s(now_s),
        session=session,
        fault=known.fault,
        identity=station.identity,
        contactor_cycles=state.tempo.paces[evse.id].contactor_cycles,
        phases=evse.phases if evse.rotation_known and evse.dc is None else None,
        phases_used=evse.phases[:1] if account.one_phase(now_s) else state.usage.phases(evse.id, now_s),
        rotation=state.detective.view(evse.id),
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
                errors=known.errors,
                latency_ms=None if reading is None else reading.latency_ms,
            )
        )
    return tuple(views)
