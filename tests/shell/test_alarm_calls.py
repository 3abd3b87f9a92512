"""Alarms, log and watch over the real socket and command line: seen, silenced, restarted, followed."""

from __future__ import annotations

import getpass
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, START, Post, SmallDepot, beside, caller, flies, small_depot
from typed import Said, typed

from controller.cli import log as log_command
from controller.cli import main
from controller.cli.watch import changes, opening, summary
from controller.core.alarms import RESTORED_S
from controller.core.events import ChannelChanged, EvseSample, FaultReported, LinkDown, StatusChanged
from controller.core.model import EvseState, StationId, each_phase

ME = getpass.getuser()
CLOUD = "open-platform/cloud"
FAULT = FaultReported(StationId("A"), A1, "wire", "F-0421", True, "contactor")


async def listed(depot: SmallDepot) -> Any:
    async with caller(depot.socket) as client:
        return await client.call("alarms")


async def raised(depot: SmallDepot, kind: str) -> str:
    """The id of the alarm of this kind, once there is one."""
    await depot.until(lambda: any(a.kind == kind for a in depot.runtime.snapshot.alarms))  # type: ignore[union-attr]
    return next(a.id for a in depot.runtime.snapshot.alarms if a.kind == kind)  # type: ignore[union-attr]


def shown(depot: SmallDepot) -> dict[str, str]:
    assert depot.runtime.snapshot is not None
    return {alarm.kind: alarm.state for alarm in depot.runtime.snapshot.alarms}


# --- calls --------------------------------------------------------------------------------------------------------


async def test_an_alarm_is_shown_with_what_to_do_and_acknowledged_by_name(depot: SmallDepot) -> None:
    await depot.runtime.report(FAULT)
    id = await raised(depot, "fault-code")
    async with caller(depot.socket) as client:
        assert await client.call("alarm-ack", alarm=id) == {"acked": [id], "before_by": []}
        assert await client.call("alarm-ack", alarm=id) == {"acked": [], "before_by": [ME]}
        told = await client.call("alarm", alarm=id)
    assert (told["alarm"]["state"], told["alarm"]["by"]) == ("ack", ME)
    assert told["fact"]["respond_s"] > 0 and len(told["fact"]["steps"]) >= 3
    assert [(row["id"], row["acked_by"]) for row in told["history"]] == [(id, ME)]
    assert [(act["what"], act["by"]) for act in told["acts"]] == [("alarm-acked", ME)]


async def test_what_is_refused_says_what_to_do(depot: SmallDepot) -> None:
    await depot.runtime.report(FAULT)
    id = await raised(depot, "fault-code")
    async with caller(depot.socket) as client:
        for name in ("alarm", "alarm-ack", "alarm-shelve", "alarm-unshelve"):
            more = {"for_s": 60, "reason": "x"} if name == "alarm-shelve" else {}
            code, text = await client.refusal(name, alarm="a9-9", **more)
            assert code == "unknown-alarm" and "depot alarms --all" in text
        for args in ({"for_s": 60, "reason": " "}, {"for_s": 60}, {"for_s": 60, "reason": "x" * 201}):
            code, text = await client.refusal("alarm-shelve", alarm=id, **args)
            assert code == "bad-request" and "says why" in text
        for for_s in (None, 0, 8 * 3600 + 1):
            code, text = await client.refusal("alarm-shelve", alarm=id, for_s=for_s, reason="x")
            assert code == "bad-request" and "8 h at most" in text
        assert (await client.refusal("service", source="Z", out=True, reason="x"))[0] == "unknown-source"
        assert (await client.refusal("service", source="A", out=False))[0] == "unknown-source"
        assert (await client.refusal("service", source="A", out=1, reason="x"))[0] == "bad-request"
        assert (await client.refusal("alarm-ack", alarm=7))[0] == "bad-request"
        assert (await client.refusal("log", since="yesterday"))[0] == "bad-request"
    assert shown(depot) == {"fault-code": "unack"}


