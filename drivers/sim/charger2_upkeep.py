"""How a simulated OCPP 2.x station is looked after: firmware, logs, certificates, network profiles.

One function per action, as in `charger2_charging`; the jobs themselves are `errands`. Source: OCPP 2.0.1 part 2 A02,
B09, L01, M03-M05, N01.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from drivers.errors import Refused
from drivers.sim.charger2_charging import rejected
from drivers.sim.charger2_variables import Place
from drivers.sim.errands import Update
from drivers.sim.outbox import Json, Slip
from drivers.sim.stamps import read_time

if TYPE_CHECKING:
    from drivers.sim.charger2 import SimStation

log = logging.getLogger(__name__)

SLOTS = range(4)
PRIORITY = "NetworkConfigurationPriority"
OURS = "ChargingStationCertificate"


def update_firmware(station: SimStation, payload: Json) -> Json:
    firmware, id = payload["firmware"], int(payload["requestId"])
    at = read_time(firmware["retrieveDateTime"])
    if at is None:
        raise ValueError("retrieveDateTime is empty")
    signed = "signature" in firmware
    if signed and "BEGIN CERTIFICATE" not in str(firmware.get("signingCertificate")):
        return {"status": "InvalidCertificate"}
    order = Update(
        str(firmware["location"]),
        at,
        read_time(firmware.get("installDateTime")),
        int(payload.get("retries", 0)),
        float(payload.get("retryInterval", 60)),
        signed,
    )
    action = "FirmwareStatusNotification"

    def say(status: str) -> None:
        station.say(action, {"status": status, "requestId": id})

    def install(version: str | None) -> None:
        station.memory.firmware = version or f"{station.memory.firmware}+1"
        station.memory.unsaid.append((action, {"status": "Installed", "requestId": id}))
        station.note(f"firmware {station.memory.firmware}")
        station.reboot(boot_reason="FirmwareUpdate", trigger="ResetCommand", reason="Reboot")

    errand = station.errands.update(order, say, lambda: not station.busy(), install)
    replaced = station.errands.start("firmware", errand)
    return {"status": "AcceptedCanceled" if replaced else "Accepted"}


def get_log(station: SimStation, payload: Json) -> Json:
    id, name = int(payload["requestId"]), f"{station.station_id}-{payload['logType']}.log"

    def say(status: str) -> None:
        station.say("LogStatusNotification", {"status": status, "requestId": id})

    body = "".join(f"{line}\n" for line in station.diary)
    location = str(payload["log"]["remoteLocation"])
    replaced = station.errands.start("log", station.errands.hand_in(location, name, body, say))
    return {"status": "AcceptedCanceled" if replaced else "Accepted", "filename": name}


def ask_for_certificate(station: SimStation) -> Json:
    """A key of its own and a request to sign it; `SignCertificate` follows."""
    organisation = station.memory.variables.text("SecurityCtrlr", "OrganizationName")

    async def ask() -> None:
        try:
            csr = await station.memory.certificates.request(station.station_id, organisation)
        except Refused as error:
            log.warning("%s: %s", station.station_id, error)
            return
        payload = {"csr": csr, "certificateType": OURS}
        station.voice.outbox.put("csr", Slip("SignCertificate", payload, asked=True))

    station.errands.start("csr", ask())
    return {"status": "Accepted"}


def certificate_signed(station: SimStation, payload: Json) -> Json:
    if payload.get("certificateType", OURS) != OURS:
        return rejected("UnsupportedParam")
    if not station.memory.certificates.take(str(payload["certificateChain"]), station.tls):
        station.say("SecurityEventNotification", {"type": "InvalidChargingStationCertificate"}, stamped=True)
        return rejected("InvalidCertificate")
    if station.tls is not None:
        station.reconnect_soon()
    return {"status": "Accepted"}


def install_certificate(station: SimStation, payload: Json) -> Json:
    kind, pem = str(payload["certificateType"]), str(payload["certificate"])
    status = station.memory.certificates.install(kind, pem)
    if status == "Accepted" and kind == "CSMSRootCertificate" and station.tls is not None:
        station.tls.load_verify_locations(cadata=pem)
    return {"status": status}


def installed_certificates(station: SimStation, payload: Json) -> Json:
    found = station.memory.certificates.find(payload.get("certificateType") or ())
    if not found:
        return {"status": "NotFound"}
    chains = [{"certificateType": kind, "certificateHashData": data} for kind, data in found]
    return {"status": "Accepted", "certificateHashDataChain": chains}


def delete_certificate(station: SimStation, payload: Json) -> Json:
    return {"status": station.memory.certificates.delete(payload["certificateHashData"])}


def set_network_profile(station: SimStation, payload: Json) -> Json:
    slot, data = int(payload["configurationSlot"]), payload["connectionData"]
    if slot not in SLOTS or not str(data["ocppCsmsUrl"]).startswith(("ws://", "wss://")):
        return rejected("InvalidNetworkConf")
    current = station.memory.variables.number("SecurityCtrlr", "SecurityProfile")
    if int(data["securityProfile"]) < current:
        return rejected("NoSecurityDowngrade")
    station.memory.networks[slot] = data
    return {"status": "Accepted"}


def network_slots(station: SimStation) -> list[int]:
    """Known connection profiles, first choice first."""
    text = station.memory.variables.text("OCPPCommCtrlr", PRIORITY)
    return [int(slot) for slot in text.split(",") if slot.isdigit() and int(slot) in station.memory.networks]


def use_network(station: SimStation, slots: Sequence[int]) -> None:
    """Dials what the first of these says; without any, what the station was built with."""
    if slots:
        station.memory.variables.values[Place("OCPPCommCtrlr", PRIORITY)] = ",".join(map(str, slots))
        station.link.url = str(station.memory.networks[slots[0]]["ocppCsmsUrl"])


def try_next_network(station: SimStation) -> None:
    """After as many vain attempts as it is told to make."""
    slots = network_slots(station)
    attempts = station.memory.variables.number("OCPPCommCtrlr", "NetworkProfileConnectionAttempts")
    if station.link.failures >= attempts and len(slots) > 1:
        station.link.failures = 0
        use_network(station, [*slots[1:], slots[0]])


HANDLERS: Mapping[str, Callable[[SimStation, Json], Json]] = {
    "UpdateFirmware": update_firmware,
    "GetLog": get_log,
    "CertificateSigned": certificate_signed,
    "InstallCertificate": install_certificate,
    "GetInstalledCertificateIds": installed_certificates,
    "DeleteCertificate": delete_certificate,
    "SetNetworkProfile": set_network_profile,
}
