"""Discharging (V2G): from the wish of a person or a schedule to the proof that nothing flows back any more.

Owns when a discharge begins, goes on and ends. It is ordered where an Open Platform channel reaches the EVSE, else where
the station offers it over the channel that leads (OCPP 2.1), and always bounded three times: by its own end, by a floor
of charge, and by slices. A slice is what one command orders; no call renews a running discharge, so the next slice is
ordered when the one before is over. A charger that has lost its link thus ends its discharge within one slice, sooner
than it would by itself (G-34).

What has to end is told by a stop, again and again until it is confirmed: accepted, and nothing measured that flows
back. While a discharge is wanted or measured the EVSE is given no charging current and is sent no limits; a limit of 0
would end it, and any other would promise current to a vehicle that gives it.

Over the leading channel a slice is part of the running transaction and takes the place of its limit, so that one counts
as unknown again until the next is accepted. What has to end early is then told by a limit of 0, and by a stop of the
transaction only if it feeds back all the same. The floor is ours to watch there: a vehicle that does not tell its charge
is not discharged.

Must not free room on any circuit; why stands in `commitments`.
Source: Open Platform REFERENCE section 11, GAPS G-09, G-12, G-14, G-34; OCPP 2.1 part 2 section Q.
"""

from __future__ import annotations

from datetime import datetime

from controller.core.commands import Command, StartDischarge, StopCharging
from controller.core.model import Evse, EvseId, EvseState, FeedBack, Moment
from controller.core.state import Discharge, State

FLOOR_PCT = 20  # nobody is discharged below this, whoever asks (G-14)
DEFAULT_S = 3600.0  # a discharge without a duration ends after this (G-14)
SLICE_S = 600.0
SHORTEST_S = 30.0  # what is left is not worth the vehicle's handshake
OVERRUN_S = 180.0  # a slice may begin so late (G-08), but not go on for longer
RETRY_S = 300.0  # a schedule asks again after a refusal
STOP_RETRY_S = 20.0
UNCONFIRMED_S = (
    60.0  # nothing flows back for so long after the first stop: it has ended, whoever did not say so
)
SOC_KNOWN_S = 300.0  # where the floor is ours to watch, a state of charge is believed for so long
PLATFORM = "open-platform/"
PLAN = "plan"  # instead of a schedule's name: what our own plan wants

_PLUGGED = (
    EvseState.PREPARING,
    EvseState.CHARGING,
    EvseState.DISCHARGING,
    EvseState.SUSPENDED_EV,
    EvseState.SUSPENDED_EVSE,
    EvseState.FINISHING,
)
_CHARGES = (EvseState.CHARGING, EvseState.SUSPENDED_EV, EvseState.SUSPENDED_EVSE)


def channel_of(state: State, evse: Evse) -> str | None:
    """The channel that can discharge this EVSE."""
    offered = not _within(evse) or state.belief.evses[evse.id].offers_discharge
    return evse.discharge_channel if offered else None


def lacks(state: State, evse: Evse) -> str | None:
    """What a discharge within a transaction needs and is not there."""
    session = state.sessions.running.get(evse.id)
    if not _within(evse):
        return None
    if session is None:
        return "no session is running"
    return "the vehicle does not tell its state of charge" if session.soc is None else None


def ends_by_limit(state: State, evse: EvseId) -> bool:
    """A discharge that has to end, and does so with the next limit."""
    order = state.memory[evse].discharge
    return order is not None and order.over is not None and _within(state.site.evses[evse])


def in_hand(state: State, evse: EvseId, now_s: float) -> bool:
    """Whether it discharges or is about to: no charging current then."""
    order = state.memory[evse].discharge
    wanted = order is not None and now_s >= order.not_before_s
    return wanted or state.belief.evses[evse].feeds_back(now_s)


def end(state: State, evse: EvseId, why: str) -> None:
    """A person puts an end to it, and to what a schedule still wants in this window."""
    order, wish = state.memory[evse].discharge, _planned(state, evse)
    state.memory[evse].waived = None if wish is None else _window(wish)
    if order is not None:
        order.over, order.resumes = why, False


