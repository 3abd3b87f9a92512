"""The conversation of a simulated charger with its host: when it dials, beats, polls and sends, and what it does when
nobody answers.

Owns the link's life: register once and keep the identity, token, heartbeat, then what waited, then one long poll per
connector (REFERENCE 13, G-34). The link is up from the first heartbeat that was answered until a request that nobody
answers. It dials again after a random time, so that a fleet does not come back in one second; an identity that is
refused is tried once an hour, a registration that is taken by somebody else not at all until a reboot (G-03, G-04).
What is sent stands in lanes that keep their order; a lane whose head is refused for now waits, the others go on.
Telemetry has one slot per connector, the newest replaces the unsent one; one sample a minute is kept while offline.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from controller.ports import Clock
from drivers.errors import Unreachable
from drivers.sim.cloudwords import Refusal
from drivers.sim.devicememory import RECORD, Memory
from drivers.sim.devicewire import DeviceWire, Json
from drivers.sim.quirks import DeviceQuirks

log = logging.getLogger(__name__)

HEARTBEAT_S = 30.0
POLL_S = 30
POLL_SLACK_S = 10.0
LOOK_S = 0.5  # how often it looks whether it may dial
BREATH_S = 1.0  # between two polls that brought nothing new
FIRST_SENDING_S = 5.0  # so long (real seconds) the polls wait for what had to be said first
HOURLY_S = 3600.0
LONGEST_BACKOFF_S = 30.0
LATE_SAMPLES = 60
LATE_GAP_S = 0.2  # hosts take ten a second, and live values are among them
BAD_TOKEN, NO_PERMISSION, KNOWN_ALREADY, TOO_MANY, INTERNAL = 2001, 2003, 4001, 5001, 9001
FOR_NOW = (TOO_MANY, INTERNAL)


class Talker(Protocol):
    """The charger behind the link."""

    def identity(self) -> Json: ...
    def beat(self) -> Json: ...
    def take(self, fields: Any, polled: int | None) -> bool:
        """One command from the wire; returns whether it was new."""
        ...

    def told(self, status: Json) -> None:
        """The host has taken this command status."""
        ...

    def link_changed(self, up: bool) -> None: ...


@dataclass
class Lane:
    """`due_s`: not before this `mono_s`."""

    entries: list[Json]
    due_s: float = 0.0
    failures: int = 0


@dataclass
class Samples:
    """Telemetry on its way: `newest` by connector number, `late` from the time without a link."""

    newest: dict[int, Json] = field(default_factory=dict)
    late: deque[Json] = field(default_factory=lambda: deque(maxlen=LATE_SAMPLES))

    def next(self) -> Json | None:
        if self.late:
            return self.late.popleft()
        return self.newest.pop(next(iter(self.newest))) if self.newest else None

    def forget(self) -> None:
        self.newest.clear()
        self.late.clear()


class DeviceLink:
    """`needs_service`: why only a person can bring the link back, None when nobody is needed."""

    def __init__(
        self,
        wire: DeviceWire,
        memory: Memory,
        clock: Clock,
        talker: Talker,
        connectors: int,
        quirks: DeviceQuirks,
    ) -> None:
        self.connected = False
        self.needs_service: str | None = None
        self.samples = Samples()
        self.news = asyncio.Event()
        self._wire, self._memory, self._clock, self._talker = wire, memory, clock, talker
        self._connectors = connectors
        self._quirks = quirks
        self._random = Random(f"link {talker.identity()['sn']}")
        self._dial_at_s = -math.inf
        self._talk: asyncio.Task[None] | None = None
        self._all_said = asyncio.Event()
        self._last_trouble = ""

    async def run(self) -> None:
        """Keeps the link up until cancelled; leaves no socket behind."""
        while True:
            while self._clock.now().mono_s < self._dial_at_s:
                await self._clock.sleep(LOOK_S)
            self._talk = asyncio.create_task(self._talk_once())
            try:
                await asyncio.wait({self._talk})
            finally:
                self._talk.cancel()
                await asyncio.wait({self._talk})
            if not self._talk.cancelled():
                self._talk.result()

    def drop(self, away_s: float) -> None:
        """Breaks off and dials again after `away_s` and a random time; a service case is tried anew."""
        self._dial_at_s = self._clock.now().mono_s + away_s + self._spread_s()
        self.needs_service = None
        if self._talk is not None:
            self._talk.cancel()

    # --- one conversation -------------------------------------------------------------------------------------

    async def _talk_once(self) -> None:
        try:
            await self._converse()
        except* Unreachable as group:
            self._stay_away(_first(group), self._spread_s())
        except* Refusal as group:
            self._stay_away(_first(group), self._patience_s(_first(group)))

    async def _converse(self) -> None:
        async with self._wire.opened():
            identity = self._memory.identity
            if identity is None:
                self._memory.keep_identity(await self._wire.register(self._talker.identity()))
                identity = self._memory.identity or {}
            await self._wire.log_in(identity["device_id"], identity["device_secret"])
            await self._beat()
            self._change(True)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._beat_regularly())
                    tasks.create_task(self._speak())
                    await self._first_sending()
                    for number in range(1, self._connectors + 1) if not self._quirks.no_poll else ():
                        tasks.create_task(self._poll(number))
            finally:
                self._change(False)

    async def _beat_regularly(self) -> None:
        while True:
            await self._clock.sleep(HEARTBEAT_S)
            try:
                await self._beat()
            except Refusal as refusal:
                self._endure(refusal, "heartbeat")

    async def _beat(self) -> None:
        answer = await self._wire.call("POST", "/device/heartbeat", self._talker.beat())
        commands = answer.get("commands") if isinstance(answer, dict) else None
        for fields in commands if isinstance(commands, list) else ():
            self._talker.take(fields, None)

    async def _poll(self, number: int) -> None:
        query = {"connector_id": str(number), "wait": str(POLL_S)}
        failures = 0
        while True:
            began_s = self._clock.now().mono_s
            try:
                answer = await self._wire.call(
                    "GET", "/device/commands", query=query, within_s=POLL_S + POLL_SLACK_S
                )
            except Refusal as refusal:
                self._endure(refusal, "poll")
                failures += 1
                await self._clock.sleep(self._backoff_s(refusal, failures))
                continue
            failures = 0
            is_new = answer is not None and self._talker.take(answer, number)
            if not is_new and self._clock.now().mono_s - began_s < BREATH_S:
                await self._clock.sleep(BREATH_S)  # a host that does not wait, or repeats itself

    # --- what is sent -------------------------------------------------------------------------------------

    async def _first_sending(self) -> None:
        try:
            async with asyncio.timeout(FIRST_SENDING_S):
                await self._all_said.wait()
        except TimeoutError:
            log.info("much to say after a time offline: listening meanwhile")

    async def _speak(self) -> None:
        lanes = (Lane(self._memory.statuses), Lane(self._memory.reports))
        while True:
            lane = next(self._due(lanes), None)
            if lane is not None:
                await self._send_head(lane)
                continue
            if self.samples.late:
                await self._clock.sleep(LATE_GAP_S)
            sample = self.samples.next()
            if sample is not None:
                await self._send_sample(sample)
                continue
            self._all_said.set()
            self.news.clear()
            await self.news.wait()

    def _due(self, lanes: tuple[Lane, ...]) -> Iterator[Lane]:
        now_s = self._clock.now().mono_s
        return (lane for lane in lanes if lane.entries and now_s >= lane.due_s)

    async def _send_head(self, lane: Lane) -> None:
        entry = lane.entries[0]
        path, body = entry["path"], entry["body"]
        try:
            for _ in range(2 if self._quirks.repeats else 1):
                await self._wire.call("POST", f"/device/{path}", body)
        except Refusal as refusal:
            if refusal.code in FOR_NOW:
                lane.failures += 1
                lane.due_s = self._clock.now().mono_s + self._backoff_s(refusal, lane.failures)
                return
            if not (refusal.code == KNOWN_ALREADY and path == RECORD):  # G-19: it arrived before
                self._endure(refusal, path)
                self._memory.set_aside(entry)
        else:
            if "command_id" in body:
                self._talker.told(body)
        lane.failures = 0
        if lane.entries and lane.entries[0] is entry:
            del lane.entries[0]

    async def _send_sample(self, body: Json) -> None:
        try:
            for _ in range(2 if self._quirks.repeats else 1):
                await self._wire.call("POST", "/device/telemetry", body)
        except Refusal as refusal:
            self._endure(refusal, "telemetry")  # the next one is newer

    # --- trouble ----------------------------------------------------------------------------------------------

    def _endure(self, refusal: Refusal, what: str) -> None:
        """Goes on after a refusal that is about one message; raises what is about us."""
        if refusal.code in (BAD_TOKEN, NO_PERMISSION):
            raise refusal
        self._trouble(f"{what} refused with {refusal.code}: {refusal}")

    def _backoff_s(self, refusal: Refusal, failures: int) -> float:
        asked_s = refusal.details.get("retry_after_seconds")
        if isinstance(asked_s, int | float) and 0 < asked_s <= HOURLY_S:
            return float(asked_s)
        return min(2.0 ** min(failures, 10), LONGEST_BACKOFF_S) * self._random.uniform(1.0, 1.3)

    def _patience_s(self, error: BaseException) -> float:
        """How long to leave a host alone that does not want us."""
        assert isinstance(error, Refusal)
        if error.code in FOR_NOW:
            return self._backoff_s(error, 1) + self._spread_s()
        self.needs_service = f"refused with {error.code}: {error}"
        taken = error.code == KNOWN_ALREADY and self._memory.identity is None
        return math.inf if taken else HOURLY_S

    def _stay_away(self, error: BaseException, seconds: float) -> None:
        self._trouble(str(error))
        self._dial_at_s = max(self._dial_at_s, self._clock.now().mono_s + seconds)

    def _spread_s(self) -> float:
        return self._random.uniform(0.0, self._quirks.spread_s)

    def _change(self, up: bool) -> None:
        self.connected = up
        if up:
            self._last_trouble, self.needs_service = "", None
            self._all_said.clear()
        self._talker.link_changed(up)

    def _trouble(self, text: str) -> None:
        if text != self._last_trouble:
            log.info("%s: %s", self._talker.identity()["sn"], text)
            self._last_trouble = text


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
