"""Local lists in the words of OCPP 1.6 and of 2.x: configuration keys, variables, entries.

Owns the names. The type of a token is not known to the depot, which holds what the driver presents; 2.x wants one, and
the length of an RFID serial number tells it. Source: OCPP 1.6 sections 5.10, 5.15, 7.2 and 9.3, 2.0.1 part 2 sections
D01-D02, 3.36 and the component LocalAuthListCtrlr.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from controller.core.model import IdToken
from drivers.ocpp import profiles, v2_setup
from drivers.ocpp.frames import Payload
from drivers.ocpp.lists import Room
from drivers.ocpp.v2_setup import Variable
from drivers.ocpp.words import Ask, Order, integer, status_of, utc_text

_LONGEST_16 = 20
_LONGEST_2 = 36
_TYPES = (
    ("ISO14443", re.compile(r"(?:[0-9A-F]{8}|[0-9A-F]{14}|[0-9A-F]{20})", re.IGNORECASE)),
    ("ISO15693", re.compile(r"[0-9A-F]{16}", re.IGNORECASE)),
    ("eMAID", re.compile(r"[A-Z]{2}-?[A-Z0-9]{3}-?C[A-Z0-9]{8}-?[A-Z0-9]?", re.IGNORECASE)),
)


def type_of(token: str) -> str:
    """A serial number of 4, 7 or 10 bytes is that of an ISO 14443 card, of 8 bytes an ISO 15693 tag."""
    return next((name for name, form in _TYPES if form.fullmatch(token)), "Central")


class Lists16:
    longest_token = _LONGEST_16

    _ENABLED, _MOST, _AT_ONCE = "LocalAuthListEnabled", "LocalAuthListMaxLength", "SendLocalListMaxLength"
    _FEATURES = "SupportedFeatureProfiles"

    async def room(self, ask: Ask) -> Room:
        keys = [self._ENABLED, self._MOST, self._AT_ONCE, self._FEATURES]
        found = profiles.read_configuration(await ask("GetConfiguration", {"key": keys}) or {})
        features = found.get(self._FEATURES.casefold())
        named = None if features is None else "localauthlistmanagement" in features.casefold()
        enabled = _truth(found, self._ENABLED)
        # some have a list and do not name the profile; only what has neither the profile nor the key has none
        available = named or (None if enabled is not None else named)
        return Room(available, enabled, _whole(found, self._MOST), _whole(found, self._AT_ONCE))

    async def switch_on(self, ask: Ask) -> bool:
        answer = await ask("ChangeConfiguration", {"key": self._ENABLED, "value": "true"})
        return status_of(answer or {}).casefold() == "accepted"

    def ask_version(self) -> Order:
        return Order("GetLocalListVersion", {})

    def version_of(self, answer: Payload) -> int | None:
        version = integer(answer.get("listVersion"))
        return None if version is None or version < 0 else version

    def entry(self, token: IdToken, status: str) -> Payload:
        info: Payload = {"status": status}
        if token.expires is not None:
            info["expiryDate"] = utc_text(token.expires)
        if token.group is not None and len(token.group) <= _LONGEST_16:
            info["parentIdTag"] = token.group
        return {"idTag": token.id, "idTagInfo": info}

    def removal(self, token: IdToken) -> Payload:
        return {"idTag": token.id}

    def update(self, version: int, full: bool, entries: Sequence[Payload]) -> Order:
        return Order("SendLocalList", {"listVersion": version, **_update(full, entries)})


class Lists2:
    longest_token = _LONGEST_2

    _AVAILABLE = Variable("LocalAuthListCtrlr", "Available")
    _ENABLED = Variable("LocalAuthListCtrlr", "Enabled")
    _AT_ONCE = Variable("LocalAuthListCtrlr", "ItemsPerMessage")

    async def room(self, ask: Ask) -> Room:
        """How many tokens it holds in all stands in no variable, only in the limits of one: it says so when it is full."""
        wanted = (self._AVAILABLE, self._ENABLED, self._AT_ONCE)
        found = await v2_setup.get_variables(ask, wanted, v2_setup.FEW)
        available, enabled = (_truth(found, each.key) for each in (self._AVAILABLE, self._ENABLED))
        return Room(available, enabled, None, _whole(found, self._AT_ONCE.key))

    async def switch_on(self, ask: Ask) -> bool:
        return await v2_setup.set_variables(ask, [(self._ENABLED, "true")], 1)

    def ask_version(self) -> Order:
        return Order("GetLocalListVersion", {})

    def version_of(self, answer: Payload) -> int | None:
        version = integer(answer.get("versionNumber"))
        return None if version is None or version < 0 else version

    def entry(self, token: IdToken, status: str) -> Payload:
        info: Payload = {"status": status}
        if token.expires is not None:
            info["cacheExpiryDateTime"] = utc_text(token.expires)
        if token.group is not None and len(token.group) <= _LONGEST_2:
            info["groupIdToken"] = {"idToken": token.group, "type": "Central"}
        return {**self.removal(token), "idTokenInfo": info}

    def removal(self, token: IdToken) -> Payload:
        return {"idToken": {"idToken": token.id, "type": type_of(token.id)}}

    def update(self, version: int, full: bool, entries: Sequence[Payload]) -> Order:
        return Order("SendLocalList", {"versionNumber": version, **_update(full, entries)})


def _update(full: bool, entries: Sequence[Payload]) -> Payload:
    update: Payload = {"updateType": "Full" if full else "Differential"}
    if entries:
        update["localAuthorizationList"] = list(entries)
    return update


def _whole(found: Mapping[str, str], key: str) -> int | None:
    text = found.get(key.casefold(), "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _truth(found: Mapping[str, str], key: str) -> bool | None:
    return {"true": True, "false": False}.get(found.get(key.casefold(), "").casefold())
