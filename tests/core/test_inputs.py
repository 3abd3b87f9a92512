"""External limits (row 38 of the field notes): applied within the deadline; loss is no release; 0 is never unlimited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import Audited, InputSaved, SetLimit
from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    GridLimit,
    Link,
    Moment,
    Site,
    StationId,
    each_phase,
)
from controller.core.wire import snapshot_from, status

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
ROW = CircuitId("row")
A1, B1 = EvseId("A/1"), EvseId("B/1")


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


class House:
    """Two vehicles that take what they are given, A below the limited row and B beside it."""

    def __init__(
        self, power_w: int = 9_000, on_loss: str = "limit", closed: bool = True, boot: str = "1"
    ) -> None:
        circuits = {
            SITE: Circuit(SITE, None, each_phase(100_000), None, each_phase(0)),
            ROW: Circuit(ROW, SITE, each_phase(63_000)),
        }
        evses = {
            name: Evse(name, StationId(name[0]), circuit, 32_000, 6_000, (0, 1, 2), 6_000, LINK)
            for name, circuit in ((A1, ROW), (B1, SITE))
        }
        limit = GridLimit("dso", ROW, power_w, "text", closed, 10.0, on_loss, 5.0)
        self.depot = Depot(Site("p", "UTC", 230_000, circuits, evses, grid_limits=(limit,)), boot)
        self.drawn_ma = dict.fromkeys(evses, 0)
        self.answers = True
        self.rows: list[Audited] = []
        self.saved: list[InputSaved] = []
        for name in evses:
            station = StationId(name[0])
            self.depot.apply(ev.LinkUp(station, "wire", "test"), at(0))
            self.depot.apply(ev.FallbackStored(name, "wire", 6_000), at(0))
            self.depot.apply(ev.StatusChanged(name, "wire", EvseState.CHARGING), at(0))
            self.depot.apply(ev.TransactionStarted(name, "wire", f"t{name}", None, 0, at(0).utc), at(0))

    def contact(self, second: float, closed: bool) -> bool:
        applied = self.depot.apply(ev.InputRead("dso", at(second).mono_s, closed), at(second))
        self.saved += [entry for entry in applied.entries if isinstance(entry, InputSaved)]
        return applied.urgent

    def run(self, first: int, last: int, closed: bool | None) -> Decision:
        """Seconds `first` to `last`, with the contact read each second, or silent."""
        for second in range(first, last + 1):
            if closed is not None:
                self.contact(second, closed)
            for name, current_ma in self.drawn_ma.items():
                sample = ev.EvseSample(
                    name, "wire", at(second).mono_s, each_phase(current_ma), current_ma * 690 // 1000
                )
                self.depot.apply(sample, at(second))
            decision = self.depot.step(at(second))
            self.rows += [
                e for e in decision.entries if isinstance(e, Audited) and e.what.startswith("grid-limit")
            ]
            for command in decision.commands:
                if isinstance(command, SetLimit) and self.answers:
                    self.depot.apply(ev.CommandSent(command.id), at(second))
                    self.depot.apply(ev.CommandAccepted(command.id), at(second))
                    self.drawn_ma[command.evse] = command.limit_ma
        return decision

    def granted_ma(self, decision: Decision, evse: EvseId = A1) -> int | None:
        return next(each.grant_ma for each in decision.snapshot.evses if each.id == evse)


def whats(house: House) -> list[str]:
    return [row.what for row in house.rows]


def test_a_contact_limits_what_is_below_its_circuit_and_nothing_else() -> None:
    house = House()
    free = house.run(1, 40, closed=False)
    assert house.granted_ma(free) == house.granted_ma(free, B1) == 32_000
    assert house.contact(41, closed=True)
    held = house.run(41, 60, closed=True)
    assert house.granted_ma(held) == 13_000  # 9 kW over three phases
    assert house.granted_ma(held, B1) == 32_000
    assert held.snapshot.evses[0].bound_by == "grid limit dso"
    (shown,) = held.snapshot.grid_limits
    assert (shown.signal, shown.holds, shown.power_w, shown.since) == ("on", "signal", 9_000, at(41).utc)
    assert snapshot_from(status(held.snapshot)).grid_limits == held.snapshot.grid_limits


def test_the_evidence_says_received_applied_measured() -> None:
    house = House()
    house.run(1, 40, closed=False)
    house.run(41, 60, closed=True)
    assert whats(house) == ["grid-limit", "grid-limit-evidence"]
    detail = house.rows[1].detail
    for word, second in (("received", 41), ("applied", 42), ("measured", 42)):
        assert f"{word} {at(second).utc.isoformat(timespec='milliseconds')}" in detail, (word, detail)
    assert detail.endswith("in time, 5 s allowed")
    assert {(row.by, row.subject) for row in house.rows} == {("grid_limit dso", "row")}
    released = house.run(61, 120, closed=False)
    assert whats(house)[2:] == ["grid-limit"]
    assert house.rows[2].detail.startswith("released")
    assert house.granted_ma(released) == 32_000
    assert house.saved == [InputSaved("dso", False), InputSaved("dso", True), InputSaved("dso", False)]


def test_stations_that_do_not_answer_make_it_late() -> None:
    house = House()
    house.run(1, 40, closed=False)
    house.answers = False
    late = house.run(41, 50, closed=True)
    assert [alarm.kind for alarm in late.snapshot.alarms] == ["grid-limit-late"]
    house.answers = True
    house.run(51, 200, closed=True)
    assert house.rows[-1].detail.endswith("late, 5 s allowed")


@pytest.mark.parametrize("on_loss", ["limit", "hold"])
def test_a_lost_signal_is_no_release(on_loss: str) -> None:
    house = House(on_loss=on_loss)
    house.run(1, 40, closed=False)
    house.run(41, 60, closed=True)
    lost = house.run(61, 400, closed=None)
    assert house.granted_ma(lost) == 13_000
    assert ("grid-input", 1) in [(alarm.kind, alarm.priority) for alarm in lost.snapshot.alarms]
    assert lost.snapshot.grid_limits[0].signal == "lost"


def test_a_signal_that_was_off_and_is_lost_frees_only_for_a_while() -> None:
    house = House()
    house.run(1, 40, closed=False)
    assert house.granted_ma(house.run(41, 50, closed=None)) == 32_000
    assert house.granted_ma(house.run(51, 60, closed=None)) == 13_000
    held = House(on_loss="hold")
    held.run(1, 40, closed=False)
    assert held.granted_ma(held.run(41, 300, closed=None)) == 32_000


def test_until_it_was_read_the_setting_says_what_holds() -> None:
    assert House().granted_ma(House().run(1, 40, closed=None)) is not None
    house, free = House(), House(on_loss="hold")
    assert house.granted_ma(house.run(1, 40, closed=None)) == 13_000
    assert free.granted_ma(free.run(1, 40, closed=None)) == 32_000


def test_a_restart_forgets_no_limit_that_was_on() -> None:
    house = House(on_loss="hold", boot="2")
    house.depot.apply(ev.InputRestored("dso", True), at(0))
    assert house.granted_ma(house.run(1, 100, closed=None)) == 13_000
    assert house.granted_ma(house.run(101, 140, closed=False)) == 32_000


def test_zero_is_zero() -> None:
    house = House(power_w=0)
    house.run(1, 40, closed=False)
    none = house.run(41, 100, closed=True)
    assert house.granted_ma(none) == 0
    assert house.drawn_ma == {A1: 0, B1: 32_000}


def test_an_open_contact_may_be_the_one_that_limits() -> None:
    house = House(closed=False)
    assert house.granted_ma(house.run(1, 40, closed=True)) == 32_000
    assert house.granted_ma(house.run(41, 60, closed=False)) == 13_000


def test_a_contact_that_bounces_releases_nothing_and_writes_one_row() -> None:
    house = House()
    house.run(1, 40, closed=False)
    for second in range(41, 101):
        house.run(second, second, closed=second % 2 == 1)
    assert house.drawn_ma[A1] == 13_000
    assert whats(house) == ["grid-limit", "grid-limit-evidence"]


def test_flexibility_and_the_contact_hold_together_by_the_lowest() -> None:
    house = House()
    house.run(1, 40, closed=False)
    house.depot.apply(ev.FlexWished("o1", "anna", SITE, 25, 3600.0), at(40))
    both = house.run(41, 60, closed=True)
    assert (house.granted_ma(both), house.granted_ma(both, B1)) == (8_000, 8_000)
    house.depot.apply(ev.FlexEnded("anna"), at(60))
    assert house.granted_ma(house.run(61, 90, closed=True)) == 13_000
