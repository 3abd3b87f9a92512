"""Security profiles 2 and 3 on real TLS: who is let in with which certificate, and what people are told otherwise."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tracemalloc
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from ocpp_peer import PASSWORD, WITHIN_S, Depot, a_station, basic, peer, running
from ocpp_tls_bench import NOW, long_ago, other_authority
from ocpp_tls_bench import Depot as Files
from websockets.exceptions import InvalidHandshake, InvalidStatus

from controller.clock import SystemClock
from controller.core.events import AccessRefused, LinkUp
from drivers.errors import Misconfigured
from drivers.ocpp import tls
from drivers.ocpp.server import OcppServer
from drivers.ocpp.tls import Certificates, Porch, TlsSettings

PROFILE_3 = a_station("CP3", password=None, security_profile=3)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def turned_away(server: OcppServer, name: str = "CP1", **more: object) -> int | None:
    """The HTTP status; None when it did not get that far."""
    with pytest.raises((InvalidHandshake, OSError, EOFError)) as caught:
        async with peer(server, name, **more):  # type: ignore[arg-type]
            raise AssertionError("was let in")
    return caught.value.response.status_code if isinstance(caught.value, InvalidStatus) else None


async def reason_of(depot: Depot, identity: str = "127.0.0.1") -> str:
    return str((await depot.until_a(AccessRefused, identity=identity)).reason)


# --- let in ---------------------------------------------------------------------------------------------------


async def test_profile_2_password_over_tls(files: Files) -> None:
    """TC_A_04, TC_086: the station checks our certificate and sends its password."""
    async with running(files.settings()) as (server, depot), peer(server, ssl=files.trusting()) as station:
        await depot.until_a(LinkUp, station="CP1")
        wrapped = station.socket.transport.get_extra_info("ssl_object")
        assert wrapped.version() == "TLSv1.3"
        assert (await station.boot())["status"] == "Accepted"


async def test_both_ports_serve_at_once(files: Files) -> None:
    async with (
        running(files.settings()) as (server, depot),
        peer(server, "CP1", ssl=files.trusting()),
        peer(server, "CP2"),
    ):
        await depot.until_a(LinkUp, station="CP1")
        await depot.until_a(LinkUp, station="CP2")


async def test_profile_3_certificate_and_no_password(files: Files) -> None:
    """TC_A_07, TC_087."""
    async with (
        running(files.settings(CP3=PROFILE_3)) as (server, depot),
        peer(server, "CP3", headers={}, ssl=files.station("CP3")) as station,
    ):
        await depot.until_a(LinkUp, station="CP3")
        assert (await station.boot())["status"] == "Accepted"


async def test_tls_1_2_is_enough(files: Files) -> None:
    context = files.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(files.settings()) as (server, depot), peer(server, ssl=context) as station:
        await depot.until_a(LinkUp)
        wrapped = station.socket.transport.get_extra_info("ssl_object")
        assert wrapped.version() == "TLSv1.2"
        assert wrapped.cipher()[0].startswith("ECDHE-")


# --- turned away during the handshake -------------------------------------------------------------------------


async def test_a_certificate_of_another_authority(files: Files, tmp_path: Path) -> None:
    """TC_A_08."""
    foreign = files.station("CP3", authority=other_authority(tmp_path))
    async with running(files.settings(CP3=PROFILE_3)) as (server, depot):
        assert await turned_away(server, "CP3", headers={}, ssl=foreign) is None
        assert "its certificate is refused" in await reason_of(depot)
        assert depot.all(LinkUp) == []


async def test_an_expired_certificate(files: Files) -> None:
    expired = files.station("CP3", long_ago(files.authority))
    async with running(files.settings(CP3=PROFILE_3)) as (server, depot):
        assert await turned_away(server, "CP3", headers={}, ssl=expired) is None
        assert "certificate has expired" in await reason_of(depot)


async def test_a_server_certificate_does_not_make_a_station(files: Files) -> None:
    ours = files.with_certificate(*files.authority.issue_server(("CP3",), NOW))
    async with running(files.settings(CP3=PROFILE_3)) as (server, depot):
        assert await turned_away(server, "CP3", headers={}, ssl=ours) is None
        assert "its certificate is refused" in await reason_of(depot)


async def test_the_station_is_told_why_by_an_alert(files: Files) -> None:
    """Not a connection that just ends: an installer reads this on the station's screen."""
    expired = files.station("CP3", long_ago(files.authority))
    async with running(files.settings(CP3=PROFILE_3)) as (server, _):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.*expired"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=expired)
            try:
                await asyncio.wait_for(reader.read(), WITHIN_S)
            finally:
                writer.transport.abort()


