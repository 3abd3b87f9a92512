"""What tests of simulated stations keep around them: a small file server, and a small certificate authority."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

PRIVATE = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()


class Files:
    """A small HTTP server: gives one image, takes uploads."""

    def __init__(self) -> None:
        self.taken: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.fail = 0

    async def get(self, request: web.Request) -> web.Response:
        self.fetched.append(request.path)
        if self.fail:
            self.fail -= 1
            return web.Response(status=503)
        return web.Response(body=b"image" * 1000)

    async def put(self, request: web.Request) -> web.Response:
        self.taken[request.path] = await request.read()
        return web.Response()


@asynccontextmanager
async def file_server() -> AsyncIterator[tuple[Files, str]]:
    files = Files()
    app = web.Application()
    app.router.add_get("/{name}", files.get)
    app.router.add_put("/{name}", files.put)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield files, f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def root(folder: Path) -> str:
    """A small authority in `folder`: ca.pem and ca.key."""
    key, name = _key(folder / "ca.key"), _name("Root")
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    pem = _certificate(name, key.public_key(), name, key, [(constraints, True)])
    (folder / "ca.pem").write_text(pem)
    return pem


def server(folder: Path) -> tuple[Path, Path]:
    """A certificate of that authority for 127.0.0.1, and its key."""
    key = _key(folder / "server.key")
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pem = _certificate(_name("server"), key.public_key(), *_authority(folder), [(here, False)])
    (folder / "server.pem").write_text(pem)
    return folder / "server.pem", folder / "server.key"


def sign(folder: Path, csr: str) -> str:
    """A certificate of the authority in `folder`."""
    request = x509.load_pem_x509_csr(csr.encode())
    return _certificate(request.subject, request.public_key(), *_authority(folder))


def subject_of(csr: str) -> str:
    """The subject of a request whose signature holds."""
    request = x509.load_pem_x509_csr(csr.encode())
    assert request.is_signature_valid
    return request.subject.rfc4514_string()


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(*PRIVATE))
    return key


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority(folder: Path) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return _name("Root"), key


def _certificate(
    subject: x509.Name,
    public: object,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> str:
    now = datetime.now(UTC)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=10))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
