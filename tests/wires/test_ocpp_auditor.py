"""What somebody who is paid to break in tries first, row by row, and the answer we want.

This file is long because it is one list: the rows of the audit this server was built against. Where a row has a file of its own (`test_ocpp_tls`,
`test_ocpp_door`, `test_ocpp_hostile`), one test here stands for it all the same.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import statistics
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from ocpp_peer import (
    PASSWORD,
    QUICK,
    WITHIN_S,
    a_station,
    basic,
    now_text,
    peer,
    running,
    settings,
)
from ocpp_tls_bench import NOW
from ocpp_tls_bench import Depot as Files
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Opcode

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.events import AccessRefused, ChannelChanged, LinkDown, LinkUp, TransactionStarted
from controller.core.model import StationId
from drivers.errors import Misconfigured
from drivers.ocpp import keys, server
from drivers.ocpp.door import GUESSES, IDENTITY_GUESSES, Door, Guesses, _Visit, identity_of
from drivers.ocpp.frames import MAX_FRAME
from drivers.ocpp.keys import Keys
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import StationSettings
from drivers.ocpp.tls import TlsSettings

CP1 = StationId("CP1")


async def status_of(where: OcppServer, name: str = "CP1", **more: object) -> int | None:
    """The HTTP status of a refusal; None when it did not get that far."""
    with pytest.raises((InvalidHandshake, OSError, EOFError)) as caught:
        async with peer(where, name, **more):  # type: ignore[arg-type]
            raise AssertionError("was let in")
    return caught.value.response.status_code if isinstance(caught.value, InvalidStatus) else None


@asynccontextmanager
async def raw(where: OcppServer, data: bytes) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", where.port)
    try:
        writer.write(data)
        yield reader
    finally:
        writer.transport.abort()


CONFIG = """
[site]
name = "Depot"
timezone = "Europe/Amsterdam"
limit = "100 A"
assumed_load = "10 A"
[ocpp]
listen = "127.0.0.1:0"
unknown_tokens = "accept"
[station.CP1]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
ocpp = { OCPP }
[storage]
path = "store"
[control]
socket = "s"
"""


@asynccontextmanager
async def a_house(folder: Path, ocpp: str) -> AsyncIterator[House]:
    """The whole controller, from a config file."""
    (folder / "CP1.secret").write_text(PASSWORD)
    (folder / "CP1.secret").chmod(0o600)
    (folder / "depot.toml").write_text(CONFIG.replace("OCPP }", f"{ocpp} }}"))
    house = House(load(folder / "depot.toml"), SystemClock())
    async with house.open() as runtime:
        task = asyncio.create_task(house.run(runtime))
        try:
            assert house.ocpp is not None
            await asyncio.wait_for(house.ocpp.ready(), WITHIN_S)
            yield house
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=WITHIN_S)


# --- 1 to 6: profiles -----------------------------------------------------------------------------------------


async def test_row_01_no_authentication_is_off_by_default() -> None:
    async with running(settings(CP1=a_station("CP1", password=None))) as (where, depot):
        assert await status_of(where, headers={}) == 401
        assert depot.all(LinkUp) == []


async def test_row_01_it_is_named_per_station_bound_to_an_address_and_always_shown() -> None:
    free = a_station("CP1", password=None, allow_insecure=True, allow_from=("127.0.0.9",))
    async with running(settings(CP1=free, CP2=a_station("CP2"))) as (where, depot):
        told = await depot.until_a(ChannelChanged, channel="ocpp/security")
        assert (told.state, told.text) == ("degraded", "anybody may connect as CP1: allow_insecure")
        assert await status_of(where, headers={}) == 401
        assert "allow_from" in (await depot.until_a(AccessRefused, identity="CP1")).reason
        async with peer(where, headers={}, local_addr=("127.0.0.9", 0)):
            await depot.until_a(LinkUp, station="CP1")
        assert await status_of(where, "CP2", headers={}) == 401


@pytest.mark.parametrize(
    ("networks", "code"),
    [(("127.0.0.1",), 101), (("10.0.0.0/8", "127.0.0.0/24"), 101), (("::1",), 401), (("127.0.0.0/32",), 401)],
)
async def test_row_01_addresses_and_networks(networks: tuple[str, ...], code: int) -> None:
    async with running(settings(CP1=a_station("CP1", allow_from=networks))) as (where, _):
        if code == 101:
            async with peer(where):
                pass
        else:
            assert await status_of(where) == code


async def test_row_01_people_see_it_in_the_whole_house(tmp_path: Path) -> None:
    async with a_house(tmp_path, "allow_insecure = true") as house:
        runtime = house._runtime
        assert runtime is not None
        seen = None
        async with asyncio.timeout(WITHIN_S):
            while not any(channel.id == "ocpp/security" for channel in (seen.channels if seen else ())):
                seen = await runtime.next_snapshot(seen)


async def test_row_02_the_user_name_must_be_the_identity_in_the_path() -> None:
    """TC_085, TC_A_01, TC_A_02, TC_A_03."""
    async with running() as (where, _):
        async with peer(where):
            pass
        assert await status_of(where, headers=basic("CP2", PASSWORD)) == 401
        assert await status_of(where, headers=basic("CP1", PASSWORD[:-1])) == 401


@pytest.mark.parametrize("user", ["A:B", "A%3AB", "A%3aB", "%41%3A%42"])
async def test_row_02_a_user_name_may_be_percent_encoded(user: str) -> None:
    async with running(settings(**{"A:B": a_station("A:B")})) as (where, depot):
        async with peer(where, "A:B", headers=basic(user, PASSWORD)):
            await depot.until_a(LinkUp)
        assert await status_of(where, "A:B", headers=basic(user + "C", PASSWORD)) == 401


async def test_row_02_a_password_may_be_any_bytes() -> None:
    """An AuthorizationKey of 1.6 is bytes; the config holds them in hex."""
    key = bytes(range(0xEC, 0x100))
    header = {"Authorization": "Basic " + base64.b64encode(b"CP1:" + key).decode()}
    async with running(settings(CP1=a_station("CP1", password=key.hex()))) as (where, depot):
        async with peer(where, headers=header):
            await depot.until_a(LinkUp)
        async with peer(where, headers=basic("CP1", key.hex().upper())):
            pass


async def test_row_03_password_over_tls(tmp_path: Path) -> None:
    files = Files(tmp_path)
    strict = a_station("CP1", security_profile=2)
    async with running(files.settings(CP1=strict)) as (where, depot):
        async with peer(where, ssl=files.trusting()):
            await depot.until_a(LinkUp)
        assert await status_of(where, headers=basic("CP1", "wrong"), ssl=files.trusting()) == 401


async def test_row_04_a_certificate_is_worth_one_identity_until_it_is_revoked(tmp_path: Path) -> None:
    files = Files(tmp_path)
    stations = {name: a_station(name, password=None, security_profile=3) for name in ("CP1", "CP2")}
    context = files.station("CP1")
    async with running(files.settings(**stations)) as (where, depot):
        async with peer(where, "CP1", headers={}, ssl=context):
            await depot.until_a(LinkUp)
        assert await status_of(where, "CP2", headers={}, ssl=context) == 401
        files.authority.revoke("CP1", NOW)
        assert await status_of(where, "CP1", headers={}, ssl=context) == 401


async def test_row_05_a_station_for_tls_is_refused_without() -> None:
    async with running(settings(CP1=a_station("CP1", security_profile=2))) as (where, depot):
        assert await status_of(where) == 401
        assert "downgrade" in (await depot.until_a(AccessRefused)).reason


async def test_row_06_old_ciphers_only_where_the_config_says_so(tmp_path: Path) -> None:
    files = Files(tmp_path)
    config = files.settings(mutual=False)
    assert config.tls is not None
    with pytest.raises(Misconfigured, match="needs an RSA key"):
        OcppServer(replace(config, tls=replace(config.tls, legacy_rsa=True)), SystemClock())
    with_rsa = _rsa_files(tmp_path)
    old = ssl.create_default_context(cafile=with_rsa.cert)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-GCM-SHA256")
    async with running(replace(config, tls=with_rsa)) as (where, _):
        assert await status_of(where, ssl=old) is None
    async with running(replace(config, tls=replace(with_rsa, legacy_rsa=True))) as (where, _):
        async with peer(where, ssl=old) as station:
            wrapped = station.socket.transport.get_extra_info("ssl_object")
            assert wrapped.cipher()[0] == "AES128-GCM-SHA256"
        new = ssl.create_default_context(cafile=with_rsa.cert)
        async with peer(where, "CP2", ssl=new) as station:
            wrapped = station.socket.transport.get_extra_info("ssl_object")
            assert wrapped.version() == "TLSv1.3"


def _rsa_files(folder: Path) -> TlsSettings:
    """A certificate that somebody bought: RSA, signed by itself."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    made = TlsSettings("127.0.0.1", 0, folder / "rsa.pem", folder / "rsa.key")
    made.cert.write_bytes(certificate.public_bytes(encoding))
    made.key.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


