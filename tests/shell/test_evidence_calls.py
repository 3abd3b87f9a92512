"""`depot why` and `depot verify` against a running depot: its last step, its journal, its books."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from small_depot import A1, B1, EVSES, START, SmallDepot, small_depot
from test_process import DEADLINE_S, start

from controller.audit import EgressBook
from controller.cli import main
from controller.cli.evidence import _told
from controller.console import Peer, Refusal
from controller.core.events import LimitWished, PauseWished
from controller.core.wire import instant_text
from controller.evidence_calls import EvidenceCalls
from controller.journal import Journal
from tests.one_post import CONFIG

ANN = Peer("ann", False)


class Asking:
    def __init__(self, depot: SmallDepot, journal: Journal) -> None:
        self.depot, self.journal = depot, journal
        book = EgressBook(depot.storage, depot.clock)
        self.calls = EvidenceCalls(depot.runtime, depot.storage, book, journal)

    async def __call__(self, name: str, **args: object) -> Any:
        return await self.calls.table[name][1](args, ANN)

    async def refusal(self, name: str, **args: object) -> str:
        with pytest.raises(Refusal) as refused:
            await self(name, **args)
        return f"{refused.value.code}: {refused.value}"


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[Asking]:
    """Three vehicles charge where 50 A are left for them."""
    async with small_depot(folder) as depot:
        journal = Journal(depot.storage.folder, "config", depot.runtime.ledger)
        journal.open()
        depot.runtime.witnesses.append(journal.observe)
        await depot.connect_stations()
        for number, evse in enumerate(EVSES):
            await depot.begin(evse, f"t{number}")
        await depot.until(lambda: _granted(depot) == [17, 17, 16])
        yield Asking(depot, journal)
        journal.close()


def _granted(depot: SmallDepot) -> list[float]:
    snapshot = depot.runtime.snapshot
    assert snapshot is not None
    return sorted(((evse.grant_ma or 0) // 1000 for evse in snapshot.evses), reverse=True)


async def test_the_circuit_and_who_gets_the_next_ampere(tmp_path: Path) -> None:
    async with asking(tmp_path) as ask:
        told = [await ask("why", evse=evse) for evse in EVSES]
        assert {each["bound_by"] for each in told} == {"circuit site L1"}
        assert {each["set_by"] for each in told} == {"the config: limit of [site]"}
        winner = next(each for each in told if each["with_one_more_a"] > each["grant_a"])
        assert (winner["grant_a"], winner["with_one_more_a"], winner["limit_a"]) == (16, 17, 60)
        others = [each for each in told if each is not winner]
        assert {each["with_one_more_a"] for each in others} == {17}
        assert [each["gains"] for each in others] == [[winner["evse"]]] * 2


async def test_an_operators_limit_has_his_name_and_the_journal_remembers_what_was_before(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path) as ask:
        before = ask.depot.clock.now().utc
        await ask.depot.clock.advance(2.0)
        await ask.depot.runtime.report(LimitWished("o1", "carla", A1, 10_000))
        ordered = ask.depot.clock.now().utc
        await ask.depot.until(lambda: ask.depot.charger.limits(A1)[-1] == 10_000)
        told = await ask("why", evse="A")
        assert (told["bound_by"], told["set_by"], told["limit_a"]) == ("operator limit", "carla", 10)
        assert told["with_one_more_a"] == 11
        assert told["set_at"].startswith(ordered.strftime("%Y-%m-%dT%H:%M:%S"))
        for flush in (False, True):  # out of memory, out of the file
            if flush:
                ask.journal.flush()
                ask.journal._thread.submit(lambda: None).result()
                await ask.depot.clock.advance(5.0)
            earlier = await ask("why", evse="A", at=instant_text(before))
            assert earlier["bound_by"] == "circuit site L1"
            assert earlier["grant_a"] in (16, 17)
        assert "unknown-time" in await ask.refusal(
            "why", evse="A", at=instant_text(START - timedelta(days=1))
        )
        assert "unknown-time" in await ask.refusal(
            "why", evse="A", at=instant_text(START + timedelta(days=1))
        )


async def test_a_pause_is_not_a_matter_of_amps(tmp_path: Path) -> None:
    async with asking(tmp_path) as ask:
        await ask.depot.runtime.report(PauseWished("o1", "carla", B1))
        await ask.depot.until(lambda: ask.depot.charger.limits(B1)[-1] == 0)
        told = await ask("why", evse=B1)
        assert (told["bound_by"], told["set_by"], told["grant_a"]) == ("paused by operator", "carla", 0)
        assert told["with_one_more_a"] is None
        assert "unknown-evse" in await ask.refusal("why", evse="Z")
        assert "unknown-evse" in await ask.refusal("why", evse="B")


async def test_the_books_of_a_running_depot_are_asked_of_it(tmp_path: Path) -> None:
    async with asking(tmp_path) as ask:
        ask.journal.flush()
        answer = await ask("verify", since=None)
        assert answer["broken"] == answer["energy"] == []
        assert answer["anchors"][0]["number"] == 0
        assert Path(answer["folder"]) == ask.depot.storage.folder


async def test_the_folder_is_named_for_whoever_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with asking(Path(".")) as ask:  # as `depot run depot.toml` has it
        folder = ask.depot.storage.folder
        assert not folder.is_absolute()
        assert (await ask("verify", since=None))["folder"] == str(tmp_path / folder)


def told(**more: object) -> dict[str, Any]:
    return {
        "evse": "CP001/1",
        "time": "2026-11-22T18:00:00Z",
        "grant_a": 10.0,
        "bound_by": "circuit row_a L1",
        "kind": "circuit",
        "set_by": "the config: limit of [circuit.row_a]",
        "limit_a": 63.0,
        "with_one_more_a": 11.0,
        "next_by": "station maximum",
        "gains": [],
        **more,
    }


@pytest.mark.parametrize(
    ("document", "last"),
    [
        (told(), ["with one ampere more there: 11 A, then bound by station maximum"]),
        (
            told(with_one_more_a=10.0, next_by="circuit site L1"),
            ["with one ampere more there: still 10 A", "the next limit: circuit site L1"],
        ),
        (
            told(with_one_more_a=10.0, next_by="circuit row_a L1", gains=["CP002/1"]),
            ["with one ampere more there: still 10 A", "the ampere would go to CP002/1"],
        ),
        (
            told(with_one_more_a=10.0, next_by="circuit row_a L1"),
            [
                "with one ampere more there: still 10 A",
                "it is less than a step of this EVSE, or of its minimum",
            ],
        ),
    ],
)
def test_what_people_read(document: dict[str, Any], last: list[str]) -> None:
    assert _told(document, "Europe/Amsterdam") == [
        "CP001/1 at 2026-11-22 19:00:00: 10 A",
        "bound by: circuit row_a L1, now 63 A",
        "set by: the config: limit of [circuit.row_a]",
        *last,
    ]


def test_verify_beside_a_running_depot_and_after_it_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "depot.toml"
    config.write_text(CONFIG)
    socket = tmp_path / "control.sock"
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = start(("run", str(config)))
        try:
            wait_for(process, socket.exists)
            wait_for(process, lambda: main(["why", "CP001", "--socket", str(socket)]) == 0)
            capsys.readouterr()
            assert main(["verify", str(config)]) == 0, capsys.readouterr()
            assert "chains  hold" in capsys.readouterr().out
        finally:
            process.send_signal(end)
            print(process.communicate(timeout=DEADLINE_S)[1], file=sys.stderr)
    assert main(["verify", str(config)]) == 0
    assert " steps, blocks: 1\n" in capsys.readouterr().out  # the killed one had not written its minute yet


def wait_for(process: Popen[str], condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while process.poll() is None and not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
