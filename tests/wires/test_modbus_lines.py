"""Every kind of line against a second Modbus implementation: TCP, RTU over TCP, serial; and what goes wrong on each."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from meter_reports import read_once, running
from modbus_peer import Peer, SerialPeer

from controller.clock import SystemClock
from controller.core.events import MeterFailed, MeterReading
from controller.core.model import MeterId
from drivers.errors import Misconfigured, Nonsense, Refused, Unreachable
from drivers.modbus import bus, find, kinds
from drivers.modbus.bus import ModbusMeters
from drivers.modbus.device import Device
from drivers.modbus.installed import MeterSettings
from drivers.modbus.line import Address, Line
from drivers.modbus.registers import decode
from drivers.modbus.sunspec import ModelFile

Words = Mapping[tuple[int, int], int]


def example(kind: str) -> dict[tuple[int, int], int]:
    """The registers of a meter file's own example, and nothing else: whoever asks for more is refused."""
    file = find(kind)
    assert not isinstance(file, ModelFile)
    pairs = zip(file.MAP.blocks, file.EXAMPLE.raw, strict=True)
    return {(b.function, at): word for b, raw in pairs for at, word in zip(b.addresses, raw, strict=True)}


def settings(kind: str, peer: Peer | None = None, **other: Any) -> MeterSettings:
    facts: dict[str, Any] = {"host": "127.0.0.1", "port": peer.port if peer else 0, "unit": 1, "poll_s": 0.02}
    if peer is not None and peer.rtu:
        facts["transport"] = "rtu+tcp"
    return MeterSettings(MeterId(other.pop("name", "main")), kind, **{**facts, **other})


