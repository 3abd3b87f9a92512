"""Contacts of external limits on real sockets: read as coil and as input, what goes wrong, and the whole way to a limit."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_separate_processes import Running, process, running, until

from controller.clock import SystemClock
from controller.core.events import Event, InputFailed, InputRead, MeterFailed, MeterReading
from controller.core.model import MeterId
from drivers.errors import Misconfigured
from drivers.modbus import bus
from drivers.modbus.bus import ContactSettings, MeterSettings, ModbusMeters
from drivers.sim.modbus_tcp import ModbusTcp
from drivers.sim.relay import SimRelay


@dataclass
class Reports:
    """What the driver reports, to wait for."""

    events: list[Event] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, event: Event) -> None:
        async with self.news:
            self.events.append(event)
            self.news.notify_all()

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The first such report from now on."""
        start = len(self.events)

        def found() -> Event | None:
            return next((event for event in self.events[start:] if wanted(event)), None)

        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event


def contact(port: int, name: str = "dso", table: str = "coil", at: int = 0, unit: int = 1) -> ContactSettings:
    return ContactSettings(name, "127.0.0.1", port, unit, table, at, 0.05)


@asynccontextmanager
async def driving(
    *contacts: ContactSettings, meters: tuple[MeterSettings, ...] = ()
) -> AsyncIterator[Reports]:
    reports = Reports()
    driver = ModbusMeters(meters, SystemClock(), contacts)
    task = asyncio.create_task(driver.run(reports))  # type: ignore[arg-type]
    try:
        yield reports
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def listening(server: ModbusTcp) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def said(name: str, closed: bool) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, InputRead) and (event.input, event.closed) == (name, closed)


def failed(kind: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, InputFailed) and event.kind == kind


async def test_coils_and_inputs_are_read_over_one_connection() -> None:
    relay = SimRelay()
    async with listening(relay):
        relay.closed[3] = relay.closed[9] = True
        contacts = (
            contact(relay.port, "a", "coil", 3),
            contact(relay.port, "b", "input", 9),
            contact(relay.port, "c", "coil", 4),
        )
        async with driving(*contacts) as reports:
            await reports.until(said("a", True))
            await reports.until(said("b", True))
            await reports.until(said("c", False))
            relay.closed[4] = True
            await reports.until(said("c", True))
            assert relay.connections == 1


