"""`depot simulate`: honest rows, no look ahead, one line for bad input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from simulation_auditor import Found, audit
from typed import typed

from controller.cli.simulate import _progress

CONFIG = Path(__file__).with_name("simulated_depot.toml")
DATA = Path(__file__).parents[1] / "data"
HEAD = "session,station,arrival,departure,energy_kwh,max_kw,phases"
# two nights: a tight row of three, one alone
NIGHTS = [
    "s1,A,2026-03-02T19:10:20,2026-03-03T03:00:40,30,11.04,3",
    "s2,B,2026-03-02T20:00:00,2026-03-03T02:00:00,25.5,11.04,3",
    "s3,C,2026-03-02T20:30:00,2026-03-02T23:45:00,25,22,3",
    "s4,D,2026-03-02T18:00:00,2026-03-03T02:30:00,12,7.4,1",
    "s5,A,2026-03-03T17:00:00,2026-03-03T21:00:00,8,3.7,1",
    "s6,C,2026-03-03T18:30:00,2026-03-03T21:30:00,20,22,3",
]
QUICK = ("--step", "15m")
PRICES = [
    f"2026-03-{day:02}T{hour:02}:00,{0.30 if 7 <= hour < 22 else 0.10}"
    for day in range(1, 6)
    for hour in range(24)
]


@dataclass
class Said:
    code: int
    out: str
    err: str
    rows: list[list[str]]

    @property
    def summary(self) -> dict[str, object]:
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


class Bench:
    """Files in a folder of their own, and `depot simulate` over them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.out = folder / "out.csv"
        self.sessions = folder / "sessions.csv"

    def file(self, name: str, lines: Sequence[str]) -> str:
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def run(
        self, rows: Sequence[str] = NIGHTS, *more: str, head: str = HEAD, prices: Sequence[str] | None = PRICES,
        config: Path = CONFIG,
    ) -> Said:  # fmt: skip
        self.file("sessions.csv", [head, *rows])
        priced = [] if prices is None else ["--prices", self.file("prices.csv", ["start,value", *prices])]
        return self.say(
            str(config),
            "--sessions",
            str(self.sessions),
            *priced,
            "--out",
            str(self.out),
            "--json",
            *QUICK,
            *more,
        )

    def say(self, *words: str) -> Said:
        code, out, err = typed(self.capsys, "simulate", *words)
        rows: list[list[str]] = []
        if code == 0:
            with self.out.open() as file:
                rows = list(csv.reader(file))
        return Said(code, out, err, rows)

    def audit(self, config: Path = CONFIG, step_s: float = 900) -> Found:
        return audit(config, self.sessions, self.out, step_s)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


# --- what comes out ---------------------------------------------------------------------------------------------


def test_rows_stand_up_to_an_auditor(bench: Bench) -> None:
    said = bench.run()
    assert said.rows[0] == ["time", "session", "station", "l1_a", "l2_a", "l3_a", "power_kw", "energy_kwh"]
    found = bench.audit()
    assert found.wrong == []
    summary = said.summary
    assert summary["sessions"] == 6 and summary["ready"] == 6
    assert summary["delivered_kwh"] == pytest.approx(sum(found.kwh.values()), abs=0.01)
    assert summary["requested_kwh"] == 120.5
    assert summary["steps_above_limit"] == 0
    assert summary["starts_per_session"] == pytest.approx(sum(found.starts.values()) / 6, abs=0.4)
    assert set(summary["plan_ms"]) == {"mean", "p95", "max"}  # type: ignore[call-overload]


def test_the_auditor_sees_what_is_wrong(bench: Bench) -> None:
    bench.run()
    lines = bench.out.read_text().splitlines()
    for wrong in (
        "2026-03-02T22:00:00,s1,A,16,16,16,11.0400,39.9",  # a leap of energy
        "2026-03-03T06:30:00,s1,A,6,6,6,0.0,40.0",  # it has left
        "2026-03-02T22:00:00,s3,C,5,5,5,0,0",  # below the minimum
        "2026-03-02T22:00:00,s3,C,6,0,0,9,0",  # draws more than it may
        "2026-03-02T22:00:00,s3,C,32,32,32,0,0",  # the row carries more than 32 A
    ):
        bench.out.write_text("\n".join([*lines, wrong]) + "\n")
        assert bench.audit().wrong


