"""What the controller gets to know in a simulation, and when: each as the fact or forecast it would be in life.

Prices are day-ahead: those of the next day are known from 13:00 of the site's clock. The duty plan is known a day and a
half ahead, as a roster. Load and sun are forecast from what was seen before, habits and the errors of what was announced
are learnt from stays that have ended. Nothing here looks at what is yet to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from controller.core import habits
from controller.core.commands import StaySaved
from controller.core.events import Event, HabitsLearned, RosterSet, TariffRead
from controller.core.model import EvseId
from controller.core.planning import PlanRequest
from controller.core.profile import QUARTER, Profile, quarter_start
from controller.core.roster import RosterEntry
from controller.core.tariff import MICRO, Tariff, series
from controller.core.windows import instant
from controller.simulation.files import Series, Stay

BY = "simulation"
ANNOUNCED = timedelta(hours=36)
PUBLISHED_H = 13  # the hour of the day at which the prices of the next one are known
PRICES_KEPT = timedelta(days=2)
HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
QUARTERS_SEEN = timedelta(minutes=30)  # after longer than this the quarters between were not simulated
PRICES_AHEAD, FORECAST = timedelta(hours=75), DAY  # as far as the live controller looks
LEARNT_FROM = timedelta(weeks=7)
LEARNS_EVERY = timedelta(hours=1)
MOST_STAYS = 2000


@dataclass(slots=True)
class Knowledge:
    """`announced`: every stay that has a duty plan, with its EVSE. `published`: prices come day by day; else they are a
    tariff that everybody knows."""

    zone: ZoneInfo
    tariff: Tariff | None = None
    published: bool = True
    load: Series | None = None
    pv: Series | None = None
    announced: Sequence[tuple[EvseId, Stay]] = ()
    _came: set[str] = field(default_factory=set)
    _told: tuple[Stay, ...] = ()
    _stays: list[habits.Stay] = field(default_factory=list)
    _learnt: datetime | None = None
    _prices_until: datetime | None = None
    _load: Profile = field(init=False)
    _sun: Profile = field(init=False)
    _seen_until: datetime | None = None
    _register: tuple[datetime, float] | None = (
        None  # of the meter at the grid connection, when the quarter hour began
    )
    _highest_w: dict[tuple[int, int], int] = field(default_factory=dict)  # quarter hour's import, by month

    def __post_init__(self) -> None:
        self._load = Profile(self.zone.key)
        self._sun = Profile(self.zone.key, by_weekday=False)

    # --- facts ------------------------------------------------------------------------------------------------------

    def came(self, stay: Stay) -> None:
        """It is here: what was announced of it is over."""
        self._came.add(stay.session)

    def left(self, evse: EvseId, stay: Stay, kwh: float, drew: StaySaved | None) -> None:
        """`drew`: what the core has noted of the session."""
        key = stay.vehicle or stay.session
        ended = habits.Stay(
            key, evse, stay.arrival, stay.departure, round(1000 * kwh), announced=stay.told_departure
        )
        if drew is not None:
            ended = replace(ended, phases=drew.phases, most_ma=drew.most_ma, own_ma=drew.own_ma)
        self._stays.insert(0, ended)
        del self._stays[MOST_STAYS:]
        self._learnt = self._learnt or stay.departure - LEARNS_EVERY

    def metered(self, now: datetime, import_wh: float) -> None:
        """The register at the grid connection, from which the month's highest quarter hour follows. While nobody was there it
        stood still, and the building made the quarters alone."""
        since, before_wh = self._register or (now - LEARNT_FROM, import_wh)
        if quarter_start(now) == quarter_start(since):
            return
        at, end = quarter_start(since), quarter_start(now)
        self._register = (now, import_wh)
        self._imported(at, (import_wh - before_wh) / (max(now - since, QUARTER) / HOUR))
        while now - since > QUARTERS_SEEN and at < end:
            load_kw, sun_kw = (None if file is None else file.at(at) for file in (self.load, self.pv))
            self._imported(at, 1000 * ((load_kw or 0.0) - max(0.0, sun_kw or 0.0)))
            at += QUARTER

    def _imported(self, start: datetime, mean_w: float) -> None:
        month = self._month(start)
        self._highest_w[month] = max(round(mean_w), self._highest_w.get(month, 0))

    def _month(self, at: datetime) -> tuple[int, int]:
        local = at.astimezone(self.zone)
        return local.year, local.month

    def news(self, now: datetime) -> Iterator[Event]:
        """What has become known since the last time."""
        if self.tariff is not None:
            until = self._known_until(now)
            if until != self._prices_until:
                self._prices_until = until
                yield TariffRead(self.tariff.within(now - PRICES_KEPT, until))
        told = tuple(stay for _, stay in self._ahead(now))
        if told != self._told:
            self._told = told
            yield RosterSet(BY, tuple(_entry(evse, stay) for evse, stay in self._ahead(now)))
        if self._learnt is not None and now >= self._learnt + LEARNS_EVERY:
            self._learnt = None
            learned = habits.learned(self._stays, self.zone.key, now)
            yield HabitsLearned(learned, habits.errors_s(self._stays), habits.draws(self._stays))

    def _ahead(self, now: datetime) -> Iterator[tuple[EvseId, Stay]]:
        for evse, stay in self.announced:
            due = stay.planned_return
            if due is None or stay.session in self._came:
                continue
            if due < now + ANNOUNCED and stay.told_departure > now:
                yield evse, stay

    def _known_until(self, now: datetime) -> datetime:
        """The end of the day, and from the hour of publishing on the end of the next."""
        local = now.astimezone(self.zone)
        if not self.published:
            days = 8
        else:
            days = 2 if local.hour >= PUBLISHED_H else 1
        return instant(local.date() + timedelta(days=days), 0, self.zone)

    # --- forecasts ----------------------------------------------------------------------------------------------------

    def complete(self, request: PlanRequest) -> PlanRequest:
        """With prices and forecasts, the error of which is added against us: load higher, sun lower."""
        now = request.now.utc
        self._see(now)
        if self.tariff is not None and self._prices_until is not None:
            known = self.tariff.within(now - PRICES_KEPT, self._prices_until)
            fed = () if known.feed_in is None else series(known.feed_in, now - DAY, now + PRICES_AHEAD)
            request = replace(
                request,
                prices=series(known.buy, now - DAY, now + PRICES_AHEAD),
                feed_in=fed,
                peak_price=known.peak_price_micro / MICRO,
            )
        return replace(
            request,
            load=self._load.forecast(now, now + FORECAST, self._load.error_w or 0, self._load_w(now)),
            pv=self._sun.forecast(now, now + FORECAST, -(self._sun.error_w or 0)),
            peak_w=max(request.peak_w, self._highest_w.get(self._month(now), 0)),
        )

    def _load_w(self, now: datetime) -> int | None:
        """As the meter shows it now."""
        kw = None if self.load is None else self.load.at(now)
        return None if kw is None else round(1000 * kw)

    def _see(self, now: datetime) -> None:
        """Learns the quarter hours that are over; what the files hold from before the start is known from then."""
        end = quarter_start(now)
        at = self._seen_until or end - LEARNT_FROM
        while at < end:
            for file, profile in ((self.load, self._load), (self.pv, self._sun)):
                kw = None if file is None else file.at(at)
                if kw is not None:
                    profile.learn(at, max(0, round(1000 * kw)))
            at += QUARTER
        self._seen_until = max(end, at)


def _entry(evse: EvseId, stay: Stay) -> RosterEntry:
    return RosterEntry(
        vehicle=stay.vehicle or stay.session,
        departs=stay.told_departure,
        energy_wh=None if stay.planned_kwh is None else round(1000 * stay.planned_kwh),
        arrives=stay.planned_return,
        evse=evse,
    )
