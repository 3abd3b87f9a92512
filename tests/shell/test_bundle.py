"""`depot support-bundle`: everything that helps is in it, and nothing that is secret. Canaries in every place they can be."""

from __future__ import annotations

import json
import re
import stat
import zipfile
from pathlib import Path

import pytest

from controller.cli import main
from controller.cli.bundle import redacted, sieve_of
from controller.config import load

CANARIES = {
    "CP001.secret": 'canary"station\\1',
    "platform.secret": "CANARYPLATFORM",
    "mqtt.secret": "CanaryBroker",
}
CONFIG = """
[site]
name = "Depot Noord"
timezone = "Europe/Amsterdam"
limit = "250 A"
assumed_load = "60 A"
[ocpp]
listen = "127.0.0.1:0"
[station.CP001]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }
ocpp = { password_file = "CP001.secret" }
[vehicle.BUS-07]
battery = "94 kWh"
tokens = ["CANARYTOKEN01", "CANARYTOKEN02"]
[open_platform]
mode = "sole"
enabled_by = "Canaryperson"
purposes = ["monitor"]
[open_platform.cloud]
base_url = "https://platform.example/v1"
region = "eu"
client_id = "canaryclient"
client_secret_file = "platform.secret"
[station.TP001]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
open_platform = { device_id = "canarydevice", link = "cloud" }
[mqtt]
broker = "mqtt://127.0.0.1:1883"
username = 'canaryuser'
password_file = "mqtt.secret"
[metrics]
listen = "127.0.0.1:1"
[storage]
path = "state"
[control]
socket = "control.sock"
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    for name, content in CANARIES.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(content)
    (tmp_path / "depot.toml").write_text(CONFIG)
    (tmp_path / "state").mkdir()
    lines = [
        f"INFO x: token {token} and {json.dumps(CANARIES)}" for token in ("canarytoken01", "CANARYTOKEN02")
    ]
    (tmp_path / "state" / "depot.log").write_text("\n".join([*lines, "WARNING y: what happened"]))
    return tmp_path / "depot.toml"


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name).decode() for name in bundle.namelist()}


def test_no_secret_comes_out(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no journal here
    assert main(["support-bundle", str(tmp_path / "out.zip"), "--config", str(config_file)]) == 0
    found = contents(tmp_path / "out.zip")
    held = {name: re.findall("canary\\w*", text, re.IGNORECASE) for name, text in found.items()}
    assert {name: words for name, words in held.items() if words} == {}
    assert "WARNING y: what happened" in found["log.txt"], "what helps is still there"
    assert '"94 kWh"' in found["config.toml"] and "Depot Noord" in found["check.txt"]
    assert "canary" not in capsys.readouterr().out.lower()


def test_a_running_depot_is_in_it(
    config_file: Path, tmp_path: Path, live: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.zip"
    assert main(["support-bundle", str(file), "--config", str(config_file), "--socket", str(live)]) == 0
    found = contents(file)
    assert json.loads(found["status.json"])["site"]["name"] == "Three posts"
    assert json.loads(found["versions.json"])["bomFormat"] == "CycloneDX"
    assert json.loads(found["frames.json"])["frames"] == []
    assert {each["check"] for each in json.loads(found["doctor.json"])} >= {"disk", "controller"}
    assert "04A2B3C4" not in "".join(found.values())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    listed = capsys.readouterr().out
    assert all(name in listed for name in found)


def test_without_a_controller_each_part_says_what_is_missing(config_file: Path, tmp_path: Path) -> None:
    assert main(["support-bundle", str(tmp_path / "out.zip"), "--config", str(config_file)]) == 0
    found = contents(tmp_path / "out.zip")
    assert "no controller" in json.loads(found["status.json"])["not"]
    assert found["metrics.txt"].startswith("not: ")


def test_a_preview_writes_nothing(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())
    assert main(["support-bundle", "--preview", "--config", str(config_file)]) == 0
    assert set(tmp_path.iterdir()) == before
    assert "config.toml" in capsys.readouterr().out


def test_it_never_writes_over_a_file(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    assert main(["support-bundle", str(tmp_path / "mine"), "--config", str(config_file)]) == 1
    assert (tmp_path / "mine").read_text() == "mine"
    assert main(["support-bundle", "--config", str(config_file)]) == 2
    said = capsys.readouterr().err
    assert "name another file" in said and "--preview" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ('tokens = ["A",\n  "B"]', 'tokens = "***"'),
        ("x = { client_id = 'me', link = \"cloud\" }", 'x = { client_id = "***", link = "cloud" }'),
        ('unknown_tokens = "reject"', 'unknown_tokens = "reject"'),
        ('offline_tokens = "list"', 'offline_tokens = "list"'),
    ],
)
def test_what_names_somebody_is_taken_out(line: str, left: str) -> None:
    assert redacted(line) == left


def test_short_secrets_do_not_eat_the_text(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "CP001.secret").write_text("a")
    assert sieve_of(load(config_file))("a cat") == "a cat"