def review(state: State, now: Moment) -> None:
    """Takes in what schedules want, decides what has to end, and forgets what has ended."""
    for evse in state.site.evses.values():
        memory = state.memory[evse.id]
        if channel_of(state, evse) is None and memory.discharge is None:
            continue
        if memory.waived == PLAN and state.belief.state(evse.id) is EvseState.AVAILABLE:
            memory.waived = None
        wish = _planned(state, evse.id)
        # started or resumed by hand, schedules do not hold it back
        if wish is not None and (not now.utc_trusted or now.utc >= wish.until or state.desks[evse.id].manual):
            wish = None
        if memory.discharge is None and wish is not None and _may_begin(state, evse, wish, now):
            memory.discharge = _from_schedule(state, evse, wish, now)
        order = memory.discharge
        if order is None:
            continue
        if order.schedule is not None and wish is not None:
            order.power_w, order.min_soc, order.until_s = wish.power_w, wish.min_soc, _until_s(wish, now)
        elif order.schedule is not None:
            order.over = order.over or f"schedule {order.schedule}: its window is over"
        order.seen = order.seen or state.belief.evses[evse.id].feeds_back(now.mono_s)
        order.over = order.over or _why_over(state, evse, order, now.mono_s)
        if _within(evse):
            order.over = order.over or _why_over_within(state, evse, order, now.mono_s)
            if order.over is not None and order.stopping_s is None:
                order.stopping_s = now.mono_s
        if _has_left(state, evse, order, now.mono_s):
            memory.discharge = None
        elif order.over is not None and _is_settled(state, evse, order, now.mono_s):
            memory.discharge = None
            _resume(state, evse, order)


def command_for(state: State, evse: Evse, now_s: float) -> Command | None:
    """The next slice, or the stop; None when there is nothing to say now."""
    memory, channel = state.memory[evse.id], evse.discharge_channel
    order = memory.discharge
    if order is None or not _reached(state, evse):
        return None
    if order.over is not None:
        by_limit = _within(evse) and not _disobeys(state, evse, order, now_s)
        return None if by_limit else _stop(state, evse, order, channel, now_s)
    if channel_of(state, evse) is None:
        return None
    flows = state.belief.evses[evse.id].feeds_back(now_s)
    left_s = min(SLICE_S, order.until_s - now_s)
    if now_s < max(order.slice_until_s, order.not_before_s) or left_s < SHORTEST_S:
        return None
    if flows:
        if order.slice_until_s == float("-inf"):  # from before our restart: it lasts no longer than a slice
            order.slice_until_s = now_s + SLICE_S
        return None
    if _within(evse) and not _takes_the_place_of_the_limit(state, evse, order, now_s):
        return None
    order.command, order.slice_until_s = state.next_command(), now_s + left_s
    # until the charger has said otherwise, a lost link must not hide it
    state.belief.evses[evse.id].may_feed_until_s = order.slice_until_s + OVERRUN_S
    state.orders.issued(evse.id, order.command, ("discharge",))
    return StartDischarge(order.command, evse.id, channel, order.power_w, left_s, order.min_soc)


def accepted(state: State, command: str) -> None:
    for memory in state.memory.values():
        if memory.discharge is not None and memory.discharge.stop == command:
            memory.discharge.stop_accepted = True


def refused(state: State, command: str, now_s: float) -> None:
    """The station said no to a slice, or it never left the box. A person's order ends with that; a schedule asks again
    later."""
    for memory in state.memory.values():
        order = memory.discharge
        if order is not None and order.command == command:
            order.command, order.slice_until_s = None, float("-inf")
            order.not_before_s = now_s + RETRY_S
            if order.schedule is None:
                order.over = order.over or "refused"


def _within(evse: Evse) -> bool:
    """Discharged by the channel that leads its sessions, as a part of one."""
    return not evse.discharge_channel.startswith(PLATFORM)


def _takes_the_place_of_the_limit(state: State, evse: Evse, order: Discharge, now_s: float) -> bool:
    """Whether a slice may be said now: nothing is under way that would come after it and end it unseen."""
    session, account = state.sessions.running.get(evse.id), state.commitments.accounts[evse.id]
    if session is None or account.sent:
        return False
    order.transaction = session.transaction
    state.commitments.rebooted(evse.id, now_s)
    return True


def _disobeys(state: State, evse: Evse, order: Discharge, now_s: float) -> bool:
    """It feeds back long after it was to end."""
    waited_s = 0.0 if order.stopping_s is None else now_s - order.stopping_s
    return (
        evse.id in state.sessions.running
        and waited_s >= UNCONFIRMED_S
        and state.belief.evses[evse.id].feeds_back(now_s)
    )


def _reached(state: State, evse: Evse) -> bool:
    return state.belief.reached_over(evse.id, evse.discharge_channel)


def _planned(state: State, evse: EvseId) -> FeedBack | None:
    wish = state.plan.wishes.get(evse) if state.plan is not None else None
    return None if wish is None else wish.feed_back


def _window(wish: FeedBack) -> datetime | str:
    """What a person puts an end to: a schedule's window, or all that the plan may want while the vehicle is here."""
    return PLAN if wish.schedule == PLAN else wish.until


def _until_s(wish: FeedBack, now: Moment) -> float:
    return now.mono_s + (wish.until - now.utc).total_seconds()


