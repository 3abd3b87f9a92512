"""OCPP 2.x orders and setup on values: limits as charging profiles, starts, discharges, variables in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.model import CircuitId, Evse, Link, StationId, evse_id
from drivers.errors import Refused
from drivers.ocpp import v2_setup
from drivers.ocpp.frames import redacted
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.versions import V16, V21, V201
from drivers.ocpp.words import Capabilities, Order, Words

NOW = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)
LINK = Link("ocpp", 180, 5, 30, 10)
ABLE = Capabilities(max_stack_level=3)
BOTH = pytest.mark.parametrize("words", [V201, V21], ids=["2.0.1", "2.1"])


def an_evse(phases: tuple[int, ...] = (0, 1, 2)) -> Evse:
    return Evse(evse_id("CP", 2), StationId("CP"), CircuitId("site"), 32_000, 6_000, phases, 6_000, LINK)


def a_limit(ma: int, transaction: str | None = None, lease_s: float = 180.9) -> SetLimit:
    return SetLimit("c", evse_id("CP", 2), "ocpp", ma, lease_s, transaction)


def checked(words: Words, order: Order) -> dict[str, Any]:
    words.dialect.schemas.check(*order)
    return order.payload


# --- limits ---------------------------------------------------------------------------------------------------


@BOTH
def test_a_leased_limit_of_a_transaction(words: Words) -> None:
    payload = checked(words, words.limit(a_limit(16_099, "tx-1"), 2, an_evse(), ABLE, NOW))
    offline = {"maxOfflineDuration": 180} if words is V21 else {}
    assert payload == {
        "evseId": 2,
        "chargingProfile": {
            "id": 23,
            "stackLevel": 3,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Absolute",
            "validFrom": "2026-11-22T11:59:00Z",
            "validTo": "2026-11-22T12:03:00Z",
            "transactionId": "tx-1",
            "chargingSchedule": [
                {
                    "id": 23,
                    "startSchedule": "2026-11-22T11:59:00Z",
                    "duration": 240,
                    "chargingRateUnit": "A",
                    "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.0}],
                }
            ],
            **offline,
        },
    }


@BOTH
def test_between_sessions_the_lease_lies_over_the_fallback(words: Words) -> None:
    payload = checked(words, words.limit(a_limit(16_000), 2, an_evse(), ABLE, NOW))
    profile = payload["chargingProfile"]
    assert (profile["id"], profile["chargingProfilePurpose"], profile["stackLevel"]) == (
        22,
        "TxDefaultProfile",
        3,
    )
    assert "transactionId" not in profile
    with pytest.raises(Refused, match="one stack level"):
        words.limit(a_limit(16_000), 2, an_evse(), Capabilities(max_stack_level=0), NOW)


@BOTH
def test_the_fallback_has_no_end(words: Words) -> None:
    profile = checked(words, words.fallback(2, an_evse((2,)), ABLE))["chargingProfile"]
    assert profile == {
        "id": 21,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": [
            {
                "id": 21,
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0, "numberPhases": 1}],
            }
        ],
    }


@given(
    words=st.sampled_from([V201, V21]),
    ma=st.integers(0, 500_000),
    lease_s=st.floats(1, 86_400),
    phases=st.sampled_from([(0,), (1, 2), (0, 1, 2)]),
    watts=st.booleans(),
    transaction=st.sampled_from([None, "1", "x" * 36]),
)
def test_every_limit_is_legal_never_above_and_never_longer(
    words: Words, ma: int, lease_s: float, phases: tuple[int, ...], watts: bool, transaction: str | None
) -> None:
    able = Capabilities(in_watts=watts)
    order = words.limit(a_limit(ma, transaction, lease_s), 2, an_evse(phases), able, NOW)
    profile = checked(words, order)["chargingProfile"]
    (schedule,) = profile["chargingSchedule"]
    (period,) = schedule["chargingSchedulePeriod"]
    allowed_ma = period["limit"] * 1000 if not watts else period["limit"] / 230 / len(phases) * 1000
    assert ma - (100 if not watts else 5) < allowed_ma <= ma + 1e-6
    assert round(period["limit"], 1) == period["limit"]
    end = datetime.fromisoformat(schedule["startSchedule"]) + timedelta(seconds=schedule["duration"])
    assert end == datetime.fromisoformat(profile["validTo"]) <= NOW + timedelta(seconds=lease_s)
    assert end > NOW + timedelta(seconds=lease_s - 2)
    assert profile.get("maxOfflineDuration", 0) <= lease_s
    assert ("numberPhases" in period) == (len(phases) == 1)


# --- starts and stops -----------------------------------------------------------------------------------------


@BOTH
def test_start(words: Words) -> None:
    command = StartCharging("c-7", evse_id("CP", 2), "ocpp", "04A2", 10_000)
    request = checked(words, words.start(command, 2, an_evse(), ABLE, NOW))
    assert (request["evseId"], request["idToken"]) == (2, {"idToken": "04A2", "type": "Central"})
    assert request["chargingProfile"]["chargingProfilePurpose"] == "TxProfile"
    assert "transactionId" not in request["chargingProfile"]
    other = StartCharging("c-8", command.evse, "ocpp", None, 10_000)
    nobody = checked(words, words.start(other, 2, an_evse(), Capabilities(smart_charging=False), NOW))
    assert nobody["idToken"] == {"idToken": "", "type": "NoAuthorization"}
    assert "chargingProfile" not in nobody
    assert nobody["remoteStartId"] != request["remoteStartId"]


def test_a_token_that_is_too_long_for_the_version_is_refused() -> None:
    command = StartCharging("c", evse_id("CP", 2), "ocpp", "t" * 37, 10_000)
    checked(V21, V21.start(command, 2, an_evse(), ABLE, NOW))
    with pytest.raises(Refused, match="at most 36"):
        V201.start(command, 2, an_evse(), ABLE, NOW)


@BOTH
def test_stop(words: Words) -> None:
    def stop(transaction: str | None) -> Order:
        return words.stop(StopCharging("c", evse_id("CP", 2), "ocpp", transaction, ""))

    assert checked(words, stop("tx-1")) == {"transactionId": "tx-1"}
    for impossible in (None, "", "x" * 37):
        with pytest.raises(Refused):
            stop(impossible)


# --- discharge ------------------------------------------------------------------------------------------------

V2X = Capabilities(max_stack_level=3, takes_watts=True, discharge=True)
DISCHARGE = StartDischarge("c", evse_id("CP", 2), "ocpp", 5_000, 1800.0, 40)


def test_discharge_is_a_negative_set_point_that_ends() -> None:
    profile = checked(V21, V21.discharge(DISCHARGE, "tx-1", 2, an_evse(), V2X, NOW))["chargingProfile"]
    (schedule,) = profile["chargingSchedule"]
    assert (profile["chargingProfilePurpose"], profile["transactionId"]) == ("TxProfile", "tx-1")
    assert (schedule["chargingRateUnit"], schedule["duration"]) == ("W", 1860)
    assert schedule["chargingSchedulePeriod"] == [
        {"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": -5000.0}
    ]
    amps = Capabilities(discharge=True)
    profile = checked(V21, V21.discharge(DISCHARGE, "tx-1", 2, an_evse((0,)), amps, NOW))["chargingProfile"]
    assert profile["chargingSchedule"][0]["chargingSchedulePeriod"][0]["setpoint"] == -21.7


@pytest.mark.parametrize(
    ("words", "transaction", "able", "why"),
    [
        (V21, "tx-1", ABLE, "does not declare V2X"),
        (V21, None, V2X, "no running transaction"),
        (V201, "tx-1", V2X, "2.0.1 has no word"),
        (V16, "1", V2X, "1.6 has no word"),
    ],
)
def test_what_cannot_discharge_is_told(
    words: Words, transaction: str | None, able: Capabilities, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        words.discharge(DISCHARGE, transaction, 2, an_evse(), able, NOW)


# --- setup ----------------------------------------------------------------------------------------------------


class Device:
    """A device model behind GetVariables and SetVariables that takes `most` items and refuses the message otherwise."""

    def __init__(self, most: int, words: Words = V201, **values: str) -> None:
        self.most = most
        self.words = words
        self.values = {name.replace("__", "."): value for name, value in values.items()}
        self.values["DeviceDataCtrlr.ItemsPerMessage"] = str(most)
        self.refuses: set[tuple[str, str]] = set()
        self.written: list[tuple[str, str]] = []
        self.messages: list[str] = []

    async def ask(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        self.words.dialect.schemas.check(action, dict(payload))
        self.messages.append(action)
        wanted = payload["getVariableData" if action == "GetVariables" else "setVariableData"]
        if len(wanted) > self.most:
            return None
        results = [self._one(action, item) for item in wanted]
        key = "getVariableResult" if action == "GetVariables" else "setVariableResult"
        answer = {key: results}
        self.words.dialect.schemas.check(f"{action}Response", answer)
        return answer

    def _one(self, action: str, item: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{item['component']['name']}.{item['variable']['name']}"
        result = {"component": item["component"], "variable": item["variable"]}
        if name not in self.values:
            return {**result, "attributeStatus": "UnknownVariable"}
        if action == "GetVariables":
            return {**result, "attributeStatus": "Accepted", "attributeValue": self.values[name]}
        if (name, item["attributeValue"]) in self.refuses:
            return {**result, "attributeStatus": "Rejected"}
        self.written.append((name, item["attributeValue"]))
        self.values[name] = item["attributeValue"]
        return {**result, "attributeStatus": "Accepted"}


def set_up(
    device: Device, words: Words = V201, written: bool = False, **more: Any
) -> tuple[Capabilities, bool]:
    async def run() -> tuple[Capabilities, bool]:
        configuration = await words.read_configuration(device.ask)
        able = words.capabilities(configuration)
        settings = OcppSettings("127.0.0.1", 0, {}, **more)
        return able, await words.configure(device.ask, configuration, able, settings, written)

    return asyncio.run(run())


FULL = {
    "SmartChargingCtrlr__Available": "true",
    "SmartChargingCtrlr__Enabled": "true",
    "SmartChargingCtrlr__RateUnit": "W,A",
    "SmartChargingCtrlr__ProfileStackLevel": "8",
    "SmartChargingCtrlr__PeriodsPerSchedule": "16",
    "OCPPCommCtrlr__HeartbeatInterval": "300",
    "SampledDataCtrlr__TxUpdatedInterval": "5",
    "SampledDataCtrlr__TxUpdatedMeasurands": "SoC",
    "SampledDataCtrlr__TxEndedMeasurands": "Energy.Active.Import.Register",
    "SampledDataCtrlr__TxEndedInterval": "60",
    "AlignedDataCtrlr__Interval": "900",
    "AuthCtrlr__AuthorizeRemoteStart": "true",
    "AuthCtrlr__OfflineTxForUnknownIdEnabled": "FALSE",
    "TxCtrlr__StopTxOnInvalidId": "false",
}


@pytest.mark.parametrize("most", [1, 3, 50])
def test_setup_writes_only_what_differs_and_never_too_much_at_once(most: int) -> None:
    device = Device(most, **FULL)
    able, told = set_up(device)
    assert able == Capabilities(
        smart_charging=True, max_stack_level=8, takes_watts=True, max_periods=16,
        asks_for_remote_tokens=True,
    )  # fmt: skip
    assert told
    assert sorted(device.written) == [
        ("AlignedDataCtrlr.Interval", "0"),
        ("AuthCtrlr.AuthorizeRemoteStart", "false"),
        ("OCPPCommCtrlr.HeartbeatInterval", "60"),
        ("SampledDataCtrlr.TxEndedInterval", "0"),
        ("SampledDataCtrlr.TxUpdatedMeasurands", v2_setup.MEASURANDS[0]),
        ("TxCtrlr.StopTxOnInvalidId", "true"),
    ]
    device.written.clear()
    set_up(device)
    assert device.written == []  # nothing differs any more


def test_a_station_that_refuses_long_messages_without_saying_so_is_asked_one_by_one() -> None:
    device = Device(1, **FULL)
    del device.values["DeviceDataCtrlr.ItemsPerMessage"]
    able, _ = set_up(device)
    assert able.max_stack_level == 8
    assert ("OCPPCommCtrlr.HeartbeatInterval", "60") in device.written


def test_unknown_tokens_out_of_reach_are_taken_as_the_site_wants() -> None:
    device = Device(9, **FULL)
    set_up(device, offline_tokens="anyone")
    assert ("AuthCtrlr.OfflineTxForUnknownIdEnabled", "true") in device.written


def test_fewer_measurands_where_the_long_list_is_refused_and_none_again_after_that() -> None:
    device = Device(9, **FULL)
    name = "SampledDataCtrlr.TxUpdatedMeasurands"
    device.refuses = {(name, v2_setup.MEASURANDS[0])}
    assert set_up(device)[1]
    assert (name, v2_setup.MEASURANDS[1]) in device.written
    device = Device(9, **FULL)
    assert set_up(device, written=True)[1]
    assert name not in [written for written, _ in device.written]


def test_smart_charging_is_switched_on_and_v2x_is_found() -> None:
    values = {**FULL, "SmartChargingCtrlr__Enabled": "false", "V2XChargingCtrlr__Available": "true"}
    device = Device(9, V21, **values)
    able, _ = set_up(device, V21)
    assert able.discharge
    assert ("SmartChargingCtrlr.Enabled", "true") in device.written
    (measurands,) = [value for name, value in device.written if name.endswith("TxUpdatedMeasurands")]
    assert "Power.Active.Export" in measurands


@pytest.mark.parametrize(
    ("available", "enabled", "modes", "discharges"),
    [
        ("true", None, None, True),
        (None, "true", "ChargingOnly,CentralSetpoint", True),
        ("true", "true", "ChargingOnly,LocalFrequency", False),
        ("true", "false", None, False),
        (None, None, "CentralSetpoint", False),
    ],
)
def test_who_discharges(
    available: str | None, enabled: str | None, modes: str | None, discharges: bool
) -> None:
    told = {"available": available, "enabled": enabled, "supportedoperationmodes": modes}
    configuration = {f"v2xchargingctrlr.{name}": text for name, text in told.items() if text is not None}
    assert V21.capabilities(configuration).discharge is discharges


def test_a_station_that_says_nothing_is_told_the_least() -> None:
    async def mute(action: str, payload: Mapping[str, Any]) -> None:
        return None

    async def run() -> bool:
        assert await V201.read_configuration(mute) == {}
        return await V201.configure(mute, {}, ABLE, OcppSettings("127.0.0.1", 0, {}), False)

    assert asyncio.run(run()) is False


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"getVariableResult": 5},
        {"getVariableResult": [7, {}, {"component": [], "variable": {"name": "x"}}]},
        {
            "getVariableResult": [
                {"component": {"name": {}}, "variable": {"name": "x"}, "attributeStatus": "Accepted"},
                {"component": {"name": "A"}, "variable": {"name": "x"}, "attributeStatus": "Accepted"},
                {
                    "component": {"name": "A"},
                    "variable": {"name": "x"},
                    "attributeStatus": [],
                    "attributeValue": "1",
                },
            ]
        },
    ],
)
def test_odd_answers_say_nothing(answer: dict[str, Any]) -> None:
    assert v2_setup.read_variables(answer) == {}


# --- what people may see --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ('{"component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"},"attributeValue":"hunter2"}',
         "hunter2"),
        ('{"attributeValue" : "hunter2","variable":{"name":"basicauthpassword"}}', "hunter2"),
        ('{"connectionData":{"basicAuthPassword":"hunter2"}}', "hunter2"),
        ('{"apn":{"apnPassword" : "hunter2"}}', "hunter2"),
        ('{"vpn":{"password":"hunter2","key":"hunter3"}}', "hunter"),
        ('{"idToken":{"idToken":"04A2B3C4","type":"Central"}}', "04A2"),
        ('{"groupIdToken":{"idToken":"04A2B3C4"}}', "04A2"),
    ],
)  # fmt: skip
def test_frames_are_shown_without_secrets(text: str, hidden: str) -> None:
    assert hidden not in redacted(text)
