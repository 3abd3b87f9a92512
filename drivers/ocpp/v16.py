"""The words of OCPP 1.6: requests of a station -> our events and the answer to give.

Owns every name and spelling of 1.6 that is not a charging profile. Pure: time comes in as `Moment`. Tolerant: over-long
text, unknown statuses, integral floats and missing optional fields are repaired; a transaction message is answered as
long as anything in it can be read, because a rejected one is a lost session. Source: OCPP 1.6 edition 2 sections 4, 6
and 7, its security extension, OCPP-J 1.6 section 4.2.3 for the spelling of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controller.core.events import (
    EvseSample,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import Evse, EvseId, EvseState, Moment, StationId, Verdict, evse_id
from controller.ports import Answer
from drivers.ocpp import samples
from drivers.ocpp.frames import BadCall, Flaw, Payload, clean
from drivers.ocpp.profiles import utc_text
from drivers.ocpp.samples import is_plausible, number, parse_time

CHANNEL: Final = "ocpp1.6"
SUBPROTOCOL: Final = "ocpp1.6"
OLD_S = 120  # a stamp older than this is a replay of what happened while the link was down

CODES: Mapping[Flaw, str] = {
    Flaw.FORMATION: "FormationViolation",
    Flaw.PROTOCOL: "ProtocolError",
    Flaw.PROPERTY: "PropertyConstraintViolation",
    Flaw.OCCURRENCE: "OccurenceConstraintViolation",  # sic: spelled so in OCPP-J 1.6
    Flaw.TYPE: "TypeConstraintViolation",
    Flaw.NOT_IMPLEMENTED: "NotImplemented",
    Flaw.NOT_SUPPORTED: "NotSupported",
    Flaw.INTERNAL: "InternalError",
}

_LONGEST_ID = 64  # 1.6 allows 20; longer ones exist and are somebody's badge all the same
_LONGEST_TEXT = 50

_STATES: Mapping[str, EvseState] = {
    "available": EvseState.AVAILABLE,
    "preparing": EvseState.PREPARING,
    "occupied": EvseState.PREPARING,  # 1.5 stations that speak 1.6
    "charging": EvseState.CHARGING,
    "suspendedev": EvseState.SUSPENDED_EV,
    "suspendedevse": EvseState.SUSPENDED_EVSE,
    "finishing": EvseState.FINISHING,
    "reserved": EvseState.RESERVED,
    "unavailable": EvseState.UNAVAILABLE,
    "faulted": EvseState.FAULTED,
}
_WHOLE_STATION = (EvseState.FAULTED, EvseState.UNAVAILABLE)

_OURS_TO_SEND = frozenset(
    {
        "CancelReservation",
        "CertificateSigned",
        "ChangeAvailability",
        "ChangeConfiguration",
        "ClearCache",
        "ClearChargingProfile",
        "DeleteCertificate",
        "ExtendedTriggerMessage",
        "GetCompositeSchedule",
        "GetConfiguration",
        "GetDiagnostics",
        "GetInstalledCertificateIds",
        "GetLocalListVersion",
        "GetLog",
        "InstallCertificate",
        "RemoteStartTransaction",
        "RemoteStopTransaction",
        "ReserveNow",
        "Reset",
        "SendLocalList",
        "SetChargingProfile",
        "SignedUpdateFirmware",
        "TriggerMessage",
        "UnlockConnector",
        "UpdateFirmware",
    }
)

Event = StationBooted | StatusChanged | EvseSample | TokenPresented | TransactionStarted | TransactionEnded
Reply = Callable[[Answer | None], Payload | None]  # None: no answer at all, so that the station repeats


@dataclass(frozen=True, slots=True)
class Known:
    """What a request is read against.

    transactions: the EVSE of each transaction started on this link; ended: those that are over, so that late values
    do not revive them; statuses: what each EVSE number last said of itself.
    """

    station: StationId
    evses: Mapping[int, Evse]
    heartbeat_s: int
    transactions: Mapping[str, EvseId]
    ended: frozenset[str]
    statuses: Mapping[int, EvseState]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as read: facts to report in this order, then `reply` with the answer to the last one.

    `remarks` are one line each for the log: what was odd and what was made of it. `station_wide`: the statuses among
    the events follow from the station as a whole; they are not what the EVSEs said themselves.
    """

    events: tuple[Event, ...]
    reply: Reply
    remarks: tuple[str, ...] = ()
    station_wide: bool = False


def is_sheddable(action: str) -> bool:
    """What a station repeats by itself, and nobody misses when a link is flooded."""
    return action in ("MeterValues", "Heartbeat")


def is_sacred(action: str) -> bool:
    """Transaction messages: never answered with an error while anything in them can be read."""
    return action in ("StartTransaction", "StopTransaction", "MeterValues")


