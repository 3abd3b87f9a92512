"""The package: what it holds and how hard its service is (always), and that a clean Debian 12 takes it, upgrades it and
lets go of it (marked `deb`: `make test-deb`, as root). The Debian is a folder of its own without a network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
BUILD = ROOT / ".build"
DEBIAN = Path(os.environ.get("DEPOT_DEBIAN", "/nonexistent"))  # made once by `make debian-root`
FIRST, SECOND = "0.1.0", "0.1.1"
EXPOSURE = 1.5
DEADLINE_S = 120.0
HUNG_S = 900.0  # no step takes so long, however busy the machine is
INSIDE = ("unshare", "--mount", "--pid", "--fork", "--net")
SCRIPTS = ("build-deb", "make-venv", "depot-upgrade", "postinst", "prerm", "postrm")


# --- always ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_service_is_hardened() -> None:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", SYSTEMD / "depot.service"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for depot\.service: ([0-9.]+)", said.stdout)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_sound_and_stop_at_a_mistake(script: str) -> None:
    text = (SYSTEMD / script).read_text()
    assert text.startswith("#!/bin/sh\n") and "set -eu\n" in text
    subprocess.run(["sh", "-n", SYSTEMD / script], timeout=10, check=True)


def test_the_units_the_config_and_the_package_agree() -> None:
    """The same paths, users and groups everywhere."""
    service, listens = (SYSTEMD / "depot.service").read_text(), (SYSTEMD / "depot.socket").read_text()
    users = (SYSTEMD / "depot.sysusers").read_text()
    build = (SYSTEMD / "build-deb").read_text()
    assert "ExecStart=/opt/depot/current/venv/bin/depot run /etc/depot/depot.toml\n" in service
    assert (
        "StateDirectory=depot\n" in service and "WatchdogSec=10\n" in service and "Type=notify\n" in service
    )
    assert "ListenStream=/run/depot/control.sock\n" in listens and "Requires=depot.socket\n" in service
    assert re.search(r"^u depot - ", users, re.MULTILINE) and "User=depot\n" in service
    for group in ("depot-operators", "depot-viewers"):
        assert f"g {group} -\n" in users
    assert "echo /etc/depot/depot.toml >DEBIAN/conffiles" in build


# --- on a clean Debian ----------------------------------------------------------------------------------------------


@dataclass
class Debian:
    """A root folder; every command runs in it with a process table of its own and no network."""

    folder: Path

    def run(self, *command: str, code: int = 0) -> str:
        """What it said."""
        env = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        done = subprocess.run(
            [*INSIDE, f"--mount-proc={self.folder}/proc", "chroot", self.folder, *env, *command],
            capture_output=True, text=True, timeout=HUNG_S, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == code, (command, said)
        return said

    def install(self, package: Path, code: int = 0) -> str:
        shutil.copy(package, self.folder / "tmp")
        return self.run("dpkg", "-i", f"/tmp/{package.name}", code=code)


def built(version: str, folder: Path) -> Path:
    """The package of this version, made as `make deb` makes it."""
    folder.mkdir(exist_ok=True)
    if not (folder / "wheelhouse").exists():
        (folder / "wheelhouse").symlink_to(BUILD / "wheelhouse")
    made = subprocess.run(
        [SYSTEMD / "build-deb", version, sys.executable, folder],
        stdout=subprocess.PIPE, text=True, timeout=HUNG_S, check=True,
    )  # fmt: skip
    return Path(made.stdout.strip())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here")
    if not (BUILD / "wheelhouse" / ".complete").exists():
        pytest.skip("no wheelhouse: make wheelhouse")
    folder = tmp_path_factory.mktemp("packages")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    if os.geteuid() != 0:
        pytest.skip("only root may install a package")
    if not DEBIAN.exists():
        pytest.skip("no clean Debian: make debian-root (needs debootstrap and a mirror)")
    if subprocess.run([*INSIDE, "true"], capture_output=True, timeout=HUNG_S, check=False).returncode:
        pytest.skip("no namespaces of its own for the Debian here")
    folder = tmp_path_factory.mktemp("debian") / "root"
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "--numeric-owner", "-xpf", DEBIAN], timeout=HUNG_S, check=True)
    yield Debian(folder)
    shutil.rmtree(folder)


@pytest.mark.deb
def test_a_clean_debian_installs_upgrades_and_removes_it(packages: Path, debian: Debian) -> None:
    first = built(FIRST, packages)
    root = debian.folder
    said = debian.install(first)
    assert "systemctl enable --now depot" in said
    assert debian.run("depot", "version").strip() == f"depot {FIRST}"
    assert "cannot be read" in debian.run("depot", "check", "/etc/depot/depot.toml", code=1)
    (root / "etc/depot/credentials/CP001.secret").write_text("a-long-random-password")
    (root / "etc/depot/credentials/CP001.secret").chmod(0o600)
    assert "CP001/1" in debian.run("depot", "check", "/etc/depot/depot.toml")
    assert (root / "etc/depot/credentials").stat().st_mode & 0o777 == 0o700
    assert debian.run("id", "-un", "depot").strip() == "depot"
    for unit in ("depot.service", "depot.socket"):
        debian.run("systemd-analyze", "verify", f"/lib/systemd/system/{unit}")

    began = (root / f"opt/depot/{FIRST}/venv/.complete").stat().st_mtime_ns
    debian.install(first)  # again: nothing is made twice
    assert (root / f"opt/depot/{FIRST}/venv/.complete").stat().st_mtime_ns == began

    config = root / "etc/depot/depot.toml"
    config.write_text(config.read_text().replace('name = "Depot"', 'name = "Yard 7"'))
    debian.install(built(SECOND, packages))
    assert debian.run("depot", "version").strip() == f"depot {SECOND}"
    assert '"Yard 7"' in config.read_text(), "what the installer wrote stays"
    old = debian.run(f"/opt/depot/{FIRST}/venv/bin/depot", "version")
    assert old.strip() == f"depot {FIRST}", "the one before stays whole, for going back"

    books = root / "var/lib/depot"
    books.mkdir(exist_ok=True)
    (books / "depot.db").write_text("kept")
    debian.run("dpkg", "-r", "depot")
    assert not (root / "opt/depot").exists() and config.exists()
    debian.run("dpkg", "-P", "depot")
    assert not config.exists()
    assert (books / "depot.db").read_text() == "kept", "the books are the owner's"


@pytest.fixture
def booted(debian: Debian) -> Iterator[Callable[..., str]]:
    """Runs commands in the Debian once its own systemd is up."""
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("no systemd-nspawn here (package systemd-container)")
    (debian.folder / "etc/machine-id").write_text("")
    arguments = ("--quiet", "--boot", "--private-network", "--register=no", "--keep-unit", "--console=pipe")
    nspawn = subprocess.Popen(
        ["systemd-nspawn", *arguments, "-D", debian.folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    def inside(*command: str, code: int = 0) -> str:
        first = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()[0]
        done = subprocess.run(
            ["nsenter", "-t", first, "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command],
            capture_output=True, text=True, timeout=HUNG_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, (command, done.stdout + done.stderr)
        return (done.stdout + done.stderr).strip()

    def up() -> bool:
        return nspawn.poll() is not None or inside("systemctl", "is-system-running") == "running"

    try:
        until(up, "systemd is up")
        if nspawn.returncode is not None:  # it holds nothing of ours yet
            pytest.skip(f"systemd-nspawn does not work here: it ended with {nspawn.returncode}")
        yield inside
    finally:
        nspawn.terminate()
        nspawn.wait(timeout=60)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            if holds():
                return
        except (AssertionError, OSError, IndexError) as error:
            last = str(error)
        else:
            last = ""
        assert time.monotonic() < deadline_s, f"{what}: never; {last}"
        time.sleep(0.2)


@pytest.mark.deb
def test_under_a_real_systemd_it_gets_ready_comes_back_and_hands_over(
    packages: Path, debian: Debian, booted: Callable[..., str]
) -> None:
    root = debian.folder
    for version in (FIRST, SECOND):
        shutil.copy(built(version, packages), root / "root")
    package = "/root/depot_{}_amd64.deb".format
    booted("dpkg", "-i", package(FIRST))
    (root / "etc/depot/credentials/CP001.secret").write_text("a-long-random-password")
    (root / "etc/depot/credentials/CP001.secret").chmod(0o600)
    booted("systemctl", "enable", "--now", "depot")  # returns with READY
    assert "EVSEs connected" in booted("systemctl", "show", "-p", "StatusText", "depot")
    assert "CP001/1" in booted("depot", "status")
    assert "found whole" in booted("depot", "backup", "/root/books.db"), (
        "where the service itself may not write"
    )
    assert "a controller runs" in booted("depot", "restore", "/root/books.db", code=1)
    nobody = ("setpriv", "--reuid=65534", "--clear-groups", "depot", "pause", "CP001/1")
    assert "depot-operators" in booted(*nobody, code=1)

    def main_pid() -> str:
        return booted("systemctl", "show", "-p", "MainPID", "--value", "depot")

    before = main_pid()
    booted("sh", "-c", f"kill -STOP {before}")  # hangs: the watchdog ends it, and it comes back
    until(lambda: main_pid() not in (before, "0"), "the watchdog restarts it")
    until(lambda: "CP001/1" in booted("depot", "status"), "it answers on the same socket")

    booted("dpkg", "-i", package(SECOND))
    assert booted("depot", "version") == f"depot {SECOND}"
    booted("systemctl", "is-active", "depot")
    booted("depot-upgrade", FIRST)
    assert booted("depot", "version") == f"depot {FIRST}"
    # a version that cannot be ready in that time: dpkg says so, and the one before runs
    booted("env", "DEPOT_READY_S=0.2", "dpkg", "-i", package(SECOND), code=1)
    assert booted("depot", "version") == f"depot {FIRST}"
    booted("systemctl", "is-active", "depot")
    began_s = time.monotonic()
    booted("systemctl", "stop", "depot")
    assert time.monotonic() - began_s < 10
    assert not (root / "run/depot/control.sock").exists()
    assert booted("systemctl", "show", "-p", "Result", "--value", "depot") == "success"
    assert "restored" in booted("depot", "restore", "/root/books.db")
    booted("systemctl", "start", "depot")
    booted("systemctl", "enable", "depot-export.timer")
    booted("dpkg", "-P", "depot")
    assert not (root / "opt/depot").exists()
    assert not list((root / "etc/systemd/system").rglob("depot*")), "nothing is left switched on"


@pytest.mark.deb
def test_a_wheel_that_was_touched_is_not_installed(packages: Path) -> None:
    package = built(FIRST, packages)
    place = packages / "unpacked"
    subprocess.run(["dpkg-deb", "-x", package, place], timeout=HUNG_S, check=True)
    version = place / "opt" / "depot" / FIRST
    wheel = next((version / "wheels").glob("ocpp-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    done = subprocess.run(
        [version / "make-venv"], capture_output=True, text=True, timeout=HUNG_S, check=False
    )
    assert done.returncode != 0
    assert "ocpp" in done.stderr and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (version / "venv" / ".complete").exists()
