"""The envelope every answer of the on-site host wears, and how a request is read: bounded, strict, one error at a time.

Owns the error codes with their HTTP status, the middleware that answers nobody outside the site and turns whatever goes
wrong into an envelope, what of it all is logged, the reading of bodies (size and time bounded) and of single fields. Unknown fields are left alone, wrong ones are refused.
Must not know any operation. Nothing of an inner failure reaches the peer: it gets 9001 and we get one log line.
Source: Open Platform REFERENCE sections 4 and 5, openapi.yaml ErrorResponse, GAPS G-06.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal
from weakref import WeakKeyDictionary

from aiohttp import ClientError, web
from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)

INVALID, MISSING = 1001, 1002
UNAUTHORIZED, EXPIRED, FORBIDDEN = 2001, 2002, 2003
UNKNOWN, CONFLICT, TOO_MANY, INTERNAL = 3001, 4001, 5001, 9001

HTTP_STATUS = {
    INVALID: 400,
    MISSING: 400,
    UNAUTHORIZED: 401,
    EXPIRED: 401,
    FORBIDDEN: 403,
    UNKNOWN: 404,
    CONFLICT: 409,
    TOO_MANY: 429,
    INTERNAL: 500,
}

BODY_BYTES = 64 * 1024
BODY_BYTES_MAX = 1024 * 1024
# under these names a request keeps what was read of it, and whom it is from
BODY, ABOUT = web.RequestKey("body", bytes), web.RequestKey("about", str)
BODY_S = 10.0  # real seconds a body may take to arrive
_TELL_AGAIN_S = 60.0  # the same complaint about the same peer is logged once in so long
_TOLD_KEPT = 256


class ApiError(Exception):
    """A refusal in the words of the API; `guard` makes the answer of it. `details` go to the peer as they are."""

    def __init__(self, code: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


# --- writing ------------------------------------------------------------------------------------------------------


def ok(data: Any = None, message: str = "success") -> web.Response:
    """Success: HTTP 200, code 0. Raises ValueError for NaN and infinity, which JSON does not have."""
    return _json({"code": 0, "message": message, "data": data}, 200)


def token_answer(document: Mapping[str, Any], form: Literal["bare", "wrapped"]) -> web.Response:
    """The success of the two token operations, as a rule without the envelope (G-06). Never cached on the way."""
    answer = _json(document, 200) if form == "bare" else ok(document)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def error(code: int, message: str, **details: Any) -> web.Response:
    """The error envelope with the HTTP status that belongs to the code; `details` are left out when empty."""
    document: dict[str, Any] = {"code": code, "message": message, "data": None}
    if details:
        document["details"] = details
    answer = _json(document, HTTP_STATUS[code])
    if answer.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if "retry_after_seconds" in details:
        answer.headers["Retry-After"] = str(details["retry_after_seconds"])
    return answer


def stamp(at: datetime) -> str:
    """UTC with whole seconds and Z (G-29)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(document: Mapping[str, Any], status: int) -> web.Response:
    return web.Response(
        text=json.dumps(document, allow_nan=False), status=status, content_type="application/json"
    )


# --- every request ------------------------------------------------------------------------------------------------


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever an operation raises leaves as an envelope: ApiError with its own code, an unknown path 3001 (404), a
    wrong method 1001 (405), everything unforeseen 9001. Refusals are logged once a minute per peer and code.

    Who is not on site gets no answer at all: nothing this host says may leave the site, as no egress book lists it."""
    own = request.get_extra_info("sockname")
    if not is_on_site(request.remote, own[0] if own else None):
        _tell(request, ApiError(FORBIDDEN, "not an address of the local network; not answered"))
        if request.transport is not None:
            request.transport.abort()
        return error(FORBIDDEN, "not on site")  # nobody is left to read it
    try:
        return await handler(request)
    except ApiError as refusal:
        answer = _refuse(request, refusal)
    except web.HTTPMethodNotAllowed as wrong:
        answer = _refuse(request, ApiError(INVALID, f"{wrong.method} is not offered here"))
        answer.set_status(405)
        answer.headers["Allow"] = ", ".join(sorted(wrong.allowed_methods))
    except web.HTTPNotFound:
        answer = _refuse(request, ApiError(UNKNOWN, "no such operation"))
    except web.HTTPException as wrong:
        code = INVALID if wrong.status < 500 else INTERNAL
        answer = _refuse(request, ApiError(code, wrong.reason.lower()))
    except Exception as failure:
        _report(request, failure)
        answer = error(INTERNAL, "internal error")
    if not request.content.is_eof():
        answer.force_close()  # the rest of this body is not worth waiting for
    return answer


def is_on_site(peer: str | None, own: str | None) -> bool:
    """Whether an address belongs to the local network: no public one, or in the IPv6 subnet of the address it reached."""
    try:
        address = ip_address(peer or "")
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not address.is_global:
            return True
        return isinstance(address, IPv6Address) and address in ip_network(f"{own}/64", strict=False)
    except ValueError:
        return False


def _refuse(request: web.Request, refusal: ApiError) -> web.Response:
    _tell(request, refusal)
    return error(refusal.code, refusal.message, **refusal.details)


async def read_json(
    request: web.Request,
    required: Iterable[str] = (),
    limit_bytes: int = BODY_BYTES,
    within_s: float | None = None,
) -> dict[str, Any]:
    """The JSON object of the body; an empty body is an empty object. At most `limit_bytes`, never above 1 MB, within
    BODY_S unless told otherwise.

    Raises ApiError 1001: too large, too slow, compressed, broken off, no JSON, no object; 1002: one of `required` is
    missing or null (`details.field`).
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(INVALID, "compressed bodies are not taken")
    body = await _read(request, min(limit_bytes, BODY_BYTES_MAX), BODY_S if within_s is None else within_s)
    request[BODY] = body
    if body.strip():
        try:
            document = json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise ApiError(INVALID, "the body is not JSON") from None
        if not isinstance(document, dict):
            raise ApiError(INVALID, "the body must be a JSON object")
    else:
        document = {}
    for field in required:
        if document.get(field) is None:
            raise ApiError(MISSING, f"{field} is required", field=field)
    return document


