"""Dialects of words: messages that differ from the book, clocks that are wrong, and what the depot makes of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ocpp_peer import fresh, now_text, peer, running
from ocpp_ways import CP1, EMPTIED, STATION, configured, needs_its_row, way

from controller.core.commands import SetLimit, StopCharging
from controller.core.depot import Depot as Core
from controller.core.events import (
    CommandAccepted,
    CommandSent,
    EvseSample,
    FallbackStored,
    LinkUp,
    PauseWished,
    StationBooted,
    StatusChanged,
    TransactionEnded,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseState,
    Link,
    Moment,
    PerPhase,
    Site,
    each_phase,
)
from drivers.ocpp.dialects import Dialects, shipped
from drivers.ocpp.hearing import Hearing

STATUS = {"connectorId": 1, "status": "Charging", "errorCode": "NoError"}
BOOT = {"chargePointVendor": "V", "chargePointModel": "M"}


def metered(*values: dict[str, Any], stamp: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "connectorId": 1,
        "meterValue": [{"timestamp": stamp or now_text(), "sampledValue": list(values)}],
        **more,
    }


SLOPPY: list[tuple[str, str, dict[str, Any], type]] = [
    ("serial", "BootNotification", {**BOOT, "chargePointSerialNumber": "S" * 33}, StationBooted),
    ("model", "BootNotification", {**BOOT, "chargePointModel": "M" * 23}, StationBooted),
    ("info", "StatusNotification", {**STATUS, "info": "i" * 70}, StatusChanged),
    ("errorcode", "StatusNotification", {**STATUS, "errorCode": "Error"}, StatusChanged),
    ("units", "MeterValues", metered({"value": "50", "measurand": "Frequency", "unit": "Hz"}, {"value": "9", "measurand": "Current.Import"}), EvseSample),
    ("empty", "MeterValues", metered(), type(None)),
    ("stoptag", "StopTransaction", {"transactionId": 7, "meterStop": 1, "timestamp": now_text(), "idTag": "?" * 21}, TransactionEnded),
    ("floats", "StopTransaction", {"transactionId": 7.5, "meterStop": 1, "timestamp": now_text()}, TransactionEnded),
]  # fmt: skip


@pytest.mark.parametrize(("name", "action", "payload", "event"), SLOPPY, ids=[each[0] for each in SLOPPY])
async def test_sloppy_messages_are_taken_and_counted(
    name: str, action: str, payload: dict[str, Any], event: type
) -> None:
    for table in (shipped(), EMPTIED):
        async with running(configured(table)) as (server, depot), peer(server) as station:
            reply = await station.ask(action, fresh(payload))
            assert reply[0] == 3, "never an error: the fact would be lost"
            assert any(isinstance(each, event) for each in depot.events) or event is type(None)
            assert server.quirks(STATION).get(name, 0) == (1 if table is shipped() else 0)


async def test_row_44_closing_values_belong_to_their_transaction() -> None:
    closing = metered(
        {"value": "2050", "context": "Transaction.End"}, {"value": "9", "measurand": "Current.Import"}
    )
    async with running(configured(shipped())) as (server, depot), peer(server) as station:
        start = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": now_text()}
        number = (await station.ask("StartTransaction", start))[2]["transactionId"]
        stop = {"transactionId": number, "meterStop": 2000, "timestamp": now_text()}
        await station.ask("StopTransaction", stop)
        samples = len(depot.all(EvseSample))
        reply = await station.ask("MeterValues", {**closing, "transactionId": number})
        assert reply[2] == {}
        assert depot.all(TransactionMeasured) == [TransactionMeasured(STATION, str(number), 2050)]
        assert len(depot.all(EvseSample)) == samples, "nothing of it is of now"


# --- clocks -----------------------------------------------------------------------------------------------------


async def test_row_54_a_clock_in_another_zone_is_seen_through() -> None:
    async def seen_through(table: Dialects) -> bool:
        async with way(dialects=table, skew_s=-5 * 3600.0, speed=60.0) as one:
            await one.session()
            live = await one.eventually(lambda: one.depot.all(EvseSample), within_s=1.5)
            if live:
                one.evse.unplug()
                ended = await one.depot.until_a(TransactionEnded)
                assert not ended.offline
                assert abs((ended.ended - one.clock.now().utc).total_seconds()) < 60
            assert live == (one.counted("localtime") > 0)
            return live

    await needs_its_row(seen_through)


def heard(hearing: Hearing, stamp: datetime, mono_s: float, utc: datetime) -> datetime:
    payload = {"meterValue": [{"timestamp": stamp.isoformat(), "sampledValue": []}]}
    straight = hearing.straighten("MeterValues", payload, Moment(mono_s, utc))
    return datetime.fromisoformat(straight["meterValue"][0]["timestamp"])


NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_row_54_a_replay_is_no_wrong_clock() -> None:
    hearing = Hearing()
    for n in range(50):  # ten minutes of values that were kept, told within a second, and then the present
        assert heard(hearing, after(-3600 + 12 * n), 100 + n / 50, after(n / 50)) == after(-3600 + 12 * n)
    for n in range(1, 5):
        assert heard(hearing, after(5 * n), 100 + 5 * n, after(5 * n)) == after(5 * n)
    assert hearing.offset_s == 0.0


def test_row_54_a_corrected_clock_is_believed_again() -> None:
    hearing = Hearing()
    for n in range(4):
        heard(hearing, after(7200 + 5 * n), 5.0 * n, after(5 * n))
    assert hearing.offset_s == 7200.0
    assert heard(hearing, after(7200 + 20), 20.0, after(20)) == after(20)
    for n in range(5, 9):
        heard(hearing, after(5 * n), 5.0 * n, after(5 * n))
    assert hearing.offset_s == 0.0
    assert heard(hearing, after(45), 45.0, after(45)) == after(45)


def test_row_54_nobody_is_corrected_by_a_clock_that_is_not_trusted() -> None:
    hearing = Hearing()
    payload = {"meterValue": [{"timestamp": after(0).isoformat()}]}
    for n in range(5):
        hearing.straighten("MeterValues", payload, Moment(5.0 * n, after(-7200), utc_trusted=False))
    assert hearing.offset_s == 0.0


@pytest.mark.parametrize(
    ("payload", "voltage_mv"),
    [
        ({"meterValue": [{"sampledValue": [{"measurand": "Voltage", "value": "229.6", "phase": "L1-N"}, {"measurand": "Voltage", "value": 221, "phase": "L2"}]}]}, 221_000),
        ({"meterValue": [{"sampledValue": [{"measurand": "Voltage", "value": "398", "phase": "L1-L2"}]}]}, None),
        ({"meterValue": [{"sampledValue": [{"measurand": "Voltage", "value": "0.0", "phase": "L1"}]}]}, None),
        ({"meterValue": [{"sampledValue": [{"measurand": "Voltage", "value": "NaN"}, 7, {"measurand": "Voltage"}]}]}, None),
        ({"meterValue": 5}, None),
    ],
)  # fmt: skip
def test_volts_are_of_a_phase_or_unknown(payload: dict[str, Any], voltage_mv: int | None) -> None:
    hearing = Hearing()
    hearing.note_voltage(payload)
    assert hearing.voltage_mv == voltage_mv


# --- what the core does with them -------------------------------------------------------------------------------


def a_core() -> Core:
    link = Link("ocpp", lease_s=180, lease_slack_s=5, raise_gap_s=0, answer_s=10)
    evse = Evse(CP1, STATION, SITE, 32_000, 6_000, (0, 1, 2), 6_000, link)
    circuit = Circuit(SITE, None, each_phase(100_000), assumed_load_ma=PerPhase(0, 0, 0))
    core = Core(Site("s", "UTC", 230_000, {SITE: circuit}, {CP1: evse}, accept_unknown_tokens=True), "1")
    for event in (
        LinkUp(STATION, "ocpp1.6", "p"),
        FallbackStored(CP1, "ocpp1.6", 6_000),
        StatusChanged(CP1, "ocpp1.6", EvseState.CHARGING),
        TransactionStarted(CP1, "ocpp1.6", "1", "TAG", 0, NOON),
    ):
        core.apply(event, Moment(1.0, NOON))
    return core


def obeyed(core: Core, seconds: range) -> list[Any]:
    """The commands of so many seconds; each is carried out at once."""
    found = []
    for second in seconds:
        now = Moment(float(second), after(second))
        for command in core.step(now).commands:
            found.append(command)
            core.apply(CommandSent(command.id), now)
            core.apply(CommandAccepted(command.id), now)
    return found


def test_row_37_load_is_shed_by_limits_and_never_by_stops() -> None:
    core = a_core()
    obeyed(core, range(2, 40))
    core.apply(PauseWished("o", "ann", CP1), Moment(40.0, after(40)))
    commands = obeyed(core, range(41, 80))
    assert next(c.limit_ma for c in commands if isinstance(c, SetLimit)) == 0
    assert not [c for c in commands if isinstance(c, StopCharging)]


def test_row_39_a_suspended_evse_keeps_its_limit() -> None:
    core = a_core()
    obeyed(core, range(2, 40))
    before = core.step(Moment(40.0, after(40))).snapshot.evses[0]
    assert before.accepted_ma is not None and before.accepted_ma > 6_000
    core.apply(StatusChanged(CP1, "ocpp1.6", EvseState.SUSPENDED_EVSE), Moment(41.0, after(41)))
    now = core.step(Moment(42.0, after(42))).snapshot.evses[0]
    assert (now.accepted_ma, now.commitment_ma) == (before.accepted_ma, before.commitment_ma)


async def test_a_dialect_is_logged_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="drivers.ocpp")
    async with running(configured(shipped())) as (server, _), peer(server) as station:
        for _ in range(3):
            await station.ask("StatusNotification", {**STATUS, "errorCode": "Error"})
        assert server.quirks(STATION)["errorcode"] == 3
    await asyncio.sleep(0)
    assert len([r for r in caplog.records if "errorCode" in r.getMessage()]) == 1
