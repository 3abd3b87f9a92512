"""TLS under the door: the contexts, the handshake, and what a failed one tells people.

Owns the certificate files (read again when they change; open connections keep what they have), the versions and ciphers,
the handshake with its time limit, and the porch: how many strangers may stand there before they have said who they are.
Whoever is turned away here has no name yet, only an address and a reason. Must not decide who may come in.

Python's own listener would close a failed handshake without the alert that tells the peer why, and without a word to us;
so the TCP connection is accepted first and TLS begun by hand.
Source: OCPP 2.0.1 part 2 A00 (TLS 1.2 or later, ciphers), field notes on old stations (static RSA only on demand).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from websockets.asyncio.server import ServerConnection

from drivers.errors import Misconfigured
from drivers.ocpp.ca import has_rsa_key

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0  # slow stations need about 2 s
LOOK_EVERY_S = 1.0  # at the certificate files
MOST_ON_THE_PORCH = 512
MOST_FROM_ONE_ADDRESS = 64  # more than a depot behind one router has stations

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LEGACY = ":AES128-GCM-SHA256:AES256-GCM-SHA384"  # no forward secrecy; OCPP 1.6 stations of the first TLS generation
_HELLO = 0x16  # the first byte of a TLS client
_NOT_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 42\r\n\r\n"
    b"this port speaks TLS: connect with wss://\n"
)
_REASONS = {
    "HTTP_REQUEST": "speaks without TLS to the TLS port: give it a wss:// address, or the port of ws://",
    "UNSUPPORTED_PROTOCOL": "offers only TLS below 1.2",
    "NO_SHARED_CIPHER": "no cipher in common; a station of the first TLS generation may need tls_legacy_rsa",
    "TLSV1_ALERT_UNKNOWN_CA": "does not trust our certificate: install our ca.pem in the station",
    "SSLV3_ALERT_BAD_CERTIFICATE": "does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "does not accept our certificate: wrong host name, or clock of the station?",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "finds our certificate expired: look at its clock",
    "WRONG_VERSION_NUMBER": "does not speak TLS",
}
# asyncio keeps a buffer of 256 kB for every TLS connection as long as it lives; a TLS record has 16 kB at most
SSLProtocol.max_size = 16 * 1024
_handshaking: ContextVar[_Secured] = ContextVar("_handshaking")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """`client_ca`: who may sign certificates of stations (security profile 3). `legacy_rsa` allows ciphers without forward
    secrecy, which needs an RSA certificate."""

    host: str
    port: int
    cert: Path
    key: Path
    client_ca: Path | None = None
    legacy_rsa: bool = False


class _Talkative(ssl.SSLObject):
    """Says why a handshake failed, and hands over what the peer should be told, before asyncio drops both."""

    outgoing: ssl.MemoryBIO
    owner: _Secured

    def do_handshake(self) -> None:
        self.owner.rounds += 1
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            self.owner.fail(error, self.outgoing.read())
            raise


class _Context(ssl.SSLContext):
    def wrap_bio(self, incoming: Any, outgoing: Any, *args: Any, **more: Any) -> Any:
        made: Any = super().wrap_bio(incoming, outgoing, *args, **more)
        made.outgoing, made.owner = outgoing, _handshaking.get()
        return made


class Certificates:
    """The context for the next connection. `trouble` says why a newer file is not used."""

    def __init__(self, settings: TlsSettings, now_s: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._now_s = now_s
        self._looked_s = now_s()
        self._seen = self._look()
        self._context = self._load()
        self.trouble = ""

    def context(self) -> ssl.SSLContext:
        """Looks at the files at most every LOOK_EVERY_S; new ones that cannot be used leave the old ones in place."""
        now_s = self._now_s()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return self._context
        self._looked_s = now_s
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = self._load()
            except Misconfigured as error:
                self.trouble = str(error)
                log.error("the old certificate stays in use: %s", error)
            else:
                self.trouble = ""
                log.info("new certificate from %s", self._settings.cert)
        return self._context

    def files(self) -> tuple[Path, ...]:
        settings = self._settings
        return (settings.cert, *([settings.client_ca] if settings.client_ca else []))

    def _look(self) -> tuple[object, ...]:
        seen: list[object] = []
        for path in (*self.files(), self._settings.key):
            try:
                status = path.stat()
            except OSError:
                seen.append(None)
            else:
                seen.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(seen)

    def _load(self) -> ssl.SSLContext:
        settings = self._settings
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = _Talkative
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS + (_LEGACY if settings.legacy_rsa else ""))
        # a resumed session would skip the look at the station's certificate
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_cert_chain(settings.cert, settings.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise Misconfigured(
                f"TLS: {settings.cert} with {settings.key}: {_plain(error) or 'the key does not fit'}"
            ) from None
        if settings.legacy_rsa and not has_rsa_key(settings.cert):
            raise Misconfigured(f"TLS: tls_legacy_rsa needs an RSA key, and {settings.cert} has another")
        if settings.client_ca is not None:
            try:
                context.load_verify_locations(settings.client_ca)
            except (OSError, ValueError) as error:
                raise Misconfigured(f"TLS: client_ca {settings.client_ca}: {_plain(error)}") from None
            context.verify_mode = (
                ssl.CERT_OPTIONAL
            )  # profile 2 comes without one; the door knows who needs it
        return context


def _no_passphrase() -> str:
    raise ValueError("the key needs a passphrase: store it without one, with mode 600")


class Porch:
    """Connections that have not said who they are. When it is full the one that has waited longest goes: a real station
    needs milliseconds there, so strangers who linger only push out one another."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[asyncio.Transport, str] = OrderedDict()
        self._from: Counter[str] = Counter()

    def enter(self, transport: asyncio.Transport, address: str) -> None:
        if self._from[address] >= MOST_FROM_ONE_ADDRESS:
            self._push_out(address)
        elif len(self._waiting) >= MOST_ON_THE_PORCH:
            self._push_out(self._from.most_common(1)[0][0])
        self._waiting[transport] = address
        self._from[address] += 1

    def leave(self, transport: asyncio.Transport) -> None:
        address = self._waiting.pop(transport, None)
        if address is not None:
            self._from[address] -= 1
            if not self._from[address]:
                del self._from[address]

    def close(self) -> None:
        for transport in list(self._waiting):
            transport.abort()

    def _push_out(self, address: str) -> None:
        oldest = next(transport for transport, whose in self._waiting.items() if whose == address)
        self.leave(oldest)
        oldest.abort()


