"""Simulators as processes of their own: `python -m drivers.sim charger|device|meter|relay|battery|platform|depot`.

For people who try a config of their own, and for tests that want nothing shared with the controller but sockets.
Owns arguments, signals and what is printed; the simulators themselves are next door. Must not import the
controller's command line. Exit codes as `depot`: 0 done, 1 failed (one line says why), 2 wrong use.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.core.model import Moment
from controller.core.units import parse_current_ma
from drivers.sim import arguments, boxes
from drivers.sim.building import Building
from drivers.sim.cloudcharger import CloudCharger
from drivers.sim.device import SimDevice
from drivers.sim.devicefile import MemoryFile
from drivers.sim.evse import NOTHING, Amps, SimEvse
from drivers.sim.load import FileLoad, write_amps
from drivers.sim.meter import MeterTruth, SimMeter
from drivers.sim.platform import SimPlatform
from drivers.sim.quirks import DeviceQuirks
from drivers.sim.site import OCPP_VERSIONS, DemoSite, ocpp_station
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

TELL_S = 0.2  # how often a charger process looks whether its own state is news
CARD_S = 1.0  # between the plug and the card
VOLTS = 230.0
BUILDING = "building"

Work = Callable[[], Coroutine[Any, Any, None]]


class Unusable(Exception):
    """Something a person must mend; the text is one line."""


class WallClock:
    """Satisfies `controller.ports.Clock`."""

    def now(self) -> Moment:
        return Moment(time.monotonic(), datetime.now(UTC))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


# --- charger ------------------------------------------------------------------------------------------------------


async def charger(options: argparse.Namespace) -> None:
    """One OCPP station; a vehicle comes to every connector if `--vehicle-after` says so."""
    clock = WallClock()
    if options.v2g and options.ocpp != "2.1":
        raise Unusable("--v2g needs --ocpp 2.1: older versions cannot ask for discharge")
    make = V2gEvse if options.v2g else SimEvse
    evses = [
        make(f"{options.id}/{number}", options.max_ma / 1e3, options.phases)
        for number in range(1, options.connectors + 1)
    ]
    password = None if options.password_file is None else _secret(options.password_file)
    station = ocpp_station(options.ocpp, options.id, options.url, evses, clock, password)
    world = _physics(clock, evses)
    work: list[Work] = [world.run, station.run, lambda: _tell(evses, options.currents)]
    if options.vehicle_after_s is not None:
        work.append(lambda: _visit(evses, options.vehicle_after_s, options.token, True))
    try:
        await _together(work)
    finally:
        _confess(world)


# --- device ---------------------------------------------------------------------------------------------------------


async def device(options: argparse.Namespace) -> None:
    """One charger that speaks the charger side of the Open Platform to an on-site host."""
    clock = WallClock()
    make = V2gEvse if options.v2g else SimEvse
    evses = [
        make(f"{options.serial}/{number}", options.max_ma / 1e3, options.phases)
        for number in range(1, options.connectors + 1)
    ]
    tls = None if options.ca_file is None else _trusting(options.ca_file)
    try:
        kept = None if options.memory is None else MemoryFile(options.memory)
    except ValueError as error:
        raise Unusable(f"{options.memory}: not the memory of a device ({error})") from None
    charger = SimDevice(
        options.serial,
        options.model,
        options.firmware,
        options.url,
        evses,
        clock,
        {} if kept is None else kept.memory,
        quirks=DeviceQuirks(spread_s=options.spread_s, upgrade=options.upgrade),
        tls=tls,
    )
    world = _physics(clock, evses)
    work: list[Work] = [world.run, charger.run, lambda: _tell(evses, options.currents)]
    if options.vehicle_after_s is not None:
        work.append(lambda: _visit(evses, options.vehicle_after_s, options.token, False))
    try:
        await _together(work if kept is None else [*work, kept.run])
    finally:
        _confess(world)
        if kept is not None:
            kept.write()  # after the last word of the charger


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise Unusable(f"{ca_file}: not a certificate ({error.reason})") from None


async def _visit(evses: Sequence[SimEvse], after_s: float, token: str, with_card: bool) -> None:
    """A vehicle comes to each EVSE; on OCPP its driver holds a card to the reader."""
    await asyncio.sleep(after_s)
    for number, evse in enumerate(evses, start=1):
        evse.plug(Vehicle(f"{evse.id}-{number}", token, battery_wh=60_000.0, soc=0.3, max_a=evse.max_a))
    await asyncio.sleep(CARD_S)
    if with_card:
        for evse in evses:
            evse.present(token)


async def _tell(evses: Sequence[SimEvse], currents: Path | None) -> None:
    """Prints what changed, and keeps the file that a simulated meter can watch."""
    told: dict[str, str] = {}
    written: Amps | None = None
    while True:
        for evse in evses:
            vehicle = "no vehicle" if evse.vehicle is None else "vehicle plugged in"
            amps = max(map(abs, evse.conductor_a))
            line = f"{evse.id}  {vehicle}  offers {evse.offered_a:.1f} A  draws {amps:.0f} A"
            if told.get(evse.id) != line:
                told[evse.id] = line
                print(line, flush=True)
        total: Amps = _sum([evse.current_a for evse in evses])
        if currents is not None and total != written:
            write_amps(currents, total)
            written = total
        await asyncio.sleep(TELL_S)


# --- meter ----------------------------------------------------------------------------------------------------------


async def meter(options: argparse.Namespace) -> None:
    """An SDM630 on Modbus TCP. Its load is what `--load` says plus what the watched chargers draw."""
    loads: list[Callable[[], Amps]] = [_load(options), *(FileLoad(path) for path in options.watch_chargers)]
    import_wh, last_s = 0.0, time.monotonic()

    def truth() -> MeterTruth:
        nonlocal import_wh, last_s
        amps = _sum([load() for load in loads])
        l1, l2, l3 = amps
        power_w = (l1 * VOLTS, l2 * VOLTS, l3 * VOLTS)
        now_s = time.monotonic()
        import_wh += max(0.0, sum(power_w)) * (now_s - last_s) / 3600.0
        last_s = now_s
        return MeterTruth(amps, (VOLTS, VOLTS, VOLTS), power_w, import_wh, 0.0)

    served = SimMeter(truth, port=options.port, unit=options.unit)
    try:
        await served.start()
        print(f"meter: sdm630 at tcp://127.0.0.1:{served.port}/{options.unit}", flush=True)
        await asyncio.Event().wait()
    finally:
        await served.stop()


def _load(options: argparse.Namespace) -> Callable[[], Amps]:
    text = options.load
    if text == BUILDING:
        worst_a = options.worst_ma / 1e3
        building, began_s = Building(options.seed, (worst_a, worst_a, worst_a)), time.monotonic()
        return lambda: building(time.monotonic() - began_s)
    try:
        amps = parse_current_ma(text) / 1e3
    except ValueError as error:
        if not Path(text).is_file():
            raise Unusable(f"--load {text!r} is no file, not {BUILDING!r}, and {error}") from None
        return FileLoad(Path(text))
    return lambda: (amps, amps, amps)


# --- platform -------------------------------------------------------------------------------------------------------


async def platform(options: argparse.Namespace) -> None:
    """The hosted Open Platform with its chargers behind it."""
    clock = WallClock()
    make = V2gEvse if options.v2g else SimEvse
    evses = [make(f"{device[0]}/1", 32.0) for device in options.device]
    chargers = [
        CloudCharger(name, serial, model, firmware, [evse], 22.0)
        for (name, serial, model, firmware), evse in zip(options.device, evses, strict=True)
    ]
    secret = _secret(options.client_secret_file)
    served = SimPlatform(chargers, clock, options.client_id, secret, port=options.port)
    world = _physics(clock, evses)
    work: list[Work] = [world.run, served.run, lambda: _tell(evses, options.currents)]
    if options.vehicle_after_s is not None:
        work.append(lambda: _visit(evses, options.vehicle_after_s, options.token, False))
    try:
        await served.start()
        print(f"platform: {served.base_url}", flush=True)
        await _together(work)
    finally:
        await served.stop()
        _confess(world)


# --- a whole depot ----------------------------------------------------------------------------------------------------


async def depot(options: argparse.Namespace) -> None:
    """The world of `depot demo` without a controller, and at its end what the copper went through."""
    folder = _fresh(options.folder)
    site = DemoSite(options.chargers, WallClock(), options.seed, options.ocpp)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(site.stop)
        await site.start()
        port = _free_port()
        config = site.write(folder, port)
        print(f"simulating {options.chargers} chargers; now run in another terminal:", flush=True)
        print(f"  depot run {config}\n  depot ui --socket {folder / 'control.sock'}", flush=True)
        stack.callback(lambda: print(f"\n{site.truth()}", flush=True))
        await site.run(port)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "depot.toml").exists():
        raise Unusable(f"{folder / 'depot.toml'} exists already; name another folder")
    return folder


def _free_port() -> int:
    """A port for the controller that will be started later; nothing holds it until then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- parts ------------------------------------------------------------------------------------------------------------


