"""[ocpp] and the `ocpp` table of a station: the central system, who may connect, and with which security profile.

Owns the rules between them: a profile needs its port and its files, and nobody connects without a password unless the
file says so by name. What a certificate is worth shows where it is used. Source: INTERFACE section 3; profiles: OCPP 1.6
security whitepaper section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

from controller.config.files import certificate_file, key_file, secret
from controller.config.table import Table
from controller.config.types import OcppConfig, OcppStation, OcppTls
from controller.config.values import Wrong, flag, listen, one_of, quoted, shown, texts
from controller.core.model import StationId

OCPP_KEYS = (
    "listen unknown_tokens offline_tokens unqualified tls_listen tls_cert tls_key tls_legacy_rsa client_ca"
)
OCPP_LINK_KEYS = "password_file allow_insecure version assume_version security_profile allow_from"
_TLS_FILES = {"tls_cert": "server.pem", "tls_key": "server.key"}


def read_ocpp(
    table: Table, stations: Mapping[StationId, OcppStation], base: Path, production: bool
) -> tuple[OcppConfig | None, bool]:
    """The central system, and whether unknown id tokens may charge (default: no)."""
    address = table.required("listen", listen, '"0.0.0.0:8887"')
    accept_unknown = table.optional("unknown_tokens", one_of("reject", "accept"), "reject") == "accept"
    usual = "anyone" if accept_unknown else "list"
    offline = table.optional("offline_tokens", one_of("list", "anyone", "nobody"), usual)
    tls = _tls(table, base)
    needs_proof = table.optional("unqualified", one_of("maximum", "fallback"), "maximum") == "maximum"
    for station in stations.values():
        _note_station(table, station, production)
    return None if address is None else OcppConfig(
        *address, stations, tls, needs_proof, offline
    ), accept_unknown


def _tls(table: Table, base: Path) -> OcppTls | None:
    for name, example in _TLS_FILES.items():
        if "tls_listen" in table and name not in table:
            table.note(name, "is missing", f'write {name} = "{example}" too')
    if "tls_listen" not in table:
        for name in (*_TLS_FILES, "client_ca", "tls_legacy_rsa"):
            if name in table:
                table.note(name, "means nothing without tls_listen", 'add tls_listen = "0.0.0.0:8443"')
    address = table.optional("tls_listen", listen, None)
    cert = table.optional("tls_cert", certificate_file(base), None)
    key = table.optional("tls_key", key_file(base), None)
    client_ca = table.optional("client_ca", certificate_file(base), None)
    legacy_rsa = table.optional("tls_legacy_rsa", flag, False)
    if address is None or cert is None or key is None:
        return None
    return OcppTls(*address, cert, key, client_ca, legacy_rsa)


def _note_station(table: Table, station: OcppStation, production: bool) -> None:
    """What one station asks of the central system as a whole."""

    def note(key: str, text: str, suggestion: str) -> None:
        table.findings.note(("station", station.station, "ocpp", key), text, suggestion)

    if station.security_profile >= 2 and "tls_listen" not in table:
        needed = "security_profile"
        note(
            needed, f"{station.security_profile} needs TLS", "add tls_listen, tls_cert and tls_key to [ocpp]"
        )
    elif station.security_profile == 3 and "client_ca" not in table:
        note(
            "security_profile",
            "3 needs to know whose certificates count",
            'add client_ca = "ca.pem" to [ocpp]',
        )
    if production and station.allow_insecure and not station.allow_from:
        note(
            "allow_insecure",
            "lets anybody in, and production = true under [site] forbids that",
            f'write password_file = "{station.station}.secret", or the address it comes from as allow_from',
        )


def read_ocpp_station(table: Table, station: StationId, base: Path) -> OcppStation:
    insecure = table.optional("allow_insecure", flag, False)
    password = table.optional("password_file", secret(base), None)
    profile = table.optional("security_profile", _profile, 0)
    if insecure and "password_file" in table:
        table.note("allow_insecure", "contradicts password_file", "keep password_file only")
    elif insecure and profile > 0:
        table.note(
            "allow_insecure", f"contradicts security_profile = {profile}", "keep security_profile only"
        )
    elif not insecure and "password_file" not in table and profile != 3:
        table.note(
            "password_file",
            "is missing",
            f'write password_file = "{station}.secret", or allow_insecure = true on a network of its own',
        )
    version = table.optional("version", one_of("1.6", "2.0.1", "2.1"), None)
    assumed = table.optional("assume_version", flag, False)
    if assumed and version is None:
        table.note("assume_version", "means nothing without version", 'write version = "1.6" beside it')
    networks = table.optional("allow_from", _networks, ())
    return OcppStation(station, password, insecure, version, profile, networks, assumed)


def _profile(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 3:
        raise Wrong(
            f"{shown(value)} is not a security profile",
            "write 1 (password), 2 (password over TLS) or 3 (certificate); for none allow_insecure = true",
        )
    return value


def _networks(value: object) -> tuple[str, ...]:
    words = texts(value)
    for word in words:
        try:
            ip_network(word)
        except ValueError:
            raise Wrong(
                f"{quoted(word)} is neither an address nor a network", 'write "10.0.4.17" or "10.0.4.0/24"'
            ) from None
    return words
