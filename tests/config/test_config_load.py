"""A correct file becomes exactly these values; defaults, addresses and secrets included."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.config import (
    CloudConfig,
    CloudStation,
    ConfigError,
    MeterConfig,
    OcppConfig,
    OcppStation,
    OpenPlatformConfig,
    load,
)
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    Link,
    Meter,
    MeterId,
    MeterRole,
    PerPhase,
    StationId,
    Vehicle,
    VehicleId,
    each_phase,
)

OCPP = Link(
    "ocpp", lease_s=180, lease_slack_s=60, raise_gap_s=10, answer_s=12, needs_proof=True, stores_plans=True
)
CLOUD = Link(
    "open-platform/cloud",
    lease_s=900,
    lease_slack_s=120,
    raise_gap_s=60,
    answer_s=60,
    lease_ends_with_transaction=False,
    settle_s=15,
    stores_schedules=True,
    names_tokens=False,
)

SMALLEST = """
[site]
name = "Yard"
timezone = "UTC"
limit = "63 A"
assumed_load = "20.0001 A"
"""

STATION = """
[ocpp]
listen = ":0"
[station.A]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
ocpp = { password_file = "CP001.secret" }
"""


def test_the_site_of_a_full_file(write_config, valid):
    site = load(write_config(valid)).site
    row_a, row_b, main = CircuitId("row_a"), CircuitId("row_b"), MeterId("main")
    assert (site.name, site.timezone, site.voltage_mv) == ("Depot Noord", "Europe/Amsterdam", 230_000)
    assert list(site.circuits.values()) == [
        Circuit(SITE, None, each_phase(250_000), main, each_phase(60_000)),
        Circuit(row_a, SITE, PerPhase(100_000, 100_000, 80_000), MeterId("row_a"), each_phase(0)),
        Circuit(row_b, row_a, each_phase(32_000), None, each_phase(0)),
    ]
    assert site.meters[main] == Meter(main, "sdm630", MeterRole.GRID, 1.0, 5.0)
    assert site.vehicles == {"BUS-07": Vehicle(VehicleId("BUS-07"), 94_000, 22_000, ("04A2B3C4",))}
    assert site.accept_unknown_tokens is False


def test_the_evses_of_a_full_file(write_config, valid):
    evses = load(write_config(valid)).site.evses
    cp1, row_a, row_b = StationId("CP001"), CircuitId("row_a"), CircuitId("row_b")
    assert list(evses.values()) == [
        Evse(EvseId("CP001/1"), cp1, row_a, 32_000, 6_000, (0, 1, 2), 6_000, OCPP),
        Evse(EvseId("CP001/2"), cp1, row_a, 16_000, 6_000, (1,), 6_000, OCPP, step_ma=100),
        Evse(EvseId("CP002/1"), StationId("CP002"), row_b, 32_000, 6_000, (1, 2, 0), 0, OCPP),
        Evse(
            EvseId("CP003/1"),
            StationId("CP003"),
            row_b,
            32_000,
            6_000,
            (0, 1, 2),
            8_000,
            CLOUD,
            autostart=True,
        ),
    ]


def test_meters_channels_and_places_of_a_full_file(write_config, valid):
    config = load(write_config(valid))
    base = config.path.parent
    cp1, cp2, cp3 = StationId("CP001"), StationId("CP002"), StationId("CP003")
    grid, circuit, wired = MeterRole.GRID, MeterRole.CIRCUIT, (0, 1, 2)
    assert config.meters == (
        MeterConfig(MeterId("main"), "sdm630", "10.0.4.20", 502, 1, 1.0, 5.0, grid, False, 60.0, wired),
        MeterConfig(MeterId("row_a"), "sdm630", "10.0.4.20", 502, 2, 1.0, 5.0, circuit, True, 1.0, wired),
    )
    assert config.ocpp == OcppConfig(
        "0.0.0.0",
        8887,
        {cp1: OcppStation(cp1, "correct horse", False, None), cp2: OcppStation(cp2, None, True, "1.6")},
    )
    assert config.open_platform == OpenPlatformConfig(
        "companion",
        "J. de Vries, 2026-11-20",
        frozenset({"monitor", "control", "flexibility"}),
        CloudConfig(
            "https://platform.example/v1",
            "eu",
            "depot-noord",
            "battery staple",
            ("site_1",),
            False,
            {cp3: CloudStation(cp3, "dvc_1")},
        ),
        None,
    )
    assert (config.storage_path, config.control_socket) == (base / "data", base / "control.sock")


def test_no_secret_is_ever_shown(write_config, valid):
    shown = repr(load(write_config(valid)))
    assert "correct horse" not in shown
    assert "battery staple" not in shown


def test_the_smallest_file_gets_the_documented_defaults(write_config):
    config = load(write_config(SMALLEST))
    assert config.site.voltage_mv == 230_000
    assert config.site.circuits[SITE].assumed_load_ma == each_phase(20_001)  # a load rounds up
    assert (config.meters, config.ocpp, config.open_platform) == ((), None, None)
    assert (config.storage_path, config.control_socket) == (
        Path("/var/lib/depot"),
        Path("/run/depot/control.sock"),
    )


def test_a_metered_site_may_leave_its_background_unknown(write_config):
    text = SMALLEST.replace(
        'assumed_load = "20.0001 A"', 'meter = "m"\n[meter.m]\nkind = "b23"\naddress = "tcp://g/7"'
    )
    config = load(write_config(text))
    assert config.site.circuits[SITE].assumed_load_ma is None
    meter = config.meters[0]
    assert (meter.role, meter.poll_s, meter.stale_after_s, meter.port) == (MeterRole.GRID, 1.0, 5.0, 502)
    assert (meter.invert, meter.ct_ratio, meter.phases) == (False, 1.0, (0, 1, 2))


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        (":8887", "0.0.0.0", 8887),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:80", "::1", 80),
        ("box:65535", "box", 65535),
    ],
)
def test_listen_addresses(write_config, written, host, port):
    ocpp = load(write_config(SMALLEST + STATION.replace(":0", written))).ocpp
    assert ocpp is not None
    assert (ocpp.host, ocpp.port) == (host, port)


@pytest.mark.parametrize(
    ("written", "host", "port", "unit"),
    [("tcp://meter-1/0", "meter-1", 502, 0), ("tcp://[fe80::1]:1502/255", "fe80::1", 1502, 255)],
)
def test_meter_addresses(write_config, written, host, port, unit):
    meter = f'meter = "m"\n[meter.m]\nkind = "b23"\naddress = "{written}"'
    [read] = load(write_config(SMALLEST + meter)).meters
    assert (read.host, read.port, read.unit) == (host, port, unit)


def test_who_may_charge_while_the_controller_is_out_of_reach(write_config):
    def told(lines: str) -> str:
        return load(
            write_config(SMALLEST + STATION.replace("[station", f"{lines}\n[station"))
        ).ocpp.offline_tokens

    assert told("") == "list"
    assert told('offline_tokens = "nobody"') == "nobody"
    assert told('unknown_tokens = "accept"') == "anyone", "who asks nothing here asks nothing there"
    assert told('unknown_tokens = "accept"\noffline_tokens = "list"') == "list"


def test_unknown_tokens_may_be_accepted(write_config):
    config = load(write_config(SMALLEST + STATION.replace("[station", 'unknown_tokens = "accept"\n[station')))
    assert config.site.accept_unknown_tokens is True


def test_http_is_fine_for_a_simulator_on_this_machine(write_config, valid):
    config = load(write_config(valid.replace("https://platform.example/v1/", "http://127.0.0.1:8000/v1")))
    assert config.open_platform is not None
    assert config.open_platform.cloud is not None
    assert config.open_platform.cloud.base_url == "http://127.0.0.1:8000/v1"


def test_a_file_from_an_editor_on_windows(tmp_path):
    path = tmp_path / "depot.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load(path).site.name == "Yard"


@pytest.mark.parametrize("name", ["CP001.secret", "depot_CP001.secret"], ids=["one", "of a folder"])
def test_a_systemd_credential_comes_before_the_file(write_config, tmp_path, monkeypatch, name):
    path = write_config(SMALLEST + STATION)
    (tmp_path / "CP001.secret").unlink()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / name).write_text("from systemd")
    (credentials / name).chmod(0o440)  # as systemd leaves it for a DynamicUser
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    ocpp = load(path).ocpp
    assert ocpp is not None
    assert ocpp.stations[StationId("A")].password == "from systemd"


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (b"pw", 0o644, "is open to others (mode 0644)"),
        (b"pw", 0o640, "is open to others (mode 0640)"),
        (b" \n", 0o600, "is empty"),
        (b"", 0o600, "is empty"),
        (b"\xff\xfe", 0o600, "is not UTF-8 text"),
        (b"one\ntwo\n", 0o600, "is not one line of text"),
        (b"x" * 5000, 0o600, "is not one line of text"),
    ],
)
def test_bad_secret_files_are_refused(write_config, tmp_path, content, mode, text):
    path = write_config(SMALLEST + STATION)
    (tmp_path / "CP001.secret").write_bytes(content)
    (tmp_path / "CP001.secret").chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(path)
    [problem] = caught.value.problems
    assert (problem.where, problem.line) == ("station.A.ocpp.password_file", 14)
    assert text in problem.text


@pytest.mark.parametrize(("make", "text"), [(os.mkdir, "Is a directory"), (os.mkfifo, "is not a file")])
def test_a_secret_that_is_no_file_is_refused_at_once(write_config, tmp_path, make, text):
    path = write_config(SMALLEST + STATION)
    (tmp_path / "CP001.secret").unlink()
    make(tmp_path / "CP001.secret", 0o700)
    with pytest.raises(ConfigError, match=text):
        load(path)


def test_who_trusts_unproven_stations_says_so(write_config, valid):
    trusting = valid.replace(
        'unknown_tokens = "reject"', 'unknown_tokens = "reject"\nunqualified = "fallback"'
    )
    for text, needs_proof in ((valid, True), (trusting, False)):
        config = load(write_config(text))
        links = {evse.link.channel: evse.link.needs_proof for evse in config.site.evses.values()}
        assert links["ocpp"] is needs_proof
        assert not any(proof for channel, proof in links.items() if channel != "ocpp")
