"""Frames of OCPP-J: text <-> calls, results and errors, and what may be shown of them.

Owns the guard that looks at a frame before the JSON parser does, the shape of the array, and the redaction of frames
that are kept for people. Pure; knows no action and no version. Source: OCPP-J 1.6 section 4 (the same array in 2.0.1
part 4; 2.1 adds types 5 and 6); the limits come from our probes of hostile input (nesting and long integers kill a parser, 1 MB ids get echoed).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from controller.core.frames import KEPT_TEXT

Payload = dict[str, Any]

MAX_FRAME = 65_536  # bytes; a full GetConfiguration answer of a talkative station is about 20 kB
MAX_DEPTH = 24  # the deepest legal OCPP message has 9 levels
MAX_DIGITS = 20  # a 64-bit register has 20
MAX_ID = 36  # a UUID

_CALL, _RESULT, _ERROR, _RESULT_ERROR, _SEND = 2, 3, 4, 5, 6

# Strings match possessively and may be unterminated, so that the scan stays linear whatever comes.
_TOKENS = re.compile(rf'"(?:[^"\\]|\\.)*+"?|[\[{{]|[\]}}]|\d{{{MAX_DIGITS + 1},}}', re.DOTALL)
# Every ASCII digit as "0" and every other byte as a blank: ten times as fast as a pattern that looks for long numbers.
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_LONG_NUMBER = b"0" * (MAX_DIGITS + 1)
_LEADING_ID = re.compile(rf'\s*\[\s*2\s*,\s*"([^"\\]{{1,{MAX_ID}}})"')
_SECRET_VALUE = re.compile(r'("(?:value|attributeValue)"\s*:\s*")((?:[^"\\]|\\.)*+)')
_PASSWORD = re.compile(r'("\w{0,20}password"\s*:\s*")((?:[^"\\]|\\.)*+)', re.IGNORECASE)
_VPN_KEY = re.compile(r'("vpn".{0,600}"key"\s*:\s*")((?:[^"\\]|\\.)*+)', re.DOTALL)
_TOKEN_VALUE = re.compile(
    r'("(?:idTag|parentIdTag|idToken|additionalIdToken)"\s*:\s*")((?:[^"\\]|\\.)*+)', re.IGNORECASE
)
_CUSTOMER = re.compile(r'("data"\s*:\s*")((?:[^"\\]|\\.)*+)')
_PIN = re.compile(r'("simPin"\s*:\s*)(\d+)')
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_URL_PASSWORD = re.compile(r"://[^/@\s\"]*@")


class Flaw(Enum):
    """What can be wrong with a call; every OCPP version spells these in its own way."""

    FORMATION = auto()
    PROTOCOL = auto()
    PROPERTY = auto()
    OCCURRENCE = auto()
    TYPE = auto()
    NOT_IMPLEMENTED = auto()
    NOT_SUPPORTED = auto()
    INTERNAL = auto()
    SECURITY = auto()


class BadCall(Exception):
    """A call of the station that cannot be carried out; `text` goes into the error we answer."""

    def __init__(self, flaw: Flaw, text: str) -> None:
        super().__init__(text)
        self.flaw = flaw
        self.text = text


@dataclass(frozen=True, slots=True)
class Call:
    id: str
    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Result:
    id: str
    payload: object


@dataclass(frozen=True, slots=True)
class Error:
    id: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a frame of OCPP-J. `id` is None when nobody can be answered."""

    id: str | None
    flaw: Flaw
    text: str


@dataclass(frozen=True, slots=True)
class Aside:
    """Lawful and without an answer (OCPP 2.1): an error about our answer, or a line of a stream."""

    text: str