def _from_schedule(state: State, evse: Evse, wish: FeedBack, now: Moment) -> Discharge:
    session = state.sessions.running.get(evse.id)
    charges = session is not None and not state.belief.evses[evse.id].feeds_back(now.mono_s)
    return Discharge(
        wish.power_w,
        wish.min_soc,
        _until_s(wish, now),
        schedule=wish.schedule,
        resumes=charges or evse.autostart,
        token=session.token if session is not None and charges else None,
    )


def _may_begin(state: State, evse: Evse, wish: FeedBack, now: Moment) -> bool:
    desk, memory, soc = state.desks[evse.id], state.memory[evse.id], _soc(state, evse.id, now.mono_s)
    return (
        _reached(state, evse)
        and lacks(state, evse) is None
        and state.belief.state(evse.id) in _PLUGGED
        and not (desk.paused or desk.stop or _flex_pause(state, evse))
        and _window(wish) != memory.waived
        and (soc is None or soc > wish.min_soc)
        and _until_s(wish, now) - now.mono_s >= SHORTEST_S
    )


def _why_over(state: State, evse: Evse, order: Discharge, now_s: float) -> str | None:
    soc = _soc(state, evse.id, now_s)
    if now_s >= order.until_s:
        return "discharge over"
    if soc is not None and soc <= order.min_soc:
        return f"discharged to {order.min_soc} %"
    if _flex_pause(state, evse):  # ends discharges too (G-12)
        return "flexibility"
    flows = state.belief.evses[evse.id].feeds_back(now_s)
    if order.slice_until_s > float("-inf") and now_s > order.slice_until_s + OVERRUN_S and flows:
        return "past its time"
    return None


def _why_over_within(state: State, evse: Evse, order: Discharge, now_s: float) -> str | None:
    session, sample = state.sessions.running.get(evse.id), state.belief.evses[evse.id].fresh(now_s)
    if order.soc_s is None or (sample is not None and sample.soc is not None):
        order.soc_s = now_s
    if session is None or order.transaction not in (None, session.transaction):
        return "the session is over"
    return "the vehicle does not tell its state of charge" if now_s - order.soc_s > SOC_KNOWN_S else None


def _has_left(state: State, evse: Evse, order: Discharge, now_s: float) -> bool:
    """The vehicle that was discharged is gone; the next one is none of this order's business."""
    flows = state.belief.evses[evse.id].feeds_back(now_s)
    free = state.belief.state(evse.id) is EvseState.AVAILABLE
    # around the end of a slice, "idle" may as well be the pause before the next one
    return free and not flows and order.seen and now_s < order.slice_until_s - STOP_RETRY_S


def _is_settled(state: State, evse: Evse, order: Discharge, now_s: float) -> bool:
    """Nothing flows back, and nothing that was ordered can begin to."""
    if not _reached(state, evse):
        return now_s > order.slice_until_s + OVERRUN_S
    if state.belief.evses[evse.id].feeds_back(now_s):
        return False
    if now_s >= order.slice_until_s:
        return True
    if _within(evse):
        account = state.commitments.accounts[evse.id]
        limited = account.accepted_now_ma(now_s) is not None and not account.sent
        return limited or evse.id not in state.sessions.running
    if order.stopping_s is None:
        return False
    if now_s >= order.stopping_s + UNCONFIRMED_S:
        return True
    apart = evse.companion is not None  # what it stops is never the session, which goes on as it is
    ended = apart or evse.id not in state.sessions.running or state.belief.state(evse.id) in _CHARGES
    return order.stop_accepted and ended


def _resume(state: State, evse: Evse, order: Discharge) -> None:
    """A vehicle that was here to charge goes on doing so."""
    memory = state.memory[evse.id]
    runs_on = _within(evse) or evse.id in state.sessions.running
    if order.resumes and not runs_on and memory.start_token is None:
        memory.start_token = order.token or state.own_token()
        memory.asked_s = float("-inf")


def _stop(state: State, evse: Evse, order: Discharge, channel: str, now_s: float) -> Command | None:
    memory = state.memory[evse.id]
    if order.stop is not None and now_s < memory.asked_s + STOP_RETRY_S:
        return None
    order.stop, order.stop_accepted = state.next_command(), False
    order.stopping_s = now_s if order.stopping_s is None else order.stopping_s
    session = state.sessions.running.get(evse.id)
    state.orders.issued(evse.id, order.stop, ("stop",))
    transaction = None if session is None or evse.companion is not None else session.transaction
    return StopCharging(order.stop, evse.id, channel, transaction, order.over or "")


def _flex_pause(state: State, evse: Evse) -> bool:
    cap = state.flex.cap(state.site, evse) if state.flex.actions else None
    return cap is not None and cap[0] == 0


def _soc(state: State, evse: EvseId, now_s: float) -> int | None:
    session, sample = state.sessions.running.get(evse), state.belief.evses[evse].fresh(now_s)
    return session.soc if session is not None else None if sample is None else sample.soc
