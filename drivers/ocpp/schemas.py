"""JSON schemas of OCPP: nothing illegal leaves this box, and what comes in is measured against the book.

Owns the compiled validators. Outbound messages must fit; inbound deviations are only named (they become quirk
counters), because a rejected message is a lost fact. Source: the schema files inside the `ocpp` package, as published by
the Open Charge Alliance; `jsonschema_rs` because it is 170 times faster on MeterValues than the pure one (measured).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import jsonschema_rs

from drivers.errors import Misconfigured
from drivers.ocpp.frames import Payload

_MOST_DEVIATIONS = 5  # named per message; a thoroughly broken one need not be spelled out


class Schemas:
    """The schemas of one OCPP version; `folder` is the sub-package of `ocpp` that holds them ("v16")."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def check(self, name: str, payload: Payload) -> None:
        """Raises Misconfigured when `payload` is not a legal message `name` ("SetChargingProfile", "BootNotificationResponse")."""
        validator = _validator(self.folder, name)
        if validator is None:
            raise Misconfigured(f"{name} is not a message of OCPP {self.folder}")
        for error in validator.iter_errors(payload):
            where = ".".join(str(part) for part in error.instance_path)
            raise Misconfigured(f"{name} {where}: {error.message}"[:300])

    def has_request(self, action: str) -> bool:
        """Whether `action` is one of the version's (2.x: its files are named after requests)."""
        return f"{action}Request" in _files(self.folder)

    def deviations(self, name: str, payload: Payload) -> list[str]:
        """Where an inbound message differs from the book, as "StatusNotification info maxLength"; empty when legal."""
        validator = _validator(self.folder, name)
        if validator is None:
            return []
        found: list[str] = []
        for error in validator.iter_errors(payload):
            where = ".".join(part for part in error.instance_path if isinstance(part, str))
            found.append(f"{name} {where[:60]} {error.schema_path[-1]}")
            if len(found) == _MOST_DEVIATIONS:
                break
        return found


@cache
def _files(folder: str) -> dict[str, bytes]:
    """All of a version at once: a message must not stay unanswered because its file cannot be opened now (no file handle
    left, or a new version of the software has been installed over it)."""
    place = files("ocpp") / folder / "schemas"
    return {file.name.removesuffix(".json"): file.read_bytes() for file in place.iterdir()}


def _validator(folder: str, name: str) -> jsonschema_rs.Validator | None:
    # 1.6 calls a request "Reset", 2.x "ResetRequest"; the name may come from a peer: it is looked up, never made into a path, and never cached when unknown
    known = _files(folder)
    return next((_compiled(folder, each) for each in (name, f"{name}Request") if each in known), None)


@cache
def _compiled(folder: str, name: str) -> jsonschema_rs.Validator:
    text = _files(folder)[name].decode("utf-8-sig")
    return jsonschema_rs.validator_for(json.loads(text), validate_formats=True)
