"""The shell around the core: carries facts in, commands out and entries to the ledger, and keeps the second.

Owns the order of things: a fact is recorded, applied, stored, and only then answered; a raise leaves the box only
after its ceiling is committed; the watchdog is fed only by a finished step whose ledger answered. Knows no driver,
no protocol and no screen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from controller.checkpoint import saved
from controller.core.applied import Applied
from controller.core.commands import Audited, CeilingSaved, Command, Entry, SetBattery, SetLimit
from controller.core.depot import Depot
from controller.core.events import (
    AlarmAcked,
    AlarmShelved,
    AlarmUnshelved,
    CommandRefused,
    CommandReplaced,
    DepartureSet,
    Event,
    FlexEnded,
    FlexWished,
    MeterSigned,
    RecordReceived,
    RosterSet,
    ScheduleCleared,
    ScheduleSet,
    ServiceChanged,
    SocTold,
    StationQualified,
    TokenErased,
    TokenRemoved,
    TokenSet,
    TokensRestored,
    TransactionEnded,
    TransactionIdentified,
    TransactionStarted,
)
from controller.core.model import EvseId
from controller.core.proof import Proof
from controller.core.snapshot import Snapshot
from controller.core.wishes import Wished
from controller.ledger import Ledger, Restored
from controller.notify import Notifier
from controller.plan_loop import PlanLoop, Planner
from controller.ports import BatteryOutput, Charger, Clock, Driver
from controller.recorder import Recorder
from controller.remembered import remembered
from controller.storage import Storage
from controller.telemetry import Telemetry
from drivers.errors import Misconfigured

log = logging.getLogger(__name__)

STEP_S = 1.0
URGENT_GAP_S = 0.05  # a burst of urgent facts becomes one step
LEDGER_ALIVE_S = 5.0  # a ledger thread silent for longer does not feed the watchdog
ROOM_S = 0.5  # how often a fact that must be stored looks whether the ledger takes entries again
RAISE_KEEPS_S = (
    5.0  # a raise that waited longer for its ceiling is dropped: the core budgets it from its decision on
)
PART_S = 4.0  # a stop waits so long for the stations: the ledger may need 5 s more, systemd expects 10
RESTART_S = (1.0, 30.0)  # pause before a failed driver runs again: first, longest
# whoever reports one of these is told "stored", and each may change the plan (alarms do not; a plan is cheap)
RELIED_ON = (
    TransactionStarted,
    TransactionIdentified,
    TransactionEnded,
    MeterSigned,
    RecordReceived,
    ScheduleSet,
    ScheduleCleared,
    DepartureSet,
    RosterSet,
    SocTold,
    TokenSet,
    TokenRemoved,
    TokenErased,
    StationQualified,
    AlarmAcked,
    AlarmShelved,
    AlarmUnshelved,
    ServiceChanged,
)
# acted on at once; who gave the order waits for the disk, but a broken one must not keep hands off the chargers
ORDERS = Wished | FlexWished | FlexEnded
ORDER_STORED_S = 3.0  # the alarm `books` says what is wrong then


@dataclass(frozen=True, slots=True)
class Wires:
    """What the composition root plugs in. chargers, batteries: by the channel name commands carry."""

    drivers: Sequence[Driver]
    chargers: Mapping[str, Charger]
    batteries: Mapping[str, BatteryOutput] = field(default_factory=dict)


class Runtime:
    """One running depot. `storage` must be open; whoever opened it closes it."""

    def __init__(
        self,
        depot: Depot,
        clock: Clock,
        storage: Storage,
        ledger: Ledger,
        planner: Planner,
        notifier: Notifier,
    ) -> None:
        self.depot = depot
        self.clock = clock
        self.ledger = ledger
        self.recorder = Recorder(look=partial(saved, depot))
        self.snapshot: Snapshot | None = None
        self.step_s = 0.0  # what the newest decision took
        self.hearers: list[
            Callable[[Event], None]
        ] = []  # hear every fact once it is applied; must not wait or raise
        self.witnesses: list[
            Callable[[Proof], None]
        ] = []  # see what each step rested on; must not wait or raise
        self._storage = storage
        self._telemetry = Telemetry(storage)
        self.planning = PlanLoop(depot, clock, self.report, planner)
        self._notifier = notifier
        self._chargers: Mapping[str, Charger] = {}
        self._batteries: Mapping[str, BatteryOutput] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._newest: dict[EvseId, str] = {}  # newest limit per EVSE: an older one still waiting is dropped
        self._ceilings: dict[EvseId, int] = {}  # committed: what a restart would budget for
        self._waiting: set[asyncio.Task[None]] = set()
        self._ready = False
        self._ledger_alive = True

    # --- facts ------------------------------------------------------------------------------------------------------

    async def report(self, event: Event) -> Applied:
        """Hand a fact to the depot; returns once everything it caused is committed, where somebody relies on it."""
        relied_on = isinstance(event, RELIED_ON)
        if relied_on:
            event = await self._numbered(event)
        now = self.clock.now()
        self.recorder.fact(event, now)
        applied = self.depot.apply(event, now)
        for hear in self.hearers:
            hear(event)
        if applied.urgent:
            self._wake.set()
        if relied_on:
            self.planning.wanted.set()
            # with no entries too: a repeated message waits for what the first one caused
            await asyncio.shield(self._append(applied.entries))
        elif applied.entries:
            stored = self._append(applied.entries)
            if isinstance(event, ORDERS):
                await asyncio.wait({stored}, timeout=ORDER_STORED_S)
        return applied

    async def _numbered(self, event: Event) -> Event:
        """The event with its transaction number, once the ledger has room: what would be dropped is not taken."""
        await self._room()
        if isinstance(event, TransactionStarted) and event.transaction is None:
            known = self.depot.continued(event)
            if known is not None:
                return replace(event, transaction=known)
            number, _ = await self.ledger.number_transaction(
                event.evse, event.token, event.register_wh, event.started
            )
            await self._room()
            return replace(event, transaction=str(number))
        return event

    async def _room(self) -> None:
        while self._storage.full:  # noqa: ASYNC110 - it changes in the storage thread
            await asyncio.sleep(ROOM_S)

    def _append(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        stored = self.ledger.append(entries)
        ceilings = {entry.evse: entry.limit_ma for entry in entries if isinstance(entry, CeilingSaved)}
        if ceilings:

            def committed(future: asyncio.Future[None]) -> None:
                if not future.cancelled() and future.exception() is None:
                    self._ceilings.update(ceilings)

            stored.add_done_callback(committed)
        return stored

    async def restore(self, known: Restored) -> None:
        """What the ledger remembers becomes facts, before anything else happens."""
        self._ceilings.update(known.ceilings)
        for fact in remembered(known):
            await self._remember(fact)
        # the vehicles of the config may have changed: what the book made of that is new
        self._append((await self._remember(TokensRestored(known.tokens, known.tokens_version))).entries)

    async def _remember(self, event: Event) -> Applied:
        """Applies without storing again what came out of the store."""
        now = self.clock.now()
        self.recorder.fact(event, now)
        return self.depot.apply(event, now)

    # --- running ----------------------------------------------------------------------------------------------------

    async def run(self, wires: Wires, others: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """Works until cancelled. Raises what only a person can mend (Misconfigured)."""
        self._chargers, self._batteries = wires.chargers, wires.batteries
        boot = Audited(self.clock.now().utc, "depot", "started", self.depot.site.name, "")
        self._append((boot,))
        try:
            async with asyncio.TaskGroup() as group:
                drivers = [group.create_task(self._keep_running(driver)) for driver in wires.drivers]
                for other in others:
                    group.create_task(_worked(other))
                group.create_task(self.planning.run())
                try:
                    await self._step_loop()
                finally:
                    self._notifier.send("STOPPING=1")
                    if not any(driver.done() or driver.cancelling() for driver in drivers):
                        await self._part()
        finally:
            for task in self._waiting:
                task.cancel()
            self._telemetry.flush()

    async def _keep_running(self, driver: Driver) -> None:
        """A driver that dies is restarted; one that a person must mend ends the depot with its one line."""
        pause_s = RESTART_S[0]
        while True:
            began_s = self.clock.now().mono_s
            try:
                await driver.run(self.report)
                log.error("%s ended by itself", type(driver).__name__)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.error("%s was cancelled from within", type(driver).__name__)
            except Exception as error:
                if _needs_a_person(error):
                    raise
                log.exception("%s failed, again in %.0f s", type(driver).__name__, pause_s)
            if self.clock.now().mono_s - began_s > 300:
                pause_s = RESTART_S[0]
            await asyncio.sleep(pause_s)
            pause_s = min(RESTART_S[1], pause_s * 2)

    async def _step_loop(self) -> None:
        """A step every second, or sooner after an urgent fact; never closer together than the gap."""
        while True:
            began_s = self.clock.now().mono_s
            await self._step()
            await self.clock.sleep(URGENT_GAP_S)
            await self._woken(began_s + STEP_S)

    async def _part(self) -> None:
        """We were told to stop: every station goes to its fallback now, and who does not answer when its lease ends."""
        for task in self._waiting:  # no raise may follow
            task.cancel()
        commands = self.depot.part(self.clock.now())
        for command in commands:
            await self._send(command)
        with suppress(TimeoutError):
            async with asyncio.timeout(PART_S):
                while self.depot.owed(commands):  # noqa: ASYNC110 - a driver reports it
                    await asyncio.sleep(0.02)

    async def _woken(self, due_s: float) -> None:
        """Returns at `due_s`, or as soon as an urgent fact has come in."""
        left_s = due_s - self.clock.now().mono_s
        if left_s <= 0 or self._wake.is_set():
            return
        sleeper = asyncio.ensure_future(self.clock.sleep(left_s))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    async def _step(self) -> None:
        self._wake.clear()
        now = self.clock.now()
        self.recorder.step(now)
        decision = self.depot.step(now)
        self.step_s = self.clock.now().mono_s - now.mono_s
        limits = [command for command in decision.commands if isinstance(command, SetLimit)]
        raises = [
            limit for limit in limits if limit.raises or limit.limit_ma > self._ceilings.get(limit.evse, 0)
        ]
        # the core saves a ceiling once; while that is not committed, its next raise needs one of its own
        missing = [CeilingSaved(limit.evse, limit.limit_ma) for limit in raises if not limit.raises]
        entries = (*decision.entries, *missing)
        stored = self._append(entries) if entries else None
        for limit in limits:
            self._newest[limit.evse] = limit.id
        if raises and stored is not None:
            task = asyncio.create_task(self._send_when_stored(raises, stored, now.mono_s))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        for command in decision.commands:
            if command not in raises:
                await self._send(command)
        for set_point in decision.set_points:
            await self._set(set_point)
        self.snapshot = decision.snapshot
        self._telemetry.observe(decision.snapshot)
        for see in self.witnesses:
            see(decision.proof)
        async with self._changed:
            self._changed.notify_all()
        self._feed_watchdog(decision.snapshot)

    async def _send_when_stored(
        self, commands: Sequence[SetLimit], stored: asyncio.Future[None], decided_s: float
    ) -> None:
        """A restart must know how much it may have allowed: first the ceiling is committed, then the raise goes."""
        try:
            await asyncio.shield(stored)
        except Exception as error:
            for command in commands:
                await self.report(CommandRefused(command.id, f"not stored: {error}"))
            return
        late = self.clock.now().mono_s - decided_s > RAISE_KEEPS_S
        for command in commands:
            if self._newest.get(command.evse) == command.id and not late:
                await self._send(command)
            else:
                await self.report(CommandReplaced(command.id))

    async def _send(self, command: Command) -> None:
        charger = self._chargers.get(command.channel)
        if charger is None:
            await self.report(CommandRefused(command.id, f"channel {command.channel} is off"))
        else:
            charger.send(command)

    async def _set(self, command: SetBattery) -> None:
        output = self._batteries.get(command.channel)
        if output is None:
            await self.report(CommandRefused(command.id, f"channel {command.channel} is off"))
        else:
            output.send(command)

    def _feed_watchdog(self, snapshot: Snapshot) -> None:
        alive = self._storage.alive_s <= LEDGER_ALIVE_S
        if alive != self._ledger_alive:
            self._ledger_alive = alive
            log.error("the ledger thread %s", "answers again" if alive else "does not answer")
        if not alive:
            return
        connected = sum(evse.connected for evse in snapshot.evses)
        status = f"STATUS={snapshot.state}, {connected}/{len(snapshot.evses)} EVSEs connected"
        if not self._ready:
            self._ready = True
            self._notifier.send("READY=1", status)
        self._notifier.send("WATCHDOG=1", status)

    # --- watchers ---------------------------------------------------------------------------------------------------

    async def next_snapshot(self, seen: Snapshot | None) -> Snapshot:
        """The newest snapshot that is not `seen`; waits for it. Newest wins: nobody queues."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.snapshot is not None and self.snapshot is not seen)
        assert self.snapshot is not None
        return self.snapshot


async def _worked(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _needs_a_person(error: Exception) -> bool:
    """A driver may raise what only a person can mend from within a task group of its own."""
    return isinstance(error, Misconfigured) or (
        isinstance(error, ExceptionGroup) and error.subgroup(Misconfigured) is not None
    )
