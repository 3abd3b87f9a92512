"""The control socket: every call, everything that is refused, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, B1, B2, DEADLINE_S, EVSES, FULL_MA, Caller, SmallDepot, caller, small_depot

from controller import console as console_module
from controller import session_calls
from controller.console import CLIENTS, LINE_BYTES, Console, Peer
from controller.core.commands import SetLimit, StartCharging, StopCharging
from controller.core.events import EvseSample
from controller.core.model import each_phase
from controller.rights import Rights
from drivers.errors import Misconfigured
from tests.audit_rows import audit_tail

ACTS: dict[str, dict[str, object]] = {
    "start": {"evse": A1},
    "stop": {"evse": A1},
    "pause": {"evse": A1},
    "resume": {"evse": A1},
    "limit": {"evse": A1, "limit_ma": 8000},
    "schedule-set": {"evse": A1, "text": ""},
    "schedule-clear": {"evse": A1},
    "depart": {"target": A1, "at": "2026-11-23T05:00:00Z", "soc": 80},
    "recording": {},
}
NIGHTS = """
schedule_id = "nights"
type = "daily"
[[time_slots]]
start = "22:00"
end = "06:00"
power_limit = "7 kW"
action = "charge"
"""


# --- looking ------------------------------------------------------------------------------------------------------


async def test_status_is_the_document_of_the_interface(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        status = await client.call("status")
    assert status["version"] == 1
    assert status["site"]["name"] == "Three posts"
    assert [evse["id"] for evse in status["evses"]] == list(EVSES)
    assert status["circuits"][0]["limit_a"] == [60, 60, 60]
    assert status["evses"][0]["measured_a"] == [None, None, None]


async def test_channels_are_an_object_with_their_list(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        channels = await client.call("channels")
        status = await client.call("status")
    assert channels == {"channels": status["channels"]}


async def test_sessions_come_from_the_ledger_within_their_times(depot: SmallDepot) -> None:
    await depot.begin(A1)
    async with caller(depot.socket) as client:
        found = await client.call("sessions")
        later = await client.call("sessions", since="2026-11-22T17:00:00Z", until="2026-11-22T17:30:00Z")
    assert [session["evse"] for session in found["sessions"]] == [A1]
    assert found["sessions"][0]["vehicle"] == "BUS-07"
    assert found["more"] is False
    assert later["sessions"] == []


async def test_a_running_session_is_shown_as_it_is_now(depot: SmallDepot) -> None:
    await depot.begin(A1)
    now_s = depot.clock.now().mono_s
    booked = (await depot.runtime.ledger.sessions())[0]
    await depot.runtime.report(
        EvseSample(A1, "wire", now_s, each_phase(6_000), power_w=4_140, register_wh=160)
    )
    async with caller(depot.socket) as client:
        shown = (await client.call("sessions"))["sessions"][0]
    assert (booked["energy_wh"], shown["energy_wh"]) == (0, 60)
    assert shown.keys() == booked.keys()


async def test_many_sessions_come_in_pages(depot: SmallDepot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_calls, "PAGE", 2)
    for number, evse in enumerate(EVSES):
        await depot.begin(evse, f"t{number}")
    async with caller(depot.socket) as client:
        first = await client.call("sessions")
        second = await client.call("sessions", skip=2)
    assert (len(first["sessions"]), first["more"]) == (2, True)
    assert (len(second["sessions"]), second["more"]) == (1, False)
    assert {row["evse"] for row in first["sessions"] + second["sessions"]} == set(EVSES)


async def test_a_ledger_that_cannot_be_read_is_an_answer(depot: SmallDepot) -> None:
    await depot.storage.close()
    async with caller(depot.socket) as client:
        code, text = await client.refusal("sessions")
    assert code == "failed"
    assert "depot.db" in text


async def test_recording_is_json_lines(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        recording = (await client.call("recording"))["recording"]
    lines = [json.loads(line) for line in recording.splitlines()]
    assert lines[0]["recording"] == 1
    assert any(line.get("e", {}).get("evse") == A1 for line in lines)


# --- acting -------------------------------------------------------------------------------------------------------


async def outcome(depot: SmallDepot, client: Caller, order: str) -> dict[str, Any]:
    """Lets time pass until the order has ended; its view."""

    def ended() -> bool:
        assert depot.runtime.snapshot is not None
        return any(view.id == order and view.outcome for view in depot.runtime.snapshot.orders)

    await depot.until(ended)
    status = await client.call("status")
    found: dict[str, Any] = next(view for view in status["orders"] if view["id"] == order)
    return found


async def test_start_reaches_the_charger_and_is_known_by_its_operator(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        order = (await client.call("start", evse="A", limit_ma=10_000, energy_wh=20_000, token="04A2B3C4"))[
            "order"
        ]
        await depot.until(lambda: any(isinstance(c, StartCharging) for c in depot.charger.sent))
        await depot.begin(A1)
        await depot.until(lambda: depot.charger.limits(A1))
        status = await client.call("status")
    assert depot.charger.limits(A1)[-1] == 10_000
    assert next(view for view in status["orders"] if view["id"] == order)["by"]
    start = next(c for c in depot.charger.sent if isinstance(c, StartCharging))
    assert (start.evse, start.token) == (A1, "04A2B3C4")


async def test_limit_pause_resume_and_stop_reach_the_charger(depot: SmallDepot) -> None:
    await depot.begin(A1)
    await depot.until(lambda: depot.charger.limits(A1)[-1:] == [FULL_MA])
    async with caller(depot.socket) as client:
        await client.call("limit", evse=A1, limit_ma=8_000)
        await depot.until(lambda: depot.charger.limits(A1)[-1] == 8_000)
        await client.call("limit", evse=A1, limit_ma=None)
        await depot.until(lambda: depot.charger.limits(A1)[-1] == FULL_MA)
        await client.call("pause", evse=A1)
        await depot.until(lambda: depot.charger.limits(A1)[-1] == 0)
        await client.call("resume", evse=A1)
        await depot.until(lambda: depot.charger.limits(A1)[-1] == FULL_MA)
        await client.call("stop", evse=A1)
        await depot.until(lambda: any(isinstance(c, StopCharging) for c in depot.charger.sent))


async def test_two_operators_the_newer_order_ends_the_older(depot: SmallDepot) -> None:
    await depot.begin(A1)
    async with caller(depot.socket) as one, caller(depot.socket) as other:
        first = (await one.call("limit", evse=A1, limit_ma=12_000))["order"]
        second = (await other.call("limit", evse=A1, limit_ma=9_000))["order"]
        assert first != second
        view = await outcome(depot, one, first)
    assert (view["outcome"], view["reason"]) == ("failed", "replaced by a newer order")


async def test_an_order_that_makes_no_sense_is_refused_with_a_reason(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        order = (await client.call("pause", evse=B1))["order"]
        view = await outcome(depot, client, order)
    assert (view["outcome"], view["reason"]) == ("refused", "no session is running")


async def test_schedules_are_set_listed_and_cleared(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        stored = await client.call("schedule-set", evse=A1, text=NIGHTS)
        await client.call("schedule-set", evse=B1, text=NIGHTS)
        everywhere = await client.call("schedule-list")
        here = await client.call("schedule-list", evse="A")
        cleared = await client.call("schedule-clear", evse=A1, schedule="nights")
        nothing = await client.call("schedule-clear", evse=A1)
        left = await client.call("schedule-list")
    assert stored["schedule_id"] == "nights"
    assert here["schedules"] == [{"evse": A1, **stored, "station": None}]
    assert [one["evse"] for one in everywhere["schedules"]] == [A1, B1]
    assert cleared == {"cleared": ["nights"]}
    assert nothing == {"cleared": []}
    assert [one["evse"] for one in left["schedules"]] == [B1]


async def test_a_schedule_is_called_stored_only_when_it_is(depot: SmallDepot) -> None:
    depot.pause_ledger()
    async with caller(depot.socket) as client, caller(depot.socket) as other:
        waiting = asyncio.create_task(client.call("schedule-set", evse=A1, text=NIGHTS))
        await depot.clock.advance(2.0)
        assert await other.call("status"), "nobody else waits"
        assert not waiting.done()
        depot.resume_ledger()
        assert (await waiting)["schedule_id"] == "nights"


async def test_departures_are_taken_for_evses_and_vehicles(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        for target, need in (("BUS-07", {"soc": 80}), (A1, {"energy_wh": 30_000})):
            said = await client.call("depart", target=target, at="2026-11-23T05:00:00+01:00", **need)
            assert said == {"target": target, "missing_wh": need.get("energy_wh")}
    known = depot.runtime.depot.plan_request(depot.clock.now()).departures
    assert known.keys() == {"BUS-07", A1}


# --- refusals -----------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, object], str, str]] = [
    ("start", {}, "unknown-evse", "depot status"),
    ("start", {"evse": "Z/1"}, "unknown-evse", "Z/1"),
    ("start", {"evse": "B"}, "unknown-evse", "'B'"),  # two EVSEs: which one?
    ("start", {"evse": ["A/1"]}, "unknown-evse", "A/1"),
    ("start", {"evse": A1, "limit_ma": "16 A"}, "bad-request", "limit_ma"),
    ("start", {"evse": A1, "limit_ma": 16.5}, "bad-request", "limit_ma"),
    ("start", {"evse": A1, "limit_ma": True}, "bad-request", "limit_ma"),
    ("start", {"evse": A1, "limit_ma": -1}, "bad-request", "limit_ma"),
    ("start", {"evse": A1, "soc": 101}, "bad-request", "soc"),
    ("start", {"evse": A1, "token": 7}, "bad-request", "token"),
    ("start", {"evse": A1, "duration_s": 10**12}, "bad-request", "duration_s"),
    ("limit", {"evse": A1}, "bad-request", "limit_ma"),
    ("limit", {"evse": A1, "limit_ma": {}}, "bad-request", "limit_ma"),
    ("sessions", {"since": 7}, "bad-request", "since"),
    ("sessions", {"since": "yesterday"}, "bad-request", "since"),
    ("sessions", {"since": "2026-11-22T18:00:00"}, "bad-request", "zone"),
    ("sessions", {"until": "0001-01-01T00:00:00+14:00"}, "bad-request", "until"),
    ("sessions", {"skip": -1}, "bad-request", "skip"),
    ("schedule-list", {"evse": "Z"}, "unknown-evse", "Z"),
    ("schedule-set", {"evse": A1}, "bad-schedule", "schedule_id"),
    ("schedule-set", {"evse": A1, "text": 7}, "bad-request", "text"),
    ("schedule-set", {"evse": A1, "text": "x = " + "[" * 20_000}, "bad-schedule", "TOML"),
    ("schedule-set", {"evse": "Z/1", "text": NIGHTS}, "unknown-evse", "Z/1"),
    ("schedule-clear", {"evse": A1, "schedule": "gone"}, "unknown-schedule", "gone"),
    ("depart", {}, "unknown", "''"),
    ("depart", {"target": "BUS-99"}, "unknown", "BUS-99"),
    ("depart", {"target": A1, "soc": 80}, "bad-request", "time"),
    ("depart", {"target": A1, "at": "2026-11-23T05:00:00Z"}, "bad-request", "energy"),
    (
        "depart",
        {"target": A1, "at": "2026-11-23T05:00:00Z", "soc": 80, "energy_wh": 5},
        "bad-request",
        "either",
    ),
    ("depart", {"target": A1, "at": "2026-11-22T17:59:00Z", "soc": 80}, "bad-request", "18:59 on site"),
    ("fly", {}, "unknown-call", "schedule-list"),
]


@pytest.mark.parametrize(("name", "args", "code", "part"), WRONG, ids=lambda value: str(value)[:40])
async def test_what_is_wrong_is_named(
    depot: SmallDepot, name: str, args: dict[str, object], code: str, part: str
) -> None:
    async with caller(depot.socket) as client:
        found, text = await client.refusal(name, **args)
        assert await client.call("status"), "the connection goes on"
    assert found == code
    assert part in text
    assert "\n" not in text
    assert not any(isinstance(command, SetLimit | StartCharging) for command in depot.charger.sent)


LINES: list[tuple[bytes, object, str]] = [
    (b"", None, "JSON"),
    (b"hello", None, "JSON"),
    (b"\xff\xfe\x00", None, "JSON"),
    (b'{"id": 1', None, "JSON"),
    (b"[" * 60_000, None, "JSON"),
    (b'{"id": ' + b"9" * 5_000 + b"}", None, "JSON"),
    (b"[]", None, "object"),
    (b'"status"', None, "object"),
    (b'{"id": NaN, "call": "status"}', None, "id"),
    (b'{"id": {"a": 1}, "call": "status"}', None, "id"),
    (b'{"id": 3, "call": "status", "args": []}', None, "args"),
    (b'{"id": 3, "call": "status", "args": "x"}', None, "args"),
    (b'{"id": 3}', 3, "None"),
    (b'{"id": "x", "call": ["status"]}', "x", "status"),
    (b'{"id": 3, "call": "\\ud800"}', 3, "no call"),
]


@pytest.mark.parametrize(("line", "number", "part"), LINES, ids=lambda value: str(value)[:30])
async def test_a_line_that_is_no_call_is_answered(
    depot: SmallDepot, line: bytes, number: object, part: str
) -> None:
    async with caller(depot.socket) as client:
        answer = await client.say(line)
        assert answer["id"] == number
        assert answer["error"]["code"] in ("bad-request", "unknown-call")
        assert part in answer["error"]["text"]
        assert await client.call("status"), "the connection goes on"


async def test_a_line_above_64_kb_closes_only_that_connection(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client, caller(depot.socket) as other:
        assert await client.say(b'"' + b"x" * (LINE_BYTES - 2) + b'"'), "64 kB are still a line"
        assert await client.say(b"x" * (LINE_BYTES + 1)) is None
        assert await other.call("status")


@pytest.mark.parametrize("name", sorted(ACTS))
async def test_a_viewer_may_not_act(depot: SmallDepot, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # a process cannot connect to itself under another uid (test_rights.py sends a child)
    monkeypatch.setattr(Rights, "peer", lambda *_: Peer("visitor", operator=False))
    async with caller(depot.socket) as client:
        code, text = await client.refusal(name, **ACTS[name])
        assert await client.call("status")
    assert code == "not-allowed"
    assert "visitor" in text
    assert "depot-operators" in text


async def test_our_own_user_is_an_operator() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert Rights().peer(ours).operator


# --- watching -----------------------------------------------------------------------------------------------------


async def test_watch_sends_one_snapshot_per_step_and_calls_go_on(depot: SmallDepot) -> None:
    async with caller(depot.socket) as client:
        first = await client.say(b'{"id": 2, "call": "watch"}')
        times = [first["ok"]["time"]]
        for _ in range(3):
            await depot.clock.advance(1.0)
            picture = await client.hear()
            assert picture["id"] == 2
            times.append(picture["ok"]["time"])
        again = await client.say(b'{"id": 3, "call": "watch"}')
    assert times == sorted(set(times))
    assert again["id"] == 3
    assert again["error"]["code"] == "bad-request"


async def test_a_watcher_that_was_away_gets_the_newest(depot: SmallDepot) -> None:
    seen = await depot.runtime.next_snapshot(None)
    await depot.clock.advance(30.0)
    newest = await depot.runtime.next_snapshot(seen)
    assert newest is depot.runtime.snapshot
    assert (newest.time - seen.time).total_seconds() > 25


def stalled_client(path: Path) -> socket.socket:
    """A connection that will not be read."""
    client = socket.socket(socket.AF_UNIX)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(str(path))
    return client


@pytest.mark.parametrize("asks", [b'{"call": "watch"}\n', b'{"call": "status"}\n' * 2000])
async def test_a_slow_reader_is_dropped_while_others_go_on(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch, asks: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console_module, "SLOW_S", 0.1)
    with stalled_client(depot.socket) as slow:
        await asyncio.to_thread(slow.sendall, asks)
        async with caller(depot.socket) as other:
            await depot.until(lambda: "does not read" in caplog.text)
            before = (await other.call("status"))["time"]
            await depot.clock.advance(2.0)
            assert (await other.call("status"))["time"] > before
        await depot.until(lambda: hung_up(slow))


def hung_up(client: socket.socket) -> bool:
    """Whether the other side has closed, seen without reading (reading would make room)."""
    poll = select.poll()
    poll.register(client, select.POLLHUP)
    return bool(poll.poll(0))


async def test_more_clients_than_places_are_told_so(depot: SmallDepot) -> None:
    connections = [await asyncio.open_unix_connection(depot.socket) for _ in range(CLIENTS)]
    try:
        held = [Caller(*connection) for connection in connections]
        for client in held:
            assert await client.call("channels")
        async with caller(depot.socket) as late:
            answer = await late.hear()
            assert answer["error"]["code"] == "busy"
            assert await late.hear() is None
        held[0].writer.close()
        await held[0].writer.wait_closed()

        async def has_place() -> bool:
            async with caller(depot.socket) as client:
                answer = await client.say(b'{"id": 1, "call": "channels"}')
                return "ok" in (answer or {})

        async with asyncio.timeout(DEADLINE_S):
            while not await has_place():  # noqa: ASYNC110 - it changes when the server has noticed
                await asyncio.sleep(0.01)
    finally:
        for _, writer in connections:
            writer.close()


async def test_clients_that_hang_up_anywhere_leave_nothing(depot: SmallDepot) -> None:
    for line in (b"", b'{"id": 1, "ca', b'{"id": 1, "call": "status"}\n', b'{"id": 1, "call": "watch"}\n'):
        _, writer = await asyncio.open_unix_connection(depot.socket)
        writer.write(line)
        writer.close()
        await writer.wait_closed()
    await depot.clock.advance(2.0)
    async with caller(depot.socket) as client:
        assert await client.call("status")


# --- the socket file ----------------------------------------------------------------------------------------------


async def test_everybody_may_knock_because_the_console_asks_who_is_there(depot: SmallDepot) -> None:
    assert stat.S_IMODE(depot.socket.stat().st_mode) == 0o666
    mask = os.umask(0)
    os.umask(mask)
    assert mask != 0o111, "the mask of the process is put back"


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "control.sock"))
    left.close()
    async with small_depot(tmp_path) as depot, caller(depot.socket) as client:
        assert await client.call("status")


async def test_a_live_socket_is_refused_in_one_line_and_left_alone(depot: SmallDepot) -> None:
    second = Console(depot.runtime, depot.socket)
    with pytest.raises(Misconfigured) as refused:
        async with asyncio.timeout(DEADLINE_S):
            await second.run()
    assert "another depot" in str(refused.value)
    assert "\n" not in str(refused.value)
    async with caller(depot.socket) as client:
        assert await client.call("status")


async def test_a_file_in_the_way_is_never_deleted(depot: SmallDepot, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("do not lose me")
    with pytest.raises(Misconfigured, match="precious"):
        await Console(depot.runtime, precious).run()
    assert precious.read_text() == "do not lose me"


@pytest.mark.parametrize("name", ["depot.db/control.sock", "x" * 200, ""])
async def test_a_place_where_no_socket_can_be_is_one_line(
    depot: SmallDepot, tmp_path: Path, name: str
) -> None:
    (tmp_path / "depot.db").write_text("a file, not a folder")
    with pytest.raises(Misconfigured) as refused:
        await Console(depot.runtime, tmp_path / name).run()
    assert "control socket" in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_the_socket_goes_with_the_controller(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot, caller(depot.socket) as client:
        assert await client.call("status")
        depot.task.cancel()
        assert await client.hear() is None
        await asyncio.wait({depot.task})
        assert not depot.socket.exists()


async def test_orders_are_audited_under_the_name_of_the_peer(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    # another name than the test's own user, which may be root in one place and somebody else in another
    monkeypatch.setattr(Rights, "peer", lambda *_: Peer("j.devries", operator=True))
    async with caller(depot.socket) as client:
        await client.call("limit", evse=B2, limit_ma=7_000)
    await depot.clock.advance(1.0)
    rows = await audit_tail(depot.runtime.ledger, 1)
    assert (rows[0]["by"], rows[0]["what"], rows[0]["subject"]) == ("j.devries", "limit", B2)
