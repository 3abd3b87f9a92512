"""One limit on its way to a station that has ways of its own, and what has to follow so that it holds.

Owns the order of tries when a station says no, what it learns from a yes, how a pause is said, and the aftermath: a limit
said twice after a pause, a vehicle that is woken, a lease that must not outlive its transaction. A repair never widens: the
wire gets the commanded limit or less. The one exception is said to the depot as a no: where a pause would end the
transaction ("six_amp") the station is lowered to its minimum, at most what it does alone and never above what it had.
Source: field notes section 2, rows 21-29, 31, 32, 35, 36 and 38.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from controller.core.commands import SetLimit, StartCharging, StopCharging
from controller.core.events import EvseSample
from controller.core.model import Evse, EvseId, EvseState
from controller.ports import Clock
from drivers.errors import Refused
from drivers.ocpp.dialects import Switches
from drivers.ocpp.fitting import fit_ma, fitted
from drivers.ocpp.footing import Footing
from drivers.ocpp.memory import Memory
from drivers.ocpp.profiles import CLOCK_SLACK_S
from drivers.ocpp.queues import Lane
from drivers.ocpp.station import Session
from drivers.ocpp.watch import Judgement, Watch
from drivers.ocpp.words import Capabilities, Order, Words, status_of

# Tried in this order when a limit is rejected. Almost every station says yes to the last, for whatever it is worth: so
# only when it has said no twice, and no longer than the current is seen to follow.
LEARNABLE = ("relative", "onelevel", "watts", "notx")
MOST_TRIES = 2  # of all of them: a no may have other reasons, and a station is not to be worn out
AFTER_PAUSE = "its first limit after a pause may do nothing: counts at its maximum until it was measured"
OUTLIVES = "a limit for any transaction may outlive the one it was for: counts at its maximum until it is overwritten"
IN_ITS_TIME = "its clock is behind: leases are written in its time"
NO_CLOCK = "its clock is unknown or far behind: its limits count as if they never ended"
FAR_BEHIND_S = 600.0  # more is rather a stamp that was queued, or local time said to be UTC
MOST_REPEATS = 3
SLEEPS_AFTER_S = 60.0
SHORT_PAUSE_S = 5.0
WAKES_PER_H = 3
_NO = ("rejected", "notsupported")


class Delivery:
    """`carry` is called by whoever has the turn; the rest may be called at any time. `again`: sends a limit that no
    command asked for, unless a newer one waits."""

    def __init__(
        self,
        words: Words,
        session: Session,
        evses: Mapping[int, Evse],
        memory: Memory,
        clock: Clock,
        footing: Footing,
        again: Callable[[SetLimit], None],
    ) -> None:
        self._words = words
        self._session = session
        self._evses = {evse.id: evse for evse in evses.values()}
        self._memory = memory
        self._clock = clock
        self._footing = footing
        self._again = again
        self._watch = Watch()
        self._tries = 0
        self._plain_worked = False
        self._newest: dict[EvseId, SetLimit] = {}  # what the depot commanded last, whatever became of it
        self._repeats: dict[EvseId, int] = {}
        self._woken_s: dict[EvseId, deque[float]] = {}
        # how far behind the clock was that each limit was written for
        self._written_for_s: dict[EvseId, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def prepared(self, evse: Evse, switches: Switches | None = None) -> tuple[Capabilities, Evse]:
        """What orders for this EVSE are built of."""
        memory = self._memory
        chosen = memory.manners.switches if switches is None else switches
        able, cut, told = fitted(memory.able, evse, chosen, memory.hearing, memory.manners.knows)
        for name in told:
            memory.note_repair(name)
        memory.note_repairs("stack_levels", "profile_kind", "tx_purpose", "rate_unit")
        return able, cut

    def start(self, command: StartCharging, number: int, evse: Evse) -> Order:
        limit_ma = self._cut(command.limit_ma)
        able, cut = self.prepared(evse)
        if self._lag_s() == math.inf:
            self._footing.may_stay(evse, limit_ma)
        return self._words.start(replace(command, limit_ma=limit_ma), number, cut, able, self._its_time())

    # --- a limit ------------------------------------------------------------------------------------------------

    async def carry(self, command: SetLimit, number: int, evse: Evse, on_wire: Callable[[], None]) -> str:
        """The station's word about it. Raises as `Session.exchange`, and Refused where nothing fits."""
        switches, now_s = self._memory.manners.switches, self._clock.now().mono_s
        if command.id:
            self._newest[evse.id] = command
        until_s = now_s + command.lease_s  # however long it takes, and however often it is said
        before_ma = self._watch.limit_ma(evse.id, now_s)
        command = replace(command, limit_ma=self._cut(command.limit_ma))
        if command.limit_ma < evse.min_ma and command.transaction is not None and switches.pause != "zero":
            return await self._pause(command, number, evse, before_ma, until_s, on_wire)
        if switches.limit_key and command.phases is not None:
            raise Refused("its limit is a setting, which knows no phases")
        if switches.limit_key:
            return await self._by_key(command, evse, before_ma, until_s, on_wire)
        before, is_known = self._told(evse), evse.id in self._memory.told
        resumes = before is not None and before[0] < evse.min_ma <= command.limit_ma
        if resumes and switches.resume_check:
            self._footing.reserve(evse, AFTER_PAUSE)
        lag_s = self._lag_s()
        if lag_s == math.inf:
            self._footing.may_stay(evse, command.limit_ma)
        if lag_s:
            self._memory.note_quirks((NO_CLOCK if lag_s == math.inf else IN_ITS_TIME,))
        status = await self._offer(command, number, evse, until_s, on_wire)
        if status.casefold() == "accepted":
            self._note(command, evse, until_s)
            self._footing.stays(evse, command.limit_ma if lag_s == math.inf else 0)
            self._written_for_s[evse.id] = lag_s
            if not command.id and command.transaction is None:
                self._footing.release(
                    evse, OUTLIVES
                )  # what would have outlived its transaction is overwritten
            if resumes and switches.resume_check:
                self._memory.note_repairs("resume_check")
                self._repeats[evse.id] = 0
                # it has said yes already, and counts at its maximum until it is measured
                with suppress(Refused):
                    await self._offer(command, number, evse, until_s, None)
            if resumes and is_known and self._may_sleep():
                self._spawn(self._wake(evse, self._newest.get(evse.id)))
        return status

    def _lag_s(self) -> float:
        """By how much leases are written for a clock behind ours: nothing as long as they end in time anyway. Endless where
        they may not end."""
        behind_s = self._memory.hearing.behind_s(self._clock.now())
        if behind_s is None or behind_s > FAR_BEHIND_S:
            return math.inf
        return behind_s if behind_s > CLOCK_SLACK_S else 0.0

    def _its_time(self) -> datetime:
        now, lag_s = self._clock.now().utc, self._lag_s()
        return now if lag_s == math.inf else now - timedelta(seconds=lag_s)

    def _cut(self, limit_ma: int) -> int:
        cut_ma = fit_ma(limit_ma, self._memory.manners.switches)
        if cut_ma != limit_ma:
            self._memory.note_repairs("steps_a")
        return cut_ma

    async def _offer(
        self, command: SetLimit, number: int, evse: Evse, until_s: float, on_wire: Callable[[], None] | None
    ) -> str:
        able, cut = self.prepared(evse)
        status = await self._exchange(self._limit(command, number, cut, until_s, able), on_wire)
        if status.casefold() == "accepted":
            self._plain_worked = True
        if status.casefold() not in _NO or not self._may_try(command):
            return status
        self._tries += 1
        for name, switches in self._variations():
            able, cut = self.prepared(evse, switches)
            try:
                order = self._limit(command, number, cut, until_s, able)
            except Refused:
                continue  # not sayable in that way
            other = await self._exchange(order, None)
            if other.casefold() == "accepted":
                self._plain_worked = True
                if self._memory.learn(name):
                    self._footing.dialect_learnt(self._evses.values())
                return other
        return status

    def _limit(self, command: SetLimit, number: int, evse: Evse, until_s: float, able: Capabilities) -> Order:
        """For what is left of its lease: a station that answers slowly must not get more by being asked again."""
        left_s = until_s - self._clock.now().mono_s
        if left_s <= 0:
            raise Refused("its lease ran out before the station had taken it")
        return self._words.limit(replace(command, lease_s=left_s), number, evse, able, self._its_time())

    async def _exchange(self, order: Order, on_wire: Callable[[], None] | None) -> str:
        return status_of(await self._session.exchange(order.action, order.payload, Lane.SAFETY, on_wire))

    def _may_try(self, command: SetLimit) -> bool:
        """A no to a transaction that runs, from a station that never said yes."""
        runs = command.transaction is not None and command.transaction in self._memory.evse_of
        return runs and not self._plain_worked and self._tries < MOST_TRIES

    def _variations(self) -> Iterator[tuple[str, Switches]]:
        manners = self._memory.manners
        for name in LEARNABLE:
            too_soon = name == LEARNABLE[-1] and self._tries < MOST_TRIES
            if manners.may_learn(name) and not too_soon:
                yield name, manners.supposing(name)

    # --- pauses and keys ------------------------------------------------------------------------------------------

    async def _pause(
        self,
        command: SetLimit,
        number: int,
        evse: Evse,
        before_ma: int | None,
        until_s: float,
        on_wire: Callable[[], None],
    ) -> str:
        self._memory.note_repairs("pause")
        if self._memory.manners.switches.pause == "remote_stop":
            stop = StopCharging(command.id, command.evse, command.channel, command.transaction, "pause")
            return await self._exchange(self._words.stop(stop), on_wire)
        lowest_ma = min(evse.min_ma, evse.fallback_ma)
        if before_ma is not None and before_ma > lowest_ma >= evse.min_ma:
            lowered = replace(command, limit_ma=lowest_ma)
            status = await self._offer(lowered, number, evse, until_s, on_wire)
            if status.casefold() == "accepted":
                self._note(lowered, evse, until_s)
        raise Refused("a pause would end its transaction: it is kept at its minimum or what it does alone")

    async def _by_key(
        self,
        command: SetLimit,
        evse: Evse,
        before_ma: int | None,
        until_s: float,
        on_wire: Callable[[], None],
    ) -> str:
        """Whole amperes, kept for good by a station that may wear out: only what is new is written."""
        amperes_ma = command.limit_ma // 1000 * 1000
        if before_ma == amperes_ma:
            on_wire()
            self._note(replace(command, limit_ma=amperes_ma), evse, until_s)
            return "Accepted"
        self._memory.note_repairs("limit_key")
        key = self._memory.manners.switches.limit_key
        order = Order("ChangeConfiguration", {"key": key, "value": str(amperes_ma // 1000)})
        status = await self._exchange(order, on_wire)
        if status.casefold() == "accepted":
            self._note(replace(command, limit_ma=amperes_ma), evse, until_s)
        return status

    def _told(self, evse: Evse) -> tuple[int, int, float] | None:
        """The least and the most that it may have been told in this transaction, and until when that holds."""
        since_s, now_s = self._memory.since_s, self._clock.now().mono_s
        if (told := self._memory.told.get(evse.id)) is not None:
            limit_ma, until_s = told
            return limit_ma, limit_ma, until_s
        until_s = since_s + evse.link.lease_s + evse.link.lease_slack_s
        return (0, evse.max_ma, until_s) if now_s < until_s else None

    def _note(self, command: SetLimit, evse: Evse, until_s: float) -> None:
        now_s = self._clock.now().mono_s
        self._memory.told[evse.id] = (command.limit_ma, until_s)
        self._watch.note(
            evse.id, command.limit_ma, now_s, until_s - now_s, command.transaction, command.phases
        )

    # --- what became of it ----------------------------------------------------------------------------------------

    def sampled(self, sample: EvseSample) -> None:
        memory, evse = self._memory, self._evses.get(sample.evse)
        memory.hearing.note_currents(sample.evse, sample.current_ma)
        now_s = self._clock.now().mono_s
        judgement = self._watch.judge(sample.evse, sample.current_ma, now_s)
        if evse is None:
            return
        match judgement:
            case Judgement.SPIKES:
                if memory.learn("spike"):
                    self._footing.dialect_learnt(self._evses.values())
            case Judgement.UNAPPLIED:
                memory.note_repair("unapplied")
                memory.manners.unlearn("notx")
            case Judgement.FINE:
                self._footing.release(evse)
            case Judgement.HIGH if self._footing.is_reserved(evse.id):
                self._repeat(evse)

    def clock_told(self) -> None:
        """A stamp was heard. A limit whose end nobody knew ends in time, if its clock is right; one that was written for a
        clock less behind does not, and is written anew."""
        behind_s = self._memory.hearing.behind_s(self._clock.now()) or 0.0
        for evse in self._evses.values():
            if behind_s <= CLOCK_SLACK_S:
                self._footing.stays(evse, 0)
            elif behind_s > self._written_for_s.get(evse.id, math.inf) + CLOCK_SLACK_S:
                self.say_again(evse.id)

    def status(self, evse: EvseId, state: EvseState) -> None:
        self._watch.states[evse] = state
        if state is EvseState.AVAILABLE:
            self._memory.hearing.note_departure(evse)

    def transaction_ended(self, evse_id: EvseId) -> None:
        """A profile of the transaction has gone with it; one for any transaction is still there and would outlive it."""
        evse = self._evses.get(evse_id)
        self._watch.forget(evse_id)
        if evse is None:
            return
        told = self._told(evse)
        self._memory.told.pop(evse_id, None)
        self._footing.release(evse)
        if self._memory.manners.switches.tx_purpose in ("", "TxProfile"):
            self._footing.stays(evse, 0)
            return
        if told is None:
            return
        _, told_ma, until_s = told
        left_s = until_s - self._clock.now().mono_s
        if left_s > 0 and told_ma > evse.fallback_ma:
            channel = self._words.channel
            self._footing.reserve(evse, OUTLIVES)
            self._again(SetLimit("", evse_id, channel, evse.fallback_ma, max(1.0, left_s)))
            self._spawn(self._run_out(evse, left_s + evse.link.lease_slack_s))

    async def _run_out(self, evse: Evse, left_s: float) -> None:
        """The station never said yes to the overwriting: its lease has ended by then."""
        await self._clock.sleep(left_s)
        self._footing.release(evse, OUTLIVES)

    def _repeat(self, evse: Evse) -> None:
        if self._repeats.get(evse.id, 0) < MOST_REPEATS:
            self._repeats[evse.id] = self._repeats.get(evse.id, 0) + 1
            self._memory.note_repairs("resume_check")
            self._send_again(evse.id, self._newest.get(evse.id))

    def say_again(self, evse: EvseId) -> None:
        """The newest limit, as far as it still holds."""
        self._send_again(evse, self._newest.get(evse))

    def _send_again(self, evse: EvseId, command: SetLimit | None, limit_ma: int | None = None) -> None:
        """The accepted limit once more, or less, never for longer; nothing when the depot has said something since."""
        held = self._watch.accepted.get(evse)
        if held is None or command is None or self._newest.get(evse) is not command:
            return
        said_ma = min(command.limit_ma, held.limit_ma if limit_ma is None else limit_ma)
        left_s = held.until_s - self._clock.now().mono_s
        if left_s >= 1.0:
            channel, transaction = self._words.channel, held.transaction
            self._again(SetLimit("", evse, channel, said_ma, left_s, transaction, phases=held.phases))

    # --- sleepers -------------------------------------------------------------------------------------------------

    def _may_sleep(self) -> bool:
        switches = self._memory.manners.switches
        return self._memory.manners.knows("asleep") and switches.pause == "zero" and not switches.resume_check

    async def _wake(self, evse: Evse, command: SetLimit | None) -> None:
        """Another short pause: some vehicles take the first offer after a pause for none (row 38)."""
        await self._clock.sleep(SLEEPS_AFTER_S)
        now_s = self._clock.now().mono_s
        limit_ma = self._watch.limit_ma(evse.id, now_s)
        woken = self._woken_s.setdefault(evse.id, deque(maxlen=WAKES_PER_H))
        worn = len(woken) == WAKES_PER_H and now_s - woken[0] < 3600.0
        asleep = self._watch.states.get(evse.id) is EvseState.SUSPENDED_EV
        if not asleep or worn or limit_ma is None or limit_ma < evse.min_ma:
            return
        woken.append(now_s)
        self._memory.note_repair("asleep")
        self._send_again(evse.id, command, 0)
        await self._clock.sleep(SHORT_PAUSE_S)
        if self._watch.limit_ma(evse.id, self._clock.now().mono_s) == 0:
            self._send_again(evse.id, command, limit_ma)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
