"""Days of a fleet with a duty plan: the stays, the files about them, and the same days through `depot demo` and
`depot simulate`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from controller.cli import demo_days, main
from controller.core.model import Moment
from controller.roster_file import read_csv
from controller.simulation.files import read_series, read_sessions
from drivers.sim.duty import DutyFleet, Stay, series_file, sessions_file, stays_of
from drivers.sim.evse import SimEvse
from drivers.sim.site import ZONE
from drivers.sim.vehicle import Vehicle

HERE = Path(__file__).parent
DEADLINE_S = 150.0  # real seconds; on a quiet machine it takes a tenth of that
BEGINS = demo_days.BEGINS
AMSTERDAM = ZoneInfo(ZONE)


class HandClock:
    def __init__(self, began: datetime = BEGINS) -> None:
        self.began, self.passed_s = began, 0.0

    def now(self) -> Moment:
        return Moment(self.passed_s, self.began + timedelta(seconds=self.passed_s), True)

    async def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


def stays(days: int = 7, seed: int = 1, began: datetime = BEGINS) -> list[Stay]:
    pairs = [
        (Vehicle(f"BUS-{n}", f"T{n}", 60_000.0, 0.3, max_a=16.0), SimEvse(f"CP{n}/1", 32.0)) for n in range(4)
    ]
    return stays_of(pairs, days, began, AMSTERDAM, seed)


def test_the_same_seed_is_the_same_week_and_every_bay_has_one_at_a_time() -> None:
    week = stays()
    told = [(stay.name, stay.arrives_s, stay.need_wh) for stay in week]
    assert told == [(stay.name, stay.arrives_s, stay.need_wh) for stay in stays()]
    assert told != [(stay.name, stay.arrives_s, stay.need_wh) for stay in stays(seed=2)]
    assert len({name for name, _, _ in told}) == len(told) >= 4 * 5
    for n in range(4):
        mine = [stay for stay in week if stay.vehicle.id == f"BUS-{n}"]
        assert all(one.leaves_s + 600 <= other.arrives_s for one, other in pairwise(mine))
        # it is back by night and out by day, but for the weekend
        assert all(stay.leaves_s - stay.arrives_s < 19 * 3600 for stay in mine[:4])


@pytest.mark.parametrize(
    "began", [datetime(2026, 10, 24, 14, tzinfo=AMSTERDAM), datetime(2028, 2, 28, 14, tzinfo=AMSTERDAM)]
)
def test_odd_nights_keep_their_clock(began: datetime) -> None:
    for stay in stays(2, began=began):
        back = (began.astimezone(ZoneInfo("UTC")) + timedelta(seconds=stay.back_s)).astimezone(AMSTERDAM)
        assert 15 <= back.hour <= 19


def test_the_roster_says_what_is_planned_until_it_is_known_better() -> None:
    clock = HandClock()
    week = stays()
    fleet = DutyFleet(clock, week)
    first = week[0]

    def roster() -> dict[str, list[tuple[int | None, bool]]]:
        reading = read_csv(fleet.duty_plan(), "UTC")
        assert reading.wrong == []
        told: dict[str, list[tuple[int | None, bool]]] = {}
        for _, entry in reading.found:
            told.setdefault(str(entry.vehicle), []).append((entry.energy_wh, entry.arrives is not None))
        return told

    before = roster()
    assert before[first.vehicle.id][0] == (round(first.planned_wh), True)
    assert sum(map(len, before.values())) == 8  # two nights lie within the next 36 hours
    clock.passed_s = first.arrives_s
    fleet.step(clock.passed_s)
    assert first.evse.vehicle is first.vehicle
    assert roster()[first.vehicle.id][0] == (round(first.need_wh), False)
    clock.passed_s = first.leaves_s
    fleet.step(clock.passed_s)
    assert first.evse.vehicle is None and [one.stay for one in fleet.outcomes] == [first]
    assert not fleet.outcomes[0].ready and fleet.outcomes[0].got_wh == 0.0


def test_a_vehicle_stops_when_it_has_what_it_needs() -> None:
    clock = HandClock()
    week = stays(1)
    fleet, stay = DutyFleet(clock, week), week[0]
    fleet.step(stay.arrives_s)
    stay.evse.energised = True
    for second in range(6 * 3600):
        stay.evse.step(1.0, stay.arrives_s + second)
    assert stay.evse.power_w == 0.0
    fleet.step(stay.leaves_s)
    (over,) = (one for one in fleet.outcomes if one.stay is stay)
    assert over.ready and over.got_wh == pytest.approx(stay.need_wh, abs=20.0)


def test_the_files_are_those_that_simulate_reads(tmp_path: Path) -> None:
    week, began = stays(), BEGINS.astimezone(ZoneInfo("UTC"))
    (tmp_path / "sessions.csv").write_text(sessions_file(week, began))
    (tmp_path / "pv.csv").write_text(series_file(lambda at_s: 1000.0 + at_s, began, 7200.0))
    read = read_sessions(tmp_path / "sessions.csv", AMSTERDAM)
    assert [(one.session, one.arrival, one.departure) for one in read] == [
        (one.name, began + timedelta(seconds=one.arrives_s), began + timedelta(seconds=one.leaves_s))
        for one in week
    ]
    assert read[0].energy_kwh == pytest.approx(week[0].need_wh / 1000) == read[0].declared_kwh
    assert read[0].planned_kwh == pytest.approx(week[0].planned_wh / 1000)
    sun = read_series(tmp_path / "pv.csv", "pv", AMSTERDAM, 0.0, 100.0)
    assert sun.values == pytest.approx([1.45 + 0.9 * n for n in range(8)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--days", "1"), "--plain"),
        (("--speed", "100"), "--plain"),
        (("--plain", "--keep", "x"), "--keep is for --days"),
        (("--plain", "--days", "1", "--for", "5s"), "ends by itself"),
    ],
)
def test_words_that_do_not_go_together(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *words]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.out == ""


def test_the_same_day_through_demo_and_simulate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--plain", "--chargers", "2", "--days", "1", "--speed", "1000", "--keep", str(tmp_path))
    lived = subprocess.run(
        [sys.executable, str(HERE / "short_days.py"), "demo", *words],
        capture_output=True, text=True, timeout=DEADLINE_S, cwd=HERE.parents[1],
    )  # fmt: skip
    assert lived.returncode == 0 and lived.stderr == "", lived.stderr
    told = lived.stdout
    files = [word for name in ("sessions", "load", "pv") for word in (f"--{name}", f"{tmp_path}/{name}.csv")]
    out = str(tmp_path / "rows.csv")
    assert f"depot simulate {tmp_path}/depot.toml {' '.join(files)} --out {out}" in told
    assert main(["simulate", f"{tmp_path}/depot.toml", *files, "--out", out, "--step", "20s", "--json"]) == 0
    foreseen = json.loads(capsys.readouterr().out)

    def figure(pattern: str) -> float:
        found = re.search(pattern, told)
        assert found is not None, told
        return float(found[1])

    assert figure(r"sessions +(\d+), ready") == foreseen["sessions"] == 2
    assert figure(r"ready at departure (\d+) ") == foreseen["ready"] == 2
    # the demo's stations stop what is within 50 Wh of its need
    assert figure(r"energy +(\S+) of") == pytest.approx(foreseen["delivered_kwh"], abs=0.15)
    assert figure(r"booked +(\S+) kWh") == pytest.approx(figure(r"energy +(\S+) of"), abs=0.01)
    assert foreseen["steps_above_limit"] == 0 and "longest above  0.0 s" in told
    assert re.findall(r"longest above +(\S+) s", told) == ["0.0", "0.0"]
    assert "horizon" in told and "alarms          none" in told
