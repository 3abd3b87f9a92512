"""The clock of a controller: what it reads of the machine, what it leaves for the next start, and a real process whose wall
clock is set while it runs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import small_depot
from test_process import DEADLINE_S
from websockets.sync.client import connect

from controller import clock as clocks
from controller.clock import ASK_S, BELIEVED_S, Chrony, KeptClock, kept_clock, stamp, survives_power_cuts
from controller.clock_watch import ClockWatch
from controller.core.model import Moment
from controller.core.timekeeper import NO_SERVICE, SETTLE_S, Timekeeper
from tests.one_post import CONFIG

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_virtual_machine_and_a_box_with_a_battery_keep_their_time(tmp_path: Path) -> None:
    assert not survives_power_cuts(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags: fpu hypervisor lahf_lm\n")
    assert survives_power_cuts(tmp_path)
    (tmp_path / "proc/cpuinfo").write_text("Model: Raspberry Pi 4 Model B Rev 1.4\n")
    assert not survives_power_cuts(tmp_path)
    (tmp_path / "sys/class/rtc/rtc0").mkdir(parents=True)
    assert survives_power_cuts(tmp_path)


def test_the_next_start_knows_when_the_clock_was_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "survives_power_cuts", lambda: False)
    monkeypatch.setattr(clocks, "kept", lambda: False)
    assert kept_clock(tmp_path).now().utc_trusted is False
    now = Moment(time.monotonic(), datetime.now(UTC))
    stamp(tmp_path, now)
    assert (tmp_path / "clock").stat().st_mode & 0o077 == 0
    assert kept_clock(tmp_path).now().utc_trusted, "both clocks went on alike"
    for other in (now._replace(mono_s=now.mono_s - 100), now._replace(utc=now.utc - timedelta(seconds=100))):
        stamp(tmp_path, other)
        doubtful = kept_clock(tmp_path)
        doubtful.now()
        assert doubtful.keeper.doubt == NO_SERVICE, "another run of the machine, or it was set meanwhile"
    ahead = now._replace(utc=now.utc + timedelta(hours=3))
    stamp(tmp_path, ahead)
    older = kept_clock(tmp_path)
    assert abs((older.now().utc - ahead.utc).total_seconds()) < 5, "our time goes on from there"
    assert "but was right at" in older.keeper.doubt


def test_where_the_kernel_may_not_be_asked_the_time_service_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "kernel_state", lambda: -1)
    assert clocks.kept(tmp_path) is None
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    assert clocks.kept(tmp_path) is False
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert clocks.kept(tmp_path) is True


def test_there_chronyd_is_asked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "kernel_state", lambda: -1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(DEADLINE_S)
        chrony = Chrony(daemon.getsockname()[1])
        monkeypatch.setattr(clocks, "_chrony", lambda: chrony)
        assert clocks.kept(tmp_path) is None
        (tmp_path / "run/chrony").mkdir(parents=True)
        assert clocks.kept(tmp_path) is None, "asked, and not waited for"
        answer(daemon, UNSYNCHRONISED)
        assert clocks.kept(tmp_path) is False
        now_s = time.monotonic() + ASK_S
        assert chrony.kept(now_s) is False, "until the next answer"
        answer(daemon, SYNCHRONISED)
        assert chrony.kept(now_s) is True
        assert chrony.kept(now_s + BELIEVED_S + 1) is None, "it hangs"
        chrony.kept(now_s + 2 * BELIEVED_S)
        answer(daemon, SYNCHRONISED[:-1], SYNCHRONISED.replace(b"\x06\x02", b"\x05\x02", 1), b"")
        assert chrony.kept(now_s + 2 * BELIEVED_S) is None, "no answer that can be read"
    assert chrony.kept(now_s + 3 * BELIEVED_S) is chrony.kept(now_s + 3 * BELIEVED_S) is None, "it is gone"
    chrony.close()


# what Debian's chronyd 4.3 said, up to the leap status: without a source, and as its own source
_TOLD = "06020000002100050000" + "00" * 18
UNSYNCHRONISED = bytes.fromhex(_TOLD + "00" * 26 + "0003").ljust(104, b"\0")
SYNCHRONISED = bytes.fromhex(_TOLD + "7f7f0101" + "00" * 20 + "00080000").ljust(104, b"\0")


def answer(daemon: socket.socket, *said: bytes) -> None:
    """With the number of the question."""
    question, who = daemon.recvfrom(512)
    assert len(question) == len(SYNCHRONISED), "chronyd drops a question that is shorter than its answer"
    for each in said:
        daemon.sendto(each[:16] + question[8:12] + each[20:], who)


def test_a_stamp_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "clock").mkdir()
    assert kept_clock(tmp_path).now().utc


class Hand(KeptClock):
    """Both clocks and the kernel's word by hand."""

    def __init__(self) -> None:
        super().__init__(Timekeeper())
        self.mono_s, self.wall, self.is_kept = 0.0, NOON, False

    def now(self) -> Moment:
        utc = self.keeper.look(self.mono_s, self.wall, self.is_kept)
        return Moment(self.mono_s, utc, not self.keeper.doubt)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.002)