def parse(text: str) -> Call | Result | Error | Aside | Malformed:
    """Reads one frame; never raises, whatever the text."""
    flaw = _too_much(text)
    if flaw is not None:
        return Malformed(_leading_id(text), Flaw.FORMATION, flaw)
    try:
        frame = json.loads(text, parse_constant=_no_constant)
        if (
            "\\ud" in text.casefold()
        ):  # half a surrogate pair cannot be encoded again: make it unprintable instead
            frame = json.loads(_HALF_PAIR.sub(r"\\u0000", json.dumps(frame, ensure_ascii=False)))
    except ValueError as error:
        return Malformed(_leading_id(text), Flaw.FORMATION, f"not JSON: {error}"[:200])
    if not isinstance(frame, list) or len(frame) < 2:
        return Malformed(None, Flaw.FORMATION, "not an OCPP-J array")
    kind, message_id = frame[0], frame[1]
    if not isinstance(message_id, str) or not 0 < len(message_id) <= MAX_ID or not message_id.isprintable():
        return Malformed(None, Flaw.FORMATION, "no readable message id")
    if not isinstance(kind, bool) and kind in (_RESULT_ERROR, _SEND):
        words = [_word(frame, at) for at in range(2, 4)]
        return Aside(
            f"{'takes our answer for wrong' if kind == _RESULT_ERROR else 'sent'}: {' '.join(words)}"
        )
    if isinstance(kind, bool) or kind not in (_CALL, _RESULT, _ERROR):
        # OCPP-J: a frame of an unknown type is ignored, not answered
        return Malformed(None, Flaw.PROTOCOL, "unknown message type")
    if kind == _RESULT:
        return Result(message_id, frame[2] if len(frame) == 3 else None)
    if kind == _ERROR:
        return Error(message_id, _word(frame, 2) or "GenericError", _word(frame, 3))
    return _call(message_id, frame)


def encode_call(message_id: str, action: str, payload: Payload) -> str:
    return _encode([_CALL, message_id, action, payload])


def encode_result(message_id: str, payload: Payload) -> str:
    return _encode([_RESULT, message_id, payload])


def encode_error(message_id: str, code: str, text: str) -> str:
    return _encode([_ERROR, message_id, code, text[:255], {}])


def redacted(text: str) -> str:
    """The frame without secrets: keys and URL passwords gone, id tokens masked to their last four characters."""
    kept = text[:KEPT_TEXT]
    folded = text.casefold()  # to look for a word costs little, to look for what stands behind it much more
    if "authorizationkey" in folded or "basicauthpassword" in folded:
        kept = _SECRET_VALUE.sub(r"\1***", kept)
    if "password" in folded:
        kept = _PASSWORD.sub(r"\1***", kept)
    if "customerinformation" in folded:
        kept = _CUSTOMER.sub(r"\1***", kept)
    if '"apn"' in folded:
        kept = _PIN.sub(r"\1***", kept)
    if '"vpn"' in folded:
        kept = _VPN_KEY.sub(r"\1***", kept)
    if "idtag" in folded or "idtoken" in folded:
        kept = _TOKEN_VALUE.sub(lambda match: match[1] + masked(match[2]), kept)
    return _URL_PASSWORD.sub("://***@", kept) if "://" in kept else kept


def clean(text: str, most: int) -> str:
    """Printable text of at most `most` characters: no control signs, no lone surrogates, no blanks around it."""
    return "".join(sign for sign in text[: 4 * most] if sign.isprintable()).strip()[:most]


def masked(token: str) -> str:
    return "…" + token[-4:] if len(token) > 4 else "…"


def _too_much(text: str) -> str | None:
    if len(text) > MAX_FRAME:
        return "frame too long"
    digits = text.encode("utf-8", "surrogatepass").translate(_DIGITS)
    if text.count("[") + text.count("{") <= MAX_DEPTH and _LONG_NUMBER not in digits:
        return None  # nearly every frame; the scan below takes a fifth of the time of such a one
    depth = 0
    for match in _TOKENS.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return "nested too deeply"
        elif first in "]}":
            depth -= 1
        elif first != '"':
            return "number too long"
    return None


def _leading_id(text: str) -> str | None:
    match = _LEADING_ID.match(text)
    return match[1] if match is not None and match[1].isprintable() else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _word(frame: list[object], at: int) -> str:
    word = frame[at] if len(frame) > at else None
    return clean(word, 255) if isinstance(word, str) else ""


def _call(message_id: str, frame: list[object]) -> Call | Malformed:
    if len(frame) < 4:
        return Malformed(message_id, Flaw.PROTOCOL, "a call has four elements")
    if len(frame) > 4:
        return Malformed(message_id, Flaw.FORMATION, "a call has four elements")
    action, payload = frame[2], frame[3]
    if not isinstance(action, str):
        return Malformed(message_id, Flaw.FORMATION, "the action is not text")
    if not isinstance(payload, dict):
        return Malformed(message_id, Flaw.FORMATION, "the payload is not an object")
    return Call(message_id, action, payload)


def _encode(frame: list[object]) -> str:
    return json.dumps(frame, separators=(",", ":"), allow_nan=False)
