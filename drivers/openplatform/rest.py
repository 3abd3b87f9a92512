"""One HTTP exchange with the platform: token, time-outs, bounds, and every bad answer translated to drivers.errors.

Owns the session, the token's life cycle and the single place every outgoing request passes (`announce`). A call is one
attempt: who may repeat it, and when, is the caller's business, because only the caller knows whether a repeat could
switch something twice. Never logs a token, a secret or a body; follows no redirect.
Source: Open Platform REFERENCE sections 3 to 6, GAPS G-02, G-05, G-06, G-09, G-25.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured, Nonsense, Refused, Unreachable
from drivers.openplatform.budget import Budget, Kind
from drivers.openplatform.settings import CloudSettings, address
from drivers.openplatform.signing import signature_headers
from drivers.openplatform.traces import Traces
from drivers.openplatform.words import Envelope, Token, read_envelope, read_json, read_token, token_request

CONNECT_S, READ_S, TOTAL_S = 5.0, 10.0, 15.0
MAX_BODY_BYTES = 1_000_000
_EARLY_S = 300.0  # a token is renewed so long before it expires, or a tenth of its life if that is less
_TOKEN_PATIENCE_S = 10.0  # a command is not kept waiting longer than this for the token quota
_LOCKED_OUT_S = 60.0  # a fresh token was refused: asking again at once would only spend the quota
_LONGEST_WAIT_S = 3600.0

# what an HTTP status means when the body has no readable code
_CODE_OF_STATUS = {400: 1001, 401: 2001, 403: 2003, 404: 3001, 409: 4001, 429: 5001}
_MEANING = {
    1001: "value not acceptable",
    1002: "parameter missing",
    2001: "token not valid",
    2002: "token expired",
    2003: "permission missing",
    3001: "unknown or not ours",
    4001: "conflict",
    5001: "too many requests",
    9001: "internal error",
}

# operation, method, path, fields (secrets masked); what it returns comes back with the answer
OnRequest = Callable[[str, str, str, Mapping[str, Any]], Any]
# what OnRequest returned, the answer's status (None: none came), length of the body that was sent; maybe more than once
OnAnswer = Callable[[Any, int | None, int], None]


class Declined(Refused):
    """The platform said no; nothing happened there and the same again is pointless."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class LockedOut(Declined):
    """Neither the old nor a fresh token is accepted."""


class NotSent(Unreachable):
    """No connection: the request never left."""


