"""A simulated charging station that speaks OCPP 2.0.1 or 2.1 over a real WebSocket.

Owns the station as a whole: its life (boot, reset, link), its limits, what it says. Its drivers and transactions are
in `charger2_sessions`, what it answers in the `charger2_` modules of `HANDLERS`, what it carries through a reboot in
`charger2_memory`. Must not share code with drivers.ocpp. Source: OCPP 2.0.1 edition 3, OCPP 2.1.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from controller.core.model import Moment
from controller.ports import Clock
from drivers.sim import charger2_charging, charger2_model, charger2_orders, charger2_upkeep, charger2_watch
from drivers.sim.cards import reserved
from drivers.sim.charger2_evse import CONNECTOR, EventRecord, Evse
from drivers.sim.charger2_memory import Memory
from drivers.sim.charger2_merge import Allowed, allowed, still_valid, survivors
from drivers.sim.charger2_sessions import Sessions
from drivers.sim.charger2_variables import PASSWORD, Place, factory
from drivers.sim.errands import Errands
from drivers.sim.evse import SimEvse, watched
from drivers.sim.link import CallError, Link
from drivers.sim.outbox import Json, Slip
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.stamps import stamp
from drivers.sim.v2g import V2gEvse
from drivers.sim.voice import Voice

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how often it looks at its clock; cables, cards and orders are seen at once
DIARY_LINES = 200
VERSIONS = ("ocpp2.1", "ocpp2.0.1")
HANDLERS = {
    **charger2_charging.HANDLERS,
    **charger2_model.HANDLERS,
    **charger2_orders.HANDLERS,
    **charger2_upkeep.HANDLERS,
    **charger2_watch.HANDLERS,
}
HANDLERS_21 = {**HANDLERS, **charger2_charging.HANDLERS_21}
NOT_BEFORE_ACCEPTED = ("RequestStartTransaction", "RequestStopTransaction")


class SimStation:
    """Dials `url`/`station_id`; EVSEs 1..n are `evses`, each with one connector.

    versions   subprotocols it offers, best first
    password   Basic auth (user is the station id); None sends no credentials
    tls        for wss; a client certificate in it, or one signed later, is shown to the central system
    variables  values that differ from the factory's, like {"TxCtrlr.TxStartPoint": "Authorized"}
    tells_soc  vehicles tell it their state of charge (ISO 15118, or DC)
    skew_s     how far its own UTC is ahead
    answer_s   real seconds until a call of its own counts as unanswered
    """

    def __init__(
        self,
        station_id: str,
        url: str,
        evses: Sequence[SimEvse],
        *,
        clock: Clock,
        versions: Sequence[str] = VERSIONS,
        password: str | bytes | None = None,
        tls: ssl.SSLContext | None = None,
        quirks: Quirks = HONEST,
        variables: Mapping[str, str] | None = None,
        tells_soc: bool = True,
        skew_s: float = 0.0,
        answer_s: float = 20.0,
        vendor: str = "Simulated",
        model: str = "SIM-2X",
        firmware: str = "1.0.0",
    ) -> None:
        self.station_id = station_id
        self.clock = clock
        self.quirks = quirks
        self.tls = tls
        self.vendor, self.model = vendor, model
        self.evses = [Evse(number, evse, quirks, tells_soc) for number, evse in enumerate(evses, start=1)]
        self.v2x = any(isinstance(evse, V2gEvse) for evse in evses)
        self.memory = Memory(factory(variables or {}), firmware)
        self.sessions = Sessions(self)
        self.voice: Voice[EventRecord] = Voice(
            station_id,
            clock,
            self.memory.variables,
            self.memory.records,
            self._introduce,
            self._accepted,
            self.sessions.delivered,
            silent_reconnect=True,  # a boot is a boot; a new link is none
        )
        self.link = Link(
            station_id,
            url,
            clock,
            self._obey,
            self.voice.converse,
            password=password,
            answer_s=answer_s,
            delay_s=quirks.answers_after_s,
            tls=tls,
            subprotocols=versions,
        )
        self.voice.link = self.link
        self.errands = Errands(station_id, clock, self.utc, quirks.fails)
        self.watch = charger2_watch.Watch(self)
        self.diary: deque[str] = deque(maxlen=DIARY_LINES)
        self.last_said: dict[str, Json] = {}
        self.reset_at_s: float | None = None
        self.reset_when_idle: set[int] = set()  # EVSEs, 0 is the station
        self._skew = timedelta(seconds=skew_s)
        self._off_until_s = 0.0
        self._offline_since_s: float | None = clock.now().mono_s
        self._aligned_due: datetime | None = None
        charger2_model.add_live_variables(self)
        self.settings_changed()

    # --- what tests and the demo do to it -------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """The link is up and the central system has accepted the station."""
        return self.voice.online

    async def run(self) -> None:
        """Lives until cancelled, then leaves the contactors open and no socket behind."""
        try:
            with watched((evse.evse for evse in self.evses), self.look):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.link.run())
                    tasks.create_task(self._look_regularly())
        finally:
            for evse in self.evses:
                evse.evse.energised = False
            await self.errands.close()

    def reboot(
        self,
        away_s: float = 5.0,
        *,
        boot_reason: str = "PowerUp",
        trigger: str = "AbnormalCondition",
        reason: str = "PowerLoss",
    ) -> None:
        """The power is gone for `away_s`: transactions end, RAM is lost, the memory stays."""
        for evse in self.evses:
            if not self.quirks.forgets_stop:
                self.sessions.end(evse, trigger, reason)
            evse.forget()
            self.memory.forget_transaction(evse.number)
        self.errands.give_up()
        self.voice.booted = self.voice.online = False
        self.memory.boot_reason = boot_reason
        self.reset_at_s = None
        self.reset_when_idle.clear()
        self._off_until_s = self.clock.now().mono_s + away_s
        charger2_upkeep.use_network(self, charger2_upkeep.network_slots(self))
        self.link.drop(away_s)

    def go_silent(self, seconds: float) -> None:
        """TCP stays open, nothing is read or answered for `seconds`; charging goes on."""
        self.link.go_silent(seconds)

    def drop_link(self, away_s: float = 0.0) -> None:
        """Cuts the connection and dials again after `away_s` and a back-off; charging goes on."""
        self.link.drop(away_s)

    def limit_from_outside(self, amps: float | None) -> None:
        """An energy manager on site limits the station directly (K11, K12); None lifts it."""
        charger2_charging.limit_from_outside(self, amps)
        self.look()

    # --- its own will -----------------------------------------------------------------------------------------------

    def utc(self) -> datetime:
        """Its own clock, skew and all."""
        return self.clock.now().utc + self._skew

    def evse(self, number: int) -> Evse | None:
        return self.evses[number - 1] if 1 <= number <= len(self.evses) else None

    def operative(self, evse: Evse) -> bool:
        return not self.memory.inoperative & {0, evse.number}

    def busy(self) -> bool:
        return any(evse.transaction is not None for evse in self.evses)

    def offline_s(self) -> float:
        """How long it has been alone; 0 while accepted."""
        since_s = self._offline_since_s
        return 0.0 if self.voice.online or since_s is None else self.clock.now().mono_s - since_s

    def allowed(self, evse: Evse, at: datetime) -> Allowed:
        """What its profiles allow this EVSE at `at`."""
        transaction = evse.transaction
        if not self.memory.variables.says_yes("SmartChargingCtrlr", "Enabled"):
            return Allowed(evse.hardware.max_a)
        return allowed(
            still_valid(self.memory.profiles, self.offline_s()),
            evse.number,
            at,
            evse.hardware,
            None if transaction is None else transaction.started,
            sharing=sum(other.transaction is not None for other in self.evses),
            priority=transaction is not None and transaction.priority,
            v2x=self.v2x,
        )

    def offer(self, evse: Evse, now: Moment) -> None:
        """Contactor and pilot follow the profiles."""
        may = self.allowed(evse, now.utc + self._skew)
        if isinstance(evse.evse, V2gEvse):
            evse.evse.discharge_a = may.discharge_a
        evse.offer(may.limit_a, now.mono_s, may.phases)

    def look(self) -> None:
        """Looks at cables, cards, clocks and profiles and acts on them. Cheap when nothing happened."""
        now = self.clock.now()
        if now.mono_s < self._off_until_s:
            return
        if self._reset_is_due(now.mono_s):
            self.reboot(boot_reason="RemoteReset", trigger="ResetCommand", reason="ImmediateReset")
            return
        self._notice_the_link(now.mono_s)
        for over in [one for one in self.memory.reservations.values() if one.until <= self.utc()]:
            self.end_reservation(over.id, "Expired")
        for evse in self.evses:
            self.sessions.look(evse, now)
            if evse.number in self.reset_when_idle and evse.transaction is None:
                self.reset_when_idle.discard(evse.number)
                evse.forget()
            held = reserved(self.memory.reservations.values(), evse.number)
            if held is not None and evse.evse.fault is not None:
                self.end_reservation(held.id, "Removed")
            if self.voice.online and self.status(evse) != evse.reported:
                self.send_status(evse)
        self._align(self.utc())
        self.watch.look(now.mono_s)
        charger2_charging.ask_for_updates(self, now.mono_s)
        self.voice.keep_time(now.mono_s)

    def settings_changed(self, place: Place | None = None) -> None:
        """Variables that somebody acts on have been written."""
        variables, now_s = self.memory.variables, self.clock.now().mono_s
        self.memory.cards.list_on = variables.says_yes("LocalAuthListCtrlr", "Enabled")
        self.memory.cards.cache_on = variables.says_yes("AuthCacheCtrlr", "Enabled")
        self._aligned_due = None
        if place is not None and (place.component, place.variable) == PASSWORD:
            self.link.password = variables.values[place]
            self.say(
                "SecurityEventNotification", {"type": "ReconfigurationOfSecurityParameters"}, stamped=True
            )
            self.reconnect_soon()
        if place is not None and place.variable == "TxUpdatedInterval":
            for evse in self.evses:
                if evse.transaction is not None:
                    evse.transaction.sample_due_s = now_s + int(variables.values[place])

    def reconnect_soon(self) -> None:
        """After the answer that is on its way."""
        self.errands.start("reconnect", self._reconnect())

    def end_reservation(self, id: int, why: str) -> None:
        if self.memory.reservations.pop(id, None) is not None:
            payload = {"reservationId": id, "reservationUpdateStatus": why}
            self.voice.outbox.put(f"reservation/{id}", Slip("ReservationStatusUpdate", payload))

    # --- what it says -----------------------------------------------------------------------------------------------

    def keep(self, record: EventRecord, shuffled: bool = False) -> None:
        self.memory.keep(record, shuffled)
        self.voice.outbox.filled.set()

    def status(self, evse: Evse) -> str:
        held = reserved(self.memory.reservations.values(), evse.number)
        return evse.status(self.operative(evse), held is not None)

    def send_status(self, evse: Evse, asked: bool = False) -> None:
        evse.reported = self.status(evse)
        payload = {
            "timestamp": stamp(self.utc()),
            "connectorStatus": evse.reported,
            "evseId": evse.number,
            "connectorId": CONNECTOR,
        }
        self.voice.outbox.put(f"status/{evse.number}", Slip("StatusNotification", payload, asked=asked))

    def send_values(self, evse: Evse, context: str, measurands: set[str]) -> None:
        """Values outside of a transaction; nobody wants them later, so they are lost while offline."""
        values = evse.sample(measurands, context)
        if values and self.voice.online and not self.quirks.no_meter_values:
            sample = {"timestamp": stamp(self.utc()), "sampledValue": values}
            payload = {"evseId": evse.number, "meterValue": [sample]}
            self.voice.outbox.put(f"sample/{evse.number}", Slip("MeterValues", payload))

    def say(self, action: str, payload: Json, *, stamped: bool = False) -> None:
        """News of a job that takes a while; nothing of it is replaced by what follows."""
        if stamped:
            payload = {**payload, "timestamp": stamp(self.utc())}
        self.last_said[action] = payload
        word = payload.get("status") or payload.get("type")
        self.voice.outbox.put(f"{action}/{word}", Slip(action, payload))

    def say_again(self, action: str) -> None:
        """The last word on a job, or Idle when none is going on."""
        busy = self.errands.busy("firmware" if "Firmware" in action else "log")
        last = self.last_said.get(action) if busy else None
        self.tell(f"{action}/again", action, last or {"status": "Idle"})

    def tell(self, slot: str, action: str, payload: Json) -> None:
        """Something the central system has asked for."""
        self.voice.outbox.put(slot, Slip(action, payload, asked=True))

    def note(self, text: str) -> None:
        """A line of the log that GetLog hands in."""
        self.diary.append(f"{stamp(self.utc())} {text}")

    # --- the link ---------------------------------------------------------------------------------------------------

    def _introduce(self) -> Json:
        about = {"vendorName": self.vendor, "model": self.model, "firmwareVersion": self.memory.firmware}
        about["serialNumber"] = f"SIM-{self.station_id}"[:25]
        return {"reason": self.memory.boot_reason, "chargingStation": about}

    def _accepted(self) -> None:
        threshold_s = self.memory.variables.number("OCPPCommCtrlr", "OfflineThreshold")
        since_s = self._offline_since_s
        if since_s is not None and self.clock.now().mono_s - since_s > threshold_s:
            for evse in self.evses:
                evse.reported = None
        self._offline_since_s = None
        for action, payload in self.memory.unsaid:
            self.say(action, payload)
        self.memory.unsaid.clear()
        self.voice.say_heartbeat()
        self.look()

    def _notice_the_link(self, now_s: float) -> None:
        if self.voice.online:
            self._offline_since_s = None
        elif self._offline_since_s is None:
            self._offline_since_s = now_s
        self.memory.profiles = survivors(self.memory.profiles, self.offline_s())
        charger2_upkeep.try_next_network(self)

    def _reset_is_due(self, now_s: float) -> bool:
        if 0 in self.reset_when_idle and not self.busy():
            return True
        return self.reset_at_s is not None and now_s >= self.reset_at_s

    async def _reconnect(self) -> None:
        await self.clock.sleep(LOOK_S)
        self.link.drop()

    async def _look_regularly(self) -> None:
        while True:
            self.look()
            await self.clock.sleep(LOOK_S)

    def _align(self, now: datetime) -> None:
        """Values at full multiples of the interval since midnight (J01)."""
        variables = self.memory.variables
        every_s = variables.number("AlignedDataCtrlr", "Interval")
        if not every_s:
            return
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        last = midnight + timedelta(seconds=(now - midnight).total_seconds() // every_s * every_s)
        due, self._aligned_due = self._aligned_due, last
        if due is None or due == last:
            return
        names = variables.names("AlignedDataCtrlr", "Measurands")
        while_idle = variables.says_yes("AlignedDataCtrlr", "SendDuringIdle")
        for evse in self.evses:
            if evse.transaction is None:
                self.send_values(evse, "Sample.Clock", names)
            elif not while_idle:
                self.sessions.report_values(evse, "MeterValueClock", "Sample.Clock", names)

    def _obey(self, action: str, payload: Json) -> Json | None:
        if action in self.quirks.unanswered:
            return None
        self.note(action)
        handlers = HANDLERS_21 if self.link.version == "ocpp2.1" else HANDLERS
        handler = handlers.get(action)
        if action in self.quirks.not_supported:
            raise CallError("NotSupported", action)
        if handler is None:
            raise CallError("NotImplemented", action)
        if not self.voice.booted and self.voice.standing != "Pending":
            raise CallError("SecurityError", "not accepted by the central system yet")
        if not self.voice.booted and action in NOT_BEFORE_ACCEPTED:
            return {"status": "Rejected"}
        try:
            answer = handler(self, payload)
        except KeyError as error:
            raise CallError("OccurrenceConstraintViolation", f"{action}: {error} is missing") from None
        except TypeError as error:
            raise CallError("TypeConstraintViolation", f"{action}: {error}") from None
        except ValueError as error:
            raise CallError("PropertyConstraintViolation", f"{action}: {error}") from None
        self.look()
        return answer
