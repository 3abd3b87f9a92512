"""The simulated platform's side of the charger links: orders on their way out, uploads on their way in.

Owns command progress and what the platform last heard of every charger. Readings of the portal's gaps:
- an order reaches its charger after a random latency, in order per charger. It expires after 120 s, so a charger
  that comes back gets no old one; only a stop is still wanted (G-08). `queued` until then, whatever the charger will say (REFERENCE 8).
- the same `transaction_id` on the same connector within 10 min returns the same command (G-09).
- a charger uploads at once on a change of state, every 5 s in a session, every 60 s idle; what people see is the last
  upload and never the present truth (G-15, G-16). Offline it keeps its reports and sends them in order later (G-34).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from controller.core.model import Moment
from drivers.sim.cloudbooks import Records
from drivers.sim.cloudcharger import CloudCharger, Order
from drivers.sim.cloudconnector import Progress, Record
from drivers.sim.cloudwords import DischargeOrder, Refusal, StartOrder, StopOrder, stamp

EXPIRY_S = 120.0
SAME_TRANSACTION_S = 600.0
ACTIVE_UPLOAD_S = 5.0
IDLE_UPLOAD_S = 60.0
HEARTBEAT_S = 30.0
MAX_COMMANDS = 2000  # the oldest is forgotten first

Called = StartOrder | StopOrder | DischargeOrder

_STATUS_OF = {"rejected": "failed"}  # charger's word -> operator's word, where they differ


@dataclass(slots=True)
class Command:
    id: str
    created: Moment
    updated: Moment
    status: str = "queued"
    result: Mapping[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"command_id": self.id, "status": self.status}
        answer |= {"created_at": stamp(self.created.utc), "updated_at": stamp(self.updated.utc)}
        return answer if self.result is None else answer | {"result": dict(self.result)}


@dataclass(frozen=True, slots=True)
class Parcel:
    """An order on its way; both times are `mono_s`."""

    order: Order
    due_s: float
    expires_s: float


@dataclass(slots=True)
class Link:
    online: bool = True
    parcels: list[Parcel] = field(default_factory=list)
    uploaded: Moment | None = None
    heartbeat: Moment | None = None
    telemetry: list[dict[str, Any]] = field(default_factory=list)

    def upload_due(self, now: Moment, active: bool) -> bool:
        every_s = ACTIVE_UPLOAD_S if active else IDLE_UPLOAD_S
        return self.uploaded is None or now.mono_s - self.uploaded.mono_s >= every_s


class Delivery:
    """`latency`: least and most seconds an order takes to its charger."""

    def __init__(
        self, chargers: Sequence[CloudCharger], records: Records, latency: tuple[float, float], random: Random
    ) -> None:
        self.chargers = {charger.device_id: charger for charger in chargers}
        self.latency = latency
        self._records = records
        self._random = random
        self._links = {device_id: Link() for device_id in self.chargers}
        self._commands: dict[str, Command] = {}
        self._transactions: dict[tuple[str, int, str], Command] = {}
        self._serial = 0

    def charger(self, device_id: str) -> CloudCharger:
        """Raises Refusal 3001."""
        if device_id not in self.chargers:
            raise Refusal(3001, "no such resource")
        return self.chargers[device_id]

    def command(self, command_id: str) -> Command:
        """Raises Refusal 3001, also for the id of a flexibility action (G-10)."""
        if command_id not in self._commands:
            raise Refusal(3001, "no such resource")
        return self._commands[command_id]

    def new_id(self, prefix: str) -> str:
        self._serial += 1
        return f"{prefix}_{self._serial:06x}"

    def queue(self, charger: CloudCharger, number: int, what: Called, now: Moment) -> Command:
        """Puts a command on its way, or finds the one that carries the same transaction."""
        key = (charger.device_id, number, what.transaction_id or "" if isinstance(what, StartOrder) else "")
        oldest_s = now.mono_s - SAME_TRANSACTION_S
        self._transactions = {k: c for k, c in self._transactions.items() if c.created.mono_s > oldest_s}
        if key in self._transactions:
            return self._transactions[key]
        command = Command(self.new_id("cmd"), now, now)
        self._commands[command.id] = command
        if len(self._commands) > MAX_COMMANDS:
            del self._commands[next(iter(self._commands))]
        if key[2]:
            self._transactions[key] = command
        self.dispatch(charger, Order(command.id, number, what), now)
        return command

    def dispatch(self, charger: CloudCharger, order: Order, now: Moment) -> None:
        """Puts an order on its way that nobody can ask about."""
        due_s = now.mono_s + self._random.uniform(*self.latency)
        expires_s = math.inf if isinstance(order.what, StopOrder) else now.mono_s + EXPIRY_S
        self._links[charger.device_id].parcels.append(Parcel(order, due_s, expires_s))

    def set_online(self, device_id: str, online: bool, now: Moment) -> None:
        self._links[device_id].online = online
        self.chargers[device_id].link_lost_s = None if online else now.mono_s

    def tick(self, now: Moment) -> list[tuple[CloudCharger, list[dict[str, Any]]]]:
        """Moves everything on to `now`; returns the uploads that a stream would carry."""
        return [
            (charger, link.telemetry)
            for charger, link in zip(self.chargers.values(), self._links.values(), strict=True)
            if self._tick(charger, link, now)
        ]

    def device(self, charger: CloudCharger) -> dict[str, Any]:
        """Device detail: identity and the last upload."""
        link = self._links[charger.device_id]
        answer: dict[str, Any] = {
            "device_id": charger.device_id,
            "sn": charger.sn,
            "model": charger.model,
            "manufacturer": "Tellus Power",
            "firmware_version": charger.firmware_version,
            "status": "online" if link.online else "offline",
            "connectors": link.telemetry,
            "site_id": charger.site_id,
        }
        return answer if link.heartbeat is None else answer | {"last_heartbeat": stamp(link.heartbeat.utc)}

    def _tick(self, charger: CloudCharger, link: Link, now: Moment) -> bool:
        self._hand_over(charger, link, now)
        changed = charger.step(now)
        if not link.online:
            return False
        if link.heartbeat is None or now.mono_s - link.heartbeat.mono_s >= HEARTBEAT_S:
            link.heartbeat = now
        for report in charger.outbox:
            self._take(report, now)
        charger.outbox.clear()
        if not changed and not link.upload_due(now, charger.active):
            return False
        link.uploaded = now
        at = stamp(now.utc)
        link.telemetry = [c.telemetry() | {"last_telemetry_time": at} for c in charger.connectors]
        return changed or charger.active

    def _hand_over(self, charger: CloudCharger, link: Link, now: Moment) -> None:
        waiting: list[Parcel] = []
        for parcel in link.parcels:
            if now.mono_s >= parcel.expires_s:
                self._take(Progress(parcel.order.id, "failed", {"reason": "expired"}), now)
            elif waiting or not link.online or now.mono_s < parcel.due_s:
                waiting.append(parcel)  # orders to one charger do not overtake each other
            else:
                charger.handle(parcel.order, now)
        link.parcels = waiting

    def _take(self, report: Progress | Record, now: Moment) -> None:
        if isinstance(report, Record):
            self._records.keep(report.fields)
            return
        command = self._commands.get(report.command_id)
        if command is not None:  # else a start the charger made by itself, or a command forgotten long ago
            command.status = _STATUS_OF.get(report.status, report.status)
            command.updated, command.result = now, report.result
