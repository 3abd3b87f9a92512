"""A second, independent Modbus implementation on the other side of the wire: the server of pyModbusTCP.

Our client is pymodbus and the simulated meters make frames of their own; what both understand in the same wrong way would
be seen by neither. Here somebody else's library answers, with the register map of an SDM630 and values that move.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest
from meter_reports import read_once
from pyModbusTCP.server import DataBank, ModbusServer

from controller.clock import SystemClock
from controller.core.applied import Applied
from controller.core.events import Event, MeterReading
from controller.core.model import MeterId, PerPhase
from drivers.errors import Refused
from drivers.modbus.bus import ModbusMeters
from drivers.modbus.installed import MeterSettings

# input registers, 32-bit floats, high word first
VOLTAGES, CURRENTS, POWERS = 0, 6, 12
TOTAL_POWER, FREQUENCY, IMPORT = 52, 70, 72


def set_float(bank: DataBank, at: int, value: float) -> None:
    bank.set_input_registers(at, list(struct.unpack(">HH", struct.pack(">f", value))))


def shows(bank: DataBank, amps: float) -> None:
    """Every phase carries this current at 230 V."""
    for phase in range(3):
        set_float(bank, CURRENTS + 2 * phase, amps + phase)
        set_float(bank, VOLTAGES + 2 * phase, 230.0)
        set_float(bank, POWERS + 2 * phase, 230.0 * (amps + phase))
    set_float(bank, TOTAL_POWER, 230.0 * (3 * amps + 3))
    set_float(bank, FREQUENCY, 50.0)
    set_float(bank, IMPORT, 1234.5)


@pytest.fixture
async def bank() -> AsyncIterator[tuple[DataBank, int]]:
    """The library serves from threads of its own."""
    held = DataBank(i_regs_size=400)
    shows(held, 10.0)
    server = ModbusServer(host="127.0.0.1", port=0, no_block=True, data_bank=held)
    await asyncio.to_thread(server.start)
    try:
        yield held, port_of(server)
    finally:
        await asyncio.to_thread(server.stop)


def port_of(server: ModbusServer) -> int:
    """The library keeps the port it was asked for, which is 0."""
    return int(server._service.server_address[1])


def settings(port: int) -> MeterSettings:
    return MeterSettings(MeterId("main"), "sdm630", "127.0.0.1", port, unit=1, poll_s=0.02)


async def test_a_meter_of_another_implementation_is_read(bank: tuple[DataBank, int]) -> None:
    reading = await read_once(settings(bank[1]), 1.0)
    assert reading.current_ma == PerPhase(10_000, 11_000, 12_000)
    assert reading.voltage_mv == PerPhase(230_000, 230_000, 230_000)
    assert reading.power_w == 7_590
    assert reading.import_wh == 1_234_500


async def test_values_that_move_are_followed(bank: tuple[DataBank, int]) -> None:
    held, port = bank
    seen: list[MeterReading] = []
    followed = asyncio.Event()

    async def report(event: Event) -> Applied:
        assert isinstance(event, MeterReading), event
        seen.append(event)
        amps = (event.current_ma.l1 or 0) // 1000
        if amps == 20:
            followed.set()
        else:
            shows(held, amps + 1.0)
        return Applied()

    task = asyncio.create_task(ModbusMeters([settings(port)], SystemClock()).run(report))
    try:
        async with asyncio.timeout(10):
            await followed.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    currents = [reading.current_ma.l1 for reading in seen]
    assert currents[:11] == [1000 * amps for amps in range(10, 21)]
    assert [reading.taken_s for reading in seen] == sorted(reading.taken_s for reading in seen)


async def test_registers_it_has_not_are_refused() -> None:
    """Its exception is understood as ours are."""
    server = ModbusServer(host="127.0.0.1", port=0, no_block=True, data_bank=DataBank(i_regs_size=10))
    await asyncio.to_thread(server.start)
    try:
        with pytest.raises(Refused, match="exception 2, illegal data address"):
            await read_once(settings(port_of(server)), 1.0)
    finally:
        await asyncio.to_thread(server.stop)
