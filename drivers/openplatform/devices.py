"""The nine operations of the charger surface, and the order of things for one charger.

Owns quotas, and that a fact is reported, what must survive is on the disk, and only then the charger gets its answer;
facts of one charger never overtake each other. Who may call stands in `devices_gate`, what facts mean in
`devices_belief`, how commands are fetched in `devices_hatch`, what the fields are in `devices_words`.
Source: openapi.yaml /v1/device, REFERENCE sections 6 and 13, GAPS G-19, G-22.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from aiohttp import web

from controller.core.commands import Steering, UpgradeFirmware
from controller.core.events import CommandRefused, Event, RecordReceived, TransactionStarted
from controller.core.model import Evse, Moment, StationId
from controller.core.readings import Readings
from controller.ports import Clock, Report
from drivers.openplatform import devices_words as words
from drivers.openplatform.answers import (
    ABOUT,
    INTERNAL,
    TOO_MANY,
    UNKNOWN,
    ApiError,
    digits,
    invalid,
    missing,
    ok,
    read_json,
)
from drivers.openplatform.books import contradiction
from drivers.openplatform.clients_words import LocalDevice
from drivers.openplatform.devices_belief import DeviceBelief
from drivers.openplatform.devices_faults import CHANNEL
from drivers.openplatform.devices_firmware import DeviceFirmware
from drivers.openplatform.devices_gate import Gate
from drivers.openplatform.devices_hatch import Hatch
from drivers.openplatform.devices_plans import DevicePlans
from drivers.openplatform.tokens import Quota
from drivers.openplatform.vault import Vault, VaultFull

log = logging.getLogger(__name__)

LONGEST_POLL_S, USUAL_POLL_S = 60, 30
_MOST_WAITING = 16  # requests of one charger in line; more is a charger that does not wait for answers


@dataclass(frozen=True, slots=True)
class OnsiteCharger:
    """An announced charger: only its serial number and model may register. `evses` by connector number, from 1."""

    station: StationId
    model: str
    evses: Mapping[int, Evse]


@dataclass(slots=True)
class _Charger:
    """One charger at work. `order`: one fact after the other."""

    serial: str
    device_id: str
    station: StationId
    model: str
    evses: Mapping[int, Evse]
    belief: DeviceBelief
    hatch: Hatch
    firmware: DeviceFirmware
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


Operation = Callable[[web.Request, _Charger], Awaitable[web.Response]]


class DeviceSurface:
    """`routes` go into an application with the `guard` of `answers`; `tick` must be called about once a second.

    `vault` is open. `devices` shows local clients what is known of each charger, by device id."""

    def __init__(
        self,
        chargers: Mapping[str, OnsiteCharger],
        vault: Vault,
        clock: Clock,
        readings: Readings,
        report: Report,
        can_discharge: bool,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._readings = readings
        self._report = report
        self._run = secrets.token_hex(3)  # the ledger may count its boots anew
        self._full = False
        evses = {evse.id: evse for about in chargers.values() for evse in about.evses.values()}
        self.plans = DevicePlans(evses, vault, can_discharge, readings)
        self._live = Quota(10, 1.0)
        self._reports = Quota(readings.uploads_per_min)
        self._words = Quota(240)  # we cause them ourselves, two for each command
        self._polls = Quota(240)  # each command ends one
        self._chargers = {serial: self._charger(serial, about) for serial, about in chargers.items()}
        self._by_evse = {
            evse.id: charger for charger in self._chargers.values() for evse in charger.evses.values()
        }
        self.gate = Gate(self._chargers, vault, clock, report, readings)
        self.devices: dict[str, LocalDevice] = {}
        for charger in self._chargers.values():
            self._publish(charger)

    def _charger(self, serial: str, about: OnsiteCharger) -> _Charger:
        memory = self._vault.memory(about.station)
        belief = DeviceBelief(about.station, serial, about.evses, self._readings, memory)

        async def keep() -> None:
            await self._keep(charger, must=False)

        hatch = Hatch(
            about.evses,
            belief,
            self._clock,
            self._readings,
            self._report,
            lambda name: self._vault.tag(serial, name),
            self._run,
            keep,
            self.plans,
        )
        device_id = self._vault.device_id(serial)
        firmware = DeviceFirmware(serial, belief.link, self._vault, self._readings)
        charger = _Charger(
            serial, device_id, about.station, about.model, about.evses, belief, hatch, firmware
        )
        return charger

    def routes(self) -> list[web.RouteDef]:
        """All nine operations."""
        post, live, reports = web.post, self._live, self._reports
        return [
            post("/v1/device/register", self._register),
            post("/v1/device/token", self.gate.token),
            post("/v1/device/heartbeat", self._admitted(live, self._heartbeat)),
            post("/v1/device/telemetry", self._admitted(live, self._telemetry)),
            post("/v1/device/events", self._admitted(reports, self._event)),
            post("/v1/device/charging-records", self._admitted(reports, self._record)),
            web.get("/v1/device/commands", self._admitted(self._polls, self._poll), allow_head=False),
            post("/v1/device/command-status", self._admitted(self._words, self._command_status)),
            post("/v1/device/firmware/status", self._admitted(reports, self._firmware_status)),
        ]

    # --- the host's side ----------------------------------------------------------------------------------------------

    def send(self, command: Steering | UpgradeFirmware) -> list[Event]:
        """Lays a command out for its charger; returns what is decided about commands by that."""
        charger = self._by_evse.get(command.evse)
        if charger is None:
            return [CommandRefused(command.id, "not on this channel")]
        if not charger.belief.link.up:
            return [CommandRefused(command.id, "not connected")]
        if isinstance(command, UpgradeFirmware) and (reason := charger.firmware.order(command)):
            return [CommandRefused(command.id, reason)]
        return charger.hatch.put(command)

    async def commit(self) -> None:
        """Returns when everything that has to survive is on the disk. Raises VaultFull."""
        await self._vault.commit()

    async def tick(self) -> None:
        """What time alone decides: silence, commands without an answer, commands to hand out once more."""
        for charger in self._chargers.values():
            now = self._clock.now()
            events = [*charger.belief.tick(now), *charger.hatch.tick(now.mono_s)]
            if events:
                async with charger.order:
                    await self._say(charger, events)
                    await self._keep(charger, must=False)

    def abandon(self) -> list[Event]:
        """The host stops: ends every poll, and returns what became of the commands."""
        return [event for charger in self._chargers.values() for event in charger.hatch.abandon()]

    # --- operations ---------------------------------------------------------------------------------------------------

    def _admitted(
        self, quota: Quota, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            charger = self._chargers[self.gate.admit(request)]
            request[ABOUT] = charger.station
            quota.spend(charger.serial, self._clock.now().mono_s)
            return await operation(request, charger)

        return handle

    async def _register(self, request: web.Request) -> web.Response:
        answer = await self.gate.register(request)
        for charger in self._chargers.values():
            self._publish(charger)
        return answer

    async def _heartbeat(self, request: web.Request, charger: _Charger) -> web.Response:
        beat = words.read_heartbeat(await read_json(request), self._readings)
        await self._fold(charger, request, lambda now: charger.belief.heartbeat(beat, now))
        self._publish(charger, self._clock.now().utc)
        return ok({"commands": [] if beat.status == "offline" else await charger.hatch.without_poll()})

    async def _telemetry(self, request: web.Request, charger: _Charger) -> web.Response:
        reading = words.read_telemetry(await read_json(request))
        _evse(charger, reading.number)
        await self._fold(charger, request, lambda now: charger.belief.telemetry(reading, now))
        return ok()

    async def _event(self, request: web.Request, charger: _Charger) -> web.Response:
        event = words.read_event(await read_json(request), self._readings)
        _evse(charger, event.number)
        await self._fold(charger, request, lambda now: charger.belief.event(event, now))
        return ok()

    async def _record(self, request: web.Request, charger: _Charger) -> web.Response:
        record = words.read_record(await read_json(request))
        received = RecordReceived(
            _evse(charger, record.number).id,
            CHANNEL,
            record.id,
            record.started,
            record.ended,
            record.energy_wh,
            record.register_start_wh,
            record.register_end_wh,
            record.reason,
        )
        known = self._vault.has_record(charger.serial, record.id)
        if not known and (doubt := contradiction(received, self._readings)):
            log.warning("%s: record %s: %s", charger.station, record.id, doubt)

        def closed(now: Moment) -> list[Event]:
            return [] if known else [*charger.belief.record(record, now), received]

        await self._fold(charger, request, closed)
        if not known:
            try:
                await self._vault.keep_record(charger.serial, record.id, self._clock.now().utc.date())
            except VaultFull as full:
                raise self._not_stored(full) from None
        return ok()

    async def _poll(self, request: web.Request, charger: _Charger) -> web.Response:
        number = digits(request.query, "connector_id", 1, 999)
        if number is None:
            raise missing("connector_id")
        _evse(charger, number)
        wait_s = digits(request.query, "wait", 1, LONGEST_POLL_S) or USUAL_POLL_S
        await self._fold(charger, request, lambda now: [])
        return ok(await charger.hatch.poll(request, number, wait_s))

    async def _command_status(self, request: web.Request, charger: _Charger) -> web.Response:
        word = words.read_command_word(await read_json(request))
        if not charger.hatch.is_ours(word):
            raise ApiError(UNKNOWN, "no such command")
        await self._fold(
            charger, request, lambda now: charger.hatch.settle(word) or charger.firmware.said(word)
        )
        return ok()

    async def _firmware_status(self, request: web.Request, charger: _Charger) -> web.Response:
        word = words.read_upgrade_word(await read_json(request))
        peer = request.remote or "?"
        await self._fold(charger, request, lambda now: charger.firmware.reported(word, peer))
        self._publish(charger)
        return ok()

    # --- pieces -------------------------------------------------------------------------------------------------------

    async def _fold(
        self, charger: _Charger, request: web.Request, work: Callable[[Moment], Iterable[Event]]
    ) -> None:
        """Takes what a charger said as one piece: reports what follows, in order, and stores what must survive."""
        if charger.waiting >= _MOST_WAITING:
            raise ApiError(TOO_MANY, "wait for the answers to what you sent", retry_after_seconds=5)
        charger.waiting += 1
        try:
            async with charger.order:
                now = self._clock.now()
                await self._say(charger, [*charger.belief.heard(request.remote or "?", now), *work(now)])
                await self._keep(charger)
        finally:
            charger.waiting -= 1

    async def _say(self, charger: _Charger, events: Iterable[Event]) -> None:
        for event in events:
            answer = await self._report(event)
            if isinstance(event, TransactionStarted):
                charger.belief.numbered(event.evse, answer.transaction)

    async def _keep(self, charger: _Charger, must: bool = True) -> None:
        """Stores what the charger is in the middle of. Raises ApiError when it `must` be and the disk is full."""
        self._vault.remember(charger.station, charger.belief.memory())
        try:
            await self._vault.commit()
        except VaultFull as full:
            refusal = self._not_stored(full)
            if must:
                raise refusal from None
        else:
            self._full = False

    def _not_stored(self, full: VaultFull) -> ApiError:
        if not self._full:
            log.error("what chargers say cannot be stored: %s", full)
        self._full = True
        return ApiError(INTERNAL, "not stored, send it again")

    def _publish(self, charger: _Charger, heartbeat: datetime | None = None) -> None:
        """What local clients may see of the charger."""
        known, shown = self._vault.identity(charger.serial), self.devices.get(charger.device_id)
        if heartbeat is not None and shown is not None:
            self.devices[charger.device_id] = replace(shown, last_heartbeat=heartbeat)
            return
        self.devices[charger.device_id] = LocalDevice(
            charger.device_id,
            charger.evses,
            charger.serial,
            None if known is None else known.vendor,
            charger.model if known is None else known.model,
            None if known is None else known.firmware,
            None if shown is None else shown.last_heartbeat,
        )


def _evse(charger: _Charger, number: int) -> Evse:
    evse = charger.evses.get(number)
    if evse is None:
        raise invalid("connector_id", number, "a connector of this charger")
    return evse
