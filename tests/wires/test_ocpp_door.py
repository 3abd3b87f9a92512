"""Who gets in: passwords, identities, path variants, subprotocols, guessing."""

from __future__ import annotations

import asyncio
import logging

import pytest
from ocpp_peer import PASSWORD, Depot, a_station, basic, peer, running, settings
from websockets.exceptions import InvalidStatus

from controller.clock import SystemClock
from controller.core.events import AccessRefused, LinkUp
from controller.core.model import StationId
from drivers.ocpp.door import GUESS_EVERY_S, GUESSES, Guesses, identity_of
from drivers.ocpp.server import OcppServer


async def refused(server: OcppServer, name: str = "CP1", **more: object) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as caught:
        async with peer(server, name, **more):  # type: ignore[arg-type]
            raise AssertionError("was let in")
    return caught.value


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/ocpp/CP1", "CP1"),
        ("/CP1", "CP1"),
        ("/ocpp/CP1/", "CP1"),
        ("/CP1/", "CP1"),
        ("CP1", "CP1"),
        ("/ocpp/CP1?token=x", "CP1"),
        ("/ocpp/CP%31", "CP1"),
        ("/ocpp/CP%2531", None),  # decoded once only
        ("ws://depot:8887/ocpp/CP1", "CP1"),
        ("/a:b.c_d-e", "a:b.c_d-e"),
        ("/ocpp/" + "x" * 48, "x" * 48),
        ("/ocpp/" + "x" * 49, None),
        ("/ocpp/CP1/extra", None),
        ("/other/CP1", None),
        ("/ocpp/CP%2F1", None),
        ("/ocpp/CP%001", None),
        ("/ocpp/%FF", None),
        ("/ocpp/..%2F..%2Fetc", None),
        ("/", None),
        ("", None),
        ("//", None),
    ],
)
def test_the_identity_in_a_path(path: str, identity: str | None) -> None:
    assert identity_of(path) == identity


@pytest.mark.parametrize("path", ["/ocpp/CP1", "/CP1", "/ocpp/CP1/", "/ocpp/CP%31", "/CP1?x=y"])
async def test_path_variants_lead_to_the_same_station(path: str) -> None:
    async with running() as (server, depot), peer(server, path=path):
        assert (await depot.until_a(LinkUp)).station == "CP1"


async def test_a_path_without_a_station_is_404() -> None:
    async with running() as (server, depot):
        assert (await refused(server, path="/ocpp/CP1/extra")).response.status_code == 404
        assert (await depot.until_a(AccessRefused)).reason == "no station identity in the path"


async def test_unknown_identity_and_wrong_password_look_the_same() -> None:
    async with running() as (server, depot):
        unknown = (await refused(server, headers=basic("CP9", PASSWORD), path="/ocpp/CP9")).response
        wrong = (await refused(server, headers=basic("CP1", "wrong"))).response
        assert unknown.status_code == wrong.status_code == 401
        assert unknown.body == wrong.body
        drop = {"date"}
        names = [
            [n for n, _ in each.headers.raw_items() if n.lower() not in drop] for each in (unknown, wrong)
        ]
        assert names[0] == names[1]
        reasons = {event.identity: event.reason for event in depot.all(AccessRefused)}
        assert reasons == {"CP9": "unknown identity", "CP1": "wrong password"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("CP2", PASSWORD),
        basic("cp1", PASSWORD),
        basic("", ""),
        basic("CP1", PASSWORD + " "),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + "A" * 4000},
        {"Authorization": "Bearer abc"},
        {"Authorization": "Basic"},
        {"Authorization": basic("CP1", PASSWORD)["Authorization"].replace("Basic ", "Digest ")},
    ],
)
async def test_bad_credentials_are_refused(headers: dict[str, str]) -> None:
    async with running() as (server, depot):
        answer = await refused(server, headers=headers)
        assert answer.response.status_code == 401
        assert answer.response.headers["WWW-Authenticate"].startswith("Basic ")
        await depot.until_a(AccessRefused, identity="CP1")
        assert depot.all(LinkUp) == []