def read(action: str, payload: Payload, known: Known, now: Moment) -> Request:
    """Reads a request of the station. Raises BadCall for what is not one; never anything else."""
    reader = _READERS.get(action)
    if reader is not None:
        return reader(payload, known, now)
    if action in _OURS_TO_SEND:
        raise BadCall(Flaw.NOT_SUPPORTED, f"{action} is for stations")
    raise BadCall(Flaw.NOT_IMPLEMENTED, f"{clean(action, _LONGEST_TEXT)} is not an action of OCPP 1.6")


def status_of(answer: Payload) -> str:
    """The `status` of a station's answer; empty when there is none."""
    status = answer.get("status")
    return clean(status, _LONGEST_TEXT) if isinstance(status, str) else ""


# --- one reader per action ------------------------------------------------------------------------------------


def _boot(payload: Payload, known: Known, now: Moment) -> Request:
    booted = StationBooted(
        station=known.station,
        channel=CHANNEL,
        vendor=_text(payload, "chargePointVendor"),
        model=_text(payload, "chargePointModel"),
        firmware=_text(payload, "firmwareVersion"),
        serial=_text(payload, "chargePointSerialNumber") or _text(payload, "chargeBoxSerialNumber"),
    )
    answer: Payload = {"currentTime": utc_text(now.utc), "interval": known.heartbeat_s, "status": "Accepted"}
    return Request((booted,), _always(answer))


def _heartbeat(payload: Payload, known: Known, now: Moment) -> Request:
    return Request((), _always({"currentTime": utc_text(now.utc)}))


def _status(payload: Payload, known: Known, now: Moment) -> Request:
    connector = _connector(payload)
    if connector is None:
        flaw = Flaw.TYPE if "connectorId" in payload else Flaw.OCCURRENCE
        raise BadCall(flaw, "connectorId must be a number")
    if connector < 0:
        raise BadCall(Flaw.PROPERTY, "connectorId must not be negative")
    word = _text(payload, "status")
    state = _STATES.get("".join(sign for sign in word.casefold() if sign.isalpha()))
    if state is None:
        return Request((), _always({}), (f'status "{word}" is unknown and says nothing',))
    fault = _fault(payload) if state is EvseState.FAULTED else None
    if connector == 0:
        return Request(_station_status(state, fault, known), _always({}), station_wide=True)
    if connector not in known.evses:
        return Request((), _always({}), (f"connector {connector} is not configured; its status is ignored",))
    return Request((StatusChanged(evse_id(known.station, connector), CHANNEL, state, fault),), _always({}))


def _station_status(state: EvseState, fault: str | None, known: Known) -> tuple[StatusChanged, ...]:
    """Connector 0 is the station itself: out of order, so is every EVSE; back again, each is what it last said."""
    if state in _WHOLE_STATION:
        return tuple(
            StatusChanged(
                evse_id(known.station, each), CHANNEL, state, f"station: {fault}" if fault else None
            )
            for each in known.evses
        )
    return tuple(
        StatusChanged(evse_id(known.station, each), CHANNEL, last)
        for each, last in known.statuses.items()
        if last is not EvseState.FAULTED  # that one has its own fault, and has reported it
    )


def _authorize(payload: Payload, known: Known, now: Moment) -> Request:
    token = _text(payload, "idTag", _LONGEST_ID)
    if not token:
        flaw = Flaw.TYPE if "idTag" in payload else Flaw.OCCURRENCE
        raise BadCall(flaw, "idTag must be text")
    return Request(
        (TokenPresented(known.station, token),), lambda answer: {"idTagInfo": _id_tag_info(answer)}
    )


def _start(payload: Payload, known: Known, now: Moment) -> Request:
    connector = _connector(payload)
    remarks: tuple[str, ...] = ()
    if connector is None and len(known.evses) == 1:
        connector = next(iter(known.evses))
        remarks = (f"a start without a connector was taken for connector {connector}",)
    if connector is None or connector not in known.evses:
        # An error would make the station repeat for ever; an invalid token makes it stop what we cannot budget.
        answer: Payload = {"transactionId": 0, "idTagInfo": {"status": Verdict.INVALID.value}}
        return Request((), _always(answer), (f"a start on connector {connector}, which is not configured",))
    started, offline = _when(payload, now)
    event = TransactionStarted(
        evse=evse_id(known.station, connector),
        channel=CHANNEL,
        transaction=None,
        token=_text(payload, "idTag", _LONGEST_ID) or None,
        register_wh=_register(payload.get("meterStart")),
        started=started,
        offline=offline,
    )
    return Request((event,), _start_reply, remarks)


def _start_reply(answer: Answer | None) -> Payload | None:
    transaction = answer.transaction if answer is not None else None
    if transaction is None or not transaction.lstrip("-").isdecimal():
        return None
    return {"transactionId": int(transaction), "idTagInfo": _id_tag_info(answer)}