def test_cost_and_peak_are_those_of_the_rows(bench: Bench) -> None:
    said = bench.run()
    price = {line.split(",")[0][:13]: float(line.split(",")[1]) for line in PRICES}
    kw = bench.audit().kw
    cost = sum(price[time[:13]] * power / 4 for time, power in kw.items())
    assert said.summary["cost"] == pytest.approx(cost, abs=0.01)
    quarters: dict[datetime, float] = {}
    for time, power in kw.items():
        at = datetime.fromisoformat(time)
        at = at.replace(minute=at.minute // 15 * 15)
        quarters[at] = quarters.get(at, 0.0) + power
    assert said.summary["peak_kw"] == pytest.approx(max(quarters.values()), abs=0.01)


def test_cheap_hours_are_used(bench: Bench) -> None:
    """From ten on there is room for these two."""
    summary = bench.run([NIGHTS[0], NIGHTS[3]]).summary
    assert isinstance(summary["cost"], float) and isinstance(summary["delivered_kwh"], float)
    assert summary["ready"] == 2 and summary["cost"] / summary["delivered_kwh"] == pytest.approx(
        0.1, abs=0.01
    )


def test_negative_prices_draw_the_charge(bench: Bench) -> None:
    """The only EVSE of its site: nobody else may come for the good hour."""
    text = CONFIG.read_text()
    alone = bench.folder / "alone.toml"
    alone.write_text(
        text[: text.index("[circuit")]
        + text[text.index("[ocpp]") : text.index("[station.A")]
        + text[text.index("[station.D") :]
    )
    prices = [line.replace(",0.1", ",-0.05") if "T01:" in line else line for line in PRICES]
    said = bench.run([NIGHTS[3]], prices=prices, config=alone)
    at_one = [row for row in said.rows[1:] if "T01:" in row[0] and float(row[6]) > 7]
    assert len(at_one) == 4 and said.summary["ready"] == 1


@pytest.mark.parametrize("prices", [None, PRICES[:20]], ids=["none", "too few"])
def test_unknown_prices_make_no_cost(bench: Bench, prices: Sequence[str] | None) -> None:
    said = bench.run(prices=prices)
    assert said.code == 0 and said.summary["cost"] is None and said.summary["ready"] == 6


def test_the_page_for_people(bench: Bench) -> None:
    bench.run()
    said = bench.say(
        str(CONFIG), "--sessions", str(bench.sessions), "--out", str(bench.out), "--set", "site.limit=12 A"
    )
    assert (
        "sessions        6" in said.out
        and "not ready at departure" in said.out
        and "circuit site L1" in said.out
    )
    assert max(map(len, said.out.splitlines())) <= 80


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    begin = datetime(2026, 3, 1).astimezone()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _progress(begin, begin + timedelta(days=2)) as look:
        look(begin + timedelta(days=1))
    assert " 50 %" in capsys.readouterr().err


# --- what may be known ------------------------------------------------------------------------------------------


def test_the_same_twice(bench: Bench) -> None:
    assert bench.run().rows == bench.run().rows


@pytest.mark.parametrize("at", ["2026-03-02T20:10:00", "2026-03-03T00:00:00", "2026-03-03T18:00:00"])
def test_what_comes_later_changes_nothing_before(bench: Bench, at: str) -> None:
    whole = bench.run().rows
    cut = bench.run([row for row in NIGHTS if row.split(",")[2] < at]).rows
    assert [row for row in cut if row[0] < at] == [row for row in whole if row[0] < at]


def test_the_truth_behind_a_declaration_is_only_felt(bench: Bench) -> None:
    """Whatever the vehicles really need and whenever they really leave: the same rows until one of them does."""
    head = HEAD + ",declared_kwh,declared_departure"
    said = "20,2026-03-03T02:30:00"

    def night(energy: float, departure: str) -> list[list[str]]:
        rows = [
            f"s1,A,2026-03-02T17:10:00,{departure},{energy},11.04,3,{said}",
            f"{NIGHTS[1]},,",
            f"{NIGHTS[3]},,",
        ]
        return bench.run(rows, head=head).rows

    truth, lie = night(20, "2026-03-03T02:30:00"), night(14, "2026-03-03T01:10:00")
    full = next(row[0] for row in lie if row[1] == "s1" and float(row[7]) > 13.9)
    assert [row for row in lie[1:] if row[0] < full] == [row for row in truth[1:] if row[0] < full]
    assert lie != truth


def test_prices_of_tomorrow_are_known_from_one_o_clock(bench: Bench) -> None:
    """A vehicle that is there from noon on; the second day's prices decide, but not before 13:00."""
    rows = ["s1,A,2026-03-02T11:00:00,2026-03-03T08:00:00,60,11.04,3"]
    dear = bench.run(rows, prices=PRICES).rows
    cheap = bench.run(rows, prices=[p.replace(",0.3", ",0.01") if "-03T" in p else p for p in PRICES]).rows
    assert [r for r in dear if r[0] < "2026-03-02T13:00"] == [r for r in cheap if r[0] < "2026-03-02T13:00"]
    assert dear != cheap


def test_the_duty_plan_counts_before_the_vehicle_comes(bench: Bench) -> None:
    """It is dear until ten, and two who want all of the row are to come then: who is here does not wait for the others."""
    head = HEAD + ",planned_return,planned_kwh"
    first = "s1,A,2026-03-02T18:00:00,2026-03-03T02:00:00,40,11.04,3,,"
    other = "s{},{},2026-03-02T22:00:00,2026-03-03T02:00:00,{},11.04,3,{}"
    got: list[tuple[float, object]] = []
    for told in ((",", ","), ("2026-03-02T22:00:00,44", "2026-03-02T22:00:00,40")):
        rows = [first, other.format(2, "B", 44, told[0]), other.format(3, "C", 40, told[1])]
        said = bench.run(rows, head=head)
        early = [float(row[7]) for row in said.rows[1:] if row[1] == "s1" and row[0] < "2026-03-02T22:00"]
        got.append((max(early), said.summary["delivered_kwh"]))
    assert got[1][0] > 30, got


def test_what_a_vehicle_says_it_can_take_is_planned_with(bench: Bench) -> None:
    """One phase of three, 16 A of 32: six cheap hours are too few, as only the vehicle could tell."""
    row = "s1,C,2026-03-03T20:00:00,2026-03-04T04:00:00,25,3.68,1"
    assert bench.run([row]).summary["ready"] == 1


def test_a_vehicle_whose_power_is_told_charges_on_one_phase(bench: Bench) -> None:
    told = ("--set", 'vehicle.VAN={battery="40 kWh", max_power="3.7 kW", tokens=["04A2B3C4"]}')
    rows = ["s1,C,2026-03-02T20:00:00,2026-03-03T04:00:00,25,3.68,1,VAN"]
    summary = bench.run(rows, *told, head=HEAD + ",vehicle").summary
    assert (summary["ready"], summary["delivered_kwh"]) == (1, 25.0)


def test_a_month_has_one_highest_quarter_hour(bench: Bench) -> None:
    """What the first night cost is paid: the second is charged as fast as in the first, and not spread over it again."""
    path = bench.folder / "peak.toml"
    path.write_text(CONFIG.read_text() + """
[tariff]
currency = "EUR"
bands = [{ from = "00:00", to = "24:00", price = 0.2 }]
peak_price = 9.0
""")  # fmt: skip
    rows = ["s1,A,2026-03-02T20:00:00,2026-03-03T02:00:00,40,11.04,3",
            "s2,A,2026-03-03T20:00:00,2026-03-04T06:00:00,20,11.04,3"]  # fmt: skip
    said = bench.run(rows, prices=None, config=path)
    assert said.summary["ready"] == 2
    done = min(row[0] for row in said.rows[1:] if row[1] == "s2" and float(row[7]) > 19.9)
    assert done < "2026-03-04T00:00", "at the power of the first night: three hours, not ten"


# --- sites and series -------------------------------------------------------------------------------------------


def test_the_building_is_left_its_share(bench: Bench) -> None:
    load = bench.file(
        "load.csv",
        [
            "start,value",
            *(f"2026-03-{d:02}T{h:02}:00,{12 if h % 2 else 4}" for d in (2, 3, 4) for h in range(24)),
        ],
    )
    said = bench.run(NIGHTS, "--load", load)
    assert bench.audit().wrong == [] and said.summary["steps_above_limit"] == 0
    assert "no meter" in said.err
    for time, amps in bench.audit().amps.items():
        building = (12 if int(time[11:13]) % 2 else 4) / 0.69
        assert max(amps) + building <= 40, time


def test_the_quarter_hour_peak_is_kept(bench: Bench) -> None:
    """Of the config, by the register of the simulated meter: readings lie too far apart to be added up."""
    meter = '[meter.main]\nkind = "sdm630"\naddress = "tcp://10.0.4.20:502/1"\nrole = "grid"\n\n[circuit.row]'
    text = CONFIG.read_text().replace('"0 A"\n', '"0 A"\nmeter = "main"\npeak = "12 kW"\n', 1)
    config = bench.folder / "peak.toml"
    config.write_text(text.replace("[circuit.row]", meter, 1))
    summary = bench.run(NIGHTS[:2], "--step", "5m", config=config).summary
    assert isinstance(summary["peak_kw"], float) and 10 < summary["peak_kw"] <= 12.01
    assert isinstance(summary["met_pct"], float) and summary["met_pct"] > 85


def test_sun_lowers_cost_and_peak(bench: Bench) -> None:
    rows = ["s1,A,2026-03-02T08:00:00,2026-03-02T18:00:00,40,11.04,3"]
    sun = bench.file(
        "pv.csv",
        [
            "start,value",
            *(
                f"{d}T{h:02}:00,{9 if 11 <= h < 16 else 0}"
                for d in ("2026-03-01", "2026-03-02")
                for h in range(24)
            ),
        ],
    )
    dark, bright = bench.run(rows).summary, bench.run(rows, "--pv", sun).summary
    assert bright["ready"] == dark["ready"] == 1
    assert isinstance(bright["cost"], float) and isinstance(dark["cost"], float)
    assert bright["cost"] < 0.8 * dark["cost"]


STORE = """
[meter.main]
kind = "sdm630"
address = "tcp://10.0.4.20:502/1"
role = "grid"
[meter.bat]
kind = "sunspec-battery"
address = "tcp://10.0.4.40/1"
role = "battery"
[battery.store]
meter = "bat"
address = "tcp://10.0.4.40/1"
charge = "6 kW"
discharge = "6 kW"
capacity = "20 kWh"
"""


def with_battery(bench: Bench, more: str = "") -> Path:
    text = CONFIG.read_text().replace('"0 A"\n', f'"0 A"\nmeter = "main"\n{more}', 1)
    config = bench.folder / "store.toml"
    config.write_text(text + STORE)
    return config


def test_a_battery_is_filled_when_cheap_and_spent_when_dear(bench: Bench) -> None:
    days = ("2026-03-01", "2026-03-02", "2026-03-03")
    prices = [f"{day}T{h:02}:00,{0.1 if h < 12 else 0.5}" for day in days for h in range(24)]
    # what has to be charged in the afternoon, and more than the battery holds
    rows = ["s1,A,2026-03-02T06:00:00,2026-03-02T06:20:00,1,11.04,3",
            "s2,A,2026-03-02T13:00:00,2026-03-02T17:00:00,40,11.04,3"]  # fmt: skip
    plain = bench.run(rows, prices=prices).summary
    said = bench.run(rows, prices=prices, config=with_battery(bench))
    summary = said.summary
    assert summary["ready"] == plain["ready"] == 2 and summary["steps_above_limit"] == 0
    assert isinstance(summary["cost"], float) and isinstance(plain["cost"], float)
    # 20 kWh less losses and floor at 0.4 a kWh, from a battery that began half full
    assert 4.0 < plain["cost"] - summary["cost"] < 9.0
    assert bench.run(rows, prices=prices).summary["battery_kwh"] is None
    assert isinstance(summary["battery_kwh"], float) and -10.0 < summary["battery_kwh"] < 2.0


def test_a_battery_keeps_the_quarter_hour_where_vehicles_need_more(bench: Bench) -> None:
    rows = ["s1,A,2026-03-02T13:00:00,2026-03-02T15:00:00,20,11.04,3"]
    low = with_battery(bench, 'peak = "8 kW"\n')
    summary = bench.run(rows, "--step", "1m", config=low).summary
    assert isinstance(summary["peak_kw"], float) and summary["peak_kw"] <= 8.01
    assert isinstance(summary["delivered_kwh"], float) and summary["delivered_kwh"] > 17


def test_a_typical_year_is_moved(bench: Bench) -> None:
    begin = datetime.fromisoformat("2019-01-01")
    load = bench.file(
        "load.csv", ["start,value", *(f"{(begin + timedelta(hours=n)).isoformat()},5" for n in range(8760))]
    )
    said = bench.run([NIGHTS[2]], "--load", load)
    assert said.code == 0 and "load: the file is of 20" in said.err


@pytest.mark.parametrize(("night", "hours"), [("2026-03-28", 7), ("2026-10-24", 9)], ids=["short", "long"])
def test_the_nights_on_which_the_clock_changes(bench: Bench, night: str, hours: int) -> None:
    day = datetime.fromisoformat(night)
    after = (day + timedelta(days=1)).date()
    rows = [f"s1,A,{night}T22:00:00,{after}T06:00:00,40,11.04,3"]
    prices = [f"{d}T{h:02}:00,0.2" for d in (night, after) for h in range(24)]
    said = bench.run(rows, prices=prices)
    assert len(said.rows) - 1 == 4 * hours
    assert said.summary["ready"] == 1 and said.summary["delivered_kwh"] == 40


def test_a_vehicle_that_finds_its_evse_taken_waits(bench: Bench) -> None:
    rows = [
        NIGHTS[3],
        "s9,D,2026-03-03T01:00:00,2026-03-03T05:00:00,8,7.4,1",
        "s8,D,2026-03-02T20:00:00,2026-03-03T01:00:00,8,7.4,1",
    ]
    said = bench.run(rows)
    assert bench.audit().wrong == []
    assert said.summary["waited"] == 2 and said.summary["not_plugged_in"] == 1 and said.summary["ready"] == 2
    assert min(row[0] for row in said.rows[1:] if row[1] == "s9") == "2026-03-03T02:30:00"


# --- what if ----------------------------------------------------------------------------------------------------


def test_another_limit(bench: Bench) -> None:
    fine = bench.run().summary
    tight = bench.run(NIGHTS, "--set", "site.limit=12 A", "--set", 'circuit.row.limit="10 A"').summary
    assert (
        isinstance(tight["ready"], int) and isinstance(fine["ready"], int) and tight["ready"] < fine["ready"]
    )
    assert isinstance(tight["peak_kw"], float) and tight["peak_kw"] <= 12 * 0.69 + 0.01


def test_another_tariff(bench: Bench) -> None:
    bands = 'tariff={ currency = "EUR", bands = [{ from = "00:00", to = "24:00", price = 0.5 }] }'
    summary = bench.run(NIGHTS, "--set", bands, prices=None).summary
    assert isinstance(summary["delivered_kwh"], float)
    assert summary["cost"] == pytest.approx(summary["delivered_kwh"] / 2, abs=0.01)


def test_added_vehicles(bench: Bench) -> None:
    said = bench.run(NIGHTS, "--add-vehicles", "2", "--seed", "3")
    assert said.summary["sessions"] in (8, 9, 10)
    other = bench.run(NIGHTS, "--add-vehicles", "2", "--seed", "4").rows
    assert said.rows != other
    assert {row[2] for row in said.rows[1:]} >= {"ADDED1", "ADDED2"}


def test_assigned_to_whatever_is_free(bench: Bench) -> None:
    rows = [f"s{n},X{n},2026-03-02T20:00:00,2026-03-03T03:00:00,5,7.4,1" for n in range(5)]
    summary = bench.run(rows, "--assign").summary
    assert (summary["sessions"], summary["ready"], summary["waited"]) == (5, 4, 1)


@pytest.mark.parametrize("step", ["20s", "1m"])
def test_other_steps(bench: Bench, step: str) -> None:
    said = bench.run([NIGHTS[2]], "--step", step)
    assert bench.audit(step_s={"20s": 20, "1m": 60}[step]).wrong == []
    assert said.summary["ready"] == 1


def test_a_vehicle_at_a_dc_output(bench: Bench) -> None:
    """Its amps are those of the supply, counted with losses; the vehicle sets the power."""
    config = bench.folder / "dc.toml"
    config.write_text(
        CONFIG.read_text()
        + '[station.F]\ncircuit = "site"\nfallback = "0 A"\nocpp = { allow_insecure = true }\n'
        + 'evse.1 = { max_power = "20 kW", phases = "L1 L2 L3", current = "dc" }\n'
    )
    said = bench.run(["s1,F,2026-03-02T20:00:00,2026-03-02T23:00:00,30,15,3"], config=config)
    assert said.summary["ready"] == 1 and said.summary["steps_above_limit"] == 0
    assert max(float(row[6]) for row in said.rows[1:]) == pytest.approx(15, abs=0.01)


def test_some_days_of_a_file(bench: Bench) -> None:
    assert bench.run(NIGHTS, "--days", "1").summary["sessions"] == 4
    assert bench.run(NIGHTS, "--start", "2026-03-03").summary["sessions"] == 2


# --- real sessions ----------------------------------------------------------------------------------------------


def depot_of(folder: Path, name: str, share: float) -> Path:
    """A config for the stations of a data file."""
    with (DATA / f"{name}.csv").open() as file:
        stations = {
            row["station"]: (float(row["max_kw"]), int(row["phases"])) for row in csv.DictReader(file)
        }
    total, parts = [0, 0, 0], []
    for number, (station, (kw, phases)) in enumerate(sorted(stations.items())):
        amps, on = int(kw * 1000 / 230 / phases + 0.5), [0, 1, 2] if phases == 3 else [number % 3]
        for n in on:
            total[n] += amps
        wired = " ".join(f"L{n + 1}" for n in on)
        parts.append(
            f'[station.{station}]\ncircuit = "site"\nfallback = "0 A"\nocpp = {{ allow_insecure = true }}\n'
            f'evse.1 = {{ max = "{amps} A", min = "6 A", phases = "{wired}" }}\n'
        )
    limit = [f"{int(share * amps)} A" for amps in total]
    site = f'[site]\nname = "{name}"\ntimezone = "UTC"\nlimit = {json.dumps(limit)}\nassumed_load = "0 A"\n[ocpp]\nlisten = "127.0.0.1:0"\n'
    path = folder / f"{name}.toml"
    path.write_text("\n".join([site, *parts]))
    return path


@pytest.mark.parametrize(
    ("name", "share", "start", "met", "ready"),
    [("vans_30", 0.25, "2019-03-05", 85, 65), ("workplace", 0.25, "2020-02-11", 85, 75)],
)
def test_a_day_of_real_sessions(
    bench: Bench, name: str, share: float, start: str, met: int, ready: int
) -> None:
    config = depot_of(bench.folder, name, share)
    bench.sessions.write_text((DATA / f"{name}.csv").read_text())
    words = (str(config), "--sessions", str(bench.sessions), "--out", str(bench.out), "--json", *QUICK)
    summary = bench.say(
        *words, "--start", start, "--days", "1", "--prices", str(DATA / "prices_2019.csv")
    ).summary
    assert bench.audit(config).wrong == []
    assert summary["steps_above_limit"] == 0 and summary["plans_by_rules"] == 0
    assert isinstance(summary["met_pct"], float) and summary["met_pct"] >= met
    assert isinstance(summary["ready_pct"], float) and summary["ready_pct"] >= ready
    assert isinstance(summary["starts_per_session"], float) and summary["starts_per_session"] <= 2


# --- bad input --------------------------------------------------------------------------------------------------

GOOD = NIGHTS[0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "is empty"),
        ([HEAD], "no session in it"),
        (["a,b"], 'column "session" is missing'),
        ([HEAD.replace("station", "statoin"), GOOD], 'did you mean "statoin"'),
        ([HEAD.replace(",", ";")], "separated by commas"),
        ([HEAD, GOOD.replace("2026-03-02T19", "yesterday")], ":2: arrival"),
        ([HEAD, GOOD.replace(",30,", ",-1,")], ":2: energy_kwh"),
        ([HEAD, GOOD.replace(",30,", ",nan,")], ":2: energy_kwh"),
        ([HEAD, GOOD.replace(",30,", ",,")], "energy_kwh is empty"),
        ([HEAD, GOOD.replace("03-03T03", "03-01T06")], "departure lies before arrival"),
        ([HEAD, GOOD.replace("2026-03-03", "0001-01-01")], ":2: departure"),
        ([HEAD, GOOD, GOOD], "stands in line 2 already"),
        ([HEAD, GOOD + ",1,2,3"], "more cells"),
        ([HEAD, GOOD.replace(",A,", ",a1,")], 'station "a1" of the sessions is not in the config'),
        ([HEAD, GOOD.replace(",3", ",7")], ":2: phases"),
        ([HEAD, '"' + GOOD], "energy_kwh is empty"),
    ],
)
def test_bad_sessions(bench: Bench, lines: Sequence[str], told: str) -> None:
    said = bench.run(lines[1:], head=lines[0] if lines else "")
    assert said.code == 1 and told in said.err and said.out == ""
    assert all(line.startswith("depot: ") for line in said.err.splitlines())


