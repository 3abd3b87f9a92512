"""Who may come in: identity from the path, password or certificate, security profile, subprotocol, limits on guessing.

Owns the decision before the WebSocket exists. Must not tell a stranger whether an identity exists: unknown identity, wrong
password, missing certificate and downgrade cost the same work and get the same bytes; the reason goes to people on site.
Security profiles: 0 nothing (only where `allow_insecure` says so), 1 password, 2 password over TLS, 3 certificate.
Source: OCPP-J 1.6 sections 3.1 and 6, OCPP 1.6 security whitepaper section 3, OCPP 2.0.1 part 2 A00-A05; the path
variants are what stations make of the URL a technician typed.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from time import monotonic
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from controller.core.events import AccessRefused
from controller.core.model import StationId
from drivers.errors import DriverError
from drivers.ocpp.frames import clean
from drivers.ocpp.keys import Keys
from drivers.ocpp.settings import StationSettings

log = logging.getLogger(__name__)

# Failures in a row, then one more each so many seconds.
GUESSES = 10  # of one identity at one address: a station with a typing error retries about this often
GUESS_EVERY_S = 6.0
ADDRESS_GUESSES = 120  # of any identity: behind a router many stations with errors have one address
ADDRESS_GUESS_EVERY_S = 1.0
IDENTITY_GUESSES = 60  # of one identity from anywhere but its own address: strangers cannot lock it out
IDENTITY_GUESS_EVERY_S = 2.0
REFUSED_EVERY_S = 10.0  # one event per identity and this long
_REMEMBERED = 1024  # addresses and identities; the oldest is forgotten first

_IDENTITY = re.compile(r"[A-Za-z0-9_.:-]{1,48}")
_NOBODY = StationSettings({})


def identity_of(path: str) -> StationId | None:
    """The identity in `/ocpp/ID`, `/ID`, with a trailing slash, a query, an absolute form or percent signs (decoded
    once); None when there is none that could be a station's."""
    path = path.partition("?")[0]
    if "://" in path:
        path = path.partition("://")[2].partition("/")[2]
    segments = path.removeprefix("/").removesuffix("/").split("/")
    if segments[0] == "ocpp":  # alone it is an address without an identity, which technicians do type
        segments = segments[1:]
    if len(segments) != 1:
        return None
    identity = unquote(segments[0])
    return StationId(identity) if _IDENTITY.fullmatch(identity) else None


