"""The roster over socket and command line: whole files, restarts, and a new plan as soon as something changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, B1, START, SmallDepot, caller, small_depot, turns
from typed import Said, typed

from controller.cli import looks
from controller.core.commands import SessionSaved, StaySaved
from controller.core.events import (
    DepartureSet,
    EvseSample,
    RosterSet,
    SocTold,
    StatusChanged,
    TransactionEnded,
)
from controller.core.model import Departure, EvseState, Plan, StationId, VehicleId, each_phase
from controller.core.planning import PlanRequest
from controller.core.roster import RosterEntry
from controller.learning import Learning
from controller.planner import rules
from controller.roster_calls import MOST_CHARACTERS, UPLOADS
from controller.roster_store import finished_stays
from tests.audit_rows import audit_tail

HEAD = "vehicle,departs,energy,soc,arrives,returns,evse,block\n"
MONDAY = "BUS-07,2026-11-23T05:30,30 kWh,,,2026-11-23T18:10,A/1,L1-12\n"
TUESDAY = "BUS-07,2026-11-24T05:30,,80 %,,,,\n"


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[SmallDepot]:
    async with small_depot(tmp_path) as opened:
        yield opened


async def send(depot: SmallDepot, text: str, file: str = "week.csv", size: int = 50, **more: object) -> Any:
    """In pieces of `size` characters."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    said: Any = None
    async with caller(depot.socket) as client:
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            said = await client.call(
                "roster-import", file=file, upload="u", piece=number, text=piece, last=last, **more
            )
    return said


# --- calls --------------------------------------------------------------------------------------------------------


async def test_a_file_in_pieces_is_taken_whole(depot: SmallDepot) -> None:
    assert await send(depot, HEAD + MONDAY + TUESDAY) == {
        "added": 2,
        "replaced": 0,
        "entries": 2,
        "notes": [],
    }
    async with caller(depot.socket) as client:
        listed = await client.call("roster")
    assert listed["turns"][0] == {
        "vehicle": "BUS-07",
        "known": True,
        "departs": "2026-11-23T04:30:00Z",
        "energy_wh": 30000,
        "soc": None,
        "arrives": None,
        "returns": "2026-11-23T17:10:00Z",
        "evse": "A/1",
        "block": "L1-12",
    }
    assert (listed["more"], listed["entries"], len(listed["turns"])) == (False, 2, 2)


async def test_one_mistake_keeps_all_of_it_out(depot: SmallDepot) -> None:
    await send(depot, HEAD + MONDAY)
    async with caller(depot.socket) as client:
        bad = {"file": "week.csv", "upload": "u", "piece": 0, "last": True, "replace": True}
        code, text = await client.refusal("roster-import", text=HEAD + TUESDAY + "X,nonsense,,,,,,\n", **bad)
        assert (code, text.splitlines()) == (
            "bad-roster",
            ['week.csv:3: departs: "nonsense" is not a time; write it like 2026-11-23T05:30'],
        )
        assert len((await client.call("roster"))["turns"]) == 1


async def test_a_calendar_repeats_and_is_listed_for_a_week(depot: SmallDepot) -> None:
    event = "DTSTART:20261123T053000\nRRULE:FREQ=DAILY\nSUMMARY:BUS-07 30 kWh\n"
    text = f"BEGIN:VCALENDAR\nBEGIN:VEVENT\n{event}END:VEVENT\nEND:VCALENDAR\n"
    assert (await send(depot, text, "Depot.ICS"))["entries"] == 1
    async with caller(depot.socket) as client:
        assert len((await client.call("roster"))["turns"]) == 7
        assert await client.call("roster-clear") == {"cleared": 1}
        assert (await client.call("roster"))["turns"] == []


