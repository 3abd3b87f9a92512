"""What systemd hears: READY after the first step, WATCHDOG only from finished work, STOPPING at the end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_depot import small_depot

from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import Moment
from controller.notify import Notifier


class Systemd:
    """A datagram socket that hears what a service tells."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """Every assignment since the last time, in order."""
        found: list[str] = []
        while True:
            try:
                found += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@depot-test-{os.getpid()}"
    listener = Systemd(address)
    yield listener
    listener.socket.close()


def kinds(heard: list[str]) -> list[str]:
    return [one for one in heard if not one.startswith("STATUS=")]


async def test_ready_comes_first_then_a_watchdog_per_step_then_stopping(
    tmp_path: Path, systemd: Systemd
) -> None:
    async with small_depot(tmp_path, notify=systemd.address) as depot:
        await depot.clock.advance(1.0)
        heard = systemd.heard()
        assert kinds(heard)[0] == "READY=1"
        assert kinds(heard).count("READY=1") == 1
        assert "STATUS=auto, 0/3 EVSEs connected" in heard
        await depot.clock.advance(5.0)
        assert kinds(systemd.heard()) == ["WATCHDOG=1"] * 5
    assert kinds(systemd.heard()) == ["STOPPING=1"]


async def test_a_hanging_ledger_thread_gets_no_watchdog_until_it_works_again(
    tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("controller.runtime.LEDGER_ALIVE_S", 0.4)
    monkeypatch.setattr("controller.storage.IDLE_S", 0.02)
    async with small_depot(tmp_path, notify=systemd.address) as depot:
        depot.pause_ledger()
        await depot.until(lambda: depot.storage.alive_s > 0.4)
        systemd.heard()
        await depot.clock.advance(5.0)
        assert kinds(systemd.heard()) == []
        assert caplog.text.count("does not answer") == 1, "said once, not every second"
        depot.resume_ledger()
        await depot.until(lambda: "WATCHDOG=1" in systemd.heard())
        assert "answers again" in caplog.text


async def test_a_blocked_loop_gets_no_watchdog(tmp_path: Path, systemd: Systemd) -> None:
    async with small_depot(tmp_path, notify=systemd.address) as depot:
        await depot.clock.advance(1.0)
        systemd.heard()
        time.sleep(0.3)  # noqa: ASYNC251 - this is the fault
        assert systemd.heard() == []
        await depot.clock.advance(1.0)
        assert kinds(systemd.heard()) == ["WATCHDOG=1"]


async def test_without_a_first_step_there_is_no_ready(
    tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(depot: Depot, now: Moment) -> Decision:
        raise ZeroDivisionError

    monkeypatch.setattr(Depot, "step", broken)
    async with small_depot(tmp_path, notify=systemd.address) as depot:
        await asyncio.wait({depot.task})
        assert depot.task.exception() is not None
    assert kinds(systemd.heard()) == ["STOPPING=1"]


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here"])
async def test_without_a_listener_the_depot_runs_all_the_same(tmp_path: Path, address: str) -> None:
    async with small_depot(tmp_path, notify=address) as depot:
        await depot.connect_stations()
        assert not depot.task.done()


def test_the_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Systemd(str(tmp_path / "notify"))
    try:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
        Notifier().send("READY=1", "STATUS=fine")
        assert listener.heard() == ["READY=1", "STATUS=fine"]
        monkeypatch.delenv("NOTIFY_SOCKET")
        Notifier().send("READY=1")
        assert listener.heard() == []
    finally:
        listener.socket.close()


def test_a_full_listener_does_not_hold_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listener = Systemd(str(tmp_path / "notify"))
    try:
        notifier = Notifier(listener.address)
        for _ in range(1000):
            notifier.send("WATCHDOG=1")
        assert "does not take notifications" in caplog.text
    finally:
        listener.socket.close()
