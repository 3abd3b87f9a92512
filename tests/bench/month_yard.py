"""Fifty chargers and their vehicles for a simulated month, as they really are: the truth that the books are held against.

Owns the physics (what vehicles draw, what registers count), the days of the vehicles, and what each charger still has to
tell: a message about a transaction stays in its queue until it is acknowledged, over our deaths and its own outages.
Deterministic per seed, but for when its controller is killed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from controller.core import events as ev
from controller.core.commands import Command, SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.model import EvseId, EvseState, MeterId, PerPhase, StationId, evse_id
from tests.bench.month_box import START, Errand

STATIONS, ROWS = 50, 5
FALLBACK_MA, MIN_MA, MAX_MA = 6_000, 6_000, 32_000
VOLTS = 230
OLD_S = 120.0  # a message this old is told as old (drivers.ocpp.words)
CHANNEL = "ocpp"
MAIN = MeterId("main")
UNKNOWN: PerPhase[int | None] = PerPhase(None, None, None)
DAY_S = 86_400.0


@dataclass(slots=True)
class Visit:
    """One vehicle at its charger; seconds since the start of the month."""

    token: str
    arrives_s: float
    leaves_s: float
    need_wh: float
    most_ma: int


@dataclass(slots=True)
class Truth:
    """One transaction as it was. told: its start, its end are acknowledged."""

    evse: EvseId
    token: str
    started: datetime
    start_wh: float
    number: str | None = None
    ended: datetime | None = None
    end_wh: float = 0.0
    start_told: bool = False
    end_told: bool = False


@dataclass(slots=True)
class Charger:
    """One station with one EVSE."""

    evse: EvseId
    visits: Iterator[Visit]
    random: Random
    next: Visit | None = None
    here: Visit | None = None
    now: Truth | None = None
    register_wh: float = 1_000.0
    got_wh: float = 0.0
    limit_ma: int = FALLBACK_MA
    limit_ends_s: float = 0.0
    drawn_ma: int = 0
    shown: EvseState | None = None
    link: bool = False
    linked_at_s: float = 0.0  # when it dials again
    queue: deque[tuple[str, Truth]] = field(default_factory=deque)  # "start" or "end", oldest first
    asked: int | None = None  # number of the message that waits for its answer

    @property
    def station(self) -> StationId:
        return StationId(self.evse.partition("/")[0])

    def allowed_ma(self, now_s: float) -> int:
        return self.limit_ma if now_s < self.limit_ends_s else FALLBACK_MA

    def state(self) -> EvseState:
        if self.here is None:
            return EvseState.AVAILABLE
        if self.drawn_ma:
            return EvseState.CHARGING
        return EvseState.SUSPENDED_EV if self.got_wh >= self.here.need_wh else EvseState.SUSPENDED_EVSE


class Yard:
    """`pass_to` lets time go on; `errands` is what the chargers have to say now."""

    def __init__(self, seed: int, days: float) -> None:
        self.random = Random(seed)
        self.now_s = 0.0
        self.sessions: list[Truth] = []
        self.import_wh = 0.0
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[Charger, str, Truth]] = {}
        self.chargers = {}
        for number in range(1, STATIONS + 1):
            random = Random(f"{seed}/{number}")
            evse = evse_id(f"S{number:02}", 1)
            charger = Charger(evse, _visits(number, random, int(days) + 1), random)
            charger.next = next(charger.visits, None)
            self.chargers[evse] = charger

    def utc(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    # --- physics ------------------------------------------------------------------------------------------------------

    def pass_to(self, now_s: float) -> None:
        for charger in self.chargers.values():
            self._charge(charger, now_s)
        self.now_s = now_s
        for charger in self.chargers.values():
            self._come_and_go(charger)

    def _charge(self, charger: Charger, until_s: float) -> None:
        visit = charger.here
        if visit is None:
            return
        at_s = self.now_s
        while at_s < until_s:
            ends_s = charger.limit_ends_s if at_s < charger.limit_ends_s < until_s else until_s
            allowed_ma = min(charger.allowed_ma(at_s), visit.most_ma)
            wants = charger.got_wh < visit.need_wh and allowed_ma >= MIN_MA
            charger.drawn_ma = allowed_ma - charger.random.randrange(200) if wants else 0
            wh = 3 * VOLTS * charger.drawn_ma / 1000 * (ends_s - at_s) / 3600
            charger.got_wh += wh
            charger.register_wh += wh
            self.import_wh += wh
            at_s = ends_s

    def _come_and_go(self, charger: Charger) -> None:
        if charger.here is not None and self.now_s >= charger.here.leaves_s:
            self._leaves(charger)
        elif charger.here is None and charger.next is not None and self.now_s >= charger.next.arrives_s:
            charger.here, charger.next = charger.next, next(charger.visits, None)
            charger.got_wh = 0.0
            charger.now = Truth(charger.evse, charger.here.token, self.utc(), charger.register_wh)
            self.sessions.append(charger.now)
            charger.queue.append(("start", charger.now))

    def _leaves(self, charger: Charger) -> None:
        assert charger.now is not None
        charger.now.ended, charger.now.end_wh = self.utc(), charger.register_wh
        charger.queue.append(("end", charger.now))
        charger.here = charger.now = None
        charger.drawn_ma, charger.limit_ends_s = 0, 0.0

    # --- what they say ------------------------------------------------------------------------------------------------

    def errands(self) -> list[list[Errand]]:
        """The meter's reading, then of each station in its order."""
        hour = (self.now_s / 3600) % 24
        base_ma = 25_000 + (20_000 if 7 <= hour < 18 else 0)
        load = [base_ma + self.random.randrange(4_000) for _ in range(3)]
        drawn = sum(charger.drawn_ma for charger in self.chargers.values())
        currents: PerPhase[int | None] = PerPhase(*(one + drawn for one in load))
        power_w = sum(one + drawn for one in load) * VOLTS // 1000
        reading = ev.MeterReading(MAIN, self.now_s, currents, power_w, UNKNOWN, int(self.import_wh))
        return [[(None, reading)], *(found for each in self.chargers.values() if (found := self._says(each)))]

    def _says(self, charger: Charger) -> list[Errand]:
        said: list[Errand] = []
        if not charger.link:
            if self.now_s < charger.linked_at_s:
                return []
            charger.link, charger.shown = True, None
            said.append((None, ev.LinkUp(charger.station, CHANNEL, "127.0.0.1")))
            said.append((None, ev.StationBooted(charger.station, CHANNEL, "Bench", "Month", "1", "")))
            said.append((None, ev.FallbackStored(charger.evse, CHANNEL, FALLBACK_MA)))
        state = charger.state()
        if state is not charger.shown:
            charger.shown = state
            said.append((None, ev.StatusChanged(charger.evse, CHANNEL, state)))
        if charger.queue and charger.asked is None:
            what, truth = charger.queue[0]
            charger.asked = number = next(self._numbers)
            self._asked[number] = (charger, what, truth)
            said.append((number, self._message(charger, what, truth)))
        if charger.now is not None and charger.now.start_told:
            said.append((None, self._sample(charger)))
        return said

    def _message(self, charger: Charger, what: str, truth: Truth) -> ev.Event:
        at = truth.started if what == "start" else truth.ended
        assert at is not None
        old = (self.utc() - at).total_seconds() > OLD_S
        if what == "start":
            register = int(truth.start_wh)
            return ev.TransactionStarted(truth.evse, CHANNEL, None, truth.token, register, at, offline=old)
        assert truth.number is not None
        return ev.TransactionEnded(
            charger.station,
            truth.evse,
            truth.number,
            "EVDisconnected",
            int(truth.end_wh),
            at,
            truth.token,
            old,
        )

    def _sample(self, charger: Charger) -> ev.EvseSample:
        current: PerPhase[int | None] = PerPhase(charger.drawn_ma, charger.drawn_ma, charger.drawn_ma)
        power_w = 3 * charger.drawn_ma * VOLTS // 1000
        return ev.EvseSample(charger.evse, CHANNEL, self.now_s, current, power_w, int(charger.register_wh))

    # --- what they hear -----------------------------------------------------------------------------------------------

    def acknowledged(self, number: int, transaction: str | None) -> None:
        charger, what, truth = self._asked.pop(number)
        charger.asked = None
        if what == "start":
            assert transaction is not None, "a start that was answered without a number"
            truth.number, truth.start_told = transaction, True
        else:
            truth.end_told = True
        charger.queue.popleft()

    def obey(self, commands: Sequence[Command]) -> list[list[Errand]]:
        return [[(None, self._answer(command))] for command in commands]

    def _answer(self, command: Command) -> ev.Event:
        charger = self.chargers[command.evse]
        if not charger.link:
            return ev.CommandLost(command.id, "closed")
        match command:
            case StartCharging() | StartDischarge():
                return ev.CommandRefused(command.id, "not here")
            case StopCharging():
                if charger.here is not None:
                    charger.here.leaves_s = self.now_s
            case SetLimit():
                if self.random.random() < 0.002:
                    return ev.CommandLost(command.id, "no answer")
                if charger.now is None or charger.now.number != command.transaction:
                    return ev.CommandRefused(command.id, "no such transaction")
                charger.limit_ma, charger.limit_ends_s = command.limit_ma, self.now_s + command.lease_s
            case _:
                pass
        return ev.CommandAccepted(command.id)

    # --- links --------------------------------------------------------------------------------------------------------

    def cut(self, charger: Charger, for_s: float) -> list[Errand]:
        """Its own link goes; what it is told when that happens."""
        if not charger.link:
            return []
        self._unplug(charger, for_s)
        return [(None, ev.LinkDown(charger.station, CHANNEL, "closed"))]

    def controller_died(self) -> None:
        """Nobody is told; answers on their way are gone."""
        for charger in self.chargers.values():
            self._unplug(charger, self.random.uniform(0, 60))

    def _unplug(self, charger: Charger, for_s: float) -> None:
        charger.link, charger.linked_at_s = False, self.now_s + for_s
        if charger.asked is not None:
            del self._asked[charger.asked]
            charger.asked = None


def _visits(number: int, random: Random, days: int) -> Iterator[Visit]:
    """A van for the night, now and then somebody at noon; fewer on Sundays. START is midnight of the site."""
    for day in range(days):
        midnight_s = day * DAY_S
        if random.random() < 0.25:
            comes_s = midnight_s + random.uniform(9.5, 13) * 3600
            guest = f"GUEST{random.randrange(400):03}"
            yield Visit(
                guest, comes_s, comes_s + random.uniform(0.3, 2) * 3600, random.uniform(2_000, 15_000), 32_000
            )
        if random.random() < (0.3 if day % 7 == 0 else 0.93):
            comes_s = midnight_s + random.uniform(15.5, 20.5) * 3600
            leaves_s = midnight_s + DAY_S + random.uniform(5.0, 8.5) * 3600
            most_ma = 16_000 if number % 3 else 32_000
            yield Visit(f"VAN{number:02}", comes_s, leaves_s, random.uniform(8_000, 45_000), most_ma)
