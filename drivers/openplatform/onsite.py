"""The on-site host: the box itself is the platform, for its chargers and for programs on site, without internet.

Owns the listening socket, its TLS, the consent, and the life of the two surfaces: `devices` (chargers) and `clients`
(an energy manager, a console). Satisfies `controller.ports.Charger` on the channel "open-platform/onsite". Nothing
listens without the purpose "monitor"; limits, starts and stops need "control", discharge needs "v2g", upgrades
"firmware".

A limit is `set_power_limit` with the lease as its duration. It lies over the start's low `charge_power`, which is the
fallback, and falls back to it by the charger's own clock. Its lease begins when it reaches the charger, which a stalled
connection may delay: it expires after `Link.lease_slack_s`, 120 s at most, so the slack covers that.

Plain HTTP shows secrets to the network: it is spoken on the loopback address only.
Source: DESIGN sections 5 and 6, Open Platform REFERENCE sections 13 and 16, GAPS G-04, G-24.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from aiohttp import web

from controller.core.commands import (
    Command,
    DropPlan,
    DropSchedule,
    StartDischarge,
    Steering,
    StopCharging,
    StorePlan,
    StoreSchedule,
    StoreTokens,
    UpgradeFirmware,
)
from controller.core.events import ChannelChanged, CommandAccepted, CommandRefused, Event
from controller.core.frames import Trace
from controller.core.model import EvseId, StationId
from controller.core.readings import Readings
from controller.core.snapshot import Snapshot
from controller.ports import Clock, Report
from drivers.errors import Misconfigured, deaf
from drivers.openplatform.answers import WireLog, guard
from drivers.openplatform.bell import Bell
from drivers.openplatform.clients import ClientSurface, LocalClient
from drivers.openplatform.clients_books import Book, Books
from drivers.openplatform.devices import DeviceSurface, OnsiteCharger
from drivers.openplatform.devices_faults import CHANNEL
from drivers.openplatform.settings import is_loopback
from drivers.openplatform.traces import Traces
from drivers.openplatform.vault import Vault, VaultFull

__all__ = ["CHANNEL", "OnsiteCharger", "OnsiteHost", "OnsiteSettings"]

log = logging.getLogger(__name__)

TICK_S = 1.0
KEEPALIVE_S = 75.0  # longer than the longest poll: a charger keeps its connection between two
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class OnsiteSettings:
    """`chargers` by serial number; only these may register. `purposes` are the customer's consent, word by word."""

    listen_host: str
    listen_port: int
    tls_cert: Path | None
    tls_key: Path | None
    chargers: Mapping[str, OnsiteCharger]
    clients: Sequence[LocalClient]
    enabled_by: str
    purposes: frozenset[str]
    site_zone: str
    readings: Readings = field(default_factory=Readings)
    permits: Mapping[StationId, frozenset[str]] = field(default_factory=dict)  # see `ClientSurface`


async def no_books(
    since: datetime | None, until: datetime | None, evses: Collection[EvseId], skip: int, limit: int
) -> tuple[int, Sequence[Book]]:
    """The books of a house that keeps none."""
    return 0, ()