def _physics(clock: WallClock, evses: Sequence[SimEvse]) -> World:
    """Time for EVSEs whose circuits are somebody else's business."""
    return World(clock, 0, {"site": SimCircuit(None, float("inf"))}, evses, lambda _: NOTHING)


def _confess(world: World) -> None:
    """The last words of a process: what really flowed, for whoever checks the controller's books."""
    world.catch_up()
    energy = {
        evse.id: {
            "delivered_wh": round(evse.register_wh, 1),
            "fed_back_wh": round(evse.export_wh if isinstance(evse, V2gEvse) else 0.0, 1),
        }
        for evse in world.evses.values()
    }
    print(f"truth: {json.dumps(energy)}", flush=True)


async def _together(work: Sequence[Work]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one())


def _sum(amps: Sequence[Amps]) -> Amps:
    return (sum(a[0] for a in amps), sum(a[1] for a in amps), sum(a[2] for a in amps))


def _secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


# --- arguments ----------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m drivers.sim", description="Simulated depot equipment.")
    kinds = top.add_subparsers(metavar="WHAT", required=True)
    url = "ws://127.0.0.1:8887/ocpp"
    made = _kind(
        kinds,
        "charger",
        charger,
        "an OCPP station",
        f"--url {url} --id CP001 --ocpp 2.0.1 --vehicle-after 3s",
    )
    made.add_argument("--url", required=True, help=f"the central system, like {url}")
    made.add_argument("--id", required=True, help="the station id")
    text = "the version it speaks (default: 1.6)"
    made.add_argument("--ocpp", choices=OCPP_VERSIONS, default="1.6", metavar="VERSION", help=text)
    made.add_argument("--v2g", action="store_true", help="it can also discharge vehicles (OCPP 2.1)")
    made.add_argument("--password-file", type=Path, metavar="FILE", help="Basic auth (default: none)")
    made.add_argument("--connectors", type=int, choices=range(1, 9), default=1, metavar="N", help="1 to 8")
    made.add_argument("--max", dest="max_ma", type=arguments.current, default="32 A", metavar="CURRENT")
    made.add_argument(
        "--phases", type=arguments.phases, default="L1 L2 L3", help='grid phases, like "L2 L3 L1"'
    )
    _visitors(made)
    url = "http://127.0.0.1:8088/v1"
    example = f"--url {url} --serial SN000001 --memory SN000001.json --vehicle-after 3s"
    made = _kind(kinds, "device", device, "a charger of an on-site Open Platform host", example)
    made.add_argument("--url", type=arguments.http, required=True, help=f"the host, like {url}")
    made.add_argument("--serial", required=True, help="the serial number the host was told")
    made.add_argument("--model", default="TP-AC22")
    made.add_argument("--firmware", default="260420.0107", metavar="VERSION")
    text = "what it remembers when it is off: without it the host refuses it at the second start"
    made.add_argument("--memory", type=Path, metavar="FILE", help=text)
    made.add_argument("--ca-file", type=Path, metavar="FILE", help="trust this certificate of the host")
    made.add_argument("--connectors", type=int, choices=range(1, 9), default=1, metavar="N", help="1 to 8")
    made.add_argument("--max", dest="max_ma", type=arguments.current, default="32 A", metavar="CURRENT")
    made.add_argument(
        "--phases", type=arguments.phases, default="L1 L2 L3", help='grid phases, like "L2 L3 L1"'
    )
    made.add_argument("--v2g", action="store_true", help="it can also discharge vehicles")
    text = "it dials again after a random time up to this (default: 60 s)"
    made.add_argument(
        "--spread", dest="spread_s", type=arguments.duration, default="60 s", metavar="TIME", help=text
    )
    text = "what becomes of a firmware upgrade (default: works)"
    made.add_argument("--upgrade", choices=("works", "fails", "hangs"), default="works", help=text)
    _visitors(made)
    made = _kind(kinds, "meter", meter, "an SDM630 on Modbus TCP", '--port 5020 --load "40 A"')
    made.add_argument("--port", type=int, default=0, help="default: a free one, printed at the start")
    made.add_argument("--unit", type=int, default=1)
    text = (
        f'per phase: "40 A", "{BUILDING}", or a file with one or three currents, read again when it changes'
    )
    made.add_argument("--load", default="0 A", help=text)
    made.add_argument(
        "--worst", dest="worst_ma", type=arguments.current, default="60 A", help="of the building"
    )
    made.add_argument("--seed", type=int, default=1, help="of the building")
    text = "files written by `charger --currents`: what these chargers draw flows through this meter too"
    made.add_argument("--watch-chargers", type=Path, nargs="+", default=[], metavar="FILE", help=text)
    made = _kind(kinds, "relay", boxes.relay, "contacts on Modbus TCP", "--port 5021 --closed contacts.txt")
    boxes.relay_arguments(made)
    made = _kind(kinds, "battery", boxes.battery, "a SunSpec battery that takes set-points", "--port 5022")
    boxes.battery_arguments(made)
    example = "--port 8090 --device dvc_1 --client-secret-file platform.secret"
    made = _kind(kinds, "platform", platform, "the hosted Open Platform", example)
    made.add_argument("--port", type=int, default=0, help="default: a free one, printed at the start")
    text = "DEVICE[:SERIAL[:MODEL[:FIRMWARE]]], again for each charger"
    made.add_argument("--device", type=arguments.device, action="append", required=True, help=text)
    made.add_argument("--client-id", default="depot")
    made.add_argument("--client-secret-file", type=Path, required=True, metavar="FILE")
    made.add_argument("--v2g", action="store_true", help="its chargers can also discharge vehicles")
    _visitors(made)
    example = "--folder /tmp/sim --chargers 8"
    made = _kind(kinds, "depot", depot, "the world of `depot demo`, without the controller", example)
    made.add_argument("--folder", type=Path, required=True, help="where depot.toml and its secrets go")
    made.add_argument("--chargers", type=int, choices=range(1, 51), default=12, metavar="N", help="1 to 50")
    made.add_argument("--seed", type=int, default=1, help="another number, other vehicles")
    text = "versions its OCPP stations speak, in turn, like 1.6 2.0.1 2.1 (default: 1.6)"
    made.add_argument(
        "--ocpp", nargs="+", choices=OCPP_VERSIONS, default=["1.6"], metavar="VERSION", help=text
    )
    return top


def _kind(
    kinds: Any, name: str, run: Callable[[argparse.Namespace], Any], text: str, example: str
) -> argparse.ArgumentParser:
    epilog = f"Example: python -m drivers.sim {name} {example}"
    made: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=text, epilog=epilog)
    made.set_defaults(run=run)
    return made


def _visitors(made: argparse.ArgumentParser) -> None:
    text = "a vehicle is plugged in this long after the start (default: none)"
    made.add_argument(
        "--vehicle-after", dest="vehicle_after_s", type=arguments.duration, metavar="TIME", help=text
    )
    made.add_argument("--token", default="04A2B3C4", metavar="ID", help="id token of the driver")
    text = "write the currents drawn here whenever they change"
    made.add_argument("--currents", type=Path, metavar="FILE", help=text)


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    code = 0
    try:
        asyncio.run(_until_signalled(options.run(options)))
    except* (Unusable, OSError) as group:
        print(f"sim: {_first(group)}", file=sys.stderr)
        code = 1
    return code


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
