"""Certificates for stations, what stations report of themselves, and what people are warned of in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ocpp_peer import Depot, Peer, a_station, peer, running
from ocpp_tls_bench import NOW, a_request, key_pem
from ocpp_tls_bench import Depot as Files

from controller.clock import SystemClock
from controller.core.events import ChannelChanged, LinkUp, SecurityEvent
from controller.core.model import StationId
from drivers.errors import Misconfigured, Refused
from drivers.ocpp.ca import STATION_FOR, Authority, valid_until
from drivers.ocpp.door import Certificate
from drivers.ocpp.security import EVENTS, SIGNINGS, Security
from drivers.ocpp.settings import OcppSettings


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def event_of(depot: Depot, kind: str) -> Any:
    return await depot.until(lambda event: isinstance(event, SecurityEvent) and event.kind == kind)


async def ask_to_sign(station: Peer, request: object, **more: object) -> str:
    reply = await station.ask("SignCertificate", {"csr": request, **more})
    return str(reply[2]["status"])


# --- the authority --------------------------------------------------------------------------------------------


def test_what_is_signed_for_a_station(files: Files) -> None:
    chain = files.authority.sign(a_request("CP1"), "CP1", NOW)
    signed, root = x509.load_pem_x509_certificates(chain)
    signed.verify_directly_issued_by(root)
    assert signed.subject.rfc4514_string() == "CN=CP1"
    assert (
        signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        .value[0]
        .dotted_string.endswith(".3.2")
    )
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert signed.not_valid_before_utc < NOW < signed.not_valid_after_utc <= NOW + STATION_FOR


@pytest.mark.parametrize(
    ("request_pem", "said"),
    [
        (lambda: a_request("CP2"), "is for 'CP2', not for 'CP1'"),
        (lambda: a_request(""), "is for nobody"),
        (lambda: a_request("CP1", rsa.generate_private_key(65537, 1024)), "RSA.* of 1024 bits"),
        (lambda: a_request("CP1", ec.generate_private_key(ec.SECP192R1())), "P-256"),
        (lambda: a_request("CP1").replace("\nM", "\nZ", 1), "not a certificate signing request"),
        (lambda: "nothing", "not a certificate signing request"),
        (lambda: "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 6000, "longer than"),
        (lambda: "é", "not a certificate signing request"),
    ],
)
def test_what_is_not_signed(files: Files, request_pem: Any, said: str) -> None:
    before = files.authority.issued()
    with pytest.raises(Refused, match=said):
        files.authority.sign(request_pem(), "CP1", NOW)
    assert files.authority.issued() == before


def test_a_request_must_prove_that_it_has_the_key(files: Files) -> None:
    """Somebody else's public key in one's own request."""
    request = x509.load_pem_x509_csr(a_request("CP1").encode())
    other = x509.load_pem_x509_csr(a_request("CP1").encode())
    forged = request.public_bytes(Encoding.DER).replace(point(request), point(other))
    pem = x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM).decode()
    with pytest.raises(Refused, match="not signed with the key"):
        files.authority.sign(pem, "CP1", NOW)


def point(request: x509.CertificateSigningRequest) -> bytes:
    return request.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())]
)
def test_other_good_keys(files: Files, key: Any) -> None:
    assert b"BEGIN CERTIFICATE" in files.authority.sign(a_request("CP1", key), "CP1", NOW)


def test_the_list_grows_and_remembers(files: Files) -> None:
    chain, _ = files.authority.issue_station("CP1", NOW)
    files.authority.issue_station("CP1", NOW)
    serial = f"{x509.load_pem_x509_certificates(chain)[0].serial_number:x}"
    assert not files.authority.is_revoked(serial)
    elsewhere = Authority(files.folder / "ca")  # another process
    assert [each.serial for each in elsewhere.revoke(serial.upper(), NOW)] == [serial]
    assert files.authority.is_revoked(serial.upper().rjust(42, "0"))
    assert [each.revoked is None for each in files.authority.issued() if each.name == "CP1"] == [False, True]
    assert len(files.authority.revoke("CP1", NOW)) == 1
    with pytest.raises(Refused, match="no valid certificate"):
        files.authority.revoke("CP1", NOW)


def test_a_line_cut_off_by_a_power_loss(files: Files) -> None:
    files.authority.issue_station("CP1", NOW)
    with (files.folder / "ca" / "issued.jsonl").open("a") as file:
        file.write('{"serial": "12')
    assert [each.name for each in Authority(files.folder / "ca").issued()] == ["localhost", "CP1"]


def test_files_of_the_authority(files: Files) -> None:
    folder = files.folder / "ca"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "issued.jsonl").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="already"):
        files.authority.create("Again", NOW)
    (folder / "ca.key").write_bytes((files.folder / "server.key").read_bytes())
    with pytest.raises(Misconfigured, match="is not the key of"):
        files.authority.issue_station("CP1", NOW)
    (folder / "ca.key").unlink()
    assert not files.authority.can_sign
    with pytest.raises(Misconfigured, match="depot ca init"):
        files.authority.issue_station("CP1", NOW)


def test_nothing_outlives_the_authority(files: Files) -> None:
    ends = valid_until(files.authority.certificate_file)
    chain, _ = files.authority.issue_station("CP1", ends - timedelta(days=10))
    assert x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc <= ends


# --- stations that ask ----------------------------------------------------------------------------------------


async def test_a_station_gets_the_certificate_it_asks_for_and_comes_with_it(files: Files) -> None:
    """TC_074, TC_A_11: from the password to the certificate, over the wire only."""
    key = ec.generate_private_key(ec.SECP256R1())
    async with running(files.settings()) as (server, depot):
        async with peer(server, ssl=files.trusting()) as station:
            await station.boot_and_settle()
            station.answers["CertificateSigned"] = {"status": "Accepted"}
            assert await ask_to_sign(station, a_request("CP1", key)) == "Accepted"
            chain = (await station.call_of("CertificateSigned"))["certificateChain"]
            event = await event_of(depot, "CertificateSigned")
            assert 'the station said "Accepted"' in event.text
        with_it = files.with_certificate(chain.encode(), key_pem(key))
        async with peer(server, headers={}, ssl=with_it):
            await depot.until(lambda _: len(depot.all(LinkUp)) == 2)


@pytest.mark.parametrize(
    ("request_pem", "more"),
    [
        (lambda: a_request("CP1"), {"certificateType": "V2GCertificate"}),
        (lambda: 5, {}),
        (lambda: None, {}),
    ],
)
async def test_what_is_refused_at_once(files: Files, request_pem: Any, more: dict[str, str]) -> None:
    async with running(files.settings()) as (server, depot), peer(server) as station:
        assert await ask_to_sign(station, request_pem(), **more) == "Rejected"
        await event_of(depot, "SignCertificateRefused")


async def test_a_request_for_somebody_else_leads_to_nothing(files: Files) -> None:
    async with running(files.settings()) as (server, depot), peer(server) as station:
        await ask_to_sign(station, a_request("CP2"))
        event = await event_of(depot, "SignCertificateRefused")
        assert "not for 'CP1'" in event.text and event.station == "CP1"
        assert not any(name == "CertificateSigned" for name, _ in station.calls)
    assert [each.name for each in files.authority.issued()] == ["localhost"]


async def test_without_an_authority_nothing_is_signed(files: Files) -> None:
    (files.folder / "ca" / "ca.key").unlink()  # kept elsewhere
    async with running(files.settings()) as (server, depot), peer(server) as station:
        assert await ask_to_sign(station, a_request("CP1")) == "Rejected"
        assert "depot ca init" in (await event_of(depot, "SignCertificateRefused")).text


async def test_a_station_that_asks_and_asks(files: Files) -> None:
    async with running(files.settings()) as (server, depot), peer(server) as station:
        station.answers["CertificateSigned"] = {"status": "Accepted"}
        said = [await ask_to_sign(station, a_request("CP1")) for _ in range(SIGNINGS + 1)]
        assert said == ["Accepted"] * SIGNINGS + ["Rejected"]
        assert "too often" in (await event_of(depot, "SignCertificateRefused")).text


# --- security events ------------------------------------------------------------------------------------------


async def test_security_events_reach_the_depot(files: Files) -> None:
    """TC_077, TC_078."""
    async with running(files.settings()) as (server, depot), peer(server) as station:
        payload = {
            "type": "TamperDetectionActivated",
            "timestamp": "2026-11-22T10:00:00Z",
            "techInfo": "lid\nopen",
        }
        assert (await station.ask("SecurityEventNotification", payload))[2] == {}
        event = await event_of(depot, "TamperDetectionActivated")
        assert (event.station, event.channel) == ("CP1", "ocpp1.6")
        assert event.text == "lidopen at 2026-11-22T10:00:00Z"


async def test_a_flood_of_security_events_is_cut(files: Files) -> None:
    async with running(files.settings()) as (server, depot), peer(server) as station:
        for number in range(EVENTS + 20):
            payload = {"type": f"E{number}", "timestamp": "2026-11-22T10:00:00Z"}
            assert (await station.ask("SecurityEventNotification", payload))[2] == {}
        await event_of(depot, f"E{EVENTS - 1}")
        found = depot.all(SecurityEvent)
        assert len(found) == EVENTS
        assert "more will only be kept" in found[-1].text


# --- what needs a hand ----------------------------------------------------------------------------------------


def security(config: OcppSettings) -> Security:
    async def request(*arguments: Any) -> dict[str, Any]:
        raise AssertionError("nobody is connected")

    made = Security(config, SystemClock(), lambda event: None, request, lambda station: None)
    made.open()
    return made


def test_ends_are_told_in_time(files: Files) -> None:
    config = files.settings(CP1=a_station("CP1"), CP2=a_station("CP2"))
    files.authority.issue_station("CP1", NOW)
    files.authority.issue_station("CP2", NOW)
    files.authority.issue_station("GONE", NOW)
    files.authority.revoke("CP2", NOW)
    watching = security(config)
    end = valid_until(files.folder / "server.pem")
    assert watching.concerns(NOW) == ()
    assert watching.concerns(end - timedelta(days=31)) == ()
    assert watching.concerns(end - timedelta(days=20)) == (
        f"the certificate of this box expires on {end:%Y-%m-%d}",
        f"the certificate of CP1 expires on {end:%Y-%m-%d}",
    )
    assert f"the certificate of this box expired on {end:%Y-%m-%d}" in watching.concerns(end)
    assert watching.concerns(None) == ()  # the clock may be wrong by years
    root = valid_until(files.authority.certificate_file)
    (told,) = [line for line in watching.concerns(root - timedelta(days=90)) if "authority" in line]
    assert told == f"the authority of the stations expires on {root:%Y-%m-%d}"


def test_a_renewed_certificate_is_what_counts(files: Files) -> None:
    watching = security(files.settings(CP1=a_station("CP1")))
    files.authority.issue_station("CP1", NOW - timedelta(days=800))
    assert any("CP1" in line for line in watching.concerns(NOW))
    files.authority.issue_station("CP1", NOW)
    assert watching.concerns(NOW) == ()


def test_files_that_vanish_are_told(files: Files) -> None:
    watching = security(files.settings())
    (files.folder / "server.pem").unlink()
    (files.folder / "ca" / "ca.pem").write_text("nothing")
    found = watching.concerns(NOW)
    assert len(found) == 2 and "server.pem" in found[0] and "ca.pem" in found[1]


def test_what_a_station_shows_counts_more_than_the_list(files: Files) -> None:
    watching = security(files.settings(mutual=False, CP1=a_station("CP1")))
    watching.shown = {StationId("CP1"): Certificate(frozenset({"CP1"}), "1", NOW + timedelta(days=3))}
    assert len(watching.concerns(NOW)) == 1


async def test_people_see_it_as_a_channel(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ocpp.security.LOOK_EVERY_S", 0.01)
    files.new_server_certificate(NOW - timedelta(days=820))
    async with running(files.settings()) as (_, depot):
        told = await depot.until_a(ChannelChanged, channel="ocpp/security")
        assert told.state == "degraded" and "this box expires" in told.text
        files.new_server_certificate(NOW)
        assert (await depot.until_a(ChannelChanged, state="ok")).text == ""
        assert len(depot.all(ChannelChanged)) == 2


async def test_whoever_may_come_without_a_password_stays_on_the_list(tmp_path: Path) -> None:
    files = Files(tmp_path)
    open_house = a_station("OPEN", password=None, allow_insecure=True)
    async with running(replace(files.settings(OPEN=open_house), tls=None)) as (_, depot):
        told = await depot.until_a(ChannelChanged, channel="ocpp/security")
        assert told.text == "anybody may connect as OPEN: allow_insecure"


async def test_a_quiet_site_says_nothing(files: Files) -> None:
    async with running(files.settings()) as (server, depot), peer(server):
        await depot.until_a(LinkUp)
        assert depot.all(ChannelChanged) == []


def test_ed25519_is_not_in_the_book(files: Files) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CP1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)
    with pytest.raises(Refused, match="Ed25519"):
        files.authority.sign(request.public_bytes(Encoding.PEM).decode(), "CP1", NOW)
