"""An operator's plain words about a station -> requests of its OCPP version, and what its answers mean in plain words.

Owns the translation of what concerns the station as a whole (restart, unlock, availability, reservations, triggers,
logs, cache, data transfer, raw calls); its variables, reports and displays are in `plain_device`. Pure. What a version
has no word for is refused with a line that says so. Source: OCPP 1.6 section 5 and its security extension, 2.0.1 part 2
sections B11, C11, F05-F06, G03-G04, H01-H02, N01, P01.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from drivers.errors import Misconfigured, Refused
from drivers.ocpp import guard
from drivers.ocpp.frames import Payload
from drivers.ocpp.lists_words import type_of
from drivers.ocpp.parts import TOLD_IN, new_number
from drivers.ocpp.samples import parse_time
from drivers.ocpp.words import Order, status_of, text_of, utc_text

Row = dict[str, Any]
_CARRIES = re.compile(r"(?:https?|ftps?|sftp)://[^/\s]\S*$", re.IGNORECASE)  # OCPP 1.6 5.10, 2.0.1 N01
RESERVATIONS = (
    1000  # one reservation per EVSE: its number is this + the EVSE's, so that it can be named again
)

_TRIGGERS_16: Final = {
    "boot": "BootNotification",
    "diagnostics": "DiagnosticsStatusNotification",
    "firmware": "FirmwareStatusNotification",
    "heartbeat": "Heartbeat",
    "status": "StatusNotification",
    "values": "MeterValues",
}
_EXTENDED_16: Final = {"certificate": "SignChargePointCertificate", "logs": "LogStatusNotification"}
_TRIGGERS_2: Final = {
    "boot": "BootNotification",
    "certificate": "SignChargingStationCertificate",
    "firmware": "FirmwareStatusNotification",
    "heartbeat": "Heartbeat",
    "logs": "LogStatusNotification",
    "status": "StatusNotification",
    "transaction": "TransactionEvent",
    "values": "MeterValues",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it came, and what must be known of the station to put it. evses: its numbers."""

    version: str
    args: Mapping[str, object]
    evses: Collection[int]
    now: datetime
    running_on: Callable[[int], str | None]

    @property
    def is_16(self) -> bool:
        return self.version == "1.6"

    def not_in_16(self, what: str) -> None:
        if self.is_16:
            raise Refused(f"OCPP 1.6 has no word for {what}")

    def text(self, key: str) -> str | None:
        value = self.args.get(key)
        if value is not None and not isinstance(value, str):
            raise Misconfigured(f"{key} must be text")
        return value or None

    def needed(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise Misconfigured(f"{key} is missing")
        return value

    def address(self, key: str) -> str:
        """Where a station can carry a file; what is wrong is not repeated, there may be a password in it."""
        value = self.needed(key)
        if _CARRIES.match(value) is None:
            raise Misconfigured(
                f"{key} must begin with http://, https://, ftp://, ftps:// or sftp:// and name a host"
            )
        return value

    def number(self, key: str) -> int | None:
        value = self.args.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise Misconfigured(f"{key} must be a whole number")
        return value

    def flag(self, key: str) -> bool:
        return self.args.get(key) is True

    def texts(self, key: str) -> list[str]:
        value = self.args.get(key)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise Misconfigured(f"{key} must be a list of texts")
        return value

    def time(self, key: str) -> str | None:
        value = self.text(key)
        moment = parse_time(value) if value is not None else None
        if value is not None and moment is None:
            raise Misconfigured(f"{key} must be a time")
        return utc_text(moment) if moment is not None else None

    def evse(self) -> int:
        """0: the whole station."""
        number = self.number("evse") or 0
        if number and number not in self.evses:
            known = ", ".join(str(each) for each in sorted(self.evses))
            raise Misconfigured(f"there is no EVSE {number}, there is {known}")
        return number

    def one_evse(self) -> int:
        number = self.evse()
        if number == 0:
            raise Misconfigured("evse is missing")
        return number


Judge = Callable[[Sequence[Payload]], tuple[str, bool]]  # what it said, and whether that is a yes


def by_status(*good: str) -> Judge:
    """Of the answer's `status`, with the reason where one is given."""

    def judge(answers: Sequence[Payload]) -> tuple[str, bool]:
        status, info = status_of(answers[-1]), answers[-1].get("statusInfo")
        reason = (
            f"{text_of(info, 'reasonCode')} {text_of(info, 'additionalInfo', 200)}"
            if isinstance(info, dict)
            else ""
        )
        told = f"{status} ({reason.strip()})" if reason.strip() else status
        return told or "nothing", status.casefold() in good

    return judge


def always(said: str) -> Judge:
    return lambda answers: (said, True)


ACCEPTED = by_status("accepted")
NO_ROWS: Callable[[Sequence[Any]], list[Row]] = lambda found: []  # noqa: E731


@dataclass(frozen=True, slots=True)
class Question:
    """Orders to send one after the other. rows: what the answers say, in lines for people; told: what the parts say that
    follow under `number`."""

    orders: tuple[Order, ...]
    judge: Judge = ACCEPTED
    rows: Callable[[Sequence[Any]], list[Row]] = NO_ROWS
    told: Callable[[Sequence[Any]], list[Row]] = NO_ROWS
    number: int | None = None


def _one(action: str, payload: Payload, judge: Judge = ACCEPTED) -> Question:
    return Question((Order(action, payload),), judge)


def reset(asked: Asked) -> Question:
    """The plain one is what a station survives best; it ends what is charging."""
    number, when_idle = asked.evse(), asked.flag("when_idle")
    if asked.is_16:
        if when_idle or number:
            what = "a restart that waits" if when_idle else "the restart of one EVSE"
            raise Refused(f"OCPP 1.6 has no word for {what}")
        return _one("Reset", {"type": "Hard" if asked.flag("hard") else "Soft"})
    request: Payload = {"type": "OnIdle" if when_idle else "Immediate"}
    if number:
        request["evseId"] = number
    return _one("Reset", request, by_status("accepted", "scheduled"))


def unlock(asked: Asked) -> Question:
    number = asked.one_evse()
    request: Payload = {"connectorId": number} if asked.is_16 else {"evseId": number, "connectorId": 1}
    return _one("UnlockConnector", request, by_status("unlocked"))


def available(asked: Asked) -> Question:
    number, word = asked.evse(), "Inoperative" if asked.flag("off") else "Operative"
    if asked.is_16:
        request: Payload = {"connectorId": number, "type": word}
    else:
        request = {"operationalStatus": word, **({"evse": {"id": number}} if number else {})}
    return _one("ChangeAvailability", request, by_status("accepted", "scheduled"))


def reserve(asked: Asked) -> Question:
    number, token, until = asked.evse(), asked.needed("token"), asked.time("until")
    if until is None:
        raise Misconfigured("until is missing")
    group = asked.text("group")
    if asked.is_16:
        request: Payload = {"connectorId": number, "expiryDate": until, "idTag": token}
        request |= {"parentIdTag": group} if group else {}
        return _one("ReserveNow", {**request, "reservationId": RESERVATIONS + number})
    request = {"id": RESERVATIONS + number, "expiryDateTime": until}
    request["idToken"] = {"idToken": token, "type": type_of(token)}
    if group:
        request["groupIdToken"] = {"idToken": group, "type": "Central"}
    return _one("ReserveNow", {**request, **({"evseId": number} if number else {})})


def unreserve(asked: Asked) -> Question:
    return _one("CancelReservation", {"reservationId": RESERVATIONS + asked.evse()})


def trigger(asked: Asked) -> Question:
    word, number = asked.needed("message"), asked.evse()
    known: Mapping[str, str] = {**_TRIGGERS_16, **_EXTENDED_16} if asked.is_16 else _TRIGGERS_2
    by_name = {name.casefold(): name for name in known.values()}
    message = known.get(word) or by_name.get(word.casefold())
    if message is None:
        elsewhere = word in _TRIGGERS_16 or word in _TRIGGERS_2
        text = f"OCPP {asked.version} cannot be asked for" if elsewhere else "there is no message"
        raise Refused(f'{text} "{word}"; there are {", ".join(sorted(known))}')
    if asked.is_16:
        action = "ExtendedTriggerMessage" if message in _EXTENDED_16.values() else "TriggerMessage"
        where: Payload = {"connectorId": number} if number else {}
        return _one(action, {"requestedMessage": message, **where})
    where = {"evse": {"id": number}} if number else {}
    if message == "StatusNotification":  # F06.FR.12: a status is always asked of a connector
        where = {"evse": {"id": asked.one_evse(), "connectorId": 1}}
    return _one("TriggerMessage", {"requestedMessage": message, **where})


def logs(asked: Asked) -> Question:
    security, to = asked.flag("security"), asked.address("to")
    span = {"since": asked.time("since"), "until": asked.time("until")}

    def named(since: str, until: str) -> Payload:
        pairs = ((since, span["since"]), (until, span["until"]))
        return {name: value for name, value in pairs if value is not None}

    if asked.is_16 and not security:
        request = {"location": to, **named("startTime", "stopTime")}
        return Question((Order("GetDiagnostics", request),), _has_file, _file)
    log = {"remoteLocation": to, **named("oldestTimestamp", "latestTimestamp")}
    kind = "SecurityLog" if security else "DiagnosticsLog"
    request = {"logType": kind, "requestId": new_number(), "log": log}
    return Question((Order("GetLog", request),), by_status("accepted", "acceptedcanceled"), _file)


def _has_file(answers: Sequence[Payload]) -> tuple[str, bool]:
    """1.6 has no status here: without a name there is nothing to hand in."""
    there = bool(text_of(answers[-1], "fileName", 255))
    return ("Accepted", True) if there else ("there is nothing to hand in", False)


def _file(answers: Sequence[Payload]) -> list[Row]:
    name = text_of(answers[-1], "fileName", 255) or text_of(answers[-1], "filename", 255)
    return [{"file": name}] if name else []


def clear_cache(asked: Asked) -> Question:
    return _one("ClearCache", {})


def transfer(asked: Asked) -> Question:
    names = {"vendor": "vendorId", "message": "messageId", "data": "data"}
    request = {names[key]: value for key in names if (value := asked.text(key)) is not None}

    def rows(answers: Sequence[Payload]) -> list[Row]:
        return [{"data": answers[-1]["data"]}] if "data" in answers[-1] else []

    return Question((Order("DataTransfer", request),), ACCEPTED, rows)


def call(asked: Asked) -> Question:
    """Any request, for people who know the standard; whatever could widen a limit is refused."""
    action, payload = asked.needed("action"), asked.args.get("payload")
    if not isinstance(payload, dict):
        raise Misconfigured("the payload must be a JSON object")
    guard.check_action(asked.version, action, payload)
    number = None
    if action in TOLD_IN and not asked.is_16:
        given = payload.get("requestId")
        number = given if isinstance(given, int) and not isinstance(given, bool) else new_number()
        payload = {**payload, "requestId": number}

    def judge(answers: Sequence[Payload]) -> tuple[str, bool]:
        return ACCEPTED(answers) if status_of(answers[-1]) else ("answered", True)

    return Question(
        (Order(action, payload),), judge, told=lambda parts: [{"part": part} for part in parts], number=number
    )
