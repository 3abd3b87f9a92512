"""The real `depot run` as its own process, between simulators in processes of theirs: nothing shared but sockets.

Everything a person types is typed here too: the outcome is what is printed and the exit code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

WITHIN_S = 40.0
PASSWORD = "correct horse battery"
T = TypeVar("T")


def until(found: Callable[[], T | None], what: str) -> T:
    """The first truthy answer of `found`, asked again until the deadline."""
    deadline_s = time.monotonic() + WITHIN_S
    while not (value := found()):
        assert time.monotonic() < deadline_s, f"{what}: not within {WITHIN_S:.0f} s"
        time.sleep(0.05)
    return value


def depot(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller", *arguments], capture_output=True, text=True, timeout=WITHIN_S
    )


@contextmanager
def process(log: Path, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to `log`; ended at the end, if it has not ended by itself."""
    with log.open("wb") as output:
        started = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=output, stderr=output)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        finally:
            started.kill()
            started.wait()


def config(folder: Path, meter_port: int | None = None, more: str = "") -> Path:
    """A site with one station of three EVSEs; without a meter the background load is assumed. `more`: further tables."""
    secret = folder / "station.secret"
    secret.touch(mode=0o600)
    secret.write_text(PASSWORD)
    address = f'address = "tcp://127.0.0.1:{meter_port}/1"'
    path = folder / "depot.toml"
    lines = [
        "[site]", 'name = "Apart"', 'timezone = "Europe/Amsterdam"', 'limit = "80 A"', 'assumed_load = "30 A"',
        *(['meter = "main"', "[meter.main]", 'kind = "sdm630"', address, 'poll = "0.1 s"'] if meter_port else []),
        "[ocpp]", 'listen = "127.0.0.1:0"', 'unknown_tokens = "accept"',
        "[station.CP001]", 'circuit = "site"', 'fallback = "6 A"', 'ocpp = { password_file = "station.secret" }',
        *(f'evse.{n} = {{ max = "16 A", min = "6 A", phases = "L1 L2 L3" }}' for n in (1, 2, 3)),
        "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"',
    ]  # fmt: skip
    path.write_text("\n".join(lines) + more)
    return path


@dataclass
class Running:
    """One controller process and its folder."""

    folder: Path
    controller: subprocess.Popen[bytes]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self.controller.poll() is None, (self.folder / "depot.log").read_text()
        return depot(*arguments, "--socket", str(self.folder / "control.sock"))

    def status(self) -> dict[str, Any] | None:
        """None while nothing listens there yet."""
        answer = self.ask("status", "--json")
        assert answer.returncode in (0, 3), answer.stderr
        return dict(json.loads(answer.stdout)) if answer.returncode == 0 else None

    def evse(self, number: int) -> dict[str, Any]:
        status = self.status()
        assert status is not None
        return dict(next(evse for evse in status["evses"] if evse["id"] == f"CP001/{number}"))

    def ocpp_port(self) -> int | None:
        channels = (self.status() or {"channels": []})["channels"]
        return next((int(c["text"].rpartition(" ")[2]) for c in channels if c["id"] == "ocpp"), None)


