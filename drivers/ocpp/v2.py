"""The words of OCPP 2.0.1 and 2.1: requests of a station -> our events and the answer to give.

Owns every inbound message but TransactionEvent (`v2_transactions`). Pure: time comes in as `Moment`. Tolerant like `v16`.
What a depot has no use for gets the answer the standard gives for "no such service here", never an error. Payloads are
plain dictionaries: 43 property names of 2.1 do not survive the case conversion of the `ocpp` package. Source: OCPP 2.0.1
part 2, OCPP 2.1 part 2 and the schemas; part 4 for the spelling of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from controller.core.events import (
    DrawTold,
    FaultReported,
    StationBooted,
    StatusChanged,
    TokenPresented,
)
from controller.core.model import EvseId, EvseState, Moment, Verdict
from drivers.ocpp import samples, v2_transactions
from drivers.ocpp.frames import BadCall, Flaw, Payload, clean
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.v2_transactions import id_token_info, token_of
from drivers.ocpp.words import (
    LONGEST_TEXT,
    OLD_S,
    Known,
    Request,
    always,
    firmware_progress,
    integer,
    nothing,
    sample_of,
    station_status,
    text_of,
    utc_text,
)

CODES: Mapping[Flaw, str] = {
    Flaw.FORMATION: "FormatViolation",
    Flaw.PROTOCOL: "RpcFrameworkError",
    Flaw.PROPERTY: "PropertyConstraintViolation",
    Flaw.OCCURRENCE: "OccurrenceConstraintViolation",
    Flaw.TYPE: "TypeConstraintViolation",
    Flaw.NOT_IMPLEMENTED: "NotImplemented",
    Flaw.NOT_SUPPORTED: "NotSupported",
    Flaw.INTERNAL: "InternalError",
    Flaw.SECURITY: "SecurityError",
}
NOBODY = "-1"  # part 4 section 4.2.3: the id of an error about a message whose id cannot be read

Reader = Callable[[Payload, Known, Moment], Request]

# of the connectors of one EVSE the most telling word counts
_CONNECTOR_STATES: Mapping[str, EvseState] = {
    "occupied": EvseState.PREPARING,
    "reserved": EvseState.RESERVED,
    "available": EvseState.AVAILABLE,
    "faulted": EvseState.FAULTED,
    "unavailable": EvseState.UNAVAILABLE,
}
# answers to what may be asked of a station that waits to be accepted
_FROM_WAITING = frozenset(
    {
        "BootNotification",
        "NotifyReport",
        "NotifyMonitoringReport",
        "SecurityEventNotification",
        "SignCertificate",
    }
)
_TRANSFER_PHASES: Mapping[str, int] = {"AC_single_phase": 1, "AC_two_phase": 2, "AC_three_phase": 3}
_MOST_EVENTS = 20  # of one NotifyEvent


def is_sheddable(action: str) -> bool:
    """What a station repeats by itself, and nobody misses when a link is flooded."""
    return action in ("MeterValues", "Heartbeat")


def is_sacred(action: str) -> bool:
    """Transaction messages: never answered with an error while anything in them can be read."""
    return action in ("TransactionEvent", "MeterValues")


def read(
    action: str, payload: Payload, known: Known, now: Moment, readers: Mapping[str, Reader], schemas: Schemas
) -> Request:
    """Reads a request of the station. Raises BadCall for what is not one; never anything else."""
    reader = readers.get(action)
    if known.waiting and reader is not None and action not in _FROM_WAITING and not is_sacred(action):
        raise BadCall(Flaw.SECURITY, "the introduction was not accepted yet")  # B02.FR.09
    if reader is not None:
        return reader(payload, known, now)
    if schemas.has_request(action):
        raise BadCall(Flaw.NOT_SUPPORTED, f"{action} is for stations")
    raise BadCall(Flaw.NOT_IMPLEMENTED, f"{clean(action, LONGEST_TEXT)} is not an action of {known.channel}")


# --- what a depot lives on ------------------------------------------------------------------------------------


def _boot(payload: Payload, known: Known, now: Moment) -> Request:
    answer: Payload = {"currentTime": utc_text(now.utc), "interval": known.heartbeat_s, "status": "Accepted"}
    if known.held:
        return Request((), always({**answer, "status": "Pending"}), news="is told to wait")
    station = _dict(payload, "chargingStation")
    booted = StationBooted(
        station=known.station,
        channel=known.channel,
        vendor=text_of(station, "vendorName"),
        model=text_of(station, "model"),
        firmware=text_of(station, "firmwareVersion"),
        serial=text_of(station, "serialNumber"),
    )
    reboot = text_of(payload, "reason").casefold() != "triggered"
    return Request((booted,), always(answer), remember=known.story.rebooted if reboot else nothing)


def _heartbeat(payload: Payload, known: Known, now: Moment) -> Request:
    return Request((), always({"currentTime": utc_text(now.utc)}))


def _status(payload: Payload, known: Known, now: Moment) -> Request:
    number = integer(payload.get("evseId"))
    if number is None:
        flaw = Flaw.TYPE if "evseId" in payload else Flaw.OCCURRENCE
        raise BadCall(flaw, "evseId must be a number")
    if number < 0:
        raise BadCall(Flaw.PROPERTY, "evseId must not be negative")
    word = text_of(payload, "connectorStatus")
    state = _CONNECTOR_STATES.get(word.casefold())
    if state is None:
        return Request((), always({}), (f'status "{word}" is unknown and says nothing',))
    if number == 0:
        return Request(station_status(state, None, known), always({}), station_wide=True)
    if number not in known.evses:
        return Request((), always({}), (f"EVSE {number} is not configured; its status is ignored",))
    connector = integer(payload.get("connectorId"))
    connector = 1 if connector is None else connector
    story = known.story
    words = {**story.connectors, (number, connector): word.casefold()}
    state = _evse_state([each for (at, _), each in words.items() if at == number], story.phases.get(number))
    fault = f"connector {connector}" if state is EvseState.FAULTED else None

    def remember() -> None:
        story.note_connector(number, connector, word.casefold())
        if state is EvseState.AVAILABLE:
            story.phases.pop(number, None)

    changed = StatusChanged(known.evses[number].id, known.channel, state, fault)
    return Request((changed,), always({}), remember=remember)


def _evse_state(words: Collection[str], phase: EvseState | None) -> EvseState:
    """An EVSE serves one vehicle, whatever its other connectors say. What goes on in an occupied one, transaction
    events have told."""
    word = next(word for word in _CONNECTOR_STATES if word in words)
    return phase if word == "occupied" and phase is not None else _CONNECTOR_STATES[word]


def _authorize(payload: Payload, known: Known, now: Moment) -> Request:
    if not isinstance(payload.get("idToken"), dict):
        flaw = Flaw.TYPE if "idToken" in payload else Flaw.OCCURRENCE
        raise BadCall(flaw, "idToken must be an object")
    token, _ = token_of(payload)
    if token is None:
        return Request((), always({"idTokenInfo": {"status": Verdict.INVALID.value}}))
    # Certificate data is not looked at: only the token counts, and nobody is told that a certificate was checked.
    presented = TokenPresented(known.station, token)
    return Request((presented,), lambda answer: {"idTokenInfo": id_token_info(answer)})


def _meter_values(payload: Payload, known: Known, now: Moment) -> Request:
    number = integer(payload.get("evseId"))
    if number is None and len(known.evses) == 1:
        number = next(iter(known.evses))
    evse = known.evses.get(number) if number is not None else None
    if evse is None:
        return Request((), always({}))  # EVSE 0 is the station's own supply
    not_before = now.utc - timedelta(seconds=OLD_S) if now.utc_trusted else None
    values = samples.newest_values(payload.get("meterValue"), not_before)
    sample = (sample_of(values, evse, known.channel, now.mono_s),) if values else ()
    return Request(sample, always({}))


def _firmware(payload: Payload, known: Known, now: Moment) -> Request:
    word = text_of(payload, "status")
    return Request(firmware_progress(word, known), always({}), news=f"firmware: {word}")


def _event(payload: Payload, known: Known, now: Moment) -> Request:
    """NotifyEvent: a component's `Problem` is a fault; other monitors are only counted."""
    faults: list[FaultReported] = []
    others = False
    for data in _dicts(payload.get("eventData"))[:_MOST_EVENTS]:
        component, variable = _dict(data, "component"), text_of(_dict(data, "variable"), "name")
        name = text_of(component, "name")
        if variable.casefold() != "problem":
            others = True
            continue
        number = integer(_dict(component, "evse").get("id"))
        evse = known.evses.get(number) if number is not None else None
        active = text_of(data, "actualValue").casefold() == "true" and data.get("cleared") is not True
        code = text_of(data, "techCode") or f"{name}.{variable}"
        faults.append(
            FaultReported(
                known.station,
                evse.id if evse is not None else None,
                known.channel,
                code,
                active,
                text_of(data, "techInfo", 200),
            )
        )
    return Request(tuple(faults), always({}), ("told of a monitored variable",) if others else ())


