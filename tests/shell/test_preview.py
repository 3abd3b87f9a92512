"""What an order would bring: over the socket, as a command, and against what the depot then really does."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, B1, B2, START, SmallDepot, caller

from controller.cli import main
from controller.core.events import DepartureSet, LinkDown, PauseWished
from controller.core.model import Departure, EvseId, StationId

# 60 A, less 10 A assumed, less 6 A for each who does not charge


async def ask(depot: SmallDepot, **args: object) -> Any:
    async with caller(depot.socket) as client:
        return await client.call("preview", **args)


async def charging(depot: SmallDepot, *evses: EvseId) -> None:
    for evse in evses:
        await depot.begin(evse, f"t-{evse}")
    await depot.clock.advance(60.0)
    await depot.until(lambda: all(granted(depot)[evse] for evse in evses))


def granted(depot: SmallDepot) -> dict[EvseId, int]:
    assert depot.runtime.snapshot is not None
    return {view.id: view.grant_ma or 0 for view in depot.runtime.snapshot.evses}


def leaves(hours: float, energy_wh: int) -> DepartureSet:
    return DepartureSet("ann", Departure("BUS-07", START + timedelta(hours=hours), energy_wh))


async def test_a_pause_tells_what_the_others_get_and_that_is_what_they_get(depot: SmallDepot) -> None:
    await charging(depot, A1, B1)
    before = granted(depot)
    told = await ask(depot, order="pause", evse="A")
    assert told["refused"] is None
    assert (told["now_a"], told["then_a"]) == (before[A1] / 1000, 0)
    (others,) = told["others"]
    assert others["circuit"] == "site" and others["more_a"] > 0
    assert told["text"][-1] == f"others get {others['more_a']:g} A more on site"
    assert granted(depot) == before, "asking changed nothing"
    async with caller(depot.socket) as client:
        await client.call("pause", evse=A1)
    then_ma = before[B1] + others["more_a"] * 1000
    await depot.until(lambda: (granted(depot)[A1], granted(depot)[B1]) == (0, then_ma))


async def test_a_limit_tells_both_sides_and_lifting_it_gives_it_back(depot: SmallDepot) -> None:
    await charging(depot, A1, B1, B2)
    lower = await ask(depot, order="limit", evse=A1, limit_ma=8_000)
    assert lower["then_a"] == 8
    assert lower["text"][0] == f"BUS-07 gets 8 A instead of {lower['now_a']:g} A, bound by operator limit"
    assert "operator limit" in lower["text"][0]
    assert lower["others"][0]["more_a"] > 0
    async with caller(depot.socket) as client:
        await client.call("limit", evse=A1, limit_ma=8_000)
    await depot.until(lambda: granted(depot)[A1] == 8_000)
    await depot.clock.advance(60.0)
    lifted = await ask(depot, order="limit", evse=A1, limit_ma=None)
    assert lifted["then_a"] > 8
    assert lifted["others"][0]["more_a"] < 0
    assert "A less on site" in lifted["text"][-1]


async def test_a_start_takes_from_the_others(depot: SmallDepot) -> None:
    await charging(depot, A1, B1)
    told = await ask(depot, order="start", evse=B2, limit_ma=10_000)
    assert (told["now_a"], told["then_a"]) == (0, 10)
    assert told["others"][0]["more_a"] < 0


async def test_a_stop_costs_the_bus_what_it_still_needs(depot: SmallDepot) -> None:
    await charging(depot, A1)
    await depot.runtime.report(leaves(hours=10, energy_wh=12_000))
    await depot.clock.advance(2.0)
    told = await ask(depot, order="stop", evse=A1)
    assert (told["less_wh"], told["short_wh"]) == (12_000, 12_000)
    assert "BUS-07 leaves at 05:00 with 12 kWh less, 12 kWh short of its need" in told["text"]
    assert told["departs"] == "2026-11-23T04:00:00Z"


async def test_a_limit_that_still_suffices_costs_nothing(depot: SmallDepot) -> None:
    await charging(depot, A1)
    await depot.runtime.report(leaves(hours=10, energy_wh=12_000))
    enough = await ask(depot, order="limit", evse=A1, limit_ma=6_000)  # 4.1 kW for ten hours
    assert (enough["less_wh"], enough["short_wh"]) == (0, 0)
    assert "BUS-07 leaves at 05:00 as planned" in enough["text"]
    await depot.runtime.report(leaves(hours=2, energy_wh=12_000))
    scarce = await ask(depot, order="limit", evse=A1, limit_ma=6_000)
    assert 3_700 < scarce["short_wh"] < 3_900, "two hours, a minute gone, at 6 A on three phases are 8.2 kWh"


@pytest.mark.parametrize(
    ("order", "args", "reason"),
    [("pause", {"evse": A1}, "no session is running"), ("resume", {"evse": B2}, "no session is running")],
)
async def test_what_would_be_refused_is_told_before(
    depot: SmallDepot, order: str, args: dict[str, object], reason: str
) -> None:
    told = await ask(depot, order=order, **args)
    assert told["refused"] == reason
    assert told["text"] == [f"it would be refused: {reason}"]


async def test_out_of_reach(depot: SmallDepot) -> None:
    await depot.runtime.report(LinkDown(StationId("A"), "wire", "gone"))
    await depot.clock.advance(2.0)
    assert (await ask(depot, order="start", evse=A1))["refused"] == "the station is offline"
    limit = await ask(depot, order="limit", evse=A1, limit_ma=8_000)
    assert limit["refused"] is None and limit["then_a"] is None
    assert "out of reach" in limit["text"][0]


async def test_a_departure_that_fits_one_that_does_not_and_one_of_nobody(depot: SmallDepot) -> None:
    soon = {"order": "depart", "target": "BUS-07", "at": "2026-11-22T20:00:00Z"}
    assert "is not here" in (await ask(depot, **soon, energy_wh=30_000))["text"][0]
    await charging(depot, A1)
    fits = await ask(depot, **soon, energy_wh=30_000)
    assert fits["short_wh"] == 0
    assert fits["text"][0].startswith("BUS-07 needs 30 kWh until 21:00: 15.")
    much = await ask(depot, **soon, energy_wh=90_000)
    assert much["short_wh"] > 40_000, "22 kW is all the bus takes"
    assert "that does not fit: it leaves at 21:00 with" in much["text"][1]
    unknown = await ask(depot, **soon, soc=80)
    assert "is not known" in unknown["text"][0]
    assert depot.runtime.depot.plan_request(depot.clock.now()).departures == {}
    await depot.runtime.report(PauseWished("o-9", "ann", A1))
    assert any(
        "paused by an operator" in line for line in (await ask(depot, **soon, energy_wh=9_000))["text"]
    )


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        ({}, "bad-request", "order must be one of start, stop"),
        ({"order": "flex"}, "bad-request", "order must be one of"),
        ({"order": ["stop"]}, "bad-request", "order must be one of"),
        ({"order": "stop"}, "unknown-evse", "depot status"),
        ({"order": "limit", "evse": A1}, "bad-request", "limit_ma"),
        ({"order": "depart", "target": A1, "at": "2026-11-22T17:00:00Z", "soc": 80}, "bad-request", "past"),
    ],
)
async def test_bad_questions(depot: SmallDepot, args: dict[str, object], code: str, part: str) -> None:
    async with caller(depot.socket) as client:
        said = await client.refusal("preview", **args)
    assert said[0] == code
    assert part in said[1]


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_tells_and_orders_nothing(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "B/1", "--preview", "--socket", str(live)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("the session of BUS-07 ends: ")
    assert out[-1] == "the others keep what they have"
    assert main(["limit", "B/1", "8 A", "--preview", "--json", "--socket", str(live)]) == 0
    assert json.loads(capsys.readouterr().out)["then_a"] == 8
    assert (
        main(["depart", "B/1", "--at", "05:30", "--energy", "9 kWh", "--preview", "--socket", str(live)]) == 0
    )
    capsys.readouterr()
    assert main(["resume", "A/1", "--preview", "--socket", str(live)]) == 1
    assert capsys.readouterr().out == "it would be refused: no session is running\n"
    assert main(["status", "--json", "--socket", str(live)]) == 0
    assert json.loads(capsys.readouterr().out)["orders"] == []


async def test_asking_is_cheap(depot: SmallDepot) -> None:
    """It runs between two steps: three EVSEs must not be felt."""
    await charging(depot, A1, B1, B2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(20):
        await ask(depot, order="pause", evse=A1)
    assert loop.time() - began < 2.0
