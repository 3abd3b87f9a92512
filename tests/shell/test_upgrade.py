"""`depot-upgrade` with real processes under a small supervisor: a version that does not get ready gives way to the one
before, which finds its own books again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import supervised

from tests.one_post import CONFIG

ROOT = Path(__file__).parents[2]
GOOD, ODD = "0.1.0", "0.2.0"
REAL = f'exec "{sys.executable}" -m controller "$@"'
NEVER_READY = "case $1 in run) exec sleep 100 ;; esac"
ENDS = "case $1 in run) exit 1 ;; esac"
REFUSES = "echo 'depot: depot.toml:3: no such key' >&2; exit 1"
MIGRATES = (
    'case $1 in run) echo newer >"$DEPOT_STATE/depot.db"; echo x >"$DEPOT_STATE/depot.db-wal"; exit 1 ;; esac'
)


@dataclass
class Box:
    """An edge box with versions of the controller; one runs."""

    folder: Path
    env: dict[str, str]

    def add(self, version: str, does: str) -> None:
        binary = self.folder / "opt" / version / "venv" / "bin" / "depot"
        binary.parent.mkdir(parents=True)
        binary.write_text(f"#!/bin/sh\n{does}\n")
        binary.chmod(0o755)
        (binary.parents[1] / ".complete").touch()

    def upgrade(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [ROOT / "systemd" / "depot-upgrade", *arguments],
            env=self.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr.strip()

    @property
    def current(self) -> str:
        return os.readlink(self.folder / "opt" / "current")

    @property
    def pid(self) -> int | None:
        """Of the controller that runs."""
        file = self.folder / "pid"
        pid = int(file.read_text()) if file.exists() else 0
        return pid if supervised.alive(pid) else None

    @property
    def runs(self) -> bool:
        """The real one."""
        return self.pid is not None and b"controller" in Path(f"/proc/{self.pid}/cmdline").read_bytes()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    (tmp_path / "depot.toml").write_text(CONFIG)
    programs = tmp_path / "programs"
    programs.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{supervised.__file__}" "$@"\n')
    systemctl.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SUPERVISED": str(tmp_path),
        "DEPOT_OPT": str(tmp_path / "opt"),
        "DEPOT_CONFIG": str(tmp_path / "depot.toml"),
        "DEPOT_STATE": str(tmp_path / "state"),
        "DEPOT_READY_S": "20",
    }
    made = Box(tmp_path, env)
    made.add(GOOD, REAL)
    (tmp_path / "opt" / "current").symlink_to(GOOD)
    subprocess.run([systemctl, "start", "depot.service"], env=env, timeout=60, check=True)
    try:
        assert made.runs
        yield made
    finally:
        supervised.stop(tmp_path)


def test_a_version_that_gets_ready_stays_and_the_way_back_is_the_same_command(box: Box) -> None:
    box.add(ODD, REAL)
    before = box.pid
    assert box.upgrade(ODD) == (0, f"depot-upgrade: {ODD} runs (was {GOOD})")
    assert (box.current, box.runs) == (ODD, True) and box.pid != before
    assert (box.folder / "state" / "before-upgrade" / "depot.db").stat().st_size > 0
    assert box.upgrade(GOOD) == (0, f"depot-upgrade: {GOOD} runs (was {ODD})")
    assert (box.current, box.runs) == (GOOD, True)


@pytest.mark.parametrize("does", [NEVER_READY, ENDS])
def test_a_version_that_does_not_get_ready_gives_way(box: Box, does: str) -> None:
    box.add(ODD, does)
    box.env["DEPOT_READY_S"] = "5"
    code, said = box.upgrade(ODD)
    assert (code, box.current, box.runs) == (2, GOOD, True), said
    assert f"{ODD} did not get ready within 5 s: back to {GOOD}" in said


def test_the_version_before_finds_the_books_it_can_read(box: Box) -> None:
    box.add(ODD, MIGRATES)
    code, said = box.upgrade(ODD)
    state = box.folder / "state"
    assert (code, box.current, box.runs) == (2, GOOD, True), said
    assert (state / "depot.db").read_bytes().startswith(b"SQLite format 3")
    assert (state / "failed-upgrade" / "depot.db").read_text() == "newer\n", "kept for a person"


def test_a_version_that_refuses_the_config_stops_nothing(box: Box) -> None:
    box.add(ODD, REFUSES)
    before = box.pid
    code, said = box.upgrade(ODD)
    assert (code, box.current, box.pid) == (1, GOOD, before)
    assert "depot.toml:3: no such key" in said and f"{GOOD} stays" in said


@pytest.mark.parametrize("named", [(), ("",), ("current",), ("../opt",), ("9.9",), (GOOD, ODD)])
def test_what_is_no_installed_version_stops_nothing(box: Box, named: tuple[str, ...]) -> None:
    before = box.pid
    code, said = box.upgrade(*named)
    assert (code, box.current, box.pid) == (1, GOOD, before)
    assert said.startswith("depot-upgrade: ") and len(said.splitlines()) == 1


def test_a_state_folder_without_room_stops_nothing_for_long(box: Box) -> None:
    """What keeps the books cannot be made: the old version goes on."""
    box.add(ODD, REAL)
    programs = box.folder / "programs"
    (programs / "cp").write_text("#!/bin/sh\necho 'cp: No space left on device' >&2\nexit 1\n")
    (programs / "cp").chmod(0o755)
    code, said = box.upgrade(ODD)
    assert (code, box.current, box.runs) == (1, GOOD, True), said
    assert "no room to keep the books" in said