class Guesses:
    """Failed attempts per name: so many in a burst, then one each `every_s`."""

    def __init__(
        self, now_s: Callable[[], float], burst: int = GUESSES, every_s: float = GUESS_EVERY_S
    ) -> None:
        self._now_s = now_s
        self._burst = burst
        self._every_s = every_s
        self._full_again_s: OrderedDict[str, float] = OrderedDict()

    def used_up(self, name: str) -> bool:
        ahead_s = self._full_again_s.get(name, 0.0) - self._now_s()
        return ahead_s > (self._burst - 1) * self._every_s

    def note_failure(self, name: str) -> None:
        at_s = max(self._full_again_s.pop(name, 0.0), self._now_s()) + self._every_s
        self._full_again_s[name] = at_s
        if len(self._full_again_s) > _REMEMBERED:
            self._full_again_s.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a station showed, after TLS has found it genuine and valid. `serial` in hex."""

    names: frozenset[str]
    serial: str
    until: datetime


@dataclass(frozen=True, slots=True)
class _Visit:
    """What a connection brings: over TLS or not, its certificate, the password (None: none, or another's user name)."""

    peer: str
    secure: bool
    certificate: Certificate | None
    has_header: bool
    password: bytes | None


class Door:
    """Called with every opening handshake; answers None for "come in". `subprotocols`: those we speak with a station.
    `revoked`: whether the certificate with this serial was voided; raises DriverError when nobody knows."""

    def __init__(
        self,
        stations: Mapping[StationId, StationSettings],
        channel: str,
        subprotocols: Callable[[StationId], tuple[str, ...]],
        refused: Callable[[AccessRefused], None],
        keys: Keys | None = None,
        revoked: Callable[[str], bool] = lambda serial: False,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._stations = stations
        self._channel = channel
        self._subprotocols = subprotocols
        self._refused = refused
        self._keys = keys if keys is not None else Keys(passwords_of(stations))
        self._revoked = revoked
        self._now_s = now_s
        self._at_address = Guesses(now_s, ADDRESS_GUESSES, ADDRESS_GUESS_EVERY_S)
        self._of_identity = Guesses(now_s, IDENTITY_GUESSES, IDENTITY_GUESS_EVERY_S)
        self._of_both = Guesses(now_s)
        self._told_s: OrderedDict[str, float] = OrderedDict()
        self._home: dict[StationId, str] = {}  # the address each station came from last
        self._highest: dict[StationId, int] = {}  # the best security profile it came with since the start
        self.certificates: dict[StationId, Certificate] = {}  # the last one each station showed
        self.assumes: Callable[[StationId], bool] = lambda station: False  # what it speaks, unasked (row 49)
        self.is_cut: Callable[[StationId], bool] = lambda station: False  # whether it has to stay out for now

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        peer = peer_of(connection)
        if not self.may_enter(peer):
            self.turn_away(peer, peer, "too many failed attempts from this address")
            return _too_many(connection)
        identity = identity_of(request.path)
        if identity is None:
            self.note_failure(peer)
            self.turn_away(clean(request.path, 48), peer, "no station identity in the path")
            return connection.respond(HTTPStatus.NOT_FOUND, "connect to /ocpp/STATION_ID\n")
        pair = f"{identity} {peer}"
        foreign = self._home.get(identity) != peer
        if self._of_both.used_up(pair) or (foreign and self._of_identity.used_up(identity)):
            self.turn_away(pair, peer, f"too many failed attempts as {identity}")
            return _too_many(connection)
        visit = _visit(connection, identity, request.headers.get_all("Authorization"))
        profile, reason = self._judge(identity, visit)
        if reason is not None:
            self.note_failure(peer)
            self._of_both.note_failure(pair)
            self._of_identity.note_failure(identity)
            self.turn_away(identity, peer, reason)
            response = connection.respond(HTTPStatus.UNAUTHORIZED, "unknown station or wrong password\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
            return response
        self._note_success(identity, visit, profile)
        if not _upgrades(request):
            self.turn_away(identity, peer, "no Upgrade header: it asks for a page, not for a WebSocket")
            return None  # the library answers 426
        offered = [
            name.strip()
            for header in request.headers.get_all("Sec-WebSocket-Protocol")
            for name in header.split(",")
        ]
        spoken = self._subprotocols(identity)
        if not any(name in spoken for name in offered) and (offered or not self.assumes(identity)):
            names, wanted = clean(", ".join(offered), 100) or "none", " or ".join(spoken)
            self.turn_away(identity, peer, f"subprotocol {wanted} is needed, offered: {names}")
            text = f"offer the subprotocol {wanted}; offered: {names}\n"
            return connection.respond(HTTPStatus.BAD_REQUEST, text)
        if self.is_cut(identity):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "come back later\n")
        return None

    def forget_profile(self, identity: StationId) -> None:
        """What it came with before no longer counts."""
        self._highest.pop(identity, None)

    def may_enter(self, address: str) -> bool:
        return not self._at_address.used_up(address)

    def note_failure(self, address: str) -> None:
        self._at_address.note_failure(address)

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

    def _judge(self, identity: StationId, visit: _Visit) -> tuple[int, str | None]:
        """The security profile a station came with, and why it may not come in."""
        settings = self._stations.get(identity, _NOBODY)
        fits = self._keys.fits(identity, visit.password or b"")
        shown = visit.certificate
        trouble = None if shown is None else self._flaw_in(shown, identity)
        if shown is not None and trouble is None:
            profile = 3
        elif fits:
            profile = 2 if visit.secure else 1
        else:
            profile = 0
        # for nobody too: it takes time
        reason = trouble or self._too_little(identity, settings, profile, visit)
        return (0, "unknown identity") if settings is _NOBODY else (profile, reason)

    def _flaw_in(self, shown: Certificate, identity: StationId) -> str | None:
        if identity not in shown.names:
            return f"its certificate is for {clean(', '.join(sorted(shown.names)), 100) or 'nobody'}"
        try:
            revoked = self._revoked(shown.serial)
        except DriverError as error:
            return f"nobody knows whether its certificate was revoked: {error}"
        return "its certificate was revoked" if revoked else None

    def _too_little(
        self, identity: StationId, settings: StationSettings, profile: int, visit: _Visit
    ) -> str | None:
        before = self._highest.get(identity, 0)
        needed = settings.security_profile
        if settings.allow_from and not _is_from(visit.peer, settings.allow_from):
            return "allow_from does not list its address"
        if profile == 0 and not (settings.allow_insecure and needed == 0):
            if needed == 3:
                return f"security profile 3 needs a certificate, it {'has none' if visit.secure else 'comes without TLS'}"
            if not self._keys.has(identity):
                return "no password is configured for it"
            if not visit.has_header:
                return "no password given"
            return "wrong user name" if visit.password is None else "wrong password"
        if profile < max(needed, before):
            of_old = f"it came with {before} before (a restart of the controller allows it)"
            said = f"{needed} is configured" if profile < needed else of_old
            exposed = "; its password went in the clear: change it" if profile == 1 else ""
            return f"downgrade to security profile {profile} refused: {said}{exposed}"
        return None

    def _note_success(self, identity: StationId, visit: _Visit, profile: int) -> None:
        self._home[identity] = visit.peer
        self._highest[identity] = max(profile, self._highest.get(identity, 0))
        if visit.certificate is not None:
            self.certificates[identity] = visit.certificate


def passwords_of(stations: Mapping[StationId, StationSettings]) -> dict[StationId, str]:
    return {name: each.password for name, each in stations.items() if each.password is not None}


def peer_of(connection: ServerConnection) -> str:
    """The peer's address without the port; "unknown" once it is gone."""
    address = connection.remote_address
    return str(address[0]) if address else "unknown"


def _too_many(connection: ServerConnection) -> Response:
    return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "too many failed attempts\n")


def _upgrades(request: Request) -> bool:
    """Whether it asks for a WebSocket; some stations forget to, or a proxy on the way drops it."""

    def names(header: str, wanted: str) -> bool:
        values = ",".join(request.headers.get_all(header)).casefold().split(",")
        return wanted in (value.strip() for value in values)

    return names("Connection", "upgrade") and names("Upgrade", "websocket")


def _visit(connection: ServerConnection, identity: StationId, headers: list[str]) -> _Visit:
    wrapped = connection.transport.get_extra_info("ssl_object")
    shown = wrapped.getpeercert() if wrapped is not None else None
    return _Visit(
        peer=peer_of(connection),
        secure=wrapped is not None,
        certificate=_certificate(shown) if shown else None,
        has_header=bool(headers),
        password=_password(identity, _credentials(headers)),
    )


def _certificate(shown: Mapping[str, Any]) -> Certificate:
    """From the form that `ssl` gives a verified certificate. Common names and DNS names are names alike."""
    common = {value for part in shown.get("subject", ()) for key, value in part if key == "commonName"}
    others = {value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"}
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    return Certificate(frozenset(common | others), shown["serialNumber"].lower().lstrip("0"), until)


def _credentials(headers: list[str]) -> bytes:
    """User and password of one Basic header; empty, which fits nothing, for anything else."""
    scheme, _, encoded = (headers[0] if len(headers) == 1 else "").partition(" ")
    if scheme.casefold() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _password(identity: StationId, credentials: bytes) -> bytes | None:
    """What stands behind the station's own name. A name may contain colons, or have them percent-encoded; a password may
    be any bytes."""
    name = identity.encode()
    if credentials.startswith(name + b":"):
        return credentials[len(name) + 1 :]
    user, colon, password = credentials.partition(b":")
    return password if colon and unquote_to_bytes(user) == name else None


def _is_from(address: str, networks: Sequence[str]) -> bool:
    try:
        at = ip_address(address)
    except ValueError:
        return False
    return any(at in ip_network(network) for network in networks)