async def test_tls_1_1_is_refused(files: Files) -> None:
    """TC_A_06."""
    with pytest.warns(DeprecationWarning):
        old = files.trusting(most=ssl.TLSVersion.TLSv1_1)
    async with running(files.settings()) as (server, depot):
        assert await turned_away(server, ssl=old) is None
        assert "TLS below 1.2" in await reason_of(depot)


async def test_static_rsa_is_not_offered(files: Files) -> None:
    weak = files.trusting()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-GCM-SHA256:AES256-GCM-SHA384")
    async with running(files.settings()) as (server, depot):
        assert await turned_away(server, ssl=weak) is None
        assert "tls_legacy_rsa" in await reason_of(depot)


async def test_a_station_that_does_not_trust_us(files: Files, tmp_path: Path) -> None:
    stranger = ssl.create_default_context(cafile=other_authority(tmp_path).certificate_file)

    def knock(port: int | None) -> None:
        """Like stations do: with an alert, which asyncio's client swallows."""
        with socket.create_connection(("127.0.0.1", port), WITHIN_S) as raw, pytest.raises(ssl.SSLError):
            stranger.wrap_socket(raw, server_hostname="localhost")

    async with running(files.settings()) as (server, depot):
        await asyncio.to_thread(knock, server.tls_port)
        assert "install our ca.pem" in await reason_of(depot)


async def test_a_station_that_leaves_without_a_word(files: Files, tmp_path: Path) -> None:
    stranger = ssl.create_default_context(cafile=other_authority(tmp_path).certificate_file)
    async with running(files.settings()) as (server, depot):
        _, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        writer.close()  # a look for a port is no news
        await writer.wait_closed()
        assert await turned_away(server, ssl=stranger) is None
        assert "does it trust our ca.pem?" in await reason_of(depot)
        assert len(depot.events) == 1


async def test_plain_http_on_the_tls_port_gets_a_sentence(files: Files) -> None:
    async with running(files.settings()) as (server, depot):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        writer.write(b"GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), WITHIN_S)
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"wss://" in body
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert "without TLS" in await reason_of(depot)


async def test_tls_on_the_plain_port_is_told(files: Files) -> None:
    async with running(files.settings()) as (server, depot):
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=files.trusting())
        assert "TLS to the plain port" in await reason_of(depot)


# --- turned away at the door ----------------------------------------------------------------------------------


async def test_a_certificate_of_another_station(files: Files) -> None:
    async with running(files.settings(CP3=PROFILE_3, CP1=a_station("CP1"))) as (server, depot):
        assert await turned_away(server, "CP3", headers={}, ssl=files.station("CP1")) == 401
        assert await reason_of(depot, "CP3") == "its certificate is for CP1"
        # not even with the right password: the box is not the one it says it is
        assert await turned_away(server, "CP1", ssl=files.station("CP3")) == 401
        assert await reason_of(depot, "CP1") == "its certificate is for CP3"


async def test_no_certificate_where_one_is_needed(files: Files) -> None:
    async with running(files.settings(CP3=PROFILE_3)) as (server, depot):
        assert await turned_away(server, "CP3", headers=basic("CP3", "x"), ssl=files.trusting()) == 401
        assert "needs a certificate" in await reason_of(depot, "CP3")