# --- 7 to 12: identity and door -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/ocpp/CP1", "/CP1", "/CP1/", "CP1", "/ocpp/%43P1", "ws://x/ocpp/CP1", "http://x:1/CP1?a=b"]
)
def test_row_07_one_identity_in_many_paths(path: str) -> None:
    assert identity_of(path) == "CP1"


@pytest.mark.parametrize(
    "path",
    [
        "/../CP1",
        "/ocpp/ocpp/CP1",
        "/%2543P1",
        "/CP1%0A",
        "/CP 1",
        "/CP1\x00",
        "/é",
        "/ocpp/",
        "/{CP1}",
        "/%s" * 30,
    ],
)
def test_row_07_everything_else_is_none(path: str) -> None:
    assert identity_of(path) is None


def a_door(stations: dict[str, StationSettings] | None = None) -> Door:
    known = {StationId(name): each for name, each in (stations or {"CP1": a_station("CP1")}).items()}
    return Door(known, "ocpp", lambda station: ("ocpp1.6",), lambda event: None)


WRONG = _Visit("10.0.0.1", False, None, True, b"not the password")


def test_row_08_unknown_and_wrong_cost_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    door = a_door({"CP1": a_station("CP1"), "NONE": a_station("NONE", password=None)})
    steps: list[str] = []
    digest, compare = Keys._digest, keys.hmac.compare_digest
    monkeypatch.setattr(
        Keys, "_digest", lambda self, *given: (steps.append("digest"), digest(self, *given))[1]
    )
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda *two: (steps.append("compare"), compare(*two))[1])
    taken = {}
    for name in ("CP1", "CP9", "NONE"):
        steps.clear()
        assert door._judge(StationId(name), WRONG)[1] is not None
        taken[name] = list(steps)
    assert taken["CP1"] == ["digest"] + ["compare"] * (1 + keys.MOST_OFFERED)
    assert taken["CP1"] == taken["CP9"] == taken["NONE"]


