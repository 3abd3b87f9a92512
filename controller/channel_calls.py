"""The console's calls about the second backend: its channels, the customer's switch, the egress book.

Owns what people may ask of `consent` and `audit` and how it is answered. Turning off acts first and is stored then;
turning on is stored first. Must not be reachable from anywhere but the control socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from controller.audit import EgressBook
from controller.consent import Decision, Decisions, Switch
from controller.console import Args, Peer, Refusal, _text, _time, _whole
from controller.core import wire
from controller.migrations import LedgerError
from controller.runtime import Runtime

WITHIN_S = 5.0  # a channel that was turned off is closed by then
LONGEST_NAME = 100

Call = Callable[[Args, Peer], Awaitable[Any]]


class ChannelCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(
        self, runtime: Runtime, switches: Sequence[Switch], decisions: Decisions, book: EgressBook
    ) -> None:
        self._runtime = runtime
        self._switches = switches
        self._decisions = decisions
        self._book = book
        self._storing: set[asyncio.Task[None]] = set()
        self._newest: dict[str, Decision] = {}  # the last one asked for, by channel
        self.table: Mapping[str, tuple[bool, Call]] = {
            "channels": (False, self._channels),
            "egress": (False, self._egress),
            "channel-disable": (True, self._disable),
            "channel-enable": (True, self._enable),
        }

    async def _channels(self, args: Args, peer: Peer) -> Any:
        snapshot = self._runtime.snapshot or await self._runtime.next_snapshot(None)
        purposes = {switch.channel.id: sorted(switch.purposes) for switch in self._switches}
        channels = wire.status(snapshot)["channels"]
        return {"channels": [{**each, "purposes": purposes.get(each["id"])} for each in channels]}

    async def _egress(self, args: Args, peer: Peer) -> Any:
        """A page of the book, beginning with the request numbered `skip`; `more`: another page follows."""
        try:
            rows, more = await self._book.rows(_time(args, "since"), _whole(args, "skip") or 0)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        return {"egress": rows, "more": more}

    async def _disable(self, args: Args, peer: Peer) -> Any:
        name, switches = self._meant(args)
        decision = Decision(name, False, peer.name, self._runtime.clock.now().utc)
        for switch in switches:
            self._newest[switch.channel.id] = decision
            switch.decide(decision)
        stored = self._keep(self._decisions.store(decision, peer.name))
        try:
            async with asyncio.timeout(WITHIN_S):
                for switch in switches:
                    await switch.closed()
        except TimeoutError:
            text = f"{name}: a connection does not close; stop the controller to be sure"
            raise Refusal("failed", text) from None
        await self._confirmed(
            stored, f"{name} is off, but that is not stored yet and may not outlive a restart"
        )
        return self._told(switches)

    async def _enable(self, args: Args, peer: Peer) -> Any:
        name, switches = self._meant(args)
        by = (_text(args, "by") or "").strip()
        if not by or len(by) > LONGEST_NAME or not by.isprintable():
            raise Refusal(
                "bad-request", f"--by needs the name of who consents, up to {LONGEST_NAME} characters"
            )
        purposes = args.get("purposes")
        if (
            not isinstance(purposes, list)
            or not purposes
            or not all(isinstance(each, str) for each in purposes)
        ):
            raise Refusal("bad-request", "--purpose is missing: say what it may be used for")
        for switch in switches:
            if beyond := sorted(set(purposes) - switch.channel.purposes):
                allowed = ", ".join(sorted(switch.channel.purposes))
                raise Refusal(
                    "not-allowed", f"{', '.join(beyond)}: not in the config, which allows {allowed}"
                )
        decision = Decision(name, True, by, self._runtime.clock.now().utc, frozenset(purposes))
        for switch in switches:
            self._newest[switch.channel.id] = decision
        applied = self._keep(self._apply_stored(decision, switches, peer))
        await self._confirmed(applied, f"{name} waits for the disk, and is on as soon as that is stored")
        return self._told(switches)

    async def _apply_stored(self, decision: Decision, switches: Sequence[Switch], peer: Peer) -> None:
        """What would not outlive a restart must not be on, and what was taken back meanwhile neither."""
        await self._decisions.store(decision, peer.name)
        for switch in switches:
            if self._newest[switch.channel.id] is decision:
                switch.decide(decision)

    def _meant(self, args: Args) -> tuple[str, list[Switch]]:
        name = _text(args, "channel") or ""
        found = [switch for switch in self._switches if name in (switch.channel.id, switch.channel.family)]
        if not found:
            known = ", ".join(switch.channel.id for switch in self._switches)
            has = f"the config has {known}" if known else "the config has no [open_platform], so it is off"
            raise Refusal("unknown-channel", f"no channel {name!r} to switch; {has}")
        return name, found

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Goes on when the caller has gone."""
        task = asyncio.create_task(work)
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        return task

    async def _confirmed(self, stored: asyncio.Task[None], otherwise: str) -> None:
        done, _ = await asyncio.wait({stored}, timeout=WITHIN_S / 2)
        if not done:
            raise Refusal("not-stored", otherwise)
        if (error := stored.exception()) is not None:
            raise Refusal("not-stored", f"{otherwise} ({error})")

    def _told(self, switches: Sequence[Switch]) -> Any:
        return {
            "channels": [
                {
                    "id": switch.channel.id,
                    "enabled": switch.enabled,
                    "enabled_by": switch.enabled_by,
                    "purposes": sorted(switch.purposes),
                }
                for switch in switches
            ]
        }