@pytest.mark.parametrize(
    ("words", "wrong", "told"),
    [
        (("--sessions", "nowhere.csv"), 1, "cannot be read"),
        (("--prices", "nowhere.csv"), 1, "cannot be read"),
        (("--load", str(CONFIG)), 1, "is missing"),
        (("--out", "/nowhere/out.csv"), 1, "cannot be written"),
        (("--set", "site.limit"), 2, "write it like"),
        (("--set", "site.limit=40 V"), 1, "site.limit"),
        (("--set", "site.limt=40 A"), 1, "unknown key"),
        (("--start", "tomorrow"), 2, "is not a time"),
        (("--start", "2031-01-01"), 1, "no session arrives"),
    ],
)
def test_bad_words(bench: Bench, words: Sequence[str], wrong: int, told: str) -> None:
    said = bench.run(NIGHTS, *words)
    assert said.code == wrong and told in said.err


@pytest.mark.parametrize(
    "words", [("--step", "7m"), ("--step", "0s"), ("--days", "0"), ("--add-vehicles", "x"), ("--seed", "x")]
)
def test_wrong_use(bench: Bench, words: Sequence[str]) -> None:
    assert bench.run(NIGHTS, *words).code == 2


def test_binary_sessions(bench: Bench) -> None:
    bench.sessions.write_bytes(b"\xff\xfe\x00s")
    said = bench.say(str(CONFIG), "--sessions", str(bench.sessions), "--out", str(bench.out))
    assert said.code == 1 and "not UTF-8" in said.err


def test_more_than_ten_mistakes_are_counted(bench: Bench) -> None:
    said = bench.run([GOOD.replace("s1", f"s{n}").replace(",30,", ",x,") for n in range(15)])
    assert len(said.err.splitlines()) == 11 and "and 5 more" in said.err