class Box(ModbusTcp):
    """Answers every request alike, whatever was asked."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer

    def respond(self, unit: int, request: bytes) -> bytes:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (bytes((0x81, 2)), "refused"),  # no such coil
        (bytes((0x81, 6)), "unreachable"),  # busy
        (bytes((2, 1, 1)), "nonsense"),  # of the other table
        (bytes((1, 0)), "nonsense"),  # no bits
        (bytes((1, 2, 1, 0)), "nonsense"),  # too many
        (bytes((3, 2, 0, 1)), "nonsense"),  # a register
        (b"\x41\x00\x01", "nonsense"),  # a function code that does not exist
    ],
)
async def test_an_answer_that_is_none_is_never_a_position(answer: bytes, kind: str) -> None:
    box = Box(answer)
    async with listening(box), driving(contact(box.port)) as reports:
        await reports.until(failed(kind))
        assert not any(isinstance(event, InputRead) for event in reports.events)


async def test_a_silent_relay_fails_and_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "TIMEOUT_S", 0.1)
    relay = SimRelay()
    async with listening(relay), driving(contact(relay.port)) as reports:
        await reports.until(said("dso", False))
        relay.silent = True
        await reports.until(failed("unreachable"))
        relay.silent, relay.closed[0] = False, True
        await reports.until(said("dso", True))


async def test_a_missing_contact_is_refused_and_an_unknown_unit_out_of_reach() -> None:
    relay = SimRelay()
    async with (
        listening(relay),
        driving(contact(relay.port, "far", at=99), contact(relay.port, "other", unit=9)) as reports,
    ):
        assert failed("refused")(
            await reports.until(lambda e: isinstance(e, InputFailed) and e.input == "far")
        )
        other = await reports.until(lambda e: isinstance(e, InputFailed) and e.input == "other")
        assert failed("unreachable")(other)


class MeterAndRelay(ModbusTcp):
    """A gateway with an SDM630 without values as unit 1 and a relay as unit 2."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = SimRelay(unit=2)

    def respond(self, unit: int, request: bytes) -> bytes:
        if unit == 2:
            return self.relay.respond(unit, request)
        count = int.from_bytes(request[3:5])
        return bytes((request[0], 2 * count)) + struct.pack(">f", 230.0) * (count // 2)


async def test_a_relay_shares_the_line_of_a_meter() -> None:
    gateway = MeterAndRelay()
    async with listening(gateway):
        meter = MeterSettings(MeterId("main"), "sdm630", "127.0.0.1", gateway.port, 1, 0.05)
        async with driving(contact(gateway.port, unit=2), meters=(meter,)) as reports:
            await reports.until(said("dso", False))
            await reports.until(lambda event: isinstance(event, MeterReading | MeterFailed))
            gateway.relay.closed[0] = True
            await reports.until(said("dso", True))
            assert gateway.connections == 1


async def test_a_line_described_in_two_ways_is_refused() -> None:
    meter = MeterSettings(MeterId("main"), "sdm630", "127.0.0.1", 5020, 1, 1.0, transport="rtu+tcp")
    with pytest.raises(Misconfigured, match=r"input dso: .* described differently by meter main"):
        ModbusMeters([meter], SystemClock(), [contact(5020)])


# --- the whole way ------------------------------------------------------------------------------------------------------


def limit_lines(port: int) -> str:
    return (
        f'\n[grid_limit.dso]\ninput = "tcp://127.0.0.1:{port}/1?input=2"\nactive = "closed"\nlimit = "14a"\n'
        'poll = "0.2 s"\nstale_after = "2 s"\nwithin = "60 s"\n'
    )


def grid_limit(site: Running) -> dict[str, object]:
    status = site.status()
    assert status is not None
    (shown,) = status["grid_limits"]
    return dict(shown)


def test_a_contact_in_another_process_limits_and_its_loss_releases_nothing(tmp_path: Path) -> None:
    log, closed = tmp_path / "relay.log", tmp_path / "closed"
    with process(log, "drivers.sim", "relay", "--closed", str(closed)) as relay:
        port = int(
            until(lambda: log.read_text().partition("127.0.0.1:")[2].partition("/")[0], "the relay's port")
        )
        with running(tmp_path, more=limit_lines(port)) as site:
            until(lambda: grid_limit(site)["signal"] == "off", "the contact is read")
            until(lambda: sum(site.evse(n)["accepted_a"] or 0 for n in (1, 2, 3)) > 16, "vehicles charge")
            closed.write_text("2")
            until(lambda: grid_limit(site)["holds"] == "signal", "the limit holds")
            # 10.5 kW for three EVSEs are 15.2 A in all: two vehicles at 6 A or 7 A, one waits
            until(lambda: sum(site.evse(n)["accepted_a"] or 0 for n in (1, 2, 3)) <= 15.2, "applied")
            relay.kill()
            until(lambda: grid_limit(site)["signal"] == "lost", "the signal is lost")
            assert grid_limit(site)["holds"] == "on when the signal was lost"

            def alarmed() -> bool:
                status = site.status()
                return status is not None and "grid-input" in [alarm["kind"] for alarm in status["alarms"]]

            until(alarmed, "the alarm")
            assert sum(site.evse(n)["accepted_a"] or 0 for n in (1, 2, 3)) <= 15.2
            until(lambda: "grid-limit-evidence" in site.ask("log").stdout, "the evidence stands in the books")
            site.controller.terminate()
            site.controller.wait(20)
    with closing(sqlite3.connect(tmp_path / "state" / "depot.db")) as ledger:
        rows = ledger.execute("SELECT detail FROM audit WHERE what = 'grid-limit-evidence'").fetchall()
    (detail,) = rows[0]
    assert [word in detail for word in ("received", "(signal)", "applied", "in time")] == [True] * 4, detail
