"""The physics of a simulated depot: vehicles that draw what they may, stations that follow leases, meters that see all.

Owns what is true; the core hears of it by measurement only. A vehicle follows its limit at once, draws whole power up to
the end of its need and then nothing; a station without a live lease is at its fallback. Knows nothing of plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.core.events import EvseSample, MeterReading
from controller.core.grid import Grid
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Meter,
    MeterId,
    MeterRole,
    PerPhase,
    Site,
    each_phase,
)
from controller.core.watts import dc_limit_w
from controller.simulation.files import Series, Stay
from controller.simulation.store import Store


@dataclass(slots=True)
class Plug:
    """One EVSE and the vehicle at it. `kwh` is what the vehicle has got, `register_wh` the life of the EVSE."""

    evse: Evse
    voltage_mv: int
    stay: Stay | None = None
    transaction: str = ""
    limit_ma: int | None = None
    limit_ends_s: float = 0.0
    kwh: float = 0.0
    register_wh: float = 0.0
    starts: int = 0
    drawing: bool = False
    told_phases: int | None = None  # on how many it may charge; None: on all

    @property
    def phases(self) -> int:
        """How many phases the vehicle at it uses."""
        wired = self.told_phases or len(self.evse.phases)
        if self.stay is None or self.stay.phases is None or self.evse.dc is not None:
            return wired
        return min(wired, self.stay.phases)

    @property
    def w_per_a(self) -> float:
        """What the vehicle gets for each ampere on a phase of the supply."""
        if self.evse.dc is not None:
            return dc_limit_w(self.evse.dc, 1_000_000) / 1000
        return self.voltage_mv * self.phases / 1000

    @property
    def most_ma(self) -> int | None:
        """What its vehicle can take at most, as it says."""
        if self.stay is None or self.stay.max_kw is None:
            return None
        return round(self.stay.max_kw * 1e6 / self.w_per_a)

    @property
    def full(self) -> bool:
        return self.stay is not None and self.stay.energy_kwh - self.kwh < 1e-6

    def plug_in(self, stay: Stay, transaction: str) -> None:
        self.stay, self.transaction, self.kwh = stay, transaction, 0.0
        self.limit_ma, self.starts, self.drawing, self.told_phases = None, 0, False, None

    def leave(self) -> None:
        self.stay, self.transaction, self.limit_ma, self.drawing = None, "", None, False

    def set_limit(self, limit_ma: int, now_s: float, phases: int | None) -> None:
        self.limit_ma, self.limit_ends_s = limit_ma, now_s + self.evse.link.lease_s
        self.told_phases = phases

    def allowed_ma(self, now_s: float) -> int:
        """What the station allows: 0 where that is below the least a vehicle can draw."""
        live = self.limit_ma is not None and now_s < self.limit_ends_s
        allowed = self.limit_ma if live and self.limit_ma is not None else self.evse.fallback_ma
        return allowed if allowed >= self.evse.min_ma else 0

    def current_ma(self, now_s: float) -> int:
        if self.stay is None or self.full:
            return 0
        allowed = self.allowed_ma(now_s)
        return allowed if self.most_ma is None else min(allowed, self.most_ma)

    def charge(self, now_s: float, seconds: float) -> float:
        """What the vehicle takes in these seconds, in kWh."""
        assert self.stay is not None
        current_ma = self.current_ma(now_s)
        if current_ma <= 0:
            self.drawing = False
            return 0.0
        self.starts += not self.drawing
        self.drawing = True
        kwh = min(current_ma * self.w_per_a / 1e6 * seconds / 3600, self.stay.energy_kwh - self.kwh)
        self.kwh += kwh
        self.register_wh += 1000 * kwh
        return kwh

    def state(self, now_s: float) -> EvseState:
        if self.stay is None:
            return EvseState.AVAILABLE
        if self.current_ma(now_s) > 0:
            return EvseState.CHARGING
        return EvseState.SUSPENDED_EV if self.allowed_ma(now_s) else EvseState.SUSPENDED_EVSE

    def sample(self, now_s: float) -> EvseSample:
        current_ma = self.current_ma(now_s)
        values: list[int | None] = [current_ma if n < self.phases else 0 for n in range(3)]
        return EvseSample(
            self.evse.id,
            self.evse.link.channel,
            now_s,
            PerPhase(*values),
            power_w=int(current_ma * self.w_per_a / 1000),
            register_wh=int(self.register_wh),
            offered_ma=self.allowed_ma(now_s),
        )

    def on_grid_ma(self, current_ma: int) -> tuple[int, int, int]:
        """A current of its vehicle on the phases of the grid."""
        found = [0, 0, 0]
        for phase in self.evse.phases[: self.phases]:
            found[phase] = current_ma
        return found[0], found[1], found[2]


@dataclass(slots=True)
class Plant:
    """The whole site. `load` and `pv` in kW, spread evenly over the phases; beyond their files they are 0."""

    site: Site
    load: Series | None = None
    pv: Series | None = None
    import_wh: float = 0.0  # the register of the meter at the grid connection
    grid: Grid = field(init=False)
    plugs: Mapping[EvseId, Plug] = field(init=False)
    stores: Mapping[str, Store] = field(init=False)

    def __post_init__(self) -> None:
        self.grid = Grid.of(self.site)
        self.plugs = {evse.id: Plug(evse, self.site.voltage_mv) for evse in self.site.evses.values()}
        self.stores = {battery.id: Store(battery) for battery in self.site.batteries}

    @property
    def stored_kwh(self) -> float:
        """What all batteries have taken so far, less what they gave."""
        return sum(store.moved_kwh for store in self.stores.values())

    def other_kw(self, when: datetime) -> tuple[float, float]:
        """The building's load, and the sun."""
        load = None if self.load is None else self.load.at(when)
        sun = None if self.pv is None else self.pv.at(when)
        return load or 0.0, max(0.0, sun or 0.0)

    def flow(self, now_s: float, seconds: float) -> float:
        """What the batteries take in these seconds, in kWh."""
        return sum(store.flow(now_s, seconds) for store in self.stores.values())

    def imported(self, charged_kwh: float, seconds: float, when: datetime) -> None:
        """What came in from the grid in these seconds."""
        load_kw, sun_kw = self.other_kw(when)
        self.import_wh += max(0.0, 1000 * charged_kwh + (load_kw - sun_kw) * seconds / 3.6)

    def per_phase_ma(self, kw: float) -> int:
        return round(kw * 1e9 / self.site.voltage_mv / 3)

    def charging_ma(self, now_s: float) -> list[int]:
        """Per resource of the grid, what the vehicles draw now."""
        total = [0] * len(self.grid.resources)
        for plug in self.plugs.values():
            if plug.stay is not None:
                self.add(total, plug, plug.current_ma(now_s))
        return total

    def add(self, total: list[int], plug: Plug, current_ma: int) -> None:
        """Adds a current of one vehicle to what its circuits carry."""
        if current_ma:
            on = plug.on_grid_ma(current_ma)
            for resource in self.grid.uses[plug.evse.id]:
                total[resource] += on[self.grid.resources[resource][1]]

    def readings(self, now_s: float, when: datetime) -> list[MeterReading]:
        load_kw, sun_kw = self.other_kw(when)
        charging = self.charging_ma(now_s) if self.site.meters else []
        circuits = {
            circuit.meter: circuit for circuit in self.site.circuits.values() if circuit.meter is not None
        }
        return [
            self._reading(meter, circuits.get(meter.id), charging, load_kw, sun_kw, now_s)
            for meter in self.site.meters.values()
        ]

    def _stored_ma(self, circuit: CircuitId, now_s: float) -> list[int]:
        """What the batteries below a circuit draw on its phases."""
        found = [0, 0, 0]
        for store in self.stores.values():
            if any(node.id == circuit for node in self.site.path(store.battery.circuit)):
                found = [mine + more for mine, more in zip(found, self._draws(store, now_s), strict=True)]
        return found

    def _draws(self, store: Store, now_s: float) -> list[int]:
        wired = store.battery.phases
        each = round(store.power_kw(now_s) * 1e9 / self.site.voltage_mv / len(wired))
        return [each if phase in wired else 0 for phase in range(3)]

    def _reading(
        self,
        meter: Meter,
        circuit: Circuit | None,
        charging: list[int],
        load_kw: float,
        sun_kw: float,
        now_s: float,
    ) -> MeterReading:
        soc_pct = None
        if circuit is not None:
            other_ma = self.per_phase_ma(load_kw - sun_kw) if circuit.parent is None else 0
            own, stored = self.grid.per_phase(charging, circuit.id), self._stored_ma(circuit.id, now_s)
            current = PerPhase(*(a + b + other_ma for a, b in zip(own, stored, strict=True)))
        elif (
            store := next((s for s in self.stores.values() if s.battery.meter == meter.id), None)
        ) is not None:
            current, soc_pct = PerPhase(*self._draws(store, now_s)), store.soc_pct
        else:
            kw = {MeterRole.PV: -sun_kw, MeterRole.LOAD: load_kw}.get(meter.role, 0.0)
            current = each_phase(self.per_phase_ma(kw))
        power_w = sum(current) * self.site.voltage_mv // 1_000_000
        known: PerPhase[int | None] = PerPhase(*current)
        register_wh = int(self.import_wh) if circuit is not None and circuit.parent is None else None
        volts = each_phase(self.site.voltage_mv)
        return MeterReading(meter.id, now_s, known, power_w, PerPhase(*volts), register_wh, soc_pct=soc_pct)


def with_site_meter(site: Site) -> Site:
    """The site with a meter at its grid connection, where the config has none: a load that nobody sees cannot be
    left room for."""
    if site.circuits[SITE].meter is not None:
        return site
    name = MeterId("simulated")
    circuits = {**site.circuits, SITE: replace(site.circuits[SITE], meter=name)}
    meters = {**site.meters, name: Meter(name, "simulated", MeterRole.GRID, 1.0, 5.0)}
    return replace(site, circuits=circuits, meters=meters)