def _stop(payload: Payload, known: Known, now: Moment) -> Request:
    transaction = _transaction(payload) or "unknown"
    ended, offline = _when(payload, now)
    data = samples.newest_values(payload.get("transactionData"), None, live=False)
    register = _register(payload.get("meterStop"))
    token = _text(payload, "idTag", _LONGEST_ID) or None
    event = TransactionEnded(
        station=known.station,
        evse=known.transactions.get(transaction),
        transaction=transaction,
        reason=_text(payload, "reason") or "Local",  # OCPP 1.6 section 6.49: left out means Local
        register_wh=samples.register_wh(data) if register is None else register,
        ended=ended,
        token=token,
        offline=offline,
    )
    # Saying no to the token of a stop helps nobody: some stations then keep the session and repeat for ever.
    answer: Payload = {"idTagInfo": {"status": Verdict.ACCEPTED.value}} if token else {}
    return Request((event,), _always(answer))


def _meter_values(payload: Payload, known: Known, now: Moment) -> Request:
    connector = _connector(payload)
    if connector is None and len(known.evses) == 1:
        connector = next(iter(known.evses))
    evse = known.evses.get(connector) if connector is not None else None
    if evse is None or _transaction(payload) in known.ended:
        return Request((), _always({}))  # connector 0 is the station's own supply; late values revive nothing
    not_before = now.utc - timedelta(seconds=OLD_S) if now.utc_trusted else None
    values = samples.newest_values(payload.get("meterValue"), not_before)
    sample = EvseSample(
        evse=evse.id,
        channel=CHANNEL,
        taken_s=now.mono_s,
        current_ma=samples.currents_ma(values, len(evse.phases)),
        power_w=samples.power_w(values, len(evse.phases)),
        register_wh=samples.register_wh(values),
        soc=samples.soc(values),
        offered_ma=samples.offered_ma(values),
    )
    return Request((sample,) if values else (), _always({}))


def _data_transfer(payload: Payload, known: Known, now: Moment) -> Request:
    return Request((), _always({"status": "UnknownVendorId"}))


def _sign_certificate(payload: Payload, known: Known, now: Moment) -> Request:
    return Request((), _always({"status": "Rejected"}))  # there is no certificate authority on site


def _noted(payload: Payload, known: Known, now: Moment) -> Request:
    word = _text(payload, "status") or _text(payload, "type")
    return Request((), _always({}), (f'notice "{word}"',) if word else ())


_READERS: Mapping[str, Callable[[Payload, Known, Moment], Request]] = {
    "Authorize": _authorize,
    "BootNotification": _boot,
    "DataTransfer": _data_transfer,
    "DiagnosticsStatusNotification": _noted,
    "FirmwareStatusNotification": _noted,
    "Heartbeat": _heartbeat,
    "LogStatusNotification": _noted,
    "MeterValues": _meter_values,
    "SecurityEventNotification": _noted,
    "SignCertificate": _sign_certificate,
    "SignedFirmwareStatusNotification": _noted,
    "StartTransaction": _start,
    "StatusNotification": _status,
    "StopTransaction": _stop,
}


# --- fields ---------------------------------------------------------------------------------------------------


def _always(payload: Payload) -> Reply:
    return lambda answer: payload


def _id_tag_info(answer: Answer | None) -> Payload:
    verdict = Verdict.INVALID if answer is None else answer.verdict
    return {"status": verdict.value}


def _text(payload: Payload, key: str, most: int = _LONGEST_TEXT) -> str:
    value = payload.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # badges and serials that a station took for numbers
    return clean(value, most) if isinstance(value, str) else ""


def _integer(value: object) -> int | None:
    """1, 1.0 and "1" are all 1; anything else is unknown."""
    read_number = number(value)
    return int(read_number) if read_number is not None and read_number.is_integer() else None


def _connector(payload: Payload) -> int | None:
    return _integer(payload.get("connectorId"))


def _transaction(payload: Payload) -> str | None:
    whole_number = _integer(payload.get("transactionId"))
    return str(whole_number) if whole_number is not None else _text(payload, "transactionId", 36) or None


def _register(value: object) -> int | None:
    """A meter register in Wh; a negative or unreadable one is unknown, a fraction is dropped."""
    read_number = number(value)
    return int(read_number) if read_number is not None and read_number >= 0 else None


def _when(payload: Payload, now: Moment) -> tuple[datetime, bool]:
    """The station's time stamp and whether it is an old one.

    A stamp that cannot be true (none, 1970, ahead of us by more than OLD_S) is replaced by the time of receipt. While
    our own clock is not trusted nothing can be called old.
    """
    stamp = parse_time(payload.get("timestamp"))
    if stamp is None or not is_plausible(stamp):
        return now.utc, False
    if not now.utc_trusted:
        return stamp, False
    age_s = (now.utc - stamp).total_seconds()
    if age_s < -OLD_S:
        return now.utc, False
    return stamp, age_s > OLD_S


def _fault(payload: Payload) -> str:
    parts = (_text(payload, key) for key in ("errorCode", "vendorErrorCode", "info"))
    return " ".join(part for part in parts if part and part != "NoError") or "unknown"