class Listener:
    """What the connections of one listening port share. `tell(address, reason)` is for people; `may_enter(address)` says
    no to those who failed too often. Without `certificates` it is the plain port."""

    def __init__(
        self,
        porch: Porch,
        certificates: Certificates | None,
        may_enter: Callable[[str], bool],
        tell: Callable[[str, str], None],
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self.porch = porch
        self.certificates = certificates
        self.may_enter = may_enter
        self.tell = tell
        self.handshake_s = handshake_s
        self.handshakes: set[asyncio.Task[None]] = set()

    def connection(self, *arguments: Any, **more: Any) -> ServerConnection:
        """For `create_connection` of `websockets.serve`."""
        made = (_Plain if self.certificates is None else _Secured)(*arguments, **more)
        made.listener = self
        return made

    async def close(self) -> None:
        """Nobody is left in a handshake when this returns."""
        for task in self.handshakes:
            task.cancel()
        await asyncio.gather(*self.handshakes, return_exceptions=True)


class _Watched(ServerConnection):
    """A connection that stands on the porch until its opening handshake is over."""

    listener: Listener
    raw: asyncio.Transport  # below TLS
    address: str

    def arrived(self, transport: asyncio.BaseTransport) -> bool:
        """False when it was turned away at once."""
        assert isinstance(transport, asyncio.Transport)
        self.raw = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else "unknown"
        if not self.listener.may_enter(self.address):
            transport.abort()
            return False
        self.listener.porch.enter(transport, self.address)
        return True

    async def handshake(self, *arguments: Any, **more: Any) -> None:
        try:
            await super().handshake(*arguments, **more)
        finally:
            self.listener.porch.leave(self.raw)


class _Plain(_Watched):
    _begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.arrived(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._begun and data:
            self._begun = True
            if data[0] == _HELLO:
                self.listener.tell(
                    self.address,
                    "speaks TLS to the plain port: give it the port of wss:// or a ws:// address",
                )
        super().data_received(data)


class _Secured(_Watched):
    """Begins TLS before the WebSocket protocol learns of the connection."""

    rounds = 0  # of the handshake; the first one is ours, with nothing to read yet
    _open = False
    _early: bytes = b""
    _told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self.arrived(transport):
            return
        task = asyncio.get_running_loop().create_task(self._secure())
        self.listener.handshakes.add(task)
        task.add_done_callback(self.listener.handshakes.discard)

    def data_received(self, data: bytes) -> None:
        if self._open:
            super().data_received(data)
        else:  # came together with the end of the handshake
            self._early += data

    def eof_received(self) -> None:
        if self._open:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            super().connection_lost(exc)
        else:
            self.listener.porch.leave(self.raw)

    async def _secure(self) -> None:
        assert self.listener.certificates is not None
        _handshaking.set(self)
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self.raw,
                self,
                self.listener.certificates.context(),
                server_side=True,
                ssl_handshake_timeout=self.listener.handshake_s,
            )
        except OSError as error:
            self.listener.porch.leave(self.raw)
            if isinstance(error, ConnectionAbortedError) and "longer than" in str(error):
                self.listener.tell(self.address, f"no TLS handshake within {self.listener.handshake_s:g} s")
            elif (
                not self._told and self.rounds > 1
            ):  # somebody who said nothing at all only looked for a port
                self.listener.tell(self.address, "left during the TLS handshake; does it trust our ca.pem?")
            return
        except asyncio.CancelledError:
            self.raw.abort()
            raise
        if secured is None or secured.is_closing():
            self.listener.porch.leave(self.raw)
            return
        self._open = True
        super().connection_made(secured)
        if self._early:
            early, self._early = self._early, b""
            super().data_received(early)

    def fail(self, error: ssl.SSLError, alert: bytes) -> None:
        self._told = True
        reason = error.reason or ""
        self.raw.write(_NOT_TLS if reason == "HTTP_REQUEST" else alert)
        self.listener.tell(self.address, f"TLS: {_plain(error)}")


def _plain(error: Exception) -> str:
    """What went wrong, in words for the person at the station."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _REASONS.get(reason, reason.replace("_", " ").lower() or str(error))
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
