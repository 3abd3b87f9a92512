"""What we know of a station beyond one connection. Lives as long as the process; the ledger remembers the rest."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.core.frames import Frames
from controller.core.model import EvseId, StationId
from drivers.ocpp.dialects import Manners
from drivers.ocpp.footing import Reserves
from drivers.ocpp.hearing import Hearing
from drivers.ocpp.lists import Kept
from drivers.ocpp.parts import Reports
from drivers.ocpp.story import Story
from drivers.ocpp.words import Capabilities

log = logging.getLogger(__name__)

_KEPT_TRANSACTIONS = 64
_MOST_QUIRKS = 200
_KEPT_BOOTS = 16


@dataclass(slots=True)
class Memory:
    """channel: in whose version's words it speaks. frames: the last ones, for people. quirks: how often the station did which odd thing.

    evse_of: where each transaction runs. ended: transactions that are over. measurands_written: since its last boot the
    station was told what to measure (some wear out or reboot when they are asked again and again). story: what OCPP 2.x tells in pieces.
    reports: what it was asked for and tells in parts. kept_list: its local list as far as we know. upgrade: the firmware version it was told to install and has not finished with.
    introduced: it has booted since the process runs. boot_held: its next introduction is answered "not yet".
    fallback_spared: setup leaves it with the fallback it has.
    manners: its dialect. hearing: its clock, volts and phases. reserves: what of it counts at its maximum. boots: when it
    introduced itself, the newest last. offered: the subprotocols it came with. configuration: what it said of its settings.
    told: the last limit that each EVSE said yes to in its transaction, and until when it holds. since_s: what it was told
    before that (in an earlier run, in the words of another version) nobody knows.
    """

    station: StationId
    channel: str = ""
    frames: Frames = field(default_factory=Frames)
    quirks: Counter[str] = field(default_factory=Counter)
    able: Capabilities = field(default_factory=Capabilities)
    evse_of: dict[str, EvseId] = field(default_factory=dict)
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_TRANSACTIONS))
    measurands_written: bool = False
    maximum_written: bool = False  # since its last boot the station was told the most it may ever do
    story: Story = field(default_factory=Story)
    reports: Reports = field(default_factory=Reports)
    kept_list: Kept = field(default_factory=Kept)
    upgrade: str = ""
    boot_held: bool = False
    introduced: bool = False
    fallback_spared: bool = False
    manners: Manners = field(default_factory=Manners)
    hearing: Hearing = field(default_factory=Hearing)
    reserves: Reserves = field(default_factory=Reserves)
    boots: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT_BOOTS))
    offered: tuple[str, ...] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    told: dict[EvseId, tuple[int, float]] = field(default_factory=dict)
    since_s: float = -math.inf

    def afresh(self, channel: str, now_s: float) -> Memory:
        """For the same station on another version: nothing it said in the old words counts, only people read on. There are
        none before its first connection: what is known then was recalled from an earlier run."""
        if not self.channel:
            self.channel = channel
            return self
        manners = Manners(self.manners.table, self.manners.pinned)
        return Memory(
            self.station, channel, self.frames, boot_held=self.boot_held, manners=manners, since_s=now_s
        )

    def running_on(self, evse: EvseId) -> str | None:
        """The newest transaction of an EVSE that runs."""
        return next((name for name, at in reversed(self.evse_of.items()) if at == evse), None)

    def note_quirks(self, quirks: Iterable[str]) -> None:
        """Counts; a new one is logged, its repetitions are not."""
        for quirk in quirks:
            if quirk not in self.quirks:
                if len(self.quirks) >= _MOST_QUIRKS:
                    continue
                log.info("%s: %s", self.station, quirk)
            self.quirks[quirk] += 1
            for name in self.manners.counted_by(quirk):
                self.quirks[name] += 1

    def note_repair(self, name: str) -> None:
        """A row of the dialects, by its name; there are not many."""
        if self.manners.knows(name):
            if name not in self.quirks:
                log.info("%s: dialect %s", self.station, name)
            self.quirks[name] += 1

    def note_repairs(self, *switches: str) -> None:
        for name in self.manners.behind(*switches):
            self.note_repair(name)

    def ways(self) -> tuple[Mapping[str, object], ...]:
        """Rows of the dialects first, then other quirks; often before seldom."""
        found: list[Mapping[str, object]] = []
        for name, times in self.quirks.most_common():
            entry = self.manners.table.named(name)
            row, what = (entry.row, entry.what) if entry is not None else (None, name)
            found.append({"row": row, "name": name if row else None, "what": what, "times": times})
        return tuple(sorted(found, key=lambda way: way["row"] is None))

    def learn(self, name: str) -> bool:
        """It was seen to need this row; whether that is new."""
        is_new = self.manners.learn(name)
        if is_new:
            self.note_repair(name)
        return is_new

    def recall(self, running: Mapping[str, EvseId], ended: Iterable[str]) -> None:
        """Transactions of an earlier run, oldest first."""
        self.ended.extend(name for name in ended if name not in running)
        for name, evse in running.items():
            self.note_start(name, evse)

    def note_start(self, transaction: str, evse: EvseId) -> None:
        self.evse_of[transaction] = evse
        while len(self.evse_of) > _KEPT_TRANSACTIONS:
            del self.evse_of[next(iter(self.evse_of))]

    def note_end(self, transaction: str) -> None:
        self.evse_of.pop(transaction, None)
        self.ended.append(transaction)
