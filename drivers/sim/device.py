"""A simulated charger that speaks the charger side of the Open Platform to an on-site host.

Owns what a careful charger does by itself (REFERENCE 13): it acts on every command once, however often and over
whichever path it comes, says `accepted` before it acts, reports plugs, sessions, faults and records, and sends
telemetry every 5 s in a session, every 60 s idle, at once on a change. What it does with orders stands in
`cloudcharger` and is the same behind the hosted platform; how it talks stands in `devicelink`, what it carries through
a reboot in `devicememory`. Must not share code with drivers.openplatform.
Readings: a start, a discharge or an upgrade whose `accepted` did not reach the host is not carried out, everything
else is done at once (G-08, G-34). `set_power_limit` is `completed` when it ends by itself, a replaced one says no
more. A command that was under way when the power went is `failed`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from controller.core.model import Moment, Schedule
from controller.ports import Clock
from drivers.sim import devicewords
from drivers.sim.cloudcharger import CloudCharger, Order
from drivers.sim.cloudconnector import Connector, Progress, Record, Session
from drivers.sim.cloudwords import LimitOrder, Refusal
from drivers.sim.devicelink import DeviceLink
from drivers.sim.devicememory import EVENT, RECORD, Memory
from drivers.sim.deviceorders import Command, UpgradeOrder, forever, read_command
from drivers.sim.devicewire import DeviceWire, Json
from drivers.sim.evse import SimEvse, watched
from drivers.sim.quirks import CAREFUL, DeviceQuirks
from drivers.sim.vehicle import Vehicle

log = logging.getLogger(__name__)

LOOK_S = 0.5  # how often it looks at its clock; cables, faults and orders are seen at once
ACTIVE_UPLOAD_S = 5.0
IDLE_UPLOAD_S = 60.0  # G-16
WORD_S = 5.0  # real seconds `accepted` may take to the host before a start is given up
UPGRADE_STEP_S = 10.0
UPGRADE_STEPS = (
    ("downloading", 0),
    ("downloading", 50),
    ("downloading", 100),
    ("upgrading", 0),
    ("upgrading", 50),
)
BAD_IMAGE = "signature_check_failed"
BOOT_S = 20.0
FIRMWARE_STATUS = "firmware/status"
PENDING_KINDS = ("start_charging", "discharge", "firmware_upgrade")


@dataclass(slots=True)
class Seen:
    """What the charger last noticed and reported of a connector; times are `mono_s`."""

    vehicle: Vehicle | None = None
    session: Session | None = None
    fault: str | None = None
    state: tuple[str, bool] | None = None
    uploaded_s: float = -math.inf
    kept_s: float = -math.inf
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)  # one order at a time, in order of arrival


class SimDevice:
    """Connectors 1..n are `evses`; `base_url` is like "http://127.0.0.1:8080/v1".

    clock     everything but the wire's own time-outs runs on it
    store     plain JSON values; what survives a reboot and, if the caller keeps it, the process
    rated_kw  what percentages refer to (default: what its connectors can do together)
    """

    def __init__(
        self,
        serial: str,
        model: str,
        firmware: str,
        base_url: str,
        evses: Sequence[SimEvse],
        clock: Clock,
        store: Json,
        *,
        quirks: DeviceQuirks = CAREFUL,
        rated_kw: float | None = None,
        manufacturer: str = "Simulated",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.serial = serial
        self.manufacturer = manufacturer
        self.clock = clock
        self.quirks = quirks
        if rated_kw is None:
            rated_kw = sum(evse.max_a * evse.voltage_v * len(evse.phases) for evse in evses) / 1e3
        self.charger = CloudCharger(
            serial,
            serial,
            model,
            firmware,
            list(evses),
            rated_kw,
            paused_status=quirks.paused_state,
            schedule_starts=quirks.schedule_starts,
        )
        self.memory = Memory(store)
        self.memory.restore(self.charger)
        wire = DeviceWire(base_url, clock, tls)
        self.link = DeviceLink(wire, self.memory, clock, self, len(self.connectors), quirks)
        self._seen = [Seen() for _ in self.connectors]
        self._told: dict[str, asyncio.Event] = {}
        self._link_since_s: float | None = None
        self._off_until_s = -math.inf
        self._tasks: asyncio.TaskGroup | None = None
        self._work: set[asyncio.Task[None]] = set()

    # --- what tests and the demo do to it ---------------------------------------------------------------------

    @property
    def connectors(self) -> list[Connector]:
        return self.charger.connectors

    @property
    def connected(self) -> bool:
        """The host has answered a heartbeat and every request since."""
        return self.link.connected

    async def run(self) -> None:
        """Lives until cancelled; then the power is gone: contactors open, no socket left behind."""
        try:
            with watched((connector.evse for connector in self.connectors), self.look):
                self.link_changed(False)
                async with asyncio.TaskGroup() as self._tasks:
                    self._tasks.create_task(self.link.run())
                    self._tasks.create_task(self._look_regularly())
        finally:
            self._tasks = None
            self._lose_power()

    def reboot(self, away_s: float = BOOT_S) -> None:
        """The power is gone for `away_s`: sessions and limits end, RAM is lost, `store` stays."""
        self._lose_power()
        self._off_until_s = self.clock.now().mono_s + away_s
        self.link.drop(away_s)

    def drop_link(self, seconds: float = 0.0) -> None:
        """Cuts every connection, and dials again after `seconds` and a random time; charging goes on."""
        self.link.drop(seconds)

    def look(self) -> None:
        """Looks at cables, clocks, limits and schedules and acts on them. Cheap when nothing happened."""
        now = self._now()
        if now.mono_s < self._off_until_s:
            return
        self.charger.step(now)
        self._drain(now)
        for connector, seen in zip(self.connectors, self._seen, strict=True):
            self._notice(connector, seen, now)
            self._upload(connector, seen, now)
        if self.memory.statuses or self.memory.reports:
            self.link.news.set()  # an entry may have become due again

    # --- for the link -----------------------------------------------------------------------------------------

    def identity(self) -> Json:
        return {
            "sn": self.serial,
            "model": self.charger.model,
            "manufacturer": self.manufacturer,
            "firmware_version": self.charger.firmware_version,
        }

    def beat(self) -> Json:
        return devicewords.heartbeat(self.connectors, self._now().utc)

    def link_changed(self, up: bool) -> None:
        now_s = self.clock.now().mono_s
        self._link_since_s = now_s if up else None
        self.charger.link_lost_s = None if up else now_s
        if not up:
            return
        for seen in self._seen:
            seen.uploaded_s = -math.inf  # the host wants to see how it stands
        self._finish_upgrade()
        self.look()

    def told(self, status: Json) -> None:
        waiting = self._told.get(status["command_id"])
        if waiting is not None:
            waiting.set()

    def take(self, fields: Any, polled: int | None) -> bool:
        """One command from the wire; returns whether it was new."""
        command_id = fields.get("command_id") if isinstance(fields, dict) else None
        if not isinstance(command_id, str) or not command_id:
            log.warning("%s: got a command without an id", self.serial)
            return False
        now = self._now()
        if not self.memory.first_time(command_id, str(fields.get("command")), now.utc):
            self._repeat(command_id)
            return False
        try:
            command = read_command(fields, polled, len(self.connectors))
        except Refusal as refusal:
            self._say(command_id, "rejected", {"reason": str(refusal)}, now)
            return True
        refused = self._why_not(command, str(fields["command"]), now)
        if refused is not None:
            self._say(command_id, "rejected", {"reason": refused}, now)
            return True
        self._say(command_id, "accepted", None, now)
        if command.waits_for_word and not self.quirks.no_status:
            self._told[command_id] = asyncio.Event()
        self._start_work(self._carry_out(command, fields.get("params") or {}))
        return True

    # --- orders -----------------------------------------------------------------------------------------------

    def _why_not(self, command: Command, name: str, now: Moment) -> str | None:
        if name in self.quirks.rejects:
            return "not_supported"
        link_age_s = 0.0 if self._link_since_s is None else now.mono_s - self._link_since_s
        too_late = command.too_late(now.utc, link_age_s)
        if too_late is not None:
            return too_late
        if isinstance(command.what, UpgradeOrder):
            return "session_running" if self.charger.active else None
        if command.connector is None:
            return None
        return self.connectors[command.connector - 1].why_not(command.what)

    async def _carry_out(self, command: Command, params: Mapping[str, Any]) -> None:
        async with self._seen[(command.connector or 1) - 1].busy:
            if not await self._is_told(command.id):
                self._say(command.id, "failed", {"reason": "link_lost"}, self._now())
                return
            if self.quirks.acts_after_s:
                await self.clock.sleep(self.quirks.acts_after_s)
            if isinstance(command.what, UpgradeOrder):
                await self._upgrade(command.id, command.what.version)
                return
            now, what = self._now(), command.what
            if isinstance(what, LimitOrder) and self.quirks.ignores_expiry:
                what = forever(what)
            if not (isinstance(what, LimitOrder) and self.quirks.ignores_limits):
                self.charger.handle(Order(command.id, command.connector, what), now)
            if isinstance(what, Schedule) and command.connector is not None:
                self.memory.keep_schedule(command.connector, params, now.utc)
            self.look()

    async def _is_told(self, command_id: str) -> bool:
        """Whether the host knows that this command was accepted, for those that wait for it."""
        event = self._told.get(command_id)
        if event is None:
            return True
        try:
            async with asyncio.timeout(WORD_S):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            del self._told[command_id]
        return True

    def _repeat(self, command_id: str) -> None:
        """The host offers a command again: our word on it may have been lost."""
        said = self.memory.said(command_id)
        waits = any(entry["body"]["command_id"] == command_id for entry in self.memory.statuses)
        if said is not None and not waits and not self.quirks.no_status:
            self.memory.say(said)
            self.link.news.set()

    async def _upgrade(self, command_id: str, version: str) -> None:
        for connector in self.connectors:
            connector.available = False
        for status, percent in UPGRADE_STEPS:
            self._report_upgrade(version, status, percent)
            await self.clock.sleep(UPGRADE_STEP_S)
        if self.quirks.upgrade == "hangs":
            await asyncio.Event().wait()  # until the power goes
        if self.quirks.upgrade == "fails":
            for connector in self.connectors:
                connector.available = True
            self._report_upgrade(version, "failed", None, BAD_IMAGE)
            self._say(command_id, "failed", {"reason": BAD_IMAGE}, self._now())
            return
        self.memory.kept["upgrade"] = {"command_id": command_id, "version": version}
        self.reboot()

    def _finish_upgrade(self) -> None:
        """The first heartbeat of the new firmware was answered: it stays."""
        upgrade = self.memory.kept.pop("upgrade", None)
        if upgrade is None:
            return
        self.charger.firmware_version = self.memory.kept["firmware"] = upgrade["version"]
        self._report_upgrade(upgrade["version"], "success", 100)
        self._say(upgrade["command_id"], "completed", None, self._now())

    # --- reports ----------------------------------------------------------------------------------------------

    def _notice(self, connector: Connector, seen: Seen, now: Moment) -> None:
        """Events of what changed since the last look; the end of a session comes out of the charger's outbox."""
        evse, session = connector.evse, connector.session
        if evse.vehicle is not seen.vehicle:
            if seen.vehicle is not None:
                self._event("plug_out", connector.number, {"vehicle_connected": False}, now)
            if evse.vehicle is not None:
                self._event("plug_in", connector.number, {"vehicle_connected": True}, now)
        if session is not None and session is not seen.session:
            reason = "remote" if self.memory.knows(session.command_id) else "schedule"
            self._event("start", connector.number, {"reason": reason}, now)
        if evse.fault is not None and evse.fault != seen.fault:
            self._event("fault", connector.number, devicewords.fault_data(evse.fault, self.quirks), now)
        seen.vehicle, seen.session, seen.fault = evse.vehicle, session, evse.fault

    def _upload(self, connector: Connector, seen: Seen, now: Moment) -> None:
        state = (connector.status, connector.evse.drawing)
        every_s = IDLE_UPLOAD_S if connector.session is None else ACTIVE_UPLOAD_S
        if state == seen.state and now.mono_s - seen.uploaded_s < every_s:
            return
        seen.state, seen.uploaded_s = state, now.mono_s
        body = devicewords.telemetry(connector, now.utc, self.quirks)
        if self.connected:
            self.link.samples.newest[connector.number] = body
            self.link.news.set()
        elif now.mono_s - seen.kept_s >= IDLE_UPLOAD_S:
            seen.kept_s = now.mono_s
            self.link.samples.late.append(body)

    def _drain(self, now: Moment) -> None:
        for said in self.charger.outbox:
            match said:
                case Record(fields):
                    self._event("stop", fields["connector_id"], {"reason": fields["stop_reason"]}, now)
                    self.memory.report(RECORD, devicewords.record(fields, self.quirks))
                case Progress(command_id, status, result):
                    self._say(command_id, status, result, now)
        self.charger.outbox.clear()
        self.memory.kept["records"] = self.charger.records

    def _say(self, command_id: str, word: str, details: Mapping[str, Any] | None, now: Moment) -> None:
        """Puts a command status into its lane; `accepted` is said once, and after it nothing is `rejected`."""
        said = self.memory.said(command_id)
        if not self.memory.knows(command_id) or (word == "accepted" and said is not None):
            return
        if word == "rejected" and said is not None:
            word = "failed"
        body = devicewords.status(command_id, word, now.utc, details)
        self.memory.say(body, quietly=self.quirks.no_status)
        self.link.news.set()

    def _event(self, kind: str, number: int, data: Mapping[str, Any], now: Moment) -> None:
        if kind != "fault" and self.quirks.no_events:
            return
        self.memory.report(EVENT, devicewords.event(kind, number, now.utc, data))
        self.link.news.set()

    def _report_upgrade(self, version: str, status: str, percent: int | None, message: str = "") -> None:
        self.memory.report(FIRMWARE_STATUS, devicewords.upgrade(version, status, percent, message))
        self.link.news.set()

    # --- power ------------------------------------------------------------------------------------------------

    async def _look_regularly(self) -> None:
        while True:
            self.look()
            await self.clock.sleep(LOOK_S)

    def _lose_power(self) -> None:
        """What the last charge in its capacitors is good for: contactors open, records and outcomes written."""
        now = self._now()
        for task in self._work:
            if task is not asyncio.current_task():
                task.cancel()
        self.charger.reboot(now)
        self._drain(now)
        upgrading = self.memory.kept.get("upgrade", {}).get("command_id")
        for command_id in list(self.memory.open_commands(*PENDING_KINDS)):
            if command_id != upgrading:
                self._say(command_id, "failed", {"reason": "reboot"}, now)
        for connector in self.connectors:
            connector.available = True
            connector.evse.energised = False
        self._seen = [Seen() for _ in self.connectors]
        self._told.clear()
        self.link.samples.forget()

    def _start_work(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None, "commands come while it runs"
        task = self._tasks.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _now(self) -> Moment:
        """Its own clock, skew and all."""
        now = self.clock.now()
        return Moment(now.mono_s, now.utc + timedelta(seconds=self.quirks.skew_s), now.utc_trusted)
