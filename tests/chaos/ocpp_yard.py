"""A yard of twelve OCPP stations below one `depot run`: every version with every security profile, all sockets real.

Owns the config, the keys (made by `depot ca`) and the stations with their wires. The stations live in the test's process, so
that a test can plug, show cards and cut cables; the controller and the commands are processes of their own. Judged is the
world (`drivers.sim.world`): what the copper carried and what each station's register counted.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from night_site import BUILDING_A, Cut, Json, Night, evse, secret

from controller.cli import main
from controller.clock import SystemClock
from controller.ports import Clock
from drivers.sim.cards import Cards
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation
from drivers.sim.evse import SimEvse
from drivers.sim.meter import MeterTruth, SimMeter
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World
from ui.client import Client

VERSIONS = {"V16": "1.6", "V201": "2.0.1", "V21": "2.1"}
PROFILES = (0, 1, 2, 3)
ALL = tuple(f"{version}P{profile}" for version in VERSIONS for profile in PROFILES)
MAX_A, FALLBACK_A = 16.0, 6.0
ROOM_A = 10.0  # of the fuse for each station: its vehicle wants 16 A, its fallback is 6 A
LEAST_A = 40.0
VOLTS = 230.0
ON_PAPER = {"SampledDataCtrlr.TxUpdatedInterval": "60", "OCPPCommCtrlr.HeartbeatInterval": "300"}


def version_of(name: str) -> str:
    return VERSIONS[name.partition("P")[0]]


def profile_of(name: str) -> int:
    return int(name[-1])


def card(name: str) -> str:
    return f"04{name}"


def password(name: str) -> str:
    return f"password-of-{name}"


@dataclass(slots=True)
class Stay:
    """One vehicle at one station, by the station's own register."""

    evse: SimEvse
    began_wh: float
    wh: float | None = None

    def end(self) -> None:
        self.evse.unplug()
        self.wh = self.evse.register_wh - self.began_wh


@dataclass(slots=True)
class Place:
    """A station at its end of a wire. `heard`: what it asked, and what it was answered."""

    name: str
    evse: SimEvse
    wire: Cut
    station: SimCharger | SimStation
    heard: list[tuple[str, Json, Json]] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)

    @property
    def amps(self) -> float:
        return max(self.evse.conductor_a)

    @property
    def cards(self) -> Cards:
        return self.station.flash.cards if isinstance(self.station, SimCharger) else self.station.memory.cards

    @property
    def firmware(self) -> str:
        keeps = self.station.flash if isinstance(self.station, SimCharger) else self.station.memory
        return keeps.firmware

    @property
    def certificate(self) -> str | None:
        """What it was given for a request of its own."""
        keeps = self.station.flash if isinstance(self.station, SimCharger) else self.station.memory
        return keeps.certificates.chain_pem

    @property
    def boots(self) -> int:
        return sum(action == "BootNotification" for action, _, _ in self.heard)

    @property
    def unsent(self) -> int:
        return len(self.station.voice.outbox.records)

    def plug(self, token: str | None = None) -> Stay:
        """A vehicle comes; with a token its driver shows a card."""
        vehicle = Vehicle(f"BUS-{self.name}", token, 60_000.0, 0.3, max_a=MAX_A, reaction_s=0.5)
        self.stays.append(Stay(self.evse, self.evse.register_wh))
        self.evse.plug(vehicle)
        if token is not None:
            self.evse.present(token)
        return self.stays[-1]

    def leave(self) -> None:
        self.stays[-1].end()

    def cut(self) -> None:
        self.wire.cut = True
        self.wire.sever()

    def note_talk(self) -> None:
        call = self.station.link.call

        async def noted(action: str, payload: Json) -> Json:
            answer = await call(action, payload)
            self.heard.append((action, payload, answer))
            return answer

        self.station.link.call = noted  # type: ignore[method-assign]

    def token_status(self, token: str) -> str | None:
        """What it was last told of this token when it asked."""
        for action, payload, answer in reversed(self.heard):
            if action == "Authorize" and token in (
                payload.get("idTag"),
                payload.get("idToken", {}).get("idToken"),
            ):
                return str((answer.get("idTagInfo") or answer["idTokenInfo"])["status"])
        return None


