"""The words of OCPP 1.6: requests of a station -> our events and the answer to give.

Owns every name and spelling of 1.6 that is not a charging profile. Pure: time comes in as `Moment`. Tolerant: over-long
text, unknown statuses, integral floats and missing optional fields are repaired; a transaction message is answered as
long as anything in it can be read, because a rejected one is a lost session. Source: OCPP 1.6 edition 2 sections 4, 6
and 7, its security extension, OCPP-J 1.6 section 4.2.3 for the spelling of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from controller.core.events import (
    EvseSample,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import Evse, EvseState, Moment, Verdict, evse_id, number_of
from controller.ports import Answer
from drivers.ocpp import samples
from drivers.ocpp.frames import BadCall, Flaw, Payload, clean
from drivers.ocpp.samples import number
from drivers.ocpp.words import (
    LONGEST_TEXT,
    OLD_S,
    Known,
    Request,
    always,
    firmware_progress,
    integer,
    odd_time,
    sample_of,
    station_status,
    text_of,
    utc_text,
    when,
)

CHANNEL: Final = "ocpp1.6"

CODES: Mapping[Flaw, str] = {
    Flaw.FORMATION: "FormationViolation",
    Flaw.PROTOCOL: "ProtocolError",
    Flaw.PROPERTY: "PropertyConstraintViolation",
    Flaw.OCCURRENCE: "OccurenceConstraintViolation",  # sic: spelled so in OCPP-J 1.6
    Flaw.TYPE: "TypeConstraintViolation",
    Flaw.NOT_IMPLEMENTED: "NotImplemented",
    Flaw.NOT_SUPPORTED: "NotSupported",
    Flaw.INTERNAL: "InternalError",
    Flaw.SECURITY: "SecurityError",
}

_LONGEST_ID = 64  # 1.6 allows 20; longer ones exist and are somebody's badge all the same
_LONGEST_PARENT = 20
STRANGER_S = 30.0  # an unknown transaction that is metered for so long: its start would have come by now

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

OURS_TO_SEND = frozenset(
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
    if action in OURS_TO_SEND:
        raise BadCall(Flaw.NOT_SUPPORTED, f"{action} is for stations")
    raise BadCall(Flaw.NOT_IMPLEMENTED, f"{clean(action, LONGEST_TEXT)} is not an action of OCPP 1.6")


# --- one reader per action ------------------------------------------------------------------------------------


def _boot(payload: Payload, known: Known, now: Moment) -> Request:
    booted = StationBooted(
        station=known.station,
        channel=CHANNEL,
        vendor=text_of(payload, "chargePointVendor"),
        model=text_of(payload, "chargePointModel"),
        firmware=text_of(payload, "firmwareVersion"),
        serial=text_of(payload, "chargePointSerialNumber") or text_of(payload, "chargeBoxSerialNumber"),
    )
    status = "Pending" if known.held else "Accepted"
    answer: Payload = {"currentTime": utc_text(now.utc), "interval": known.heartbeat_s, "status": status}
    if known.held:
        return Request((), always(answer))
    return Request((booted,), always(answer), remember=known.story.rebooted)


def _heartbeat(payload: Payload, known: Known, now: Moment) -> Request:
    return Request((), always({"currentTime": utc_text(now.utc)}))


def _status(payload: Payload, known: Known, now: Moment) -> Request:
    connector = _connector(payload)
    if connector is None:
        flaw = Flaw.TYPE if "connectorId" in payload else Flaw.OCCURRENCE
        raise BadCall(flaw, "connectorId must be a number")
    if connector < 0:
        raise BadCall(Flaw.PROPERTY, "connectorId must not be negative")
    word = text_of(payload, "status")
    state = _STATES.get("".join(sign for sign in word.casefold() if sign.isalpha()))
    if state is None:
        return Request((), always({}), (f'status "{word}" is unknown and says nothing',))
    fault = _fault(payload) if state is EvseState.FAULTED else None
    if connector == 0:
        return Request(station_status(state, fault, known), always({}), station_wide=True)
    if connector not in known.evses:
        return Request((), always({}), (f"connector {connector} is not configured; its status is ignored",))
    return Request((StatusChanged(evse_id(known.station, connector), CHANNEL, state, fault),), always({}))


def _authorize(payload: Payload, known: Known, now: Moment) -> Request:
    token = text_of(payload, "idTag", _LONGEST_ID)
    if not token:
        flaw = Flaw.TYPE if "idTag" in payload else Flaw.OCCURRENCE
        raise BadCall(flaw, "idTag must be text")
    return Request(
        (TokenPresented(known.station, token),), lambda answer: {"idTagInfo": _id_tag_info(answer)}
    )


def _start(payload: Payload, known: Known, now: Moment) -> Request:
    connector = _connector(payload)
    remarks: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    if connector is None and len(known.evses) == 1:
        connector = next(iter(known.evses))
        remarks = (f"a start without a connector was taken for connector {connector}",)
        marks = ("no-connector",)
    if connector is None or connector not in known.evses:
        # An error would make the station repeat for ever; an invalid token makes it stop what we cannot budget.
        answer: Payload = {"transactionId": 0, "idTagInfo": {"status": Verdict.INVALID.value}}
        return Request((), always(answer), (f"a start on connector {connector}, which is not configured",))
    started, offline = when(payload, now)
    event = TransactionStarted(
        evse=evse_id(known.station, connector),
        channel=CHANNEL,
        transaction=None,
        token=text_of(payload, "idTag", _LONGEST_ID) or None,
        register_wh=_register(payload.get("meterStart")),
        started=started,
        offline=offline,
        marks=marks + odd_time(started, now),
    )
    return Request((event,), _start_reply, remarks)


def _start_reply(answer: Answer | None) -> Payload | None:
    transaction = answer.transaction if answer is not None else None
    if transaction is None or not transaction.lstrip("-").isdecimal():
        return None
    return {"transactionId": int(transaction), "idTagInfo": _id_tag_info(answer)}


def _stop(payload: Payload, known: Known, now: Moment) -> Request:
    transaction = _transaction(payload) or "unknown"
    ended, offline = when(payload, now)
    data = samples.newest_values(payload.get("transactionData"), None, live=False)
    register = _register(payload.get("meterStop"))
    token = text_of(payload, "idTag", _LONGEST_ID) or None
    event = TransactionEnded(
        station=known.station,
        evse=known.transactions.get(transaction),
        transaction=transaction,
        reason=text_of(payload, "reason") or "Local",  # OCPP 1.6 section 6.49: left out means Local
        register_wh=samples.register_wh(data) if register is None else register,
        ended=ended,
        token=token,
        offline=offline,
        marks=odd_time(ended, now),
    )
    # Saying no to the token of a stop helps nobody: some stations then keep the session and repeat for ever.
    answer: Payload = {"idTagInfo": {"status": Verdict.ACCEPTED.value}} if token else {}
    return Request((event,), always(answer))


def _meter_values(payload: Payload, known: Known, now: Moment) -> Request:
    connector = _connector(payload)
    if connector is None and len(known.evses) == 1:
        connector = next(iter(known.evses))
    evse = known.evses.get(connector) if connector is not None else None
    if evse is None:
        return Request((), always({}))  # connector 0 is the station's own supply
    transaction = _transaction(payload)
    if transaction is not None and transaction in known.ended:
        return _closing_values(payload, transaction, known)
    not_before = now.utc - timedelta(seconds=OLD_S) if now.utc_trusted else None
    values = samples.newest_values(payload.get("meterValue"), not_before)
    sample = sample_of(values, evse, CHANNEL, now.mono_s) if values else None
    if transaction is None or transaction in known.transactions:
        return Request((sample,) if sample is not None else (), always({}))
    ending_wh = samples.ending_wh(payload.get("meterValue"))
    if sample is None or ending_wh is not None:
        return Request(_measured(transaction, ending_wh, known), always({}))
    return _stranger(transaction, evse, sample, known, now)


def _closing_values(payload: Payload, transaction: str, known: Known) -> Request:
    """Late values revive nothing, but the register may be the last word about the transaction (row 44)."""
    register_wh = samples.register_wh(samples.newest_values(payload.get("meterValue"), None, live=False))
    return Request(_measured(transaction, register_wh, known), always({}))


def _measured(transaction: str, register_wh: int | None, known: Known) -> tuple[TransactionMeasured, ...]:
    return () if register_wh is None else (TransactionMeasured(known.station, transaction, register_wh),)


def _stranger(name: str, evse: Evse, sample: EvseSample, known: Known, now: Moment) -> Request:
    """Values of a transaction that nobody knows: our books were lost, or it began while we were gone. Its start may still
    be repeated; after STRANGER_S what flows is a session all the same (rows 8 and 11)."""
    free = known.statuses.get(number_of(evse.id)) is EvseState.AVAILABLE
    if not name.isdecimal() or int(name) == 0 or free:
        return Request((sample,), always({}))
    since_s = known.story.strangers.get(name, now.mono_s)
    if now.mono_s - since_s < STRANGER_S:
        remember = partial(known.story.note_stranger, name, now.mono_s)
        return Request((sample,), always({}), ("values of an unknown transaction",), remember=remember)
    start = TransactionStarted(
        evse=evse.id,
        channel=CHANNEL,
        transaction=name,
        token=None,
        register_wh=sample.register_wh,
        started=now.utc,
        inferred=True,
        marks=("unknown-transaction",),
        unsure=True,
    )
    remarks = ("an unknown transaction was taken for a session",)
    remember = partial(known.story.drop_stranger, name)
    return Request((start, sample), always({}), remarks, remember=remember)


def _data_transfer(payload: Payload, known: Known, now: Moment) -> Request:
    return Request((), always({"status": "UnknownVendorId"}))


def _sign_certificate(payload: Payload, known: Known, now: Moment) -> Request:
    # words cannot sign; `security`, which can, answers before they are asked
    return Request((), always({"status": "Rejected"}))


def _firmware(payload: Payload, known: Known, now: Moment) -> Request:
    word = text_of(payload, "status")
    return Request(firmware_progress(word, known), always({}), news=f"firmware: {word}")


def _noted(payload: Payload, known: Known, now: Moment) -> Request:
    word = text_of(payload, "status") or text_of(payload, "type")
    return Request((), always({}), (f'notice "{word}"',) if word else ())


_READERS: Mapping[str, Callable[[Payload, Known, Moment], Request]] = {
    "Authorize": _authorize,
    "BootNotification": _boot,
    "DataTransfer": _data_transfer,
    "DiagnosticsStatusNotification": _noted,
    "FirmwareStatusNotification": _firmware,
    "Heartbeat": _heartbeat,
    "LogStatusNotification": _noted,
    "MeterValues": _meter_values,
    "SecurityEventNotification": _noted,
    "SignCertificate": _sign_certificate,
    "SignedFirmwareStatusNotification": _firmware,
    "StartTransaction": _start,
    "StatusNotification": _status,
    "StopTransaction": _stop,
}


# --- fields ---------------------------------------------------------------------------------------------------


def _id_tag_info(answer: Answer | None) -> Payload:
    if answer is None:
        return {"status": Verdict.INVALID.value}
    info: Payload = {"status": answer.verdict.value}
    if answer.group is not None and len(answer.group) <= _LONGEST_PARENT:
        info["parentIdTag"] = answer.group
    if answer.expires is not None:
        info["expiryDate"] = utc_text(answer.expires)
    return info


def _connector(payload: Payload) -> int | None:
    return integer(payload.get("connectorId"))


def _transaction(payload: Payload) -> str | None:
    whole_number = integer(payload.get("transactionId"))
    return str(whole_number) if whole_number is not None else text_of(payload, "transactionId", 36) or None


def _register(value: object) -> int | None:
    """A meter register in Wh; a negative or unreadable one is unknown, a fraction is dropped."""
    read_number = number(value)
    return int(read_number) if read_number is not None and read_number >= 0 else None


def _fault(payload: Payload) -> str:
    parts = (text_of(payload, key) for key in ("errorCode", "vendorErrorCode", "info"))
    return " ".join(part for part in parts if part and part != "NoError") or "unknown"