@asynccontextmanager
async def serving(units: Mapping[int, Words], **ways: Any) -> AsyncIterator[Peer]:
    peer = Peer(units, **ways)
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "TIMEOUT_S", 0.15)
    monkeypatch.setattr(bus, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(bus, "RETRY_MOST_S", 0.05)


PLAIN = [kind for kind in kinds() if not isinstance(find(kind), ModelFile)]


@pytest.mark.parametrize("kind", PLAIN)
async def test_every_meter_file_reads_its_example_over_the_wire(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the registers of the example exist: a read beyond them would be refused."""
    file = find(kind)
    assert not isinstance(file, ModelFile)
    monkeypatch.setattr(Device, "settle_s", 0.0)
    async with serving({1: example(kind)}) as peer:
        read_ = await read_once(settings(kind, peer), 1.0)
    watts = file.EXAMPLE.measured.total_power_w
    assert read_.power_w == (None if watts is None else pytest.approx(watts, abs=1))
    amps = [
        None if one is None else pytest.approx(one * 1000, abs=1) for one in file.EXAMPLE.measured.current_a
    ]
    assert list(read_.current_ma) == [*amps, *[None] * (3 - len(amps))]
    assert len(peer.asked) == len(file.MAP.blocks)


async def test_a_device_that_wants_a_pause_after_the_connection_gets_it() -> None:
    async with serving({1: example("huawei-sun2000")}) as peer:
        began_s = time.monotonic()
        await read_once(settings("huawei-sun2000", peer), 1.0)
        assert time.monotonic() - began_s >= 1.0


# --- RTU frames over TCP ------------------------------------------------------------------------------------------


async def test_rtu_over_tcp_reads_several_units_in_turn_over_one_connection() -> None:
    async with serving({1: example("sdm630"), 2: example("em24"), 3: example("b23")}, rtu=True) as peer:
        kinds_ = {1: "sdm630", 2: "em24", 3: "b23"}
        meters = [settings(kind, peer, unit=unit, name=kind) for unit, kind in kinds_.items()]
        async with running(meters) as reports:
            for kind in kinds_.values():
                await reports.next(MeterReading, kind, count=2)
        assert not [one for one in reports.events if isinstance(one, MeterFailed)]
        assert (peer.clients["ever"], peer.clients["most"]) == (1, 1)


@pytest.mark.parametrize("ways", [{"bad_crc": 1}, {"cut": 1}], ids=["checksum", "cut"])
async def test_a_spoilt_frame_is_a_lost_reading_that_says_why(impatient: None, ways: dict[str, int]) -> None:
    async with serving({1: example("sdm630")}, rtu=True, **ways) as peer:
        async with running([settings("sdm630", peer)]) as reports:
            failed = await reports.next(MeterFailed)
            event = await reports.next(MeterReading)
        assert failed.kind == "unreachable"
        assert "bytes that are none; noise, or another speed, parity or framing?" in failed.text
        assert event.power_w == 4704


async def test_noise_before_a_frame_does_not_become_a_value() -> None:
    async with serving({1: example("sdm630")}, rtu=True, noise=b"\xff\x00\x3c") as peer:
        try:
            event = await read_once(settings("sdm630", peer), 0.15)
        except Unreachable:
            return
        assert event.power_w == 4704


async def test_a_line_that_stays_silent_for_a_unit_is_a_time_out(impatient: None) -> None:
    async with serving({1: example("sdm630")}, rtu=True) as peer:
        meters = [settings("sdm630", peer), settings("sdm630", peer, unit=9, name="gone")]
        async with running(meters) as reports:
            failed = await reports.next(MeterFailed, "gone")
            await reports.next(MeterReading, count=3)
        assert "unit 9: no answer within 0.15 s (" in failed.text
        assert reports.of(MeterFailed) == []


# --- serial -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serial(units: Mapping[int, Words], **ways: Any) -> AsyncIterator[tuple[Peer, SerialPeer]]:
    peer = Peer(units, rtu=True, **ways)
    line = SerialPeer(peer)
    await line.start()
    try:
        yield peer, line
    finally:
        await line.stop()


async def test_a_serial_line_carries_several_meters() -> None:
    async with serial({1: example("sdm630"), 7: example("em24")}) as (_, line):
        meters = [
            settings("sdm630", host=line.device, transport="rtu", baud=19200),
            settings("em24", host=line.device, transport="rtu", baud=19200, unit=7, name="second"),
        ]
        async with running(meters) as reports:
            one = await reports.next(MeterReading)
            two = await reports.next(MeterReading, "second", count=2)
        assert (one.power_w, two.power_w) == (4704, 4687)
        assert not [each for each in reports.events if isinstance(each, MeterFailed)]


async def test_a_serial_line_recovers_from_a_bad_checksum(impatient: None) -> None:
    async with serial({1: example("sdm630")}, bad_crc=1) as (_, line):
        async with running([settings("sdm630", host=line.device, transport="rtu")]) as reports:
            failed = await reports.next(MeterFailed)
            event = await reports.next(MeterReading)
        assert "bytes that are none" in failed.text and f"{line.device} unit 1: " in failed.text
        assert event.power_w == 4704


@pytest.mark.parametrize(
    ("device", "said"),
    [("/dev/nowhere", "there is no such device"), (__file__, "it is in use, or no serial line")],
)
async def test_a_serial_device_that_cannot_be_opened_says_why(device: str, said: str) -> None:
    with pytest.raises(Unreachable, match=f"unit 1: no connection: {said}"):
        await read_once(settings("sdm630", host=device, transport="rtu"), 0.2)


async def test_a_line_that_cannot_be_set_as_told_says_so() -> None:
    """A pseudo-terminal has no parity."""
    async with serial({1: example("sdm630")}) as (_, line):
        with pytest.raises(Unreachable, match="cannot be set to 9600 baud, parity E, 1 stop bits"):
            await read_once(settings("sdm630", host=line.device, transport="rtu", parity="E"), 0.2)


# --- gateways -----------------------------------------------------------------------------------------------------


async def test_a_gateway_for_one_client_never_sees_two(impatient: None) -> None:
    async with serving({1: example("sdm630"), 2: example("em24")}, one_client=True, slow_s=0.01) as peer:
        meters = [settings("sdm630", peer), settings("em24", peer, unit=2, name="second")]
        async with running(meters) as reports:
            await reports.next(MeterReading, count=2)
            peer.slow_s = 0.3  # above the time-out: the connection is given up and a new one made
            await reports.next(MeterFailed)
            peer.slow_s = 0.0
            await reports.next(MeterReading)
            await reports.next(MeterReading, "second")
        assert peer.clients["most"] == 1


async def test_a_gateway_that_is_somebody_elses_is_asked_less_and_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus, "RETRY_FIRST_S", 0.1)
    async with serving({1: example("sdm630")}, one_client=True) as peer:
        _reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        async with running([settings("sdm630", peer)]) as reports:
            began_s = time.monotonic()
            await reports.next(MeterFailed, count=10)  # of some 20 ms each, were nobody polite
            lasted_s = time.monotonic() - began_s
            attempts = peer.clients["turned away"]
            writer.close()
            await reports.next(MeterReading)
        assert 1 <= attempts <= 3 + lasted_s / 0.3
        await writer.wait_closed()


async def test_two_meters_cannot_describe_one_line_differently() -> None:
    with pytest.raises(Misconfigured, match=r"meter b: .* described differently by meter a"):
        ModbusMeters(
            [
                settings("sdm630", host="/dev/x", transport="rtu", baud=9600, name="a"),
                settings("sdm630", host="/dev/x", transport="rtu", baud=19200, unit=2, name="b"),
            ],
            SystemClock(),
        )


# --- wrong answers over TCP ---------------------------------------------------------------------------------------


async def test_a_wrong_transaction_id_is_no_answer(impatient: None) -> None:
    async with serving({1: example("sdm630")}, wrong_transaction=1) as peer:
        async with running([settings("sdm630", peer)]) as reports:
            failed = await reports.next(MeterFailed)
            event = await reports.next(MeterReading)
        assert failed.kind == "unreachable"
        assert event.power_w == 4704


async def test_a_late_answer_is_never_taken_for_the_next(impatient: None) -> None:
    """The answer comes after the time-out, when the same question has been asked again."""
    registers = example("sdm630")
    async with serving({1: registers}, slow_s=0.2) as peer:
        async with running([settings("sdm630", peer)]) as reports:
            await reports.next(MeterFailed, count=3)
            registers[4, 52] = 0x4640  # another total power
            peer.slow_s = 0.0
            event = await reports.next(MeterReading)
        assert event.power_w is not None and event.power_w > 12_000


async def test_a_truncated_answer_over_tcp_is_a_lost_reading(impatient: None) -> None:
    async with serving({1: example("sdm630")}, cut=1) as peer:
        async with running([settings("sdm630", peer)]) as reports:
            failed = await reports.next(MeterFailed)
            await reports.next(MeterReading)
        assert failed.kind == "unreachable"


async def test_a_slow_answer_within_the_time_out_tells_its_latency() -> None:
    async with serving({1: example("sdm630")}, slow_s=0.05) as peer:
        async with running([settings("sdm630", peer)]) as reports:
            event = await reports.next(MeterReading)
        assert event.latency_ms >= 100  # two blocks


# --- reads that are too long --------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [2, 3])
async def test_a_device_that_refuses_long_reads_is_read_in_pieces_from_then_on(
    refusal: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ways = {"most": 10, "refusal": refusal}
    async with (
        serving({1: example("sdm630")}, **ways) as peer,
        running([settings("sdm630", peer)]) as reports,
    ):
        first = await reports.next(MeterReading)
        learnt = len(peer.asked)
        await reports.next(MeterReading, count=2)
    assert first.power_w == 4704 and first.current_ma == (16125, 8500, -4250)
    assert reports.of(MeterFailed) == []
    later = [count for _, _, _, count in peer.asked[learnt:]]
    assert later and max(later) <= 10
    [said] = [record.getMessage() for record in caplog.records]
    assert re.search(r" unit 1 takes at most (9|10) registers at once$", said)


async def test_registers_that_are_not_there_are_refused_and_not_asked_for_ever() -> None:
    registers = {key: word for key, word in example("sdm630").items() if key != (4, 12)}
    async with serving({1: registers}) as peer:
        with pytest.raises(Refused, match="exception 2, illegal data address"):
            await read_once(settings("sdm630", peer), 1.0)
        assert len(peer.asked) < 10


# --- SunSpec ------------------------------------------------------------------------------------------------------

COMMON = {1: [0x4578, 0x616D, 0x706C, 0x6500, *[0] * 62]}  # "Example"


def sunspec(base: int, *models: tuple[int, Sequence[int]]) -> dict[tuple[int, int], int]:
    """A device with these models; each is given without its id and length."""
    words = [0x5375, 0x6E53]
    for model, body in models:
        words += [model, len(body), *body]
    words += [0xFFFF, 0]
    return {(3, base + n): word for n, word in enumerate(words)}


def body(kind: str, model: int, length: int) -> list[int]:
    file = find(kind)
    assert isinstance(file, ModelFile)
    raw = list(file.EXAMPLES[model].raw[0])[2:]
    return raw + [0x8000] * (length - len(raw))


METER = (203, body("sunspec-meter", 203, 105))
INVERTER = (103, body("sunspec-inverter", 103, 50))


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_a_sunspec_meter_is_found_wherever_its_map_begins(base: int) -> None:
    async with serving({1: sunspec(base, (1, COMMON[1]), INVERTER, METER)}) as peer:
        event = await read_once(settings("sunspec-meter", peer), 1.0)
        assert (event.power_w, event.current_ma, event.import_wh) == (
            12_500,
            (41_000, -40_000, 39_000),
            987_654,
        )
        event = await read_once(settings("sunspec-inverter", peer), 1.0)
        assert (event.power_w, event.export_wh) == (-13_850, 12_345_678)


async def test_a_sunspec_device_is_walked_once_and_then_read_in_one_go() -> None:
    async with serving({1: sunspec(40000, (1, COMMON[1]), METER)}) as peer:
        async with running([settings("sunspec-meter", peer)]) as reports:
            await reports.next(MeterReading)
            learnt = len(peer.asked)
            await reports.next(MeterReading, count=3)
        assert {one[1:] for one in peer.asked[learnt:]} == {(3, 40070, 55)}


async def test_a_sunspec_model_that_moves_is_found_again() -> None:
    """An inverter that is switched to floats, or a firmware with one model more."""
    registers = sunspec(40000, (1, COMMON[1]), METER)
    async with serving({1: registers}) as peer, running([settings("sunspec-meter", peer)]) as reports:
        await reports.next(MeterReading)
        registers.clear()
        registers.update(sunspec(40000, (1, COMMON[1]), INVERTER, METER))
        failed = await reports.next(MeterFailed)
        event = await reports.next(MeterReading)
    assert failed.kind == "nonsense" and "not where it was" in failed.text
    assert event.power_w == 12_500


async def test_a_battery_takes_its_state_of_charge_from_another_model() -> None:
    charge = (713, [1000, 900, 77, 100, 1, 1, 0])
    async with serving({1: sunspec(40000, (714, body("sunspec-battery", 714, 43)), charge)}) as peer:
        line = Line(Address("127.0.0.1", peer.port), 1.0)
        await line.open()
        meter, words = await Device("sunspec-battery", 1).read(line)
        line.close()
    measured = decode(meter, words)
    assert (measured.total_power_w, measured.soc_pct) == (4200.0, 77.0)


@pytest.mark.parametrize(
    ("registers", "said"),
    [
        ({}, "no SunSpec marker at 40000, 0, 50000"),
        (sunspec(40000, (1, COMMON[1]), INVERTER), r"no model 213 or 203 .*; the device has 1, 103"),
        (sunspec(40000, (203, [0] * 20)), "no model"),  # too short to be one
    ],
)
async def test_what_a_sunspec_device_has_not_is_said(registers: Words, said: str) -> None:
    async with serving({1: registers}) as peer:
        with pytest.raises((Refused, Nonsense), match=said):
            await read_once(settings("sunspec-meter", peer), 1.0)


async def test_a_chain_of_models_that_never_ends_is_left() -> None:
    endless = {(3, at): word for at in range(40002, 42000, 2) for at, word in ((at, 7), (at + 1, 0))}
    async with serving({1: {**endless, (3, 40000): 0x5375, (3, 40001): 0x6E53}}) as peer:
        with pytest.raises(Refused, match="no model"):
            await read_once(settings("sunspec-meter", peer), 1.0)
        assert len(peer.asked) < 80
