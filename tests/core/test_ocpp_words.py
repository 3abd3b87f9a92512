"""OCPP 1.6 words both ways, on values: requests to events, limits to profiles, frames to what people may see.

This file is long because every message of OCPP 1.6 has its odd spellings here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.commands import SetLimit, StartCharging, StopCharging
from controller.core.events import (
    EvseSample,
    StationBooted,
    StatusChanged,
    TransactionEnded,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import (
    CircuitId,
    Evse,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    Verdict,
    each_phase,
    evse_id,
)
from drivers.errors import Misconfigured, Refused
from drivers.ocpp import frames, profiles, samples, v16
from drivers.ocpp.frames import BadCall, Flaw
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.story import MOST_STRANGERS, Story
from drivers.ocpp.words import Capabilities, Known, Request

NOW = Moment(1000.0, datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC))
SCHEMAS = Schemas("v16")
LINK = Link("ocpp1.6", 180, 5, 30, 10)


def an_evse(number: int, phases: tuple[int, ...] = (0, 1, 2)) -> Evse:
    return Evse(evse_id("CP", number), StationId("CP"), CircuitId("site"), 32_000, 6_000, phases, 6_000, LINK)


def known(evses: int = 2, **more: Any) -> Known:
    values: dict[str, Any] = {
        "station": StationId("CP"),
        "evses": {number: an_evse(number) for number in range(1, evses + 1)},
        "heartbeat_s": 60,
        "transactions": {},
        "ended": frozenset(),
        "statuses": {},
        "channel": "ocpp1.6",
    }
    return Known(**{**values, **more})


@dataclass
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = "42"
    group: str | None = None
    expires: datetime | None = None


def read(action: str, payload: dict[str, Any], **more: Any) -> Request:
    return v16.read(action, payload, known(**more), NOW)


def the_event(action: str, payload: dict[str, Any], **more: Any) -> Any:
    (event,) = read(action, payload, **more).events
    return event


def at(seconds: float) -> str:
    return (NOW.utc + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


# --- requests -------------------------------------------------------------------------------------------------


def test_boot() -> None:
    payload = {
        "chargePointVendor": "ACME",
        "chargePointModel": "M" * 80,
        "firmwareVersion": " 1.2\u0000 ",
        "chargePointSerialNumber": "S" * 33,
    }
    request = read("BootNotification", payload)
    assert request.events == (StationBooted(StationId("CP"), "ocpp1.6", "ACME", "M" * 50, "1.2", "S" * 33),)
    assert request.reply(None) == {
        "currentTime": "2026-11-22T12:00:00Z",
        "interval": 60,
        "status": "Accepted",
    }


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Available", EvseState.AVAILABLE),
        ("SuspendedEVSE", EvseState.SUSPENDED_EVSE),
        ("suspended_ev", EvseState.SUSPENDED_EV),
        ("Occupied", EvseState.PREPARING),
        ("Finishing", EvseState.FINISHING),
    ],
)
def test_status(word: str, state: EvseState) -> None:
    payload = {"connectorId": 2, "status": word, "errorCode": "NoError"}
    assert the_event("StatusNotification", payload) == StatusChanged(evse_id("CP", 2), "ocpp1.6", state)


def test_a_fault_carries_what_the_station_says() -> None:
    payload = {
        "connectorId": 1,
        "status": "Faulted",
        "errorCode": "GroundFailure",
        "vendorErrorCode": "E42",
        "info": "i" * 80,
    }
    assert the_event("StatusNotification", payload).fault == "GroundFailure E42 " + "i" * 50
    assert the_event("StatusNotification", {"connectorId": 1, "status": "Faulted"}).fault == "unknown"


def test_an_unknown_status_or_connector_says_nothing_but_is_answered() -> None:
    for payload in ({"connectorId": 1, "status": "Sleeping"}, {"connectorId": 9, "status": "Charging"}):
        request = read("StatusNotification", payload)
        assert request.events == ()
        assert request.remarks
        assert request.reply(None) == {}


def test_connector_0_is_the_whole_station() -> None:
    down = read("StatusNotification", {"connectorId": 0, "status": "Faulted", "errorCode": "InternalError"})
    assert [(event.evse, event.state, event.fault) for event in down.events] == [
        ("CP/1", EvseState.FAULTED, "station: InternalError"),
        ("CP/2", EvseState.FAULTED, "station: InternalError"),
    ]
    up = read(
        "StatusNotification",
        {"connectorId": 0, "status": "Available"},
        statuses={1: EvseState.CHARGING},
    )
    assert up.events == (StatusChanged(evse_id("CP", 1), "ocpp1.6", EvseState.CHARGING),)
    assert up.station_wide


def test_start() -> None:
    payload = {"connectorId": 2, "idTag": "04A2", "meterStart": 12.0, "timestamp": at(-5)}
    request = read("StartTransaction", payload)
    assert request.events == (
        TransactionStarted(
            evse_id("CP", 2), "ocpp1.6", None, "04A2", 12, NOW.utc - timedelta(seconds=5), offline=False
        ),
    )
    assert request.reply(Said(Verdict.CONCURRENT_TX)) == {
        "transactionId": 42,
        "idTagInfo": {"status": "ConcurrentTx"},
    }
    assert request.reply(Said(transaction=None)) is None  # not stored: no answer, so it is repeated


@pytest.mark.parametrize(
    ("stamp", "seconds", "offline"),
    [
        (at(-119), -119, False),
        (at(-121), -121, True),
        (at(100), 100, False),
        (at(7200), 0, False),  # local time sent as UTC: it cannot have started in the future
        ("1970-01-01T00:00:00Z", 0, False),
        ("2026-11-22T11:59:50", -10.5, False),
        ("yesterday", 0, False),
        (None, 0, False),
        (17, 0, False),
    ],
)
def test_what_a_time_stamp_means(stamp: object, seconds: float, offline: bool) -> None:
    for action, field in (("StartTransaction", "started"), ("StopTransaction", "ended")):
        event = the_event(action, {"connectorId": 1, "transactionId": 1, "timestamp": stamp})
        assert getattr(event, field) == NOW.utc + timedelta(seconds=seconds)
        assert event.offline is offline


def test_nothing_is_old_while_our_own_clock_is_not_trusted() -> None:
    untrusted = NOW._replace(utc_trusted=False)
    payload = {"connectorId": 1, "timestamp": at(-9999), "idTag": "A", "meterStart": 0}
    (event,) = v16.read("StartTransaction", payload, known(), untrusted).events
    assert isinstance(event, TransactionStarted)
    assert not event.offline


def test_stop() -> None:
    payload = {
        "transactionId": 7,
        "meterStop": 9000,
        "timestamp": at(0),
        "idTag": "x" * 30,
        "reason": "Remote",
    }
    request = read("StopTransaction", payload, transactions={"7": evse_id("CP", 2)})
    assert request.events == (
        TransactionEnded(
            StationId("CP"), evse_id("CP", 2), "7", "Remote", 9000, NOW.utc, token="x" * 30, offline=False
        ),
    )
    assert request.reply(Said(Verdict.INVALID)) == {"idTagInfo": {"status": "Accepted"}}


def test_a_stop_without_a_register_takes_it_from_its_transaction_data() -> None:
    data = [
        {"timestamp": at(-60), "sampledValue": [{"value": "1", "context": "Transaction.Begin"}]},
        {
            "timestamp": at(0),
            "sampledValue": [{"value": "12.5", "unit": "kWh", "context": "Transaction.End"}],
        },
    ]
    event = the_event("StopTransaction", {"transactionId": 7, "transactionData": data})
    assert (event.register_wh, event.reason, event.evse) == (12_500, "Local", None)


@pytest.mark.parametrize(
    ("action", "flaw"),
    [("Reset", Flaw.NOT_SUPPORTED), ("TransactionEvent", Flaw.NOT_IMPLEMENTED), ("", Flaw.NOT_IMPLEMENTED)],
)
def test_what_is_not_for_us(action: str, flaw: Flaw) -> None:
    with pytest.raises(BadCall) as caught:
        read(action, {})
    assert caught.value.flaw is flaw
    assert v16.CODES[flaw] in ("NotSupported", "NotImplemented")


# --- meter values ---------------------------------------------------------------------------------------------


def sampled(*values: dict[str, Any], stamp: str | None = None, **more: Any) -> list[EvseSample]:
    entry = {"timestamp": stamp or at(0), "sampledValue": list(values)}
    payload = {"connectorId": 1, "meterValue": [entry], **more}
    events = read("MeterValues", payload).events
    return [event for event in events if isinstance(event, EvseSample)]


def value(text: object, measurand: str = "Current.Import", **more: Any) -> dict[str, Any]:
    return {"value": text, "measurand": measurand, **more}


def test_a_sample() -> None:
    (sample,) = sampled(
        value("15.9001", phase="L1"),
        value("16", phase="L2-N", unit="A"),
        value("0.0", phase="L3"),
        value("99", phase="N"),
        value("400", phase="L1-L2"),
        value("7.4", "Power.Active.Import", unit="kw"),
        value("1234.5", "Energy.Active.Import.Register", unit="kWh"),
        value("55", "SoC", unit="Percent", location="EV"),
        value("32", "Current.Offered", unit="A"),
        value("50", "Frequency", unit="Hz"),
    )
    assert sample == EvseSample(
        evse_id("CP", 1),
        "ocpp1.6",
        taken_s=1000.0,
        current_ma=PerPhase(15_901, 16_000, 0),
        power_w=7400,
        register_wh=1_234_500,
        soc=55,
        offered_ma=32_000,
    )


@pytest.mark.parametrize(
    ("values", "current"),
    [
        ([value("10")], each_phase(10_000)),
        ([value("10,5")], each_phase(10_500)),
        ([value(10)], each_phase(10_000)),
        ([value("10", "Current.Import.L2")], PerPhase(None, 10_000, None)),
        ([value("10", "Current.Export", phase="L1")], PerPhase(-10_000, None, None)),
        ([value("10", phase="L1"), value("99")], PerPhase(10_000, None, None)),
        ([value("10", phase="L1", unit="V"), value("1", "SoC")], each_phase(None)),
        ([value("99999", phase="L1"), value("1", "SoC")], each_phase(None)),
        (
            [value("10", phase="L1"), value("1", phase="L1", context="Transaction.Begin")],
            PerPhase(10_000, None, None),
        ),
        ([value("10", phase="L1"), value("12", phase="L1", location="Inlet")], PerPhase(10_000, None, None)),
    ],
)
def test_currents(values: list[dict[str, Any]], current: PerPhase[int | None]) -> None:
    (sample,) = sampled(*values)
    assert sample.current_ma == current


def test_one_current_of_a_single_phase_evse_is_its_one_conductor() -> None:
    payload = {"connectorId": 1, "meterValue": [{"sampledValue": [value("10")]}]}
    (event,) = v16.read("MeterValues", payload, replace(known(), evses={1: an_evse(1, (1,))}), NOW).events
    assert isinstance(event, EvseSample)
    assert event.current_ma == PerPhase(10_000, None, None)


def test_power_is_the_sum_only_when_every_phase_is_known() -> None:
    parts = [value("1000", "Power.Active.Import", phase=f"L{n}") for n in (1, 2, 3)]
    assert sampled(*parts)[0].power_w == 3000
    assert sampled(*parts[:2])[0].power_w is None
    assert sampled(*parts, value("2.5", "Power.Active.Import", unit="kW"))[0].power_w == 2500


def test_old_samples_are_not_live() -> None:
    assert sampled(value("10"), stamp=at(-119))
    assert sampled(value("10"), stamp=at(-121)) == []
    assert sampled(value("10"), stamp="1970-01-01T00:00:00Z")


def test_the_newest_of_several_stamps_counts() -> None:
    entries = [
        {"timestamp": at(0), "sampledValue": [value("16", phase="L1")]},
        {"timestamp": at(-10), "sampledValue": [value("8", phase="L1"), value("7", phase="L2")]},
    ]
    event = the_event("MeterValues", {"connectorId": 1, "meterValue": entries})
    assert event.current_ma == PerPhase(16_000, 7_000, None)


def test_values_of_an_ended_transaction_or_of_the_station_revive_nothing() -> None:
    payload = {"connectorId": 1, "transactionId": 7, "meterValue": [{"sampledValue": [value("10")]}]}
    assert read("MeterValues", payload).events
    assert read("MeterValues", payload, ended=frozenset({"7"})).events == ()
    assert read("MeterValues", {**payload, "connectorId": 0}).events == ()


REGISTER = "Energy.Active.Import.Register"


def metered(*contexts: str, transaction: object = 77) -> dict[str, Any]:
    values = [value(9000 + n, REGISTER, context=each) for n, each in enumerate(contexts)]
    return {"connectorId": 1, "transactionId": transaction, "meterValue": [{"sampledValue": values}]}


def test_the_value_at_the_end_of_an_unknown_transaction_is_its_last_word_and_not_live() -> None:
    (word,) = read("MeterValues", metered("Transaction.End")).events
    assert word == TransactionMeasured(StationId("CP"), "77", 9000)
    running = {"77": evse_id("CP", 1)}
    assert read("MeterValues", metered("Transaction.End"), transactions=running).events == ()


def test_an_unknown_transaction_that_is_metered_for_long_becomes_a_session() -> None:
    story = Story()

    def told(second: float, **more: Any) -> list[Any]:
        later = Moment(NOW.mono_s + second, NOW.utc + timedelta(seconds=second))
        request = v16.read("MeterValues", metered("Sample.Periodic"), known(story=story, **more), later)
        request.remember()
        return [event for event in request.events if isinstance(event, TransactionStarted)]

    assert told(0) == [] and told(29) == [], "its start may still come"
    assert told(31, transactions={"77": evse_id("CP", 1)}) == [], "it has come"
    assert told(31, statuses={1: EvseState.AVAILABLE}) == [], "nobody is there"
    (start,) = told(31)
    assert start == TransactionStarted(
        evse_id("CP", 1),
        "ocpp1.6",
        "77",
        None,
        9000,
        NOW.utc + timedelta(seconds=31),
        inferred=True,
        marks=("unknown-transaction",),
        unsure=True,
    )
    assert told(32) == [], "it is said once"


@pytest.mark.parametrize("number", [0, -1, "x7", None])
def test_what_is_no_number_of_a_transaction_becomes_none(number: object) -> None:
    story = Story(strangers={str(number): NOW.mono_s - 3600})
    events = read("MeterValues", metered("Sample.Periodic", transaction=number), story=story).events
    assert [type(event) for event in events] == [EvseSample]


def test_strangers_are_bounded_and_forgotten_with_a_boot() -> None:
    story = Story()
    for number in range(MOST_STRANGERS + 5):
        story.note_stranger(str(number), 0.0)
    assert len(story.strangers) == MOST_STRANGERS
    request = read("BootNotification", {}, story=story)
    request.remember()
    assert story.strangers == {}


def test_what_was_odd_about_a_message_is_marked() -> None:
    one = {"idTag": "A", "meterStart": 0}
    assert the_event("StartTransaction", {**one, "timestamp": at(0)}, evses=1).marks == ("no-connector",)
    assert the_event("StartTransaction", {**one, "connectorId": 1}).marks == ("time-of-receipt",)
    assert the_event("StopTransaction", {"transactionId": 1, "timestamp": at(0)}).marks == ()
    assert the_event("StopTransaction", {"transactionId": 1, "timestamp": "1970-01-01T00:00:00Z"}).marks == (
        "time-of-receipt",
    )


# --- limits ---------------------------------------------------------------------------------------------------


def a_limit(ma: int, transaction: str | None = None, lease_s: float = 180.9) -> SetLimit:
    return SetLimit("c", evse_id("CP", 2), "ocpp1.6", ma, lease_s, transaction)


def test_a_leased_limit_between_sessions() -> None:
    payload = profiles.limit(a_limit(16_099), 2, an_evse(2), Capabilities(max_stack_level=3), NOW.utc)
    SCHEMAS.check("SetChargingProfile", payload)
    assert payload == {
        "connectorId": 2,
        "csChargingProfiles": {
            "chargingProfileId": 22,
            "stackLevel": 3,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Absolute",
            "validFrom": "2026-11-22T11:59:00Z",
            "validTo": "2026-11-22T12:03:00Z",
            "chargingSchedule": {
                "duration": 240,
                "startSchedule": "2026-11-22T11:59:00Z",
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.0}],
            },
        },
    }


def test_one_stack_level_leaves_no_room_for_a_lease_between_sessions() -> None:
    flat = Capabilities(max_stack_level=0)
    with pytest.raises(Refused):
        profiles.limit(a_limit(16_000), 2, an_evse(2), flat, NOW.utc)
    with_transaction = profiles.limit(a_limit(16_000, "7"), 2, an_evse(2), flat, NOW.utc)
    assert with_transaction["csChargingProfiles"]["stackLevel"] == 0
    with pytest.raises(Refused):
        profiles.limit(a_limit(16_000, "not a number"), 2, an_evse(2), Capabilities(), NOW.utc)


@given(
    ma=st.integers(0, 500_000),
    lease_s=st.floats(1, 86_400),
    phases=st.sampled_from([(0,), (1, 2), (0, 1, 2)]),
    watts=st.booleans(),
    transaction=st.sampled_from([None, "1", "-1", "2147483647"]),
    micro=st.integers(0, 999_999),
)
def test_every_limit_is_legal_never_above_and_never_longer(
    ma: int, lease_s: float, phases: tuple[int, ...], watts: bool, transaction: str | None, micro: int
) -> None:
    now = NOW.utc.replace(microsecond=micro)
    command = a_limit(ma, transaction, lease_s)
    payload = profiles.limit(command, 2, an_evse(2, phases), Capabilities(in_watts=watts), now)
    SCHEMAS.check("SetChargingProfile", payload)
    profile = payload["csChargingProfiles"]
    schedule = profile["chargingSchedule"]
    (period,) = schedule["chargingSchedulePeriod"]
    allowed_ma = period["limit"] * 1000 if not watts else period["limit"] / 230 / len(phases) * 1000
    assert ma - (100 if not watts else 5) < allowed_ma <= ma + 1e-6
    end = datetime.fromisoformat(schedule["startSchedule"]) + timedelta(seconds=schedule["duration"])
    assert end == datetime.fromisoformat(profile["validTo"]) <= now + timedelta(seconds=lease_s)
    assert end > now + timedelta(seconds=lease_s - 2)
    assert ("numberPhases" in period) == (len(phases) == 1)


def test_the_fallback_has_no_end() -> None:
    payload = profiles.fallback(1, an_evse(1, (2,)), Capabilities())
    SCHEMAS.check("SetChargingProfile", payload)
    profile = payload["csChargingProfiles"]
    assert profile["chargingProfileId"] == 11
    assert profile["stackLevel"] == 0
    assert profile["chargingSchedule"] == {
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0, "numberPhases": 1}],
    }


def test_start_and_stop_words() -> None:
    evse = an_evse(2)
    start = StartCharging("c", evse.id, "ocpp1.6", "04A2", 10_000)
    request = profiles.start(start, 2, evse, Capabilities(), NOW.utc)
    SCHEMAS.check("RemoteStartTransaction", request)
    plain = profiles.start(start, 2, evse, Capabilities(smart_charging=False), NOW.utc)
    assert plain == {"connectorId": 2, "idTag": "04A2"}
    with pytest.raises(Refused):
        profiles.start(StartCharging("c", evse.id, "x", "t" * 21, 1), 2, evse, Capabilities(), NOW.utc)
    assert profiles.stop(StopCharging("c", evse.id, "x", "-1", "")) == {"transactionId": -1}


@pytest.mark.parametrize(
    ("unit", "in_watts"),
    [
        ("Current", False),
        ("A", False),
        ("Current,Power", False),
        ("Power", True),
        ('"W"', True),
        ("W;A", False),
        ("", False),
    ],
)
def test_capabilities_are_read_in_every_spelling(unit: str, in_watts: bool) -> None:
    answer = {
        "configurationKey": [
            {"key": "chargingscheduleallowedchargingrateunit", "readonly": True, "value": unit},
            {"key": "SupportedFeatureProfiles", "readonly": True, "value": ' Core; "SmartCharging" '},
            {"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "many"},
            {"key": "NumberOfConnectors", "readonly": True, "value": 1},
            {"key": "MaxChargingProfilesInstalled", "readonly": True},
        ]
    }
    able = profiles.capabilities(profiles.read_configuration(answer))
    assert able == Capabilities(
        smart_charging=True, in_watts=in_watts, takes_watts="W" in unit or "Power" in unit, evses=1
    )
    assert able.shortcomings(2) == ("it has 1 connectors, 2 are configured",)
    assert Capabilities(smart_charging=False, max_stack_level=0).shortcomings(1)


# --- frames ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('[2,"1","Authorize",{"idTag":"04A2B3C4"}]', '[2,"1","Authorize",{"idTag":"…B3C4"}]'),
        ('{"idTag" : "abc", "parentIdTag":"123456"}', '{"idTag" : "…", "parentIdTag":"…3456"}'),
        ('{"key":"AuthorizationKey","value":"5e\\"c"}', '{"key":"AuthorizationKey","value":"***"}'),
        ('{"value":"5ec","key":"authorizationKEY"}', '{"value":"***","key":"authorizationKEY"}'),
        ('{"location":"ftp://u:p@h/x"}', '{"location":"ftp://***@h/x"}'),
        ('{"idTag":"04A2B3C4', '{"idTag":"…B3C4'),
    ],
)
def test_frames_are_shown_without_secrets(text: str, shown: str) -> None:
    assert frames.redacted(text) == shown


def test_a_secret_cut_in_half_is_still_hidden() -> None:
    text = '{"key":"AuthorizationKey","pad":"' + "x" * (frames.KEPT_TEXT - 50) + '","value":"topsecretvalue"}'
    assert "topsec" not in frames.redacted(text)
    assert len(frames.redacted(text)) <= frames.KEPT_TEXT


def test_long_numbers_in_text_are_fine() -> None:
    text = '[2,"1","BootNotification",{"iccid":"' + "9" * 40 + '"}]'
    assert isinstance(frames.parse(text), frames.Call)


@given(st.text() | st.text(alphabet='[]{}",:\\0123456789.eE-ud8'))
def test_no_text_breaks_the_parser(text: str) -> None:
    parsed = frames.parse(text)
    if isinstance(parsed, frames.Malformed) and parsed.id is not None:
        frames.encode_error(parsed.id, "FormationViolation", parsed.text).encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["1", "L1", "16.5", at(0)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "connectorId",
        "transactionId",
        "idTag",
        "meterStart",
        "meterStop",
        "timestamp",
        "status",
        "errorCode",
        "info",
        "reason",
        "meterValue",
        "transactionData",
        "chargePointVendor",
        "chargePointModel",
        "firmwareVersion",
    ]
)
METER_VALUES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "timestamp": JSON,
            "sampledValue": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "value": JSON,
                        "measurand": st.sampled_from(["Current.Import", "SoC", "Power.Active.Import"]) | JSON,
                        "phase": st.sampled_from(["L1", "L2-N", "N"]) | JSON,
                        "unit": st.sampled_from(["A", "kW", "Wh"]) | JSON,
                        "context": JSON,
                        "location": JSON,
                    },
                ),
                max_size=4,
            ),
        },
    ),
    max_size=3,
)
PAYLOADS = st.dictionaries(FIELDS, JSON, max_size=8) | st.fixed_dictionaries(
    {
        "connectorId": st.sampled_from([1, 2, 1.0, "1"]),
        "meterValue": METER_VALUES,
        "transactionData": METER_VALUES,
    }
)


@given(action=st.sampled_from(sorted(v16._READERS)), payload=PAYLOADS)
def test_no_request_breaks_the_reader_and_every_answer_is_legal(action: str, payload: dict[str, Any]) -> None:
    try:
        request = v16.read(action, payload, known(), NOW)
    except BadCall as bad:
        assert not v16.is_sacred(action)
        assert bad.flaw in v16.CODES
        return
    answer = request.reply(Said())
    assert answer is not None
    SCHEMAS.check(f"{action}Response", json.loads(json.dumps(answer)))
    for event in request.events:
        if isinstance(event, EvseSample):
            assert all(part is None or abs(part) <= 10_000_000 for part in event.current_ma)


@given(values=METER_VALUES)
def test_meter_values_are_numbers_or_unknown(values: list[dict[str, Any]]) -> None:
    found = samples.newest_values(values, None)
    for number in found.values():
        assert abs(number) <= 1e12
    assert samples.currents_ma(found, 3) is not None


# --- schemas --------------------------------------------------------------------------------------------------


def test_nothing_illegal_leaves() -> None:
    for name, payload in (
        ("TriggerMessage", {"requestedMessage": "Nonsense"}),
        ("RemoteStartTransaction", {"idTag": "x" * 21}),
        ("NoSuchThing", {}),
        ("../v201/schemas/Reset", {}),
    ):
        with pytest.raises(Misconfigured):
            SCHEMAS.check(name, payload)


def test_deviations_are_named() -> None:
    payload = {"connectorId": 1, "status": "Charging", "errorCode": "Error", "info": "x" * 60}
    assert sorted(SCHEMAS.deviations("StatusNotification", payload)) == [
        "StatusNotification errorCode enum",
        "StatusNotification info maxLength",
    ]
    assert SCHEMAS.deviations("NoSuchThing", {}) == []
