"""`depot ca`, `depot station-password` and `depot station-certificate`, typed by hand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from typed import Said, typed

from controller.cli import main
from controller.console import Peer, Refusal
from controller.core.events import StationAsked
from controller.core.model import StationId
from controller.key_calls import KeyCalls
from drivers.errors import Misconfigured, Refused, Unreachable

COMMON, ORGANIZATION = x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME
Depot = Callable[..., Said]
ANNA = Peer("anna", operator=True)


@pytest.fixture
def depot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Depot:
    return lambda *arguments: typed(capsys, *arguments, "--storage", str(tmp_path / "storage"))


@pytest.fixture
def begun(depot: Depot, tmp_path: Path) -> Path:
    (tmp_path / "storage").mkdir()
    code, out, _ = depot("ca", "init", "--site", "Depot Noord")
    assert code == 0 and "install it in every station" in out
    return tmp_path


def test_a_server_certificate_for_this_box(depot: Depot, begun: Path) -> None:
    code, out, _ = depot(
        "ca", "issue", "server", "--name", "depot.local", "--name", "10.0.4.2", "--out", str(begun)
    )
    assert (code, out.splitlines()) == (
        0,
        ["for depot.local, 10.0.4.2", str(begun / "server.pem"), str(begun / "server.key")],
    )
    assert (begun / "server.key").stat().st_mode & 0o777 == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(begun / "server.pem", begun / "server.key")
    shown = ssl.create_default_context(cafile=begun / "storage" / "ca" / "ca.pem").get_ca_certs()
    assert dict(shown[0]["subject"][0])["commonName"] == "Depot Noord depot CA"  # type: ignore[index]


def test_without_names_every_name_of_the_box_is_in_it(depot: Depot, begun: Path) -> None:
    code, out, _ = depot("ca", "issue", "server", "--out", str(begun))
    assert code == 0 and "localhost, 127.0.0.1" in out.splitlines()[0]


def test_a_station_that_cannot_make_its_own(depot: Depot, begun: Path) -> None:
    assert depot("ca", "issue", "A:B", "--out", str(begun))[0] == 0
    assert (begun / "A_B.key").stat().st_mode & 0o777 == 0o600
    code, _, err = depot("ca", "issue", "CP1", "--name", "x", "--out", str(begun))
    assert code == 2 and "--name is for the server" in err


def test_a_request_is_signed_for_its_own_station_only(depot: Depot, begun: Path) -> None:
    names = [x509.NameAttribute(oid, text) for oid, text in ((ORGANIZATION, "Depot"), (COMMON, "CP1"))]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    pem = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    (begun / "CP1.csr").write_bytes(pem)
    code, out, _ = depot("ca", "sign", "CP1", str(begun / "CP1.csr"))
    assert code == 0
    made, root = x509.load_pem_x509_certificates(out.encode())
    made.verify_directly_issued_by(root)
    assert depot("ca", "sign", "CP2", str(begun / "CP1.csr"))[::2] == (
        1,
        "depot: the request is for 'CP1', not for 'CP2'\n",
    )


def test_the_list_and_what_was_revoked(depot: Depot, begun: Path) -> None:
    depot("ca", "issue", "CP1", "--out", str(begun))
    depot("ca", "issue", "CP2", "--out", str(begun))
    assert "refused from its next connection on" in depot("ca", "revoke", "CP1")[1]
    rows = [line.split() for line in depot("ca", "list")[1].splitlines()]
    assert rows[0] == ["NAME", "KIND", "UNTIL", "STATE", "SERIAL"]
    assert [(row[0], row[3]) for row in rows[1:]] == [("CP1", "revoked"), ("CP2", "valid")]
    found = json.loads(depot("ca", "list", "--json")[1])
    assert [(each["name"], each["revoked"] is None) for each in found] == [("CP1", False), ("CP2", True)]
    assert found[0].keys() == {"name", "kind", "serial", "until", "revoked"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("init",), "holds an authority already"),
        (("issue", "../up"), "is not an identity"),
        (("issue", "CP1", "--out", "/no/such/place"), "/no/such/place/CP1.pem: No such file"),
        (("issue", "server", "--name", "é"), "neither an address nor a host name"),
        (("sign", "CP1", "/no/such.csr"), "No such file"),
        (("revoke", "CP9"), "no valid certificate is called 'CP9'"),
    ],
)
def test_one_line_for_what_cannot_be(
    depot: Depot, begun: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = depot("ca", *arguments)
    assert (code, out) == (2 if arguments[1:] in (("../up",), ("server", "--name", "é")) else 1, "")
    assert said in err and err.count("\n") == 1


def test_without_an_authority(depot: Depot) -> None:
    assert depot("ca", "issue", "CP1")[::2][0] == 1
    assert "run `depot ca init`" in depot("ca", "issue", "CP1")[2]


# --- through the console --------------------------------------------------------------------------------------


class Locksmith:
    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.did: list[tuple[str, str, str]] = []

    async def _do(self, what: str, station: StationId, by: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.did.append((what, station, by))
        return "Accepted"

    async def change_password(self, station: StationId, by: str) -> str:
        return await self._do("change", station, by)

    async def forget_password(self, station: StationId, by: str) -> None:
        await self._do("forget", station, by)

    async def renew_certificate(self, station: StationId, by: str) -> str:
        return await self._do("renew", station, by)


def call(locksmith: Locksmith | None, name: str, audit: list[StationAsked] | None = None, **args: Any) -> Any:
    async def report(event: StationAsked) -> None:
        if audit is not None:
            audit.append(event)

    operators_only, work = KeyCalls(locksmith, report).table[name]
    assert operators_only
    return asyncio.run(work({"station": "CP1", **args}, ANNA))  # type: ignore[arg-type]


def test_who_asked_for_what() -> None:
    locksmith = Locksmith()
    assert call(locksmith, "station-password") == {"station": "CP1", "said": "Accepted"}
    assert call(locksmith, "station-password", forget=True) == {"station": "CP1", "said": None}
    assert call(locksmith, "station-certificate") == {"station": "CP1", "said": "Accepted"}
    assert locksmith.did == [("change", "CP1", "anna"), ("forget", "CP1", "anna"), ("renew", "CP1", "anna")]


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (Refused("it said no"), "refused", "it said no"),
        (Misconfigured("no password"), "refused", "no password"),
        (Unreachable("no answer"), "unreachable", "opens too from now on"),
    ],
)
def test_failures_are_told(failure: Exception, code: str, said: str) -> None:
    audit: list[StationAsked] = []
    with pytest.raises(Refusal, match=said) as caught:
        call(Locksmith(failure), "station-password", audit)
    assert caught.value.code == code
    [row] = audit
    assert (row.by, row.station, row.action) == ("anna", "CP1", "password") and str(failure) in row.outcome


def test_without_ocpp_there_is_nobody_to_tell() -> None:
    for name in ("station-password", "station-certificate"):
        with pytest.raises(Refusal, match="no \\[ocpp\\]"):
            call(None, name)


def test_the_commands_reach_the_console(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(options: object, name: str, **args: Any) -> dict[str, str]:
        asked.append((name, args))
        return {"said": "RebootRequired"}

    monkeypatch.setattr("controller.cli.ca.ask", ask)
    assert main(["station-password", "CP1"]) == 0
    assert "CP1 took its new password (RebootRequired)" in capsys.readouterr().out
    assert main(["station-password", "CP1", "--forget"]) == 0
    assert main(["station-certificate", "CP1"]) == 0
    assert asked == [
        ("station-password", {"station": "CP1", "forget": False}),
        ("station-password", {"station": "CP1", "forget": True}),
        ("station-certificate", {"station": "CP1"}),
    ]