async def test_pieces_that_do_not_follow_and_files_too_large(depot: SmallDepot) -> None:
    piece: dict[str, Any] = {"file": "a.csv", "last": False, "text": "x"}
    async with caller(depot.socket) as client:
        assert (await client.refusal("roster-import", upload="u", **piece, number=1))[0] == "bad-request"
        assert "begin again" in (await client.refusal("roster-import", upload="u", piece=1, **piece))[1]
        assert await client.call("roster-import", upload="u", piece=0, **piece) == {"pieces": 1}
        for other in range(UPLOADS):
            await client.call("roster-import", upload=f"v{other}", piece=0, **piece)
        assert "begin again" in (await client.refusal("roster-import", upload="u", piece=1, **piece))[1]
        large = {**piece, "text": "x" * 50_000}
        number = 0
        while number * 50_000 < MOST_CHARACTERS:
            await client.call("roster-import", upload="w", piece=number, **large)
            number += 1
        assert "split it" in (await client.refusal("roster-import", upload="w", piece=number, **large))[1]


@pytest.mark.parametrize(
    ("call", "args", "code"),
    [
        ("roster-import", {}, "bad-request"),
        (
            "roster-import",
            {"file": "a.xls", "upload": "u", "piece": 0, "text": "", "last": True},
            "bad-request",
        ),
        (
            "roster-import",
            {"file": "a.csv", "upload": "u", "piece": True, "text": "", "last": True},
            "bad-request",
        ),
        (
            "roster-import",
            {"file": "a.csv", "upload": "u", "piece": 0, "text": "", "last": True},
            "bad-roster",
        ),
        ("roster", {"skip": -1}, "bad-request"),
        ("roster", {"skip": "x"}, "bad-request"),
        ("soc", {"target": "A/1", "soc": 101}, "bad-request"),
        ("soc", {"target": "A/1", "soc": True}, "bad-request"),
        ("soc", {"target": "X", "soc": 50}, "unknown"),
        ("soc", {"target": "BUS-07", "soc": 50}, "no-session"),
    ],
)
async def test_calls_that_say_nothing_useful(depot: SmallDepot, call: str, args: Any, code: str) -> None:
    async with caller(depot.socket) as client:
        assert (await client.refusal(call, **args))[0] == code


# --- restarts -----------------------------------------------------------------------------------------------------


