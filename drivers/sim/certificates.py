"""The certificates of a simulated OCPP charger: roots it was given, and its own identity.

Owns the certificate hash data of OCPP (RFC 6960 style), taken from the bytes by hand so that the central system has
somebody to compare with, and the charger's own key with its signing request.
Source: OCPP 2.0.1 part 2 A02, M03-M05 and CertificateHashDataType; X.509 (RFC 5280 section 4.1).
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from drivers.sim.outbox import Json

ENTRIES = 20


@dataclass(slots=True)
class Certificates:
    """`roots`: (type, hash data) of what was installed. `key_pem`: of the identity asked for or in use."""

    roots: list[tuple[str, Json]] = field(default_factory=list)
    key_pem: bytes | None = None
    chain_pem: str | None = None

    def install(self, kind: str, pem: str) -> str:
        """InstallCertificate: "Accepted", "Rejected" (no certificate at all) or "Failed" (no room)."""
        try:
            entry = (kind, hash_data(pem))
        except ValueError:
            return "Rejected"
        if entry not in self.roots:
            if len(self.roots) >= ENTRIES:
                return "Failed"
            self.roots.append(entry)
        return "Accepted"

    def find(self, kinds: Collection[str]) -> list[tuple[str, Json]]:
        """Those of these kinds; all when no kind is named."""
        return [(kind, data) for kind, data in self.roots if not kinds or kind in kinds]

    def delete(self, data: Json) -> str:
        wanted = _comparable(data)
        kept = [entry for entry in self.roots if _comparable(entry[1]) != wanted]
        found = len(kept) < len(self.roots)
        self.roots = kept
        return "Accepted" if found else "NotFound"

    async def request(self, station: str, organisation: str) -> str:
        """A new key and the request to sign it, PEM."""
        self.key_pem, csr = await asyncio.to_thread(_make_request, station, organisation)
        return csr

    def take(self, chain: str, tls: ssl.SSLContext | None) -> bool:
        """CertificateSigned: whether the chain fits our key; from then on `tls` shows it."""
        if self.key_pem is None:
            return False
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
            certificate.write_text(chain, encoding="utf-8")
            key.touch(mode=0o600)
            key.write_bytes(self.key_pem)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
                if tls is not None:
                    tls.load_cert_chain(certificate, key)
            except (ssl.SSLError, ValueError):
                return False
        self.chain_pem = chain
        return True


def hash_data(pem: str, algorithm: str = "sha256") -> Json:
    """CertificateHashDataType of a root (its issuer's key is its own). Raises ValueError when it is no certificate."""
    try:
        fields = _children(_children(ssl.PEM_cert_to_DER_cert(pem.strip()))[0])
        if fields[0][0] == 0xA0:  # the version, left out in version 1
            fields = fields[1:]
        serial, issuer, key = fields[0], fields[2], _children(fields[5])[1]
    except (IndexError, ValueError) as error:
        raise ValueError(f"not a certificate: {error}") from None
    return {
        "hashAlgorithm": algorithm.upper(),
        "issuerNameHash": hashlib.new(algorithm, issuer).hexdigest(),
        "issuerKeyHash": hashlib.new(algorithm, _content(key)[1:]).hexdigest(),
        "serialNumber": f"{int.from_bytes(_content(serial)):x}",
    }


def _content(element: bytes) -> bytes:
    """What a DER element holds, without tag and length."""
    start, end = _span(element, 0)
    return element[start:end]


def _children(element: bytes) -> list[bytes]:
    """The DER elements inside this one."""
    data = _content(element)
    found, at = [], 0
    while at < len(data):
        _, end = _span(data, at)
        found.append(data[at:end])
        at = end
    return found


def _span(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start])
    if start + length > len(data):
        raise ValueError("cut short")
    return start, start + length


def _comparable(data: Json) -> tuple[str, ...]:
    names = ("hashAlgorithm", "issuerNameHash", "issuerKeyHash", "serialNumber")
    return tuple(str(data[name]).casefold() for name in names)


def _make_request(station: str, organisation: str) -> tuple[bytes, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, station)]
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in names])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    return key.private_bytes(*form), request.public_bytes(Encoding.PEM).decode()
