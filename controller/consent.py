"""The customer's switch for the second backend: each of its channels is on or off, and only people on site decide.

Owns the decisions (table `consents` of depot.db: newest wins, over restarts and updates) and `Switch`, which runs a
channel's driver while the decision allows it. A decision for "open-platform" counts for all of its channels; before
any decision the config's own consent counts, and no decision allows more than the config. Nothing but the control
socket may call `Switch.decide`: the remote side has no way here.

Off means: the driver's task has ended and with it its sockets, polls and everything it had not sent; its stations are
reported as gone; commands are refused. Sessions go on under the limits the stations hold by themselves.
Source: Open Platform GAPS G-24, DESIGN section 6.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from controller.core.commands import Audited, Command
from controller.core.events import (
    ChannelChanged,
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
    LinkDown,
    LinkUp,
)
from controller.core.model import StationId
from controller.core.wire import instant, instant_text
from controller.ledger import Ledger
from controller.ports import Answer, Charger, Report
from controller.storage import LEDGER, Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Channel:
    """What the config says: the most that any decision can allow."""

    id: str  # "open-platform/cloud"
    host: str | None
    region: str | None
    enabled_by: str
    purposes: frozenset[str]

    @property
    def family(self) -> str:
        return self.id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Decision:
    """`channel` is one channel or a family of them; `by` the person; `at` is aware."""

    channel: str
    enabled: bool
    by: str
    at: datetime
    purposes: frozenset[str] = frozenset()

    @property
    def signature(self) -> str:
        """As consent is written in the config."""
        return f"{self.by}, {self.at:%Y-%m-%d}"


class Decisions:
    """The stored decisions. `storage` must be open."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._ledger = Ledger(storage)

    async def newest(self, channel: Channel) -> Decision | None:
        """The decision that counts for this channel. Raises LedgerError."""

        def work(db: sqlite3.Connection) -> tuple[str, int, str, str, str] | None:
            row: tuple[str, int, str, str, str] | None = db.execute(
                "SELECT channel, enabled, by, at, purposes FROM consents WHERE channel IN (?, ?)"
                " ORDER BY id DESC LIMIT 1",
                (channel.id, channel.family),
            ).fetchone()
            return row

        row = await self._storage.read(LEDGER, work)
        if row is None:
            return None
        name, enabled, by, at, purposes = row
        return Decision(name, bool(enabled), by, instant(at), frozenset(json.loads(purposes)))

    async def store(self, decision: Decision, operator: str) -> None:
        """Returns once decision and audit are committed; waits while the disk refuses. `operator` is who typed it.
        Raises LedgerError."""
        purposes = sorted(decision.purposes)
        what = "channel-enabled" if decision.enabled else "channel-disabled"
        detail = f"by {decision.by} for {', '.join(purposes)}" if decision.enabled else ""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO consents (at, channel, enabled, by, purposes) VALUES (?, ?, ?, ?, ?)",
                (
                    instant_text(decision.at),
                    decision.channel,
                    int(decision.enabled),
                    decision.by,
                    json.dumps(purposes),
                ),
            )

        audited = self._ledger.append((Audited(decision.at, operator, what, decision.channel, detail),))
        await asyncio.gather(audited, self._storage.write(LEDGER, work))


