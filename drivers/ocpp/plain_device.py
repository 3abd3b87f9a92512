"""An operator's plain words about the inside of a station: variables, reports, monitors, display, customers, profiles.

Owns the translation and the way a variable is written in one word: `Component.Variable`, with `[instance]` after either
and `@EVSE` after the component; in OCPP 1.6 the name of a configuration key. Pure. Source: OCPP 1.6 sections 5.3 and 5.8,
2.0.1 part 2 sections B05-B07, I02, K09, N02-N10, O01-O05.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from drivers.errors import Misconfigured, Refused
from drivers.ocpp import guard
from drivers.ocpp.frames import Payload, clean
from drivers.ocpp.lists_words import type_of
from drivers.ocpp.parts import new_number
from drivers.ocpp.plain import Asked, Question, Row, always, by_status
from drivers.ocpp.v2_setup import FEW
from drivers.ocpp.words import Order, text_of

_VARIABLE = re.compile(
    r"(?P<component>[^.\[\]@]+)(?:\[(?P<instance>[^\]]+)\])?(?:@(?P<evse>[0-9]{1,4})(?::(?P<connector>[0-9]{1,4}))?)?"
    r"\.(?P<variable>[^.\[\]@]+)(?:\[(?P<variable_instance>[^\]]+)\])?"
)
_BASES: Final = {
    "configuration": "ConfigurationInventory",
    "full": "FullInventory",
    "summary": "SummaryInventory",
}
MONITORS: Final = {
    "upper": "UpperThreshold",
    "lower": "LowerThreshold",
    "delta": "Delta",
    "periodic": "Periodic",
    "clock": "PeriodicClockAligned",
}
PRIORITIES: Final = {"always": "AlwaysFront", "front": "InFront", "normal": "NormalCycle"}
_LONGEST = 2500


# --- variables --------------------------------------------------------------------------------------------------


def variables_get(asked: Asked) -> Question:
    names = asked.texts("names")
    if asked.is_16:
        return Question(
            (Order("GetConfiguration", {"key": names} if names else {}),), _none_unknown, _configuration_rows
        )
    if not names:
        raise Misconfigured("which? `report` lists them all")
    wanted = [_place(name) for name in names]
    pieces = [wanted[first : first + FEW] for first in range(0, len(wanted), FEW)]
    orders = tuple(Order("GetVariables", {"getVariableData": piece}) for piece in pieces)
    return Question(orders, _all_accepted("getVariableResult"), _variable_rows("getVariableResult"))


def variables_set(asked: Asked) -> Question:
    name, value = asked.needed("name"), asked.args.get("value")
    if not isinstance(value, str):
        raise Misconfigured("value is missing")
    guard.check_name(name)
    if asked.is_16:
        order = Order("ChangeConfiguration", {"key": name, "value": value})
        return Question((order,), by_status("accepted", "rebootrequired"))
    order = Order("SetVariables", {"setVariableData": [{"attributeValue": value, **_place(name)}]})
    return Question((order,), _all_accepted("setVariableResult"), _variable_rows("setVariableResult"))


def _place(name: str) -> Payload:
    found = _VARIABLE.fullmatch(name)
    if found is None:
        raise Misconfigured(
            f'"{name}" is no variable; write Component.Variable, like OCPPCommCtrlr.HeartbeatInterval'
        )
    component: Payload = {"name": found["component"]}
    if found["instance"]:
        component["instance"] = found["instance"]
    if found["evse"]:
        component["evse"] = {"id": int(found["evse"])}
        if found["connector"]:
            component["evse"]["connectorId"] = int(found["connector"])
    variable: Payload = {"name": found["variable"]}
    if found["variable_instance"]:
        variable["instance"] = found["variable_instance"]
    return {"component": component, "variable": variable}


def _name(row: Mapping[str, Any]) -> str:
    """As `_place` reads it."""

    def part(field: object) -> str:
        if not isinstance(field, dict):
            return "?"
        instance, evse = text_of(field, "instance"), field.get("evse")
        place = ""
        if isinstance(evse, dict):
            connector = f":{evse['connectorId']}" if "connectorId" in evse else ""
            place = f"@{evse.get('id')}{connector}"
        return text_of(field, "name") + (f"[{instance}]" if instance else "") + clean(place, 20)

    return f"{part(row.get('component'))}.{part(row.get('variable'))}"


def _configuration_rows(answers: Sequence[Payload]) -> list[Row]:
    rows = [
        {
            "name": text_of(entry, "key", 500),
            "value": text_of(entry, "value", _LONGEST),
            "access": "read only" if entry.get("readonly") is True else "",
        }
        for entry in _dicts(answers[-1].get("configurationKey"))
    ]
    return rows + [{"name": name, "value": None, "access": "unknown"} for name in _unknown(answers)]


def _unknown(answers: Sequence[Payload]) -> list[str]:
    names = answers[-1].get("unknownKey")
    return [clean(name, 500) for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _none_unknown(answers: Sequence[Payload]) -> tuple[str, bool]:
    unknown = _unknown(answers)
    return (f"unknown: {', '.join(unknown)}", False) if unknown else ("answered", True)


def _results(answers: Sequence[Payload], key: str) -> list[Payload]:
    return [row for answer in answers for row in _dicts(answer.get(key))]


def _all_accepted(key: str) -> Any:
    def judge(answers: Sequence[Payload]) -> tuple[str, bool]:
        said = [text_of(row, "attributeStatus") or text_of(row, "status") for row in _results(answers, key)]
        good = bool(said) and all(word.casefold() in ("accepted", "rebootrequired") for word in said)
        return ", ".join(dict.fromkeys(said)) or "nothing", good

    return judge


def _variable_rows(key: str) -> Any:
    def rows(answers: Sequence[Payload]) -> list[Row]:
        return [
            {
                "name": _name(row),
                "value": text_of(row, "attributeValue", _LONGEST) if "attributeValue" in row else None,
                "said": text_of(row, "attributeStatus"),
            }
            for row in _results(answers, key)
        ]

    return rows


# --- reports ----------------------------------------------------------------------------------------------------


def report(asked: Asked) -> Question:
    asked.not_in_16("a report; `variables get` without names lists what there is")
    base = _BASES.get(asked.text("kind") or "full")
    if base is None:
        raise Misconfigured(f"kind is one of {', '.join(_BASES)}")
    number = new_number()
    order = Order("GetBaseReport", {"requestId": number, "reportBase": base})
    return Question((order,), told=_report_rows, number=number)


def _report_rows(parts: Sequence[Any]) -> list[Row]:
    rows = []
    for data in _dicts(list(parts)):
        for attribute in _dicts(data.get("variableAttribute")) or [{}]:
            kind = text_of(attribute, "type")
            suffix = f" ({kind})" if kind not in ("", "Actual") else ""
            value = text_of(attribute, "value", _LONGEST) if "value" in attribute else None
            access = text_of(attribute, "mutability") or "ReadWrite"  # part 2 section 2.51: the default
            rows.append({"name": _name(data) + suffix, "value": value, "access": access})
    return rows


def profiles(asked: Asked) -> Question:
    asked.not_in_16("listing charging profiles")
    where: Payload = {"evseId": evse} if (evse := asked.evse()) else {}
    number = new_number()
    criterion: Payload = {"chargingLimitSource": ["CSO", "EMS", "SO", "Other"]}
    order = Order("GetChargingProfiles", {"requestId": number, **where, "chargingProfile": criterion})
    return Question((order,), by_status("accepted", "noprofiles"), told=_profile_rows, number=number)


def _profile_rows(parts: Sequence[Any]) -> list[Row]:
    return [
        {
            "evse": part.get("evseId"),
            "id": profile.get("id"),
            "purpose": text_of(profile, "chargingProfilePurpose"),
            "level": profile.get("stackLevel"),
            "kind": text_of(profile, "chargingProfileKind"),
            "source": text_of(part, "chargingLimitSource"),
            "until": text_of(profile, "validTo") or None,
            "limits": _limits(profile),
        }
        for part in _dicts(list(parts))
        for profile in _dicts(part.get("chargingProfile"))
    ]


def _limits(profile: Payload) -> str:
    """Every period as start and limit: "0 s 16 A, 3600 s 6 A"."""
    return ", ".join(
        f"{period.get('startPeriod')} s {period.get('limit', period.get('setpoint'))} {text_of(schedule, 'chargingRateUnit')}"
        for schedule in _dicts(profile.get("chargingSchedule"))
        for period in _dicts(schedule.get("chargingSchedulePeriod"))
    )[:_LONGEST]


# --- monitors ---------------------------------------------------------------------------------------------------


def monitors_list(asked: Asked) -> Question:
    asked.not_in_16("monitors")
    number = new_number()
    order = Order("GetMonitoringReport", {"requestId": number})
    return Question((order,), by_status("accepted", "emptyresultset"), told=_monitor_rows, number=number)


def _monitor_rows(parts: Sequence[Any]) -> list[Row]:
    return [
        {
            "id": monitor.get("id"),
            "name": _name(data),
            "type": text_of(monitor, "type"),
            "value": monitor.get("value"),
            "severity": monitor.get("severity"),
        }
        for data in _dicts(list(parts))
        for monitor in _dicts(data.get("variableMonitoring"))
    ]


def monitors_set(asked: Asked) -> Question:
    asked.not_in_16("monitors")
    kind, value = MONITORS.get(asked.needed("kind")), asked.args.get("value")
    severity = asked.number("severity")
    if kind is None:
        raise Misconfigured(f"a monitor is one of {', '.join(MONITORS)}")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Misconfigured("value must be a number")
    row: Payload = {"value": value, "type": kind, "severity": 5 if severity is None else severity}
    order = Order("SetVariableMonitoring", {"setMonitoringData": [row | _place(asked.needed("name"))]})

    def rows(answers: Sequence[Payload]) -> list[Row]:
        found = _results(answers, "setMonitoringResult")
        return [{"id": row.get("id"), "name": _name(row), "said": text_of(row, "status")} for row in found]

    return Question((order,), _all_accepted("setMonitoringResult"), rows)


def monitors_clear(asked: Asked) -> Question:
    asked.not_in_16("monitors")
    numbers = [int(text) for text in asked.texts("ids") if text.isdecimal()]
    if not numbers:
        raise Misconfigured("which? `monitors list` shows their numbers")

    def rows(answers: Sequence[Payload]) -> list[Row]:
        found = _results(answers, "clearMonitoringResult")
        return [{"id": row.get("id"), "said": text_of(row, "status")} for row in found]

    order = Order("ClearVariableMonitoring", {"id": numbers})
    return Question((order,), _all_accepted("clearMonitoringResult"), rows)


# --- display, customers, cost -----------------------------------------------------------------------------------


def message_set(asked: Asked) -> Question:
    asked.not_in_16("messages on a display")
    priority = PRIORITIES.get(asked.text("priority") or "normal")
    if priority is None:
        raise Misconfigured(f"priority is one of {', '.join(PRIORITIES)}")
    content = {"format": "UTF8", "content": asked.needed("text")}
    message: Payload = {"id": asked.number("id") or 1, "priority": priority, "message": content}
    if (until := asked.time("until")) is not None:
        message["endDateTime"] = until
    return Question((Order("SetDisplayMessage", {"message": message}),))


def message_list(asked: Asked) -> Question:
    asked.not_in_16("messages on a display")
    number = new_number()
    order = Order("GetDisplayMessages", {"requestId": number})
    return Question((order,), by_status("accepted", "unknown"), told=_message_rows, number=number)


def _message_rows(parts: Sequence[Any]) -> list[Row]:
    return [
        {
            "id": message.get("id"),
            "priority": text_of(message, "priority"),
            "until": text_of(message, "endDateTime") or None,
            "text": text_of(content, "content", 512) if isinstance(content, dict) else "",
        }
        for message in _dicts(list(parts))
        for content in (message.get("message"),)
    ]


def message_clear(asked: Asked) -> Question:
    asked.not_in_16("messages on a display")
    return Question((Order("ClearDisplayMessage", {"id": asked.number("id") or 1}),))


def customer(asked: Asked) -> Question:
    """What the station knows of a customer; `clear` has it forget that."""
    asked.not_in_16("customers")
    token, name, number = asked.text("token"), asked.text("id"), new_number()
    if (token is None) == (name is None):
        raise Misconfigured("say who: token or id")
    who: Payload = (
        {"customerIdentifier": name}
        if token is None
        else {"idToken": {"idToken": token, "type": type_of(token)}}
    )
    order = Order(
        "CustomerInformation", {"requestId": number, "report": True, "clear": asked.flag("clear"), **who}
    )

    def told(parts: Sequence[Any]) -> list[Row]:
        return [{"text": clean("".join(part for part in parts if isinstance(part, str)), 20_000)}]

    return Question((order,), told=told, number=number)


def cost(asked: Asked) -> Question:
    """Shows the driver what the running transaction costs so far."""
    asked.not_in_16("costs")
    number, amount = asked.one_evse(), asked.args.get("amount")
    if not isinstance(amount, int | float) or isinstance(amount, bool) or amount < 0:
        raise Misconfigured("amount must be a number from 0")
    transaction = asked.running_on(number)
    if transaction is None:
        raise Refused(f"no transaction runs on EVSE {number}")
    return Question(
        (Order("CostUpdated", {"totalCost": amount, "transactionId": transaction}),), always("shown")
    )


def _dicts(value: object) -> list[Payload]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