async def test_roster_and_told_charge_survive_a_restart_and_stand_in_the_audit(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot:
        await depot.connect_stations()
        await depot.begin(A1)
        await send(depot, HEAD + MONDAY)
        async with caller(depot.socket) as client:
            said = await client.call("soc", target="BUS-07", soc=55)
            assert (said["evse"], said["soc"], said["battery_wh"]) == (A1, 55, 94_000)
        tail = await audit_tail(depot.runtime.ledger, 9)
        told = {(row["what"], row["detail"]) for row in tail}
        assert {("roster-set", "week.csv: 1 entries"), ("soc-told", "55 %")} <= told
        assert await depot.runtime.ledger.verify_audit() is None
    async with small_depot(tmp_path) as depot:
        request = depot.runtime.depot.plan_request(depot.clock.now())
        assert request.departures["BUS-07"] == Departure(
            "BUS-07", datetime(2026, 11, 23, 4, 30, tzinfo=UTC), 30_000
        )
        assert [present.soc for present in request.present] == [55]
        async with caller(depot.socket) as client:
            assert await client.call("roster-clear") == {"cleared": 1}
    async with small_depot(tmp_path) as depot:
        assert depot.runtime.depot.agenda.entries == ()


# --- a new plan ---------------------------------------------------------------------------------------------------


class Asked:
    """A planner that writes down when it was asked, and for what."""

    def __init__(self) -> None:
        self.requests: list[PlanRequest] = []

    def __call__(self, request: PlanRequest) -> Plan:
        self.requests.append(request)
        return rules.plan(request)


def unplugged(evse: str, at: datetime) -> TransactionEnded:
    return TransactionEnded(StationId(evse[0]), A1 if evse == A1 else B1, "t1", "EVDisconnected", 100, at)


CHANGES: dict[str, Callable[[SmallDepot], Any]] = {
    "ordered": lambda d: d.runtime.report(
        DepartureSet("anna", Departure(A1, d.clock.now().utc + HOUR, 9_000))
    ),
    "roster": lambda d: d.runtime.report(
        RosterSet("anna", (RosterEntry("BUS-07", d.clock.now().utc + HOUR, 9_000),))
    ),
    "soc": lambda d: d.runtime.report(SocTold("anna", A1, 40)),
    "unplugged": lambda d: d.runtime.report(unplugged(A1, d.clock.now().utc)),
    "swapped": lambda d: swapped(d),
}
HOUR = timedelta(hours=1)


async def swapped(depot: SmallDepot) -> None:
    await depot.runtime.report(unplugged(A1, depot.clock.now().utc))
    await depot.runtime.report(StatusChanged(A1, "wire", EvseState.AVAILABLE))
    await depot.begin(B1, "t2")


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changes_is_planned_for_within_5_s(tmp_path: Path, change: str) -> None:
    asked = Asked()
    async with small_depot(tmp_path, planner=asked) as depot:
        await depot.connect_stations()
        await depot.begin(A1)
        await depot.clock.advance(20.0)
        before, since = asked.requests[-1], depot.clock.now().mono_s
        await CHANGES[change](depot)

        def planned() -> bool:
            newest = asked.requests[-1]
            if change == "swapped":
                return [(each.evse, each.vehicle) for each in newest.present] == [(B1, "BUS-07")]
            return (newest.present, newest.departures) != (before.present, before.departures)

        await depot.until(planned)
        assert asked.requests[-1].now.mono_s - since <= 5.0


async def test_a_departure_of_the_roster_comes_with_its_time(tmp_path: Path) -> None:
    """Late: it stays; once it should be back the next one counts, without anybody doing anything."""
    asked = Asked()
    first, second = START + timedelta(minutes=2), START + timedelta(hours=8)
    async with small_depot(tmp_path, planner=asked) as depot:
        trip = RosterEntry("BUS-07", first, 9_000, returns=first + timedelta(minutes=3))
        await depot.runtime.report(RosterSet("anna", (trip, RosterEntry("BUS-07", second, 9_000))))
        await depot.connect_stations()
        await depot.begin(A1)
        await depot.clock.advance(30.0)
        assert asked.requests[-1].departures["BUS-07"].at == first
        await depot.clock.advance(120.0)
        assert asked.requests[-1].departures["BUS-07"].at == first
        await depot.clock.advance(180.0)
        assert asked.requests[-1].departures["BUS-07"].at == second


# --- learning -----------------------------------------------------------------------------------------------------


def night(number: int, marks: tuple[str, ...] = ()) -> list[SessionSaved | StaySaved]:
    arrived = START - timedelta(days=number, minutes=30)
    left = arrived + timedelta(hours=12)
    saved = SessionSaved(
        f"s{number}",
        B1,
        f"t{number}",
        "04A2B3C4",
        VehicleId("BUS-07"),
        arrived,
        left,
        20_000,
        0,
        20_000,
        None,
        marks,
    )
    return [saved, StaySaved(saved.id, 3, 16_000, left - timedelta(minutes=number))]


async def test_habits_come_from_the_ledger_at_the_start_and_after_sessions(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot:
        for number in range(1, 25):
            marks = ("stop-missing",) if number > 22 else ()
            await depot.runtime.ledger.append(night(number, marks))
        stays = await finished_stays(depot.storage, START)
        assert len(stays) == 22 and stays[0].arrived > stays[-1].arrived
        learning = Learning(depot.runtime, depot.storage, after_s=5.0)
        task = asyncio.create_task(learning.run())
        await depot.until(lambda: depot.runtime.depot.agenda.habits)
        habit = depot.runtime.depot.agenda.habits["BUS-07"]
        assert (habit.evse, habit.energy_wh, habit.phases, habit.most_ma) == (B1, 20_000, 3, 16_000)
        assert len(depot.runtime.depot.agenda.errors_s) == 22
        expected = depot.runtime.depot.plan_request(depot.clock.now()).expected
        assert [each.vehicle for each in expected] == ["BUS-07"]
        await depot.connect_stations()
        await depot.begin(A1)
        await depot.runtime.report(EvseSample(A1, "wire", depot.clock.now().mono_s, each_phase(16_000)))
        await depot.runtime.report(DepartureSet("anna", Departure(A1, depot.clock.now().utc + HOUR, 9_000)))
        await depot.until(lambda: depot.runtime.depot.agenda.shown.get(A1))
        await depot.runtime.report(unplugged(A1, depot.clock.now().utc + HOUR))
        await depot.until(lambda: len(depot.runtime.depot.agenda.errors_s) == 23)
        assert depot.runtime.depot.agenda.errors_s[0] == pytest.approx(0, abs=2)
        task.cancel()
        await asyncio.wait({task})
        await turns()


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], live: Path) -> Callable[..., Said]:
    return lambda *arguments: typed(capsys, *arguments, "--socket", str(live))


