"""What we believe about the world: facts folded in, fresh values handed out, stale ones as None.

Owns nothing that decides; `depot` asks it once per step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.background import HOLD_S, Background, Bounds
from controller.core.bimetal import Bimetal
from controller.core.commitments import Commitments
from controller.core.events import (
    AccessRefused,
    ChannelChanged,
    ClockJudged,
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
    each_phase,
    family_of,
)
from controller.core.plausible import Fault
from controller.core.trouble import Trouble
from controller.core.witness import Witnesses, told

SAMPLE_FRESH_S = 30.0
UNKNOWN: PerPhase[int | None] = PerPhase(None, None, None)
FEED_MA = -500  # below this a vehicle feeds back; above it a meter trembles around zero
# the least drawn of late looks back this far: shorter than background.EVIDENCE_S, or a rise of ours would pass for load
RECENT_S = 10.0


def to_grid(evse: Evse, conductors: PerPhase[int | None]) -> PerPhase[int | None]:
    """Conductor currents as grid-phase currents. Phases the EVSE is not wired to carry 0; unreported stays None. Where
    nobody knows the rotation, each may carry what the highest conductor does (`least_on_grid` is the other bound)."""
    if not evse.rotation_known:
        return each_phase(highest_ma(conductors))
    values: list[int | None] = [0, 0, 0]
    for conductor, phase in enumerate(evse.phases):
        values[phase] = conductors[conductor]
    return PerPhase(*values)


def least_on_grid(
    evse: Evse, current_ma: PerPhase[int | None], conductors: PerPhase[int | None]
) -> PerPhase[int | None]:
    """What surely flows on each phase. `current_ma`: as `to_grid` gives it."""
    if evse.rotation_known:
        return current_ma
    known = [value for value in conductors if value is not None]
    if not known:
        return UNKNOWN
    return each_phase(min(known) if len(known) == 3 else min(0, *known))


def highest_ma(current_ma: PerPhase[int | None]) -> int | None:
    return max((value for value in current_ma if value is not None), default=None)


@dataclass(slots=True)
class Beside:
    """What the companion channel says of an EVSE that another channel leads. `fault`: told by its state alone."""

    state: EvseState | None = None
    fault: str | None = None
    sample: EvseSample | None = None

    def fresh(self, now_s: float) -> EvseSample | None:
        sample = self.sample
        return sample if sample is not None and now_s - sample.taken_s <= SAMPLE_FRESH_S else None

    def feeds_back(self, now_s: float) -> bool:
        """It says so, and measures it."""
        sample = self.fresh(now_s) if self.state is EvseState.DISCHARGING else None
        return sample is not None and sample.power_w is not None and sample.power_w < 0


@dataclass(slots=True)
class EvseBelief:
    """`wished`: somebody wants the vehicle that is plugged in, or the next one, to charge."""

    evse: Evse
    state: EvseState = EvseState.UNAVAILABLE
    fault: str | None = None
    sample: EvseSample | None = None
    current_ma: PerPhase[int | None] = UNKNOWN
    flow_ma: int | None = None  # what flows out most (below zero), or in least, of that
    recent: deque[tuple[float, PerPhase[int | None]]] = field(default_factory=deque)
    beside: Beside = field(default_factory=Beside)
    wished: bool = False
    may_feed_until_s: float = float("-inf")  # an ordered discharge ends by then at the latest
    offers_discharge: bool = False  # over the channel that leads
    told: bool = False  # it has said what state it is in, since our start

    def fresh(self, now_s: float) -> EvseSample | None:
        sample = self.sample
        return sample if sample is not None and now_s - sample.taken_s <= SAMPLE_FRESH_S else None

    def see(self, sample: EvseSample | None, current_ma: PerPhase[int | None]) -> None:
        """The newest sample, and its currents on the phases of the grid."""
        self.sample, self.current_ma = sample, current_ma
        self.flow_ma = min((value for value in current_ma if value is not None), default=None)

    def feeds_back(self, now_s: float) -> bool:
        """Power flows out of the vehicle, as far as we know."""
        if self.state is EvseState.DISCHARGING or self.beside.state is EvseState.DISCHARGING:
            return True
        return self.flow_ma is not None and self.flow_ma < FEED_MA and self.fresh(now_s) is not None

    def may_feed_back(self, now_s: float) -> bool:
        """Perhaps power flows out of the vehicle, unseen: it did when last seen, or a discharge was ordered."""
        if self.flow_ma is not None and self.flow_ma < FEED_MA:
            return True
        return now_s < self.may_feed_until_s or self.feeds_back(now_s)

    def highest_ma(self, now_s: float) -> int | None:
        """The highest measured phase current, None while nothing fresh is known."""
        if self.fresh(now_s) is None:
            return None
        return highest_ma(self.current_ma)


@dataclass(slots=True)
class StationBelief:
    """`lead`: the family of the channel that leads; `connected`: that one is up. `booted_by`: who introduced it."""

    id: StationId
    lead: str
    channels: dict[str, str] = field(default_factory=dict)  # channel -> peer
    connected: bool = False
    identity: str = ""
    firmware: str = ""
    booted_by: str = ""
    reason: str = "never connected"

    def leads(self, channel: str) -> bool:
        return family_of(channel) == self.lead

    def reached_over(self, channel: str) -> bool:
        return any(family_of(known) == family_of(channel) for known in self.channels)


@dataclass(slots=True)
class MeterBelief:
    reading: MeterReading | None = None
    error: str | None = None
    failed: str | None = None  # the kind of `error`
    errors: int = 0  # since the start

    def age_s(self, now_s: float) -> float | None:
        return None if self.reading is None else max(0.0, now_s - self.reading.taken_s)


def _remember(evse: EvseBelief, taken_s: float, current_ma: PerPhase[int | None]) -> None:
    evse.recent.append((taken_s, current_ma))
    while evse.recent[0][0] < taken_s - RECENT_S:
        evse.recent.popleft()


class Belief:
    """Everything reported so far, by subject."""

    def __init__(self, site: Site, grid: Grid) -> None:
        self._site = site
        self._grid = grid
        self.evses: dict[EvseId, EvseBelief] = {evse.id: EvseBelief(evse) for evse in site.evses.values()}
        self.stations: dict[StationId, StationBelief] = {
            evse.station: StationBelief(evse.station, family_of(evse.link.channel))
            for evse in site.evses.values()
        }
        self._station_of = {evse.id: self.stations[evse.station] for evse in site.evses.values()}
        self.meters: dict[MeterId, MeterBelief] = {meter: MeterBelief() for meter in site.meters}
        self.channels: dict[str, ChannelChanged] = {}
        self.books: dict[str, str] = {}  # trouble with our own files, by source
        self.clock = ClockJudged("", "")
        self.refused: dict[tuple[str, str], tuple[AccessRefused, float]] = {}
        self.faults: dict[tuple[StationId, EvseId | None, str], str] = {}  # running ones, with their text
        self.trouble = Trouble()
        self.backgrounds: dict[CircuitId, Background] = {
            circuit.id: Background(circuit, site.meters[circuit.meter].stale_after_s)
            for circuit in site.circuits.values()
            if circuit.meter is not None
        }
        self.bimetals: dict[CircuitId, Bimetal] = {
            circuit: Bimetal(site.circuits[circuit]) for circuit in self.backgrounds
        }
        self.witnesses = Witnesses({c.meter: grid.below[c.id] for c in site.circuits.values() if c.meter})
        self._circuits_of: Mapping[MeterId, tuple[CircuitId, ...]] = {
            meter: tuple(c.id for c in site.circuits.values() if c.meter == meter) for meter in site.meters
        }

    def connected(self, evse: EvseId) -> bool:
        """Whether the channel that leads the EVSE is up."""
        return self._station_of[evse].connected

    def reached_over(self, evse: EvseId, channel: str) -> bool:
        return self._station_of[evse].reached_over(channel)

    def state(self, evse: EvseId) -> EvseState:
        """As the leading channel says; only that power flows back is taken from its companion too."""
        if not self.connected(evse):
            return EvseState.OFFLINE
        known = self.evses[evse]
        broken = known.state in (EvseState.FAULTED, EvseState.UNAVAILABLE)
        feeds_back = known.beside.state is EvseState.DISCHARGING and not broken
        return EvseState.DISCHARGING if feeds_back else known.state

    # --- facts --------------------------------------------------------------------------------------------------

    def meter_reading(self, fact: MeterReading, commitments: Commitments) -> int:
        """Returns by how much the highest phase rose since the reading before (mA)."""
        meter = self.meters.get(fact.meter)
        if meter is None or (meter.reading is not None and fact.taken_s <= meter.reading.taken_s):
            return 0
        was_nonsense = meter.failed == "nonsense"
        doubt = self.witnesses.objection(fact.meter, fact.taken_s, fact.current_ma, was_nonsense)
        if doubt is not None:
            kind = "stuck" if doubt.fault is Fault.FROZEN else "nonsense"
            self.meter_failed(MeterFailed(fact.meter, kind, told(doubt)))
            return 0
        before = fact if meter.reading is None else meter.reading
        meter.reading, meter.error, meter.failed = fact, None, None
        for circuit in self._circuits_of[fact.meter]:
            if None not in fact.current_ma:
                self.bimetals[circuit].fold(fact.taken_s, [current or 0 for current in fact.current_ma])
            self.backgrounds[circuit].fold(
                fact.taken_s, fact.current_ma, self._bounds(circuit, fact.taken_s, commitments)
            )
        return max(
            (new or 0) - (old or 0) for new, old in zip(fact.current_ma, before.current_ma, strict=True)
        )

    def unmeasured(self, circuit: CircuitId, worst_ma: Sequence[int], now_s: float) -> None:
        """What the circuit may carry by now, for its bimetal; its meter knows better while it speaks."""
        age_s = self.backgrounds[circuit].age_s(now_s)
        if age_s is not None and age_s > HOLD_S:
            self.bimetals[circuit].fold(now_s, worst_ma)

    def meter_failed(self, fact: MeterFailed) -> None:
        if (meter := self.meters.get(fact.meter)) is not None:
            meter.error, meter.failed, meter.errors = fact.text, fact.kind, meter.errors + 1

    def link_up(self, fact: LinkUp, now_s: float) -> None:
        station = self.stations.get(fact.station)
        if station is not None:
            station.channels[fact.channel] = fact.peer
            station.connected |= station.leads(fact.channel)
            self.trouble.link_up(fact.station, fact.channel, now_s)

    def link_down(self, fact: LinkDown, now_s: float) -> None:
        station = self.stations.get(fact.station)
        if station is None:
            return
        if station.channels.pop(fact.channel, None) is not None:
            self.trouble.link_down(fact.station, fact.channel, fact.reason, now_s)
        station.connected = station.reached_over(station.lead)
        if station.leads(fact.channel) and not station.connected:
            station.reason = fact.reason
        if not station.leads(fact.channel):
            self._forget_beside(fact.station)
        else:
            self._forget_told(fact.station)

    def _forget_told(self, station: StationId) -> None:
        """What its leading channel offered and measured: that one is gone, or begins anew."""
        for evse in self.evses.values():
            evse.offers_discharge = evse.offers_discharge and evse.evse.station != station
            if evse.evse.station == station:
                self.witnesses.forget(evse.evse.id)

    def booted(self, fact: StationBooted) -> bool:
        """Whether this is who the station is: a companion's word counts until the leading channel has said it."""
        station = self.stations.get(fact.station)
        if station is None:
            return True
        if not station.leads(fact.channel) and station.leads(station.booted_by):
            return False
        station.identity = " ".join(part for part in (fact.vendor, fact.model, fact.firmware) if part)
        station.firmware, station.booted_by = fact.firmware, fact.channel
        if station.leads(fact.channel):
            self._forget_told(fact.station)
        return True

    def status(self, fact: StatusChanged, now_s: float) -> None:
        evse = self.evses.get(fact.evse)
        if evse is None:
            return
        if fact.state is EvseState.AVAILABLE and evse.state is not EvseState.AVAILABLE:
            evse.wished = False  # the vehicle left
            self.witnesses.sample(evse.evse, now_s, each_phase(0))
        elif fact.state is EvseState.PREPARING and evse.state in (
            EvseState.AVAILABLE,
            EvseState.UNAVAILABLE,
        ):
            evse.wished = evse.wished or evse.evse.autostart
        if fact.fault is not None and fact.fault != evse.fault:
            self._note_fault(evse.evse.station, fact.fault, now_s)
        evse.state, evse.fault, evse.told = fact.state, fact.fault, True

    def status_beside(self, fact: StatusChanged, now_s: float) -> None:
        """The companion's state makes no session; a fault it shows is one of the station's."""
        known = self.evses[fact.evse]
        station, beside = known.evse.station, known.beside
        if known.sample is beside.sample and fact.state is not EvseState.DISCHARGING:
            known.see(None, UNKNOWN)  # what it showed of the discharge is over
        beside.state = fact.state
        if beside.fault is not None and beside.fault != fact.fault:
            self.faults.pop((station, fact.evse, beside.fault), None)
            beside.fault = None
        code = fact.fault
        if code is not None and (station, fact.evse, code) not in self.faults:
            self.faults[station, fact.evse, code] = f"over {fact.channel}"
            beside.fault = code
            self._note_fault(station, code, now_s)

    def charge_wished(self, station: StationId) -> None:
        """A driver presented a good token: whoever is plugged in there should begin soon."""
        for evse in self.evses.values():
            if evse.evse.station == station and evse.state is EvseState.PREPARING:
                evse.wished = True

    def fault(self, fact: FaultReported, now_s: float) -> None:
        key = (fact.station, fact.evse, fact.code)
        if fact.active and fact.station in self.stations:
            self.faults[key] = fact.text
            self.trouble.fault(fact.station, fact.code, self.stations[fact.station].firmware, now_s)
        else:
            self.faults.pop(key, None)

    def evse_sample(self, fact: EvseSample) -> int | None:
        """Returns the highest phase current in it; None when it comes too late."""
        evse = self.evses.get(fact.evse)
        if evse is None:
            return None
        current_ma = to_grid(evse.evse, fact.current_ma)
        highest = highest_ma(current_ma)
        feeds_back = evse.beside.feeds_back(fact.taken_s)
        least_ma = least_on_grid(evse.evse, current_ma, fact.current_ma)
        self.witnesses.sample(evse.evse, fact.taken_s, UNKNOWN if feeds_back else least_ma)
        if feeds_back:  # the companion sees more of that; this remains evidence
            _remember(evse, fact.taken_s, least_ma)
            return highest
        if evse.sample is not None and fact.taken_s < evse.sample.taken_s:
            return None
        evse.see(fact, current_ma)
        _remember(evse, fact.taken_s, least_ma)
        return highest

    def sample_beside(self, fact: EvseSample) -> int | None:
        """Returns as `evse_sample`. What flows back is taken as the EVSE's own; the rest is evidence."""
        evse = self.evses[fact.evse]
        beside = evse.beside
        if beside.sample is not None and fact.taken_s < beside.sample.taken_s:
            return None
        beside.sample = fact
        current_ma = to_grid(evse.evse, fact.current_ma)
        if beside.feeds_back(fact.taken_s):
            evse.see(fact, current_ma)
            _remember(evse, fact.taken_s, least_on_grid(evse.evse, current_ma, fact.current_ma))
        return highest_ma(current_ma)

    def _note_fault(self, station: StationId, said: str, now_s: float) -> None:
        """`said` may go on after the code: "GroundFailure: L2"."""
        code = said.removeprefix("station: ").partition(" ")[0].rstrip(":,;")
        self.trouble.fault(station, code, self.stations[station].firmware, now_s)

    def _forget_beside(self, station: StationId) -> None:
        """Over a link that is gone nothing is known any more."""
        for evse in self.evses.values():
            if evse.evse.station == station:
                if evse.beside.fault is not None:
                    self.faults.pop((station, evse.evse.id, evse.beside.fault), None)
                evse.beside = Beside()

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
        if age <= self._site.meters[meter].stale_after_s:
            return Quality.GOOD
        return {"stuck": Quality.STUCK, "nonsense": Quality.BAD}.get(belief.failed or "", Quality.STALE)

    def _bounds(self, circuit: CircuitId, now_s: float, commitments: Commitments) -> Bounds:
        """What our EVSEs below the circuit drew at least of late, and may draw at most right now."""
        least, most, gone, since_s = [0, 0, 0], [0, 0, 0], [0, 0, 0], now_s - RECENT_S
        for evse_id in self._grid.below[circuit]:
            belief = self.evses[evse_id]
            account = commitments.accounts[evse_id]
            allowed = account.allowed_ma(now_s)
            unseen = account.unseen_ma(belief.recent[-1][0], now_s) if belief.recent else None
            feeds = belief.may_feed_back(now_s)
            recent = (
                [current for at, current in belief.recent if at >= since_s] if belief.fresh(now_s) else []
            )
            elsewhere = allowed  # than on its first conductor
            if belief.evse.phase_switching and account.one_phase(now_s):
                elsewhere = min(allowed, account.floor_ma())
            for phase in belief.evse.phases:
                high = allowed if phase == belief.evse.phases[0] else elsewhere
                low, gaps = None, False
                for current in recent:
                    value = current[phase]
                    if value is None:
                        gaps = True
                        continue
                    if low is None or value < low:
                        low = value
                    if value > high:
                        high = value
                if low is not None and not gaps:
                    least[phase] += low  # below zero while a vehicle feeds back
                    gone[phase] += 0 if unseen is None else max(0, low - unseen)
                elif feeds:  # unseen: whatever it relieves the meter of must not look like room
                    least[phase] -= belief.evse.max_ma
                most[phase] += high
        return Bounds(PerPhase(*least), PerPhase(*most), PerPhase(*gone))