class OnsiteHost:
    """`vault_path`: a file in the state folder. `look`: the newest snapshot. `books`: the finished sessions, for local
    clients. Raises Misconfigured for plain HTTP on a network."""

    def __init__(
        self,
        settings: OnsiteSettings,
        clock: Clock,
        vault_path: Path,
        look: Callable[[], Snapshot | None],
        books: Books = no_books,
    ) -> None:
        self.port = settings.listen_port  # the real one once `ready`
        self._settings = settings
        self._clock = clock
        self._vault_path = vault_path
        self._look = look
        self._books = books
        self._tls = _tls(settings)
        self._surface: DeviceSurface | None = None
        stations = (charger.station for charger in settings.chargers.values())
        self._traces = Traces(clock, {each: each for each in (*stations, *(c.id for c in settings.clients))})
        self._bound = asyncio.Event()
        self._failure: Misconfigured | None = None
        # What `send` found out. Grows with the commands given, which the depot paces by these very answers.
        self._unsaid: deque[Event | StoreSchedule | DropSchedule] = deque()
        self._work = Bell(clock)

    async def ready(self) -> None:
        """Returns when the port is bound, or nothing is to be bound; raises Misconfigured when it could not be."""
        await self._bound.wait()
        if self._failure is not None:
            raise self._failure

    def send(self, command: Command) -> None:
        """Never blocks, never raises; see `controller.ports.Charger`."""
        if isinstance(command, StoreTokens | StorePlan | DropPlan):
            self._unsaid.append(CommandRefused(command.id, "not offered by this channel"))
            self._work.ring()
            return
        purpose = _purpose(command)
        # whoever may discharge may also end it: a stop ends either direction (G-14)
        enough = {purpose, "v2g"} if isinstance(command, StopCharging) else {purpose}
        if not enough & self._settings.purposes:
            self._unsaid.append(CommandRefused(command.id, f"purpose {purpose} not consented"))
        elif isinstance(command, StoreSchedule | DropSchedule):
            self._unsaid.append(command)  # answered once the disk has it
        elif self._surface is None:
            self._unsaid.append(CommandRefused(command.id, "the host does not run"))
        else:
            self._unsaid.extend(self._surface.send(command))
        self._work.ring()

    def traces(self) -> list[Trace]:
        """See `controller.ports.Traced`."""
        return self._traces.told(CHANNEL)

    async def forget(self, serial: str) -> bool:
        """Lets a charger that lost its identity register again; False when it had none or the host does not run."""
        return False if self._surface is None else await self._surface.gate.forget(serial)

    async def run(self, report: Report) -> None:
        """Serves until cancelled. Raises Misconfigured when the port or the vault cannot be had."""
        self._failure = None
        if "monitor" not in self._settings.purposes:
            await report(self._channel("off", 'no consent to purpose "monitor"'))
            self._bound.set()
            await self._answer_commands(report)
        try:
            vault = Vault(self._vault_path)
            await vault.open(self._clock.now().utc.date())
            surface = DeviceSurface(
                self._settings.chargers,
                vault,
                self._clock,
                self._settings.readings,
                report,
                can_discharge="v2g" in self._settings.purposes,
            )
            runner, clients = await self._open(surface, report)
        except Misconfigured as wrong:
            self._failure = wrong
            self._bound.set()
            raise
        self._surface = surface
        try:
            await surface.gate.introduce()
            await report(self._channel("ok", f"listening on port {self.port}"))
            self._bound.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._answer_commands(report))
                tasks.create_task(self._tick(surface))
                tasks.create_task(clients.run())
        finally:
            self._surface = None
            self._bound.clear()
            self._unsaid.extend(surface.abandon())
            await runner.cleanup()

    async def _open(self, surface: DeviceSurface, report: Report) -> tuple[web.AppRunner, ClientSurface]:
        settings = self._settings
        clients = ClientSurface(
            settings.clients,
            surface.devices,
            self._look,
            report,
            self._clock,
            self._books,
            settings.purposes,
            settings.readings,
            permits=settings.permits,
        )
        app = web.Application(middlewares=[self._traces.middleware(), guard])
        app.add_routes([*surface.routes(), *clients.routes()])
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=WireLog(),
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=_CLOSE_S,
        )
        await runner.setup()
        where = f"{settings.listen_host}:{settings.listen_port}"
        try:
            await web.TCPSite(
                runner, settings.listen_host, settings.listen_port, ssl_context=self._tls
            ).start()
        except OSError as error:
            await runner.cleanup()
            raise Misconfigured(
                f"open platform cannot listen on {where}: {deaf(error, '[open_platform.onsite] listen')}"
            ) from None
        self.port = runner.addresses[0][1]
        log.info("open platform host listens on %s, port %d", settings.listen_host, self.port)
        return runner, clients

    async def _answer_commands(self, report: Report) -> None:
        while True:
            while self._unsaid:
                said = self._unsaid.popleft()
                if isinstance(said, StoreSchedule | DropSchedule):
                    said = await self._planned(said)
                await report(said)
            await self._work.wait()

    async def _planned(self, command: StoreSchedule | DropSchedule) -> Event:
        """Has the charger keep a schedule, or no longer; it is told when it is there. Ours is on the disk then."""
        surface = self._surface
        if surface is None:
            return CommandRefused(command.id, "the host does not run")
        try:
            if isinstance(command, StoreSchedule):
                surface.plans.keep(command.evse, command.schedule, self._clock.now())
            else:
                surface.plans.drop(command.evse, command.schedule, self._clock.now())
            await surface.commit()
        except (ValueError, VaultFull) as error:
            return CommandRefused(command.id, str(error))
        return CommandAccepted(command.id)

    async def _tick(self, surface: DeviceSurface) -> None:
        while True:
            await surface.tick()
            await self._clock.sleep(TICK_S)

    def _channel(self, state: str, text: str) -> ChannelChanged:
        host = f"{self._settings.listen_host}:{self.port}"
        return ChannelChanged(CHANNEL, state, text, host, "site", self._settings.enabled_by)


def _purpose(command: Steering | UpgradeFirmware | StoreSchedule | DropSchedule) -> str:
    match command:
        case StartDischarge():
            return "v2g"
        case UpgradeFirmware():
            return "firmware"
        case _:
            return "control"


def _tls(settings: OnsiteSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None and settings.tls_key is None:
        if not is_loopback(settings.listen_host):
            raise Misconfigured(
                f"open platform host on {settings.listen_host}: without tls_cert and tls_key only 127.0.0.1 is allowed"
            )
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise Misconfigured("open platform host: tls_cert and tls_key go together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"open platform host: {settings.tls_cert}: {error.strerror or error}") from None
    return context
