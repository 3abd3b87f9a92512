"""Who may come in: identity from the path, HTTP Basic password, subprotocol, and a limit on guessing.

Owns the decision before the WebSocket exists. Must not tell a stranger whether an identity exists: unknown identity and
wrong password cost the same work and get the same answer. Source: OCPP-J 1.6 sections 3.1 and 6, security extension
profiles 0-2; the path variants are what stations make of the URL a technician typed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from time import monotonic
from urllib.parse import unquote

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from controller.core.events import AccessRefused
from controller.core.model import StationId
from drivers.ocpp.frames import clean
from drivers.ocpp.settings import StationSettings

log = logging.getLogger(__name__)

GUESSES = 10  # failures one address may have in a row: a station with a typing error retries about this often
GUESS_EVERY_S = 6.0  # then one more each
REFUSED_EVERY_S = 10.0  # one event per identity and this long
_REMEMBERED = 1024  # addresses and identities; the oldest is forgotten first

_IDENTITY = re.compile(r"[A-Za-z0-9_.:-]{1,48}")


def identity_of(path: str) -> StationId | None:
    """The identity in `/ocpp/ID`, `/ID`, with a trailing slash, a query, an absolute form or percent signs (decoded
    once); None when there is none that could be a station's."""
    path = path.partition("?")[0]
    if "://" in path:
        path = path.partition("://")[2].partition("/")[2]
    segments = path.removeprefix("/").removesuffix("/").split("/")
    if len(segments) == 2 and segments[0] == "ocpp":
        segments = segments[1:]
    if len(segments) != 1:
        return None
    identity = unquote(segments[0])
    return StationId(identity) if _IDENTITY.fullmatch(identity) else None


class Guesses:
    """Failed attempts per address: `GUESSES` in a burst, then one every `GUESS_EVERY_S`."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._full_again_s: OrderedDict[str, float] = OrderedDict()

    def used_up(self, address: str) -> bool:
        ahead_s = self._full_again_s.get(address, 0.0) - self._now_s()
        return ahead_s > (GUESSES - 1) * GUESS_EVERY_S

    def note_failure(self, address: str) -> None:
        at_s = max(self._full_again_s.pop(address, 0.0), self._now_s()) + GUESS_EVERY_S
        self._full_again_s[address] = at_s
        if len(self._full_again_s) > _REMEMBERED:
            self._full_again_s.popitem(last=False)


class Door:
    """Called with every opening handshake; answers None for "come in"."""

    def __init__(
        self,
        stations: Mapping[StationId, StationSettings],
        channel: str,
        subprotocol: str,
        refused: Callable[[AccessRefused], None],
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._stations = stations
        self._channel = channel
        self._subprotocol = subprotocol
        self._refused = refused
        self._now_s = now_s
        self._guesses = Guesses(now_s)
        self._told_s: OrderedDict[str, float] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._decoy = secrets.token_urlsafe(20)

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        peer = peer_of(connection)
        if self._guesses.used_up(peer):
            self.turn_away(peer, peer, "too many failed attempts from this address")
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "too many failed attempts\n")
        identity = identity_of(request.path)
        if identity is None:
            self._guesses.note_failure(peer)
            self.turn_away(clean(request.path, 48), peer, "no station identity in the path")
            return connection.respond(HTTPStatus.NOT_FOUND, "connect to /ocpp/STATION_ID\n")
        reason = self._why_not(identity, request.headers.get_all("Authorization"))
        if reason is not None:
            self._guesses.note_failure(peer)
            self.turn_away(identity, peer, reason)
            response = connection.respond(HTTPStatus.UNAUTHORIZED, "unknown station or wrong password\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
            return response
        offered = [
            name.strip()
            for header in request.headers.get_all("Sec-WebSocket-Protocol")
            for name in header.split(",")
        ]
        if self._subprotocol not in offered:
            names = clean(", ".join(offered), 100) or "none"
            self.turn_away(identity, peer, f"subprotocol {self._subprotocol} is needed, offered: {names}")
            text = f"offer the subprotocol {self._subprotocol}; offered: {names}\n"
            return connection.respond(HTTPStatus.BAD_REQUEST, text)
        return None

    def turn_away(self, identity: str, peer: str, reason: str) -> None:
        """Reports a refusal, at most one per identity in REFUSED_EVERY_S."""
        now_s = self._now_s()
        if now_s - self._told_s.get(identity, -REFUSED_EVERY_S) < REFUSED_EVERY_S:
            return
        self._told_s.pop(identity, None)
        self._told_s[identity] = now_s
        if len(self._told_s) > _REMEMBERED:
            self._told_s.popitem(last=False)
        log.warning("%s from %s refused: %s", identity, peer, reason)
        self._refused(AccessRefused(self._channel, identity, peer, reason))

    def _why_not(self, identity: StationId, headers: list[str]) -> str | None:
        settings = self._stations.get(identity)
        known = settings.password if settings is not None else None
        # an identity may contain colons, so user and password are compared in one piece
        expected = f"{identity}:{self._decoy if known is None else known}".encode()
        fits = hmac.compare_digest(self._digest(_credentials(headers)), self._digest(expected))
        if settings is None:
            return "unknown identity"
        if settings.password is None:
            return None if settings.allow_insecure else "no password is configured for it"
        return None if fits else "wrong user or password" if headers else "no password given"

    def _digest(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._key).digest()


def peer_of(connection: ServerConnection) -> str:
    """The peer's address without the port; "unknown" once it is gone."""
    address = connection.remote_address
    return str(address[0]) if address else "unknown"


def _credentials(headers: list[str]) -> bytes:
    """User and password of one Basic header; empty, which fits nothing, for anything else."""
    scheme, _, encoded = (headers[0] if len(headers) == 1 else "").partition(" ")
    if scheme.casefold() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
