"""Readers of values that name files: places to write, secrets, keys and certificates.

Owns who may read a secret (nobody but its owner, or systemd's credential of the same name) and says it when others
may. Must not keep a file open. Source: INTERFACE section 3, last paragraph.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from controller.config.values import Wrong, quoted, text

SECRET_MAX_BYTES = 4096  # a key, not a document
PEM_MAX_BYTES = 100_000  # a certificate with its whole chain
FOLDER_PREFIX = "depot_"  # our unit loads a whole folder of credentials under this name

_MAKE_PRIVATE = "create it with mode 600"


def path_below(base: Path) -> Callable[[object], Path]:
    return lambda value: base / text(value)


def socket_path(base: Path) -> Callable[[object], Path]:
    def read(value: object) -> Path:
        path = base / text(value)
        if len(os.fsencode(path)) > 107:  # sockaddr_un of Linux, less the closing zero
            raise Wrong(
                "a socket path has at most 107 bytes", f"this one has {len(os.fsencode(path))}: shorten it"
            )
        return path

    return read


def secret(base: Path) -> Callable[[object], str]:
    """The content of a secret file; a systemd credential with the same file name comes first."""

    def read(value: object) -> str:
        name = text(value)
        path, private = _place_of(base, name)
        content = _bytes_in(path, name, SECRET_MAX_BYTES, private, _MAKE_PRIVATE)
        try:
            found = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Wrong(
                f"{quoted(name)} is not UTF-8 text", "write the secret into it as one line of text"
            ) from None
        if not found.strip():
            raise Wrong(f"{quoted(name)} is empty", "write the secret into it as one line of text")
        if len(content) > SECRET_MAX_BYTES or not found.isprintable():
            raise Wrong(f"{quoted(name)} is not one line of text", "write only the secret into it")
        return found

    return read


def key_file(base: Path) -> Callable[[object], Path]:
    """The path of a private key in PEM; a systemd credential with the same file name comes first."""

    def read(value: object) -> Path:
        name = text(value)
        path, private = _place_of(base, name)
        content = _bytes_in(path, name, PEM_MAX_BYTES, private, _MAKE_PRIVATE)
        if b"PRIVATE KEY" not in content:
            raise Wrong(f"{quoted(name)} holds no private key in PEM", "name the file of the server's key")
        if b"ENCRYPTED" in content:  # a process without a terminal would wait for the passphrase for ever
            raise Wrong(f"{quoted(name)} needs a passphrase", "store the key without one, with mode 600")
        return path

    return read


def certificate_file(base: Path) -> Callable[[object], Path]:
    """The path of a certificate in PEM; whether it fits its key shows where it is used."""

    def read(value: object) -> Path:
        name = text(value)
        content = _bytes_in(base / name, name, PEM_MAX_BYTES, False, "check the path and the rights")
        if b"BEGIN CERTIFICATE" not in content:
            raise Wrong(
                f"{quoted(name)} holds no certificate in PEM", "name the file of the server's certificate"
            )
        return base / name

    return read


def _place_of(base: Path, name: str) -> tuple[Path, bool]:
    """Where a secret lies, and whether its own mode must keep others out: a credential is guarded by the directory
    systemd made, and under an access list the file's own mode says nothing."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        for prefix in ("", FOLDER_PREFIX):
            credential = Path(credentials) / (prefix + Path(name).name)
            if credential.is_file():
                return credential, False
    return base / name, True


def _bytes_in(path: Path, name: str, most: int, private: bool, advice: str) -> bytes:
    """The content, cut one byte above `most`."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Wrong(f"{quoted(name)} is not a file", "name a file that holds only the secret")
            if private and status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise Wrong(f"{quoted(name)} is open to others (mode {mode:04o})", f"run: chmod 600 {name}")
            return file.read(most + 1)
    except OSError as error:
        raise Wrong(f"{quoted(name)} cannot be read: {error.strerror or 'not usable'}", advice) from None


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe must not hold up the start for ever."""
    return os.open(path, flags | os.O_NONBLOCK)
