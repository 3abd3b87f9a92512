"""The README tells the truth: its configs load, its schedule reads, its commands parse."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.cli.arguments import parser
from controller.config import load
from controller.schedule_file import read_schedule

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [
    (kind, re.sub(r"^ {0,3}", "", body, flags=re.M))
    for kind, body in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", README, flags=re.M | re.S)
]
FIRST_SITE = next(body for kind, body in BLOCKS if kind == "toml" and body.startswith("# depot.toml"))
COMMANDS = sorted(
    {line.strip() for _, body in BLOCKS for line in body.splitlines() if line.strip().startswith("depot ")}
)


def secret(folder: Path, name: str) -> None:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text("a-long-random-password", encoding="utf-8")


def test_the_first_site_loads(tmp_path: Path) -> None:
    secret(tmp_path, "CP001.secret")
    (tmp_path / "depot.toml").write_text(FIRST_SITE, encoding="utf-8")
    config = load(tmp_path / "depot.toml")
    assert set(config.site.evses) == {"CP001/1"}
    assert config.ocpp is not None and config.open_platform is None


def test_the_open_platform_block_completes_it(tmp_path: Path) -> None:
    block = next(body for kind, body in BLOCKS if kind == "toml" and body.startswith("[open_platform]"))
    secret(tmp_path, "CP001.secret")
    secret(tmp_path, "platform.secret")
    (tmp_path / "depot.toml").write_text(f"{FIRST_SITE}\n{block}", encoding="utf-8")
    config = load(tmp_path / "depot.toml")
    assert config.open_platform is not None and config.open_platform.cloud is not None
    assert config.site.evses["TP001/1"].autostart


def test_the_blocks_on_circuits_and_prices_complete_it(tmp_path: Path) -> None:
    block = next(body for kind, body in BLOCKS if kind == "toml" and 'breaker = "gG"' in body)
    tariff = next(body for kind, body in BLOCKS if kind == "toml" and body.startswith("[tariff]"))
    head, tables = block.split("[circuit.row_b]")
    more = [line for line in head.splitlines() if not line.startswith(("[site]", "limit"))]
    text = FIRST_SITE.replace("[site]\n", "\n".join(["[site]", *more, ""]))
    for name in ("CP001", "DC01", "CP007"):
        secret(tmp_path, f"{name}.secret")
    (tmp_path / "prices.csv").write_text("start,price_per_kwh\n2026-11-22T00:00,0.3\n", encoding="utf-8")
    (tmp_path / "depot.toml").write_text(f"{text}\n[circuit.row_b]{tables}\n{tariff}", encoding="utf-8")
    config = load(tmp_path / "depot.toml")
    assert config.site.peak_w == 180_000 and config.tariff is not None and config.inputs and config.batteries
    assert config.site.evses["DC01/1"].dc is not None and not config.site.evses["CP007/1"].rotation_known


def test_the_schedule_reads() -> None:
    block = next(body for kind, body in BLOCKS if kind == "toml" and body.startswith("# nights.toml"))
    schedule = read_schedule(block, "UTC", datetime(2026, 11, 22, tzinfo=UTC))
    assert schedule.timezone == "Europe/Amsterdam" and schedule.slots[0].days == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    assert callable(parser().parse_args(words).run)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:controller|drivers|ui|tests|systemd)/[\w/.]+)`", README)))
)
def test_every_path_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()