async def test_acknowledged_and_shelved_outlive_a_restart_and_end_by_themselves(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as before:
        await before.connect_stations()
        await before.runtime.report(FAULT)
        await before.runtime.report(ChannelChanged(CLOUD, "down", "refused"))
        fault, channel = await raised(before, "fault-code"), await raised(before, "feed")
        async with caller(before.socket) as client:
            await client.call("alarm-ack", alarm=channel)
            await client.call("alarm-shelve", alarm=fault, for_s=300, reason="ordered a contactor")
            await client.call("service", source="B", out=True, reason="roof work")
    async with small_depot(tmp_path) as after:
        await after.runtime.report(FAULT)
        await after.runtime.report(ChannelChanged(CLOUD, "down", "refused"))
        told = await listed(after)
        assert {(a["id"], a["state"], a["by"]) for a in (*told["alarms"], *told["quiet"])} >= {
            (channel, "ack", ME), (fault, "shelved", ME),
        }  # fmt: skip
        assert {(s["state"], s["source"], s["reason"]) for s in told["silenced"]} == {
            ("shelved", "A/1 F-0421", "ordered a contactor"), ("out-of-service", "B", "roof work"),
        }  # fmt: skip
        await after.until(lambda: shown(after).get("offline"))
        assert {a.source for a in after.runtime.snapshot.alarms} == {CLOUD, "A/1"}  # type: ignore[union-attr]
        await after.until(lambda: shown(after).get("fault-code"))
        assert shown(after)["fault-code"] == "unack" and after.clock.now().mono_s >= 1000 + 280
        assert await after.runtime.ledger.verify_audit() is None


async def test_what_was_over_while_we_were_away_ends_after_a_while(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as before:
        await before.connect_stations()
        await before.runtime.report(FAULT)
        id = await raised(before, "fault-code")
    async with small_depot(tmp_path) as after:
        await after.connect_stations()
        assert shown(after) == {"fault-code": "unack"}
        await after.until(lambda: not shown(after))
        assert after.clock.now().mono_s > 1000 + RESTORED_S
        async with caller(after.socket) as client:
            assert "no alarm" in (await client.refusal("alarm", alarm=id))[1]
            lines = (await client.call("log"))["lines"]
    assert ("alarm over", "A/1 F-0421") in [(line["what"], line["source"]) for line in lines]


async def test_the_log_is_one_order_of_all_books_in_pages(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.log_calls.PAGE", 4)
    await depot.begin(A1, "t1")
    await depot.runtime.report(FAULT)
    id = await raised(depot, "fault-code")
    async with caller(depot.socket) as client:
        await client.call("alarm-ack", alarm=id)
        await client.call("pause", evse="A/1")
        await depot.until(lambda: any(o.stages for o in depot.runtime.snapshot.orders))  # type: ignore[union-attr]
        await client.call("alarm-shelve", alarm=id, for_s=60, reason="x")  # stored: so is all before
        whole, since, after = [], START.isoformat(), ""
        for _ in range(20):
            page = await client.call("log", since=since, after=after)
            assert len(page["lines"]) <= 4
            whole += page["lines"]
            since, after = whole[-1]["time"], whole[-1]["id"]
            if not page["more"]:
                break
        last = (await client.call("log", last=2))["lines"]
    assert [line["time"] for line in whole] == sorted(line["time"] for line in whole)
    assert len({line["id"] for line in whole}) == len(whole), "every line once, though many are of one time"
    books = {(line["book"], line["what"]) for line in whole}
    assert {
        ("audit", "pause"), ("audit", "alarm-acked"), ("alarm", "alarm 2"), ("session", "session began"),
        ("order", "pause accepted"), ("audit", "alarm-shelved"),
    } <= books  # fmt: skip
    assert last == whole[-2:]


# --- the command line -----------------------------------------------------------------------------------------------


Ask = Callable[..., Said]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """The socket of a depot in a thread, whose time flies: a fault at A/1, and an overdraw that is over."""

    async def serve(ready: threading.Event, over: threading.Event) -> None:
        async with small_depot(tmp_path, charger=Post()) as running:
            await running.connect_stations()
            await running.begin(A1, "t1")
            await running.until(lambda: running.charger.limits(A1))
            await running.runtime.report(FAULT)
            now = running.clock.now
            while "overdraw" not in shown(running):
                hot = EvseSample(A1, "wire", now().mono_s, each_phase(45_000), power_w=31_000)
                await running.runtime.report(hot)
                await running.clock.advance(0.25)
            while shown(running).get("overdraw") != "rtn-unack":
                calm = EvseSample(A1, "wire", now().mono_s, each_phase(6_000), power_w=4_000)
                await running.runtime.report(calm)
                await running.clock.advance(0.25)
            await flies(running, ready, over)

    with beside(serve):
        yield tmp_path / "control.sock"


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], busy: Path) -> Ask:
    return lambda *arguments: typed(capsys, *arguments, "--socket", str(busy))


def ids(ask: Ask) -> dict[str, str]:
    return {alarm["kind"]: alarm["id"] for alarm in json.loads(ask("alarms", "--json").out)}


def test_a_night_with_two_alarms(ask: Ask) -> None:
    said = ask("alarms")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["PRI", "1", "2"]
    assert "RTN" in said.out and "UNACK" in said.out and "A/1 F-0421" in said.out
    known = ids(ask)
    assert ask("alarms", "ack", known["overdraw"]).out == f"acknowledged: {known['overdraw']}\n"
    assert list(ids(ask)) == ["fault-code"], "over, and seen: gone"
    shelved = ask("alarms", "shelve", known["fault-code"], "--for", "2h", "--reason", "ordered")
    assert shelved.code == 0 and shelved.out.startswith("shelved until 2026-11-22 2")
    assert ask("alarms").out == "no alarm calls a person\n1 more shelved: depot alarms --all\n"
    everything = ask("alarms", "--all").out
    assert f"by {ME}: ordered" in everything and known["fault-code"] in everything
    assert ask("alarms", "unshelve", "A/1 F-0421").out == "calls again: fault-code A/1 F-0421\n"
    assert "out of service: A;" in ask("alarms", "out-of-service", "A", "--reason", "being replaced").out
    assert "out-of-service: A, by" in ask("alarms", "--all").out
    assert ask("alarms", "in-service", "A").out == "in service: A\n"
    assert ids(ask).keys() == {"fault-code"}


def test_one_alarm_tells_cause_consequence_time_and_steps_with_the_runbook_of_its_code(ask: Ask) -> None:
    known = ids(ask)
    over = ask("alarms", "show", known["overdraw"]).out
    for label in ("cause ", "then ", "within  5 min", "1 ", "2 ", "3 "):
        assert any(line.startswith(label) for line in over.splitlines()), label
    code = ask("alarms", "show", known["fault-code"]).out
    assert "cause   F-0421, " in code and "Likely: " in code and " Supply." in code, (
        "the dictionary's runbook"
    )
    document = json.loads(ask("alarms", "show", known["fault-code"], "--json").out)
    assert document["code"]["code"] == "F-0421" and document["fact"]["steps"] == document["code"]["runbook"]
    assert document["fact"]["kind"] == "fault-code"


@pytest.mark.parametrize(
    ("words", "wrong", "complaint"),
    [
        (("alarms", "show", "a1-99"), 1, "no alarm 'a1-99' now"),
        (("alarms", "shelve", "a1-1", "--for", "9h", "--reason", "x"), 2, "8 h at most"),
        (("alarms", "in-service", "A"), 1, "not out of service"),
        (("alarms", "out-of-service", "\udc80", "--reason", "x"), 1, "nothing is called"),
        (("log", "--since", "soon"), 2, "not a time"),
    ],
)
def test_what_cannot_be_is_one_line(ask: Ask, words: tuple[str, ...], wrong: int, complaint: str) -> None:
    said = ask(*words)
    assert (said.code, said.out) == (wrong, "")
    assert complaint in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [("alarms",), ("alarms", "ack", "a1-1"), ("log",), ("log", "-f"), ("watch",), ("alarms", "show", "x")],
)
def test_without_a_controller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main([*words, "--socket", str(tmp_path / "none.sock")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_log_ends_with_the_newest_and_follows(
    ask: Ask, busy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_command, "POLL_S", 0.05)
    text = ask("log", "--since", "2026-11-22T00:00").out.splitlines()
    assert any("alarm 1  A/1: draws" in line for line in text) and "started" in text[0]
    lines = json.loads(ask("log", "--json").out)
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert {"audit", "alarm", "session"} <= {line["book"] for line in lines}
    known = ids(ask)
    acting = threading.Timer(0.3, main, [["alarms", "ack", known["fault-code"], "--socket", str(busy)]])
    acting.start()
    followed = ask("log", "-f", "--json", "--for", "3s")
    acting.join()
    assert followed.code == 0
    heard = [json.loads(line) for line in followed.out.splitlines() if line.startswith("{")]
    assert len({line["id"] for line in heard}) == len(heard), "every line once"
    assert [line["source"] for line in heard if line["what"] == "alarm-acked"] == ["A/1 F-0421"]


def test_watching_begins_with_what_is_wrong_and_ends_when_told(ask: Ask) -> None:
    said = ask("watch", "--for", "2s")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "2026-11-22" and "  site  Three posts  " in lines[1]
    assert {line.split()[1] for line in lines[2:4]} == {"alarm"}
    document = [
        json.loads(line) for line in ask("watch", "--json", "--every", "1s", "--for", "2s").out.splitlines()
    ]
    assert document[0]["kind"] == "site" and document[0]["text"].startswith("auto, 3 of 3 connected")


# --- what is a change -----------------------------------------------------------------------------------------------


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[SmallDepot]:
    async with small_depot(tmp_path) as running:
        await running.connect_stations()
        yield running


async def test_every_change_is_a_line_and_nothing_else_is(still: SmallDepot) -> None:
    before = still.runtime.snapshot
    assert before is not None
    assert list(changes(before, before)) == [] and list(opening(before)) == []
    assert summary(before).text == "auto, 3 of 3 connected, 0 sessions, 0.0 kW, alarms none"
    await still.begin(A1, "t1")
    await still.runtime.report(LinkDown(StationId("B"), "wire", "gone"))
    await still.runtime.report(StatusChanged(A1, "wire", EvseState.FAULTED, "GroundFailure"))
    await still.until(lambda: "offline" in shown(still))
    after = still.runtime.snapshot
    assert after is not None
    found = {(change.kind, change.source, change.text) for change in changes(before, after)}
    assert ("evse", "A/1", "session began: BUS-07") in found
    assert ("evse", "A/1", "faulted: GroundFailure") in found
    assert ("evse", "B/1", "offline") in found
    assert any(
        kind == "alarm" and source == "B/1" and " unack: offline" in text for kind, source, text in found
    )
    back = {(change.kind, change.source) for change in changes(after, before)}
    assert ("alarm", "B/1") in back and ("evse", "A/1") in back
