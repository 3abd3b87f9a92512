"""The console's calls about the second backend: its channels, the customer's switch, the egress book, and what the
hosted platform remembers.

Owns what people may ask of `consent` and `audit` and how it is answered. Turning off acts first and is stored then;
turning on is stored first. Must not be reachable from anywhere but the control socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from controller.audit import EgressBook
from controller.calls import takes
from controller.consent import Decision, Decisions, Switch
from controller.console import Args, Peer, Refusal, _text, _time, _whole
from controller.core import wire
from controller.core.events import FlexEnded
from controller.migrations import LedgerError
from controller.runtime import Runtime
from drivers.errors import DriverError

WITHIN_S = 5.0  # a channel that was turned off is closed by then
LONGEST_NAME = 100
ANSWER_S = (
    8.0  # less than a client waits; a platform or a quota that is slower does not keep a person waiting
)
GRANULARITIES = ("hour", "day", "month")
DAY = timedelta(hours=24)

Call = Callable[[Args, Peer], Awaitable[Any]]


@runtime_checkable
class Hosted(Protocol):
    """The driver of a platform that remembers. All raise `drivers.errors`; `energy` ValueError for an odd period. What
    comes back are values of dataclasses."""

    async def sites(self) -> Sequence[Any]: ...

    async def energy(
        self, since: datetime, until: datetime, granularity: Any
    ) -> Mapping[str, Sequence[Any]]: ...

    async def end_flexibility(self) -> None: ...


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
            "channel-sites": (True, self._sites),
            "channel-energy": (True, self._energy),
            "flex-end": (True, self._flex_end),
        }

    @takes()
    async def _channels(self, args: Args, peer: Peer) -> Any:
        snapshot = self._runtime.snapshot or await self._runtime.next_snapshot(None)
        purposes = {switch.channel.id: sorted(switch.purposes) for switch in self._switches}
        channels = wire.status(snapshot)["channels"]
        return {"channels": [{**each, "purposes": purposes.get(each["id"])} for each in channels]}

    @takes("since skip")
    async def _egress(self, args: Args, peer: Peer) -> Any:
        """A page of the book, beginning with the request numbered `skip`; `more`: another page follows."""
        try:
            rows, more = await self._book.rows(_time(args, "since"), _whole(args, "skip") or 0)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        return {"egress": rows, "more": more}

    @takes("channel")
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

    @takes("channel by purposes")
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

    @takes()
    async def _sites(self, args: Args, peer: Peer) -> Any:
        return {"sites": [asdict(site) for site in await _answered(self._hosted().sites())]}

    @takes("since until granularity")
    async def _energy(self, args: Args, peer: Peer) -> Any:
        """Wh per bucket and site of the platform; the last day if nothing else is asked for."""
        until = _time(args, "until") or self._runtime.clock.now().utc
        since = _time(args, "since") or until - DAY
        granularity = _text(args, "granularity") or GRANULARITIES[0]
        if granularity not in GRANULARITIES:
            raise Refusal("bad-request", f"--per must be one of {', '.join(GRANULARITIES)}")
        found = await _answered(self._hosted().energy(since, until, granularity))
        points = ({"site": site, **asdict(point)} for site, series in found.items() for point in series)
        return {"energy": [{**p, "start": p["start"] and wire.instant_text(p["start"])} for p in points]}

    @takes()
    async def _flex_end(self, args: Args, peer: Peer) -> Any:
        """Here first; then what the hosted platform was asked for."""
        await self._runtime.report(FlexEnded(peer.name))
        for hosted in self._all_hosted():
            await _answered(hosted.end_flexibility())
        return {}

    def _all_hosted(self) -> list[Hosted]:
        drivers: list[object] = [switch.driver for switch in self._switches]
        return [driver for driver in drivers if isinstance(driver, Hosted)]

    def _hosted(self) -> Hosted:
        for hosted in self._all_hosted():
            return hosted
        raise Refusal("not-there", "no hosted platform is on; `depot channels` shows what is")

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


async def _answered(asked: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await asked
    except TimeoutError:
        raise Refusal("failed", f"no answer within {ANSWER_S:.0f} s; try again in a minute") from None
    except ValueError as error:
        raise Refusal("bad-request", str(error)) from None
    except DriverError as error:
        raise Refusal("failed", str(error)) from None
