"""Socket activation: the control socket that systemd opened is used as it is, and outlives us; a wrong one is one line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_depot import caller, small_depot
from test_process import DEADLINE_S, finished

from controller.activation import FIRST_FD, inherited
from drivers.errors import Misconfigured
from tests.one_post import CONFIG


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment that systemd makes, with one descriptor."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    return monkeypatch


def at(handed: pytest.MonkeyPatch, given: int) -> None:
    """pytest has descriptor 3 itself: the socket stays where it is, and that counts as the first."""
    handed.setattr("controller.activation.FIRST_FD", given)


async def test_a_depot_answers_on_the_socket_it_was_given_and_leaves_it(
    tmp_path: Path, handed: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control.sock"
    with listening(path) as given:
        at(handed, given.fileno())
        path.chmod(0o600)
        async with small_depot(tmp_path) as depot, caller(depot.socket) as client:
            assert (await client.call("status"))["evses"]
        assert path.exists() and path.stat().st_mode & 0o777 == 0o600, "as systemd made it"
        with socket.socket(socket.AF_UNIX) as waits:
            waits.connect(str(path))  # the next start will answer


def test_without_activation_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert inherited(tmp_path / "control.sock") is None


def test_what_was_meant_for_our_parent_is_not_ours(tmp_path: Path, handed: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control.sock"
    with listening(path) as given:
        at(handed, given.fileno())
        handed.setenv("LISTEN_PID", str(os.getppid()))
        assert inherited(path) is None


@pytest.mark.parametrize("told", ["", "0", "-1", "many", "²", "99999999"])
def test_a_count_that_makes_no_sense_is_refused(
    tmp_path: Path, handed: pytest.MonkeyPatch, told: str
) -> None:
    handed.setenv("LISTEN_FDS", told)
    with pytest.raises(Misconfigured, match="makes no sense"):
        inherited(tmp_path / "control.sock")


def test_a_socket_at_another_path_is_refused_with_both(tmp_path: Path, handed: pytest.MonkeyPatch) -> None:
    with listening(tmp_path / "other.sock") as given:
        at(handed, given.fileno())
        with pytest.raises(Misconfigured, match=r"control\.sock: depot\.socket listens on .*other\.sock"):
            inherited(tmp_path / "control.sock")


def test_what_is_no_listening_unix_socket_is_refused(tmp_path: Path, handed: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as gone:
        closed = gone.fileno()
        gone.close()
        idle.bind(str(tmp_path / "control.sock"))
        for number in (reading, tcp.fileno(), idle.fileno(), closed):
            at(handed, number)
            with pytest.raises(Misconfigured, match="no Unix socket"):
                inherited(tmp_path / "control.sock")
    os.close(reading)
    os.close(writing)


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "controller", "run", sys.argv[2]])
"""


def test_a_process_that_was_activated_serves_and_leaves_the_socket(tmp_path: Path) -> None:
    """As systemd does it: the process is given descriptor 3."""
    assert FIRST_FD == 3
    config, path = tmp_path / "depot.toml", tmp_path / "control.sock"
    config.write_text(CONFIG)
    with listening(path) as given:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(given.fileno()), str(config)],
            pass_fds=[given.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            client.connect(str(path))  # queues at systemd's socket until the depot serves
            client.sendall(b'{"id": 1, "call": "status"}\n')
            answer = json.loads(client.makefile().readline())
        assert answer["ok"]["evses"]
    finally:
        process.terminate()
        code, said = finished(process)
    assert (code, "Traceback" in said) == (0, False)
    assert path.exists()
