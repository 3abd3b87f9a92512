"""How a simulated OCPP 1.6 charger is looked after: firmware, logs and certificates.

One function per action, as in `orders`; the jobs themselves are `errands`. Source: OCPP 1.6 sections 4.4, 4.5, 6.19,
6.49; "Improved security for OCPP 1.6-J", edition 3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from drivers.errors import Refused
from drivers.sim import orders
from drivers.sim.errands import Update
from drivers.sim.outbox import Json, Slip
from drivers.sim.stamps import read_time

if TYPE_CHECKING:
    from drivers.sim.charger import SimCharger

log = logging.getLogger(__name__)

UNSIGNED_WORDS = (
    "Downloaded",
    "DownloadFailed",
    "Downloading",
    "InstallationFailed",
    "Installing",
    "Installed",
)
CERTIFICATE_TYPES = ("CentralSystemRootCertificate", "ManufacturerRootCertificate")


def update_firmware(charger: SimCharger, payload: Json) -> Json:
    at = read_time(payload["retrieveDate"])
    if at is None:
        raise ValueError("retrieveDate is empty")
    order = Update(str(payload["location"]), at, None, *_retries(payload))

    def say(status: str) -> None:
        if status in UNSIGNED_WORDS:
            charger.say("FirmwareStatusNotification", {"status": status})

    _start_update(charger, order, say, ("FirmwareStatusNotification", {"status": "Installed"}))
    return {}


def update_signed_firmware(charger: SimCharger, payload: Json) -> Json:
    firmware, id = payload["firmware"], int(payload["requestId"])
    if "BEGIN CERTIFICATE" not in str(firmware["signingCertificate"]):
        return {"status": "InvalidCertificate"}
    at, install_at = (read_time(firmware.get(f"{when}DateTime")) for when in ("retrieve", "install"))
    if at is None:
        raise ValueError("retrieveDateTime is empty")
    order = Update(str(firmware["location"]), at, install_at, *_retries(payload), signed=True)
    action = "SignedFirmwareStatusNotification"

    def say(status: str) -> None:
        charger.say(action, {"status": status, "requestId": id})

    replaced = _start_update(charger, order, say, (action, {"status": "Installed", "requestId": id}))
    return {"status": "AcceptedCanceled" if replaced else "Accepted"}


def _start_update(
    charger: SimCharger, order: Update, say: Callable[[str], None], done: tuple[str, Json]
) -> bool:
    def install(version: str | None) -> None:
        charger.flash.firmware = version or f"{charger.flash.firmware}+1"
        charger.flash.unsaid.append(done)
        charger.note(f"firmware {charger.flash.firmware}")
        charger.reboot(reason="Reboot")

    def idle() -> bool:
        return all(connector.transaction is None for connector in charger.connectors)

    return charger.errands.start("firmware", charger.errands.update(order, say, idle, install))


def get_diagnostics(charger: SimCharger, payload: Json) -> Json:
    words = {"UploadFailure": "UploadFailed"}

    def say(status: str) -> None:
        charger.say("DiagnosticsStatusNotification", {"status": words.get(status, status)})

    return {"fileName": _hand_in(charger, str(payload["location"]), say)[0]}


def get_log(charger: SimCharger, payload: Json) -> Json:
    id = int(payload["requestId"])

    def say(status: str) -> None:
        charger.say("LogStatusNotification", {"status": status, "requestId": id})

    name, replaced = _hand_in(charger, str(payload["log"]["remoteLocation"]), say)
    return {"status": "AcceptedCanceled" if replaced else "Accepted", "filename": name}


def _hand_in(charger: SimCharger, location: str, say: Callable[[str], None]) -> tuple[str, bool]:
    name = f"{charger.station_id}.log"
    body = "".join(f"{line}\n" for line in charger.diary)
    return name, charger.errands.start("log", charger.errands.hand_in(location, name, body, say))


def extended_trigger(charger: SimCharger, payload: Json) -> Json:
    kind = payload["requestedMessage"]
    if kind == "SignChargePointCertificate":
        charger.errands.start("csr", _ask_for_certificate(charger))
        return {"status": "Accepted"}
    if kind == "FirmwareStatusNotification":
        kind = "SignedFirmwareStatusNotification"
    if kind in ("SignedFirmwareStatusNotification", "LogStatusNotification"):
        charger.say_again(kind)
        return {"status": "Accepted"}
    return orders.trigger(charger, payload)


async def _ask_for_certificate(charger: SimCharger) -> None:
    organisation = charger.flash.configuration["CpoName"]
    try:
        csr = await charger.flash.certificates.request(charger.station_id, organisation)
    except Refused as error:
        log.warning("%s: %s", charger.station_id, error)
        return
    charger.voice.outbox.put("csr", Slip("SignCertificate", {"csr": csr}))


def certificate_signed(charger: SimCharger, payload: Json) -> Json:
    taken = charger.flash.certificates.take(str(payload["certificateChain"]), charger.tls)
    return {"status": "Accepted" if taken else "Rejected"}


def install_certificate(charger: SimCharger, payload: Json) -> Json:
    kind = payload["certificateType"]
    if kind not in CERTIFICATE_TYPES:
        return {"status": "Rejected"}
    return {"status": charger.flash.certificates.install(kind, str(payload["certificate"]))}


def installed_certificates(charger: SimCharger, payload: Json) -> Json:
    found = [data for _, data in charger.flash.certificates.find((payload["certificateType"],))]
    return {"status": "Accepted", "certificateHashData": found} if found else {"status": "NotFound"}


def delete_certificate(charger: SimCharger, payload: Json) -> Json:
    return {"status": charger.flash.certificates.delete(payload["certificateHashData"])}


def data_transfer(charger: SimCharger, payload: Json) -> Json:
    if payload["vendorId"] != charger.vendor:
        return {"status": "UnknownVendorId"}
    return {"status": "UnknownMessageId"}


def _retries(payload: Json) -> tuple[int, float]:
    return int(payload.get("retries", 0)), float(payload.get("retryInterval", 60))


HANDLERS: Mapping[str, Callable[[SimCharger, Json], Json]] = {
    "UpdateFirmware": update_firmware,
    "SignedUpdateFirmware": update_signed_firmware,
    "GetDiagnostics": get_diagnostics,
    "GetLog": get_log,
    "ExtendedTriggerMessage": extended_trigger,
    "CertificateSigned": certificate_signed,
    "InstallCertificate": install_certificate,
    "GetInstalledCertificateIds": installed_certificates,
    "DeleteCertificate": delete_certificate,
    "DataTransfer": data_transfer,
}
