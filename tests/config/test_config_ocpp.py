"""[ocpp] with TLS, the security profile of a station, and what `production` forbids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.config import ConfigError, describe, load

Write = Callable[[str], Path]

TLS = 'tls_listen = "0.0.0.0:8443"\ntls_cert = "server.pem"\ntls_key = "server.key"\n'
CA = 'client_ca = "ca.pem"\n'


def depot(ocpp: str = "", station: str = 'password_file = "CP001.secret"', site: str = "") -> str:
    return f"""
[site]
name = "Depot"
timezone = "Europe/Amsterdam"
limit = "100 A"
assumed_load = "10 A"
{site}
[ocpp]
listen = "0.0.0.0:8887"
{ocpp}
[station.CP001]
circuit = "site"
fallback = "6 A"
evse.1 = {{ max = "32 A" }}
ocpp = {{ {station} }}
"""


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem) for problem in caught.value.problems]


def test_a_depot_with_certificates(write_config: Write, onsite_files: Path) -> None:
    station = 'security_profile = 3, allow_from = ["10.0.4.17", "10.0.5.0/24"]'
    config = load(write_config(depot(TLS + CA + "tls_legacy_rsa = true", station, "production = true")))
    assert config.production
    assert config.ocpp is not None and config.ocpp.tls is not None
    tls = config.ocpp.tls
    assert (tls.host, tls.port, tls.legacy_rsa) == ("0.0.0.0", 8443, True)
    assert (tls.cert.name, tls.key.name, tls.client_ca) == (
        "server.pem",
        "server.key",
        onsite_files / "ca.pem",
    )
    (one,) = config.ocpp.stations.values()
    assert (one.password, one.allow_insecure, one.security_profile) == (None, False, 3)
    assert one.allow_from == ("10.0.4.17", "10.0.5.0/24")
    assert "ws 0.0.0.0:8887 and wss 0.0.0.0:8443" in describe(config)


def test_what_is_left_out(write_config: Write) -> None:
    config = load(write_config(depot()))
    assert not config.production
    assert config.ocpp is not None and config.ocpp.tls is None
    (one,) = config.ocpp.stations.values()
    assert (one.security_profile, one.allow_from, one.assume_version) == (0, (), False)


def test_a_station_that_names_no_version(write_config: Write) -> None:
    station = 'password_file = "CP001.secret", version = "1.6", assume_version = true'
    config = load(write_config(depot(station=station)))
    assert config.ocpp is not None
    (one,) = config.ocpp.stations.values()
    assert one.assume_version and one.version == "1.6"


@pytest.mark.parametrize(
    ("ocpp", "station", "site", "said"),
    [
        ('tls_listen = ":8443"', 'password_file = "CP001.secret"', "", "tls_cert: is missing"),
        ('tls_cert = "server.pem"', 'password_file = "CP001.secret"', "", "means nothing without tls_listen"),
        (CA, 'password_file = "CP001.secret"', "", "client_ca: means nothing without tls_listen"),
        (TLS.replace("server.key", "none.key"), 'password_file = "CP001.secret"', "", "cannot be read"),
        (
            TLS.replace('"server.key"', '"CP001.secret"'),
            'password_file = "CP001.secret"',
            "",
            "no private key",
        ),
        ("", 'security_profile = 2, password_file = "CP001.secret"', "", "2 needs TLS"),
        (TLS, "security_profile = 3", "", "whose certificates count"),
        (TLS, "security_profile = 2", "", "password_file: is missing"),
        ("", 'security_profile = 4, password_file = "CP001.secret"', "", "4 is not a security profile"),
        ("", 'security_profile = true, password_file = "CP001.secret"', "", "is not a security profile"),
        (TLS + CA, "security_profile = 3, allow_insecure = true", "", "contradicts security_profile"),
        ("", 'allow_insecure = true, allow_from = ["10.0.4.1/24"]', "", "neither an address nor a network"),
        ("", "allow_insecure = true", "production = true", "production = true under [site] forbids"),
        ("", "allow_insecure = true, assume_version = true", "", "means nothing without version"),
    ],
)
def test_mistakes(
    write_config: Write, onsite_files: Path, ocpp: str, station: str, site: str, said: str
) -> None:
    found = problems(write_config(depot(ocpp, station, site)))
    assert any(said in line for line in found), found
    assert all(";" in line for line in found), "each says what to do"


def test_in_production_only_a_known_address_may_come_without_password(write_config: Write) -> None:
    station = 'allow_insecure = true, allow_from = ["10.0.4.17"]'
    assert load(write_config(depot(station=station, site="production = true"))).production


def test_a_key_that_others_may_read(write_config: Write, onsite_files: Path) -> None:
    (onsite_files / "server.key").chmod(0o640)
    (line,) = problems(write_config(depot(TLS)))
    assert "chmod 600 server.key" in line