@contextmanager
def running(folder: Path, meter_port: int | None = None, more: str = "") -> Iterator[Running]:
    """A controller and, once it listens, a charger with three vehicles."""
    path = config(folder, meter_port, more)
    with ExitStack() as stack:
        controller = stack.enter_context(process(folder / "depot.log", "controller", "run", str(path)))
        one = Running(folder, controller)
        port = until(one.ocpp_port, "the OCPP port")
        url, currents = f"ws://127.0.0.1:{port}/ocpp", str(folder / "currents")
        options = ["--url", url, "--id", "CP001", "--password-file", str(folder / "station.secret")]
        options += ["--connectors", "3", "--max", "16", "--vehicle-after", "0s", "--currents", currents]
        stack.enter_context(process(folder / "charger.log", "drivers.sim", "charger", *options))
        yield one


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With a meter that sees 20 A of building and whatever the charger draws."""
    folder = tmp_path_factory.mktemp("apart")
    log = folder / "meter.log"
    watched = ("--watch-chargers", str(folder / "currents"))
    with process(log, "drivers.sim", "meter", "--load", "20 A", *watched):

        def address() -> str | None:
            lines = [line for line in log.read_text().splitlines() if line.startswith("meter: ")]
            return lines[0] if lines else None

        port = int(until(address, "the meter's port").rpartition(":")[2].partition("/")[0])
        with running(folder, port) as one:
            yield one


def charging(site: Running, number: int) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        evse = site.evse(number)
        flows = any(amps is not None and amps > 5 for amps in evse["measured_a"])
        return evse if evse["state"] == "charging" and flows and evse["commanded_a"] is not None else None

    return until(found, f"EVSE {number} charges")


def stages(answer: subprocess.CompletedProcess[str]) -> list[str]:
    assert answer.returncode == 0, answer.stderr
    return [line.split()[1] for line in answer.stdout.splitlines()]


def test_status_shows_the_five_amps_of_a_charging_evse(site: Running) -> None:
    evse = charging(site, 1)
    status = site.status()
    assert status is not None
    assert evse["connected"] and evse["channels"] == ["ocpp1.6"]
    assert evse["limit_a"] == 16
    assert 6 <= evse["grant_a"] <= 16
    assert 6 <= evse["commanded_a"] <= 16 and evse["accepted_a"] is not None
    assert all(5 < amps <= evse["commitment_a"] + 1 for amps in evse["measured_a"])
    assert evse["session"]["token"].endswith("B3C4")
    (main,) = status["meters"]
    assert main["quality"] == "good" and main["current_a"][0] > 20
    (circuit,) = status["circuits"]
    assert max(circuit["committed_a"]) <= 80


def test_orders_print_their_stages(site: Running) -> None:
    charging(site, 1), charging(site, 2)
    assert stages(site.ask("pause", "CP001/1")) == ["sent", "accepted", "applied", "measured"]
    assert site.evse(1)["state"] == "suspended-evse"
    assert stages(site.ask("stop", "CP001/2")) == ["sent", "accepted", "applied", "measured"]
    assert site.evse(2)["session"] is None
    assert stages(site.ask("resume", "CP001/1")) == ["sent", "accepted", "applied", "measured"]
    assert max(site.evse(1)["measured_a"]) > 0.5  # it ramps up


def test_lists_come_through_the_command_line(site: Running) -> None:
    charging(site, 3)
    sessions = site.ask("sessions", "--json")
    assert sessions.returncode == 0, sessions.stderr
    assert "CP001/3" in {one["evse"] for one in json.loads(sessions.stdout)}
    channels = site.ask("channels", "--json")
    assert channels.returncode == 0, channels.stderr
    assert [(one["id"], one["state"]) for one in json.loads(channels.stdout)] == [("ocpp", "ok")]


def test_exit_codes_tell_what_to_do_next(site: Running, tmp_path: Path) -> None:
    refused = site.ask("pause", "CP999/1")
    assert refused.returncode == 1 and "CP999/1" in refused.stderr and len(refused.stderr.splitlines()) == 1
    wrong = site.ask("limit", "CP001/1", "ten amps")
    assert wrong.returncode == 2 and "ten amps" in wrong.stderr
    nobody = depot("status", "--socket", str(tmp_path / "nobody.sock"))
    assert nobody.returncode == 3 and len(nobody.stderr.splitlines()) == 1
    assert "Traceback" not in refused.stderr + wrong.stderr + nobody.stderr


def test_check_lists_every_mistake_with_its_line(tmp_path: Path) -> None:
    path = config(tmp_path)
    assert depot("check", str(path)).returncode == 0
    path.write_text(path.read_text().replace('"80 A"', '"80"').replace("fallback", "fallbak"))
    answer = depot("check", str(path))
    assert answer.returncode == 1 and answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert any(f"{path}:4:" in line and "80" in line for line in lines)
    assert any("fallbak" in line and "fallback" in line for line in lines)
    assert all(line.startswith("depot: ") for line in lines)


def test_a_second_controller_on_the_same_socket_is_refused(site: Running, tmp_path: Path) -> None:
    path = config(tmp_path)
    socket = os.path.relpath(site.folder / "control.sock", tmp_path)
    path.write_text(path.read_text().replace("control.sock", socket))
    answer = depot("run", str(path))
    assert answer.returncode == 1
    said = [line for line in answer.stderr.splitlines() if line.startswith("depot: ")]
    assert len(said) == 1 and "another depot" in said[0]
    assert "Traceback" not in answer.stderr
    assert site.status() is not None  # and the first one did not lose its socket


def test_sigterm_ends_it_cleanly_while_vehicles_charge(tmp_path: Path) -> None:
    with running(tmp_path) as one:
        until(lambda: one.evse(1)["session"], "a session")
        one.controller.send_signal(signal.SIGTERM)
        assert one.controller.wait(10) == 0
        log = (tmp_path / "depot.log").read_text()
        assert "Traceback" not in log and "ERROR" not in log
        assert not (tmp_path / "control.sock").exists()