async def test_without_a_password_only_who_may_be_insecure_gets_in() -> None:
    config = settings(
        OPEN=a_station("OPEN", password=None, allow_insecure=True), SHUT=a_station("SHUT", password=None)
    )
    async with running(config) as (server, depot):
        async with peer(server, "OPEN", headers={}):
            await depot.until_a(LinkUp, station="OPEN")
        assert (await refused(server, "SHUT", headers={})).response.status_code == 401
        assert (await refused(server, "SHUT", headers=basic("SHUT", ""))).response.status_code == 401
        assert "no password is configured" in (await depot.until_a(AccessRefused, identity="SHUT")).reason


async def test_an_identity_with_a_colon_keeps_its_password() -> None:
    async with running(settings(**{"A:B": a_station("A:B")})) as (server, depot):
        async with peer(server, "A:B"):
            await depot.until_a(LinkUp)
        assert (
            await refused(server, "A:B", headers=basic("A", "B:" + PASSWORD[:-1]))
        ).response.status_code == 401


@pytest.mark.parametrize("offer", [None, ["ocpp0.1"], ["ocpp0.1", "ocpp1.5"], ["OCPP1.6"]])
async def test_a_missing_subprotocol_is_named(offer: list[str] | None) -> None:
    async with running() as (server, depot):
        answer = (await refused(server, subprotocols=offer)).response
        assert answer.status_code == 400
        assert b"ocpp1.6" in answer.body
        assert (", ".join(offer or []) or "none").encode() in answer.body
        assert "subprotocol" in (await depot.until_a(AccessRefused)).reason


async def test_the_subprotocol_is_chosen_from_a_mixed_offer_and_echoed() -> None:
    async with running() as (server, _), peer(server, subprotocols=["ocpp2.0.1", "ocpp1.6"]) as station:
        assert station.socket.subprotocol == "ocpp2.0.1"
        response = station.socket.response
        assert response is not None
        assert "Server" not in response.headers
        assert "Sec-WebSocket-Extensions" not in response.headers


async def test_guessing_is_slowed_down_per_address() -> None:
    async with running() as (server, depot):
        codes = [
            (await refused(server, headers=basic("CP1", f"guess {number}"))).response.status_code
            for number in range(GUESSES + 2)
        ]
        assert codes == [401] * GUESSES + [429, 429]
        # even the right password waits now, but a station at another address does not
        assert (await refused(server)).response.status_code == 429
        async with peer(server, local_addr=("127.0.0.2", 0)):
            await depot.until_a(LinkUp)
        told = [event for event in depot.all(AccessRefused) if event.identity == "CP1"]
        assert len(told) == 1  # one per identity in ten seconds
        assert any("too many" in event.reason for event in depot.all(AccessRefused))


def test_guesses_come_back_and_memory_is_bounded() -> None:
    now_s = 0.0
    guesses = Guesses(lambda: now_s)
    for _ in range(GUESSES):
        assert not guesses.used_up("a")
        guesses.note_failure("a")
    assert guesses.used_up("a")
    now_s = GUESS_EVERY_S
    assert not guesses.used_up("a")
    for number in range(5000):
        guesses.note_failure(str(number))
    assert len(guesses._full_again_s) == 1024


async def test_broken_handshakes_are_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as (server, depot):
        for raw in (
            b"\x16\x03\x01 not http\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST /ocpp/CP1 HTTP/1.1\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(raw)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await writer.wait_closed()
        async with peer(server):
            await depot.until_a(LinkUp)
    with caplog.at_level(logging.DEBUG):
        assert not any(record.exc_info for record in caplog.records)


def test_the_password_is_not_in_the_repr() -> None:
    assert PASSWORD not in repr(settings().stations[StationId("CP1")])


async def test_a_refusal_does_not_wait_for_the_depot() -> None:
    class Stuck(Depot):
        async def report(self, event: object) -> object:  # type: ignore[override]
            await asyncio.Event().wait()
            return None

    server = OcppServer(settings(), SystemClock())
    task = asyncio.create_task(server.run(Stuck().report))  # type: ignore[arg-type]
    await server.ready()
    for name in ("X1", "X2", "X3"):
        assert (await refused(server, path=f"/{name}")).response.status_code == 401
    task.cancel()
    await asyncio.wait({task}, timeout=4)
    assert task.cancelled()
