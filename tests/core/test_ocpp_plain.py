"""Plain words about a station: every question in every version is a legal request, and what may not be asked is not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.core.commands import UpgradeFirmware
from controller.core.model import EvseId
from drivers.errors import DriverError, Misconfigured, Refused
from drivers.ocpp import guard
from drivers.ocpp.inquiries import QUESTIONS
from drivers.ocpp.parts import MOST_SIZE, Reports
from drivers.ocpp.plain import Asked, Question
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.versions import VERSIONS

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
FOLDERS = {"1.6": "v16", "2.0.1": "v201", "2.1": "v21"}
Json = dict[str, Any]
EACH = pytest.mark.parametrize("version", FOLDERS)

UNTIL = "2026-11-22T20:00:00Z"
ASKED: list[tuple[str, Json]] = [
    ("reset", {}),
    ("reset", {"hard": True}),
    ("unlock", {"evse": 1}),
    ("available", {}),
    ("available", {"evse": 2, "off": True}),
    ("reserve", {"evse": 1, "token": "04A2B3C4", "until": UNTIL}),
    ("reserve", {"token": "04A2B3C4", "group": "night", "until": UNTIL}),
    ("unreserve", {"evse": 1}),
    ("logs", {"to": "ftp://10.0.4.2/logs/"}),
    ("logs", {"to": "ftp://10.0.4.2/logs/", "security": True, "since": UNTIL, "until": UNTIL}),
    ("cache-clear", {}),
    ("variables-get", {"names": ["Some.Variable"] * 5}),
    ("variables-set", {"name": "Some[1]@2:1.Variable[x]", "value": ""}),
    ("transfer", {"vendor": "com.acme", "message": "x", "data": "y"}),
    ("call", {"action": "ClearCache", "payload": {}}),
    *[("trigger", {"message": each, "evse": 1}) for each in ("boot", "heartbeat", "status", "values", "firmware")],
    *[("trigger", {"message": each, "evse": 1}) for each in ("certificate", "logs", "StatusNotification")],
]  # fmt: skip
ASKED_2: list[tuple[str, Json]] = [
    ("reset", {"when_idle": True, "evse": 1}),
    ("trigger", {"message": "transaction"}),
    ("report", {}),
    ("report", {"kind": "configuration"}),
    ("profiles", {}),
    ("profiles", {"evse": 1}),
    ("monitors-list", {}),
    ("monitors-set", {"name": "EVSE@1.Power", "kind": "upper", "value": 11_000.5, "severity": 0}),
    ("monitors-clear", {"ids": ["3", "4"]}),
    ("message-list", {}),
    ("message-set", {"text": "Gate closes", "id": 3, "priority": "front", "until": UNTIL}),
    ("message-clear", {"id": 3}),
    ("customer", {"token": "04A2B3C4"}),
    ("customer", {"id": "anna", "clear": True}),
    ("cost", {"evse": 1, "amount": 4.5}),
    ("call", {"action": "GetReport", "payload": {}}),
]


def put(version: str, question: str, args: Json) -> Question:
    asked = Asked(version, args, (1, 2), NOW, lambda number: "tx-1" if number == 1 else None)
    return QUESTIONS[question](asked)


def check(version: str, made: Question) -> None:
    for action, payload in made.orders:
        Schemas(FOLDERS[version]).check(action, payload)
        if made.number is not None:
            assert payload["requestId"] == made.number


@EACH
@pytest.mark.parametrize(("question", "args"), ASKED)
def test_every_question_is_a_legal_request(version: str, question: str, args: Json) -> None:
    check(version, put(version, question, args))


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
@pytest.mark.parametrize(("question", "args"), ASKED_2)
def test_and_those_that_only_2_knows(version: str, question: str, args: Json) -> None:
    check(version, put(version, question, args))
    if question != "call":
        with pytest.raises(Refused, match=r'OCPP 1\.6 (has no word for|cannot be asked for "transaction")'):
            put("1.6", question, args)


def test_no_question_is_left_out() -> None:
    assert {question for question, _ in (*ASKED, *ASKED_2)} == QUESTIONS.keys()


def order(version: str, question: str, **args: Any) -> tuple[str, Json]:
    [made] = put(version, question, args).orders
    return made.action, made.payload


def test_words_of_the_versions() -> None:
    assert order("1.6", "reset") == ("Reset", {"type": "Soft"})
    assert order("2.1", "reset") == ("Reset", {"type": "Immediate"})
    assert order("2.1", "reset", when_idle=True, evse=2) == ("Reset", {"type": "OnIdle", "evseId": 2})
    assert order("1.6", "available", off=True) == (
        "ChangeAvailability",
        {"connectorId": 0, "type": "Inoperative"},
    )
    assert order("2.0.1", "available") == ("ChangeAvailability", {"operationalStatus": "Operative"})
    assert order("1.6", "trigger", message="certificate") == (
        "ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"},
    )  # fmt: skip
    assert order("2.0.1", "unreserve", evse=2)[1] == {"reservationId": order(
        "2.0.1", "reserve", evse=2, token="A", until=UNTIL)[1]["id"]}  # fmt: skip
    [first, second] = put("2.0.1", "variables-get", {"names": ["A@1:2.B[c]"] * 5}).orders
    assert len(first.payload["getVariableData"]) == 4
    assert second.payload["getVariableData"] == [
        {
            "component": {"name": "A", "evse": {"id": 1, "connectorId": 2}},
            "variable": {"name": "B", "instance": "c"},
        }
    ]


@EACH
@pytest.mark.parametrize(
    ("question", "args", "text"),
    [
        ("unlock", {}, "evse is missing"),
        ("unlock", {"evse": 3}, "no EVSE 3"),
        ("unlock", {"evse": "1"}, "whole number"),
        ("reserve", {"evse": 1, "token": "A", "until": "soon"}, "must be a time"),
        ("reserve", {"evse": 1, "until": UNTIL}, "token is missing"),
        ("variables-get", {"names": "all"}, "list of texts"),
        ("variables-set", {"name": "a.b"}, "value is missing"),
        ("call", {"action": "Reset", "payload": []}, "JSON object"),
    ],
)
def test_bad_arguments_are_one_line(version: str, question: str, args: Json, text: str) -> None:
    with pytest.raises(Misconfigured, match=text) as raised:
        put(version, question, args)
    assert "\n" not in str(raised.value)


# --- what its answers mean ----------------------------------------------------------------------------------------


def test_yes_no_and_why() -> None:
    made = put("2.0.1", "reset", {})
    assert made.judge([{"status": "Scheduled"}]) == ("Scheduled", True)
    reason = {"status": "Rejected", "statusInfo": {"reasonCode": "Busy", "additionalInfo": "a cable is in"}}
    assert made.judge([reason]) == ("Rejected (Busy a cable is in)", False)
    assert made.judge([{}]) == ("nothing", False)
    logs = put("1.6", "logs", {"to": "ftp://x/"})
    assert (logs.judge([{"fileName": "a.zip"}]), logs.rows([{"fileName": "a.zip"}])) == (
        ("Accepted", True), [{"file": "a.zip"}],
    )  # fmt: skip
    assert logs.judge([{}]) == ("there is nothing to hand in", False)


def test_variables_that_are_not_there() -> None:
    made = put("1.6", "variables-get", {"names": ["A", "B"]})
    answer = {"configurationKey": [{"key": "A", "readonly": True, "value": "1"}], "unknownKey": ["B"]}
    assert made.judge([answer]) == ("unknown: B", False)
    assert made.rows([answer]) == [
        {"name": "A", "value": "1", "access": "read only"},
        {"name": "B", "value": None, "access": "unknown"},
    ]
    made = put("2.0.1", "variables-set", {"name": "A.B", "value": "1"})
    place = {"component": {"name": "A"}, "variable": {"name": "B"}}
    for status, good in (("Accepted", True), ("RebootRequired", True), ("Rejected", False)):
        assert made.judge([{"setVariableResult": [{**place, "attributeStatus": status}]}]) == (status, good)
    assert made.judge([{}]) == ("nothing", False)


@pytest.mark.parametrize("question", sorted(QUESTIONS))
@pytest.mark.parametrize(
    "junk", [{}, {"status": 7}, {"getVariableResult": [1, {"component": 3}]}, {"unknownKey": "A"}]
)
def test_no_answer_can_break_a_question(question: str, junk: Json) -> None:
    args = next(args for name, args in (*ASKED, *ASKED_2) if name == question)
    made = put("2.1", question, args)
    said, _ = made.judge([junk])
    assert isinstance(said, str)
    made.rows([junk])
    parts = [
        junk,
        7,
        "text",
        None,
        {"variableMonitoring": [{}], "variableAttribute": [{}], "chargingProfile": [{}]},
    ]
    made.told(parts)


# --- what nobody may ask ------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize(
    "name",
    ["MaxCurrent", "StationMaxCurrent", "ChargingStation.Power", "SmartChargingCtrlr.Enabled", "GridLimit", "maxAmps",
     "ChargeProfileMaxStackLevel", "OfflineFallback", "V2XChargingCtrlr.Enabled", "LoadBalancingMode",
     "ConnectorSwitch3to1PhaseSupported", "ChargingScheduleAllowedChargingRateUnit"],
)  # fmt: skip
def test_limits_are_the_depots(version: str, name: str) -> None:
    component, _, variable = name.rpartition(".")
    with pytest.raises(Refused, match="depot limit"):
        put(version, "variables-set", {"name": name, "value": "1"})
    data = {"component": {"name": component}, "variable": {"name": variable}, "attributeValue": "1"}
    raw: dict[str, Json] = {
        "ChangeConfiguration": {"key": name, "value": "1"},
        "SetVariables": {"setVariableData": [{"component": {"name": "A"}, "variable": {"name": "B"}}, data]},
    }
    action = "ChangeConfiguration" if version == "1.6" else "SetVariables"
    with pytest.raises(Refused, match="depot limit"):
        put(version, "call", {"action": action, "payload": raw[action]})


@pytest.mark.parametrize(
    "name",
    ["HeartbeatInterval", "LightIntensity", "MeterValuesSampledData", "OCPPCommCtrlr.NetworkProfileConnectionAttempts",
     "TxCtrlr.EVConnectionTimeOut", "LocalAuthListEnabled", "DisplayMessageCtrlr.Enabled"],
)  # fmt: skip
def test_other_settings_are_free(name: str) -> None:
    guard.check_name(name)


@EACH
def test_raw_calls_are_requests_of_ours_only(version: str) -> None:
    for action in ("BootNotification", "StatusNotification", "ResetResponse", "../Reset", "Reset.json", ""):
        with pytest.raises(DriverError):
            put(version, "call", {"action": action, "payload": {}})
    for action in ("GetCompositeSchedule", "DataTransfer", "Reset", "GetLocalListVersion"):
        assert put(version, "call", {"action": action, "payload": {}}).orders[0].action == action


# --- answers in parts ---------------------------------------------------------------------------------------------


def part(number: int, seq: int | None, rows: list[int], more: bool) -> Json:
    seen = {} if seq is None else {"seqNo": seq}
    return {"requestId": number, "tbc": more, "reportData": rows, **seen}


async def test_parts_are_put_together_in_order_and_gaps_show() -> None:
    reports = Reports()
    with reports.expect("GetBaseReport", 7) as report:
        for each in (part(7, 2, [5], False), part(7, 0, [1, 2], True), part(8, 1, [9], False)):
            reports.hear("NotifyReport", each)
        reports.hear("NotifyMonitoringReport", part(7, 1, [9], False))
        assert await report.wait(0.01) is False
        assert report.rows == [1, 2, 5]
        waiting = asyncio.ensure_future(report.wait(5.0))
        await asyncio.sleep(0)
        reports.hear("NotifyReport", part(7, 1, [3, 4], True))
        assert await waiting
        assert report.rows == [1, 2, 3, 4, 5]
    reports.hear("NotifyReport", part(7, 3, [6], False))
    assert report.rows == [1, 2, 3, 4, 5], "nobody waits any more"


async def test_a_report_without_end_is_cut() -> None:
    reports = Reports()
    with reports.expect("GetReport", 1) as report:
        for seq in range(40):
            reports.hear(
                "NotifyReport", {"requestId": 1, "seqNo": seq, "tbc": True, "reportData": ["x" * 60_000]}
            )
        assert await report.wait(5.0) is False
        assert sum(len(row) for row in report.rows) <= MOST_SIZE


async def test_profiles_and_messages_are_not_numbered() -> None:
    reports = Reports()
    with reports.expect("GetChargingProfiles", 4) as report:
        reports.hear("ReportChargingProfiles", {"requestId": 4, "evseId": 1, "tbc": True})
        reports.hear("ReportChargingProfiles", {"requestId": 4, "evseId": 2})
        assert await report.wait(0.01)
        assert [row["evseId"] for row in report.rows] == [1, 2]


# --- firmware -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", VERSIONS, ids=lambda words: words.version)
def test_firmware_is_ordered_by_its_address(words: Any) -> None:
    command = UpgradeFirmware("c1-7", EvseId("CP1/1"), "ocpp", "2.5.0", "https://10.0.4.2/image.bin")
    action, payload = words.upgrade(command, NOW)
    words.dialect.schemas.check(action, payload)
    assert "https://10.0.4.2/image.bin" in str(payload) and "2026-11-22T18:00:00Z" in str(payload)
    with pytest.raises(Refused, match="--url"):
        words.upgrade(UpgradeFirmware("c1-8", EvseId("CP1/1"), "ocpp", "2.5.0"), NOW)


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
@pytest.mark.parametrize("security", [True, False])
@pytest.mark.parametrize(
    "to", ["gopher://x", "file:///etc/passwd", "10.0.4.2/logs", "http://", "http:///x", "ftp://a b"]
)
def test_logs_go_only_where_a_station_can_carry_them(version: str, security: bool, to: str) -> None:
    with pytest.raises(Misconfigured, match="to must begin with http://"):
        put(version, "logs", {"to": to, "security": security})
