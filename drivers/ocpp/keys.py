"""The passwords of stations: keyed digests, and the change from one password to the next.

Owns which password opens for which station. A password is kept only as a digest under a key of our own: passwords are
long and random, so a fast digest is enough, and a slow one would hold up everybody while fifty stations come back at once
(34 us against 40-140 ms each). A change has two ends and a link between them that may break: the new password is written
down first, both open from then on, and the old one stops when the station has come with the new one.

The file holds digests only, is written as a whole (beside, synced, renamed) and is of mode 0600. A password that the
operator writes into the config later replaces whatever was made here. Must not know how a station is told.
Source: OCPP 1.6 security whitepaper sections 3.5.1 and 4 (AuthorizationKey), OCPP 2.0.1 part 2 A01 (BasicAuthPassword).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import string
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.core.model import StationId
from drivers.errors import Misconfigured, Refused

log = logging.getLogger(__name__)

FILE = "ocpp-keys.json"
MOST_OFFERED = 3  # changes whose end nobody knows; all of them open until the station has come with one
# 20 bytes are what an AuthorizationKey may have at most; readable ones can also be typed in, and are legal in 2.x
_LENGTH = 20
_SIGNS = string.ascii_letters + string.digits
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}){16,}")
_VERSION = 1


@dataclass(slots=True)
class _Held:
    """Digests of one station. `configured`: of the password in the config; `current`: the one made here that took its
    place; `offered`: sent to the station, which has not come with it yet, oldest first."""

    configured: str
    current: str | None = None
    offered: list[str] = field(default_factory=list)

    def opening(self) -> list[str]:
        """Always as many as there can be, so that nobody can measure how many there are."""
        held = [self.current or self.configured, *self.offered]
        return held + [""] * (1 + MOST_OFFERED - len(held))


class Keys:
    """`passwords`: what the config says, by station. Without a `path` changes live as long as the process."""

    def __init__(self, passwords: Mapping[StationId, str], path: Path | None = None) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        self._held: dict[StationId, _Held] = {}
        self._nobody = _Held("")
        self._writing = asyncio.Lock()
        self._saving: set[asyncio.Task[None]] = set()
        self._passwords = passwords
        self._hold()

    def open(self) -> None:
        """Reads what was changed in earlier runs. Raises Misconfigured when the file cannot be used: to start without
        it would lock out every station whose password was changed."""
        if self._path is None:
            return
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            self._key = bytes.fromhex(document["key"])
            known = {
                StationId(name): _Held(each["configured"], each["current"], list(each["offered"]))
                for name, each in document["stations"].items()
            }
        except FileNotFoundError:
            return
        except OSError as error:
            raise Misconfigured(f"{self._path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Misconfigured(
                f"{self._path} cannot be read: bring it back from a backup, or remove it and give the stations"
                " the passwords of the config again"
            ) from None
        self._hold()
        for station, held in known.items():
            mine = self._held.get(station)
            if mine is not None and mine.configured == held.configured:
                self._held[station] = held
            elif mine is not None:
                log.info("%s: the password in the config is newer than the one made here", station)

    def _hold(self) -> None:
        self._held = {
            station: _Held(self._digest(station, password.encode()))
            for station, password in self._passwords.items()
        }

    def has(self, station: StationId) -> bool:
        return station in self._held

    def fits(self, station: StationId, given: bytes) -> bool:
        """The same work whether the station is known or not. A new password that fits is the only one from now on."""
        held = self._held.get(station, self._nobody)
        digest = self._digest(station, given)
        fitting = [hmac.compare_digest(digest, each.ljust(len(digest), "-")) for each in held.opening()]
        if held is self._nobody or not any(fitting):
            return False
        at = fitting.index(True)
        if at > 0:
            held.current, held.offered = held.offered[at - 1], held.offered[at:]
            log.info("%s came with its new password; the old one is void", station)
            self._save_soon()
        return True

    async def change(self, station: StationId, tell: Callable[[str], Awaitable[None]]) -> None:
        """Makes a new password and has the station told. Raises what `tell` raises: after Refused everything is as
        before; after anything else nobody knows whether the station took it, and both open."""
        held = self._held.get(station)
        if held is None:
            raise Misconfigured(f"{station} has no password; write password_file for it into the config")
        if len(held.offered) >= MOST_OFFERED:
            raise Refused(
                f"{station} has not come with a new password after {MOST_OFFERED} changes; let it reconnect first"
            )
        password = "".join(secrets.choice(_SIGNS) for _ in range(_LENGTH))
        digest = self._digest(station, password.encode())
        held.offered.append(digest)
        await self.save()
        try:
            await tell(password)
        except Refused as refused:
            if not getattr(refused, "perhaps_done", False) and digest in held.offered:
                held.offered.remove(digest)
                await self.save()
            raise

    async def put(self, station: StationId, password: str) -> None:
        """This password opens from now on, and no other. For a station that was given it in another way."""
        held = self._held.setdefault(station, _Held(""))
        held.current, held.offered = self._digest(station, password.encode()), []
        await self.save()

    async def forget(self, station: StationId) -> None:
        """The password of the config opens again, and no other."""
        held = self._held.get(station)
        if held is None:
            raise Misconfigured(f"{station} has no password; write password_file for it into the config")
        held.current, held.offered = None, []
        await self.save()

    async def save(self) -> None:
        """Returns when the file holds what is known now. Raises Misconfigured when the disk does not take it."""
        if self._path is None:
            return
        async with self._writing:
            stations = {
                station: {"configured": held.configured, "current": held.current, "offered": held.offered}
                for station, held in self._held.items()
                if held.current is not None or held.offered
            }
            document = {"version": _VERSION, "key": self._key.hex(), "stations": stations}
            try:
                await asyncio.to_thread(replace_file, self._path, json.dumps(document, indent=1).encode())
            except OSError as error:
                raise Misconfigured(f"{self._path}: {error.strerror or error}") from None

    async def settle(self) -> None:
        """Returns when nothing is being written any more."""
        await asyncio.gather(*self._saving)

    def _save_soon(self) -> None:
        """A confirmed change may be lost in a crash: the password is still written down as an offered one."""
        task = asyncio.get_running_loop().create_task(self._save_or_say())
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _save_or_say(self) -> None:
        try:
            await self.save()
        except Misconfigured as error:
            log.error("a changed password is not stored: %s", error)

    def _digest(self, station: StationId, password: bytes) -> str:
        return hashlib.blake2b(b"\0".join((station.encode(), _bare(password))), key=self._key).hexdigest()


def _bare(password: bytes) -> bytes:
    """Key bytes may come as such or in hex, and some stations send the hex they were configured with: all the same."""
    while _HEX.fullmatch(password):
        password = bytes.fromhex(password.decode())
    return password


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """The old file or the new one, whatever happens in between. A file that root makes belongs to whom the folder does."""
    beside = path.with_name(f".{path.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
