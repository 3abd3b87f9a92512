"""OCPP 2.0.1 and 2.1 words on values: every message a station may send, transactions told in pieces, odd stations.

This file is long because one case for every message of two versions; the builders they share stand with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocpp_schema_walk import payloads, requests

from controller.core.events import (
    DrawTold,
    EvseSample,
    FaultReported,
    FirmwareReported,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionIdentified,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import (
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    Verdict,
    evse_id,
)
from drivers.ocpp import v2
from drivers.ocpp.frames import BadCall, Flaw
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.story import MOST_TRANSACTIONS, Story
from drivers.ocpp.versions import V21, V201, choose, spoken
from drivers.ocpp.words import Known, Request, Words

NOW = Moment(1000.0, datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC))
LINK = Link("ocpp", 180, 5, 30, 10)
BOTH = pytest.mark.parametrize("words", [V201, V21], ids=["2.0.1", "2.1"])
ONE, TWO = evse_id("CP", 1), evse_id("CP", 2)


def an_evse(number: int) -> Evse:
    return Evse(
        evse_id("CP", number), StationId("CP"), CircuitId("site"), 32_000, 6_000, (0, 1, 2), 6_000, LINK
    )


@dataclass
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = "42"
    group: str | None = None
    expires: datetime | None = None


@dataclass
class Reader:
    """One station: remembers as the dialogue does."""

    words: Words = V201
    evses: int = 2
    story: Story = field(default_factory=Story)
    transactions: dict[str, EvseId] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    statuses: dict[int, EvseState] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    held: bool = False
    waiting: bool = False

    def known(self) -> Known:
        return Known(
            station=StationId("CP"),
            evses={number: an_evse(number) for number in range(1, self.evses + 1)},
            heartbeat_s=60,
            transactions=self.transactions,
            ended=frozenset(self.ended),
            statuses=self.statuses,
            story=self.story,
            channel=self.words.channel,
            held=self.held,
            waiting=self.waiting,
        )

    def read(self, action: str, payload: dict[str, Any], now: Moment = NOW) -> Request:
        request = self.words.read(action, payload, self.known(), now)
        for event in request.events:
            match event:
                case TransactionStarted(evse=evse, transaction=str() as name) if name not in self.ended:
                    self.transactions[name] = evse
                case TransactionEnded(transaction=name):
                    self.transactions.pop(name, None)
                    self.ended.add(name)
                case StatusChanged(evse=evse, state=state):
                    self.statuses[int(evse[-1])] = state
        request.remember()
        self.remarks += request.remarks
        return request

    def events(self, action: str, payload: dict[str, Any]) -> tuple[Any, ...]:
        return self.read(action, payload).events

    def tell(
        self, kind: str, seq: int, state: str | None = None, token: str | None = None, **more: Any
    ) -> tuple[Any, ...]:
        return self.read("TransactionEvent", event(kind, seq, state, token, **more)).events


def at(seconds: float) -> str:
    return (NOW.utc + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def event(
    kind: str,
    seq: int,
    state: str | None = None,
    token: str | None = None,
    evse: int | None = 1,
    name: str = "tx-1",
    trigger: str = "ChargingStateChanged",
    register: float | None = None,
    context: str = "Sample.Periodic",
    stamp: float = 0,
    info: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "eventType": kind,
        "timestamp": at(stamp),
        "triggerReason": trigger,
        "seqNo": seq,
        "transactionInfo": {"transactionId": name, **(info or {})},
        **more,
    }
    if state is not None:
        payload["transactionInfo"]["chargingState"] = state
    if evse is not None:
        payload["evse"] = {"id": evse, "connectorId": 1}
    if token is not None:
        payload["idToken"] = {"idToken": token, "type": "ISO14443" if token else "NoAuthorization"}
    if register is not None:
        sample = {"value": register, "context": context, "unitOfMeasure": {"unit": "Wh"}}
        payload["meterValue"] = [{"timestamp": at(stamp), "sampledValue": [sample]}]
    return payload


# --- every message --------------------------------------------------------------------------------------------

# What the standard has the central system send, and only that; everything else a station may send.
TO_STATIONS = set(
    """CancelReservation CertificateSigned ChangeAvailability ClearCache ClearChargingProfile ClearDisplayMessage
    ClearVariableMonitoring CostUpdated CustomerInformation DeleteCertificate GetBaseReport GetChargingProfiles
    GetCompositeSchedule GetDisplayMessages GetInstalledCertificateIds GetLocalListVersion GetLog GetMonitoringReport
    GetReport GetTransactionStatus GetVariables InstallCertificate PublishFirmware RequestStartTransaction
    RequestStopTransaction ReserveNow Reset SendLocalList SetChargingProfile SetDisplayMessage SetMonitoringBase
    SetMonitoringLevel SetNetworkProfile SetVariableMonitoring SetVariables TriggerMessage UnlockConnector
    UnpublishFirmware UpdateFirmware AFRRSignal AdjustPeriodicEventStream ChangeTransactionTariff ClearDERControl
    ClearTariffs GetDERControl GetPeriodicEventStream GetTariffs NotifyAllowedEnergyTransfer RequestBatterySwap
    SetDERControl SetDefaultTariff UpdateDynamicSchedule UsePriorityCharging""".split()  # noqa: SIM905 - a list to read
)
EVERY = [
    (words, folder, action)
    for words, folder in ((V201, "v201"), (V21, "v21"))
    for action in sorted(requests(folder))
]


@pytest.mark.parametrize(
    ("words", "folder", "action"), EVERY, ids=[f"{words.version}-{action}" for words, _, action in EVERY]
)
def test_every_lawful_request_gets_a_lawful_answer(words: Words, folder: str, action: str) -> None:
    schemas = Schemas(folder)
    for payload in payloads(requests(folder)[action]):
        schemas.check(action, payload)  # what we made is lawful indeed
        reader = Reader(words)
        if action in TO_STATIONS:
            with pytest.raises(BadCall) as caught:
                reader.read(action, payload)
            assert caught.value.flaw is Flaw.NOT_SUPPORTED
            continue
        request = reader.read(action, payload)
        for said in (Said(), Said(Verdict.EXPIRED, None, "fleet", NOW.utc)):
            answer = request.reply(said if request.events else None)
            assert answer is not None
            schemas.check(f"{action}Response", json.loads(json.dumps(answer)))


def test_nothing_to_stations_is_forgotten_in_the_list_above() -> None:
    assert set(requests("v21")) - TO_STATIONS == set(v2.READERS_21)
    assert set(requests("v201")) - TO_STATIONS == set(v2.READERS_201)


@pytest.mark.parametrize(
    "action", ["StartTransaction", "HeartbeatRequest", "", "../Heartbeat", "NotifySettlement"]
)
def test_what_is_not_of_the_version_is_not_implemented(action: str) -> None:
    with pytest.raises(BadCall) as caught:
        Reader(V201).read(action, {})
    assert caught.value.flaw is Flaw.NOT_IMPLEMENTED


def test_the_newest_version_offered_is_chosen_and_a_pin_holds() -> None:
    offers = ["ocpp1.6", "ocpp2.1", "ocpp2.0.1"]
    chosen = [choose(offers[:1], None), choose(offers, None), choose(offers, "2.0.1"), choose(offers, "1.6")]
    assert [words.version for words in chosen if words] == ["1.6", "2.1", "2.0.1", "1.6"]
    assert choose(["ocpp1.6"], "2.1") is None
    assert choose(["ocpp0.1", ""], None) is None
    assert [words.channel for words in spoken(None)] == ["ocpp2.1", "ocpp2.0.1", "ocpp1.6"]


# --- station --------------------------------------------------------------------------------------------------

BOOT = {
    "reason": "PowerUp",
    "chargingStation": {
        "vendorName": "ACME", "model": "M" * 30, "serialNumber": "S" * 40, "firmwareVersion": " 2.0\u0000"
    },
}  # fmt: skip


@BOTH
def test_boot(words: Words) -> None:
    reader = Reader(words)
    reader.story.note_connector(1, 1, "occupied")
    request = reader.read("BootNotification", BOOT)
    assert request.events == (
        StationBooted(StationId("CP"), words.channel, "ACME", "M" * 30, "2.0", "S" * 40),
    )
    assert request.reply(Said()) == {
        "currentTime": "2026-11-22T12:00:00Z", "interval": 60, "status": "Accepted"
    }  # fmt: skip
    assert reader.story.connectors == {}  # they tell themselves again
    reader.story.note_connector(1, 1, "occupied")
    reader.read("BootNotification", {**BOOT, "reason": "Triggered"})
    assert reader.story.connectors


def test_a_station_can_be_made_to_wait() -> None:
    reader = Reader(held=True)
    request = reader.read("BootNotification", BOOT)
    assert request.events == ()
    assert (request.reply(None) or {})["status"] == "Pending"
    reader = Reader(waiting=True)
    for action in ("Heartbeat", "StatusNotification", "Authorize"):
        with pytest.raises(BadCall) as caught:
            reader.read(action, {})
        assert caught.value.flaw is Flaw.SECURITY
    assert reader.tell("Started", 0, "Charging", "A")  # a session is never lost
    assert reader.read("NotifyReport", {}).reply(None) == {}


@pytest.mark.parametrize(
    ("told", "states"),
    [
        ([(1, "Available")], [EvseState.AVAILABLE]),
        ([(1, "Occupied")], [EvseState.PREPARING]),
        ([(1, "Available"), (2, "Occupied"), (1, "Available")], ["available", "preparing", "preparing"]),
        ([(1, "Faulted"), (2, "Available")], ["faulted", "available"]),
        ([(1, "Unavailable"), (2, "Reserved")], ["unavailable", "reserved"]),
    ],
)
def test_an_evse_is_what_its_connectors_make_it(told: list[tuple[int, str]], states: list[str]) -> None:
    reader = Reader()
    seen = []
    for connector, word in told:
        payload = {"timestamp": at(0), "evseId": 2, "connectorId": connector, "connectorStatus": word}
        (changed,) = reader.events("StatusNotification", payload)
        assert changed.evse == TWO
        seen.append(changed.state)
    assert seen == states


def test_a_status_without_a_connector_is_of_the_first() -> None:
    reader = Reader()
    (changed,) = reader.events("StatusNotification", {"evseId": 1, "connectorStatus": "Faulted"})
    assert changed == StatusChanged(ONE, "ocpp2.0.1", EvseState.FAULTED, "connector 1")


def test_evse_0_is_the_whole_station() -> None:
    reader = Reader()
    request = reader.read(
        "StatusNotification", {"evseId": 0, "connectorId": 0, "connectorStatus": "Unavailable"}
    )
    assert [(e.evse, e.state) for e in request.events if isinstance(e, StatusChanged)] == [
        (ONE, EvseState.UNAVAILABLE), (TWO, EvseState.UNAVAILABLE)
    ]  # fmt: skip
    assert request.station_wide


@pytest.mark.parametrize(
    ("payload", "flaw"),
    [
        ({"connectorStatus": "Available"}, Flaw.OCCURRENCE),
        ({"evseId": "one"}, Flaw.TYPE),
        ({"evseId": -1}, Flaw.PROPERTY),
    ],
)
def test_a_status_of_no_evse_is_an_error(payload: dict[str, Any], flaw: Flaw) -> None:
    with pytest.raises(BadCall) as caught:
        Reader().read("StatusNotification", payload)
    assert caught.value.flaw is flaw


def test_an_unknown_status_or_evse_says_nothing_but_is_answered() -> None:
    reader = Reader()
    for payload in (
        {"evseId": 1, "connectorStatus": "Sleeping"},
        {"evseId": 9, "connectorStatus": "Occupied"},
    ):
        request = reader.read("StatusNotification", payload)
        assert (request.events, request.reply(None)) == ((), {})
    assert len(reader.remarks) == 2


def test_authorize_and_what_else_is_known_of_the_token() -> None:
    payload = {
        "idToken": {"idToken": "04A2", "type": "ISO14443"},
        "certificate": "-----BEGIN",
        "iso15118CertificateHashData": [{"hashAlgorithm": "SHA256"}],
    }
    request = Reader().read("Authorize", payload)
    assert request.events == (TokenPresented(StationId("CP"), "04A2"),)
    assert request.reply(Said(Verdict.BLOCKED)) == {"idTokenInfo": {"status": "Blocked"}}
    assert request.reply(Said(group="fleet", expires=NOW.utc)) == {
        "idTokenInfo": {
            "status": "Accepted",
            "groupIdToken": {"idToken": "fleet", "type": "Central"},
            "cacheExpiryDateTime": "2026-11-22T12:00:00Z",
        }
    }
    nobody = Reader().read("Authorize", {"idToken": {"idToken": "", "type": "NoAuthorization"}})
    assert (nobody.events, nobody.reply(None)) == ((), {"idTokenInfo": {"status": "Invalid"}})
    for missing, flaw in (({}, Flaw.OCCURRENCE), ({"idToken": "04A2"}, Flaw.TYPE)):
        with pytest.raises(BadCall) as caught:
            Reader().read("Authorize", missing)
        assert caught.value.flaw is flaw


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Downloading", "downloading"),
        ("SignatureVerified", "downloading"),
        ("InstallRebooting", "upgrading"),
        ("Installed", "success"),
        ("InstallVerificationFailed", "failed"),
        ("DownloadFailed", "failed"),
        ("InvalidSignature", "failed"),
        ("Idle", None),
        ("", None),
    ],
)
def test_firmware_progress(word: str, status: str | None) -> None:
    reported = Reader().events("FirmwareStatusNotification", {"status": word})
    expected = FirmwareReported(StationId("CP"), "ocpp2.0.1", "", status or "", text=word)
    assert reported == ((expected,) if status else ())


def test_a_problem_of_a_component_is_a_fault() -> None:
    def data(name: str, value: str, **more: Any) -> dict[str, Any]:
        return {
            "component": {"name": "Connector", "evse": {"id": 2}}, "variable": {"name": name},
            "actualValue": value, **more,
        }  # fmt: skip

    reader = Reader()
    faults = reader.events(
        "NotifyEvent",
        {
            "eventData": [
                data("Problem", "true", techCode="F-0421", techInfo="hot"),
                data("Problem", "true", cleared=True),
                data("Temperature", "80"),
                7,
            ]
        },
    )
    assert faults == (
        FaultReported(StationId("CP"), TWO, "ocpp2.0.1", "F-0421", True, "hot"),
        FaultReported(StationId("CP"), TWO, "ocpp2.0.1", "Connector.Problem", False, ""),
    )
    assert reader.remarks == ["told of a monitored variable"]


def test_the_needs_of_a_vehicle_are_told() -> None:
    needs = {"departureTime": at(3600), "acChargingParameters": {"energyAmount": 20_000}}
    request = Reader().read("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs})
    assert request.news == "EVSE 1: the vehicle asks for 20000 Wh until 2026-11-22T13:00:00Z"
    assert request.reply(None) == {"status": "Accepted"}
    assert request.events == ()
    needs = {"requestedEnergyTransfer": "AC_single_phase", "acChargingParameters": {"evMaxCurrent": 16}}
    request = Reader().read("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs})
    assert request.events == (DrawTold(ONE, "ocpp2.0.1", 1, 16_000),)
    for rubbish in ({"evMaxCurrent": -1}, {"evMaxCurrent": "x"}, {"evMaxCurrent": 1e9}, "x", None):
        needs = {"requestedEnergyTransfer": "DC", "acChargingParameters": rubbish}
        assert Reader().read("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs}).events == ()
    assert Reader().read("NotifyEVChargingNeeds", {"evseId": 9}).reply(None) == {"status": "Rejected"}


# --- samples --------------------------------------------------------------------------------------------------


def value(number: object, measurand: str, unit: str, power: object = 0, **more: Any) -> dict[str, Any]:
    return {
        "value": number, "measurand": measurand,
        "unitOfMeasure": {"unit": unit, "multiplier": power}, **more,
    }  # fmt: skip


def test_units_are_objects_with_a_power_of_ten() -> None:
    values = [
        value(15.9, "Current.Import", "A", phase="L1"),
        value(160, "Current.Import", "A", -1, phase="L2-N"),
        value(0.017, "Current.Import", "A", 3, phase="L3"),
        value(11, "Power.Active.Import", "kW"),
        value(1.5, "Energy.Active.Import.Register", "Wh", 3),
        value(55, "SoC", "Percent"),
        value(32, "Current.Import.Offered", "A"),
    ]
    payload = {"evseId": 1, "meterValue": [{"timestamp": at(0), "sampledValue": values}]}
    assert Reader(V21).events("MeterValues", payload) == (
        EvseSample(
            ONE, "ocpp2.1", 1000.0, PerPhase(15_900, 16_000, 17_000), 11_000, 1500, soc=55, offered_ma=32_000
        ),
    )


@pytest.mark.parametrize("power", ["x", 1e9, [], -400, True])
def test_a_value_whose_power_of_ten_makes_no_sense_is_unknown(power: object) -> None:
    values = [value(16, "Current.Import", "A", power), value(1, "SoC", "Percent")]
    payload = {"evseId": 1, "meterValue": [{"timestamp": at(0), "sampledValue": values}]}
    (sample,) = Reader().events("MeterValues", payload)
    assert sample.current_ma == PerPhase(None, None, None)


def test_values_of_the_grid_connection_or_of_the_past_say_nothing() -> None:
    entry = {"timestamp": at(0), "sampledValue": [value(16, "Current.Import", "A")]}
    assert Reader().events("MeterValues", {"evseId": 0, "meterValue": [entry]}) == ()
    old = {**entry, "timestamp": at(-500)}
    assert Reader().events("MeterValues", {"evseId": 1, "meterValue": [old]}) == ()


# --- transactions ---------------------------------------------------------------------------------------------


def test_a_session_from_token_to_departure() -> None:
    reader = Reader()
    request = reader.read(
        "TransactionEvent",
        event(
            "Started",
            0,
            "EVConnected",
            "04A2",
            trigger="Authorized",
            register=1000,
            context="Transaction.Begin",
        ),
    )
    assert request.events == (
        TransactionStarted(ONE, "ocpp2.0.1", "tx-1", "04A2", 1000, NOW.utc),
        StatusChanged(ONE, "ocpp2.0.1", EvseState.PREPARING),
    )
    assert request.reply(Said(Verdict.CONCURRENT_TX)) == {"idTokenInfo": {"status": "ConcurrentTx"}}
    assert reader.tell("Updated", 1, "Charging", evse=None) == (
        StatusChanged(ONE, "ocpp2.0.1", EvseState.CHARGING),
    )
    (sample,) = reader.tell("Updated", 2, "Charging", evse=None, register=1500)
    assert (sample.evse, sample.register_wh) == (ONE, 1500)
    assert reader.tell("Updated", 3, "SuspendedEV", evse=None) == (
        StatusChanged(ONE, "ocpp2.0.1", EvseState.SUSPENDED_EV),
    )
    ended = reader.read(
        "TransactionEvent",
        event(
            "Ended", 4, "EVConnected", "04A2", evse=None, trigger="StopAuthorized", register=2000,
            context="Transaction.End", info={"stoppedReason": "Local"},
        ),
    )  # fmt: skip
    assert ended.events == (
        TransactionEnded(StationId("CP"), ONE, "tx-1", "Local", 2000, NOW.utc, token="04A2"),
        StatusChanged(ONE, "ocpp2.0.1", EvseState.FINISHING),
    )
    assert ended.reply(Said(Verdict.INVALID)) == {"idTokenInfo": {"status": "Accepted"}}
    assert reader.remarks == []


def test_plugged_in_is_not_started() -> None:
    """TxStartPoint EVConnected: nothing may flow before a token, and the session carries that token."""
    reader = Reader()
    opened = reader.read(
        "TransactionEvent",
        event(
            "Started", 0, "EVConnected", trigger="CablePluggedIn", register=1000, context="Transaction.Begin"
        ),
    )
    assert opened.events == (StatusChanged(ONE, "ocpp2.0.1", EvseState.PREPARING),)
    assert opened.reply(None) == {}
    later = reader.read("TransactionEvent", event("Updated", 1, token="04A2", trigger="Authorized", stamp=30))
    assert later.events == (TransactionStarted(ONE, "ocpp2.0.1", "tx-1", "04A2", 1000, NOW.utc),)
    assert later.reply(Said()) == {"idTokenInfo": {"status": "Accepted"}}
    assert reader.story.openings == {}


@pytest.mark.parametrize(
    "more",
    [
        {"state": "Charging"},
        {"trigger": "RemoteStart"},
        {"info": {"remoteStartId": 7}},
        {"token": ""},  # NoAuthorization
    ],
)
def test_energy_may_flow_without_a_token_too(more: dict[str, Any]) -> None:
    reader = Reader()
    reader.tell("Started", 0, "EVConnected", trigger="CablePluggedIn")
    first = reader.tell("Updated", 1, **more)[0]
    assert isinstance(first, TransactionStarted)
    assert (first.token, first.inferred) == (None, False)


def test_plugged_in_and_out_again_is_no_session() -> None:
    reader = Reader()
    reader.tell("Started", 0, "EVConnected", trigger="CablePluggedIn", register=1000)
    over = reader.tell("Ended", 1, "Idle", register=1000, info={"stoppedReason": "EVDisconnected"})
    assert over == ()
    assert reader.story.openings == {}


def test_energy_that_flowed_unannounced_is_a_session_all_the_same() -> None:
    reader = Reader()
    reader.tell("Started", 0, "EVConnected", trigger="CablePluggedIn", register=1000)
    started, ended = reader.tell("Ended", 1, "Idle", register=1700, info={"stoppedReason": "EVDisconnected"})
    assert (started.register_wh, ended.register_wh) == (1000, 1700)


def test_a_token_before_the_evse_is_known_is_kept_for_it() -> None:
    reader = Reader()
    first = reader.read(
        "TransactionEvent", event("Started", 0, token="04A2", evse=None, trigger="Authorized")
    )
    assert first.events == (TokenPresented(StationId("CP"), "04A2"),)
    assert first.reply(Said(Verdict.EXPIRED)) == {"idTokenInfo": {"status": "Expired"}}
    started, changed = reader.tell("Updated", 1, "Charging", evse=2)
    assert (started.evse, started.token, started.inferred) == (TWO, "04A2", False)
    assert changed.evse == TWO


def test_a_start_that_never_came_is_inferred() -> None:
    reader = Reader()
    started, changed, sample = reader.tell("Updated", 7, "Charging", register=5000)
    assert (started.inferred, started.register_wh, started.token) == (True, 5000, None)
    assert (changed.state, sample.register_wh) == (EvseState.CHARGING, 5000)
    assert reader.remarks == ["a transaction came to light without its start"]


def test_a_stop_without_a_start_is_told_as_it_is() -> None:
    (ended,) = Reader().tell("Ended", 3, evse=None, register=10, info={"stoppedReason": "EVDisconnected"})
    assert (ended.evse, ended.transaction, ended.reason) == (None, "tx-1", "EVDisconnected")


def test_stop_before_start_revives_nothing() -> None:
    reader = Reader()
    reader.tell("Ended", 2, info={"stoppedReason": "EVDisconnected"})
    late = reader.tell("Started", 0, "Charging", "04A2", register=100)
    assert [type(each) for each in late] == [TransactionStarted]  # the depot knows that it is over
    assert reader.tell("Updated", 1, "Charging", register=200) == (
        TransactionMeasured(StationId("CP"), "tx-1", 200),
    )
    assert reader.transactions == {}


def test_the_same_event_again_is_answered_again_and_changes_nothing_live() -> None:
    reader = Reader()
    payload = event("Started", 0, "Charging", "04A2", register=1)
    reader.read("TransactionEvent", payload)
    again = reader.read("TransactionEvent", payload)
    assert [type(each) for each in again.events] == [TransactionStarted]
    assert again.reply(Said()) == {"idTokenInfo": {"status": "Accepted"}}
    assert reader.remarks == ["a transaction event came again, or later than its successor"]


def test_gaps_and_reordering_are_noted_and_old_news_is_not_live() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", "A")
    reader.tell("Updated", 3, "SuspendedEV", register=900)
    assert reader.tell("Updated", 2, "Charging", register=800) == ()
    assert reader.remarks == [
        "transaction events are missing: a gap in seqNo",
        "a transaction event came again, or later than its successor",
    ]


def test_a_station_that_counts_from_0_again_after_a_reboot_is_heard() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", "A")
    reader.tell("Updated", 8, "Charging")
    reader.events("BootNotification", BOOT)
    (sample,) = reader.tell("Updated", 0, "Charging", register=900)
    assert sample.register_wh == 900


@pytest.mark.parametrize("old", [{"offline": True}, {"stamp": -500}])
def test_a_replay_touches_no_live_state(old: dict[str, Any]) -> None:
    reader = Reader()
    (started,) = reader.tell("Started", 0, "Charging", "A", register=1, **old)
    assert started.offline
    assert reader.tell("Updated", 1, "Charging", register=2, **old) == ()
    (ended,) = reader.tell("Ended", 2, register=3, **old)
    assert (ended.offline, ended.register_wh) == (True, 3)


def test_a_replayed_phase_is_what_an_occupied_connector_means() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", "A", offline=True)
    (changed,) = reader.events(
        "StatusNotification", {"evseId": 1, "connectorId": 1, "connectorStatus": "Occupied"}
    )
    assert changed.state is EvseState.CHARGING


def test_occupied_after_the_end_is_finishing_until_it_is_free() -> None:
    reader = Reader()
    occupied = {"evseId": 1, "connectorId": 1, "connectorStatus": "Occupied"}
    reader.tell("Started", 0, "Charging", "A")
    reader.tell("Ended", 1, "EVConnected", info={"stoppedReason": "Remote"})
    assert reader.events("StatusNotification", occupied)[0].state is EvseState.FINISHING
    free = {**occupied, "connectorStatus": "Available"}
    assert reader.events("StatusNotification", free)[0].state is EvseState.AVAILABLE
    assert reader.events("StatusNotification", occupied)[0].state is EvseState.PREPARING


def test_the_end_of_a_vehicle_that_has_gone_says_nothing_of_the_evse() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", "A")
    reader.events("StatusNotification", {"evseId": 1, "connectorId": 1, "connectorStatus": "Available"})
    ended = reader.tell("Ended", 1, "EVConnected")
    assert [type(each) for each in ended] == [TransactionEnded]


def test_a_transaction_on_an_evse_we_cannot_budget_is_told_to_stop() -> None:
    reader = Reader()
    request = reader.read("TransactionEvent", event("Started", 0, "Charging", "A", evse=7))
    assert (request.events, request.reply(None)) == ((), {"idTokenInfo": {"status": "Invalid"}})
    assert "a transaction on an EVSE that is not configured" in reader.remarks


def test_the_only_evse_needs_no_number() -> None:
    reader = Reader(evses=1)
    started = reader.tell("Started", 0, "Charging", "A", evse=None)[0]
    assert started.evse == ONE


def test_an_unreadable_token_starts_nothing_and_is_invalid() -> None:
    reader = Reader()
    payload = event("Started", 0, "EVConnected", trigger="CablePluggedIn")
    request = reader.read("TransactionEvent", {**payload, "idToken": {"idToken": {"a": 1}}})
    assert [type(each) for each in request.events] == [StatusChanged]
    assert request.reply(None) == {"idTokenInfo": {"status": "Invalid"}}


def test_a_token_that_comes_while_energy_flows_names_the_driver() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", register=100)
    told = reader.read("TransactionEvent", event("Updated", 1, "Charging", "04A2", trigger="Authorized"))
    assert told.events == (TransactionIdentified(ONE, "ocpp2.0.1", "tx-1", "04A2"),)
    assert told.reply(Said(Verdict.BLOCKED)) == {"idTokenInfo": {"status": "Blocked"}}
    late = reader.tell("Updated", 2, "Charging", "04A2", offline=True)
    assert late == (TransactionIdentified(ONE, "ocpp2.0.1", "tx-1", "04A2", offline=True),)
    ending = reader.read(
        "TransactionEvent", event("Updated", 3, "Charging", "04A2", trigger="StopAuthorized")
    )
    assert not any(isinstance(each, TransactionIdentified) for each in ending.events)


def test_a_value_after_the_end_is_the_last_word_about_the_energy() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", register=100)
    reader.tell("Ended", 1, register=900)
    assert reader.tell("Updated", 2, register=950, context="Transaction.End") == (
        TransactionMeasured(StationId("CP"), "tx-1", 950),
    )
    assert reader.tell("Updated", 3, "Charging") == (), "and nothing is live"


@pytest.mark.parametrize(
    ("sequence", "marks"),
    [
        ((0, 1, 2), ()),
        ((0, 1, 1), ()),
        ((0, 3, 4), ("seq-gap",)),
        ((0, 1, 4), ("seq-gap",)),
        ((0, 5, 2), ("seq-gap", "reordered")),
    ],
)
def test_what_was_odd_on_the_way_is_marked_at_the_end(
    sequence: tuple[int, ...], marks: tuple[str, ...]
) -> None:
    reader = Reader()
    begin, on_the_way, last = sequence
    (start, *_) = reader.tell("Started", begin, "Charging", "04A2")
    assert start.marks == ()
    reader.tell("Updated", on_the_way, "Charging")
    (end, *_) = reader.tell("Ended", last)
    assert isinstance(end, TransactionEnded) and end.marks == marks
    assert reader.story.oddities == {}


def test_oddities_are_bounded() -> None:
    story = Story()
    for number in range(MOST_TRANSACTIONS + 5):
        story.note_oddities(f"tx-{number}", ("seq-gap",))
    assert len(story.oddities) == MOST_TRANSACTIONS


def test_a_stop_by_token_is_never_refused() -> None:
    reader = Reader()
    reader.tell("Started", 0, "Charging", "A")
    request = reader.read("TransactionEvent", event("Updated", 1, token="B", trigger="StopAuthorized"))
    assert request.reply(Said(Verdict.INVALID)) == {"idTokenInfo": {"status": "Accepted"}}


# --- whatever comes -------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1", "L1", "Charging", "Occupied", at(0)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "eventType": st.sampled_from(["Started", "Updated", "Ended"]) | JSON,
        "timestamp": JSON,
        "triggerReason": st.sampled_from(["Authorized", "StopAuthorized"]) | JSON,
        "seqNo": st.integers(-2, 5) | JSON,
        "offline": JSON,
        "evse": st.fixed_dictionaries({"id": st.integers(-1, 3)}) | JSON,
        "evseId": st.integers(-1, 3) | JSON,
        "connectorId": JSON,
        "connectorStatus": st.sampled_from(["Available", "Occupied"]) | JSON,
        "idToken": st.fixed_dictionaries({"idToken": JSON, "type": JSON}) | JSON,
        "transactionInfo": st.fixed_dictionaries(
            {"transactionId": st.sampled_from(["a", "b"]) | JSON},
            optional={"chargingState": st.sampled_from(["Charging", "Idle"]) | JSON, "stoppedReason": JSON},
        )
        | JSON,
        "chargingStation": JSON,
        "chargingNeeds": JSON,
        "certificateStatusRequests": JSON,
        "vatNumber": JSON,
        "status": JSON,
        "eventData": JSON,
        "meterValue": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "timestamp": JSON,
                    "sampledValue": st.lists(
                        st.fixed_dictionaries(
                            {}, optional={"value": JSON, "measurand": JSON, "unitOfMeasure": JSON, "phase": JSON}
                        ),
                        max_size=3,
                    ),
                },
            ),
            max_size=2,
        )
        | JSON,
    },
)  # fmt: skip


@given(messages=st.lists(st.tuples(st.sampled_from(sorted(v2.READERS_21)), OBJECTS), min_size=1, max_size=5))
def test_no_message_breaks_the_reader_and_every_answer_is_legal(
    messages: list[tuple[str, dict[str, Any]]],
) -> None:
    schemas = Schemas("v21")
    reader = Reader(V21)
    for action, payload in messages:
        try:
            request = reader.read(action, payload)
        except BadCall as bad:
            assert not v2.is_sacred(action)
            assert bad.flaw in v2.CODES
            continue
        answer = request.reply(Said() if request.events else None)
        assert answer is not None
        schemas.check(f"{action}Response", json.loads(json.dumps(answer)))


def test_the_story_is_bounded() -> None:
    reader = Reader()
    for number in range(500):
        reader.tell("Started", 0, "EVConnected", name=f"tx-{number}", trigger="CablePluggedIn")
        reader.events(
            "StatusNotification", {"evseId": 1, "connectorId": number, "connectorStatus": "Occupied"}
        )
    story = reader.story
    assert len(story.openings) == len(story.sequence) == MOST_TRANSACTIONS
    assert len(story.connectors) <= 64
