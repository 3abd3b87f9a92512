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
from controller.core.events import DrawTold, EvseSample
from controller.core.habits import SAME_MA, Draw
from controller.core.model import EvseId, Moment, VehicleId
from controller.core.noted import Sketch
from controller.core.session import Session
from controller.core.snapshot import LooksLike
from controller.core.state import State
from controller.core.units import current_for_power_ma
from controller.core.windows import clock

FLOWS_MA = 1000
CLEAR_MA = 5000  # below this a phase may only be idling
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
    session, evse = state.sessions.running.get(event.evse), state.site.evses[event.evse]
    if session is None:
        return
    sketch = _sketch(state, session)
    flowing = [current for current in event.current_ma if current is not None and current >= FLOWS_MA]
    if flowing and max(flowing) >= CLEAR_MA:
        # else it shows what the EVSE was told, or has
        shows = state.switching.phases(event.evse) is None and evse.dc is None
        if shows and (len(flowing) < len(evse.phases) or len(flowing) == 3):
            sketch.phases = max(sketch.phases, len(flowing))
        sketch.most_ma = max(sketch.most_ma, *flowing)
        if shows:
            sketch.own_ma = max(sketch.own_ma, state.appetites.most_ma(session) or 0)


def told(state: State, event: DrawTold) -> None:
    """A word of nobody's vehicle is nobody's."""
    session = state.sessions.running.get(event.evse)
    if session is not None:
        _sketch(state, session).said = Draw(session.id, event.phases, event.most_ma)


def _sketch(state: State, session: Session) -> Sketch:
    known = state.sketches.get(session.evse)
    if known is None or known.session != session.id:
        known = state.sketches[session.evse] = Sketch(session.id)
    return known


def phases_of(state: State, session: Session) -> int | None:
    """On how many it draws: as this session has shown, else as those before it have, else as it says. To plan with, never to
    count on."""
    sketch = state.sketches.get(session.evse)
    if sketch is not None and sketch.session == session.id and sketch.phases:
        return sketch.phases
    draw = _draw(state, session)
    return None if draw is None else draw.phases


def drawn_ma(state: State, session: Session) -> int | None:
    """The most it draws: as measured in this session, else as in those before it or as it says, unless it has drawn more by
    now."""
    measured_ma, draw = state.appetites.most_ma(session), _draw(state, session)
    if measured_ma is not None or draw is None:
        return measured_ma
    sketch = state.sketches.get(session.evse)
    shown_ma = sketch.most_ma if sketch is not None and sketch.session == session.id else 0
    return draw.most_ma if draw.most_ma is not None and shown_ma <= draw.most_ma + SAME_MA else None


def _draw(state: State, session: Session) -> Draw | None:
    sketch = state.sketches.get(session.evse)
    said = sketch.said if sketch is not None and sketch.session == session.id else None
    if state.site.evses[session.evse].dc is not None:
        return said
    return state.agenda.draws.get(session.vehicle or session.token or session.evse, said)


def fewer_phases(state: State, session: Session) -> tuple[int, ...] | None:
    """Those that it draws on, where its EVSE has more."""
    evse, drawn = state.site.evses[session.evse], phases_of(state, session)
    return None if drawn is None or evse.dc is not None or drawn >= len(evse.phases) else evse.phases[:drawn]


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
    own_ma = seen.own_ma if seen.own_ma > seen.most_ma - SAME_MA else 0
    return StaySaved(session.id, seen.phases or None, seen.most_ma or None, announced, own_ma or None)


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
