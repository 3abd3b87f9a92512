"""The systemd units: known to systemd, hardened, and started with commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from controller.cli.arguments import parser
from controller.rights import VIEWERS

UNITS = Path(__file__).parents[2] / "systemd"
INSTALLED = "/opt/depot/current/venv/bin/depot"
ANALYZE = shutil.which("systemd-analyze")
with_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
NAMES = ("depot.service", "depot-ui@.service", "depot-export.service")


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=60, check=False)


@with_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_has_nothing_against_it(tmp_path: Path, name: str) -> None:
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket"), *UNITS.glob("*.timer")):
        # what is not installed here is no fault of the unit
        (tmp_path / unit.name.replace("@", "@tty1")).write_text(
            unit.read_text().replace(INSTALLED, "/bin/true")
        )
    made = tmp_path / name.replace("@", "@tty1")
    text = made.read_text()
    found = analyzed("verify", "--man=no", str(made))
    mine = [line for line in found.stderr.splitlines() if made.name in line]
    assert mine == []
    made.write_text(f"{text}\n[Service]\nRestart=sometimes\n")
    again = analyzed("verify", "--man=no", str(made)).stderr
    assert "restart specifier" in again, "a mistake would have been told"


@with_systemd
@pytest.mark.parametrize("name", NAMES)
def test_it_exposes_little(name: str) -> None:
    found = analyzed("security", "--offline=true", "--no-pager", "--threshold=20", str(UNITS / name))
    assert found.returncode == 0, found.stdout[-500:] + found.stderr


@pytest.mark.parametrize("name", NAMES)
def test_what_it_starts_is_a_command(name: str) -> None:
    (line,) = re.findall(r"ExecStart=(.*)", (UNITS / name).read_text())
    program, *arguments = line.split()
    assert program == INSTALLED
    assert parser().parse_args(arguments)


def test_the_screen_of_the_box_only_looks() -> None:
    unit = (UNITS / "depot-ui@.service").read_text()
    assert "ui --read-only" in unit
    assert f"SupplementaryGroups={VIEWERS}\n" in unit
    assert "TERM=linux" in unit
