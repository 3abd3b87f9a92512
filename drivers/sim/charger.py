"""A simulated charger that speaks OCPP 1.6J over a real WebSocket.

Owns the charger's own will: it decides about cables, cards, transactions and its merged profiles, with or without
a central system. How it talks is in `voice` and `link`, what it answers to the central system in `orders`, what it
carries through a reboot in `flash`. Must not share code with drivers.ocpp. Source: OCPP 1.6 edition 2.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.core.model import Moment
from controller.ports import Clock
from drivers.sim import flash, merge, orders
from drivers.sim.connector import Connector
from drivers.sim.evse import SimEvse
from drivers.sim.link import CallError, Link
from drivers.sim.outbox import Json, Record, Slip, Transaction
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.voice import Voice

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how often it looks at its clock; cables, cards and orders are seen at once


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
        identity = {
            "chargePointVendor": vendor,
            "chargePointModel": model,
            "firmwareVersion": firmware,
            "chargePointSerialNumber": f"SIM-{station_id}"[:25],
        }
        self.voice = Voice(station_id, identity, clock, self.flash, quirks, self._all_status, self._started)
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
        self._skew = timedelta(seconds=skew_s)
        self._off_until_s = 0.0
        self._reset: tuple[float, str] | None = None
        self._look_soon = False

    # --- what tests and the demo do to it ---------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """The link is up and the central system has accepted the station."""
        return self.voice.online

    async def run(self) -> None:
        """Lives until cancelled, then leaves the contactors open and no socket behind."""
        loop = asyncio.get_running_loop()

        def look_soon() -> None:
            if not self._look_soon:
                self._look_soon = True
                loop.call_soon(self.look)

        for connector in self.connectors:
            connector.evse.watchers.append(look_soon)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.link.run())
                tasks.create_task(self._look_regularly())
        finally:
            for connector in self.connectors:
                connector.evse.watchers.remove(look_soon)
                connector.evse.energised = False

    def reboot(self, away_s: float = 5.0, reason: str = "PowerLoss") -> None:
        """The power is gone for `away_s`: transactions end, RAM is lost, flash stays."""
        for connector in self.connectors:
            if connector.transaction is not None and not self.quirks.forgets_stop:
                self.stop(connector, reason)
            connector.forget()
        self.flash.forget_transactions()
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
        started = transaction.started if transaction is not None else None
        return merge.limit_a(self.flash.profiles, connector.number, at, connector.hardware, started, busy)

    def operative(self, connector: Connector) -> bool:
        return connector.number not in self.flash.inoperative

    def look(self) -> None:
        """Looks at cables, cards, clocks and profiles and acts on them. Cheap when nothing happened."""
        self._look_soon = False
        now = self.clock.now()
        if now.mono_s < self._off_until_s:
            return
        if self._reset is not None and now.mono_s >= self._reset[0]:
            self.reboot(reason=self._reset[1])
            return
        for connector in self.connectors:
            self._look_at(connector, now)
        self.voice.keep_time(now.mono_s)

    def allow(self, connector: Connector, token: str) -> None:
        """An authorised token: charging starts with the cable, or never if that does not come in time."""
        connector.token = token
        connector.token_until_s = self.clock.now().mono_s + self.flash.number("ConnectionTimeOut")

    def authorize(self, connector: Connector, token: str) -> None:
        """Asks the central system; offline, the charger decides by its own rules."""
        if not self.voice.online:
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
        connector.offer(self.limit_a(connector, now.utc + self._skew), now.mono_s)
        if connector.transaction is not None:
            if self.quirks.pause_ends and evse.offered_a == 0.0:
                self.stop(connector, "Other")
            elif 0 < connector.meter_due_s <= now.mono_s:
                connector.meter_due_s += self.flash.number("MeterValueSampleInterval")
                self.send_sample(connector, "Sample.Periodic")
        status = connector.status(self.operative(connector))
        if self.voice.online and status != connector.reported:
            self.send_status(connector)

    def _card_presented(self, connector: Connector, card: str) -> None:
        transaction = connector.transaction
        if transaction is None:
            self.authorize(connector, card)
        elif transaction.token.casefold() == card.casefold():
            self.stop(connector, "Local", card)
        else:
            log.debug("%s: card of somebody else at connector %d", self.station_id, connector.number)

    def _authorized(self, connector: Connector, token: str, answer: Json | None) -> None:
        rules = self.flash
        if answer is None:
            cached = rules.says_yes("LocalAuthorizeOffline") and token in rules.known_tokens
            accepted = cached or rules.says_yes("AllowOfflineTxForUnknownId")
        else:
            accepted = _verdict(answer) == "Accepted"
            (rules.known_tokens.add if accepted else rules.known_tokens.discard)(token)
        if accepted:
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
        payload = {
            "connectorId": connector.number,
            "idTag": token,
            "meterStart": transaction.register_start_wh,
            "timestamp": stamp(transaction.started),
        }
        for _ in range(2 if self.quirks.duplicate_start else 1):
            self.voice.outbox.record(Record("StartTransaction", payload, transaction))

    def _started(self, transaction: Transaction, answer: Json) -> None:
        number = answer.get("transactionId")
        transaction.id = number if isinstance(number, int) else None
        if _verdict(answer) != "Accepted" and self.flash.says_yes("StopTransactionOnInvalidId"):
            for connector in self.connectors:
                if connector.transaction is transaction:
                    self.stop(connector, "DeAuthorized")

    # --- what it says -----------------------------------------------------------------------------------------

    def send_status(self, connector: Connector | None) -> None:
        """None: the station itself (connector 0)."""
        status, code = "Available", "NoError"
        number = 0
        if connector is not None:
            number = connector.number
            connector.reported = status, code = connector.status(self.operative(connector))
        payload = {"connectorId": number, "status": status, "errorCode": code, "timestamp": stamp(self.utc())}
        self.voice.outbox.put(f"status/{number}", Slip("StatusNotification", payload))

    def send_sample(self, connector: Connector, context: str) -> None:
        """Live values; nobody wants them later, so they are lost while offline."""
        if self.quirks.no_meter_values or not self.voice.online:
            return
        wanted = {name.strip() for name in self.flash.configuration["MeterValuesSampledData"].split(",")}
        values = connector.sample(wanted, context)
        if not values:
            return
        sample: Json = {"timestamp": stamp(self.utc()), "sampledValue": values}
        payload: Json = {"connectorId": connector.number, "meterValue": [sample]}
        if connector.transaction is not None and connector.transaction.id is not None:
            payload["transactionId"] = connector.transaction.id
        self.voice.outbox.put(f"sample/{connector.number}", Slip("MeterValues", payload))

    def _all_status(self) -> None:
        self.send_status(None)
        for connector in self.connectors:
            self.send_status(connector)

    async def _look_regularly(self) -> None:
        while True:
            self.look()
            await self.clock.sleep(LOOK_S)

    def _obey(self, action: str, payload: Json) -> Json | None:
        if action in self.quirks.unanswered:
            return None
        handler = orders.HANDLERS.get(action)
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


def _verdict(answer: Json) -> str:
    info = answer.get("idTagInfo")
    return str(info.get("status")) if isinstance(info, dict) else "Invalid"
