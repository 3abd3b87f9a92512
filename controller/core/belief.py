"""What we believe about the world: facts folded in, fresh values handed out, stale ones as None.

Owns nothing that decides; `depot` asks it once per step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.core.background import Background, Bounds
from controller.core.commitments import Commitments
from controller.core.events import (
    AccessRefused,
    ChannelChanged,
    EvseSample,
    FaultReported,
    LinkDown,
    LinkUp,
    MeterFailed,
    MeterReading,
    StationBooted,
    StatusChanged,
)
from controller.core.grid import Grid
from controller.core.model import (
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    MeterId,
    PerPhase,
    Quality,
    Site,
    StationId,
)

SAMPLE_FRESH_S = 30.0
UNKNOWN: PerPhase[int | None] = PerPhase(None, None, None)
RECENT_S = 15.0  # the least drawn of late looks back this far


def to_grid(evse: Evse, conductors: PerPhase[int | None]) -> PerPhase[int | None]:
    """Conductor currents as grid-phase currents. Phases the EVSE is not wired to carry 0; unreported stays None."""
    values: list[int | None] = [0, 0, 0]
    for conductor, phase in enumerate(evse.phases):
        values[phase] = conductors[conductor]
    return PerPhase(*values)


@dataclass(slots=True)
class EvseBelief:
    evse: Evse
    state: EvseState = EvseState.UNAVAILABLE
    fault: str | None = None
    sample: EvseSample | None = None
    current_ma: PerPhase[int | None] = UNKNOWN
    recent: deque[tuple[float, PerPhase[int | None]]] = field(default_factory=deque)

    def fresh(self, now_s: float) -> EvseSample | None:
        sample = self.sample
        return sample if sample is not None and now_s - sample.taken_s <= SAMPLE_FRESH_S else None

    def highest_ma(self, now_s: float) -> int | None:
        """The highest measured phase current, None while nothing fresh is known."""
        if self.fresh(now_s) is None:
            return None
        known = [value for value in self.current_ma if value is not None]
        return max(known, default=None)


@dataclass(slots=True)
class StationBelief:
    id: StationId
    channels: dict[str, str] = field(default_factory=dict)  # channel -> peer
    identity: str = ""
    down_since_s: float | None = None
    reason: str = "never connected"


@dataclass(slots=True)
class MeterBelief:
    reading: MeterReading | None = None
    error: str | None = None

    def age_s(self, now_s: float) -> float | None:
        return None if self.reading is None else max(0.0, now_s - self.reading.taken_s)


class Belief:
    """Everything reported so far, by subject."""

    def __init__(self, site: Site, grid: Grid) -> None:
        self._site = site
        self._grid = grid
        self.evses: dict[EvseId, EvseBelief] = {evse.id: EvseBelief(evse) for evse in site.evses.values()}
        self.stations: dict[StationId, StationBelief] = {
            evse.station: StationBelief(evse.station) for evse in site.evses.values()
        }
        self.meters: dict[MeterId, MeterBelief] = {meter: MeterBelief() for meter in site.meters}
        self.channels: dict[str, ChannelChanged] = {}
        self.refused: dict[tuple[str, str], tuple[AccessRefused, float]] = {}
        self.faults: dict[tuple[StationId, EvseId | None, str], str] = {}  # running ones, with their text
        self.backgrounds: dict[CircuitId, Background] = {
            circuit.id: Background(circuit, site.meters[circuit.meter].stale_after_s)
            for circuit in site.circuits.values()
            if circuit.meter is not None
        }
        self._circuits_of: Mapping[MeterId, tuple[CircuitId, ...]] = {
            meter: tuple(c.id for c in site.circuits.values() if c.meter == meter) for meter in site.meters
        }

    def connected(self, evse: EvseId) -> bool:
        return bool(self.stations[self._site.evses[evse].station].channels)

    def state(self, evse: EvseId) -> EvseState:
        return self.evses[evse].state if self.connected(evse) else EvseState.OFFLINE

    # --- facts --------------------------------------------------------------------------------------------------

    def meter_reading(self, fact: MeterReading, commitments: Commitments) -> int:
        """Returns by how much the highest phase rose since the reading before (mA)."""
        meter = self.meters.get(fact.meter)
        if meter is None or (meter.reading is not None and fact.taken_s <= meter.reading.taken_s):
            return 0
        before = fact if meter.reading is None else meter.reading
        meter.reading, meter.error = fact, None
        for circuit in self._circuits_of[fact.meter]:
            self.backgrounds[circuit].fold(
                fact.taken_s, fact.current_ma, self._bounds(circuit, fact.taken_s, commitments)
            )
        return max(
            (new or 0) - (old or 0) for new, old in zip(fact.current_ma, before.current_ma, strict=True)
        )

    def meter_failed(self, fact: MeterFailed) -> None:
        if fact.meter in self.meters:
            self.meters[fact.meter].error = fact.text

    def link_up(self, fact: LinkUp) -> None:
        if fact.station in self.stations:
            station = self.stations[fact.station]
            station.channels[fact.channel] = fact.peer
            station.down_since_s = None

    def link_down(self, fact: LinkDown, now_s: float) -> None:
        if fact.station in self.stations:
            station = self.stations[fact.station]
            station.channels.pop(fact.channel, None)
            if not station.channels:
                station.down_since_s, station.reason = now_s, fact.reason

    def booted(self, fact: StationBooted) -> None:
        if fact.station in self.stations:
            parts = (fact.vendor, fact.model, fact.firmware)
            self.stations[fact.station].identity = " ".join(part for part in parts if part)

    def status(self, fact: StatusChanged) -> None:
        if fact.evse in self.evses:
            evse = self.evses[fact.evse]
            evse.state, evse.fault = fact.state, fact.fault

    def fault(self, fact: FaultReported) -> None:
        key = (fact.station, fact.evse, fact.code)
        if fact.active and fact.station in self.stations:
            self.faults[key] = fact.text
        else:
            self.faults.pop(key, None)

    def evse_sample(self, fact: EvseSample) -> None:
        evse = self.evses.get(fact.evse)
        if evse is None or (evse.sample is not None and fact.taken_s < evse.sample.taken_s):
            return
        evse.sample = fact
        evse.current_ma = to_grid(evse.evse, fact.current_ma)
        evse.recent.append((fact.taken_s, evse.current_ma))
        while evse.recent[0][0] < fact.taken_s - RECENT_S:
            evse.recent.popleft()

    def access_refused(self, fact: AccessRefused, now_s: float) -> None:
        self.refused[(fact.channel, fact.identity)] = (fact, now_s)
        if len(self.refused) > 50:  # strangers must not fill our memory; the newest 50 are enough to see them
            del self.refused[min(self.refused, key=lambda key: self.refused[key][1])]

    # --- views --------------------------------------------------------------------------------------------------

    def quality(self, meter: MeterId, now_s: float) -> Quality:
        belief = self.meters[meter]
        age = belief.age_s(now_s)
        if age is None:
            return Quality.BAD
        return Quality.GOOD if age <= self._site.meters[meter].stale_after_s else Quality.STALE

    def _bounds(self, circuit: CircuitId, now_s: float, commitments: Commitments) -> Bounds:
        """What our EVSEs below the circuit drew at least of late, and may draw at most right now."""
        least, most = [0, 0, 0], [0, 0, 0]
        for evse_id in self._grid.below[circuit]:
            belief = self.evses[evse_id]
            allowed = commitments.accounts[evse_id].allowed_ma(now_s)
            fresh = belief.fresh(now_s)
            recent = [current for at, current in belief.recent if at >= now_s - RECENT_S] if fresh else []
            for phase in belief.evse.phases:
                seen = [current[phase] for current in recent]
                known = [value for value in seen if value is not None]
                if known and len(known) == len(seen):
                    least[phase] += min(known)  # below zero while a vehicle feeds back
                most[phase] += max([allowed, *known])
        return Bounds(PerPhase(*least), PerPhase(*most))
