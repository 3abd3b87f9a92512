"""`depot plan` over the socket and on paper: 80 columns, Unicode and ASCII, with and without a horizon."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, B1, START, caller, small_depot

from controller.cli import main
from controller.cli.plan import WIDTH, plan_lines
from controller.core.events import DepartureSet, TariffRead
from controller.core.model import Departure
from controller.core.tariff import Band, Rates, Tariff
from controller.outlook import Outlook
from controller.planner.worker import PlanWorker
from ui import night
from ui.format import ASCII, UNICODE

NIGHT = Rates("Europe/Amsterdam", (Band(420, 1380, 310_000), Band(1380, 420, 200_000)))


def ends_at(hours: float, energy_wh: int = 30_000, target: str = "BUS-07") -> DepartureSet:
    return DepartureSet("ann", Departure(target, START + timedelta(hours=hours), energy_wh))


async def test_the_plan_over_the_socket(tmp_path: Path) -> None:
    async with small_depot(tmp_path, planner=PlanWorker().plan) as depot:
        loop = depot.runtime.planning
        loop.complete = Outlook(depot.runtime.depot, depot.clock, depot.storage, lambda: None).complete
        await depot.connect_stations()
        await depot.runtime.report(TariffRead(Tariff("EUR", NIGHT)))
        await depot.runtime.report(ends_at(14))
        await depot.begin(A1)
        await depot.until(lambda: loop.newest is not None and A1 in loop.newest[1].evses_w)
        async with caller(depot.socket) as console:
            document = await console.call("plan")
    assert (document["by"], document["currency"], document["timezone"]) == (
        "horizon",
        "EUR",
        "Europe/Amsterdam",
    )
    (vehicle,) = document["evses"]
    assert (vehicle["evse"], vehicle["vehicle"], vehicle["asked_wh"]) == (A1, "BUS-07", 30_000)
    assert vehicle["planned_wh"] == pytest.approx(30_000, rel=0.01)
    assert vehicle["short_wh"] == 0
    assert len(document["slots"]) == len(document["site_w"]) + 1 == len(document["price_per_kwh"]) + 1
    assert set(document["price_per_kwh"]) == {0.31, 0.2}
    assert set(document["load_w"]) == set(document["site_w"]) == {None}, (
        "nobody knows the building's load yet"
    )
    cheap = [
        watts
        for watts, price in zip(vehicle["power_w"], document["price_per_kwh"], strict=True)
        if price == 0.2
    ]
    assert sum(cheap) > 0.95 * sum(vehicle["power_w"]), "it waits for the night"


# --- on paper -------------------------------------------------------------------------------------------------------------


def hours(values: list[float]) -> dict[str, Any]:
    slots = [datetime(2026, 11, 22, 18, tzinfo=UTC) + timedelta(hours=n) for n in range(len(values) + 1)]
    return {"slots": [at.isoformat().replace("+00:00", "Z") for at in slots]}


def vehicle(**changed: Any) -> dict[str, Any]:
    return {
        "evse": "CP001/1",
        "vehicle": "BUS-07",
        "departs": "2026-11-23T02:30:00Z",
        "planned_wh": 22_000,
        "short_wh": 0,
        "ready_pct": None,
        "why": "plan",
        "binds": None,
        "power_w": [11_000, 0, 0, 0, 11_000, 0, 0, 0, 0, 0],
        "best_remedy": None,
    } | changed


def document(*vehicles: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return (
        {
            "timezone": "Europe/Amsterdam",
            "currency": "EUR",
            "made": "2026-11-22T18:00:00Z",
            "by": "horizon",
            "why": "",
            "site_w": [15_000, 4_000, 4_000, 4_000, 15_000, 4_000, 4_000, 4_000, 4_000, 4_000],
            "limit_w": 41_000,
            "price_per_kwh": [0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2, None, None],
            "evses": list(vehicles),
            "expected": [],
            "load_error_w": 1_500,
        }
        | hours([0] * 10)
        | changed
    )


def test_a_vehicle_is_a_bar_to_its_departure() -> None:
    lines = plan_lines(document(vehicle()), UNICODE)
    assert lines[0] == "plan of 2026-11-22 19:00, by the horizon: 22.0 kWh for about 5.50 EUR"
    (row,) = [line for line in lines if line.startswith("BUS-07")]
    bar = row[19:60]
    assert bar.rstrip() == "████············████··············│"
    assert row.split()[-3:] == ["03:30", "22.0", "yes"]
    assert "19" in lines[2] and lines[2].index("19") == 19
    assert any(line.startswith("price") and line.endswith("0.20-0.30") for line in lines)
    assert any("limit 41 kW" in line for line in lines)


def test_who_goes_short_is_told_why_and_what_helps_for_how_much() -> None:
    best = {"kind": "circuit", "text": "10 A more on row_b", "gain_wh": 4_000, "cost": 1.2}
    short = vehicle(short_wh=4_200, binds="circuit row_b is full", best_remedy=best)
    lines = plan_lines(document(short), UNICODE)
    at = next(n for n, line in enumerate(lines) if line.startswith("BUS-07"))
    assert lines[at].endswith("NO")
    assert lines[at + 1 : at + 3] == [
        "  4.2 kWh short: circuit row_b is full",
        "  what would help: 10 A more on row_b brings 4.0 kWh for 1.20 EUR",
    ]


def test_what_the_charger_holds_of_it_or_why_it_does_not() -> None:
    until = "2026-11-21T05:30:00Z"
    lines = plan_lines(document(vehicle(stored_until=until), vehicle(not_stored="it has no room")), UNICODE)
    assert "  stored in the charger until 06:30" in lines
    assert "  not stored in the charger: it has no room" in lines


def test_feeding_back_learnt_readiness_and_expected_vehicles() -> None:
    guest = {
        "evse": "CP002/1",
        "vehicle": None,
        "arrives": "2026-11-22T20:00:00Z",
        "departs": "2026-11-23T05:00:00Z",
        "energy_wh": 18_000,
        "weight_pct": 80,
    }
    lending = vehicle(ready_pct=93, power_w=[-5_000, 11_000, 11_000, *[0] * 7])
    text = "\n".join(plan_lines(document(lending, expected=[guest]), UNICODE))
    assert "vvvv████████" in text
    assert "93 %" in text
    assert "expected: CP002/1 Sun 21:00 to Mon 06:00, 18 kWh, 80 % sure" in text


def test_ascii_where_the_terminal_knows_no_more() -> None:
    short = vehicle(short_wh=4_200, binds="x", vehicle="A very long name of a bus that does not end")
    lines = plan_lines(document(short, vehicle()), ASCII)
    assert all(line.isascii() for line in lines)
    assert all(len(line) <= WIDTH for line in lines)
    assert any("~" in line for line in lines)


@pytest.mark.parametrize("slots", [2, 30, 200, 400])
def test_any_horizon_fits_into_80_columns(slots: int) -> None:
    n = slots
    many = hours([0.0] * n) | {"site_w": [40_000] * n, "price_per_kwh": [0.1] * n}
    lines = plan_lines(document(vehicle(power_w=[11_000] * n, departs=None), **many), UNICODE)
    assert all(len(line) <= WIDTH for line in lines)


def test_rules_have_no_bars() -> None:
    lines = plan_lines(
        document(
            vehicle(power_w=[]), vehicle(departs=None), by="rules", why="the solver still hangs", slots=[]
        ),
        UNICODE,
    )
    assert lines[0].startswith("plan of 2026-11-22 19:00, by rules")
    assert lines[1] == "  the solver still hangs"
    assert lines[2] == "BUS-07 CP001/1     leaves Mon 03:30  plan"
    assert lines[3] == "BUS-07 CP001/1     no departure known  plan"


def test_unknown_prices_make_no_sum() -> None:
    late = vehicle(power_w=[*[0] * 8, 1_000, 0])
    assert "EUR" not in plan_lines(document(late), UNICODE)[0]
    assert "EUR" not in plan_lines(document(vehicle(), currency=None), UNICODE)[0]


def test_before_the_first_plan() -> None:
    empty: dict[str, Any] = {
        "timezone": "UTC",
        "currency": None,
        "made": None,
        "by": None,
        "why": "no plan yet",
        "evses": [],
    }
    assert plan_lines(empty, UNICODE) == ["no plan yet", "no vehicle is charging"]


def test_the_command_asks_a_running_depot(
    live: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPOT_SOCKET", str(live))
    assert main(["plan", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["by"], [each["evse"] for each in shown["evses"]]) == ("rules", [B1])
    assert main(["plan"]) == 0
    assert "B/1" in capsys.readouterr().out
    assert main(["plan", "--socket", str(live) + ".no"]) == 3


def test_while_the_load_is_not_known_the_chart_is_of_the_chargers() -> None:
    unknown = document(vehicle(), vehicle(evse="CP002/1"), site_w=[None] * 10)
    page = "\n".join(plan_lines(unknown, UNICODE))
    assert "chargers     22 kW ████" in page and "limit" not in page and "highest 22 kW" in page
    rows = night.compared(unknown, unknown)
    assert not [row for row in rows if row.startswith("peak")], "what nobody knows is left away"
    assert [
        row
        for row in night.compared(unknown, document(vehicle()))
        if row.split() == ["peak", "-", "15.0", "kW"]
    ]
