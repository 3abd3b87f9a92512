"""A real PostgreSQL on a free port, its files in a folder of its own. Tests skip where it is not installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

DEADLINE_S = 30.0
HBA = """\
local   all all                trust
hostssl all tlsonly  127.0.0.1/32 scram-sha-256
host    all tlsonly  127.0.0.1/32 reject
host    all +members 127.0.0.1/32 scram-sha-256
host    all trusted  127.0.0.1/32 trust
"""
SETTINGS = {
    "fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB", "max_connections": "30", "autovacuum": "off",
    "listen_addresses": "127.0.0.1", "log_min_messages": "fatal", "timezone": "UTC",
}  # fmt: skip


def _programs() -> Path | None:
    """Where the newest one is that can be run: as somebody, for it refuses to run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    beside = shutil.which("initdb")
    runs = os.getuid() != 0 or (shutil.which("setpriv") is not None and _owner() is not None)
    folders = [path.parent for path in found] + ([] if beside is None else [Path(beside).resolve().parent])
    complete = [folder for folder in folders if (folder / "postgres").is_file()]
    return complete[-1] if complete and runs else None


def _owner() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


PROGRAMS = _programs()
needed = pytest.mark.skipif(
    PROGRAMS is None, reason="PostgreSQL is not installed (apt install postgresql-15), or cannot be run here"
)


@dataclass
class Server:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def url(self, user: str, database: str, more: str = "") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{more}"

    def ask(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """As the one who may do all."""
        words = f"host={self.folder} port={self.port} dbname={database} user=root"
        with psycopg.connect(words, autocommit=True) as connection:
            found = connection.execute(query)  # type: ignore[arg-type]
            return found.fetchall() if found.description is not None else []

    def set(self, **settings: str) -> None:
        """Holds for connections made from now on."""
        for name, value in settings.items():
            self.ask("postgres", f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("postgres", "SELECT pg_reload_conf()")
        deadline_s = time.monotonic() + DEADLINE_S
        while any(self.ask("postgres", f"SHOW {name}") != [(value,)] for name, value in settings.items()):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

    def start(self) -> None:
        assert PROGRAMS is not None
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        where = ("-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder))
        self.process = subprocess.Popen(
            [*_somebody(), str(PROGRAMS / "postgres"), *where, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.ask("postgres", "SELECT 1")
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, "PostgreSQL does not start"
                assert time.monotonic() < deadline_s
                time.sleep(0.02)

    def stop(self) -> None:
        """At once: whoever is connected is cut off."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(DEADLINE_S)
            self.process = None


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Runs until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="depot-postgres-", dir="/tmp"))  # its socket's path must be short
    try:
        if os.getuid() == 0:
            owner = _owner()
            assert owner is not None
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        assert PROGRAMS is not None
        subprocess.run(
            [*_somebody(), str(PROGRAMS / "initdb"), "--no-sync", "--auth=trust", "--username=root",
             "--encoding=UTF8", "--locale=C", "-D", str(folder / "data")],
            stdout=subprocess.DEVNULL, check=True, cwd=folder,
        )  # fmt: skip
        (folder / "data" / "pg_hba.conf").write_text(HBA, encoding="ascii")
        made = Server(folder, free_port())
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _somebody() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    owner = _owner()
    assert owner is not None
    return [
        "setpriv",
        "--pdeathsig=QUIT",
        f"--reuid={owner.pw_uid}",
        f"--regid={owner.pw_gid}",
        "--clear-groups",
    ]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
