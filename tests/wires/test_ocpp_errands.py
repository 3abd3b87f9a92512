"""Local lists, firmware and answers in parts on the wire: what becomes of each command, and that limits pass by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ocpp_peer import Depot, Peer, Said, peer, running, settings

from controller.clock import SystemClock
from controller.core.commands import SetLimit, StoreTokens, UpgradeFirmware
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
    FirmwareReported,
    TokenPresented,
)
from controller.core.model import EvseId, IdToken, StationId, evse_id
from drivers.errors import Refused, Unreachable
from drivers.ocpp.inquiries import Inquiries
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import Policy

CP1, STATION = evse_id("CP1", 1), StationId("CP1")
EVSES = {1: EvseId(CP1)}
BOTH = pytest.mark.parametrize("version", ["1.6", "2.0.1"])
Json = dict[str, Any]


def configuration(payload: Json) -> Json:
    told = {"LocalAuthListEnabled": "true", "SendLocalListMaxLength": "2", "LocalPreAuthorize": "true",
            "LocalAuthorizeOffline": "true", "AllowOfflineTxForUnknownId": "false"}  # fmt: skip
    return {"configurationKey": [{"key": key, "value": told[key]} for key in payload["key"] if key in told]}


def variables(payload: Json) -> Json:
    told = {"LocalAuthListCtrlr.ItemsPerMessage": "2", "AuthCtrlr.LocalPreAuthorize": "true",
            "AuthCtrlr.LocalAuthorizeOffline": "true", "AuthCtrlr.OfflineTxForUnknownIdEnabled": "false"}  # fmt: skip
    results = []
    for row in payload["getVariableData"]:
        value = told.get(f"{row['component']['name']}.{row['variable']['name']}")
        known = (
            {"attributeStatus": "Accepted", "attributeValue": value}
            if value
            else {"attributeStatus": "UnknownVariable"}
        )
        results.append({"component": row["component"], "variable": row["variable"], **known})
    return {"getVariableResult": results}


def written(payload: Json) -> Json:
    rows = [{key: row[key] for key in ("component", "variable")} for row in payload["setVariableData"]]
    return {"setVariableResult": [{**row, "attributeStatus": "Accepted"} for row in rows]}


@asynccontextmanager
async def station(server: OcppServer, version: str) -> AsyncIterator[Peer]:
    """Booted, with setup behind it."""
    async with peer(server, subprotocols=[f"ocpp{version}"]) as one:
        yes = ("ClearCache", "SendLocalList", "SetVariables", "UpdateFirmware", "GetBaseReport")
        one.answers |= {action: {"status": "Accepted"} for action in yes}
        one.answers |= {"GetConfiguration": configuration, "GetVariables": variables, "SetVariables": written}
        one.answers["GetLocalListVersion"] = {"listVersion": 0, "versionNumber": 0}
        if version == "1.6":
            await one.boot_and_settle()
        else:
            about = {"reason": "PowerUp", "chargingStation": {"vendorName": "ACME", "model": "Two"}}
            await one.ask("BootNotification", about)
            await one.call_of("TriggerMessage")
        yield one


def tokens(id: str, version: int, *names: str) -> StoreTokens:
    return StoreTokens(id, CP1, "ocpp", version, tuple(IdToken(name) for name in names))


def updates(one: Peer) -> list[str]:
    return [payload["updateType"] for action, payload in one.calls if action == "SendLocalList"]


async def outcome(depot: Depot, command: str) -> Event:
    """How it ended; that it was told as sent before."""
    kinds = (CommandAccepted, CommandRefused, CommandLost, CommandReplaced)
    ended: Event = await depot.until(lambda event: isinstance(event, kinds) and event.command == command)
    return ended


@BOTH
async def test_a_list_in_pieces_and_then_its_difference(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        server.send(tokens("c1", 5, "A", "B", "C"))
        assert await outcome(depot, "c1") == CommandAccepted("c1")
        assert depot.all(CommandSent) == [CommandSent("c1")]
        assert updates(one) == ["Full", "Differential"]
        one.answers["GetLocalListVersion"] = {"listVersion": 5, "versionNumber": 5}
        server.send(tokens("c2", 6, "A", "B", "C", "D"))
        assert await outcome(depot, "c2") == CommandAccepted("c2")
        assert updates(one)[2:] == ["Differential"]


@BOTH
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"status": "Failed"}, CommandLost),
        (("NotSupported", "no lists here"), CommandRefused),
        (("NotImplemented", ""), CommandRefused),
        (("InternalError", "oops"), CommandLost),
        ({"status": "VersionMismatch"}, CommandRefused),
        (None, CommandLost),
    ],
)
async def test_outcomes_of_a_list(version: str, answer: Any, kind: type[Event]) -> None:
    async with running() as (server, depot), station(server, version) as one:
        one.answers["SendLocalList"] = answer
        server.send(tokens("c1", 5, "A"))
        assert isinstance(await outcome(depot, "c1"), kind)


@BOTH
async def test_a_limit_passes_a_list_that_is_under_way(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        limit = SetLimit("limit", CP1, "ocpp", 10_000, 180.0, "7")

        def first_piece(payload: Json) -> Json:
            if len(updates(one)) == 1:
                server.send(limit)
            return {"status": "Accepted"}

        one.answers["SendLocalList"] = first_piece
        before = len(one.calls)
        server.send(tokens("c1", 9, "A", "B", "C", "D", "E", "F"))
        assert await outcome(depot, "c1") == CommandAccepted("c1")
        actions = [action for action, _ in one.calls[before:]]
        assert actions.index("SetChargingProfile") == actions.index("SendLocalList") + 1
        assert actions.count("SendLocalList") == 3


async def test_the_newest_list_waits_and_a_lost_connection_loses_it() -> None:
    async with running() as (server, depot):
        async with station(server, "1.6") as one:
            one.answers["SendLocalList"] = None
            server.send(tokens("c1", 5, "A"))
            await one.call_of("SendLocalList")
            server.send(tokens("c2", 6, "A"))
            server.send(tokens("c3", 7, "A"))
            server.send(UpgradeFirmware("u1", CP1, "ocpp", "2.5.0", "https://10.0.4.2/image.bin"))
            assert await outcome(depot, "c2") == CommandReplaced("c2")
        for command in ("c1", "c3"):
            assert isinstance(await outcome(depot, command), CommandLost), "asked again when it is back"
        assert isinstance(await outcome(depot, "u1"), CommandRefused)


@BOTH
async def test_firmware_reports_name_the_version_that_was_ordered_until_it_is_over(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        one.answers["UpdateFirmware"] = {} if version == "1.6" else {"status": "Accepted"}
        server.send(UpgradeFirmware("u1", CP1, "ocpp", "2.5.0", "https://10.0.4.2/image.bin"))
        assert await outcome(depot, "u1") == CommandAccepted("u1")
        for word in ("Downloading", "Installing", "InstallationFailed", "Downloading"):
            await one.ask("FirmwareStatusNotification", {"status": word})
        told = [(event.version, event.status) for event in depot.all(FirmwareReported)]
        assert told == [
            ("2.5.0", "downloading"),
            ("2.5.0", "upgrading"),
            ("2.5.0", "failed"),
            ("", "downloading"),
        ]


async def test_a_station_that_refuses_firmware() -> None:
    async with running() as (server, depot), station(server, "2.0.1") as one:
        one.answers["UpdateFirmware"] = {"status": "InvalidCertificate"}
        server.send(UpgradeFirmware("u1", CP1, "ocpp", "2.5.0", "https://10.0.4.2/image.bin"))
        assert isinstance(await outcome(depot, "u1"), CommandRefused)
        await one.ask("FirmwareStatusNotification", {"status": "Downloading"})
        assert [event.version for event in depot.all(FirmwareReported)] == [""]


@BOTH
@pytest.mark.parametrize(
    ("policy", "known", "unknown"),
    [("list", None, None), ("anyone", None, "true"), ("nobody", "false", None)],
)
async def test_who_may_charge_alone_is_written_where_it_differs(
    version: str, policy: Policy, known: str | None, unknown: str | None
) -> None:
    wanted = {"LocalPreAuthorize": "false", "LocalAuthorizeOffline": known}
    wanted["AllowOfflineTxForUnknownId" if version == "1.6" else "OfflineTxForUnknownIdEnabled"] = unknown
    async with (
        running(replace(settings(), offline_tokens=policy)) as (server, _),
        station(server, version) as one,
    ):
        changed = {
            payload["key"]: payload["value"]
            for action, payload in one.calls
            if action == "ChangeConfiguration"
        }
        for action, payload in one.calls:
            if action == "SetVariables":
                changed |= {
                    row["variable"]["name"]: row["attributeValue"] for row in payload["setVariableData"]
                }
        assert {name: value for name, value in changed.items() if name in wanted} == {
            name: value for name, value in wanted.items() if value is not None
        }


@BOTH
async def test_an_answer_carries_group_and_expiry(version: str) -> None:
    class Known(Depot):
        async def report(self, event: Event) -> Said:
            said = await super().report(event)
            known = isinstance(event, TokenPresented)
            return Said(group="night", expires=datetime(2099, 1, 1, tzinfo=UTC)) if known else said

    depot, server = Known(), OcppServer(settings(), SystemClock())
    serving = asyncio.create_task(server.run(depot.report))
    try:
        await server.ready()
        async with station(server, version) as one:
            if version == "1.6":
                reply = await one.ask("Authorize", {"idTag": "A"})
                info = {"parentIdTag": "night", "expiryDate": "2099-01-01T00:00:00Z"}
                assert reply[2] == {"idTagInfo": {"status": "Accepted", **info}}
            else:
                reply = await one.ask("Authorize", {"idToken": {"idToken": "A", "type": "ISO14443"}})
                group = {"idToken": "night", "type": "Central"}
                info2 = {"groupIdToken": group, "cacheExpiryDateTime": "2099-01-01T00:00:00Z"}
                assert reply[2] == {"idTokenInfo": {"status": "Accepted", **info2}}
    finally:
        serving.cancel()
        await asyncio.wait({serving})


# --- questions ------------------------------------------------------------------------------------------------


async def test_a_report_that_breaks_off_says_so() -> None:
    async with running() as (server, _), station(server, "2.0.1") as one:
        inquiries = Inquiries(server, SystemClock(), quiet_s=0.2)
        asking = asyncio.ensure_future(inquiries.ask(STATION, EVSES, "report", {}))
        number = (await one.call_of("GetBaseReport"))["requestId"]
        place = {"component": {"name": "A"}, "variable": {"name": "B"}}
        data = [{**place, "variableAttribute": [{"value": "1"}]}]
        more = {"generatedAt": "2026-11-22T18:00:00Z", "requestId": number, "seqNo": 0, "tbc": True}
        assert (await one.ask("NotifyReport", {**more, "reportData": data}))[0] == 3
        told = await asking
        assert (told["done"], told["complete"], told["rows"]) == (
            False, False, [{"name": "A.B", "value": "1", "access": "ReadWrite"}],
        )  # fmt: skip


async def test_questions_to_nobody_and_an_error_for_an_answer() -> None:
    async with running() as (server, _):
        inquiries = Inquiries(server, SystemClock())
        with pytest.raises(Unreachable, match="not connected"):
            await inquiries.ask(STATION, EVSES, "reset", {})
        async with station(server, "1.6") as one:
            one.answers["Reset"] = ("NotSupported", "never")
            with pytest.raises(Refused, match="NotSupported: never"):
                await inquiries.ask(STATION, EVSES, "reset", {})
