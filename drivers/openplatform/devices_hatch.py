"""The hatch through which one charger fetches its commands: long polls, heartbeats, and what it says became of them.

Owns the open polls (one per connector; a newer one ends the older), the names of commands on the wire and what goes
out under them. A command is handed to the open poll of its connector at once. A heartbeat carries commands only for
connectors without an open poll (G-07). The name carries a keyed tag, so that a report about a command of an earlier run
is told from one about a command that never was, without having been stored.
Source: openapi.yaml pollCommand, heartbeat, reportCommandStatus; REFERENCE section 8, GAPS G-07 to G-09.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiohttp import web

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.events import CommandAccepted, CommandLost, CommandRefused, CommandSent, Event
from controller.core.model import Evse, EvseId
from controller.core.readings import Readings
from controller.ports import Clock, Report
from drivers.openplatform.answers import stamp
from drivers.openplatform.devices_belief import DeviceBelief
from drivers.openplatform.devices_desk import Desk, Offer, Order, StorePlan
from drivers.openplatform.devices_plans import DevicePlans
from drivers.openplatform.devices_words import CommandWord, command_body

log = logging.getLogger(__name__)

_MARGIN_S = 5.0

Tag = Callable[[str], str]  # a keyed digest of a name, good for this charger only


@dataclass(slots=True)
class _Poll:
    """An open long poll. `over`: a newer one took its place, or the host stops."""

    request: web.Request
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    @property
    def alive(self) -> bool:
        transport = self.request.transport
        return not self.over and transport is not None and not transport.is_closing()

    def end(self) -> None:
        self.over = True
        self.bell.set()


class Hatch:
    """`run`: what makes names of this run of the host unlike those of any other. `keep` stores what has to survive a
    restart; it is called before a start leaves."""

    def __init__(
        self,
        evses: Mapping[int, Evse],
        belief: DeviceBelief,
        clock: Clock,
        readings: Readings,
        report: Report,
        tag: Tag,
        run: str,
        keep: Callable[[], Awaitable[None]],
        plans: DevicePlans,
    ) -> None:
        self._evses = evses
        self._belief = belief
        self._clock = clock
        self._readings = readings
        self._report = report
        self._tag = tag
        self._run = run
        self._keep = keep
        self._plans = plans
        self._numbers = {evse.id: number for number, evse in evses.items()}
        self._desks = {number: Desk(evse.link.answer_s, readings) for number, evse in evses.items()}
        self._polls: dict[int, _Poll] = {}
        self._intents: dict[EvseId, tuple[str, float]] = {}  # transaction_id, and until when it serves

    # --- in -----------------------------------------------------------------------------------------------------------

    def put(self, command: Order) -> list[Event]:
        """Lays a command out and wakes the poll that waits for it; returns what that decides about others."""
        number = self._numbers[command.evse]
        name = f"{command.id}.{self._run}"
        gone = self._desks[number].put(f"{name}.{self._tag(name)}", command, self._clock.now().mono_s)
        self._ring(number)
        return gone

    def tick(self, now_s: float) -> list[Event]:
        """Gives up what waited too long, and wakes polls for what is due once more."""
        events: list[Event] = []
        for number, desk in self._desks.items():
            for command, event in desk.overdue(now_s):
                events += self._decided(command, event)
            evse, now = self._evses[number].id, self._clock.now()
            free = self._belief.is_free(evse, now)
            plan = self._plans.due(evse, now, free) if self._belief.link.up else None
            if plan is not None:
                self.put(plan)
            if desk.next(now_s) is not None:
                self._ring(number)
        return events

    def abandon(self) -> list[Event]:
        """Ends every poll; returns what became of the commands, which nobody will follow any more."""
        for poll in self._polls.values():
            poll.end()
        orphans = [orphan for desk in self._desks.values() for orphan in desk.overdue(float("inf"))]
        return [event for command, event in orphans for event in self._decided(command, event)]

    def is_ours(self, word: CommandWord) -> bool:
        """Whether a command of that name was ever laid out for this charger."""
        name, _, tag = word.command.rpartition(".")
        return bool(name) and tag == self._tag(name)

    def settle(self, word: CommandWord) -> list[Event]:
        """The charger's word on a command; one nobody waits for any more changes nothing."""
        for desk in self._desks.values():
            found = desk.answer(word.command, word.status, word.message)
            if found is not None:
                return self._decided(*found, said=True)
        if word.status in ("failed", "rejected"):
            log.info("%s: %s %s: %s", self._belief.link.station, word.command, word.status, word.message)
        return []

    # --- out ----------------------------------------------------------------------------------------------------------

    async def poll(self, request: web.Request, number: int, wait_s: float) -> dict[str, Any] | None:
        """The next command for this connector, or None after so many real seconds."""
        older, poll = self._polls.get(number), _Poll(request)
        self._polls[number] = poll
        if older is not None:
            older.end()
        try:
            async with asyncio.timeout(wait_s):
                while poll.alive:
                    poll.bell.clear()
                    offer = self._desks[number].next(self._clock.now().mono_s)
                    if offer is None:
                        await poll.bell.wait()
                        continue
                    body = await asyncio.shield(self._hand(number, offer))
                    if body is not None:
                        return body
        except TimeoutError:
            pass  # nothing to fetch
        finally:
            if self._polls.get(number) is poll:
                del self._polls[number]
        return None

    async def without_poll(self) -> list[dict[str, Any]]:
        """What a heartbeat carries; as a rule nothing for a connector with an open poll."""
        bodies: list[dict[str, Any] | None] = []
        offers = self._readings.heartbeat_offers
        for number, desk in self._desks.items():
            poll = self._polls.get(number)
            if offers == "never" or (offers == "without-poll" and poll is not None and poll.alive):
                continue
            while (offer := desk.next(self._clock.now().mono_s)) is not None:
                bodies.append(await self._hand(number, offer))
        return [body for body in bodies if body is not None]

    async def _hand(self, number: int, offer: Offer) -> dict[str, Any] | None:
        """A command as the charger gets it; None when it is too late for it."""
        now, command, evse = self._clock.now(), offer.command, self._evses[number]
        waited_s, desk = now.mono_s - offer.issued_s, self._desks[number]
        intent = self._intent(evse.id, now.mono_s) if isinstance(command, StartCharging) else ""
        try:
            kind, params = command_body(command, evse, number, waited_s, intent, self._readings)
        except ValueError as late:
            for event in self._decided(command, desk.refuse(offer, str(late))):
                await self._report(event)
            return None
        first = desk.hand(offer, now.mono_s)
        body: dict[str, Any] = {"command_id": offer.id, "command": kind, "params": params}
        # a late stop is still wanted; expiry is read on the charger's clock
        if not isinstance(command, StopCharging | StorePlan):
            body["expiry"] = stamp(
                now.utc - self._belief.link.skew + timedelta(seconds=self._expiry_s(command, evse) - waited_s)
            )
        match command:
            case SetLimit():
                self._belief.limit_handed(evse.id, command.limit_ma, now)
            case StopCharging():
                self._belief.stop_handed(evse.id, command.reason)
            case StartCharging():
                self._belief.start_handed(evse.id, command.token, now)
                await self._keep()
            case StartDischarge():
                self._belief.start_handed(evse.id, None, now)
                await self._keep()
        if first and not isinstance(command, StorePlan):
            await self._report(CommandSent(command.id))
        return body

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _ring(self, number: int) -> None:
        poll = self._polls.get(number)
        if poll is not None:
            poll.bell.set()

    def _decided(self, command: Order, event: Event, said: bool = False) -> list[Event]:
        """What is reported of it; `said` by the charger. An accepted start needs its name no more, a refused one
        begins no session of ours; a lost one still may."""
        match command:
            case StorePlan():
                known = isinstance(event, CommandAccepted) if said else None
                self._plans.told(command, known, getattr(event, "reason", ""), self._clock.now().mono_s)
                return []
            case StartCharging() | StartDischarge() if not isinstance(event, CommandLost):
                self._intents.pop(command.evse, None)
                if isinstance(event, CommandRefused):
                    self._belief.start_refused(command.evse)
        return [event]

    def _intent(self, evse: EvseId, now_s: float) -> str:
        """The transaction_id of a start: one that may still be under way is asked for by the same name (G-09)."""
        known = self._intents.get(evse)
        if known is None or now_s >= known[1]:
            known = (f"depot-{secrets.token_hex(8)}", now_s + self._readings.same_start_s)
            self._intents[evse] = known
        return known[0]

    def _expiry_s(self, command: Order, evse: Evse) -> float:
        """G-08. A limit's lease begins when the charger gets it, so it may come no later than the lease has slack; the
        margin is for whole seconds and what is left of the charger's clock error."""
        expiry_s = self._readings.command_expiry_s
        if not isinstance(command, SetLimit):
            return expiry_s
        return min(expiry_s, max(_MARGIN_S, evse.link.lease_slack_s - _MARGIN_S))
