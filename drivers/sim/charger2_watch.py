"""What a simulated OCPP 2.x station watches by order, shows on its display, and knows of customers.

Owns variable monitors and the NotifyEvent they cause. One function per action, as in `charger2_charging`.
Source: OCPP 2.0.1 part 2 I02, N02-N10, O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from drivers.sim.charger2_charging import evse_of, rejected
from drivers.sim.charger2_evse import Evse
from drivers.sim.charger2_memory import Monitor
from drivers.sim.charger2_model import in_parts, names
from drivers.sim.charger2_variables import ITEMS, Place
from drivers.sim.outbox import Json, Slip
from drivers.sim.stamps import stamp

if TYPE_CHECKING:
    from drivers.sim.charger2 import SimStation

MONITORS = 50
MESSAGES = 10
NUMERIC = ("UpperThreshold", "LowerThreshold")
CRITERIA = {
    "UpperThreshold": "ThresholdMonitoring",
    "LowerThreshold": "ThresholdMonitoring",
    "Delta": "DeltaMonitoring",
    "Periodic": "PeriodicMonitoring",
    "PeriodicClockAligned": "PeriodicMonitoring",
}


class Watch:
    """Looks at the monitored values, and tells what has happened."""

    def __init__(self, station: SimStation) -> None:
        self._station = station
        self._events = 0

    def look(self, now_s: float) -> None:
        for evse in self._station.evses:
            self._look_at_fault(evse)
        for monitor in self._station.memory.monitors.values():
            text = self._station.memory.variables.now(monitor.place)
            trigger = _speaks(monitor, text, now_s)
            if trigger is not None and monitor.severity <= self._station.memory.quietest:
                self._notify(monitor.place, trigger, text, {
                    "eventNotificationType": "CustomMonitor",
                    "variableMonitoringId": monitor.id,
                    **({"cleared": not monitor.alarmed} if trigger == "Alerting" else {}),
                })  # fmt: skip

    def _look_at_fault(self, evse: Evse) -> None:
        """Hard-wired: a fault is an event of its own."""
        fault = evse.evse.fault
        if fault == evse.told_fault:
            return
        more: Json = {"eventNotificationType": "HardWiredNotification", "cleared": fault is None}
        code = fault or evse.told_fault
        if code is not None:
            more["techCode"] = code
        evse.told_fault = fault
        place = Place("EVSE", "Problem", None, evse.number)
        self._notify(place, "Alerting", "true" if fault else "false", more)

    def _notify(self, place: Place, trigger: str, value: str, more: Json) -> None:
        self._events += 1
        at = stamp(self._station.utc())
        event = {"eventId": self._events, "timestamp": at, "trigger": trigger, "actualValue": value}
        payload = {"generatedAt": at, "seqNo": 0, "eventData": [{**event, **place.words(), **more}]}
        slot = f"event/{place.evse}/{place.component}/{place.variable}/{more.get('variableMonitoringId')}"
        self._station.voice.outbox.put(slot, Slip("NotifyEvent", payload))


def _speaks(monitor: Monitor, text: str, now_s: float) -> str | None:
    """The trigger when this monitor has something to say now. Notes what it said."""
    if monitor.kind.startswith("Periodic"):
        due = now_s >= monitor.due_s
        if due:
            monitor.due_s = now_s + monitor.value
        return "Periodic" if due else None
    if monitor.kind == "Delta":
        last = monitor.last
        if last is None or _differs(text, last, monitor.value):
            monitor.last = text
        return "Delta" if last is not None and monitor.last != last else None
    value = float(text)
    beyond = value > monitor.value if monitor.kind == "UpperThreshold" else value < monitor.value
    changed, monitor.alarmed = beyond != monitor.alarmed, beyond
    return "Alerting" if changed else None


def _differs(text: str, last: str, by: float) -> bool:
    """Numbers by at least so much; of words, every other word."""
    try:
        return text != last and abs(float(text) - float(last)) >= by
    except ValueError:
        return text != last


def set_monitoring(station: SimStation, payload: Json) -> Json:
    rows = payload["setMonitoringData"]
    if len(rows) > ITEMS:
        raise ValueError(f"at most {ITEMS} items")
    return {"setMonitoringResult": [_set_monitor(station, row) for row in rows]}


def _set_monitor(station: SimStation, row: Json) -> Json:
    memory, kind = station.memory, str(row["type"])
    answer = {key: row[key] for key in ("type", "severity", "component", "variable")}
    place = memory.variables.find(row)
    if isinstance(place, str):
        return {**answer, "status": place}
    nature = memory.variables.natures[place]
    numeric = nature.kind in ("integer", "decimal")
    if not nature.monitored or (kind in NUMERIC and not numeric):
        return {**answer, "status": "UnsupportedMonitorType"}
    twin = next((one for one in memory.monitors.values() if (one.place, one.kind) == (place, kind)), None)
    id = int(row.get("id", 0))
    if id not in memory.monitors:
        if id:
            return {**answer, "status": "Rejected"}
        if twin is not None and twin.severity == int(row["severity"]):
            return {**answer, "status": "Duplicate", "id": twin.id}
        if len(memory.monitors) >= MONITORS:
            return {**answer, "status": "Rejected"}
        id = max(memory.monitors, default=0) + 1
    value, severity = float(row["value"]), int(row["severity"])
    memory.monitors[id] = Monitor(id, place, kind, value, severity, bool(row.get("transaction")))
    return {**answer, "status": "Accepted", "id": id}


def clear_monitoring(station: SimStation, payload: Json) -> Json:
    results = []
    for id in payload["id"]:
        found = station.memory.monitors.pop(int(id), None)
        results.append({"id": int(id), "status": "NotFound" if found is None else "Accepted"})
    return {"clearMonitoringResult": results}


def monitoring_report(station: SimStation, payload: Json) -> Json:
    criteria, wanted = payload.get("monitoringCriteria"), payload.get("componentVariable")
    rows = []
    for monitor in station.memory.monitors.values():
        words = monitor.place.words()
        named = not wanted or any(
            names(one["component"], words["component"])
            and ("variable" not in one or names(one["variable"], words["variable"]))
            for one in wanted
        )
        if named and (not criteria or CRITERIA[monitor.kind] in criteria):
            about: Json = {"id": monitor.id, "transaction": monitor.transaction, "value": monitor.value}
            about |= {"type": monitor.kind, "severity": monitor.severity}
            rows.append({**words, "variableMonitoring": [about]})
    if not rows:
        return {"status": "EmptyResultSet"}
    in_parts(station, "NotifyMonitoringReport", int(payload["requestId"]), "monitor", rows)
    return {"status": "Accepted"}


def monitoring_base(station: SimStation, payload: Json) -> Json:
    """There are no factory monitors: the bases other than All clear what was set."""
    if payload["monitoringBase"] not in ("All", "FactoryDefault", "HardWiredOnly"):
        return {"status": "NotSupported"}
    if payload["monitoringBase"] != "All":
        station.memory.monitors.clear()
    return {"status": "Accepted"}


def monitoring_level(station: SimStation, payload: Json) -> Json:
    severity = int(payload["severity"])
    if not 0 <= severity <= 9:
        return rejected("ValueOutOfRange")
    station.memory.quietest = severity
    return {"status": "Accepted"}


def set_message(station: SimStation, payload: Json) -> Json:
    message = payload["message"]
    id, messages = int(message["id"]), station.memory.messages
    if message["message"]["format"] not in ("ASCII", "UTF8"):
        return {"status": "NotSupportedMessageFormat"}
    if "transactionId" in message and evse_of(station, message["transactionId"]) is None:
        return {"status": "UnknownTransaction"}
    if id not in messages and len(messages) >= MESSAGES:
        return rejected("NoRoom")
    messages[id] = message
    return {"status": "Accepted"}


def get_messages(station: SimStation, payload: Json) -> Json:
    found = [
        message
        for id, message in station.memory.messages.items()
        if id in payload.get("id", [id])
        and payload.get("priority", message["priority"]) == message["priority"]
        and ("state" not in payload or payload["state"] == message.get("state"))
    ]
    if not found:
        return {"status": "Unknown"}
    id = int(payload["requestId"])
    report = {"requestId": id, "messageInfo": found, "tbc": False}
    station.tell(f"messages/{id}", "NotifyDisplayMessages", report)
    return {"status": "Accepted"}


def clear_message(station: SimStation, payload: Json) -> Json:
    found = station.memory.messages.pop(int(payload["id"]), None)
    return {"status": "Unknown" if found is None else "Accepted"}


def cost_updated(station: SimStation, payload: Json) -> Json:
    evse = evse_of(station, payload["transactionId"])
    if evse is not None:
        evse.shown_cost = float(payload["totalCost"])
    return {}


def customer_information(station: SimStation, payload: Json) -> Json:
    id, token = int(payload["requestId"]), (payload.get("idToken") or {}).get("idToken")
    named = [key for key in ("customerCertificate", "idToken", "customerIdentifier") if key in payload]
    if len(named) > 1 or not (payload["report"] or payload["clear"]):
        return {"status": "Invalid"}
    card = None if token is None else station.memory.cards.known(str(token))
    if payload["report"]:
        text = "" if card is None else f"{token} {card.status}"
        report = {"data": text, "tbc": False, "seqNo": 0, "requestId": id}
        report["generatedAt"] = stamp(station.utc())
        station.tell(f"customer/{id}", "NotifyCustomerInformation", report)
    if payload["clear"] and token is not None:
        station.memory.cards.cache.pop(str(token).casefold(), None)
    return {"status": "Accepted"}


HANDLERS: Mapping[str, Callable[[SimStation, Json], Json]] = {
    "SetVariableMonitoring": set_monitoring,
    "ClearVariableMonitoring": clear_monitoring,
    "GetMonitoringReport": monitoring_report,
    "SetMonitoringBase": monitoring_base,
    "SetMonitoringLevel": monitoring_level,
    "SetDisplayMessage": set_message,
    "GetDisplayMessages": get_messages,
    "ClearDisplayMessage": clear_message,
    "CostUpdated": cost_updated,
    "CustomerInformation": customer_information,
}
