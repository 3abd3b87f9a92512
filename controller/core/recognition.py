"""Recognition: which vehicle this could be, where no token says so. A suggestion with its reasons, never a fact.

Owns what is noted of a stay besides its energy (phases drawn on, highest current, what was announced) and the
comparison with habits, config and roster. Nothing is decided on it: a person may say who it is with `depot tokens add`.
Weights: by hand; phases and current are physics, times are habits. A vehicle that cannot draw like this is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from controller.core.commands import StaySaved
from controller.core.events import EvseSample
from controller.core.model import EvseId, Moment, VehicleId
from controller.core.noted import Sketch
from controller.core.session import Session
from controller.core.snapshot import LooksLike
from controller.core.state import State
from controller.core.units import current_for_power_ma
from controller.core.windows import clock

FLOWS_MA = 1000
CLEAR_MA = 5000  # below this a phase may only be idling
SAME_MA = 1500
NEAR_MIN = 30
LOOK_EVERY_S = 300.0
LEAST_SCORE, LEAST_PCT, STRANGER = 4, 60, 4
DAY_MIN = 24 * 60
UNPLUGGED = (
    "evdisconnected",
    "ev_disconnected",
    "local",
)  # OCPP, Open Platform; "local": the driver ended it


def sampled(state: State, event: EvseSample) -> None:
    session = state.sessions.running.get(event.evse)
    if session is None:
        return
    sketch = state.sketches.get(event.evse)
    if sketch is None or sketch.session != session.id:
        sketch = state.sketches[event.evse] = Sketch(session.id)
    flowing = [current for current in event.current_ma if current is not None and current >= FLOWS_MA]
    if flowing and max(flowing) >= CLEAR_MA:
        if state.switching.phases(event.evse) is None:  # else it shows what the EVSE was told
            sketch.phases = max(sketch.phases, len(flowing))
        sketch.most_ma = max(sketch.most_ma, *flowing)


def stay_of(state: State, session: Session, left: datetime, reason: str | None) -> StaySaved | None:
    """What is kept of a session that ends. Habits are not announcements (they would prove themselves), and only who was
    unplugged has left."""
    sketch = state.sketches.pop(session.evse, None)
    seen = sketch if sketch is not None and sketch.session == session.id else Sketch(session.id)
    known = [told for key in (session.vehicle, session.evse) if key and (told := state.agenda.shown.get(key))]
    told = min(known, key=lambda each: abs(each.departure.at - left), default=None)
    unplugged = reason is None or reason.casefold() in UNPLUGGED
    announced = told.departure.at if told is not None and told.is_word and unplugged else None
    if announced is None and not seen.phases:
        return None
    return StaySaved(session.id, seen.phases or None, seen.most_ma or None, announced)


def look(state: State, now: Moment) -> None:
    """Once per step: at one session without a vehicle, when it has shown something new or some time has passed."""
    for evse, session in state.sessions.running.items():
        if session.vehicle is not None or (sketch := state.sketches.get(evse)) is None:
            continue
        shown = (sketch.phases, sketch.most_ma // 1000)
        if shown != sketch.looked_at or now.mono_s >= sketch.look_s:
            sketch.look_s, sketch.looked_at = now.mono_s + LOOK_EVERY_S, shown
            sketch.looks_like = looks_like(state, session, sketch)
            return


def suggestion(state: State, session: Session) -> LooksLike | None:
    sketch = state.sketches.get(session.evse)
    if sketch is None or sketch.session != session.id or session.vehicle is not None:
        return None
    return sketch.looks_like


def looks_like(state: State, session: Session, sketch: Sketch) -> LooksLike | None:
    here = {other.vehicle for other in state.sessions.running.values()}
    arrived = session.started.astimezone(ZoneInfo(state.site.timezone))
    scores: dict[VehicleId, tuple[int, list[str]]] = {}
    for vehicle in state.site.vehicles:
        if vehicle in here or _cannot_be(state, vehicle, session.evse, sketch):
            continue
        reasons = list(_reasons(state, vehicle, session, sketch, arrived))
        scores[vehicle] = (sum(weight for weight, _ in reasons), [text for _, text in reasons])
    if not scores:
        return None
    best = max(scores, key=lambda vehicle: scores[vehicle][0])
    score, texts = scores[best]
    confidence_pct = 100 * 2**score // (STRANGER + sum(2**other for other, _ in scores.values()))
    if score < LEAST_SCORE or confidence_pct < LEAST_PCT:
        return None
    return LooksLike(best, confidence_pct, ", ".join(texts))


def _most_ma(state: State, vehicle: VehicleId, evse: EvseId) -> list[int]:
    """What it is known to draw at most: by the config, and as seen (perhaps under a limit of ours)."""
    habit, power_w = state.agenda.habits.get(vehicle), state.site.vehicles[vehicle].max_power_w
    found = [] if habit is None or habit.most_ma is None else [habit.most_ma]
    if power_w is not None:
        phases = len(state.site.evses[evse].phases)
        if habit is not None and habit.phases is not None:
            phases = min(phases, habit.phases)
        found.append(current_for_power_ma(power_w, state.site.voltage_mv, phases))
    return found


def _cannot_be(state: State, vehicle: VehicleId, evse: EvseId, sketch: Sketch) -> bool:
    habit, most_ma = state.agenda.habits.get(vehicle), _most_ma(state, vehicle, evse)
    if sketch.phases and habit is not None and habit.phases is not None and sketch.phases != habit.phases:
        return True
    return bool(most_ma) and sketch.most_ma > max(most_ma) + SAME_MA


def _reasons(
    state: State, vehicle: VehicleId, session: Session, sketch: Sketch, arrived: datetime
) -> Iterator[tuple[int, str]]:
    """`arrived`: on the site's clock."""
    habit, most_ma = state.agenda.habits.get(vehicle), _most_ma(state, vehicle, session.evse)
    if sketch.phases and habit is not None and habit.phases == sketch.phases:
        yield 1, f"{sketch.phases} {'phase' if sketch.phases == 1 else 'phases'}"
    if sketch.most_ma and any(abs(known - sketch.most_ma) <= SAME_MA for known in most_ma):
        yield 2, f"{round(sketch.most_ma / 1000)} A"
    day = None if habit is None else habit.on(arrived.weekday())
    if day is not None:
        apart = abs(arrived.hour * 60 + arrived.minute - day.arrives_min)
        if min(apart, DAY_MIN - apart) <= NEAR_MIN:
            yield 2, f"usually here at {clock(day.arrives_min)}"
    if habit is not None and habit.evse == session.evse:
        yield 1, "its usual place"
    turn = state.agenda.arrival_of(vehicle, session.started)
    if turn is not None:
        yield 3 if turn.evse == session.evse else 2, "due here by the roster"