async def test_a_revoked_certificate(files: Files) -> None:
    context = files.station("CP3")
    async with running(files.settings(CP3=PROFILE_3)) as (server, depot):
        async with peer(server, "CP3", headers={}, ssl=context):
            await depot.until_a(LinkUp)
        files.authority.revoke("CP3", NOW)
        assert await turned_away(server, "CP3", headers={}, ssl=context) == 401
        assert await reason_of(depot, "CP3") == "its certificate was revoked"


async def test_an_unreadable_list_of_revoked_certificates_opens_nothing(files: Files) -> None:
    context = files.station("CP3")
    (files.folder / "ca" / "issued.jsonl").write_text('{"serial": "1"}\n')
    async with running(files.settings(CP3=PROFILE_3)) as (server, depot):
        assert await turned_away(server, "CP3", headers={}, ssl=context) == 401
        assert "nobody knows" in await reason_of(depot, "CP3")


@pytest.mark.parametrize("profile", [2, 3])
async def test_downgrade_of_what_is_configured(files: Files, profile: int) -> None:
    strict = a_station("CP1", security_profile=profile)
    async with running(files.settings(CP1=strict)) as (server, depot):
        assert await turned_away(server) == 401  # ws, although the password is right
        reason = await reason_of(depot, "CP1")
        assert reason.startswith(f"downgrade to security profile 1 refused: {profile} is configured")
        assert "change it" in reason


async def test_downgrade_below_what_was_seen(files: Files) -> None:
    async with running(files.settings(CP1=a_station("CP1"))) as (server, depot):
        async with peer(server):
            await depot.until_a(LinkUp)
        async with peer(server, headers={}, ssl=files.station("CP1")):
            await depot.until(lambda _: len(depot.all(LinkUp)) == 2)
        assert await turned_away(server) == 401
        assert "it came with 3 before" in await reason_of(depot, "CP1")
        assert await turned_away(server, ssl=files.trusting()) == 401


async def test_refusals_look_the_same_over_tls(files: Files) -> None:
    """Unknown identity, wrong password, missing certificate, downgrade: one answer, whatever the reason."""
    stations = {"CP1": a_station("CP1"), "CP2": a_station("CP2", security_profile=3), "CP3": PROFILE_3}
    answers = []
    async with running(files.settings(**stations)) as (server, _):
        for name, word in (("CP9", PASSWORD), ("CP1", "wrong"), ("CP2", PASSWORD), ("CP3", PASSWORD)):
            with pytest.raises(InvalidStatus) as caught:
                async with peer(server, name, headers=basic(name, word), ssl=files.trusting()):
                    raise AssertionError("was let in")
            answer = caught.value.response
            headers = [(key, value) for key, value in answer.headers.raw_items() if key.lower() != "date"]
            answers.append((answer.status_code, answer.body, headers))
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)


# --- strangers who linger -------------------------------------------------------------------------------------


