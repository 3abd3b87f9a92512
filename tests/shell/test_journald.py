"""Records into the journal: the real socket protocol, read as the journal does."""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.cli import journald
from controller.cli.journald import JournalHandler, connected


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "journal"))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    handler = JournalHandler(["CP001", "CP001/1"], tmp_path / "journal")
    logger = logging.Logger("drivers.ocpp.server")
    logger.addHandler(handler)
    yield logger
    handler.close()


def read(datagram: bytes) -> list[tuple[str, str]]:
    found = []
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        found.append((name.decode(), value.decode()))
        datagram = rest
    return found


def test_a_record_has_fields_to_search_by(journal: socket.socket, log: logging.Logger) -> None:
    log.warning("%s: %s came from %s", "CP001", "a frame", "10.0.4.7")
    fields = dict(read(journal.recv(65536)))
    assert fields["MESSAGE"] == "CP001: a frame came from 10.0.4.7"
    assert fields["PRIORITY"] == "4" and fields["SYSLOG_IDENTIFIER"] == "depot"
    assert fields["DEPOT_CHARGER"] == "CP001" and fields["DEPOT_CHANNEL"] == "ocpp"
    assert fields["CODE_FILE"] == __file__


def test_what_is_worded_the_same_has_the_same_id(journal: socket.socket, log: logging.Logger) -> None:
    ids = []
    for words in (("%s is gone", "CP001"), ("%s is gone", "CP001/1"), ("%s is back", "CP001")):
        log.info(*words)
        ids.append(dict(read(journal.recv(65536)))["MESSAGE_ID"])
    assert ids[0] == ids[1] != ids[2]
    assert all(len(id) == 32 and set(id) <= set("0123456789abcdef") for id in ids)


def test_a_traceback_keeps_its_lines(journal: socket.socket, log: logging.Logger) -> None:
    try:
        raise ValueError("MESSAGE=forged")
    except ValueError:
        log.exception("failed\nPRIORITY=0")
    fields = read(journal.recv(65536))
    assert [name for name, _ in fields].count("PRIORITY") == 1
    message = dict(fields)["MESSAGE"]
    assert message.startswith("failed\nPRIORITY=0\nTraceback") and message.endswith(
        "ValueError: MESSAGE=forged"
    )


def test_a_record_of_any_length_fits(journal: socket.socket, log: logging.Logger) -> None:
    log.error("x" * 1_000_000)
    assert len(dict(read(journal.recv(1_000_000)))["MESSAGE"]) == journald.LONGEST


def test_without_a_journal_it_is_a_line(
    tmp_path: Path, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = log.handlers[0]
    assert isinstance(handler, JournalHandler)
    handler.setStream(sys.stderr)
    log.error("nobody listens")
    assert capsys.readouterr().err == "nobody listens\n"


def test_only_a_stderr_that_is_the_journals_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journald, "SOCKET", tmp_path)
    with (tmp_path / "stderr").open("w") as file:
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert connected(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert not connected(file.fileno())
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not connected()
