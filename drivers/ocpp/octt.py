"""The conformance door: a compliance suite asks the central system to act, over HTTP on the loopback address.

Owns `POST /api/octt/...` and nothing else: every call becomes a request to a connected station, or one of the few things
a suite must be able to arrange (a token, a password, a boot that has to wait, a security profile). What goes out is
checked against the schema like everything else, but not against the site: a SetChargingProfile from here may loosen a
limit that the depot decided, because that is what a suite has to try. That is why the door is off by default, asks for
nothing but being on this box, stays shut where `[site] production = true` says so, and is shown as a channel that is not
in order while it is open. Never open it on a site where vehicles charge.

Answers: 200 with the station's payload, 404 unknown or offline station, 400 bad body, 502 the station answered with an
error, 504 no answer. Source: INTERFACE section 8; the trigger interface of the public suite it is made for.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web

from controller.core.events import ChannelChanged, TokenSet
from controller.core.model import IdToken, StationId
from controller.ports import Clock, Report
from drivers.errors import DriverError, Misconfigured, Refused, Unreachable, WrongUse, deaf
from drivers.ocpp.frames import MAX_FRAME, Payload, clean
from drivers.ocpp.server import OcppServer
from drivers.ocpp.station import CallError
from drivers.ocpp.v2_setup import ITEMS_TO_GET, ITEMS_TO_SET, items_per_message

log = logging.getLogger(__name__)

CHANNEL: Final = "ocpp/octt"
BY: Final = "conformance door"
MOST_ITEMS = 1000
_VERSIONS_2 = ("2.0.1", "2.1")
_STATUSES = ("Accepted", "Blocked", "Expired")
_LONGEST_TOKEN, _LONGEST_PASSWORD = 36, 64
_SPLIT = {  # path: action, list in the request, list in the answer, how many the station takes
    "get-variables": ("GetVariables", "getVariableData", "getVariableResult", ITEMS_TO_GET),
    "set-variables": ("SetVariables", "setVariableData", "setVariableResult", ITEMS_TO_SET),
}

Act = Callable[[Payload], Awaitable[Payload]]


class _Wrong(Exception):
    """What the caller gets instead of an answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Items:
    """How many a station takes in one message; None = what it said itself."""

    get_variables: int | None = None
    set_variables: int | None = None
    get_report: int | None = None