def test_row_08_unknown_and_wrong_take_the_same_time() -> None:
    door, took = a_door(), {"CP1": [], "CP9": []}  # type: tuple[Door, dict[str, list[float]]]
    for _ in range(1500):
        for name, times in took.items():
            began = time.perf_counter()
            door._judge(StationId(name), WRONG)
            times.append(time.perf_counter() - began)
    known, unknown = (statistics.median(times) for times in took.values())
    assert 0.5 < known / unknown < 2


async def test_row_09_guessing_is_slow_per_address_and_identity() -> None:
    """From one address, from many addresses, and without locking out the station itself."""
    async with running() as (where, depot):
        async with peer(where):  # its home
            await depot.until_a(LinkUp)
        answers = []
        for number in range(IDENTITY_GUESSES + 5):
            at = (f"127.0.1.{number // GUESSES + 1}", 0)
            answers.append(await status_of(where, headers=basic("CP1", f"{number}"), local_addr=at))
        assert answers == [401] * IDENTITY_GUESSES + [429] * 5
        assert await status_of(where, local_addr=("127.0.2.1", 0)) == 429  # with the right password even
        async with peer(where):
            await depot.until(lambda _: len(depot.all(LinkUp)) == 2)
        async with peer(where, "CP2", local_addr=("127.0.1.1", 0)):
            await depot.until_a(LinkUp, station="CP2")


def test_row_09_a_scan_of_identities_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    door = a_door()
    for _ in range(120):
        assert door.may_enter("10.0.0.1")
        door.note_failure("10.0.0.1")
    assert not door.may_enter("10.0.0.1")
    assert door.may_enter("10.0.0.2")


def test_row_09_one_more_guess_comes_back_with_time() -> None:
    now_s = 0.0
    guesses = Guesses(lambda: now_s, burst=2, every_s=3.0)
    guesses.note_failure("x")
    guesses.note_failure("x")
    assert guesses.used_up("x")
    now_s = 3.0
    assert not guesses.used_up("x")
    guesses.note_failure("x")
    assert guesses.used_up("x")