def test_import_list_and_clear_typed(ask: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "week.csv"
    path.write_text(HEAD + "BUS-07,2099-11-23T05:30,30 kWh,,,,A/1,L1-12\nX,2099-11-23T06:00,,80 %,,,,\n")
    said = ask("roster", "import", str(path))
    assert (said.code, said.out) == (0, "imported: 2 entries; the roster has 2 now\n")
    assert said.err == (
        'depot: week.csv:3: vehicle "X" is not in the config: kept, but nobody can recognise it\n'
    )
    lines = [" ".join(line.split()) for line in ask("roster", "list").out.splitlines()]
    assert lines == [
        "VEHICLE ARRIVES DEPARTS NEEDS RETURNS EVSE BLOCK KNOWN",
        "BUS-07 - 2099-11-23 05:30 30 kWh - A/1 L1-12 yes",
        "X - 2099-11-23 06:00 80 % - - - no",
    ]
    assert '"departs": "2099-11-23T04:30:00Z"' in ask("roster", "list", "--json").out
    assert ask("roster", "import", str(path), "--replace").code == 0
    assert ask("roster", "clear").out == "cleared: 2 entries\n"
    assert ask("roster", "list", "--json").out == "[]\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"vehicle,departs\n\xff\xfe", "bad.csv:2: not UTF-8"),
        (b"", "bad.csv:1: empty"),
        (b"x" * 1_000_001, "split it"),
        (b"vehicle,departs\nBUS-07,soon\nBUS-07,later\n", "bad.csv:2: departs"),
    ],
)
def test_a_bad_file_typed(ask: Callable[..., Said], tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    said = ask("roster", "import", str(path))
    assert (said.code, said.out) == (1, "") and says in said.err
    assert all(line.startswith("depot: ") for line in said.err.splitlines())


def test_a_charge_typed(ask: Callable[..., Said]) -> None:
    said = ask("soc", "A/1", "55")
    assert said.code == 1 and "does not charge now" in said.err
    said = ask("depart", "A/1", "--at", "05:30", "--soc", "80")
    assert said.code == 0 and "nobody knows" in said.err


def test_a_suggestion_is_a_line_of_the_status(
    ask: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    guess = {"vehicle": "BUS-07", "confidence_pct": 84, "why": "3 phases, 16 A"}
    really = looks.ask

    def guessing(*args: Any, **more: Any) -> Any:
        document = really(*args, **more)
        charging = next(evse for evse in document["evses"] if evse["session"] is not None)
        charging["session"]["looks_like"] = guess
        return document

    monkeypatch.setattr(looks, "ask", guessing)
    assert "B/1 looks like BUS-07 (3 phases, 16 A; 84 % sure)\n" in ask("status").out