class Throttled(Unreachable):
    """Code 5001, refused before queueing. `wait_s`: what the platform asked for, None if it did not say."""

    code = 5001

    def __init__(self, text: str, wait_s: float | None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class Unanswered(Unreachable):
    """Time-out, broken connection or code 9001: it may or may not have been carried out."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class Garbled(Nonsense):
    """An answer that is none of the platform's: HTML, half a document. It may or may not have been carried out."""


# after these nothing has happened at the platform
NOTHING_DONE = (Declined, NotSent, Throttled, Misconfigured)


class _TokenRefused(DriverError):
    """Codes 2001 and 2002, inside this module only."""


class Rest:
    """`open` before the first call, `close` after the last."""

    def __init__(
        self,
        settings: CloudSettings,
        clock: Clock,
        on_request: OnRequest | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        self.address = address(settings.base_url, settings.region, settings.readings.region_read_from_host)
        self.budget = Budget(settings.readings)
        self.traces = Traces(
            clock, {device.device_id: station for station, device in settings.devices.items()}
        )
        self._settings = settings
        self._clock = clock
        self._on_request, self._on_answer = on_request, on_answer
        self._session: aiohttp.ClientSession | None = None
        self._token: Token | None = None
        self._issued: deque[str] = deque(maxlen=8)  # tokens a server could still echo
        self._renew_s = float("-inf")
        self._locked_until_s = float("-inf")
        self._token_lock = asyncio.Lock()
        self._turn = {(kind, urgent): asyncio.Lock() for kind in Kind for urgent in (False, True)}

    async def open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S, sock_read=READ_S)
        # One connection per request: a POST on a kept one that died while idle could not be told from one that was
        # carried out, and at a request per second the handshakes cost nothing.
        # https verifies the certificate by default; no proxy and no .netrc from the environment.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            middlewares=(_once,),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, operation: str, method: str, path: str, fields: Mapping[str, Any] | None = None
    ) -> Any:
        """One attempt, with one new token if the old one is refused; the `data` of the answer. `fields` are the query
        of a GET, else the body. The caller has taken the request out of the budget. Raises Declined, LockedOut,
        NotSent, Throttled, Unanswered, Garbled, Misconfigured."""
        token = await self.bearer()
        try:
            return (await self._exchange(operation, method, path, fields, token)).data
        except _TokenRefused:
            self.forget(token)
        token = await self.bearer()
        try:
            return (await self._exchange(operation, method, path, fields, token)).data
        except _TokenRefused as refused:
            self.forget(token)
            self._locked_until_s = self._clock.now().mono_s + _LOCKED_OUT_S
            raise LockedOut(f"{self.address.host}: a fresh token was refused", 2001) from refused

    async def read(
        self,
        operation: str,
        path: str,
        query: Mapping[str, str] | None = None,
        patience_s: float = float("inf"),
    ) -> Any:
        """One GET within the budget. Raises as `call`; NotSent when the budget would take longer than `patience_s`."""
        if self.budget.wait_s(Kind.GET, self._clock.now().mono_s) > patience_s:
            raise NotSent(f"{self.address.host} {operation}: the query quota is used up")
        await self.turn(Kind.GET)
        return await self.call(operation, "GET", path, query)

    async def turn(self, kind: Kind, urgent: bool = False) -> None:
        """Waits until the budget allows one more request, and takes it; first come, first served among equals."""
        async with self._turn[kind, urgent]:
            while not self.budget.take(kind, self._clock.now().mono_s, urgent):
                await self._clock.sleep(self.budget.wait_s(kind, self._clock.now().mono_s, urgent))

    async def bearer(self) -> str:
        """A token that is good for some minutes. Raises like `call`."""
        async with self._token_lock:
            now_s = self._clock.now().mono_s
            if now_s < self._locked_until_s:
                raise LockedOut(f"{self.address.host}: a fresh token was refused", 2001)
            if self._token is None or now_s >= self._renew_s:
                await self._renew()
            assert self._token is not None
            return self._token.value

    def forget(self, token: str) -> None:
        """This token was refused somewhere: the next call gets a new one."""
        if self._token is not None and self._token.value == token:
            self._token = None

    @property
    def renew_s(self) -> float:
        """Monotonic time from which the present token should no longer be relied upon."""
        return self._renew_s

    def announce(self, operation: str, method: str, path: str, fields: Mapping[str, Any]) -> Any:
        """Every request that leaves the site passes here, the stream's handshake too; secrets are masked before.
        Returns what `concluded` wants."""
        if self._on_request is None:
            return None
        return self._on_request(operation, method, f"{self.address.path}{path}", fields)

    def concluded(self, announced: Any, status: int | None, bytes_sent: int = 0) -> None:
        """How an announced request ended; the first word counts."""
        if self._on_answer is not None:
            self._on_answer(announced, status, bytes_sent)

    async def _renew(self) -> None:
        """A new token. Whatever goes wrong here, the request that needed it was not sent: raises NotSent or, where a
        person must act, Misconfigured."""
        where = self.address.host
        if self.budget.wait_s(Kind.TOKEN, self._clock.now().mono_s) > _TOKEN_PATIENCE_S:
            raise NotSent(f"{where}: no token, its quota is used up")
        await self.turn(Kind.TOKEN)
        body = token_request(self._settings.client_id, self._settings.client_secret)
        try:
            token = (await self._exchange("token", "POST", "/operator/oauth/token", body, None)).data
        except _TokenRefused as refused:
            raise Misconfigured(f"{where}: client id or secret not accepted") from refused
        except Declined as refused:
            raise Misconfigured(f"no token: {refused}") from refused
        except Throttled as throttled:
            wait_s = _TOKEN_PATIENCE_S if throttled.wait_s is None else throttled.wait_s
            self.budget.shut(Kind.TOKEN, self._clock.now().mono_s + wait_s)
            raise NotSent(f"no token: {throttled}") from throttled
        except DriverError as error:
            raise NotSent(f"no token: {error}") from error
        self._token = token
        self._issued.append(token.value)
        self._renew_s = self._clock.now().mono_s + token.expires_s - min(_EARLY_S, token.expires_s / 10)

    async def _exchange(
        self, operation: str, method: str, path: str, fields: Mapping[str, Any] | None, token: str | None
    ) -> Envelope:
        """Sends and receives; `data` of a token answer is a Token."""
        if self._session is None:
            raise NotSent(f"{self.address.host}: closed")
        shown = dict(fields or {})
        data = b""
        target = path
        if fields and method == "GET":
            target = f"{path}?{urlencode(fields)}"
        elif fields is not None:
            data = json.dumps(fields, separators=(",", ":")).encode()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "depot"}
        if data:
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers |= {"Authorization": f"Bearer {token}"} | self.signature(method, target, data)
        if "client_secret" in shown:
            shown["client_secret"] = "***"
        announced, status = self.announce(operation, method, path, shown), None
        url = URL(f"{self.address.http}{target}", encoded=True)  # as it was signed, byte for byte
        where = f"{self.address.host} {operation}"
        asked = f"{method} {target} {data.decode()}".rstrip()
        about = self.traces.about(asked)
        self.traces.note(about, True, asked)
        try:
            async with self._session.request(
                method, url, data=data or None, headers=headers, allow_redirects=False
            ) as answer:
                status, retry_after = answer.status, answer.headers.get("Retry-After")
                content = await _bounded(answer.content, where)
            self.heard(f"{status} {content.decode(errors='replace')}", about)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"{where}: no connection ({_reason(error)})") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"{where}: no answer ({_reason(error)})") from error
        finally:
            self.concluded(announced, status, len(data))
        return self._judge(where, status, retry_after, content, is_token=operation == "token")

    def signature(self, method: str, target: str, body: bytes = b"") -> dict[str, str]:
        """The headers that sign one request, none where requests are not signed. Raises NotSent while our clock is not
        trusted: a wrong time would read as a wrong token."""
        if not self._settings.sign_requests:
            return {}
        now = self._clock.now()
        if not now.utc_trusted:
            raise NotSent(
                f"{self.address.host}: our clock is not trusted yet, and a signature carries the time"
            )
        readings = self._settings.readings
        path = f"{self.address.path}{target}" if readings.signature_path_has_version else target
        return signature_headers(self._settings.client_secret, method, path, body, now.utc, readings)

    def _judge(
        self, where: str, status: int, retry_after: str | None, content: bytes, is_token: bool
    ) -> Envelope:
        """The envelope of a success, else the right error. The code decides; the status only where there is none."""
        if 300 <= status < 400:
            raise Declined(f"{where}: redirected elsewhere, not followed")
        if (
            not content.strip()
            and status < 300
            and not is_token
            and self._settings.readings.empty_answer_is_success
        ):
            return Envelope(0, "", None)
        try:
            document = read_json(content)
            envelope = read_envelope(document)
            if is_token and status < 300 and envelope.code in (None, 0):
                return Envelope(0, "", read_token(document))
        except ValueError as error:
            if status < 300:
                raise Garbled(f"{where}: not an answer of the platform ({error})") from None
            envelope = Envelope(None, "", None)
        code = envelope.code
        if code is None or (code == 0 and status >= 400):
            code = _CODE_OF_STATUS.get(status, 9001 if status >= 500 else None)
        if code == 0:
            return envelope
        raise self._error(where, status, code, envelope, retry_after)

    def _error(
        self, where: str, status: int, code: int | None, envelope: Envelope, retry_after: str | None
    ) -> DriverError:
        text = f"{where}: {_MEANING.get(code or 0, f'HTTP {status}')} ({code or status})"
        detail = self._scrub(envelope.message)
        if detail:
            text = f"{text}: {detail}"
        match code:
            case 2001 | 2002:
                return _TokenRefused(text)
            case 5001:
                wait_s = envelope.retry_after_s
                if (
                    wait_s is None
                    and retry_after is not None
                    and retry_after.isascii()
                    and retry_after.isdigit()
                ):
                    wait_s = float(retry_after[:9])
                return Throttled(text, None if wait_s is None else min(wait_s, _LONGEST_WAIT_S))
            case 9001:
                return Unanswered(text, code)
            case _ if status < 300 and code not in _MEANING:
                return Garbled(text)
            case _ if status >= 500:
                return Unanswered(text, code)
            case _:
                return Declined(text, code)

    def _scrub(self, message: str) -> str:
        """A server that echoes what it was sent must not get our secrets into a log."""
        return self._without_secrets(message)[:120]

    def heard(self, text: str, about: str | None = None) -> None:
        """Keeps what the platform said, for people; `about` where the words may not name it."""
        text = self._without_secrets(text)
        self.traces.note(self.traces.about(text) if about is None else about, False, text)

    def _without_secrets(self, text: str) -> str:
        for secret in filter(None, (self._settings.client_secret, *self._issued)):
            text = text.replace(secret, "***")
        return text


class _Broken(aiohttp.ClientError):
    """The connection broke after the request may have left."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp repeats a GET whose connection broke, past budget and audit; with an error it does not know it cannot."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise  # not sent, and not repeated either
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken from error


def device_path(device_id: str, connector: int | None = None, action: str = "") -> str:
    """The path of a charger, or of an action on one of its connectors; ids are opaque, so they are quoted."""
    base = f"/operator/devices/{quote(device_id, safe='')}"
    return base if connector is None else f"{base}/connectors/{connector}/{action}"


def command_path(command_id: str) -> str:
    return f"/operator/commands/{quote(command_id, safe='')}"


async def _bounded(content: aiohttp.StreamReader, where: str) -> bytes:
    """The body, or Garbled beyond the bound: a peer must not fill our memory."""
    parts, size = [], 0
    async for part in content.iter_any():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Garbled(f"{where}: the answer is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _reason(error: BaseException) -> str:
    """One stable word or two, so that logs change only when the cause does; aiohttp's texts hold addresses."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "certificate not valid"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name not found"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or "refused"
    if isinstance(error, _Broken | ConnectionError | aiohttp.ClientPayloadError):
        return "connection broken"
    return type(error).__name__
