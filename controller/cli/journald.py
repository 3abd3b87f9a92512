"""Log records into the systemd journal with fields to search by, instead of as lines.

Owns the datagrams. DEPOT_CHARGER and DEPOT_CHANNEL say whom a record is about, MESSAGE_ID is the same for every record
that is worded the same (`journalctl MESSAGE_ID=...` shows one kind of event). A journal that does not take them gets lines
on stderr. Must not wait: a full socket costs the record its fields. Source: systemd's native journal protocol;
$JOURNAL_STREAM in systemd.exec(5).
"""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import sys
import uuid
from collections.abc import Collection
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
NAMESPACE = uuid.UUID("6f0d3a52-57a5-4c0e-9d52-6f1f7a1f6c39")
LONGEST = 30_000  # of a field: with the others it fits into one datagram
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_FAMILY = re.compile(r"drivers\.(\w+)")


def connected(stream: int = 2) -> bool:
    """Our stderr is the journal's: then it is there, and reads what comes by the socket too."""
    told = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream)
    except OSError:
        return False
    return told == f"{status.st_dev}:{status.st_ino}" and SOCKET.exists()


class JournalHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """`names`: stations and EVSEs, to be found among what a record is made from."""

    def __init__(self, names: Collection[str], path: Path | None = None) -> None:
        super().__init__(sys.stderr)
        self._names = frozenset(names)
        self._path = str(path or SOCKET)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.sendto(b"".join(_field(*pair) for pair in self._fields(record)), self._path)
        except OSError:
            super().emit(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> list[tuple[str, str]]:
        fields = [
            ("MESSAGE", self.format(record)),
            ("PRIORITY", str(next((out for level, out in _PRIORITIES if record.levelno >= level), 7))),
            ("SYSLOG_IDENTIFIER", "depot"),
            ("MESSAGE_ID", uuid.uuid5(NAMESPACE, f"{record.name} {record.msg}").hex),
            ("CODE_FILE", record.pathname),
            ("CODE_LINE", str(record.lineno)),
            ("CODE_FUNC", record.funcName or ""),
            ("DEPOT_LOGGER", record.name),
        ]
        if (family := _FAMILY.match(record.name)) is not None:
            fields.append(("DEPOT_CHANNEL", family[1]))
        given = record.args if isinstance(record.args, tuple) else ()
        about = [each for each in given if isinstance(each, str) and each in self._names]
        return [*fields, *(("DEPOT_CHARGER", name) for name in dict.fromkeys(about))]


def _field(name: str, value: str) -> bytes:
    """Text with line breaks goes with its length before it."""
    content = value.encode(errors="replace")[:LONGEST]
    if b"\n" not in content:
        return name.encode() + b"=" + content + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(content)) + content + b"\n"
