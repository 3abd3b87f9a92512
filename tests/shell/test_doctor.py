"""`depot doctor`: every check in health, in doubt and in failure, on real files; and the command against a depot."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.cli import doctor_box, main
from controller.cli.doctor import judged
from controller.cli.doctor_box import (
    FAIL,
    OK,
    WARN,
    backup,
    certificates,
    clock,
    disk,
    memory,
    network,
    temperature,
)
from controller.config import load
from drivers.ocpp.ca import Authority
from tests import one_post

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
TLS = 'listen = "127.0.0.1:0"\ntls_listen = "127.0.0.1:0"\ntls_cert = "server.pem"\ntls_key = "server.key"'
CONFIG = one_post.CONFIG.replace('listen = "127.0.0.1:0"', TLS)


@pytest.mark.parametrize(
    ("state", "now", "has_rtc", "verdict"),
    [
        (0, NOW, True, OK),
        (-1, NOW, True, OK),
        (5, NOW, True, WARN),
        (0, NOW, False, WARN),
        (0, datetime(1970, 1, 1, tzinfo=UTC), True, FAIL),
    ],
)
def test_clock(state: int, now: datetime, has_rtc: bool, verdict: str) -> None:
    found = clock(state, now, has_rtc)
    assert found.verdict == verdict and bool(found.todo) == (verdict != OK)


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)

    def shaped(free_mb: int, inodes: int = 50, flag: int = 0) -> Callable[[object], os.statvfs_result]:
        blocks = free_mb * 1_000_000 // 4096 + 1
        values = (4096, 4096, 10**9, blocks, blocks, 100, inodes, inodes, flag, 255)
        return lambda _: os.statvfs_result(values)

    assert disk(tmp_path / "not" / "there").text.startswith(str(tmp_path))
    assert real.f_bavail >= 0
    for free_mb, inodes, flag, verdict in (
        (5_000, 50, 0, OK), (400, 50, 0, WARN), (50, 50, 0, FAIL), (5_000, 1, 0, FAIL), (5_000, 50, os.ST_RDONLY, FAIL),
    ):  # fmt: skip
        monkeypatch.setattr(doctor_box.os, "statvfs", shaped(free_mb, inodes, flag))
        found = disk(tmp_path)
        assert found.verdict == verdict, (free_mb, inodes, flag)
        assert bool(found.todo) == (verdict != OK)


@pytest.mark.parametrize(
    ("milli", "verdict"), [("45000", OK), ("76000", WARN), ("91000", FAIL), ("broken", OK)]
)
def test_temperature(tmp_path: Path, milli: str, verdict: str) -> None:
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0" / "temp").write_text(f"{milli}\n")
    assert temperature(tmp_path).verdict == verdict


@pytest.mark.parametrize(("free_kb", "verdict"), [(900_000, OK), (100_000, WARN), (10_000, FAIL)])
def test_memory(tmp_path: Path, free_kb: int, verdict: str) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal:  999999 kB\nMemAvailable:  {free_kb} kB\n")
    assert memory(tmp_path / "meminfo").verdict == verdict
    assert memory(tmp_path / "none").verdict == OK


@pytest.mark.parametrize(
    ("state", "gateway", "verdict"),
    [("up", "00000000", OK), ("up", "0000A8C0", WARN), ("down", "00000000", FAIL)],
)
def test_network(tmp_path: Path, state: str, gateway: str, verdict: str) -> None:
    for name, told in (("lo", "unknown"), ("eth0", state)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "operstate").write_text(f"{told}\n")
    (tmp_path / "route").write_text(
        f"Iface ...\neth0\t{gateway}\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    )
    assert network(tmp_path, tmp_path / "route").verdict == verdict


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    authority = Authority(tmp_path / "ca")
    authority.create("Depot Noord", NOW)
    chain, key = authority.issue_server(("localhost",), NOW)
    (tmp_path / "server.pem").write_bytes(chain)
    (tmp_path / "server.key").touch(mode=0o600)
    (tmp_path / "server.key").write_bytes(key)
    (tmp_path / "depot.toml").write_text(CONFIG)
    return tmp_path / "depot.toml"


def test_certificates(config_file: Path) -> None:
    config = load(config_file)
    [fine] = certificates(config, NOW)
    assert fine.verdict == OK and fine.text.startswith("server.pem until 20")
    ends = datetime.fromisoformat(f"{fine.text.rpartition(' ')[2]}T00:00:00+00:00")
    assert [each.verdict for each in certificates(config, ends - timedelta(days=10))] == [WARN]
    assert [each.verdict for each in certificates(config, ends + timedelta(days=2))] == [FAIL]
    (config_file.parent / "server.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    assert [each.verdict for each in certificates(config, NOW)] == [FAIL]


def test_backup(tmp_path: Path) -> None:
    assert backup(tmp_path, time.time()).verdict == WARN
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "depot-20261122T180000Z.db").touch()
    assert backup(tmp_path, time.time()).verdict == OK
    assert backup(tmp_path, time.time() + 3 * 86_400).verdict == WARN


def status(**more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "site": {"state": "auto", "text": ""}, "meters": [], "evses": [], "channels": [], "alarms": [],
    }  # fmt: skip
    return usual | more


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({}, "controller", OK),
        ({"site": {"state": "failsafe", "text": "blind"}}, "controller", FAIL),
        ({"site": {"state": "degraded", "text": "meter"}}, "controller", WARN),
        ({"meters": [{"id": "main", "quality": "good", "error": None}]}, "meter", OK),
        ({"meters": [{"id": "main", "quality": "stale", "error": "no answer"}]}, "meter", FAIL),
        ({"evses": [{"station": "A", "connected": True}]}, "stations", OK),
        ({"evses": [{"station": "A", "connected": False}]}, "stations", WARN),
        ({"channels": [{"id": "ocpp", "state": "down", "text": "port"}]}, "channel", FAIL),
        ({"channels": [{"id": "mqtt", "state": "degraded", "text": "away"}]}, "channel", WARN),
        ({"alarms": [{"priority": 1, "text": "hot"}]}, "alarms", FAIL),
        ({"alarms": [{"priority": 3, "text": "cool"}]}, "alarms", WARN),
    ],
)
def test_the_site_as_the_controller_tells_it(changed: dict[str, Any], check: str, verdict: str) -> None:
    [found] = [each for each in judged(status(**changed)) if each.check == check]
    assert found.verdict == verdict and bool(found.todo) == (verdict != OK)


def test_many_stations_away_stay_one_line() -> None:
    evses = [{"station": f"S{number:03}", "connected": False} for number in range(200)]
    [found] = [each for each in judged(status(evses=evses)) if each.check == "stations"]
    assert "and 195 more" in found.text and len(found.text) < 100


def test_the_command_against_a_running_depot(
    config_file: Path, live: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", str(config_file), "--json", "--socket", str(live)])
    document = json.loads(capsys.readouterr().out)
    found = {each["check"]: each for each in document["findings"]}
    assert found["controller"]["verdict"] == OK and found["stations"]["text"] == "2 of 2 connected"
    assert {"config", "clock", "disk", "temperature", "memory", "network", "certificate", "backup"} <= set(
        found
    )
    assert document["fit"] is not any(each["verdict"] == FAIL for each in document["findings"])


def test_without_a_controller_it_says_so_and_fails(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(config_file)]) == 1
    said = capsys.readouterr().out
    assert "fail  controller" in said and "-> systemctl status depot" in said


def test_a_config_that_is_wrong_is_the_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "depot.toml").write_text("[site]\n")
    assert main(["doctor", str(tmp_path / "depot.toml")]) == 1
    said = capsys.readouterr().out
    assert said.startswith("fail  config") and f"depot check {tmp_path}" in said
