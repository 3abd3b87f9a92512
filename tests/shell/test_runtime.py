"""The shell around the core: what waits for the disk, what does not, and what keeps running."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from small_depot import (
    A1,
    B1,
    DEADLINE_S,
    EVSES,
    FULL_MA,
    SmallDepot,
    caller,
    committed_a,
    small_depot,
    turns,
)

from controller import runtime as runtime_module
from controller.cli.compose import first_line
from controller.core.commands import Audited, SetLimit
from controller.core.events import (
    CommandSent,
    EvseSample,
    LimitWished,
    LinkUp,
    PauseWished,
    ResumeWished,
    StatusChanged,
    StopWished,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import EvseState, PerPhase, Plan, StationId
from controller.core.planning import PlanRequest
from controller.core.snapshot import OrderView
from controller.ledger import Ledger
from controller.ports import Report
from controller.storage import LEDGER, Storage
from drivers.errors import Misconfigured, Unreachable


def orders(depot: SmallDepot) -> dict[str, OrderView]:
    assert depot.runtime.snapshot is not None
    return {view.id: view for view in depot.runtime.snapshot.orders}


def ended(depot: SmallDepot, transaction: str = "t1") -> TransactionEnded:
    return TransactionEnded(StationId("A"), A1, transaction, "Local", 150, depot.clock.now().utc)


async def charging(depot: SmallDepot, limit_ma: int = FULL_MA) -> None:
    """A vehicle charges at A/1 with the limit committed, sent and accepted."""
    await depot.begin(A1)
    await depot.until(lambda: depot.charger.limits(A1)[-1:] == [limit_ma])
    await depot.clock.advance(2.0)


async def raise_waits(depot: SmallDepot) -> None:
    """A vehicle charges at A/1 with 6 A by order; the order is lifted while the ledger hangs."""
    await depot.runtime.report(LimitWished("o-low", "test", A1, 6_000))
    await depot.begin(A1)
    await depot.until(lambda: depot.charger.limits(A1) == [6_000])
    await pass_time(depot, 12)
    depot.pause_ledger()
    await depot.runtime.report(LimitWished("o-lifted", "test", A1, None))
    await depot.until(lambda: depot.runtime._waiting)


async def pass_time(depot: SmallDepot, seconds: float) -> None:
    """In steps of a second, with the disk given its chance in between."""
    for _ in range(int(seconds)):
        await depot.clock.advance(1.0)
        await asyncio.sleep(0.002)


# --- commit, then acknowledge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transaction", [None, "t1"])
async def test_a_start_is_answered_only_after_its_commit_and_others_go_on(
    depot: SmallDepot, transaction: str | None
) -> None:
    depot.pause_ledger()
    start = asyncio.create_task(depot.begin(A1, transaction))
    await depot.clock.advance(1.0)
    before = depot.runtime.snapshot
    await pass_time(depot, 3)
    assert not start.done()
    assert depot.runtime.snapshot is not before, "steps go on"
    async with caller(depot.socket) as client:
        assert await client.call("status"), "the console goes on"
    depot.resume_ledger()
    answer = await start
    assert answer.transaction == (transaction or "1")
    assert [row["evse"] for row in await depot.runtime.ledger.sessions()] == [A1]


async def test_a_repeated_stop_waits_for_the_commit_of_the_first(depot: SmallDepot) -> None:
    await depot.begin(A1)
    depot.pause_ledger()
    first = asyncio.create_task(depot.runtime.report(ended(depot)))
    await turns()
    again = asyncio.create_task(depot.runtime.report(ended(depot)))
    await pass_time(depot, 2)
    assert not first.done()
    assert not again.done(), "nothing is stored yet, so nothing may be acknowledged"
    depot.resume_ledger()
    await asyncio.gather(first, again)
    rows = await depot.runtime.ledger.sessions()
    assert [(row["stop_reason"], row["energy_wh"]) for row in rows] == [("Local", 50)]


async def test_with_a_full_ledger_a_stop_is_not_taken_until_it_can_be_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with small_depot(tmp_path, capacity=50) as depot:
        await depot.connect_stations()
        await depot.begin(A1)
        depot.pause_ledger()
        filler = Audited(depot.clock.now().utc, "test", "fill", "", "")
        while not depot.storage.full:
            depot.runtime.ledger.append((filler,) * 10)
        stop = asyncio.create_task(depot.runtime.report(ended(depot)))
        await pass_time(depot, 3)
        assert not stop.done()
        depot.resume_ledger()
        await stop
        rows = await depot.runtime.ledger.sessions()
    assert rows[0]["stop_reason"] == "Local"
    assert rows[0]["ended"] is not None
    assert "cannot be stored" not in caplog.text


async def test_what_nobody_relies_on_does_not_wait(depot: SmallDepot) -> None:
    depot.pause_ledger()
    async with asyncio.timeout(1):
        await depot.runtime.report(LinkUp(StationId("A"), "wire", "again"))
    depot.resume_ledger()


async def test_an_order_acts_at_once_and_is_answered_once_it_is_stored(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "ORDER_STORED_S", DEADLINE_S)
    await charging(depot)
    depot.pause_ledger()
    asked = asyncio.create_task(depot.runtime.report(LimitWished("o-1", "test", A1, 8_000)))
    await depot.until(lambda: depot.charger.limits(A1)[-1] == 8_000)
    assert not asked.done()
    depot.resume_ledger()
    await asked
    ordered = await depot.storage.read(
        LEDGER, lambda db: db.execute("SELECT document FROM ordered WHERE evse = ?", (A1,)).fetchone()
    )
    assert json.loads(ordered[0])["limit_ma"] == 8_000


async def test_a_disk_that_hangs_does_not_keep_an_order_from_its_answer(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "ORDER_STORED_S", 0.05)
    depot.pause_ledger()
    async with asyncio.timeout(DEADLINE_S):
        await depot.runtime.report(LimitWished("o-1", "test", A1, 8_000))
    depot.resume_ledger()


# --- raises and decreases -------------------------------------------------------------------------------------------


async def test_a_raise_leaves_only_after_its_ceiling_is_committed(depot: SmallDepot) -> None:
    await raise_waits(depot)
    await pass_time(depot, 2)
    assert depot.charger.limits(A1) == [6_000]
    depot.resume_ledger()
    await depot.until(lambda: len(depot.charger.limits(A1)) == 2)
    ceilings = await depot.storage.read(
        LEDGER, lambda db: dict(db.execute("SELECT evse, limit_ma FROM ceilings"))
    )
    assert ceilings[A1] == depot.charger.limits(A1)[1] == FULL_MA


async def test_while_the_ledger_hangs_decreases_go_out_and_raises_do_not(depot: SmallDepot) -> None:
    await charging(depot)
    await depot.begin(B1, "t2")  # needs a ceiling; A/1 makes room for it
    depot.pause_ledger()
    await depot.runtime.report(LimitWished("o-1", "test", A1, 8_000))
    await pass_time(depot, 20)
    assert depot.charger.limits(A1)[-1] == 8_000
    assert depot.charger.limits(B1) == []
    depot.resume_ledger()
    await depot.until(lambda: depot.charger.limits(B1))


async def test_a_raise_whose_ceiling_was_asked_for_but_never_stored_does_not_leave(depot: SmallDepot) -> None:
    """Up, down, up again while the disk hangs: the core asks for the ceiling only the first time."""
    await raise_waits(depot)
    await depot.runtime.report(PauseWished("o-1", "test", A1))
    await pass_time(depot, 3)
    await depot.runtime.report(ResumeWished("o-2", "test", A1))
    await pass_time(depot, 30)
    assert max(depot.charger.limits(A1), default=0) <= 6_000, "nothing above what a restart would budget for"
    depot.resume_ledger()
    await depot.until(lambda: depot.charger.limits(A1)[-1:] == [FULL_MA])


async def test_a_waiting_raise_is_dropped_when_a_newer_limit_exists(depot: SmallDepot) -> None:
    await raise_waits(depot)
    waiting = depot.runtime._newest[A1]
    await depot.runtime.report(PauseWished("o-1", "test", A1))
    await depot.until(lambda: depot.charger.limits(A1) == [6_000, 0])
    depot.resume_ledger()
    await depot.until(lambda: not depot.runtime._waiting)
    await depot.clock.advance(1.0)
    assert depot.charger.limits(A1) == [6_000, 0]
    facts = [json.loads(line).get("e", {}) for line in depot.runtime.recorder.dump().splitlines()]
    assert [event["event"] for event in facts if event.get("command") == waiting] == ["CommandReplaced"]


async def test_a_raise_that_waited_too_long_is_dropped_and_decided_anew(depot: SmallDepot) -> None:
    """Its lease would outlive what the core set aside for it."""
    await raise_waits(depot)
    waiting = depot.runtime._newest[A1]
    await depot.clock.advance(10.0)
    depot.resume_ledger()
    await depot.until(lambda: len(depot.charger.limits(A1)) == 2)
    sent = [command.id for command in depot.charger.sent if isinstance(command, SetLimit)]
    assert waiting not in sent


async def test_a_channel_that_is_off_refuses(depot: SmallDepot) -> None:
    depot.runtime._chargers = {}
    await depot.begin(A1)
    await depot.runtime.report(StopWished("o-1", "test", A1))
    await depot.until(lambda: "o-1" in orders(depot) and orders(depot)["o-1"].outcome)
    assert orders(depot)["o-1"].outcome == "refused"
    assert "channel wire is off" in (orders(depot)["o-1"].reason or "")


# --- drivers --------------------------------------------------------------------------------------------------------


class Failing:
    """A driver that ends in a new way each time it is run, then lives."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.runs = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def run(self, report: Report) -> None:
        self.runs += 1
        await self.may_end.wait()
        if len(self.ends) >= self.runs:
            end = self.ends[self.runs - 1]
            if end is not None:
                raise end
            return
        await asyncio.Event().wait()


