"""An authority, a central system with both ports, and clients with every kind of certificate, for the TLS tests."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ocpp_peer import settings

from drivers.ocpp.ca import Authority, key_pem
from drivers.ocpp.settings import OcppSettings, StationSettings
from drivers.ocpp.tls import TlsSettings

NOW = datetime.now(UTC)


class Depot:
    """The files of one depot in `folder`: its authority and the certificate of its box."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.authority.create("Depot Noord", NOW)
        self.new_server_certificate(NOW)

    def new_server_certificate(self, now: datetime, *names: str) -> None:
        chain, key = self.authority.issue_server(names or ("localhost", "127.0.0.1"), now)
        (self.folder / "server.key").write_bytes(key)
        (self.folder / "server.pem").write_bytes(chain)

    def settings(self, mutual: bool = True, **stations: StationSettings) -> OcppSettings:
        tls = TlsSettings(
            "127.0.0.1",
            0,
            self.folder / "server.pem",
            self.folder / "server.key",
            self.authority.certificate_file if mutual else None,
        )
        return replace(settings(**stations), tls=tls, folder=self.folder)

    def trusting(self, **more: Any) -> ssl.SSLContext:
        """The TLS of a station that trusts this depot."""
        return trusting(self.authority.certificate_file, **more)

    def station(self, name: str, made: datetime = NOW, authority: Authority | None = None) -> ssl.SSLContext:
        """The TLS of a station with a certificate of its own, issued here or by another authority."""
        chain, key = (authority or self.authority).issue_station(name, made)
        return self.with_certificate(chain, key)

    def with_certificate(self, chain: bytes, key: bytes) -> ssl.SSLContext:
        (self.folder / "client.pem").write_bytes(chain + key)
        context = self.trusting()
        context.load_cert_chain(self.folder / "client.pem")
        return context


def trusting(ca: Path, most: ssl.TLSVersion | None = None, ciphers: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if most is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers(ciphers or "DEFAULT:@SECLEVEL=0")
        context.maximum_version = most
    return context


def with_folder(config: OcppSettings, folder: Path) -> OcppSettings:
    return replace(config, folder=folder)


def other_authority(folder: Path) -> Authority:
    """Of somebody else, under the same name."""
    made = Authority(folder / "other" / "ca")
    made.create("Depot Noord", NOW)
    return made


def long_ago(authority: Authority) -> datetime:
    """When a certificate must have been issued to have expired yesterday."""
    return NOW - timedelta(days=826)


def a_request(name: str, key: Any = None, signed_with: Any = None) -> str:
    """A certificate signing request in PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(signed_with or key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


__all__ = ["NOW", "Depot", "a_request", "key_pem", "long_ago", "other_authority", "trusting", "with_folder"]