class Switch:
    """A `ports.Charger` around the driver of one channel. `make(enabled_by, purposes)` builds the driver anew each
    time it is turned on, so that nothing survives being off. Raises what `make` raises: it is tried at once."""

    def __init__(self, channel: Channel, make: Callable[[str, frozenset[str]], Charger]) -> None:
        self.channel = channel
        self._make = make
        self._decision: Decision | None = None
        self._driver: Charger | None = make(channel.enabled_by, channel.purposes)
        self._commands: dict[str, bool] = {}  # without an outcome yet; True: went on the wire
        self._up: set[StationId] = set()
        self._refusals: deque[CommandRefused] = deque()
        self._bell = asyncio.Event()  # a decision or a refusal is there
        self._closed = asyncio.Event()  # no driver is running
        self._closed.set()
        self._report: Report | None = None

    # --- decisions ----------------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        return self._decision is None or self._decision.enabled

    @property
    def enabled_by(self) -> str:
        decision = self._decision
        return decision.signature if decision is not None and decision.enabled else self.channel.enabled_by

    @property
    def purposes(self) -> frozenset[str]:
        """What it may be used for now; empty while off."""
        if self._decision is None:
            return self.channel.purposes
        return self._decision.purposes & self.channel.purposes

    @property
    def waiting(self) -> int:
        """Commands that have not left yet."""
        return sum(not sent for sent in self._commands.values())

    @property
    def driver(self) -> Charger | None:
        """The one that runs under the newest decision; None while off."""
        return self._driver

    def decide(self, decision: Decision) -> None:
        """Takes effect at once for `send`; `closed` tells when the driver has followed."""
        self._decision = decision
        self._driver = None  # whatever it holds goes with it
        self._bell.set()

    async def closed(self) -> None:
        """Returns once no driver runs under an older decision: every socket is closed."""
        await self._closed.wait()

    # --- ports.Charger ------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        if self._driver is None:
            self._refusals.append(CommandRefused(command.id, f"channel {self.channel.id} is off"))
            self._bell.set()
        else:
            self._commands[command.id] = False
            self._driver.send(command)

    async def run(self, report: Report) -> None:
        """Runs the driver while it may run, until cancelled. Raises what the driver raises."""
        self._report = report
        while True:
            if self._driver is None:
                await self._settle()
            if self._driver is None and self.enabled:
                self._driver = self._make(self.enabled_by, self.purposes)
            if self._driver is None:
                await report(self._off())
                await self._rest(lambda: not self.enabled)
            elif await self._work(self._driver):
                return

    async def _work(self, driver: Charger) -> bool:
        """Until another decision is made; True when the driver ended by itself."""
        self._closed.clear()
        work = asyncio.create_task(driver.run(self._heard))
        decided = asyncio.create_task(self._rest(lambda: driver is self._driver))
        try:
            await asyncio.wait({work, decided}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = work.done()
            work.cancel()
            decided.cancel()
            await asyncio.wait({work, decided})
            self._closed.set()
        if ended:
            work.result()
        elif not work.cancelled() and work.exception() is not None:
            log.error("%s: its driver failed while closing: %s", self.channel.id, work.exception())
        return ended

    async def _rest(self, lasts: Callable[[], bool]) -> None:
        """Answers what cannot be sent, while `lasts`."""
        while lasts():
            await self._refuse()
            await self._bell.wait()
            self._bell.clear()

    async def _refuse(self) -> None:
        assert self._report is not None
        while self._refusals:
            await self._report(self._refusals.popleft())

    async def _settle(self) -> None:
        """Gives an end to everything a driver that is gone has left open."""
        assert self._report is not None
        reason = f"channel {self.channel.id} was switched off"
        commands, self._commands = self._commands, {}
        for command, sent in commands.items():
            await self._report((CommandLost if sent else CommandRefused)(command, reason))
        await self._refuse()
        while self._up:
            await self._report(LinkDown(self._up.pop(), self.channel.id, reason))
        if self.enabled:  # off for a moment: whoever relies on what the driver held learns that it is gone
            await self._report(self._off())

    def _off(self) -> ChannelChanged:
        decision, channel = self._decision, self.channel
        text = "" if decision is None or decision.enabled else f"disabled by {decision.signature}"
        return ChannelChanged(channel.id, "off", text, channel.host, channel.region, self.enabled_by)

    async def _heard(self, event: Event) -> Answer:
        """Passes the driver's facts on and remembers what is open."""
        assert self._report is not None
        match event:
            case LinkUp(station=station):
                self._up.add(station)
            case LinkDown(station=station):
                self._up.discard(station)
            case CommandSent(command=command) if command in self._commands:
                self._commands[command] = True
            case (
                CommandAccepted(command=command)
                | CommandRefused(command=command)
                | CommandLost(command=command)
                | CommandReplaced(command=command)
            ):
                self._commands.pop(command, None)
            case _:
                pass
        return await self._report(event)