async def test_a_driver_that_ends_in_any_way_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("controller.runtime.RESTART_S", (0.01, 0.03))
    ends = (ValueError("bug"), None, asyncio.CancelledError(), ExceptionGroup("both", [Unreachable("gone")]))
    driver = Failing(*ends)
    async with small_depot(tmp_path, drivers=(driver,)) as depot:
        await depot.connect_stations()
        await depot.until(lambda: driver.runs == len(ends) + 1)
        assert not depot.task.done()
    assert "Failing failed" in caplog.text
    assert "Failing ended by itself" in caplog.text


async def test_the_pause_between_restarts_doubles_up_to_its_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.runtime.RESTART_S", (0.004, 0.01))
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noting(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    driver = Failing(*[ValueError("bug")] * 4)
    async with small_depot(tmp_path, drivers=(driver,)) as depot:
        monkeypatch.setattr("controller.runtime.asyncio.sleep", noting)
        await depot.until(lambda: driver.runs == 5)
        monkeypatch.undo()
    assert [pause for pause in pauses if pause in (0.004, 0.008, 0.01)][-2:] == [0.01, 0.01]


@pytest.mark.parametrize(
    "error",
    [Misconfigured("port 80: taken"), ExceptionGroup("inside", [Misconfigured("port 80: taken")])],
    ids=["plain", "in a group"],
)
async def test_what_a_person_must_mend_ends_the_run_with_its_line(tmp_path: Path, error: Exception) -> None:
    driver = Failing(error)
    driver.may_end.clear()
    with pytest.raises(ExceptionGroup) as ended_with:
        async with small_depot(tmp_path, drivers=(driver,)) as depot:
            driver.may_end.set()
            await depot.task
    assert first_line(ended_with.value) == "port 80: taken"


async def test_a_planner_that_raises_leaves_control_running_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def broken(request: PlanRequest) -> Plan:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    async with small_depot(tmp_path, planner=broken) as depot:
        await depot.connect_stations()
        await charging(depot, FULL_MA)
        await depot.until(lambda: calls > 3)
        assert not depot.task.done()
    assert caplog.text.count("the planner failed") == 1


# --- steps ----------------------------------------------------------------------------------------------------------


class Counting:
    """A depot that counts its steps and passes everything on."""

    def __init__(self, depot: SmallDepot) -> None:
        self.times: list[float] = []
        step = depot.runtime.depot.step

        def counted(now: object) -> object:
            self.times.append(now.mono_s)  # type: ignore[attr-defined]
            return step(now)  # type: ignore[arg-type]

        depot.runtime.depot.step = counted  # type: ignore[method-assign,assignment]


async def test_without_news_there_is_one_step_a_second(depot: SmallDepot) -> None:
    await depot.clock.advance(3.0)
    counting = Counting(depot)
    await depot.clock.advance(10.0)
    assert len(counting.times) == 10


async def test_an_urgent_fact_steps_at_once_and_a_burst_is_one_step(depot: SmallDepot) -> None:
    await depot.clock.advance(2.5)
    counting = Counting(depot)
    began_s = depot.clock.now().mono_s
    for _ in range(20):
        await depot.runtime.report(StatusChanged(A1, "wire", EvseState.PREPARING))
    await depot.clock.advance(0.2)
    assert len(counting.times) in (1, 2), "one at once, and at most one for the rest of the burst"
    assert counting.times[0] - began_s <= 0.06


async def test_a_fact_that_is_not_urgent_waits_for_its_second(depot: SmallDepot) -> None:
    await depot.clock.advance(2.0)
    counting = Counting(depot)
    sample = EvseSample(A1, "wire", depot.clock.now().mono_s, PerPhase(0, 0, 0))
    await depot.runtime.report(sample)
    await depot.clock.advance(0.2)
    assert len(counting.times) <= 1


async def test_unknown_commands_and_strangers_change_nothing(depot: SmallDepot) -> None:
    await depot.runtime.report(CommandSent("never-sent"))
    await depot.runtime.report(
        TransactionStarted("Z/1", "wire", "t", None, None, depot.clock.now().utc)  # type: ignore[arg-type]
    )
    await depot.clock.advance(2.0)
    assert committed_a(depot) == 18.0
    assert await depot.runtime.ledger.sessions() == []


# --- the end and the next beginning ---------------------------------------------------------------------------------


async def test_after_a_restart_ceilings_are_budgeted_and_sessions_go_on(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot:
        await depot.connect_stations()
        await charging(depot)
        clock = depot.clock
    async with small_depot(tmp_path, clock=clock) as again:
        await pass_time(again, 10)  # what was learnt about fallbacks counts after the settling time
        snapshot = again.runtime.snapshot
        assert snapshot is not None
        views = {view.id: view for view in snapshot.evses}
        assert views[A1].commitment_ma == FULL_MA, "a lease up to the ceiling may still be running"
        assert views[B1].commitment_ma == 6_000, "its fallback was proven before"
        session = views[A1].session
        assert session is not None
        assert session.vehicle == "BUS-07"
        assert again.charger.sent == []
        await pass_time(again, 215)
        assert again.runtime.snapshot is not None
        assert again.runtime.snapshot.evses[0].commitment_ma == 6_000, "the lease has certainly run out"


async def test_no_raise_beyond_what_others_may_still_draw_after_a_restart(tmp_path: Path) -> None:
    """B/1 was allowed nearly everything before the restart; A/1 must wait until that has run out."""
    async with small_depot(tmp_path) as depot:
        await depot.connect_stations()
        await depot.begin(B1, "t2")
        await depot.until(lambda: depot.charger.limits(B1)[-1:] == [FULL_MA])
        clock = depot.clock
    async with small_depot(tmp_path, clock=clock) as again:
        await again.runtime.report(LinkUp(StationId("A"), "wire", "test"))
        await again.begin(A1)
        await pass_time(again, 60)
        assert max(again.charger.limits(A1), default=0) + FULL_MA + 6_000 <= 50_000
        await pass_time(again, 160)
        assert max(again.charger.limits(A1), default=0) > 13_000


async def test_the_end_leaves_books_closed_and_nothing_waiting(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot:
        await depot.connect_stations()
        await raise_waits(depot)
        depot.task.cancel()
        await turns()
        depot.resume_ledger()
        await asyncio.wait({depot.task})
        await turns()
        assert not depot.runtime._waiting
    storage = Storage(tmp_path / "state")
    await storage.open()
    rows = await Ledger(storage).sessions()
    await storage.close()
    assert [row["evse"] for row in rows] == [A1]


async def test_a_depot_nobody_obeys_keeps_stepping(
    depot: SmallDepot, caplog: pytest.LogCaptureFixture
) -> None:
    depot.charger.obeys = False
    caplog.set_level(logging.ERROR)
    for number, evse in enumerate(EVSES):
        await depot.begin(evse, f"t{number}")
    await pass_time(depot, 300)
    assert caplog.text == ""
    assert not depot.task.done()
