"""What goes wrong on the first day: each mistake reaches the depot with a reason of its own, and has words for people."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from ocpp_peer import PASSWORD, a_station, basic, peer, running
from ocpp_tls_bench import Depot as TlsDepot
from websockets.exceptions import InvalidHandshake

from controller.cli.diagnoses import DIAGNOSES, diagnosis
from controller.cli.onboard import vendors
from controller.core.events import AccessRefused
from drivers.ocpp.server import OcppServer


async def dial(server: OcppServer, name: str = "CP1", **more: object) -> None:
    """A charger with a mistake in its settings."""
    with suppress(InvalidHandshake, OSError, EOFError):
        async with peer(server, name, **more):  # type: ignore[arg-type]
            raise AssertionError("was let in")


async def ask(port: int, head: str, tls: ssl.SSLContext | None = None) -> bytes:
    """The first line that a bare HTTP request gets; empty when the connection was closed instead."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    except OSError:
        return b""
    try:
        writer.write(head.encode())
        async with asyncio.timeout(5):
            return await reader.readline()
    except OSError:
        return b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


CREDENTIALS = base64.b64encode(f"CP1:{PASSWORD}".encode()).decode()
NO_UPGRADE = f"GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {CREDENTIALS}\r\n\r\n"
PLAIN = "GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\n\r\n"

MISTAKES = {
    "no station identity in the path": lambda server, depot: dial(server, path="/ocpp/CP1/SERIAL"),
    "unknown identity": lambda server, depot: dial(server, "CP9", headers=basic("CP9", PASSWORD)),
    "wrong user name": lambda server, depot: dial(server, headers=basic("admin", PASSWORD)),
    "wrong password": lambda server, depot: dial(server, headers=basic("CP1", "guess")),
    "no password given": lambda server, depot: dial(server, headers={}),
    "subprotocol": lambda server, depot: dial(server, subprotocols=None),
    "no Upgrade header": lambda server, depot: ask(server.port, NO_UPGRADE),
    "speaks without TLS to the TLS port": lambda server, depot: ask(server.tls_port, PLAIN),
    "speaks TLS to the plain port": lambda server, depot: ask(server.port, PLAIN, depot.trusting()),
    "left during the TLS handshake": lambda server, depot: ask(
        server.tls_port, PLAIN, ssl.create_default_context()
    ),
    "downgrade to security profile": lambda server, depot: dial(
        server, "CP2", headers=basic("CP2", PASSWORD)
    ),
    "security profile 3 needs a certificate": lambda server, depot: dial(server, "CP3", headers={}),
    "allow_from": lambda server, depot: dial(server, "CP4"),
}


@pytest.mark.parametrize("starts", MISTAKES)
async def test_each_mistake_is_told_apart_and_explained(starts: str, tmp_path: Path) -> None:
    depot = TlsDepot(tmp_path)
    config = depot.settings(
        CP1=a_station("CP1"),
        CP2=a_station("CP2", security_profile=2),
        CP3=a_station("CP3", security_profile=3),
        CP4=a_station("CP4", allow_from=("10.9.9.9",)),
    )
    async with running(config) as (server, ledger):
        await MISTAKES[starts](server, depot)  # type: ignore[no-untyped-call]
        refused = await ledger.until_a(AccessRefused)
        assert refused.reason.removeprefix("TLS: ").startswith(starts)
        assert diagnosis(refused.reason).starts == starts


async def test_a_page_instead_of_a_websocket_is_answered_426() -> None:
    async with running() as (server, _):
        assert b"426" in await ask(server.port, NO_UPGRADE)


async def test_a_station_that_is_cut_off_stays_out_for_so_long_and_that_is_no_attack() -> None:
    async with running() as (server, depot):
        async with peer(server) as station:
            await station.boot()
            await server.cut("CP1", 1000.0)  # type: ignore[arg-type]
            await station.closed()
        await dial(server)
        await server.cut("CP1", 0.0)  # type: ignore[arg-type]
        async with peer(server) as station:
            await station.boot()
        assert depot.all(AccessRefused) == []


def test_words_are_found_by_their_beginning_only_once() -> None:
    starts = [each.starts for each in DIAGNOSES]
    assert len(set(starts)) == len(starts)
    for each in DIAGNOSES:
        assert diagnosis(each.starts) is each, "an earlier one would hide it"
        assert each.what and each.do
    assert diagnosis("something new").starts == ""


def test_every_make_says_where_it_is_told() -> None:
    for make in vendors():
        assert make.steps and make.names and all(1 <= row <= 64 for row in make.rows)
        assert all(name == name.casefold() for name in make.names)
