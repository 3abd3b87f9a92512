"""What `depot init` finds by itself: meters behind hosts a person names, and chargers that knock at the OCPP port.

Owns the bounds of looking: only what was named is asked, only reads, a few at a time. Writes nothing anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from controller.clock import SystemClock
from controller.config.meter_address import MeterAddress, meter_address
from controller.config.values import Wrong, quoted
from controller.core.applied import NOTHING, Applied
from controller.core.events import AccessRefused, Event
from drivers.errors import DriverError
from drivers.modbus import guards
from drivers.modbus.line import Address
from drivers.modbus.probe import Found, probe
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import OcppSettings

MOST_HOSTS = 256
AT_A_TIME = 32
CONNECT_S = 1.0
MODBUS_PORT = 502
MOST_KNOCKS = 200
_HOST = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Seen:
    """A meter that answers, as its best fitting kind."""

    address: MeterAddress
    found: Found


def addresses(written: str) -> list[MeterAddress]:
    """What a person names: an address as in the config, a host with or without port, a subnet, or several with commas.
    Raises Wrong."""
    found: list[MeterAddress] = []
    for part in filter(None, (part.strip() for part in written.split(","))):
        if "://" in part:
            found.append(meter_address(part if re.search(r"[^/]/\d+$", part) else f"{part.rstrip('/')}/1"))
        elif "/" in part:
            found += [MeterAddress(str(host), MODBUS_PORT, 1) for host in _hosts(part)]
        elif _HOST.fullmatch(part):
            found.append(meter_address(f"tcp://{part}/1"))
        else:
            raise Wrong(
                f"{quoted(part)} is no host", 'write "10.0.4.20", "10.0.4.0/28" or "tcp://10.0.4.20:502/1"'
            )
        if len(found) > MOST_HOSTS:
            raise Wrong(f"these are more than {MOST_HOSTS} hosts", "name a smaller subnet")
    return list(dict.fromkeys(found))


def _hosts(written: str) -> Sequence[object]:
    try:
        network = ip_network(written, strict=False)
    except ValueError:
        raise Wrong(f"{quoted(written)} is no subnet", 'write it like "10.0.4.0/28"') from None
    if not isinstance(network, IPv4Network) or network.num_addresses > MOST_HOSTS:
        raise Wrong(f"{quoted(written)} has too many hosts", f"name at most {MOST_HOSTS}, like 10.0.4.0/24")
    return list(network.hosts())


async def meters(at: Sequence[MeterAddress], progress: Callable[[str], None]) -> tuple[list[Seen], list[str]]:
    """Those that can guard a circuit; and why not, for each that answered otherwise, or for the only one named."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def ask(one: MeterAddress) -> Seen | str | None:
        async with gate:
            if one.transport != "rtu" and len(at) > 1 and not await _listens(one):
                return None
            wire = Address(one.host, one.port, one.transport, one.baud, one.parity, one.stop_bits)
            try:
                (asked,) = await probe(wire, (one.unit,), None, progress)
            except DriverError as error:
                return str(error)
        best = next((found for found in asked.found if guards(found.kind)), None)
        if best is not None:
            return Seen(one, best)
        return f"{one}: {asked.why or 'no kind that tells the currents of the phases'}"

    told = await asyncio.gather(*(ask(one) for one in at))
    return [each for each in told if isinstance(each, Seen)], [each for each in told if isinstance(each, str)]


async def _listens(one: MeterAddress) -> bool:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(one.host, one.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def knocks(port: int, seconds: float, told: Callable[[str], None]) -> dict[str, str]:
    """Chargers that try to connect, by identity, and from where; nobody is let in. Raises Misconfigured."""
    found: dict[str, str] = {}
    server = OcppServer(OcppSettings("0.0.0.0", port, {}), SystemClock())

    async def heard(event: Event) -> Applied:
        named = isinstance(event, AccessRefused) and event.reason == "unknown identity"
        if (
            isinstance(event, AccessRefused)
            and named
            and event.identity not in found
            and len(found) < MOST_KNOCKS
        ):
            found[event.identity] = event.peer
            told(f"  {event.identity} knocks from {event.peer}")
        return NOTHING

    logging.getLogger("drivers.ocpp").setLevel(logging.ERROR)  # each refusal is told here already
    serving = asyncio.create_task(server.run(heard))
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()
    watched = sys.stdin.isatty()
    if watched:
        loop.add_reader(sys.stdin.fileno(), enough.set)
    try:
        waiting = asyncio.create_task(enough.wait())
        await asyncio.wait({serving, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()
    finally:
        if watched:
            loop.remove_reader(sys.stdin.fileno())
            if enough.is_set():
                sys.stdin.readline()  # the Enter that ended it
        serving.cancel()
        await asyncio.wait({serving})
    return found
