"""The bus against a meter on a real socket: every way a meter can fail, what is said about it, and the way back."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from meter_reports import read_once, running
from pymodbus.client import AsyncModbusTcpClient

from controller.clock import SystemClock
from controller.core.applied import Applied
from controller.core.events import Event, MeterFailed, MeterReading
from controller.core.model import MeterId, PerPhase
from drivers.errors import Misconfigured, Nonsense, Refused, Unreachable
from drivers.modbus import bus, line
from drivers.modbus.bus import ModbusMeters
from drivers.modbus.installed import MeterSettings, reading
from drivers.modbus.registers import Measured
from drivers.sim.meter import MeterFaults, MeterTruth, SimMeter

TRUTH = MeterTruth(
    current_a=(16.0, 10.0, -5.0),
    voltage_v=(230.0, 231.0, 229.0),
    power_w=(3680.0, 2310.0, -1145.0),
    import_wh=1_234_500.0,
    export_wh=500.0,
)
EXPECTED = MeterReading(
    meter=MeterId("main"),
    taken_s=0.0,
    current_ma=PerPhase(16_000, 10_000, -5_000),
    power_w=4845,
    voltage_mv=PerPhase(230_000, 231_000, 229_000),
    import_wh=1_234_500,
    export_wh=500,
)


def bare(event: MeterReading) -> MeterReading:
    """Without what depends on the moment."""
    return replace(event, taken_s=0.0, latency_ms=None)


def settings(sim: SimMeter, name: str = "main", **other: Any) -> MeterSettings:
    facts = MeterSettings(MeterId(name), "sdm630", "127.0.0.1", sim.port, unit=1, poll_s=0.02)
    return replace(facts, **other)


@pytest.fixture
async def sim() -> AsyncIterator[SimMeter]:
    meter = SimMeter(lambda: TRUTH, units={2: lambda: TRUTH, 3: lambda: TRUTH})
    await meter.start()
    yield meter
    await meter.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(bus, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(bus, "RETRY_MOST_S", 0.05)


# --- readings -------------------------------------------------------------------------------------------------


async def test_a_reading_says_what_the_meter_measures(sim: SimMeter) -> None:
    async with running([settings(sim)]) as reports:
        first = await reports.next(MeterReading)
        await reports.next(MeterReading, count=3)
    assert bare(first) == EXPECTED
    assert reports.of(MeterFailed) == []
    assert sim.connections == 1


async def test_the_stamp_is_from_before_the_first_request(sim: SimMeter) -> None:
    sim.faults().delay_s = 0.1  # two blocks: the answer is complete 0.2 s after the first request
    clock = SystemClock()
    started_s = clock.now().mono_s
    async with running([settings(sim)]) as reports:
        event = await reports.next(MeterReading)
        age_s = clock.now().mono_s - event.taken_s
    assert event.taken_s >= started_s
    assert age_s >= 0.2


async def test_polls_keep_the_grid_and_a_late_one_causes_no_burst(sim: SimMeter) -> None:
    poll_s = 0.1
    async with running([settings(sim, poll_s=poll_s)]) as reports:
        first = await reports.next(MeterReading)
        sim.faults().delay_s = 0.13  # each poll misses the next two points of the grid
        await reports.next(MeterReading, count=2)
        sim.faults().delay_s = 0.0
        await reports.next(MeterReading, count=3)
    taken_s = [one.taken_s for one in reports.of(MeterReading)]
    phases = [(one - first.taken_s) / poll_s for one in taken_s]
    assert all(one - math.floor(one + 0.2) < 0.6 for one in phases)
    points = [math.floor(one + 0.2) for one in phases]
    assert len(set(points)) == len(points)  # never two polls for one point


async def test_the_clock_of_the_driver_sets_the_pace(sim: SimMeter) -> None:
    async with running([settings(sim, poll_s=3600.0)], speed=36_000.0) as reports:
        first = await reports.next(MeterReading)
        second = await reports.next(MeterReading)
    assert second.taken_s - first.taken_s > 1800


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (
            {"ct_ratio": 20.0},
            {
                "current_ma": PerPhase(320_000, 200_000, -100_000),
                "power_w": 96_900,
                "import_wh": 24_690_000,
                "export_wh": 10_000,
            },
        ),
        (
            {"invert": True},
            {
                "current_ma": PerPhase(-16_000, -10_000, 5_000),
                "power_w": -4845,
                "import_wh": 500,
                "export_wh": 1_234_500,
            },
        ),
        (
            {"phases": (1, 2, 0)},
            {
                "current_ma": PerPhase(-5_000, 16_000, 10_000),
                "voltage_mv": PerPhase(229_000, 230_000, 231_000),
            },
        ),
        (
            {"phases": (2,)},
            {"current_ma": PerPhase(None, None, 16_000), "voltage_mv": PerPhase(None, None, 230_000)},
        ),
    ],
)
async def test_the_installation_is_applied(
    sim: SimMeter, installed: dict[str, Any], expected: dict[str, object]
) -> None:
    event = await read_once(settings(sim, **installed), 1.0)
    assert replace(event, taken_s=0.0) == replace(EXPECTED, **expected)  # type: ignore[arg-type]


# --- failures -------------------------------------------------------------------------------------------------

Break = Callable[[MeterFaults], None]


def set_fault(**switches: object) -> Break:
    def throw(faults: MeterFaults) -> None:
        for name, value in switches.items():
            setattr(faults, name, value)

    return throw


FAULTS = [
    (set_fault(silent=True), "unreachable", "no answer within 0.2 s (function code 4, 18 registers at 0)"),
    (set_fault(delay_s=0.4), "unreachable", "no answer within 0.2 s"),
    (set_fault(garbage=True), "unreachable", "no answer within 0.2 s"),
    (set_fault(exception=1), "refused", "exception 1, illegal function"),
    (set_fault(exception=2), "refused", "exception 2, illegal data address"),
    (set_fault(exception=4), "refused", "exception 4, device failure"),
    (set_fault(exception=6), "unreachable", "exception 6, device busy"),
    (set_fault(exception=10), "unreachable", "exception 10, gateway path unavailable"),
    (set_fault(exception=11), "unreachable", "exception 11, gateway target does not respond"),
    (set_fault(exception=99), "refused", "exception 99, not in the specification"),
    (set_fault(short=True), "nonsense", "answered with 16 registers (function code 4, 18 registers at 0)"),
    (set_fault(wrong_function=True), "nonsense", "answered with function code 3 (function code 4"),
    (set_fault(undecodable=True), "nonsense", "answered with function code 65 and no registers"),
    (set_fault(nan=True), "nonsense", "no value for any current"),
]


@pytest.mark.parametrize(("throw", "kind", "text"), FAULTS)
async def test_each_fault_is_named_and_passes(
    sim: SimMeter,
    impatient: None,
    throw: Break,
    kind: str,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    faults = sim.faults()
    async with running([settings(sim)]) as reports:
        await reports.next(MeterReading)
        throw(faults)
        failed = await reports.next(MeterFailed)
        await reports.next(MeterFailed)
        for name, value in vars_of(MeterFaults()).items():
            setattr(faults, name, value)
        event = await reports.next(MeterReading, count=2)
    assert failed.kind == kind
    assert text in failed.text
    assert f"127.0.0.1:{sim.port} unit 1: " in failed.text
    assert bare(event) == EXPECTED
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2, messages  # on change only: one for the failure, one for the way back
    assert text in messages[0]
    assert messages[1] == "meter main reads again"


def vars_of(faults: MeterFaults) -> dict[str, object]:
    return {name: getattr(faults, name) for name in MeterFaults.__dataclass_fields__}


async def test_a_meter_that_refuses_connections_is_tried_again_at_every_poll(
    sim: SimMeter, impatient: None
) -> None:
    async with running([settings(sim), settings(sim, "second", unit=2)]) as reports:
        await reports.next(MeterReading)
        await sim.stop()
        failed = await reports.next(MeterFailed, count=2)
        others = await reports.next(MeterFailed, "second")
        await sim.start()
        event = await reports.next(MeterReading)
    assert (failed.kind, others.kind) == ("unreachable", "unreachable")
    assert "no connection" in failed.text
    assert bare(event) == EXPECTED
    assert sim.connections == 2


async def test_a_dead_bus_costs_one_attempt_for_all_units_that_are_due(
    sim: SimMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    class Counted(AsyncModbusTcpClient):
        def __init__(self, host: str, **other: Any) -> None:
            attempts.append(host)
            super().__init__(host, **other)

    monkeypatch.setattr(line, "AsyncModbusTcpClient", Counted)
    await sim.stop()
    async with running([settings(sim, poll_s=60.0), settings(sim, "second", unit=2, poll_s=60.0)]) as reports:
        await reports.next(MeterFailed, "second")
    assert len(reports.of(MeterFailed)) == len(attempts) == 1


async def test_after_a_time_out_the_connection_is_a_new_one(sim: SimMeter, impatient: None) -> None:
    sim.faults().silent = True
    async with running([settings(sim)]) as reports:
        await reports.next(MeterFailed)
        sim.faults().silent = False
        await reports.next(MeterReading)
    assert sim.connections >= 2


async def test_a_connection_lost_between_polls_costs_no_reading(sim: SimMeter) -> None:
    async with running([settings(sim)]) as reports:
        await reports.next(MeterReading)
        sim.hang_up()
        await reports.next(MeterReading, count=2)
    assert len(reports.of(MeterFailed)) <= 1  # only if the poll was on its way at that moment
    assert sim.connections == 2


async def test_a_connection_lost_in_the_middle_of_a_request_says_so(sim: SimMeter) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(12)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    with pytest.raises(Unreachable, match="the connection was closed"):
        await read_once(settings(sim, port=server.sockets[0].getsockname()[1]), 0.2)
    server.close()


async def test_a_meter_that_repeats_itself_for_a_minute_under_load_is_not_believed(sim: SimMeter) -> None:
    async with running([settings(sim, poll_s=5.0)], speed=400.0) as reports:
        await reports.next(MeterReading, count=20)  # 100 s of the same load, with the jitter of a live meter
        assert reports.of(MeterFailed) == []
        sim.faults().frozen = True
        failed = await reports.next(MeterFailed)
        sim.faults().frozen = False
        await reports.next(MeterReading)
    assert failed.kind == "stuck"
    said = re.search(r"not one bit has changed for (\d+) s at 4845 W", failed.text)
    assert said is not None
    assert int(said[1]) >= 60


async def test_a_meter_that_turns_round_between_two_polls_is_not_believed() -> None:
    truths = [TRUTH, replace(TRUTH, current_a=(16.0, 10.0, 5.0), power_w=(3680.0, 2310.0, 1145.0))]
    turned = replace(TRUTH, current_a=(-16.0, -10.0, -5.0), power_w=(-3680.0, -2310.0, -1145.0))
    meter = SimMeter(lambda: truths[-1])
    await meter.start()
    async with running([settings(meter)]) as reports:
        await reports.next(MeterReading)
        truths.append(turned)
        failed = await reports.next(MeterFailed)
        believed = len(reports.of(MeterReading))
        await reports.next(MeterFailed)
        assert len(reports.of(MeterReading)) == believed
        truths.pop()
        event = await reports.next(MeterReading)
    await meter.stop()
    assert failed.kind == "nonsense" and "every current has turned round" in failed.text
    assert event.power_w == 7135


async def test_a_site_at_rest_may_repeat_itself(sim: SimMeter) -> None:
    rest = replace(TRUTH, current_a=(1.0, 1.0, 1.0), power_w=(200.0, 200.0, 200.0))
    quiet = SimMeter(lambda: rest)
    await quiet.start()
    quiet.faults().frozen = True
    async with running([settings(quiet, poll_s=5.0)], speed=400.0) as reports:
        await reports.next(MeterReading, count=20)
    await quiet.stop()
    assert reports.of(MeterFailed) == []


async def test_a_reading_is_all_blocks_or_nothing(sim: SimMeter, impatient: None) -> None:
    """The second block of the meter fails: not even the currents of the first are reported."""
    server = await asyncio.start_server(_only_the_first_block, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running([settings(sim, port=port)]) as reports:
        failed = await reports.next(MeterFailed)
        await reports.next(MeterFailed)
    server.close()
    assert reports.of(MeterReading) == []
    assert "exception 4, device failure (function code 4, 24 registers at 52)" in failed.text


async def _only_the_first_block(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while request := await reader.read(12):
        address, count = struct.unpack(">HH", request[8:12])
        body = (
            struct.pack(">BB", 4, 2 * count) + b"\x43\x66\x33\x34" * (count // 2)
            if address == 0
            else b"\x84\x04"
        )
        writer.write(request[:4] + struct.pack(">HB", len(body) + 1, request[6]) + body)
    writer.close()


@pytest.mark.parametrize(
    ("transaction", "kind", "text"),
    [(0, Nonsense, "without the transaction id"), (0xBEEF, Unreachable, "no answer within")],
)
async def test_an_answer_to_another_question_is_not_taken(
    sim: SimMeter, transaction: int, kind: type[Exception], text: str
) -> None:
    async def stale(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(12):
            writer.write(struct.pack(">HHHBBB", transaction, 0, 39, 1, 4, 36) + b"\x43\x66\x33\x34" * 9)
        writer.close()

    server = await asyncio.start_server(stale, "127.0.0.1", 0)
    with pytest.raises(kind, match=text):
        await read_once(settings(sim, port=server.sockets[0].getsockname()[1]), 0.15)
    server.close()


async def test_a_cancellation_is_obeyed_whenever_it_comes(sim: SimMeter) -> None:
    async def ignore(event: Event) -> Applied:
        return Applied()

    for steps in range(1, 80):
        task = asyncio.create_task(ModbusMeters([settings(sim, poll_s=0.001)], SystemClock()).run(ignore))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        assert done, f"still polling after a cancellation in step {steps}"


# --- several units --------------------------------------------------------------------------------------------


async def test_a_dead_unit_delays_the_others_by_no_more_than_its_time_out(
    sim: SimMeter, impatient: None
) -> None:
    sim.faults(1).silent = sim.faults(3).silent = True
    meters = [settings(sim, "dead"), settings(sim, unit=2), settings(sim, "dead too", unit=3)]
    async with running(meters) as reports:
        await reports.next(MeterFailed, "dead")
        await reports.next(MeterReading, count=4)
        await reports.next(MeterFailed, "dead")
        await reports.next(MeterFailed, "dead too")
        taken_s = [one.taken_s for one in reports.of(MeterReading)]
        gaps_s = [later - earlier for earlier, later in pairwise(taken_s)]
        sim.faults(1).silent = False
        await reports.next(MeterReading, "dead")
    assert sorted(gaps_s)[len(gaps_s) // 2] < 2 * 0.2  # never both dead units in one gap
    assert reports.of(MeterFailed) == []


async def test_units_have_their_own_cadence(sim: SimMeter) -> None:
    meters = [settings(sim, poll_s=0.05), settings(sim, "slow", unit=2, poll_s=30.0)]
    async with running(meters) as reports:
        await reports.next(MeterReading, count=5)
    assert len(reports.of(MeterReading, "slow")) == 1
    assert sim.connections == 1


async def test_a_dead_bus_does_not_disturb_another(sim: SimMeter, impatient: None) -> None:
    other = SimMeter(lambda: TRUTH)
    await other.start()
    sim.faults().silent = True
    async with running([settings(sim, "dead"), settings(other)]) as reports:
        await reports.next(MeterReading, count=5)
        await reports.next(MeterFailed, "dead")
    await other.stop()
    assert reports.of(MeterFailed) == []


# --- one reading, and what can be true ------------------------------------------------------------------------


async def test_read_once_raises_what_is_wrong(sim: SimMeter) -> None:
    where = f"127.0.0.1:{sim.port} unit"
    with pytest.raises(Unreachable, match=f"{where} 9: exception 11"):
        await read_once(settings(sim, unit=9), 1.0)
    sim.faults().exception = 2
    with pytest.raises(Refused, match=f"{where} 1: exception 2"):
        await read_once(settings(sim), 1.0)
    sim.faults().exception, sim.faults().nan = None, True
    with pytest.raises(Nonsense, match=f"{where} 1: does not look like sdm630: voltage at 0 is no value"):
        await read_once(settings(sim), 1.0)
    await sim.stop()
    with pytest.raises(Unreachable, match=f"{where} 1: no connection"):
        await read_once(settings(sim), 1.0)


async def test_a_host_name_that_cannot_be_one_is_unreachable(sim: SimMeter) -> None:
    with pytest.raises(Unreachable, match="no connection"):
        await read_once(settings(sim, host="meter..depot"), 1.0)


PLAIN = MeterSettings(MeterId("m"), "sdm630", "::1", 502, 1, 1.0)


@pytest.mark.parametrize(
    ("measured", "complaint"),
    [
        (Measured(current_a=(10_001.0,)), "current of conductor 1"),
        (Measured(current_a=(0.0, -10_001.0)), "current of conductor 2"),
        (Measured(voltage_v=(79.0,), total_power_w=0.0), "voltage of conductor 1"),
        (Measured(voltage_v=(230.0, 301.0), total_power_w=0.0), "voltage of conductor 2"),
        (Measured(voltage_v=(4.2e-8,), total_power_w=0.0), "voltage of conductor 1"),
        (Measured(total_power_w=-3.4e38), "power is"),
        (Measured(power_w=(1e8,), total_power_w=0.0), "power is"),
        (Measured(frequency_hz=499.8, total_power_w=0.0), "frequency is"),
        (Measured(import_wh=-1.0, total_power_w=0.0), "below zero"),
        (Measured(voltage_v=(230.0,)), "no value for any current"),
    ],
)
def test_what_cannot_be_true_is_nonsense(measured: Measured, complaint: str) -> None:
    with pytest.raises(Nonsense, match=complaint):
        reading(PLAIN, measured, 0.0)


def test_a_dead_phase_and_an_unknown_one_are_not_the_same() -> None:
    event = reading(PLAIN, Measured(voltage_v=(230.0, 0.0, None), current_a=(1.0001, 0.0, None)), 5.0)
    assert event == MeterReading(
        MeterId("m"), 5.0, PerPhase(1001, 0, None), None, PerPhase(230_000, 0, None), None, None
    )


def test_the_ct_ratio_counts_for_the_bounds() -> None:
    with pytest.raises(Nonsense, match="current of conductor 1 is"):
        reading(replace(PLAIN, ct_ratio=2000.0), Measured(current_a=(6.0,)), 0.0)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"unit": 256}, "unit 256"),
        ({"poll_s": 0.0}, "every 0 s"),
        ({"ct_ratio": float("nan")}, "ct_ratio nan"),
        ({"phases": (0, 0, 1)}, "phases"),
        ({"phases": (0, 3)}, "phases"),
        ({"phases": ()}, "phases"),
    ],
)
def test_settings_no_meter_can_have_are_misconfigured(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(Misconfigured, match=f"meter m: .*{complaint}"):
        replace(PLAIN, **wrong)  # type: ignore[arg-type]


def test_a_kind_without_a_file_is_found_before_anything_runs() -> None:
    with pytest.raises(Misconfigured, match="sdm630"):
        ModbusMeters([replace(PLAIN, kind="sdm63")], SystemClock())
