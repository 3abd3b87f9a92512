"""The agenda: what is known of departures and arrivals, from orders, the roster and habits, in this order.

Owns who beats whom: `depot depart` beats the roster for the same vehicle and day, the roster beats habit, and a habit
speaks only where nobody else does. Everything here is a function of what was reported and the time asked for.
Must not plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from controller.core.habits import Draw, Habit, HabitDay
from controller.core.model import Departure, EvseId, Moment, Site, VehicleId
from controller.core.planning import Expected
from controller.core.roster import LATE, RosterEntry, Turns, departure_of, laid_out
from controller.core.session import Session
from controller.core.windows import instant

REFRESH_S = 30.0
DAY_S = 86_400.0
AS_USUAL = timedelta(hours=3)  # a vehicle that came at another time of day does not leave as usual
WAITED_FOR = timedelta(hours=2)  # after its time, a usual vehicle is not expected any more
DOUBTED_PCT = 50  # how sure a vehicle of the roster is to come that is late by more than that
SOON = timedelta(hours=24)  # arrivals are not looked for further ahead
UNKNOWN_NEED_PCT = (
    60  # of the battery: what a vehicle will need of which only "full" is known, and that is not here yet
)
ORDER = "order"


@dataclass(frozen=True, slots=True)
class Told:
    """A departure, and who says so: "order", "roster" with its block, or the habit in words. is_word: somebody said it."""

    departure: Departure
    by: str
    is_word: bool = True


@dataclass(slots=True)
class Agenda:
    site: Site
    entries: tuple[RosterEntry, ...] = ()
    habits: Mapping[str, Habit] = field(default_factory=dict)
    errors_s: tuple[float, ...] = ()
    draws: Mapping[str, Draw] = field(default_factory=dict)
    shown: Mapping[str, Told] = field(default_factory=dict)  # as of the last refresh, by vehicle or EVSE
    _turns: Turns = field(default_factory=dict)
    _laid_s: float | None = None
    _due_s: float = float("-inf")

    def set_roster(self, entries: tuple[RosterEntry, ...], now: Moment) -> None:
        self.entries = entries
        self._lay_out(now)

    def set_habits(
        self, habits: Sequence[Habit], errors_s: tuple[float, ...], draws: Iterable[Draw] = ()
    ) -> None:
        self.habits = {habit.key: habit for habit in habits}
        self.errors_s, self.draws = errors_s, {draw.key: draw for draw in draws}
        self.changed()

    def changed(self) -> None:
        """Something it is made of is new: look again with the next step."""
        self._due_s = float("-inf")

    def refresh(self, orders: Mapping[str, Departure], here: Mapping[EvseId, Session], now: Moment) -> None:
        """Once per step; does nothing most of the time."""
        if now.mono_s < self._due_s:
            return
        self._due_s = now.mono_s + REFRESH_S
        if self._laid_s is None or now.mono_s - self._laid_s >= DAY_S:
            self._lay_out(now)
        self.shown = self.told(orders, here, now.utc)

    def _lay_out(self, now: Moment) -> None:
        self._turns = laid_out(self.entries, now.utc)
        self._laid_s = now.mono_s
        self.changed()

    def told(
        self, orders: Mapping[str, Departure], here: Mapping[EvseId, Session], now: datetime
    ) -> dict[str, Told]:
        """The departure that counts now, by vehicle or EVSE: of who is here, and whatever was ordered."""
        found = {target: Told(departure, ORDER) for target, departure in orders.items()}
        zone = ZoneInfo(self.site.timezone)
        stays = {session.vehicle: session for session in here.values() if session.vehicle is not None}
        for vehicle, turns in self._turns.items():
            session = stays.get(VehicleId(vehicle)) or self._unnamed(turns, here, now)
            if session is None:
                continue
            turn = _current(_not_ordered(turns, vehicle, session, orders, zone), session, now)
            if turn is None:
                continue
            target = session.vehicle or session.evse
            sooner = (orders[key].at for key in (vehicle, session.evse) if key in orders)
            if not any(now < at < turn.departs for at in sooner):
                found[target] = Told(departure_of(turn, target), f"roster {turn.block}".rstrip())
        for evse, session in here.items():
            vehicle = session.vehicle or ""
            ahead = [told.departure.at > now - LATE for key in (vehicle, evse) if (told := found.get(key))]
            if not any(ahead) and (usual := self._usual(session, zone, now)) is not None:
                found[usual.departure.target] = usual
        return found

    def _unnamed(
        self, turns: Sequence[RosterEntry], here: Mapping[EvseId, Session], now: datetime
    ) -> Session | None:
        """A vehicle that has no token, or stands where none is told of, cannot be recognised: the roster's word has to do."""
        turn = next((turn for turn in turns if turn.departs > now), None)
        evse = None if turn is None or turn.evse is None else self.site.evses.get(turn.evse)
        session = None if evse is None else here.get(evse.id)
        if evse is None or session is None or session.vehicle is not None:
            return None
        known = self.site.vehicles.get(VehicleId(turns[0].vehicle))
        has_token = known is not None and bool(known.tokens)
        return None if has_token and evse.link.names_tokens else session

    def _usual(self, session: Session, zone: ZoneInfo, now: datetime) -> Told | None:
        habit = self.habits.get(session.vehicle or session.token or "")
        arrived = session.started.astimezone(zone)
        day = None if habit is None else habit.on(arrived.weekday())
        if habit is None or day is None or not day.is_regular:
            return None
        came_min = arrived.hour * 60 + arrived.minute
        if abs(came_min - day.arrives_min) > AS_USUAL.total_seconds() / 60:
            return None
        at = instant(arrived.date(), day.departs_min, zone)
        if at <= now:
            return None
        target = session.vehicle or session.evse
        return Told(Departure(target, at, energy_wh=habit.energy_wh), day.text, is_word=False)

    def expected(self, here: Mapping[EvseId, Session], now: datetime) -> tuple[Expected, ...]:
        """Vehicles that are to come, by the roster, and by habit where the roster says nothing of that vehicle."""
        present = {session.vehicle or session.token: session for session in here.values()}
        taken = set(here)
        found: list[Expected] = []
        for vehicle, turns in sorted(self._turns.items()):
            session = present.get(vehicle)
            current = None if session is None else _current(turns, session, now)
            for turn in turns:
                if turn is current or turn.arrives is None or turn.departs <= now:
                    continue
                if turn.arrives >= now + SOON:
                    break
                evse, need_wh = turn.evse or self._place(vehicle, taken), self._need_wh(turn)
                if evse is not None and need_wh is not None:
                    weight_pct = DOUBTED_PCT if now - turn.arrives > WAITED_FOR else 100
                    found.append(
                        Expected(evse, turn.arrives, turn.departs, need_wh, VehicleId(vehicle), weight_pct)
                    )
                break  # one stay per vehicle: the next one depends on it
        for habit in self.habits.values():
            if habit.key not in present and habit.key not in self._turns:
                found += self._usually(habit, taken, now)
        return tuple(found)

    def _need_wh(self, turn: RosterEntry) -> int | None:
        if turn.energy_wh is not None:
            return turn.energy_wh
        habit, known = self.habits.get(turn.vehicle), self.site.vehicles.get(VehicleId(turn.vehicle))
        if habit is not None:
            return habit.energy_wh
        if known is None or known.battery_wh is None:
            return None
        return known.battery_wh * UNKNOWN_NEED_PCT // 100

    def _place(self, key: str, taken: set[EvseId]) -> EvseId | None:
        """Where it usually stands, else any that is free: for the plan only the circuit matters."""
        habit = self.habits.get(key)
        if habit is not None and habit.evse in self.site.evses:
            return habit.evse
        free = next((evse for evse in self.site.evses if evse not in taken), None)
        if free is not None:
            taken.add(free)
        return free

    def _usually(self, habit: Habit, taken: set[EvseId], now: datetime) -> Iterator[Expected]:
        zone = ZoneInfo(self.site.timezone)
        today = now.astimezone(zone).date()
        for offset in range(2):
            date = today + timedelta(days=offset)
            day: HabitDay | None = habit.on(date.weekday())
            if day is None or not day.is_regular or not day.comes_pct:
                continue
            arrives = instant(date, day.arrives_min, zone)
            departs = instant(date, day.departs_min, zone)
            evse = self._place(habit.key, taken)
            if now - WAITED_FOR < arrives < now + SOON and departs > max(now, arrives) and evse is not None:
                vehicle = VehicleId(habit.key) if habit.key in self.site.vehicles else None
                yield Expected(evse, arrives, departs, habit.energy_wh, vehicle, day.comes_pct)
                return

    def arrival_of(self, vehicle: str, near: datetime) -> RosterEntry | None:
        """The stay of the roster that begins about then."""
        return next(
            (
                turn
                for turn in self._turns.get(vehicle, ())
                if turn.arrives is not None and abs(turn.arrives - near) <= LATE
            ),
            None,
        )


def _not_ordered(
    turns: Sequence[RosterEntry],
    vehicle: str,
    session: Session,
    orders: Mapping[str, Departure],
    zone: ZoneInfo,
) -> list[RosterEntry]:
    """Without the ones that an order has taken the place of: on its day, the nearest."""
    left = list(turns)
    for target in (vehicle, session.evse):
        order = orders.get(target)
        if order is None:
            continue
        day = order.at.astimezone(zone).date()
        same = [turn for turn in left if turn.departs.astimezone(zone).date() == day]
        if same:
            left.remove(min(same, key=lambda turn: abs(turn.departs - order.at)))
    return left


def _current(turns: Sequence[RosterEntry], session: Session, now: datetime) -> RosterEntry | None:
    """The next departure; a vehicle that should have left and is still here keeps its own for a while."""
    for turn in turns:
        if turn.departs > now:
            return turn
        if (
            session.started < turn.departs
            and now < turn.departs + LATE
            and (turn.returns is None or now < turn.returns)
        ):
            return turn
    return None