def _needs(payload: Payload, known: Known, now: Moment) -> Request:
    """NotifyEVChargingNeeds. Limits of a running transaction are renewed all the time, so a schedule does follow."""
    number = integer(payload.get("evseId"))
    if number is None or number not in known.evses:
        return Request(
            (), always({"status": "Rejected"}), ("charging needs of an EVSE that is not configured",)
        )
    needs = _dict(payload, "chargingNeeds")
    asked = (
        samples.number(_dict(needs, kind).get(key))
        for kind, key in (
            ("acChargingParameters", "energyAmount"),
            ("dcChargingParameters", "energyAmount"),
            ("v2xChargingParameters", "evTargetEnergyRequest"),
        )
    )
    amount = next((f"{amount:.0f}" for amount in asked if amount is not None), "an unknown number of")
    leaves = text_of(needs, "departureTime") or "an unknown time"
    news = f"EVSE {number}: the vehicle asks for {amount} Wh until {leaves}"
    return Request(
        _draw(needs, known.evses[number].id, known.channel), always({"status": "Accepted"}), news=news
    )


def _draw(needs: Payload, evse: EvseId, channel: str) -> tuple[DrawTold, ...]:
    """Of an AC vehicle; how much a DC one takes follows from its battery, minute by minute."""
    phases = _TRANSFER_PHASES.get(text_of(needs, "requestedEnergyTransfer"))
    most_a = samples.number(_dict(needs, "acChargingParameters").get("evMaxCurrent"))
    most_ma = None if most_a is None or not 1 <= most_a <= 1000 else int(most_a * 1000)
    return () if phases is None and most_ma is None else (DrawTold(evse, channel, phases, most_ma),)