async def _read(request: web.Request, limit_bytes: int, within_s: float) -> bytes:
    too_large = ApiError(INVALID, f"the body is larger than {limit_bytes} bytes")
    if (request.content_length or 0) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large
    except TimeoutError:
        raise ApiError(INVALID, f"the body took longer than {within_s:g} s") from None
    except (ClientError, ConnectionError, web.RequestPayloadError):
        raise ApiError(INVALID, "the body broke off") from None
    return bytes(body)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# --- fields -------------------------------------------------------------------------------------------------------
# Each returns None when the field is absent or null, and raises ApiError 1001 with `details.field` when it is wrong.


def number(
    fields: Mapping[str, Any], name: str, low: float, high: float, above: bool = False
) -> float | None:
    """A finite number from `low` (with `above`: greater than `low`) to `high`."""
    value = fields.get(name)
    if value is None:
        return None
    wanted = f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, value, wanted)
    if not low <= value <= high or (above and value == low):
        raise invalid(name, value, wanted)
    return float(value)


def integer(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """A whole number from `low` to `high`; 5.0 counts as 5, as JSON Schema has it."""
    value = number(fields, name, low, high)
    if value is not None and not value.is_integer():
        raise invalid(name, fields[name], "a whole number")
    return None if value is None else int(value)


def digits(fields: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    """A whole number written in a path or query."""
    value = fields.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and low <= int(value) <= high):
        raise invalid(name, value, f"a whole number from {low} to {high}")
    return int(value)


def text(fields: Mapping[str, Any], name: str, longest: int = 128, shortest: int = 1) -> str | None:
    """Printable text of `shortest` to `longest` characters."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not shortest <= len(value) <= longest or not value.isprintable():
        raise invalid(name, value, f"a printable text of {shortest} to {longest} characters")
    return value


def choice(fields: Mapping[str, Any], name: str, known: Collection[str]) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        raise invalid(name, value, f"one of {', '.join(known)}")
    return value


def flag(fields: Mapping[str, Any], name: str) -> bool | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(name, value, "true or false")
    return value


def instant(fields: Mapping[str, Any], name: str) -> datetime | None:
    """An ISO 8601 date and time as UTC; without an offset it is read as UTC. Years 1970 to 9998."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, str) or len(value) > 40 or len(value) < 16:
            raise ValueError
        at = datetime.fromisoformat(value)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if not 1970 <= at.year < 9999:
            raise ValueError
    except (ValueError, OverflowError):
        raise invalid(name, value, "a time like 2026-11-22T18:42:07Z") from None
    return at


def invalid(field: str, value: Any, wanted: str) -> ApiError:
    """1001 that names the field; the value is repeated only where it is short and harmless."""
    details: dict[str, Any] = {"field": field}
    match value:
        case str() if len(value) <= 64 and value.isprintable():
            details["value"] = value
        case bool() | int() | float() if abs(value) < 1e15:
            details["value"] = value
    return ApiError(INVALID, f"{field} must be {wanted}", **details)


def missing(field: str) -> ApiError:
    return ApiError(MISSING, f"{field} is required", field=field)


# --- the log ------------------------------------------------------------------------------------------------------


class _Told:
    """The same complaint about the same peer is news once a minute. Bounded: the oldest are forgotten first."""

    def __init__(self) -> None:
        self._at_s: OrderedDict[tuple[str, int | str], float] = OrderedDict()

    def is_news(self, peer: str, what: int | str) -> bool:
        key, now_s = (peer, what), time.monotonic()
        if now_s - self._at_s.get(key, -math.inf) < _TELL_AGAIN_S:
            return False
        self._at_s[key] = now_s
        self._at_s.move_to_end(key)
        if len(self._at_s) > _TOLD_KEPT:
            self._at_s.popitem(last=False)
        return True


class WireLog(logging.LoggerAdapter[logging.Logger]):
    """What the HTTP library logs of connections that speak no HTTP, which no operation ever sees: one line without the
    bytes, which may hold a token, and without the traceback. Its debug notes are dropped."""

    def __init__(self) -> None:
        super().__init__(log)
        self._told = _Told()

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        failure, peer = more.get("exc_info"), str(args[0]) if args else "?"
        what = type(failure).__name__ if isinstance(failure, BaseException) else str(msg)
        if (failure or level >= logging.ERROR) and self._told.is_news(peer, what):
            log.warning("open platform host: cannot read what %s sends: %s", _clean(peer), _clean(what))


_told: WeakKeyDictionary[web.Application, _Told] = WeakKeyDictionary()


def _tell(request: web.Request, refusal: ApiError) -> None:
    peer = request.remote or "?"
    if not _told.setdefault(request.app, _Told()).is_news(peer, refusal.code):
        return
    log.warning(
        "open platform host: refused %s %s of %s: %d %s",
        request.method, _path(request), peer, refusal.code, _clean(refusal.message),
    )  # fmt: skip


def _report(request: web.Request, failure: Exception) -> None:
    frame = failure.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "?" if frame is None else f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"
    log.error(
        "open platform host: %s %s failed in %s: %s: %s",
        request.method, _path(request), where, type(failure).__name__, _clean(str(failure)),
    )  # fmt: skip


def _path(request: web.Request) -> str:
    """The path without the query, which may hold a token."""
    return _clean(request.path)


def _clean(words: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in words[:200])
