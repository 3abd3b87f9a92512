"""The simulated OCPP 1.6 charger beyond charging: reservations, local list, firmware, logs, certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from central2 import BOOT, SPEED, Central, listening, port_of
from sim_yard import file_server, root, sign

from controller.clock import SystemClock
from drivers.sim.charger import SimCharger
from drivers.sim.evse import SimEvse
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.stamps import stamp
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

Json = dict[str, Any]
ACCEPTED = {"status": "Accepted"}


class Yard:
    def __init__(self, central: Central, charger: SimCharger, world: World) -> None:
        self.central, self.charger, self.clock = central, charger, world.clock
        self.call = central.call
        self.evse = charger.connectors[0].evse

    def in_s(self, seconds: float) -> str:
        return stamp(self.clock.now().utc + timedelta(seconds=seconds))

    async def status(self, word: str, after: int = 0) -> None:
        await self.central.first("StatusNotification", after, connectorId=1, status=word)

    def plug(self) -> None:
        self.evse.plug(Vehicle("VAN", "TAG", battery_wh=60_000.0, soc=0.3))


@asynccontextmanager
async def yard(quirks: Quirks = HONEST, boot: Json = BOOT, wait: bool = True) -> AsyncIterator[Yard]:
    central = Central(["ocpp1.6"])
    central.answers |= {
        "BootNotification": boot,
        "Authorize": {"idTagInfo": ACCEPTED},
        "StartTransaction": {"transactionId": 1, "idTagInfo": ACCEPTED},
    }
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(central))
        clock = SystemClock(SPEED)
        evse = SimEvse("CP1/1", max_a=32.0)
        world = World(clock, 1, {"site": SimCircuit(None, 63.0)}, [evse], lambda _: (0.0, 0.0, 0.0))
        url = f"ws://127.0.0.1:{port_of(server)}/ocpp"
        charger = SimCharger("CP1", url, [evse], clock=clock, quirks=quirks, answer_s=5.0)
        tasks = [asyncio.create_task(charger.run()), asyncio.create_task(world.run())]
        try:
            if wait:
                await central.first("StatusNotification", connectorId=1)
            yield Yard(central, charger, world)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
        assert central.faults == []


async def test_pending_it_answers_and_boots_again_when_told() -> None:
    async with yard(boot={**BOOT, "status": "Pending", "interval": 3600}, wait=False) as y:
        await y.central.first("BootNotification")
        await y.call("ChangeConfiguration", {"key": "ConnectionTimeOut", "value": "90"})
        y.central.answers["BootNotification"] = BOOT
        assert await y.call("TriggerMessage", {"requestedMessage": "BootNotification"}) == ACCEPTED
        await y.status("Available")
        assert {action for action, _ in y.central.heard} == {"BootNotification", "StatusNotification"}


async def test_a_reservation_is_shown_kept_and_used() -> None:
    async with yard() as y:
        order = {"connectorId": 1, "expiryDate": y.in_s(3600), "idTag": "MINE", "reservationId": 4}
        assert await y.call("ReserveNow", order) == ACCEPTED
        await y.status("Reserved")
        assert await y.call("RemoteStartTransaction", {"idTag": "OTHER"}) == {"status": "Rejected"}
        y.plug()
        y.evse.present("OTHER")
        await y.central.first("Authorize", idTag="OTHER")
        y.evse.present("MINE")
        started = await y.central.first("StartTransaction")
        assert (started["idTag"], started["reservationId"]) == ("MINE", 4)
        assert await y.call("CancelReservation", {"reservationId": 4}) == {"status": "Rejected"}
        assert await y.call("ReserveNow", order) == {"status": "Occupied"}


async def test_a_reservation_ends_by_order_and_by_time() -> None:
    async with yard() as y:
        order = {"connectorId": 0, "expiryDate": y.in_s(3600), "idTag": "MINE", "reservationId": 4}
        await y.call("ReserveNow", order)
        await y.status("Reserved")
        mark = y.central.mark()
        assert await y.call("CancelReservation", {"reservationId": 4}) == ACCEPTED
        await y.status("Available", mark)
        mark = y.central.mark()
        await y.call("ReserveNow", {**order, "expiryDate": y.in_s(100)})
        await y.status("Reserved", mark)
        await y.status("Available", mark)
        past = {**order, "expiryDate": y.in_s(-5)}
        assert await y.call("ReserveNow", past) == {"status": "Rejected"}


async def test_the_local_list_decides_offline() -> None:
    async with yard() as y:
        entries = [
            {"idTag": "GOOD", "idTagInfo": ACCEPTED},
            {"idTag": "BAD", "idTagInfo": {"status": "Blocked"}},
        ]
        full = {"listVersion": 2, "updateType": "Full", "localAuthorizationList": entries}
        assert await y.call("SendLocalList", full) == ACCEPTED
        assert await y.call("GetLocalListVersion", {}) == {"listVersion": 2}
        assert await y.call("SendLocalList", {**full, "updateType": "Differential"}) == {
            "status": "VersionMismatch"
        }
        away = {"listVersion": 3, "updateType": "Differential", "localAuthorizationList": [{"idTag": "BAD"}]}
        assert await y.call("SendLocalList", away) == ACCEPTED
        y.charger.drop_link(away_s=3600.0)
        await y.central.until(lambda: not y.central.up)
        async with asyncio.timeout(5.0):
            while y.charger.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for token, allowed in (("BAD", False), ("good", True)):
            y.evse.present(token)
            y.charger.look()
            assert (y.charger.connectors[0].token is not None) is allowed


async def test_an_empty_full_list_clears_and_a_switched_off_list_is_refused() -> None:
    async with yard() as y:
        entry = {"idTag": "GOOD", "idTagInfo": ACCEPTED}
        await y.call(
            "SendLocalList", {"listVersion": 2, "updateType": "Full", "localAuthorizationList": [entry]}
        )
        await y.call("SendLocalList", {"listVersion": 1, "updateType": "Full"})
        assert y.charger.flash.cards.listed == {}
        await y.call("ChangeConfiguration", {"key": "LocalAuthListEnabled", "value": "false"})
        assert await y.call("SendLocalList", {"listVersion": 3, "updateType": "Full"}) == {
            "status": "NotSupported"
        }
        assert await y.call("GetLocalListVersion", {}) == {"listVersion": -1}


async def test_firmware_reboots_into_its_version() -> None:
    async with file_server() as (files, url), yard() as y:
        order = {"location": f"{url}charger_3.1.0.hex", "retrieveDate": y.in_s(0)}
        assert await y.call("UpdateFirmware", order) == {}
        await y.central.first("FirmwareStatusNotification", status="Installed")
        said = [payload["status"] for payload in y.central.all("FirmwareStatusNotification")]
        assert said == ["Downloading", "Downloaded", "Installing", "Installed"]
        assert files.fetched == ["/charger_3.1.0.hex"]
        assert y.central.all("BootNotification")[1]["firmwareVersion"] == "3.1.0"


@pytest.mark.parametrize(("fails", "last"), [("signature", "InvalidSignature"), ("", "Installed")])
async def test_signed_firmware(fails: str, last: str) -> None:
    async with yard(Quirks(fails=frozenset({fails}))) as y:
        firmware = {"location": "ftp://x/9.9.bin", "retrieveDateTime": y.in_s(0), "signature": "c2ln"}
        unsigned = {"requestId": 7, "firmware": {**firmware, "signingCertificate": "none"}}
        assert await y.call("SignedUpdateFirmware", unsigned) == {"status": "InvalidCertificate"}
        signed = {
            "requestId": 7,
            "firmware": {**firmware, "signingCertificate": "-----BEGIN CERTIFICATE-----"},
        }
        assert await y.call("SignedUpdateFirmware", signed) == ACCEPTED
        word = await y.central.first("SignedFirmwareStatusNotification", status=last)
        assert word["requestId"] == 7
        assert y.charger.flash.firmware == ("1.0.0" if fails else "9.9")


async def test_diagnostics_and_logs_are_handed_in() -> None:
    async with file_server() as (files, url), yard() as y:
        assert await y.call("GetDiagnostics", {"location": url}) == {"fileName": "CP1.log"}
        await y.central.first("DiagnosticsStatusNotification", status="Uploaded")
        assert b"GetDiagnostics" in files.taken["/CP1.log"]
        order = {"requestId": 2, "logType": "SecurityLog", "log": {"remoteLocation": f"{url}mine.log"}}
        assert (await y.call("GetLog", order))["status"] == "Accepted"
        await y.central.first("LogStatusNotification", status="Uploaded", requestId=2)
        assert "/mine.log" in files.taken
        assert (
            await y.call("ExtendedTriggerMessage", {"requestedMessage": "LogStatusNotification"}) == ACCEPTED
        )
        await y.central.first("LogStatusNotification", status="Idle")


async def test_an_upload_nobody_takes() -> None:
    async with yard(Quirks(fails=frozenset({"upload"}))) as y:
        await y.call("GetDiagnostics", {"location": "ftp://x/"})
        await y.central.first("DiagnosticsStatusNotification", status="UploadFailed")


async def test_certificates(tmp_path: Path) -> None:
    pem = root(tmp_path)
    async with yard() as y:
        kind = "CentralSystemRootCertificate"
        assert await y.call("InstallCertificate", {"certificateType": kind, "certificate": pem}) == ACCEPTED
        listed = await y.call("GetInstalledCertificateIds", {"certificateType": kind})
        (data,) = listed["certificateHashData"]
        assert await y.call("DeleteCertificate", {"certificateHashData": data}) == ACCEPTED
        assert await y.call("GetInstalledCertificateIds", {"certificateType": kind}) == {"status": "NotFound"}
        order = {"requestedMessage": "SignChargePointCertificate"}
        assert await y.call("ExtendedTriggerMessage", order) == ACCEPTED
        csr = (await y.central.first("SignCertificate"))["csr"]
        assert await y.call("CertificateSigned", {"certificateChain": pem}) == {"status": "Rejected"}
        assert await y.call("CertificateSigned", {"certificateChain": sign(tmp_path, csr)}) == ACCEPTED