async def test_what_is_to_be_said_is_told_once_and_a_believed_clock_is_stamped(tmp_path: Path) -> None:
    hand = Hand()
    async with small_depot(tmp_path) as depot:
        told: list[Any] = []
        depot.runtime.hearers.append(told.append)
        watch = asyncio.create_task(ClockWatch(depot.runtime, hand, tmp_path).run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not told:  # noqa: ASYNC110 - the watch turns beside
                    await asyncio.sleep(0.002)
                hand.wall += timedelta(hours=1)
                while len(told) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
                hand.mono_s += SETTLE_S
                hand.wall += timedelta(seconds=SETTLE_S)
                while len(told) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
                while (tmp_path / "clock").stat().st_mtime < hand.wall.timestamp():  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            await asyncio.sleep(0.02)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    assert [(each.doubt, each.set_s) for each in told] == [
        ("", 0.0),
        ("the clock was set forward by 60 min", 0.0),
        ("", 3600.0),
    ]


async def test_two_steps_between_two_looks_are_told_as_what_they_add_up_to(tmp_path: Path) -> None:
    """Of the last alone the depot would not know that its clock went back, and what stations make of their leases then."""
    hand = Hand()
    hand.is_kept = True
    async with small_depot(tmp_path) as depot:
        told: list[Any] = []
        depot.runtime.hearers.append(told.append)
        watch = asyncio.create_task(ClockWatch(depot.runtime, hand, tmp_path).run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (tmp_path / "clock").exists():  # noqa: ASYNC110 - the watch turns beside
                    await asyncio.sleep(0.002)
                hand.wall -= timedelta(hours=3)
                hand.now()
                hand.wall += timedelta(seconds=10)
                hand.now()
                while not told:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    assert [each.set_s for each in told] == [10.0 - 3 * 3600.0]


# --- a real process -------------------------------------------------------------------------------------------------

SET = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from controller import clock

def told():
    return file.read_text().split()

class Wall(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(seconds=float(told()[0]))

file = Path(sys.argv.pop(1))
clock.datetime = Wall
clock.kept = lambda: told()[1] == "kept"
from controller.__main__ import main
sys.exit(main())
"""


@contextmanager
def running(folder: Path, by_s: float) -> Iterator[Callable[[float, str], None]]:
    """A controller whose wall clock is `by_s` off; what it yields sets it, and lets a time service agree or not."""
    told = folder / "wall"

    def put(seconds: float, service: str) -> None:
        (folder / "wall.new").write_text(f"{seconds} {service}")
        (folder / "wall.new").rename(told)

    put(by_s, "alone")
    config = folder / "depot.toml"
    config.write_text(CONFIG)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SET, str(told), "run", str(config)], stdout=log, stderr=log
        )
    try:
        yield put
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (folder / "log").read_text()


def status(folder: Path) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX) as console:
            console.settimeout(DEADLINE_S)
            console.connect(str(folder / "control.sock"))
            console.sendall(b'{"id": 1, "call": "status"}\n')
            found: dict[str, Any] = json.loads(console.makefile().readline())["ok"]
            return found
    except OSError:
        return {}


def until(folder: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline_s = time.monotonic() + 2 * DEADLINE_S
    while not (seen := status(folder)) or not wanted(seen):
        assert time.monotonic() < deadline_s, seen or (folder / "log").read_text()
        time.sleep(0.05)
    return seen


def clock_alarm(seen: dict[str, Any]) -> str:
    return next((each["text"] for each in seen["alarms"] if each["kind"] == "clock"), "")


def off_s(seen: dict[str, Any]) -> float:
    return (datetime.fromisoformat(seen["time"]) - datetime.now(UTC)).total_seconds()


def test_a_clock_that_is_set_while_it_runs_is_shown_alarmed_and_followed_in_one_step(tmp_path: Path) -> None:
    with running(tmp_path, 0.0) as put:
        until(tmp_path, lambda seen: seen["site"]["state"] == "auto" and not clock_alarm(seen))
        put(-10_000.0, "alone")
        seen = until(tmp_path, lambda seen: bool(clock_alarm(seen)))
        assert clock_alarm(seen) == "the clock was set back by 3 h: schedules and departures rest"
        assert seen["site"]["text"] == "the clock was set back by 3 h: schedules rest"
        assert off_s(seen) > -60, "our own time does not jump along"
        assert heartbeat(told_port(seen)) - datetime.now(UTC) > timedelta(seconds=-60), "nor does a station's"
        put(-10_000.0, "kept")
        seen = until(tmp_path, lambda seen: not seen["site"]["text"])
        assert abs(off_s(seen) + 10_000) < 60
        assert abs((heartbeat(told_port(seen)) - datetime.now(UTC)).total_seconds() + 10_000) < 60
        until(tmp_path, lambda _: "clock: believed again" in (tmp_path / "log").read_text())
    with closing(sqlite3.connect(tmp_path / "state" / "depot.db")) as db:
        rows = db.execute("SELECT detail FROM audit WHERE what = 'clock-set'").fetchall()
    assert rows == [("-10000 s",)]


def test_a_box_that_wakes_up_in_1970_goes_on_from_when_its_clock_was_right(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    stamp(state, Moment(0.0, NOON))
    with running(tmp_path, -time.time()) as put:
        seen = until(tmp_path, lambda seen: bool(clock_alarm(seen)))
        assert "1970" in clock_alarm(seen), "with its reason from the first moment"
        assert NOON <= datetime.fromisoformat(seen["time"]) < NOON + timedelta(minutes=5)
        put(0.0, "kept")
        seen = until(tmp_path, lambda seen: not seen["site"]["text"])
        assert abs(off_s(seen)) < 60


def told_port(seen: dict[str, Any]) -> int:
    (text,) = (each["text"] for each in seen["channels"] if each["id"] == "ocpp")
    return int(text.split()[-1])


def heartbeat(port: int) -> datetime:
    """What a station is told."""
    with connect(f"ws://127.0.0.1:{port}/ocpp/CP001", subprotocols=["ocpp1.6"]) as station:  # type: ignore[list-item]
        boot = {"chargePointVendor": "V", "chargePointModel": "M"}
        station.send(json.dumps([2, "1", "BootNotification", boot]))
        station.send(json.dumps([2, "2", "Heartbeat", {}]))
        while (frame := json.loads(station.recv(DEADLINE_S)))[:2] != [3, "2"]:
            pass
        return datetime.fromisoformat(frame[2]["currentTime"])
