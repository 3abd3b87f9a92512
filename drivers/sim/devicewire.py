"""The wire of a simulated charger on the Open Platform: HTTP requests, the bearer token, the envelope.

Owns connecting, tokens and their renewal, and telling trouble on the way (Unreachable) from an answer (Refusal). It
knows no operation but the two that give an identity. A request that broke off is repeated once on a new connection:
everything a charger sends may arrive twice. Time-outs are real seconds, the token's life is clock time.
Source: Open Platform REFERENCE sections 3.2, 4, 5; G-03, G-06.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from controller.ports import Clock
from drivers.errors import Unreachable
from drivers.sim.cloudwords import Refusal

REQUEST_S = 10.0
RENEW_EARLY_S = 300.0
NO_TOKEN, TOKEN_EXPIRED = 2001, 2002

Json = dict[str, Any]


class DeviceWire:
    """`base_url` ends in the version ("http://127.0.0.1:8080/v1")."""

    def __init__(self, base_url: str, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        self.clock = clock
        self._base_url = base_url.rstrip("/")
        self._tls = tls
        self._http: aiohttp.ClientSession | None = None
        self._credentials: Json = {}
        self._token = ""
        self._renew_s = 0.0
        self._renewing = asyncio.Lock()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Requests are possible inside; no socket and no token is left behind."""
        connector = aiohttp.TCPConnector(ssl=self._tls or True)
        async with aiohttp.ClientSession(connector=connector) as http:
            self._http = http
            try:
                yield
            finally:
                self._http, self._token = None, ""

    async def register(self, fields: Mapping[str, str]) -> Json:
        """`device_id`, `device_secret`, `expires_in`. Raises Unreachable, Refusal."""
        answer = await self._ask("POST", "/device/register", fields)
        if not isinstance(answer, dict) or not {"device_id", "device_secret"} <= answer.keys():
            raise Unreachable("the registration was answered without an identity")
        return answer

    async def log_in(self, device_id: str, device_secret: str) -> None:
        """Raises Unreachable; Refusal 2001 when the secret is not (any longer) good."""
        self._credentials = {
            "device_id": device_id,
            "device_secret": device_secret,
            "grant_type": "client_credentials",
        }
        answer = await self._ask("POST", "/device/token", self._credentials)
        token, life_s = _field(answer, "access_token", str), _field(answer, "expires_in", int)
        self._token = token
        self._renew_s = self.clock.now().mono_s + max(life_s - RENEW_EARLY_S, life_s / 2)

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        within_s: float = REQUEST_S,
    ) -> Any:
        """The answer's `data`. Raises Unreachable (nobody, or nothing that makes sense) and Refusal (a code)."""
        if self.clock.now().mono_s >= self._renew_s:
            await self._renew(self._token)
        token = self._token
        try:
            return await self._ask(method, path, body, query, within_s)
        except Refusal as refusal:
            if refusal.code not in (NO_TOKEN, TOKEN_EXPIRED):
                raise
        await self._renew(token)
        try:
            return await self._ask(method, path, body, query, within_s)
        except Refusal as refusal:
            if refusal.code in (NO_TOKEN, TOKEN_EXPIRED):
                raise Unreachable(f"{path}: a new token is refused too") from None
            raise

    async def _renew(self, used: str) -> None:
        """One new token for all requests that found the old one spent."""
        async with self._renewing:
            if self._token == used:
                await self.log_in(self._credentials["device_id"], self._credentials["device_secret"])

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        within_s: float = REQUEST_S,
    ) -> Any:
        try:
            return await self._once(method, path, body, query, within_s)
        except aiohttp.ClientConnectionError:
            pass  # a connection that had gone stale, or a host that just restarted
        try:
            return await self._once(method, path, body, query, within_s)
        except aiohttp.ClientConnectionError as error:
            raise Unreachable(f"{path}: {type(error).__name__}") from None

    async def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        within_s: float,
    ) -> Any:
        if self._http is None:
            raise Unreachable("no link")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            async with (
                asyncio.timeout(within_s),
                self._http.request(
                    method,
                    self._base_url + path,
                    json=body,
                    params=query,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                return _data(path, response.status, await response.read())
        except TimeoutError:
            raise Unreachable(f"{path}: no answer within {within_s:g} s") from None
        except aiohttp.ClientConnectionError:
            raise
        except aiohttp.ClientError as error:  # half an answer, or one that is no HTTP
            raise Unreachable(f"{path}: {type(error).__name__}") from None


def _data(path: str, status: int, sent: bytes) -> Any:
    """What an answer holds; an empty success is null, a token may come without the envelope (G-06)."""
    succeeded = 200 <= status < 300
    if succeeded and not sent:
        return None
    try:
        body = json.loads(sent)
    except ValueError:
        raise Unreachable(f"{path}: HTTP {status} without JSON") from None
    if not isinstance(body, dict):
        raise Unreachable(f"{path}: HTTP {status} without an envelope")
    code = body.get("code", 0 if succeeded else None)
    if code == 0 and succeeded:
        return body.get("data") if "code" in body else body
    if not isinstance(code, int):
        raise Unreachable(f"{path}: HTTP {status} without a code")
    details = body.get("details")
    known = details if isinstance(details, dict) else {}
    raise Refusal(code, str(body.get("message", "")), **{str(key): value for key, value in known.items()})


def _field(answer: Any, name: str, kind: type) -> Any:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, kind):
        raise Unreachable(f"the token answer has no {name}")
    return value
