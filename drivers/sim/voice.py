"""How a simulated charger talks: it introduces itself, then says what its outbox holds, one call at a time.

Owns the order and the repetition of calls (boot, transaction records, heartbeat), the same in every version of
OCPP. Decides nothing about charging. Source: OCPP 1.6 sections 3.7.1 (transaction messages), 4.2 (boot), 4.6
(heartbeat); OCPP 2.0.1 B01-B03, E13.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, Protocol

from controller.ports import Clock
from drivers.errors import Refused, Unreachable
from drivers.sim.link import Link
from drivers.sim.outbox import Json, K, Outbox, Slip

log = logging.getLogger(__name__)

BOOT_RETRY_S = 30.0
DEAF_AFTER = 2  # unanswered calls in a row after which it dials anew


class Habits(Protocol):
    """What the station's own settings say about talking."""

    def heartbeat_s(self) -> float:
        """Silence after which it says Heartbeat; 0 = never."""
        ...

    def keep_heartbeat(self, seconds: int) -> None:
        """The central system named the interval in its answer to the boot."""
        ...

    def record_tries(self) -> tuple[int, float]:
        """How often a record is tried, and the step (s) by which the wait between tries grows."""
        ...


class Voice(Generic[K]):
    """`introduce()` makes the BootNotification, `accepted()` is called when the central system has accepted the
    station on a new link, `delivered(record, answer)` when it has answered a record.

    online    accepted on this link
    booted    accepted since the power came
    standing  the last answer to a boot on this link: "" (none yet), "Accepted", "Pending" or "Rejected"
    """

    link: Link

    def __init__(
        self,
        station: str,
        clock: Clock,
        habits: Habits,
        records: list[K],
        introduce: Callable[[], Json],
        accepted: Callable[[], None],
        delivered: Callable[[K, Json], None],
        *,
        silent_reconnect: bool = False,
    ) -> None:
        self.online = False
        self.booted = False
        self.standing = ""
        self.outbox: Outbox[K] = Outbox(records)
        self._station = station
        self._clock = clock
        self._habits = habits
        self._introduce = introduce
        self._accepted = accepted
        self._delivered = delivered
        self._silent_reconnect = silent_reconnect
        self._boot_again = False
        self._heartbeat_due_s = 0.0
        self._unanswered = 0

    def keep_time(self, now_s: float) -> None:
        """What has become due: records to repeat, a heartbeat after a silence."""
        self.outbox.nudge(now_s)
        if self.online and 0 < self._heartbeat_due_s <= now_s:
            self.say_heartbeat()

    def say_boot(self) -> None:
        """The central system asked for it."""
        if self.online:
            self.outbox.put("boot", Slip("BootNotification", self._introduce()))
        else:
            self._boot_again = True
            self.outbox.filled.set()

    def say_heartbeat(self) -> None:
        self.outbox.put("heartbeat", Slip("Heartbeat", {}))

    async def converse(self) -> None:
        """Runs while a link is up; cancelled when it is lost."""
        self._unanswered = 0
        try:
            if not (self.booted and self._silent_reconnect):
                await self._boot()
            self.booted = self.online = True
            self._accepted()
            while True:
                self.outbox.filled.clear()
                record = self.outbox.due(self._clock.now().mono_s)
                if record is not None:
                    await self._deliver(record)
                elif (slip := self.outbox.take()) is not None:
                    await self._say(slip)
                else:
                    await self.outbox.filled.wait()
        finally:
            self.online = False
            self.standing = ""
            self.outbox.link_lost()

    async def _boot(self) -> None:
        while True:
            wait_s = BOOT_RETRY_S
            self._boot_again = False
            try:
                answer = await self.link.call("BootNotification", self._introduce())
            except (Unreachable, Refused) as error:
                log.info("%s: BootNotification: %s", self._station, error)
            else:
                wait_s = float(answer.get("interval") or BOOT_RETRY_S)
                self.standing = str(answer.get("status"))
                if self.standing == "Accepted":
                    self._habits.keep_heartbeat(int(wait_s))
                    return
            await self._stand_by(wait_s)

    async def _stand_by(self, seconds: float) -> None:
        """Not accepted yet: says only what it is asked for, and boots again in time or when told to."""
        waiting = asyncio.ensure_future(self._clock.sleep(seconds))
        waiting.add_done_callback(lambda _: self.outbox.filled.set())
        try:
            while not (waiting.done() or self._boot_again):
                self.outbox.filled.clear()
                if (slip := self.outbox.take(only_asked=True)) is not None:
                    await self._say(slip)
                else:
                    await self.outbox.filled.wait()
        finally:
            waiting.cancel()

    async def _deliver(self, record: K) -> None:
        """One try; a record leaves the flash when it was answered, or has failed as often as configured."""
        answer = await self._call(record.action, record.ready_payload())
        if answer is not None:
            self.outbox.records.remove(record)
            self._delivered(record, answer)
            return
        record.attempts += 1
        tries, step_s = self._habits.record_tries()
        record.due_s = self._clock.now().mono_s + step_s * record.attempts
        if record.attempts >= tries:
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
        every_s = self._habits.heartbeat_s()
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