async def test_row_10_to_know_an_identity_is_not_enough() -> None:
    async with running() as (where, depot):
        for headers in ({}, basic("CP1", ""), basic("CP1", "CP1"), {"Authorization": "Bearer CP1"}):
            assert await status_of(where, headers=headers) == 401
        assert depot.all(LinkUp) == []


async def test_row_11_a_second_connection_must_know_the_password_and_cannot_push_out_a_living_one() -> None:
    async with running() as (where, depot), peer(where) as first:
        await depot.until_a(LinkUp)
        assert await status_of(where, headers=basic("CP1", "x"), local_addr=("127.0.0.5", 0)) == 401
        async with peer(where, local_addr=("127.0.0.5", 0)) as second:
            assert await second.closed() == 1008
        assert (await first.ask("Heartbeat", {}))[0] == 3
        assert depot.all(LinkDown) == []


async def test_row_12_a_pinned_station_speaks_that_version_or_none() -> None:
    """TC_088, TC_B_58."""
    async with running(settings(CP1=a_station("CP1", version="1.6"), CP2=a_station("CP2"))) as (where, _):
        async with peer(where, subprotocols=["ocpp2.0.1", "ocpp1.6"]) as station:
            assert station.socket.subprotocol == "ocpp1.6"
        assert await status_of(where, subprotocols=["ocpp2.0.1"]) == 400
        assert await status_of(where, subprotocols=["ocpp0.1"]) == 400
        assert await status_of(where, subprotocols=None) == 400
        async with peer(where, "CP2", subprotocols=["ocpp1.6", "ocpp2.1"]) as station:
            assert station.socket.subprotocol == "ocpp2.1"


# --- 13 to 18: frames -----------------------------------------------------------------------------------------


async def test_row_13_a_frame_too_long_ends_its_connection_only() -> None:
    async with running() as (where, depot), peer(where, "CP2") as other:
        async with peer(where) as station:
            await station.send("x" * (MAX_FRAME + 1))
            assert await station.closed() == 1009
        await depot.until_a(LinkDown, station="CP1")
        assert (await other.ask("Heartbeat", {}))[0] == 3


async def test_row_14_compression_is_not_agreed_to() -> None:
    """A bomb of 50 MB in 50 kB is then just a frame with reserved bits."""
    async with running() as (where, _), peer(where, compression="deflate") as station:
        assert station.socket.protocol.extensions == []
        packed = zlib.compress(b"[" + b" " * 50_000_000 + b"]")[2:-4]
        assert len(packed) < MAX_FRAME
        frame = bytes([0xC1, 0xFE]) + len(packed).to_bytes(2) + b"\0\0\0\0" + packed
        station.socket.transport.write(frame)
        assert await station.closed() == 1002


@pytest.mark.parametrize("data", [b"", b"GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\nX: "])
async def test_row_15_slow_openings_end(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(server, "OPEN_S", 0.2)
    async with running() as (where, depot), raw(where, data) as reader:
        async with peer(where):
            await depot.until_a(LinkUp)  # nobody waits for them
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""


async def test_row_15_a_peer_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ocpp.station.CLOSE_S", 0.1)
    pinged = asyncio.Event()
    quick = settings(replace(QUICK, ping_s=0.1), CP1=a_station("CP1"))
    async with running(quick) as (where, depot), peer(where) as station:
        process = station.socket.process_event

        def watch(event: object) -> None:
            process(event)  # type: ignore[arg-type]
            if getattr(event, "opcode", None) is Opcode.PING:
                pinged.set()

        monkeypatch.setattr(station.socket, "process_event", watch)
        await asyncio.wait_for(pinged.wait(), WITHIN_S)
        assert (await station.ask("Heartbeat", {}))[0] == 3  # so the pong before it has arrived
        station.socket.transport.pause_reading()
        assert (await depot.until_a(LinkDown)).reason == "no sign of life"
        station.socket.transport.abort()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "{" * 20_000,
        '[2,"a","Heartbeat",{"x":' + "9" * 20_000 + "}]",
        '[2,"a","Heartbeat",' + '{"x":' * 5_000 + "1" + "}" * 5_000 + "]",
        '[2,"a","Heartbeat",{"x":1e999}]',
        '[2,"' + "i" * 60_000 + '","Heartbeat",{}]',
        '[2,{},"Heartbeat",{}]',
        '[2,"a",[],{}]',
        "\x00" * 1000,
        '"' * 60_000,
    ],
)
async def test_row_16_json_bombs_do_nothing(text: str) -> None:
    async with running() as (where, _), peer(where) as station:
        await station.send(text)
        assert (await station.ask("Heartbeat", {}))[0] == 3


