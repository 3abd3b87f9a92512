"""Composition: a config becomes drivers, a core and a runtime. The one place that knows every family."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, cast

from controller.audit import EgressBook
from controller.channel_calls import ChannelCalls
from controller.cli.books import FinishedSessions
from controller.config import Config
from controller.consent import Channel, Decisions, Switch
from controller.console import Console
from controller.core.depot import Depot
from controller.core.events import ChannelChanged
from controller.core.model import Evse, StationId, number_of
from controller.core.snapshot import Snapshot
from controller.ledger import Ledger
from controller.notify import Notifier
from controller.planner import rules
from controller.ports import Charger, Clock, Driver
from controller.runtime import Runtime, Wires
from controller.station_calls import StationCalls
from controller.storage import Storage
from drivers.errors import DriverError
from drivers.modbus.bus import MeterSettings, ModbusMeters
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import OcppSettings, StationSettings
from drivers.openplatform.clients import LocalClient
from drivers.openplatform.onsite import OnsiteCharger, OnsiteHost, OnsiteSettings
from drivers.openplatform.operator import PlatformOperator
from drivers.openplatform.settings import CloudDevice, CloudSettings, address

log = logging.getLogger(__name__)


def first_line(group: BaseExceptionGroup[BaseException]) -> str | None:
    """The one line of the first driver error in a group, or None if something else went wrong."""
    mendable, rest = group.split(DriverError)
    error: BaseException | None = mendable
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if error is not None and rest is None else None


class House:
    """A depot put together from its config, not yet running."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.storage = Storage(config.storage_path)
        self.egress = EgressBook(self.storage, clock)
        self.ocpp = _ocpp(config, clock)
        self.cloud = _cloud(config, clock, self.egress)
        self.onsite = _onsite(config, clock, self.storage, self._look)
        self._runtime: Runtime | None = None
        drivers: list[Driver] = (
            [ModbusMeters([_meter(m) for m in config.meters], clock)] if config.meters else []
        )
        chargers: dict[str, Charger] = {}
        for channel, charger in (
            ("ocpp", self.ocpp),
            ("open-platform/cloud", self.cloud),
            ("open-platform/onsite", self.onsite),
        ):
            if charger is not None:
                drivers.append(charger)
                chargers[channel] = charger
        self.switches = [charger for charger in chargers.values() if isinstance(charger, Switch)]
        self.wires = Wires(drivers, chargers)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Runtime]:
        """Opens the books and restores what they know; closes them at the end. Raises LedgerError."""
        storage = self.storage
        await storage.open()
        try:
            self.egress.open()
            for switch in self.switches:
                if (decision := await Decisions(storage).newest(switch.channel)) is not None:
                    switch.decide(decision)
            ledger = Ledger(storage)
            known = await ledger.restore()
            depot = Depot(self.config.site, str(known.boot))
            runtime = Runtime(depot, self.clock, storage, ledger, rules.plan, Notifier())
            runtime.recorder.boot = known.boot
            await runtime.restore(known)
            self._runtime = runtime
            yield runtime
        finally:
            self._runtime = None
            self.egress.close()
            await storage.close()

    async def run(self, runtime: Runtime, others: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """Everything, until cancelled."""
        # what was imported and composed lives as long as the process: a collector that looks at it again and again
        # would only hold up steps
        gc.collect()
        gc.freeze()
        calls = ChannelCalls(runtime, self.switches, Decisions(self.storage), self.egress)
        stations = StationCalls(runtime, self.storage)
        console = Console(runtime, self.config.control_socket, {**calls.table, **stations.table})

        async def announce() -> None:
            if self.ocpp is not None:
                await self.ocpp.ready()
                await runtime.report(ChannelChanged("ocpp", "ok", f"listening on port {self.ocpp.port}"))

        await runtime.run(self.wires, (console.run, announce, *others))

    def _look(self) -> Snapshot | None:
        return None if self._runtime is None else self._runtime.snapshot


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it ends or SIGTERM or SIGINT comes; then it is cancelled and given time to leave."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
        log.info("stopped")
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)


def _evses(config: Config, station: StationId) -> dict[int, Evse]:
    return {number_of(evse.id): evse for evse in config.site.evses.values() if evse.station == station}


def _meter(meter: object) -> MeterSettings:
    names = ("id", "kind", "host", "port", "unit", "poll_s", "invert", "ct_ratio", "phases")
    return MeterSettings(**{name: getattr(meter, name) for name in names})


def _ocpp(config: Config, clock: Clock) -> OcppServer | None:
    if config.ocpp is None:
        return None
    stations = {
        station.station: StationSettings(
            _evses(config, station.station), station.password, station.allow_insecure
        )
        for station in config.ocpp.stations.values()
    }
    return OcppServer(OcppSettings(config.ocpp.host, config.ocpp.port, stations), clock)


def _cloud(config: Config, clock: Clock, book: EgressBook) -> Switch | None:
    """Off unless the customer's table stands in the config (the reader requires consent and purposes there)."""
    platform = config.open_platform
    if platform is None or platform.cloud is None:
        return None
    cloud = platform.cloud
    devices = {
        station.station: CloudDevice(station.device_id, _evses(config, station.station))
        for station in cloud.stations.values()
    }
    channel = Channel(
        "open-platform/cloud",
        address(cloud.base_url).host,
        cloud.region,
        platform.enabled_by,
        platform.purposes,
    )

    def operator(enabled_by: str, purposes: frozenset[str]) -> PlatformOperator:
        settings = CloudSettings(
            base_url=cloud.base_url,
            region=cloud.region,
            client_id=cloud.client_id,
            client_secret=cloud.client_secret,
            devices=devices,
            mode=cast("Literal['sole', 'companion']", platform.mode),
            purposes=purposes,
            enabled_by=enabled_by,
            timezone=config.site.timezone,
            site_ids=cloud.site_ids,
            sign_requests=cloud.sign_requests,
        )
        sent = partial(book.sent, channel.id, str(channel.host))
        return PlatformOperator(settings, clock, on_request=sent, on_answer=book.answered)

    return Switch(channel, operator)


def _onsite(
    config: Config, clock: Clock, storage: Storage, look: Callable[[], Snapshot | None]
) -> Switch | None:
    """The box as the platform of its own chargers; under the same consent as the hosted one."""
    platform = config.open_platform
    if platform is None or platform.onsite is None:
        return None
    onsite = platform.onsite
    chargers = {
        station.serial: OnsiteCharger(station.station, station.model, _evses(config, station.station))
        for station in onsite.stations.values()
    }
    clients = [LocalClient(client.id, client.secret, client.scopes) for client in onsite.clients]
    channel = Channel(
        "open-platform/onsite", f"{onsite.host}:{onsite.port}", "site", platform.enabled_by, platform.purposes
    )

    def host(enabled_by: str, purposes: frozenset[str]) -> OnsiteHost:
        settings = OnsiteSettings(
            listen_host=onsite.host,
            listen_port=onsite.port,
            tls_cert=onsite.tls_cert,
            tls_key=onsite.tls_key,
            chargers=chargers,
            clients=clients,
            enabled_by=enabled_by,
            purposes=purposes,
            site_zone=config.site.timezone,
        )
        vault = config.storage_path / "onsite.json"
        return OnsiteHost(settings, clock, vault, look, FinishedSessions(storage))

    return Switch(channel, host)