async def test_half_open_handshakes_do_not_stop_others(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MOST_FROM_ONE_ADDRESS", 8)
    async with running(files.settings()) as (server, depot):
        lingering = []
        for number in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
            if number % 2:
                writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello that never ends
            lingering.append((reader, writer))
        async with peer(server, ssl=files.trusting()):
            await depot.until_a(LinkUp, station="CP1")
        gone = [asyncio.wait_for(reader.read(), WITHIN_S) for reader, _ in lingering[:11]]
        await asyncio.gather(*gone, return_exceptions=True)  # the oldest were pushed out
        for _, writer in lingering:
            writer.transport.abort()


async def test_a_handshake_that_does_not_end_is_ended(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ocpp.tls.Listener.__init__.__defaults__", (0.2,))
    async with running(files.settings()) as (server, depot):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        try:
            assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
            assert "no TLS handshake within" in await reason_of(depot)
        finally:
            writer.transport.abort()


async def test_the_server_ends_with_strangers_on_the_porch(files: Files) -> None:
    async with running(files.settings()) as (server, _):
        streams = [
            await asyncio.open_connection("127.0.0.1", port) for port in (server.port, server.tls_port)
        ]
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2
    for _, writer in streams:
        writer.transport.abort()


def test_the_porch_pushes_out_the_crowd_and_not_the_single_one() -> None:
    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    porch = Porch()
    single = Transport()
    porch.enter(single, "10.0.0.1")
    crowds = [(Transport(), f"10.0.1.{number % 9}") for number in range(600)]
    for transport, address in crowds:
        porch.enter(transport, address)
    assert not single.aborted
    assert sum(not transport.aborted for transport, _ in crowds) == tls.MOST_ON_THE_PORCH - 1
    assert crowds[0][0].aborted and not crowds[-1][0].aborted
    porch.close()
    assert single.aborted


async def test_a_tls_connection_costs_little_memory(files: Files) -> None:
    """Both ends together, and both in this process; asyncio alone would take half a megabyte."""
    names = [f"CP{number}" for number in range(10)]
    context = files.trusting()
    async with running(files.settings(**{name: a_station(name) for name in names})) as (server, _):
        async with peer(server, "CP0", ssl=context):
            pass  # what is made once
        tracemalloc.start()
        try:
            async with AsyncExitStack() as stack:
                for name in names:
                    await stack.enter_async_context(peer(server, name, ssl=context))
                used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert used / len(names) < 200_000


# --- certificate files ----------------------------------------------------------------------------------------


async def test_a_new_certificate_is_used_without_dropping_anybody(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY_S", 0.0)

    async def serial(server: OcppServer) -> str:
        async with peer(server, "CP2", ssl=files.trusting()) as station:
            shown = station.socket.transport.get_extra_info("peercert")
            return str(shown["serialNumber"])

    async with running(files.settings()) as (server, depot), peer(server, ssl=files.trusting()) as station:
        await depot.until_a(LinkUp, station="CP1")
        before = await serial(server)
        assert await serial(server) == before
        files.new_server_certificate(NOW)
        after = await serial(server)
        assert after != before
        (files.folder / "server.pem").write_text("half a file")
        assert await serial(server) == after  # the old one, rather than none
        assert "half" not in (server.security.certificates or object()).trouble  # type: ignore[union-attr]
        assert "server.pem" in server.security.certificates.trouble  # type: ignore[union-attr]
        assert (await station.boot())["status"] == "Accepted"


def test_files_that_cannot_be_used_are_one_line(files: Files, tmp_path: Path) -> None:
    def error(**changed: Path) -> str:
        names = {"cert": tmp_path / "server.pem", "key": tmp_path / "server.key", **changed}
        with pytest.raises(Misconfigured) as caught:
            Certificates(TlsSettings("127.0.0.1", 0, **names))
        return str(caught.value)

    assert "No such file" in error(cert=tmp_path / "none.pem")
    assert "key values mismatch" in error(key=files.authority.certificate_file.with_name("ca.key"))
    (tmp_path / "bad.pem").write_text("nothing")
    assert "bad.pem" in error(client_ca=tmp_path / "bad.pem")
    assert "\n" not in error(client_ca=tmp_path / "bad.pem")


def test_a_certificate_that_cannot_be_used_stops_the_start(files: Files) -> None:
    (files.folder / "server.key").unlink()
    with pytest.raises(Misconfigured, match=r"server\.key"):
        OcppServer(files.settings(), SystemClock())


def test_time_passes_between_looks(files: Files) -> None:
    now_s = 0.0
    found = Certificates(files.settings().tls, lambda: now_s)  # type: ignore[arg-type]
    first = found.context()
    files.new_server_certificate(NOW + timedelta(seconds=1))
    os.utime(files.folder / "server.pem", (1, 1))
    assert found.context() is first
    now_s = tls.LOOK_EVERY_S
    assert found.context() is not first
