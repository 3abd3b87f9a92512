"""The gate of the charger surface: who gets an identity, who gets a token, and who is turned away.

Owns registration and tokens. Only an announced serial number of the announced model, on firmware proven to hold a
second backend, registers, and only once; a charger that lost its identity needs a person (`forget`). Every refusal of
a stranger takes the same time and says the same, in codes the operations document: they know no 403, so who may not
register is 1001, and whose firmware closed the gate has no good token (2001). Every refusal is reported, once a minute
for the same charger and reason. Secrets are never logged.
Source: openapi.yaml registerDevice, deviceToken; GAPS G-03, G-04, G-22, G-23.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Protocol

from aiohttp import web

from controller.core.events import AccessRefused, Event
from controller.core.model import StationId
from controller.core.readings import Readings
from controller.ports import Clock, Report
from drivers.openplatform.answers import (
    CONFLICT,
    INTERNAL,
    INVALID,
    UNAUTHORIZED,
    ApiError,
    ok,
    read_json,
    token_answer,
)
from drivers.openplatform.devices_belief import DeviceBelief
from drivers.openplatform.devices_faults import CHANNEL
from drivers.openplatform.devices_words import Introduction, read_credentials, read_introduction
from drivers.openplatform.tokens import Grant, Quota, Tokens, bearer
from drivers.openplatform.vault import Vault, VaultFull

log = logging.getLogger(__name__)

REFUSE_AFTER_S = 0.5  # real seconds
_TELL_AGAIN_S = 60.0
_TOLD_KEPT = 256
_SCOPES = frozenset({"device"})
_REGISTER = ("sn", "model", "manufacturer", "firmware_version")
_TOKEN = ("device_id", "device_secret", "grant_type")


class Announced(Protocol):
    """What the gate has to know of a charger that may come."""

    @property
    def station(self) -> StationId: ...
    @property
    def model(self) -> str: ...
    @property
    def belief(self) -> DeviceBelief: ...


class Gate:
    """`chargers` by serial number. `vault` is open."""

    def __init__(
        self,
        chargers: Mapping[str, Announced],
        vault: Vault,
        clock: Clock,
        report: Report,
        readings: Readings,
    ) -> None:
        self._chargers = chargers
        self._serials = {vault.device_id(serial): serial for serial in chargers}
        self._vault = vault
        self._clock = clock
        self._report = report
        self._tokens = Tokens(keep=4)
        self._readings = readings
        self._registers = Quota(readings.registrations_per_min)
        self._token_calls = Quota(readings.tokens_per_min)
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def introduce(self) -> None:
        """Looks again at the firmware of everybody known from before."""
        for serial, charger in self._chargers.items():
            known = self._vault.identity(serial)
            if known is not None:
                await self._tell(
                    charger.belief.link.introduced(known.vendor, known.model, known.firmware, "")
                )

    def admit(self, request: web.Request) -> str:
        """The serial number of the caller. Raises ApiError 2001, 2002."""
        token = bearer(request.headers.get("Authorization"))
        grant: Grant = self._tokens.check(token, self._clock.now().mono_s)
        self._check_firmware(grant.holder)
        return grant.holder

    async def register(self, request: web.Request) -> web.Response:
        peer = request.remote or "?"
        self._registers.spend(peer, self._clock.now().mono_s)
        who = read_introduction(await read_json(request, _REGISTER))
        charger = self._chargers.get(who.serial)
        if charger is None:
            await self._refused(who.serial, peer, "this serial number was not announced")
        elif charger.model != who.model:
            await self._refused(charger.station, peer, f"announced as {charger.model}, says {who.model}")
        elif self._vault.identity(who.serial) is not None:
            await self._refused(charger.station, peer, "registers again although it has an identity")
            raise ApiError(CONFLICT, "registered already", field="sn")
        else:
            await self._tell(charger.belief.link.introduced(who.vendor, who.model, who.firmware, peer))
            if charger.belief.link.admitted:
                return await self._enrol(charger, who)
        await asyncio.sleep(REFUSE_AFTER_S)
        raise ApiError(INVALID, "this charger may not register here")

    async def token(self, request: web.Request) -> web.Response:
        device_id, secret = read_credentials(await read_json(request, _TOKEN))
        now_s, peer = self._clock.now().mono_s, request.remote or "?"
        serial = self._serials.get(device_id)
        self._token_calls.spend(f"? {peer}" if serial is None else serial, now_s)
        # an unknown charger costs the same comparison
        if not self._vault.has_secret(serial or "", secret) or serial is None:
            who = device_id if serial is None else self._chargers[serial].station
            await self._refused(who, peer, "unknown charger" if serial is None else "wrong secret")
            raise ApiError(UNAUTHORIZED, "charger not recognised")
        self._check_firmware(serial)
        return token_answer(self._tokens.issue(serial, _SCOPES, now_s), self._readings.token_answer)

    async def forget(self, serial: str) -> bool:
        """A person lets a charger that lost its identity register again; False when it had none. Raises VaultFull."""
        if self._vault.identity(serial) is None:
            return False
        self._vault.forget(serial)
        self._tokens.revoke(serial)
        await self._vault.commit()
        return True

    async def _enrol(self, charger: Announced, who: Introduction) -> web.Response:
        if self._vault.identity(who.serial) is not None:  # twice at the same moment: the first one has it
            raise ApiError(CONFLICT, "registered already", field="sn")
        secret = self._vault.enrol(who.serial, who.vendor, who.model, who.firmware)
        try:
            await self._vault.commit()
        except VaultFull as full:
            self._vault.forget(who.serial)
            log.error("%s cannot register: %s", charger.station, full)
            raise ApiError(INTERNAL, "not stored, send it again") from None
        device_id = self._vault.device_id(who.serial)
        log.info("%s registered as %s", charger.station, device_id)
        expires_s = int(self._readings.secret_expires_in_s)
        return ok({"device_id": device_id, "device_secret": secret, "expires_in": expires_s})

    def _check_firmware(self, serial: str) -> None:
        if not self._chargers[serial].belief.link.admitted:
            raise ApiError(UNAUTHORIZED, "this firmware may not use the platform link")

    async def _refused(self, identity: str, peer: str, reason: str) -> None:
        now_s, key = self._clock.now().mono_s, (identity, reason)
        if now_s - self._told.get(key, float("-inf")) < _TELL_AGAIN_S:
            return
        self._told[key] = now_s
        self._told.move_to_end(key)
        if len(self._told) > _TOLD_KEPT:
            self._told.popitem(last=False)
        await self._tell([AccessRefused(CHANNEL, identity, peer, reason)])

    async def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            await self._report(event)
