"""A whole simulated depot: circuits, building, vehicles, chargers on both channels, meters, and the config to match.

Owns the world that `depot demo` and `python -m drivers.sim depot` run. Must not know the controller: it is reached
over sockets, and told about this site by an ordinary config file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from controller.ports import Clock
from drivers.sim.building import Building
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation
from drivers.sim.cloudcharger import CloudCharger
from drivers.sim.dc import DcEvse
from drivers.sim.duty import DutyFleet, stays_of
from drivers.sim.evse import Amps, SimEvse
from drivers.sim.fleet import Fleet, Habits
from drivers.sim.meter import MeterTruth, SimMeter
from drivers.sim.platform import SimPlatform
from drivers.sim.storage import SimStorage
from drivers.sim.sunshine import Sunshine
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import STEP_S, SimCircuit, World

ROW = 8  # chargers per row
ROTATIONS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
PASSWORD = "demo-password-0001"
CLIENT, SECRET = "depot-demo", "demo-secret-0001"
FALLBACK_A = 6
OCPP_VERSIONS = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
DC_W = 30_000.0
DC_FROM = 6  # chargers
BUILDING_SHARE = 0.30  # of the site limit: the worst the building ever draws
ZONE = "Europe/Amsterdam"
VOLTS = 230.0
SUN_SHARE = 0.25  # of what the site may draw: the most its roof gives
STORE_SHARE, STORE_H = 0.15, 2.0  # of the same: the power of its battery, which holds that for so long
SELDOM = (
    'poll = "5 s"\nstale_after = "20 s"'  # the meters beside the main one, in a world that lives for days
)
LONG_STEP_S = 0.5  # of a world that lives for days
DUTY_W = 5_000.0  # what the duty plan asks for, on average over a stay


class DemoSite:
    """The simulated world of one demo: `chargers` in total, the first half on OCPP, the others on the platform.

    `ocpp`: the versions its stations speak, dealt out in turn. `start`, `write`, then `run`; `stop` in any case. The
    meter and the platform take free ports. `days`: instead of short visits at random the fleet keeps a duty plan for so
    many days (`DutyFleet`), in a world of longer steps.
    """

    def __init__(
        self,
        chargers: int,
        clock: Clock,
        seed: int,
        ocpp: Sequence[str] = ("1.6",),
        days: int | None = None,
    ) -> None:
        self.clock = clock
        self._ocpp = tuple(ocpp)
        self.limit_a = -(-int(chargers * FALLBACK_A * 1.6 / (1 - BUILDING_SHARE)) // 10) * 10 + 10
        self.worst_a = self.limit_a * BUILDING_SHARE
        rows = -(-chargers // ROW)
        self.row_limit_a = 14 * ROW
        circuits = {"site": SimCircuit(None, float(self.limit_a))}
        circuits |= {f"row_{n + 1}": SimCircuit("site", float(self.row_limit_a)) for n in range(rows)}
        self.evses = [self._evse(n, chargers) for n in range(chargers)]
        self._began = clock.now()
        now = self._began.utc.astimezone(ZoneInfo(ZONE))
        worst = (self.worst_a, self.worst_a, self.worst_a)
        day_s = now.hour * 3600.0 + now.minute * 60.0
        self.building = Building(seed, worst, day_s, machine=0.03)
        site_w = 3 * VOLTS * self.limit_a
        self.sun = Sunshine(seed, SUN_SHARE * site_w, day_s)
        store_w = round(STORE_SHARE * site_w, -3)
        self.storage = SimStorage(
            lambda: clock.now().mono_s, store_w * STORE_H, most_w=int(store_w), follow_s=1.0
        )
        step_s = STEP_S if days is None else LONG_STEP_S
        self.world = World(clock, seed, circuits, self.evses, self._others, step_s=step_s)
        self.ocpp_evses = self.evses[: -(-chargers // 2)]
        self.cloud_evses = self.evses[-(-chargers // 2) :]
        self.platform = SimPlatform(
            [
                CloudCharger(f"dvc_{n:04}", f"SN{n:06}", "TP-AC22", "260420.0107", [evse], 22.0)
                for n, evse in enumerate(self.cloud_evses, start=1)
            ],
            clock,
            CLIENT,
            SECRET,
            seed=seed,
        )
        self.meter = SimMeter(
            lambda: self._truth("site"), units={2: lambda: self._truth("row_1"), 3: self._sun_truth}
        )
        vehicles = [
            Vehicle(f"BUS-{n + 1:02}", f"04DE{n:04X}", 60_000.0 + 2_000 * (n % 20), 0.3,
                    phases=1 if n % 5 == 4 else 3, max_a=32.0 if n % 2 else 16.0, reaction_s=1.0 + n % 4)
            for n in range(chargers)
        ]  # fmt: skip
        for vehicle, evse in zip(vehicles, self.evses, strict=True):
            if isinstance(evse, DcEvse):
                vehicle.max_a = evse.max_a
                if days is not None:
                    vehicle.min_a = evse.min_a  # it comes back here every night
        self.vehicles = vehicles
        habits = Habits(
            away_s=(20.0, 120.0),
            first_away_s=(0.0, 25.0),
            stay_s=(40.0, 400.0),
            card_s=(1.0, 4.0),
            sleepy=0.05,
        )
        self.fleet: Fleet | None = None
        self.duty: DutyFleet | None = None
        if days is None:
            self.fleet = Fleet(clock, seed, self.evses, vehicles, habits)
        else:
            pairs = list(zip(vehicles, self.evses, strict=True))
            self.duty = DutyFleet(clock, stays_of(pairs, days, self._began.utc, ZoneInfo(ZONE), seed))

    def _evse(self, n: int, chargers: int) -> SimEvse:
        """The second one is a DC charger, where there are enough of them to leave room for it."""
        name, circuit = f"{self._name(n, chargers)}/1", f"row_{n // ROW + 1}"
        if n == 1 and chargers >= DC_FROM:
            return DcEvse(name, DC_W, circuit=circuit)
        return SimEvse(name, 32.0, ROTATIONS[n % 3], circuit=circuit)

    @staticmethod
    def _name(n: int, chargers: int) -> str:
        first_cloud = -(-chargers // 2)
        return f"CP{n + 1:03}" if n < first_cloud else f"TP{n + 1 - first_cloud:03}"

    def _truth(self, circuit: str) -> MeterTruth:
        current_a = self.world.current_a(circuit)
        volts = self.world.voltage_v
        l1, l2, l3 = current_a
        power_w = (l1 * volts, l2 * volts, l3 * volts)
        return MeterTruth(current_a, (volts, volts, volts), power_w, self.world.import_wh(circuit), 0.0)

    def _others(self, elapsed_s: float) -> Amps:
        """What flows beside the vehicles: the building, less the sun, and the battery."""
        self.storage.tick()
        own_a = (self.storage.power_w - self.sun(elapsed_s)) / (3 * VOLTS)
        l1, l2, l3 = self.building(elapsed_s)
        return (l1 + own_a, l2 + own_a, l3 + own_a)

    def _sun_truth(self) -> MeterTruth:
        self.world.catch_up()
        watts = -self.sun(self.world.elapsed_s) / 3
        amps = watts / VOLTS
        return MeterTruth((amps, amps, amps), (VOLTS, VOLTS, VOLTS), (watts, watts, watts), 0.0, 0.0)

    def duty_plan(self) -> str:
        """A roster (CSV) of the vehicles that are here: when each is to leave, and with how much. Some do not keep to it."""
        if self.fleet is None:
            return "" if self.duty is None else self.duty.duty_plan()
        began, now_s = self._began, self.clock.now().mono_s
        lines = ["vehicle,departs,energy,evse"]
        for name, visit in sorted(self.fleet.visits.items()):
            if visit.evse.vehicle is not visit.vehicle or visit.announced_s <= now_s:
                continue
            departs = began.utc + timedelta(seconds=round(visit.announced_s - began.mono_s))
            watt_hours = max(1, int(DUTY_W * (visit.announced_s - visit.arrived_s) / 3600))
            lines.append(
                f"{name},{departs.replace(microsecond=0).isoformat()},{watt_hours} Wh,{visit.evse.id}"
            )
        return "\n".join(lines)

    async def start(self) -> None:
        """Opens the ports of the meters, the battery and the platform."""
        await self.meter.start()
        await self.storage.start()
        await self.platform.start()

    async def stop(self) -> None:
        await self.platform.stop()
        await self.storage.stop()
        await self.meter.stop()

    def write(self, folder: Path, ocpp_port: int = 0) -> Path:
        """Writes the config file and its secrets; returns the config's path. `ocpp_port` is where the controller
        will listen (0: any free one). Raises OSError."""
        config = folder / "depot.toml"
        config.write_text(self.config(ocpp_port), encoding="utf-8")
        for name, secret in (("station.secret", PASSWORD), ("platform.secret", SECRET)):
            path = folder / name
            path.touch(mode=0o600)
            path.write_text(secret, encoding="utf-8")
        return config

    def config(self, ocpp_port: int) -> str:
        """The config file of this site, as an installer would write it."""
        lines = [
            "[site]", 'name = "Demo depot"', f'timezone = "{ZONE}"', f'limit = "{self.limit_a} A"',
            'meter = "main"', f'assumed_load = "{self.worst_a:.0f} A"', "",
        ]  # fmt: skip
        for circuit in self.world.circuits:
            if circuit != "site":
                lines += [f"[circuit.{circuit}]", 'parent = "site"', f'limit = "{self.row_limit_a} A"']
                lines += ['meter = "row_1"', ""] if circuit == "row_1" else [""]
        meters = (("main", "grid"), ("row_1", "circuit"), ("roof", "pv"))
        for unit, (meter, role) in enumerate(meters, start=1):
            lines += [
                f"[meter.{meter}]",
                'kind = "sdm630"',
                f'address = "tcp://127.0.0.1:{self.meter.port}/{unit}"',
            ]
            lines += [f'role = "{role}"', *([SELDOM] if self.duty is not None and role == "pv" else []), ""]
        battery = f'address = "tcp://127.0.0.1:{self.storage.port}/1"'
        power = f'"{self.storage.most_w / 1e3:g} kW"'
        lines += [
            "[meter.store]", 'kind = "sunspec-battery"', battery, 'role = "battery"',
            *([] if self.duty is None else [SELDOM]), "",
            "[battery.store]", 'meter = "store"', battery, f"charge = {power}", f"discharge = {power}",
            f'capacity = "{self.storage.capacity_wh / 1e3:g} kWh"', "",
        ]  # fmt: skip
        lines += ["[ocpp]", f'listen = "127.0.0.1:{ocpp_port}"', 'unknown_tokens = "reject"']
        lines += ['unqualified = "fallback"', ""]  # simulated stations are honest
        if self.cloud_evses:
            lines += [
                "[open_platform]", 'mode = "sole"', 'enabled_by = "depot demo"',
                'purposes = ["monitor", "control", "flexibility"]', "", "[open_platform.cloud]",
                f'base_url = "{self.platform.base_url}"', 'region = "site"', f'client_id = "{CLIENT}"',
                'client_secret_file = "platform.secret"', 'site_ids = ["st-sim-01"]', "",
            ]  # fmt: skip
        for n, evse in enumerate(self.evses):
            name = evse.id.removesuffix("/1")
            phases = " ".join(f"L{phase + 1}" for phase in evse.phases)
            lines += [f"[station.{name}]", f'circuit = "{evse.circuit}"', f'fallback = "{FALLBACK_A} A"']
            if isinstance(evse, DcEvse):
                lines += [f'evse.1 = {{ max_power = "{DC_W / 1e3:g} kW", current = "dc" }}']
            else:
                lines += [f'evse.1 = {{ max = "32 A", min = "6 A", phases = "{phases}" }}']
            device = n - len(self.ocpp_evses)
            if device < 0:
                lines += ['ocpp = { password_file = "station.secret" }', ""]
            else:
                lines += [
                    f'open_platform = {{ device_id = "dvc_{device + 1:04}", link = "cloud", autostart = true }}',
                    "",
                ]
        for vehicle in self.vehicles:
            lines += [f"[vehicle.{vehicle.id}]", f'battery = "{vehicle.battery_wh / 1e3:g} kWh"']
            lines += [f'tokens = ["{vehicle.token}"]', ""]
        lines += [
            "[tariff]", 'currency = "EUR"', 'bands = [{ from = "07:00", to = "23:00", price = 0.31 },',
            '  { from = "23:00", to = "07:00", price = 0.22 }]', "peak_price = 6.0", "feed_in = 0.08", "",
        ]  # fmt: skip
        return "\n".join(
            [*lines, "[storage]", 'path = "state"', "", "[control]", 'socket = "control.sock"', ""]
        )

    async def run(self, ocpp_port: int) -> None:
        """The world, the chargers and the fleet, until cancelled."""
        url = f"ws://127.0.0.1:{ocpp_port}/ocpp"
        chargers = [
            ocpp_station(
                self._ocpp[n % len(self._ocpp)], evse.id.removesuffix("/1"), url, [evse], self.clock, PASSWORD
            )
            for n, evse in enumerate(self.ocpp_evses)
        ]
        async with asyncio.TaskGroup() as group:
            fleets = [fleet.run() for fleet in (self.fleet, self.duty) if fleet is not None]
            for work in (self.world.run(), self.platform.run(), *fleets):
                group.create_task(work)
            for charger in chargers:
                group.create_task(charger.run())

    def truth(self) -> str:
        """What the copper went through, in lines for people; the controller has no say in it."""
        self.world.catch_up()
        circuits = self.world.report()["circuits"]
        assert isinstance(circuits, dict)
        lines = ["what the copper went through (truth of the simulator, not our own view):"]
        for name, seen in circuits.items():
            lines.append(
                f"  {name:8} limit {max(seen['limit_a']):5.0f} A  highest {max(seen['highest_a']):6.1f} A"
                f"  longest above {max(seen['longest_overload_s']):4.1f} s"
            )
        return "\n".join(lines)


def ocpp_station(
    version: str, name: str, url: str, evses: Sequence[SimEvse], clock: Clock, password: str | None
) -> SimCharger | SimStation:
    """A station that speaks this version of OCPP, a key of OCPP_VERSIONS."""
    if version == "1.6":
        return SimCharger(name, url, evses, clock=clock, password=password)
    return SimStation(name, url, evses, clock=clock, password=password, versions=[OCPP_VERSIONS[version]])