async def test_row_17_unknown_actions_get_an_error_and_unknown_frames_silence() -> None:
    async with running() as (where, _), peer(where) as station:
        assert (await station.ask("MineBitcoin", {}))[2] == "NotImplemented"
        assert (await station.ask("Reset", {"type": "Hard"}))[2] == "NotSupported"
        for kind in (0, 5, 6, -1, 2.5, "2", None, True):
            await station.send([kind, f"kind {kind}", "Heartbeat", {}])
        assert (await station.ask("Heartbeat", {}))[0] == 3
        assert not any(str(reply[1]).startswith("kind") for reply in station.replies)


async def test_row_18_results_nobody_asked_for_are_counted_and_end_the_connection() -> None:
    async with running() as (where, depot), peer(where) as station:
        for number in range(10):
            await station.send([3, f"never asked {number}", {}])
        assert (await station.ask("Heartbeat", {}))[0] == 3
        for number in range(30):
            await station.send([3, f"never asked {number}", {"status": "Accepted"}])
        assert await station.closed() == 1008
        await depot.until_a(LinkDown)


# --- 19 to 21: replays, clocks, cost --------------------------------------------------------------------------


async def test_row_19_a_start_said_again_is_the_same_transaction(tmp_path: Path) -> None:
    """Over a reconnect and with another message id, in the whole controller."""
    start = {"connectorId": 1, "idTag": "04A2B3C4", "meterStart": 1000, "timestamp": now_text()}
    numbers = []
    async with a_house(tmp_path, 'password_file = "CP1.secret"') as house:
        assert house.ocpp is not None
        for _ in range(2):
            async with peer(house.ocpp) as station:
                await station.boot()
                numbers += [
                    (await station.ask("StartTransaction", start))[2]["transactionId"] for _ in range(2)
                ]
        async with peer(house.ocpp) as station:
            await station.boot()
            later = {**start, "meterStart": 2000}
            other = (await station.ask("StartTransaction", later))[2]["transactionId"]
    assert len(set(numbers)) == 1 and numbers[0] > 0
    assert other != numbers[0]


@pytest.mark.parametrize(
    ("offset_s", "kept"), [(60, True), (-60, True), (86_400, False), (-3_600, True), (-1.7e9, False)]
)
async def test_row_20_a_wrong_clock_is_recorded_or_replaced_but_never_believed(
    offset_s: float, kept: bool
) -> None:
    async with running() as (where, depot), peer(where) as station:
        said = (await station.boot())["currentTime"]
        assert abs(datetime.fromisoformat(said) - datetime.now(UTC)) < timedelta(seconds=10)
        stamp = now_text(offset_s)
        start = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": stamp}
        assert (await station.ask("StartTransaction", start))[0] == 3
        event = await depot.until_a(TransactionStarted)
        assert (event.started == datetime.fromisoformat(stamp)) is kept
        assert abs(event.started - datetime.now(UTC)) < timedelta(seconds=abs(offset_s) + 10 if kept else 10)
        assert event.offline is (kept and offset_s < -120)


def test_row_21_a_password_costs_little() -> None:
    """A hundred stations that come back at once cost less than one of the slow digests that short passwords need."""
    held = Keys({CP1: PASSWORD})
    began = time.perf_counter()
    for _ in range(100):
        assert held.fits(CP1, PASSWORD.encode())
    hundred_s = time.perf_counter() - began
    began = time.perf_counter()
    hashlib.scrypt(PASSWORD.encode(), salt=b"salt", n=2**14, r=8, p=1)
    assert hundred_s < time.perf_counter() - began


async def test_row_21_fifty_stations_come_back_at_once_over_tls(tmp_path: Path) -> None:
    files = Files(tmp_path)
    names = [f"CP{number}" for number in range(50)]
    context = files.trusting()
    config = files.settings(**{name: a_station(name) for name in names})
    async with running(config) as (where, depot), asyncio.timeout(WITHIN_S), AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(peer(where, name, ssl=context)) for name in names))
        await depot.until(lambda _: len(depot.all(LinkUp)) == len(names))


def test_every_row_has_a_test() -> None:
    rows = {int(name[9:11]) for name in globals() if name.startswith("test_row_")}
    assert rows == set(range(1, 22))