class Yard(Night):
    """`places` by name. `clock` is the stations'."""

    def __init__(self, folder: Path, names: Iterable[str], clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock
        self.names = tuple(names)
        self.limit_a = max(LEAST_A, BUILDING_A + ROOM_A * len(self.names))
        evses = {name: SimEvse(f"{name}/1", MAX_A) for name in self.names}
        circuits = {"site": SimCircuit(None, self.limit_a)}
        self.world = World(clock, 1, circuits, evses.values(), lambda _: (BUILDING_A,) * 3)
        self.meter_at_grid = SimMeter(self._truth)
        self.places: dict[str, Place] = {}
        self._evses = evses
        self._lives: dict[str, asyncio.Task[None]] = {}

    def _truth(self) -> MeterTruth:
        self.world.catch_up()
        l1, l2, l3 = amps = self.world.current_a()
        powers = (l1 * VOLTS, l2 * VOLTS, l3 * VOLTS)
        return MeterTruth(amps, (VOLTS,) * 3, powers, self.world.import_wh(), 0.0)

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    # --- before the controller runs -------------------------------------------------------------------------------

    def write(self) -> None:
        """Keys and config, as an installer makes them."""
        state = str(self.folder / "state")
        assert main(["ca", "init", "--storage", state, "--site", "Yard"]) == 0
        for subject in ("server", *(name for name in self.names if profile_of(name) == 3)):
            names = ["--name", "127.0.0.1"] if subject == "server" else []
            assert main(["ca", "issue", subject, *names, "--storage", state, "--out", str(self.folder)]) == 0
        for name in self.names:
            if profile_of(name) in (1, 2):
                secret(self.folder, f"{name}.secret", password(name))
        (self.folder / "depot.toml").write_text(self.config(), encoding="utf-8")

    def config(self) -> str:
        return "\n".join([
            "[site]", 'name = "Yard"', 'timezone = "Europe/Amsterdam"', f'limit = "{self.limit_a:g} A"',
            f'assumed_load = "{BUILDING_A:g} A"', 'meter = "main"',
            "[meter.main]", 'kind = "sdm630"', f'address = "tcp://127.0.0.1:{self.meter_at_grid.port}/1"', 'poll = "0.1 s"',
            "[ocpp]", 'listen = "127.0.0.1:0"', 'tls_listen = "127.0.0.1:0"', 'unqualified = "fallback"',
            'tls_cert = "server.pem"', 'tls_key = "server.key"', 'client_ca = "state/ca/ca.pem"',
            *(line for name in self.names for line in _station(name)),
            "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"', "",
        ])  # fmt: skip

    async def build(self, stack: AsyncExitStack, quirks: dict[str, Quirks]) -> None:
        """The stations and their wires; nobody dials yet."""
        for name in self.names:
            wire = await stack.enter_async_context(Cut())
            wire.cut = True
            station = self._made(name, wire.port, quirks.get(name, HONEST))
            self.places[name] = Place(name, self._evses[name], wire, station)
            self.places[name].note_talk()

    def _made(self, name: str, port: int, quirks: Quirks) -> SimCharger | SimStation:
        profile, tls = profile_of(name), None
        if profile >= 2:
            tls = ssl.create_default_context(cafile=self.folder / "state" / "ca" / "ca.pem")
        if profile == 3 and tls is not None:
            tls.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        url = f"{'ws' if tls is None else 'wss'}://127.0.0.1:{port}/ocpp"
        word = password(name) if profile in (1, 2) else None
        evses = [self._evses[name]]
        if (version := version_of(name)) == "1.6":
            return SimCharger(name, url, evses, clock=self.clock, password=word, quirks=quirks, tls=tls)
        return SimStation(
            name, url, evses, clock=self.clock, versions=[f"ocpp{version}"], password=word, tls=tls, quirks=quirks,
            variables=ON_PAPER,
        )  # fmt: skip

    # --- while it runs ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """`depot run`; every wire leads to its doors."""
        await super().run()
        await self.lead_wires()

    async def power_cut(self) -> None:
        """The controller is gone, and its ports may soon be somebody else's."""
        for place in self.places.values():
            place.wire.target = 0
        assert self.controller is not None
        await self.controller.kill()

    async def lead_wires(self) -> None:
        doors = await Client(self.socket).call("onboarding")
        for name, place in self.places.items():
            door = doors["tls" if profile_of(name) >= 2 else "plain"]
            place.wire.target = door["port"]

    def mend(self, *names: str) -> None:
        """The wires of these (all) are whole; who was never connected gets its power now, and dials at once."""
        for name in names or self.names:
            place = self.places[name]
            place.wire.cut = False
            if name not in self._lives:
                self._lives[name] = asyncio.create_task(place.station.run())

    async def live(self, stack: AsyncExitStack) -> None:
        """Time passes from now on until the end of `stack`."""
        self._lives["world"] = asyncio.create_task(self.world.run())
        stack.push_async_callback(self._die)

    async def _die(self) -> None:
        for life in self._lives.values():
            life.cancel()
        for ended in await asyncio.gather(*self._lives.values(), return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended

    async def ready(self, *names: str) -> Json:
        """These (all) are connected, store their fallback, and the site runs by itself."""
        wanted = [f"{name}/1" for name in names or self.names]
        return await self.until(
            lambda seen: (
                seen["site"]["state"] == "auto"
                and all(evse(seen, one)["connected"] and evse(seen, one)["fallback_stored"] for one in wanted)
            ),
            f"{wanted} are ready",
        )

    async def happens(self, holds: Callable[[], object], what: str) -> None:
        """Something that shows at the stations, not in the status."""
        await self.until(lambda seen: holds(), what)

    def judge(self) -> None:
        """What the copper went through."""
        self.world.catch_up()
        assert self.world.overloads() == {}, self.world.report()
        assert max(self.world.current_a()) <= self.limit_a


def _station(name: str) -> list[str]:
    profile = profile_of(name)
    let_in = {
        0: "allow_insecure = true",
        3: "security_profile = 3",
    }.get(profile, f'password_file = "{name}.secret", security_profile = {profile}')
    return [
        f"[station.{name}]", 'circuit = "site"', f'fallback = "{FALLBACK_A:g} A"', f"ocpp = {{ {let_in} }}",
        f'evse.1 = {{ max = "{MAX_A:g} A", min = "6 A", phases = "L1 L2 L3" }}',
        f"[vehicle.BUS-{name}]", 'battery = "60 kWh"', f'tokens = ["{card(name)}"]',
    ]  # fmt: skip


@asynccontextmanager
async def powered(
    folder: Path, names: Iterable[str], clock: Clock, quirks: dict[str, Quirks]
) -> AsyncIterator[Yard]:
    """The meter runs, the files are written, and no station has power yet; the controller is still to come."""
    made = Yard(folder, names, clock)
    async with AsyncExitStack() as stack:
        await made.meter_at_grid.start()
        stack.push_async_callback(made.meter_at_grid.stop)
        await asyncio.to_thread(made.write)
        await made.build(stack, quirks)
        stack.push_async_callback(made.close)
        await made.live(stack)
        yield made


@asynccontextmanager
async def yard(folder: Path, *names: str, quirks: dict[str, Quirks] | None = None) -> AsyncIterator[Yard]:
    """`depot run` runs; the stations wait for `mend`."""
    async with powered(folder, names or ALL, SystemClock(), quirks or {}) as made:
        await made.run()
        yield made
