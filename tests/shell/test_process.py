"""`depot` as a process: signals, pipes that close, and a run from READY to STOPPING."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.one_post import CONFIG

DEADLINE_S = 15.0


def start(arguments: Sequence[str], **more: object) -> subprocess.Popen[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    return subprocess.Popen([sys.executable, "-m", "controller", *arguments], **options)  # type: ignore[call-overload,no-any-return]


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what it said on stderr."""
    try:
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    return process.returncode, said or ""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "depot.toml"
    file.write_text(CONFIG)
    return file


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_run_is_ready_obeys_the_signal_and_leaves_nothing(
    config: Path, tmp_path: Path, which: signal.Signals
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE_S)
        process = start(["run", str(config)], env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        try:
            assert systemd.recv(4096).startswith(b"READY=1")
            began_s = time.monotonic()
            process.send_signal(which)
        finally:
            code, said = finished(process)
        assert time.monotonic() - began_s < 10
        heard: list[bytes] = []
        systemd.setblocking(False)
        while not heard or heard[-1] != b"STOPPING=1":
            heard.append(systemd.recv(4096))
    assert code == 0
    assert "Traceback" not in said
    assert not (tmp_path / "control.sock").exists()
    assert not list((tmp_path / "state").glob("*-wal")), "the books are closed"


def test_a_second_run_on_the_same_socket_is_one_line(config: Path, tmp_path: Path) -> None:
    first = start(["run", str(config)])
    try:
        deadline_s = time.monotonic() + DEADLINE_S
        while not (tmp_path / "control.sock").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        config.write_text(CONFIG.replace('"state"', '"other"'))
        code, said = finished(start(["run", str(config)]))
        assert code == 1
        assert "in use; is another depot running?" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert (tmp_path / "control.sock").exists()
    finally:
        first.terminate()
        assert finished(first)[0] == 0


@pytest.mark.parametrize("ui", [[], ["--ui"]])
def test_a_storage_that_cannot_be_is_one_line(config: Path, ui: list[str]) -> None:
    config.write_text(CONFIG.replace('"state"', '"depot.toml"'))
    code, said = finished(start(["run", str(config), *ui]))
    assert code == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("depot: ")


def test_a_port_that_is_taken_is_one_line(config: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config.write_text(CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        code, said = finished(start(["run", str(config)]))
    assert code == 1
    assert "Traceback" not in said
    assert f"depot: OCPP cannot listen on 127.0.0.1:{port}" in said.splitlines()[-1]


def test_ctrl_c_ends_a_waiting_command_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        mute.settimeout(DEADLINE_S)
        process = start(["status", "--socket", str(tmp_path / "mute.sock")])
        try:
            connection, _ = mute.accept()
            with connection:
                assert connection.recv(100), "it has asked and waits for the answer"
                process.send_signal(signal.SIGINT)
                code, said = finished(process)
        finally:
            process.kill()
    assert (code, said) == (1, "")


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["sessions", "--help"]])
def test_a_reader_that_has_gone_is_no_trouble(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = start(arguments, stdout=writing)
    finally:
        os.close(writing)
    assert finished(process) == (0, "")
