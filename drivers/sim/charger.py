"""A simulated charger that speaks OCPP 1.6J over a real WebSocket.

Owns the charger's own will: it decides about cables, cards, transactions and its merged profiles, with or without
a central system. How it talks is in `voice` and `link`, what it answers to the central system in `orders` and
`upkeep`, what it carries through a reboot in `flash`. Must not share code with drivers.ocpp. Source: OCPP 1.6 edition 2.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.core.model import Moment
from controller.ports import Clock
from drivers.sim import flash, merge, orders, upkeep
from drivers.sim.cards import Card, reserved
from drivers.sim.connector import Connector
from drivers.sim.errands import Errands
from drivers.sim.evse import SimEvse, watched
from drivers.sim.link import CallError, Link
from drivers.sim.outbox import Json, Record, Slip, Transaction
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.stamps import stamp
from drivers.sim.voice import Voice

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how often it looks at its clock; cables, cards and orders are seen at once
DIARY_LINES = 200
HANDLERS = {**orders.HANDLERS, **upkeep.HANDLERS}


class SimCharger:
    """Dials `url`/`station_id`; connectors 1..n are `evses`.

    clock     everything but the wire's own time-outs runs on it
    password  Basic auth (user is the station id); None sends no credentials
    skew_s    how far its own UTC is ahead
    answer_s  real seconds until a call of its own counts as unanswered
    """

    def __init__(
        self,
        station_id: str,
        url: str,
        evses: Sequence[SimEvse],
        *,
        clock: Clock,
        password: str | bytes | None = None,
        quirks: Quirks = HONEST,
        skew_s: float = 0.0,
        answer_s: float = 20.0,
        tls: ssl.SSLContext | None = None,
        vendor: str = "Simulated",
        model: str = "SIM-AC",
        firmware: str = "1.0.0",
    ) -> None:
        self.station_id = station_id
        self.clock = clock
        self.quirks = quirks
        self.connectors = [Connector(number, evse, quirks) for number, evse in enumerate(evses, start=1)]
        self.flash = flash.blank(len(evses), quirks.configuration)
        self.flash.firmware = firmware
        self.vendor = vendor
        self._identity = {
            "chargePointVendor": vendor,
            "chargePointModel": model,
            "chargePointSerialNumber": f"SIM-{station_id}"[:25],
        }
        self.voice: Voice[Record] = Voice(
            station_id,
            clock,
            self.flash,
            self.flash.records,
            lambda: {**self._identity, "firmwareVersion": self.flash.firmware},
            self._accepted,
            self._delivered,
            silent_reconnect=quirks.silent_reconnect,
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
        )
        self.voice.link = self.link
        self.tls = tls
        self.errands = Errands(station_id, clock, self.utc, quirks.fails)
        self.diary: deque[str] = deque(maxlen=DIARY_LINES)
        self.last_said: dict[str, Json] = {}
        self._skew = timedelta(seconds=skew_s)
        self._off_until_s = 0.0
        self._reset: tuple[float, str] | None = None
        self._accepted_s = self._called_s = float("-inf")

    # --- what tests and the demo do to it ---------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """The link is up and the central system has accepted the station."""
        return self.voice.online

    async def run(self) -> None:
        """Lives until cancelled, then leaves the contactors open and no socket behind."""
        try:
            with watched((connector.evse for connector in self.connectors), self.look):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.link.run())
                    tasks.create_task(self._look_regularly())
        finally:
            for connector in self.connectors:
                connector.evse.energised = False
            await self.errands.close()

    def reboot(self, away_s: float = 5.0, reason: str = "PowerLoss") -> None:
        """The power is gone for `away_s`: transactions end, RAM is lost, flash stays."""
        for connector in self.connectors:
            if connector.transaction is not None and not self.quirks.forgets_stop:
                self.stop(connector, reason)
            connector.forget()
        self.flash.forget_transactions()
        if self.quirks.forgets_fallback:
            self.flash.profiles = ()
        self.errands.give_up()
        self.voice.booted = self.voice.online = False
        self._reset = None
        self._off_until_s = self.clock.now().mono_s + away_s
        self.link.drop(away_s)

    def go_silent(self, seconds: float) -> None:
        """TCP stays open, nothing is read or answered for `seconds`; charging goes on."""
        self.link.go_silent(seconds)

    def drop_link(self, away_s: float = 0.0) -> None:
        """Cuts the connection and dials again after `away_s` and a back-off; charging goes on."""
        self.link.drop(away_s)

    # --- its own will -----------------------------------------------------------------------------------------

    def utc(self) -> datetime:
        """Its own clock, skew and all."""
        return self.clock.now().utc + self._skew

    def limit_a(self, connector: Connector, at: datetime) -> float:
        """What its profiles allow this connector at `at`, per phase."""
        transaction = connector.transaction
        busy = sum(other.transaction is not None for other in self.connectors)
        if self.quirks.limit_key is not None:
            return min(connector.hardware.max_a, float(self.flash.configuration[self.quirks.limit_key]))
        started = transaction.started if transaction is not None else None
        return merge.limit_a(self.flash.profiles, connector.number, at, connector.hardware, started, busy)

    def operative(self, connector: Connector) -> bool:
        return connector.number not in self.flash.inoperative

    def look(self) -> None:
        """Looks at cables, cards, clocks and profiles and acts on them. Cheap when nothing happened."""
        now = self.clock.now()
        if now.mono_s < self._off_until_s:
            return
        if self._reset is not None and now.mono_s >= self._reset[0]:
            self.reboot(reason=self._reset[1])
            return
        utc = self.utc()
        for held in [one for one in self.flash.reservations.values() if one.until <= utc]:
            del self.flash.reservations[held.id]
        for connector in self.connectors:
            self._look_at(connector, now)
        self.voice.keep_time(now.mono_s)

    def allow(self, connector: Connector, token: str) -> None:
        """An authorised token: charging starts with the cable, or never if that does not come in time."""
        connector.token = token
        connector.token_until_s = self.clock.now().mono_s + self.flash.number("ConnectionTimeOut")

    def authorize(self, connector: Connector, token: str) -> None:
        """Asks the central system; offline, the charger decides by its own rules."""
        known = self.flash.cards.known(token)
        trusted = (
            self.flash.says_yes("LocalPreAuthorize") and known is not None and known.accepted(self.utc())
        )
        if trusted or not self.voice.online:
            self._authorized(connector, token, None)
            return
        answered = Slip(
            "Authorize", {"idTag": token}, lambda answer: self._authorized(connector, token, answer)
        )
        self.voice.outbox.put(f"authorize/{connector.number}", answered)

    def stop(self, connector: Connector, reason: str, token: str | None = None) -> None:
        """Ends the running transaction: contactor open, record written, its profiles gone."""
        transaction = connector.transaction
        if transaction is None:
            return
        payload: Json = {
            "meterStop": connector.register_wh(),
            "timestamp": stamp(self.utc()),
            "reason": reason,
        }
        if token is not None and not self.quirks.stop_without_tag:
            payload["idTag"] = token
        transaction.ended = True
        self.voice.outbox.record(Record("StopTransaction", payload, transaction))
        connector.transaction = None
        connector.evse.energised = False
        connector.finished = connector.evse.vehicle is not None
        self.flash.forget_transactions(connector.number)

    def reset_in(self, seconds: float, reason: str) -> None:
        self._reset = (self.clock.now().mono_s + seconds, reason)

    def _look_at(self, connector: Connector, now: Moment) -> None:
        evse = connector.evse
        card = evse.take_card()
        if card is not None:
            self._card_presented(connector, card)
        if evse.vehicle is None:
            self.stop(connector, "EVDisconnected")
            connector.finished = False
        elif evse.fault is not None:
            self.stop(connector, "Other")
        if connector.token is not None:
            if now.mono_s >= connector.token_until_s:
                connector.token = None
                self.flash.forget_transactions(connector.number)
            elif evse.vehicle is not None and connector.free() and self.operative(connector):
                self._start(connector, connector.token, now)
        at, transaction = now.utc + self._skew, connector.transaction
        started = None if transaction is None else transaction.started
        phases = merge.phases(self.flash.profiles, connector.number, at, started)
        connector.offer(self.limit_a(connector, at), now.mono_s, phases)
        if connector.transaction is not None:
            if self.quirks.pause_ends and evse.offered_a == 0.0:
                self.stop(connector, "Other")
            elif 0 < connector.meter_due_s <= now.mono_s:
                connector.meter_due_s += self.flash.number("MeterValueSampleInterval")
                self.send_sample(connector, "Sample.Periodic")
        status = self._status(connector)
        if self.voice.online and status != connector.reported:
            self.send_status(connector)

    def _card_presented(self, connector: Connector, card: str) -> None:
        transaction = connector.transaction
        if transaction is None:
            self.authorize(connector, card)
        elif self.flash.cards.same_holder(transaction.token, card):
            self.stop(connector, "Local", card)
        else:
            log.debug("%s: card of somebody else at connector %d", self.station_id, connector.number)

    def _authorized(self, connector: Connector, token: str, answer: Json | None) -> None:
        rules = self.flash
        if answer is None:
            accepted = rules.cards.accepted_alone(
                token,
                self.utc(),
                known=rules.says_yes("LocalAuthorizeOffline"),
                unknown=rules.says_yes("AllowOfflineTxForUnknownId"),
            )
        else:
            card = _card(answer)
            rules.cards.remember(token, card)
            accepted = card.status == "Accepted"
        held = reserved(rules.reservations.values(), connector.number)
        known = rules.cards.known(token)
        if held is not None and not held.serves(token, None if known is None else known.group):
            log.info("%s: connector %d is kept for somebody else", self.station_id, connector.number)
        elif accepted:
            self.allow(connector, token)
            self.look()

    def _start(self, connector: Connector, token: str, now: Moment) -> None:
        if self.quirks.resets_register:
            connector.zero_register()
        interval_s = self.flash.number("MeterValueSampleInterval")
        transaction = Transaction(token, now.utc + self._skew, connector.register_wh())
        connector.transaction = transaction
        connector.token = None
        connector.finished = False
        connector.meter_due_s = now.mono_s + interval_s if interval_s else 0.0
        connector.evse.energised = True
        payload: Json = {
            "connectorId": connector.number,
            "idTag": token,
            "meterStart": transaction.register_start_wh,
            "timestamp": stamp(transaction.started),
        }
        held = reserved(self.flash.reservations.values(), connector.number)
        if held is not None:
            payload["reservationId"] = self.flash.reservations.pop(held.id).id
        for _ in range(2 if self.quirks.duplicate_start else 1):
            self.voice.outbox.record(Record("StartTransaction", payload, transaction))

    def _delivered(self, record: Record, answer: Json) -> None:
        if record.action != "StartTransaction":
            return
        transaction = record.transaction
        number = answer.get("transactionId")
        transaction.id = number if isinstance(number, int) else None
        card = _card(answer)
        self.flash.cards.remember(transaction.token, card)
        if card.status != "Accepted" and self.flash.says_yes("StopTransactionOnInvalidId"):
            for connector in self.connectors:
                if connector.transaction is transaction:
                    self.stop(connector, "DeAuthorized")

    # --- what it says -----------------------------------------------------------------------------------------

    def send_status(self, connector: Connector | None, asked: bool = False) -> None:
        """None: the station itself (connector 0)."""
        if self.quirks.triggers_at is not None and not asked:
            return
        status, code = "Available", "NoError"
        number = 0
        if connector is not None:
            number = connector.number
            connector.reported = status, code = self._status(connector)
        payload = {"connectorId": number, "status": status, "errorCode": code, "timestamp": stamp(self.utc())}
        self.voice.outbox.put(f"status/{number}", Slip("StatusNotification", payload))

    def send_sample(self, connector: Connector, context: str) -> None:
        """Live values; nobody wants them later, so they are lost while offline."""
        if self.quirks.no_meter_values or not self.voice.online:
            return
        wanted = {name.strip() for name in self.flash.configuration["MeterValuesSampledData"].split(",")}
        if wanted & self.quirks.mute_with:
            return
        values = connector.sample(wanted, context)
        if not values:
            return
        sample: Json = {"timestamp": stamp(self.utc()), "sampledValue": values}
        payload: Json = {"connectorId": connector.number, "meterValue": [sample]}
        if connector.transaction is not None and connector.transaction.id is not None:
            payload["transactionId"] = connector.transaction.id
        self.voice.outbox.put(f"sample/{connector.number}", Slip("MeterValues", payload))

    def say(self, action: str, payload: Json) -> None:
        """News of a job that takes a while; nothing of it is replaced by what follows."""
        self.last_said[action] = payload
        self.voice.outbox.put(f"{action}/{payload.get('status')}", Slip(action, payload))

    def say_again(self, action: str) -> None:
        """The last word on a job, or Idle when none is going on."""
        busy = self.errands.busy("firmware" if "Firmware" in action else "log")
        self.say(action, self.last_said.get(action, {"status": "Idle"}) if busy else {"status": "Idle"})

    def note(self, text: str) -> None:
        """A line of the log that GetDiagnostics and GetLog hand in."""
        self.diary.append(f"{stamp(self.utc())} {text}")

    def _status(self, connector: Connector) -> tuple[str, str]:
        held = reserved(self.flash.reservations.values(), connector.number)
        return connector.status(self.operative(connector), held is not None)

    def _accepted(self) -> None:
        self._accepted_s = self.clock.now().mono_s
        for action, payload in self.flash.unsaid:
            self.say(action, payload)
        self.flash.unsaid.clear()
        self.send_status(None)
        for connector in self.connectors:
            self.send_status(connector)

    async def _look_regularly(self) -> None:
        while True:
            self.look()
            await self.clock.sleep(LOOK_S)

    def _is_upset(self) -> bool:
        """By a call that came too soon; then there is no answer."""
        now_s, quirks = self.clock.now().mono_s, self.quirks
        before_s, self._called_s = self._called_s, now_s
        if now_s - before_s < quirks.calls_apart_s:
            self.link.drop()
            return True
        if quirks.fragile_s and (not self.voice.online or now_s - self._accepted_s < quirks.fragile_s):
            self.link.drop()
            self.voice.booted = False
            return True
        return False

    def _obey(self, action: str, payload: Json) -> Json | None:
        if action in self.quirks.unanswered or self._is_upset():
            return None
        self.note(action)
        handler = HANDLERS.get(action)
        if action in self.quirks.not_supported:
            raise CallError("NotSupported", action)
        if handler is None:
            raise CallError("NotImplemented", action)
        try:
            answer = handler(self, payload)
        except (KeyError, TypeError, ValueError) as error:
            raise CallError("FormationViolation", f"{action}: {error}") from None
        self.look()
        return answer


def _card(answer: Json) -> Card:
    info = answer.get("idTagInfo")
    return orders.read_card(info) if isinstance(info, dict) else Card("Invalid")