def loopback(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:5001". Raises WrongUse for anything that is not the loopback address."""
    host, _, port = text.rpartition(":")
    try:
        is_loopback = ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise WrongUse(
            f"--octt-trigger {clean(text, 60)}: a test suite may only come from this box; write 127.0.0.1:5001"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


class ConformanceDoor:
    """`run` serves until cancelled. `find`: what is known of an id token already."""

    def __init__(
        self,
        address: tuple[str, int],
        server: OcppServer,
        clock: Clock,
        report: Report,
        find: Callable[[str], IdToken | None],
    ) -> None:
        self.port = address[1]  # the real one once `ready`
        self.ready = asyncio.Event()
        self._host = address[0]
        self._server = server
        self._clock = clock
        self._report = report
        self._find = find
        self._items: dict[StationId, _Items] = {}

    async def run(self) -> None:
        """Raises Misconfigured when the port cannot be had."""
        application = web.Application(client_max_size=MAX_FRAME)
        application.router.add_route("*", "/{rest:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self.port)
            try:
                await site.start()
            except OSError as error:
                place = f"{self._host}:{self.port}"
                raise Misconfigured(
                    f"--octt-trigger cannot listen on {place}: {deaf(error, 'port')}"
                ) from None
            self.port = runner.addresses[0][1]
            where = f"{self._host}:{self.port}"
            open_on = f"the conformance door is open on {where}"
            log.warning("%s: whoever is on this box commands every station", open_on)
            await self._report(ChannelChanged(CHANNEL, "degraded", open_on))
            self.ready.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            if "Origin" in request.headers:
                raise _Wrong(403, "no browser may come here")
            if not request.path.startswith("/api/octt/"):
                raise _Wrong(404, "everything here is under /api/octt")
            if request.method != "POST":
                raise _Wrong(405, "every call here is a POST")
            act = self._act(request.path.removeprefix("/api/octt/").split("/"))
            return web.json_response(await act(await _body(request)))
        except _Wrong as wrong:
            return web.json_response({"error": str(wrong)}, status=wrong.status)
        except Misconfigured as error:  # not a legal request: nothing was sent
            return web.json_response({"error": str(error)}, status=400)
        except Unreachable as error:
            return web.json_response({"error": str(error)}, status=504)
        except DriverError as error:
            return web.json_response({"error": str(error)}, status=502)
        except Exception:
            log.exception("%s could not be handled", clean(request.path, 100))
            return web.json_response({"error": "could not be handled; the log says why"}, status=500)

    def _act(self, path: list[str]) -> Act:
        match path:
            case ["set-basic-auth-password"]:
                return self._set_password
            case ["create-token"]:
                return self._create_token
            case ["1.6", name, "update-basic-auth-password"]:
                return partial(self._update_password, self._speaker(name, "1.6"))
            case ["1.6", name, action]:
                return partial(self._server.request, self._speaker(name, "1.6"), _pascal(action))
            case [version, name, "call", action] if version in _VERSIONS_2:
                return partial(self._call, self._speaker(name, version), action)
            case [version, name, word] if version in _VERSIONS_2 and word in _SPLIT:
                return partial(self._in_pieces, self._speaker(name, version), word)
            case [version, name, word] if version in _VERSIONS_2:
                return self._arrange(version, name, word)
            case _:
                raise _Wrong(404, "no such call")

    def _arrange(self, version: str, name: str, word: str) -> Act:
        match word:
            case "update-basic-auth-password":
                return partial(self._update_password, self._speaker(name, version))
            case "set-items-per-message":
                return partial(self._set_items, self._known(name))
            case "set-pending-boot":
                return partial(self._set_pending, self._known(name))
            case "set-security-profile":
                return partial(self._set_profile, self._known(name))
            case _:
                raise _Wrong(404, "no such call")

    def _known(self, name: object) -> StationId:
        station = StationId(name) if isinstance(name, str) else None
        if station is None or not self._server.knows(station):
            raise _Wrong(404, "no such station in the config")
        return station

    def _speaker(self, name: str, version: str) -> StationId:
        """The station, if it is connected and speaks this version."""
        station = self._known(name)
        spoken = self._server.version(station)
        if spoken != version:
            speaks = "is not connected" if spoken is None else f"speaks OCPP {spoken}"
            raise _Wrong(404, f"{station} {speaks}")
        return station

    # --- calls ----------------------------------------------------------------------------------------------------

    async def _call(self, station: StationId, action: str, body: Payload) -> Payload:
        most = self._items.get(station, _Items()).get_report
        asked = body.get("componentVariable")
        if action == "GetReport" and most is not None and isinstance(asked, list) and len(asked) > most:
            raise _Wrong(400, f"componentVariable: {station} takes {most} in one message")
        return await self._server.request(station, action, body)

    async def _in_pieces(self, station: StationId, word: str, body: Payload) -> Payload:
        action, asked, answered, items = _SPLIT[word]
        data = body.get(asked)
        if not isinstance(data, list) or not 0 < len(data) <= MOST_ITEMS or set(body) != {asked}:
            raise _Wrong(400, f"{asked}: a list of 1 to {MOST_ITEMS} is expected, and nothing else")
        told = self._items.get(station, _Items())
        most = told.get_variables if items is ITEMS_TO_GET else told.set_variables
        most = most or items_per_message(self._server.configuration(station), items)
        results: list[Any] = []
        for first in range(0, len(data), most):
            answer = await self._server.request(station, action, {asked: data[first : first + most]})
            part = answer.get(answered)
            results += part if isinstance(part, list) else []
        return {answered: results}

    async def _update_password(self, station: StationId, body: Payload) -> Payload:
        try:
            return {"status": await self._server.security.change_password(station, BY)}
        except CallError:
            raise
        except Refused as refused:  # the suite wants to see the refusal, not an error
            return {"status": "Rejected", "reason": str(refused)}

    # --- what has to be arranged ----------------------------------------------------------------------------------

    async def _set_items(self, station: StationId, body: Payload) -> Payload:
        names = frozenset(_Items.__dataclass_fields__)
        if not body or not set(body) <= names or not all(_is_count(value) for value in body.values()):
            raise _Wrong(400, f"{', '.join(sorted(names))}: numbers of 1 to {MOST_ITEMS}")
        self._items[station] = replace(self._items.get(station, _Items()), **body)
        return {"status": "Accepted"}

    async def _set_pending(self, station: StationId, body: Payload) -> Payload:
        pending = body.get("pending")
        if not isinstance(pending, bool):
            raise _Wrong(400, "pending: true or false")
        self._server.hold_boot(station, pending)
        return {"status": "Accepted"}

    async def _set_profile(self, station: StationId, body: Payload) -> Payload:
        profile = body.get("security_profile")
        if not isinstance(profile, int) or isinstance(profile, bool) or not 0 <= profile <= 3:
            raise _Wrong(400, "security_profile: 0 to 3")
        self._server.require_profile(station, profile)
        return {"status": "Accepted"}

    async def _set_password(self, body: Payload) -> Payload:
        station, password = self._known(body.get("station_id")), body.get("password")
        if not isinstance(password, str) or not 0 < len(password) <= _LONGEST_PASSWORD:
            raise _Wrong(400, f"password: 1 to {_LONGEST_PASSWORD} characters")
        await self._server.security.keys.put(station, password)
        return {"status": "Accepted"}

    async def _create_token(self, body: Payload) -> Payload:
        name, status = body.get("token_id"), body.get("status")
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.strip()) <= _LONGEST_TOKEN:
            raise _Wrong(400, f"token_id: 1 to {_LONGEST_TOKEN} printable characters")
        if status not in _STATUSES:
            raise _Wrong(400, f"status: one of {', '.join(_STATUSES)}")
        known = self._find(name.strip()) or IdToken(name.strip())
        ended = self._clock.now().utc - timedelta(days=1) if status == "Expired" else None
        token = replace(known, blocked=status == "Blocked", expires=ended)
        await self._report(TokenSet(BY, token))
        return {"status": "Accepted"}


async def _body(request: web.Request) -> Payload:
    try:
        body = json.loads(await request.text())
    except (ValueError, LookupError, RecursionError, web.HTTPRequestEntityTooLarge) as error:
        said = "too long" if isinstance(error, web.HTTPException) else "not JSON"
        raise _Wrong(400, f"the body is {said}") from None
    if not isinstance(body, dict):
        raise _Wrong(400, "the body is not a JSON object")
    return body


def _pascal(kebab: str) -> str:
    """remote-start-transaction -> RemoteStartTransaction"""
    return "".join(word[:1].upper() + word[1:] for word in kebab.split("-"))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_ITEMS
