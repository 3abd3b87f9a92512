"""What we know of a station beyond one connection. Lives as long as the process; the ledger remembers the rest."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.core.model import EvseId, StationId
from drivers.ocpp.frames import Frame
from drivers.ocpp.profiles import Capabilities

log = logging.getLogger(__name__)

KEPT_FRAMES = 200
_KEPT_TRANSACTIONS = 64
_MOST_QUIRKS = 200


@dataclass(slots=True)
class Memory:
    """frames: the last ones, for people. quirks: how often the station did which odd thing.

    evse_of: where each transaction runs. ended: transactions that are over. measurands_written: since its last boot the
    station was told what to measure (some wear out or reboot when they are asked again and again).
    """

    station: StationId
    frames: deque[Frame] = field(default_factory=lambda: deque(maxlen=KEPT_FRAMES))
    quirks: Counter[str] = field(default_factory=Counter)
    able: Capabilities = field(default_factory=Capabilities)
    evse_of: dict[str, EvseId] = field(default_factory=dict)
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_TRANSACTIONS))
    measurands_written: bool = False

    def note_quirks(self, quirks: Iterable[str]) -> None:
        """Counts; a new one is logged, its repetitions are not."""
        for quirk in quirks:
            if quirk not in self.quirks:
                if len(self.quirks) >= _MOST_QUIRKS:
                    continue
                log.info("%s: %s", self.station, quirk)
            self.quirks[quirk] += 1

    def note_start(self, transaction: str, evse: EvseId) -> None:
        self.evse_of[transaction] = evse
        while len(self.evse_of) > _KEPT_TRANSACTIONS:
            del self.evse_of[next(iter(self.evse_of))]

    def note_end(self, transaction: str) -> None:
        self.evse_of.pop(transaction, None)
        self.ended.append(transaction)
