"""What the on-site host must not forget: identities it gave out, what each charger was in the middle of, stored schedules.

Owns two files. `PATH` is one small JSON document, replaced as a whole: written beside, synced, renamed, the directory
synced; a crash leaves the old one or the new one. `PATH.records` is a journal of the session records taken in the last
30 days, one line each, so that a record sent again after any restart is known; a torn last line is dropped. Both are
written in a thread, and `commit` returns when the change is on the disk: whoever answers a charger awaits it first.

A secret is kept only as a keyed digest. The key also makes the ids of chargers and commands, so that a command of an
earlier run is recognised without having been stored. A document that cannot be read is never thrown away, because that
would lock every charger out: a person must act. Must not know HTTP or events.
Source: GAPS G-03, G-04, G-11, G-19.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from drivers.errors import DriverError, Misconfigured

RECORDS_KEPT = timedelta(days=30)
RECORDS_MOST = 100_000
_VERSION = 1


class VaultFull(DriverError):
    """The disk did not take it: nothing may be acknowledged that relies on it."""

    kind = "unstored"


@dataclass(frozen=True, slots=True)
class Identity:
    """A registered charger. `secret` is the keyed digest, in hex."""

    secret: str
    vendor: str
    model: str
    firmware: str


class Vault:
    """Call `open` before anything else. Not for use by two processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = path.with_name(path.name + ".records")
        self._key = b""
        self._identities: dict[str, Identity] = {}
        self._memories: dict[str, Mapping[str, Any]] = {}
        self._schedules: dict[str, Mapping[str, Any]] = {}
        self._records: dict[str, date] = {}
        self._changes = 0  # made so far
        self._written = 0  # of these on the disk
        self._writing = threading.Lock()

    async def open(self, today: date) -> None:
        """Reads both files, or begins new ones. Raises Misconfigured when they cannot be read or written."""
        try:
            await asyncio.to_thread(self._load, today)
        except OSError as error:
            raise Misconfigured(f"{self._path}: {error.strerror or error}") from None

    # --- chargers -----------------------------------------------------------------------------------------------------

    def device_id(self, serial: str) -> str:
        """The same for ever, and known before the charger registers."""
        return f"dvc_{self.tag('device', serial)}"

    def identity(self, serial: str) -> Identity | None:
        return self._identities.get(serial)

    def enrol(self, serial: str, vendor: str, model: str, firmware: str) -> str:
        """Gives out a new secret, shown this once; `commit` before it leaves the house."""
        secret = secrets.token_urlsafe(32)
        self._identities[serial] = Identity(self._digest("secret", secret), vendor, model, firmware)
        self._changes += 1
        return secret

    def forget(self, serial: str) -> None:
        """The charger may register again."""
        self._identities.pop(serial, None)
        self._changes += 1

    def has_secret(self, serial: str, secret: str) -> bool:
        """In constant time, and just as long for a charger that never registered."""
        known = self._identities.get(serial)
        expected = "" if known is None else known.secret
        return hmac.compare_digest(self._digest("secret", secret), expected.ljust(64, "-"))

    def runs(self, serial: str, firmware: str) -> None:
        """The charger installed this build."""
        known = self._identities[serial]
        self._identities[serial] = Identity(known.secret, known.vendor, known.model, firmware)
        self._changes += 1

    # --- what they were doing -----------------------------------------------------------------------------------------

    def memory(self, station: str) -> Mapping[str, Any]:
        """What was saved last about this station; empty if nothing was."""
        return self._memories.get(station, {})

    def remember(self, station: str, memory: Mapping[str, Any]) -> None:
        if self.memory(station) != memory:
            self._memories[station] = memory
            self._changes += 1

    def schedule(self, evse: str) -> Mapping[str, Any] | None:
        """The copy of what was stored in the charger, which cannot be read back (G-11)."""
        return self._schedules.get(evse)

    def keep_schedule(self, evse: str, schedule: Mapping[str, Any]) -> None:
        self._schedules[evse] = schedule
        self._changes += 1

    async def commit(self) -> None:
        """Returns when everything changed so far is on the disk; at once when it is. Raises VaultFull."""
        if self._changes > self._written:
            await self._in_thread(self._replace, self._changes, self._document())

    # --- records ------------------------------------------------------------------------------------------------------

    def has_record(self, serial: str, record: str) -> bool:
        return self.tag(serial, record) in self._records

    async def keep_record(self, serial: str, record: str, today: date) -> None:
        """Returns when the record is known for good. Raises VaultFull."""
        name = self.tag(serial, record)
        await self._in_thread(self._append, f"{today.isoformat()} {name}\n")
        self._records[name] = today
        if len(self._records) > RECORDS_MOST:
            del self._records[next(iter(self._records))]

    def tag(self, kind: str, name: str) -> str:
        """A short keyed digest: only this vault can make it."""
        return self._digest(kind, name)[:12]

    # --- the disk (in a thread, one at a time) ------------------------------------------------------------------------

    async def _in_thread(self, work: Any, *arguments: Any) -> None:
        try:
            await asyncio.to_thread(work, *arguments)
        except OSError as error:
            raise VaultFull(f"{self._path}: {error.strerror or error}") from None

    def _document(self) -> str:
        identities = {serial: asdict(identity) for serial, identity in self._identities.items()}
        return json.dumps(
            {
                "version": _VERSION,
                "key": self._key.hex(),
                "identities": identities,
                "stations": self._memories,
                "schedules": self._schedules,
            }
        )

    def _replace(self, change: int, document: str) -> None:
        with self._writing:
            if change <= self._written:  # a newer state, which contains this one, was quicker
                return
            beside = self._path.with_name(self._path.name + ".new")
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
            _sync_folder(self._path.parent)
            self._written = change

    def _append(self, line: str) -> None:
        with self._writing:
            handle = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(handle, "a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def _load(self, today: date) -> None:
        if self._path.exists():
            self._read(self._path.read_text(encoding="utf-8", errors="replace"))
        else:
            self._key = secrets.token_bytes(32)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._changes += 1
            self._replace(self._changes, self._document())
        if self._journal.exists():
            self._read_journal(today)

    def _read(self, text: str) -> None:
        try:
            document = json.loads(text)
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']}")
            self._key = bytes.fromhex(document["key"])
            self._identities = {s: Identity(**fields) for s, fields in document["identities"].items()}
            self._memories = dict(document["stations"])
            self._schedules = dict(document["schedules"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Misconfigured(
                f"{self._path} cannot be read ({error}): bring it back from a backup, or remove it and let every charger"
                " register again"
            ) from None

    def _read_journal(self, today: date) -> None:
        """Keeps the last 30 days, and writes the rest out of the file."""
        text = self._journal.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines()
        for line in lines:
            day, _, name = line.partition(" ")
            try:
                taken = date.fromisoformat(day)
            except ValueError:  # torn by a power cut: that record was never acknowledged
                continue
            if today - taken <= RECORDS_KEPT and len(name) == 12:
                self._records[name] = taken
        if len(self._records) < len(lines) or not text.endswith("\n"):
            beside = self._journal.with_name(self._journal.name + ".new")
            beside.write_text("".join(f"{day} {name}\n" for name, day in self._records.items()))
            os.replace(beside, self._journal)

    def _digest(self, kind: str, name: str) -> str:
        message = f"{kind}\0{name}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