# --- what is only noted ---------------------------------------------------------------------------------------


def _noted(payload: Payload, known: Known, now: Moment) -> Request:
    word = (
        text_of(payload, "status") or text_of(payload, "type") or text_of(payload, "reservationUpdateStatus")
    )
    return Request((), always({}), (f'notice "{word}"',) if word else ())


def _always_says(answer: Payload, remark: str = "") -> Reader:
    return lambda payload, known, now: Request((), always(answer), (remark,) if remark else ())


def _vat_number(payload: Payload, known: Known, now: Moment) -> Request:
    answer: Payload = {"vatNumber": text_of(payload, "vatNumber", 20), "status": "Rejected"}
    number = integer(payload.get("evseId"))
    return Request((), always(answer if number is None or number < 0 else {**answer, "evseId": number}))


def _chain_status(payload: Payload, known: Known, now: Moment) -> Request:
    """GetCertificateChainStatus: nobody here asks certificate authorities in the Internet."""
    statuses = [
        {
            "certificateHashData": hashes,
            "source": request["source"],
            "status": "Failed",
            "nextUpdate": utc_text(now.utc),
        }
        for request in _dicts(payload.get("certificateStatusRequests"))
        if (hashes := _hashes(request)) is not None and request.get("source") in ("CRL", "OCSP")
    ]
    if not 0 < len(statuses) <= 4:
        raise BadCall(Flaw.PROPERTY, "certificateStatusRequests must be one to four")
    return Request((), always({"certificateStatus": statuses}))


def _hashes(request: Payload) -> Payload | None:
    data = _dict(request, "certificateHashData")
    kept = {
        "hashAlgorithm": text_of(data, "hashAlgorithm"),
        "issuerNameHash": text_of(data, "issuerNameHash", 128),
        "issuerKeyHash": text_of(data, "issuerKeyHash", 128),
        "serialNumber": text_of(data, "serialNumber", 40),
    }
    return kept if kept["hashAlgorithm"] in ("SHA256", "SHA384", "SHA512") else None


_EMPTY = _always_says({})

READERS_201: Mapping[str, Reader] = {
    "Authorize": _authorize,
    "BootNotification": _boot,
    "ClearedChargingLimit": _always_says({}, "an external limit was lifted"),
    "DataTransfer": _always_says({"status": "UnknownVendorId"}),
    "FirmwareStatusNotification": _firmware,
    "Get15118EVCertificate": _always_says({"status": "Failed", "exiResponse": ""}),
    "GetCertificateStatus": _always_says({"status": "Failed"}),
    "Heartbeat": _heartbeat,
    "LogStatusNotification": _noted,
    "MeterValues": _meter_values,
    "NotifyChargingLimit": _always_says({}, "an external limit is in force"),
    "NotifyCustomerInformation": _EMPTY,
    "NotifyDisplayMessages": _EMPTY,
    "NotifyEVChargingNeeds": _needs,
    "NotifyEVChargingSchedule": _always_says({"status": "Accepted"}),
    "NotifyEvent": _event,
    "NotifyMonitoringReport": _EMPTY,
    "NotifyReport": _EMPTY,
    "PublishFirmwareStatusNotification": _noted,
    "ReportChargingProfiles": _EMPTY,
    "ReservationStatusUpdate": _noted,
    "SecurityEventNotification": _noted,
    "SignCertificate": _always_says({"status": "Rejected"}),
    "StatusNotification": _status,
    "TransactionEvent": v2_transactions.read,
}
READERS_21: Mapping[str, Reader] = {
    **READERS_201,
    "BatterySwap": _EMPTY,
    "ClosePeriodicEventStream": _EMPTY,
    "GetCertificateChainStatus": _chain_status,
    "NotifyDERAlarm": _always_says({}, "a grid event at the inverter"),
    "NotifyDERStartStop": _EMPTY,
    "NotifyPriorityCharging": _always_says({}, "priority charging was chosen or left at the station"),
    "NotifySettlement": _EMPTY,
    "NotifyWebPaymentStarted": _EMPTY,
    "OpenPeriodicEventStream": _always_says({"status": "Rejected"}),
    "PullDynamicScheduleUpdate": _always_says({"status": "Rejected"}),
    "ReportDERControl": _EMPTY,
    "VatNumberValidation": _vat_number,
}


# --- fields ---------------------------------------------------------------------------------------------------


def _dict(payload: Mapping[str, Any], key: str) -> Payload:
    value = payload.get(key)
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Payload]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
