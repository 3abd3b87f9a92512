"""How a simulated charger talks: it introduces itself, then says what its outbox holds, one call at a time.

Owns the order and the repetition of calls (boot, transaction records, heartbeat). Decides nothing about charging.
Source: OCPP 1.6 sections 3.7.1 (transaction messages), 4.2 (boot), 4.6 (heartbeat).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from controller.ports import Clock
from drivers.errors import Refused, Unreachable
from drivers.sim.flash import Flash
from drivers.sim.link import Link
from drivers.sim.outbox import Json, Outbox, Record, Slip, Transaction
from drivers.sim.quirks import Quirks

log = logging.getLogger(__name__)

BOOT_RETRY_S = 30.0
DEAF_AFTER = 2  # unanswered calls in a row after which it dials anew


class Voice:
    """`accepted()` is called when the central system has accepted the station on a new link, `started(transaction,
    answer)` with the answer to a StartTransaction. `online`: accepted on this link; `booted`: since power came."""

    link: Link

    def __init__(
        self,
        station: str,
        identity: Json,
        clock: Clock,
        flash: Flash,
        quirks: Quirks,
        accepted: Callable[[], None],
        started: Callable[[Transaction, Json], None],
    ) -> None:
        self.online = False
        self.booted = False
        self.outbox = Outbox(flash.records)
        self._station = station
        self._identity = identity
        self._clock = clock
        self._flash = flash
        self._quirks = quirks
        self._accepted = accepted
        self._started = started
        self._heartbeat_due_s = 0.0
        self._unanswered = 0

    def keep_time(self, now_s: float) -> None:
        """What has become due: records to repeat, a heartbeat after a silence."""
        self.outbox.nudge(now_s)
        if self.online and 0 < self._heartbeat_due_s <= now_s:
            self.say_heartbeat()

    def say_boot(self) -> None:
        self.outbox.put("boot", Slip("BootNotification", self._identity))

    def say_heartbeat(self) -> None:
        self.outbox.put("heartbeat", Slip("Heartbeat", {}))

    async def converse(self) -> None:
        """Runs while a link is up; cancelled when it is lost."""
        if not (self.booted and self._quirks.silent_reconnect):
            await self._boot()
        self.booted = self.online = True
        self._unanswered = 0
        try:
            self._accepted()
            while True:
                self.outbox.filled.clear()
                match self.outbox.next(self._clock.now().mono_s):
                    case Record() as record:
                        await self._deliver(record)
                    case (slot, slip):
                        del self.outbox.slots[slot]
                        await self._say(slip)
                    case None:
                        await self.outbox.filled.wait()
        finally:
            self.online = False
            self.outbox.link_lost()

    async def _boot(self) -> None:
        while True:
            wait_s = BOOT_RETRY_S
            try:
                answer = await self.link.call("BootNotification", self._identity)
            except (Unreachable, Refused) as error:
                log.info("%s: BootNotification: %s", self._station, error)
            else:
                wait_s = float(answer.get("interval") or BOOT_RETRY_S)
                if answer.get("status") == "Accepted":
                    self._flash.configuration["HeartbeatInterval"] = str(int(wait_s))
                    return
            await self._clock.sleep(wait_s)

    async def _deliver(self, record: Record) -> None:
        """One try; a record leaves the flash when it was answered, or has failed as often as configured."""
        answer = await self._call(record.action, record.ready_payload())
        if answer is not None:
            self.outbox.records.remove(record)
            if record.action == "StartTransaction":
                self._started(record.transaction, answer)
            return
        record.attempts += 1
        wait_s = self._flash.number("TransactionMessageRetryInterval") * record.attempts
        record.due_s = self._clock.now().mono_s + wait_s
        if record.attempts >= self._flash.number("TransactionMessageAttempts"):
            log.warning("%s: gave up %s after %d tries", self._station, record.action, record.attempts)
            self.outbox.records.remove(record)

    async def _say(self, slip: Slip) -> None:
        answer = None
        try:
            answer = await self._call(slip.action, slip.payload)
        finally:
            if slip.then is not None:
                slip.then(answer)

    async def _call(self, action: str, payload: Json) -> Json | None:
        """None when there was no answer, or a CALLERROR."""
        every_s = self._flash.number("HeartbeatInterval")
        self._heartbeat_due_s = self._clock.now().mono_s + every_s if every_s else 0.0
        try:
            answer = await self.link.call(action, payload)
        except Refused as error:
            log.info("%s: %s refused: %s", self._station, action, error)
            return None
        except Unreachable as error:
            log.info("%s: %s", self._station, error)
            self._unanswered += 1
            if self._unanswered >= DEAF_AFTER:
                self.link.drop()
            return None
        self._unanswered = 0
        return answer
