"""Composition: a config becomes drivers, a core and a runtime. The one place that knows every family."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

from controller.config import Config
from controller.console import Console
from controller.core.depot import Depot
from controller.core.events import ChannelChanged
from controller.core.model import Evse, StationId, number_of
from controller.ledger import Ledger
from controller.notify import Notifier
from controller.planner import rules
from controller.ports import Charger, Clock, Driver
from controller.runtime import Runtime, Wires
from controller.storage import Storage
from drivers.errors import DriverError
from drivers.modbus.bus import MeterSettings, ModbusMeters
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import OcppSettings, StationSettings
from drivers.openplatform.operator import PlatformOperator
from drivers.openplatform.settings import CloudDevice, CloudSettings

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
        self.ocpp = _ocpp(config, clock)
        self.cloud = _cloud(config, clock)
        drivers: list[Driver] = (
            [ModbusMeters([_meter(m) for m in config.meters], clock)] if config.meters else []
        )
        chargers: dict[str, Charger] = {}
        for channel, charger in (("ocpp", self.ocpp), ("open-platform/cloud", self.cloud)):
            if charger is not None:
                drivers.append(charger)
                chargers[channel] = charger
        self.wires = Wires(drivers, chargers)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Runtime]:
        """Opens the books and restores what they know; closes them at the end. Raises LedgerError."""
        storage = Storage(self.config.storage_path)
        await storage.open()
        try:
            ledger = Ledger(storage)
            known = await ledger.restore()
            depot = Depot(self.config.site, str(known.boot))
            runtime = Runtime(depot, self.clock, storage, ledger, rules.plan, Notifier())
            runtime.recorder.boot = known.boot
            await runtime.restore(known)
            yield runtime
        finally:
            await storage.close()

    async def run(self, runtime: Runtime, others: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """Everything, until cancelled."""
        console = Console(runtime, self.config.control_socket)

        async def announce() -> None:
            if self.ocpp is not None:
                await self.ocpp.ready()
                await runtime.report(ChannelChanged("ocpp", "ok", f"listening on port {self.ocpp.port}"))

        await runtime.run(self.wires, (console.run, announce, *others))


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


def _cloud(config: Config, clock: Clock) -> PlatformOperator | None:
    """Off unless the customer's table stands in the config (the reader requires consent and purposes there)."""
    platform = config.open_platform
    if platform is None or platform.cloud is None:
        return None
    cloud = platform.cloud
    devices = {
        station.station: CloudDevice(station.device_id, _evses(config, station.station))
        for station in cloud.stations.values()
    }
    settings = CloudSettings(
        base_url=cloud.base_url,
        region=cloud.region,
        client_id=cloud.client_id,
        client_secret=cloud.client_secret,
        devices=devices,
        mode=cast("Literal['sole', 'companion']", platform.mode),
        purposes=platform.purposes,
        enabled_by=platform.enabled_by,
        timezone=config.site.timezone,
        site_ids=cloud.site_ids,
    )
    return PlatformOperator(settings, clock)
