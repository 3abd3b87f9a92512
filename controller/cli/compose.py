"""Composition: a config becomes drivers, a core and a runtime. The one place that knows every family."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from importlib import metadata
from typing import Any, Literal, cast

from controller.alarm_calls import AlarmCalls
from controller.ask_calls import AskCalls
from controller.audit import EgressBook
from controller.books_calls import BALLAST_BYTES, BooksCalls, blind
from controller.channel_calls import ChannelCalls
from controller.cli import codes
from controller.cli.books import FinishedSessions
from controller.clock_watch import ClockWatch
from controller.companion import Companion, without_sessions
from controller.config import Config, MeterConfig, MqttConfig
from controller.config.stations import CLOUD_LINK, ONSITE_LINK
from controller.consent import Channel, Decision, Decisions, Switch
from controller.console import Console
from controller.core.depot import Depot
from controller.core.events import ChannelChanged
from controller.core.frames import Trace
from controller.core.model import Evse, Link, MeterRole, StationId, number_of
from controller.core.sessions import NO_TRANSACTION
from controller.core.snapshot import Snapshot
from controller.evidence_calls import EvidenceCalls
from controller.export_calls import ExportCalls
from controller.frame_calls import FrameCalls
from controller.history_calls import HistoryCalls
from controller.journal import Journal, fingerprint
from controller.key_calls import KeyCalls
from controller.learning import Learning
from controller.ledger import Ledger, LedgerError, Restored
from controller.log_calls import LogCalls
from controller.metrics_door import MetricsDoor
from controller.notify import Notifier
from controller.onboard_calls import OnboardCalls
from controller.outlook import Outlook
from controller.plan_calls import PlanCalls
from controller.planner.worker import PlanWorker
from controller.ports import BatteryOutput, Charger, Clock, Driver, Traced
from controller.preview_calls import PreviewCalls
from controller.proof_calls import ProofCalls
from controller.retention import Retention
from controller.roster_calls import RosterCalls
from controller.runtime import Runtime, Wires
from controller.session_calls import SessionCalls
from controller.station_calls import StationCalls
from controller.storage import Storage
from controller.tariff_file import TariffKeeper
from controller.token_calls import TokenCalls
from controller.what_if_calls import WhatIfCalls
from drivers.errors import DriverError, Misconfigured
from drivers.modbus import guards
from drivers.modbus.bus import ContactSettings, MeterSettings, ModbusMeters, OutputSettings
from drivers.mqtt.link import MqttLink
from drivers.mqtt.settings import MqttSettings
from drivers.ocpp.inquiries import Inquiries
from drivers.ocpp.octt import ConformanceDoor, loopback
from drivers.ocpp.proof import Proving
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import OcppSettings, Policy, StationSettings
from drivers.ocpp.tls import TlsSettings
from drivers.openplatform.clients import LocalClient
from drivers.openplatform.onsite import OnsiteCharger, OnsiteHost, OnsiteSettings
from drivers.openplatform.operator import PlatformOperator
from drivers.openplatform.settings import CloudDevice, CloudSettings, address

log = logging.getLogger(__name__)


def first_line(group: BaseExceptionGroup[BaseException]) -> str | None:
    """The one line of the first driver or ledger error in a group, or None if something else went wrong."""
    mendable, rest = group.split((DriverError, LedgerError))
    error: BaseException | None = mendable
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if error is not None and rest is None else None


class House:
    """A depot put together from its config, not yet running."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.storage = Storage(config.storage_path, ballast=BALLAST_BYTES)
        self.egress = EgressBook(self.storage, clock)
        self.ocpp = _ocpp(config, clock)
        self.cloud = _cloud(config, clock, self.egress)
        self.onsite = _onsite(config, clock, self.storage, self._look)
        self.tariff = (
            None if config.tariff is None else TariffKeeper(config.tariff, config.site.timezone, clock)
        )
        self.worker = PlanWorker()
        self.asked = PlanWorker(steers=False)  # what only answers questions
        self.outlook: Outlook | None = None  # once the books are open
        self._runtime: Runtime | None = None
        self.journal: Journal | None = None  # once the books are open
        self._led = frozenset(evse.id for evse in config.site.evses.values() if evse.companion is not None)
        self._seen: tuple[Snapshot | None, Snapshot | None] = (None, None)
        self.modbus = _modbus(config, clock)
        drivers: list[Driver] = [] if self.modbus is None else [self.modbus]
        chargers: dict[str, Charger] = {}
        for channel, charger in (
            ("ocpp", self.ocpp),
            ("open-platform/cloud", self.cloud),
            ("open-platform/onsite", self.onsite),
        ):
            if charger is not None:
                permits = _permits(config, channel)
                chargers[channel] = Companion(charger, channel, permits) if permits else charger
                drivers.append(chargers[channel])
        if config.mqtt is not None:
            drivers.append(_mqtt(config, config.mqtt, clock, self._newest))
        self.switches = [switch for switch in (self.cloud, self.onsite) if switch is not None]
        batteries: dict[str, BatteryOutput] = (
            {} if self.modbus is None else {each.channel: self.modbus for each in config.site.batteries}
        )
        self.wires = Wires(drivers, chargers, batteries)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Runtime]:
        """Opens the books and restores what they know; closes them at the end. Raises LedgerError."""
        storage = self.storage
        await storage.open()
        try:
            self.egress.open()
            for switch in self.switches:
                if storage.away:  # a consent may have been withdrawn: nobody knows
                    switch.decide(Decision(switch.channel.id, False, "depot", self.clock.now().utc))
                elif (decision := await Decisions(storage).newest(switch.channel)) is not None:
                    switch.decide(decision)
            ledger = Ledger(storage)
            known = blind(self.config.site, self.clock.now()) if storage.away else await ledger.restore()
            depot = Depot(self.config.site, str(known.boot))
            runtime = Runtime(depot, self.clock, storage, ledger, self.worker.plan, Notifier())
            runtime.recorder.boot = known.boot
            self.journal = Journal(storage.folder, fingerprint(self.config.path), ledger)
            self.journal.open()
            runtime.witnesses.append(self.journal.observe)
            if self.ocpp is not None:
                _recall(self.ocpp, known)
            if self.tariff is not None:
                await self.tariff.look(runtime.report)  # before the sessions whose energy it prices
            await runtime.restore(known)
            self.outlook = Outlook(depot, self.clock, storage, lambda: runtime.snapshot)
            await self.outlook.open()
            runtime.planning.complete = self.outlook.complete
            self._runtime = runtime
            yield runtime
        finally:
            self._runtime = None
            if self.journal is not None:
                self.journal.close()
            self.egress.close()
            await storage.close()

    async def run(self, runtime: Runtime, others: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """Everything, until cancelled."""
        # what was imported and composed lives as long as the process: a collector that looks at it again and again
        # would only hold up steps
        gc.collect()
        gc.freeze()
        calls = ChannelCalls(runtime, self.switches, Decisions(self.storage), self.egress)
        gate = self.config.readings.firmware_gate
        stations = StationCalls(runtime, self.storage, gate, None if self.ocpp is None else self.ocpp.ways)
        tokens = TokenCalls(runtime)
        asks = AskCalls(runtime, None if self.ocpp is None else Inquiries(self.ocpp, self.clock))
        keys = KeyCalls(None if self.ocpp is None else self.ocpp.security, runtime.report)
        proofs = ProofCalls(runtime, self.storage, None if self.ocpp is None else Proving(self.ocpp))
        doors = OnboardCalls(runtime, self.config, self.ocpp)
        plans = PlanCalls(runtime, self.outlook)
        what_if = WhatIfCalls(runtime, plans, self.asked.plan)
        tonight = (RosterCalls(runtime), plans, PreviewCalls(runtime), what_if)
        tables = (calls, stations, tokens, asks, keys, proofs, doors, *tonight)
        assert self.journal is not None
        evidence = EvidenceCalls(runtime, self.storage, self.egress, self.journal)
        lately = (
            AlarmCalls(runtime, self.storage, codes.entry),
            LogCalls(runtime, self.storage),
            FrameCalls(runtime, self.traces),
            ExportCalls(runtime, self.storage),
            HistoryCalls(runtime, self.storage),
            SessionCalls(runtime, self.storage),
        )
        books = BooksCalls(runtime, self.storage)
        more = {
            name: call for each in (*tables, evidence, books, *lately) for name, call in each.table.items()
        }
        console = Console(runtime, self.config.control_socket, more, self.config.rights)

        async def announce() -> None:
            if self.ocpp is not None:
                await self.ocpp.ready()
                ports = " and ".join(str(port) for port in (self.ocpp.port, self.ocpp.tls_port) if port)
                await runtime.report(ChannelChanged("ocpp", "ok", f"listening on port {ports}"))

        learning = Learning(runtime, self.storage)
        ahead = [
            *self._looking_ahead(runtime),
            *self._seen_from_outside(runtime),
            books.run,
            books.backups.run,
            Retention(self.config.keep, self.storage, runtime.ledger, self.clock).run,
        ]
        await runtime.run(self.wires, (console.run, announce, proofs.run, learning.run, *ahead, *others))

    def traces(self) -> list[Trace]:
        """The last messages of every wire; those of a channel that was turned off are gone."""
        drivers = (self.ocpp, self.modbus, *(switch.driver for switch in self.switches))
        return [trace for each in drivers if isinstance(each, Traced) for trace in each.traces()]

    def _seen_from_outside(self, runtime: Runtime) -> list[Callable[[], Awaitable[None]]]:
        if self.config.metrics is None:
            return []
        address = (self.config.metrics.host, self.config.metrics.port)
        door = MetricsDoor(address, runtime, self.storage, self._quirks, self._queues)
        if self.ocpp is not None:
            self.ocpp.answered = door.answered
        return [door.run]

    def _queues(self) -> dict[str, int]:
        return {switch.channel.id: switch.waiting for switch in self.switches}

    def _quirks(self) -> dict[str, int]:
        ocpp = self.ocpp
        stations = () if ocpp is None or self.config.ocpp is None else self.config.ocpp.stations
        return {} if ocpp is None else {each: sum(ocpp.quirks(each).values()) for each in stations}

    def _looking_ahead(self, runtime: Runtime) -> list[Callable[[], Awaitable[None]]]:
        keeper = [] if self.tariff is None else [partial(self.tariff.run, runtime.report)]
        watch = ClockWatch.of(runtime, self.storage.folder)
        return [*([] if self.outlook is None else [self.outlook.run]), *keeper, *watch]

    def conformance_address(self, text: str) -> tuple[str, int]:
        """Host and port of --octt-trigger. Raises Misconfigured where this site must not have such a door."""
        if self.config.production:
            raise Misconfigured("--octt-trigger: production = true under [site] forbids it")
        if self.ocpp is None:
            raise Misconfigured("--octt-trigger: there is no [ocpp] in the config")
        return loopback(text)

    def conformance_door(self, address: tuple[str, int], runtime: Runtime) -> ConformanceDoor:
        assert self.ocpp is not None
        return ConformanceDoor(address, self.ocpp, self.clock, runtime.report, runtime.depot.tokens.find)

    def _newest(self) -> Snapshot | None:
        return None if self._runtime is None else self._runtime.snapshot

    def _look(self) -> Snapshot | None:
        """For programs on site; the same picture as long as nothing new was seen."""
        newest = self._newest()
        if newest is None or not self._led:
            return newest
        if newest is not self._seen[0]:
            self._seen = (newest, without_sessions(newest, self._led))
        return self._seen[1]


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


def _evses(config: Config, station: StationId, link: Link | None = None) -> dict[int, Evse]:
    """By number. `link`: as this channel sees them, whichever leads."""
    found = (evse for evse in config.site.evses.values() if evse.station == station)
    return {number_of(evse.id): evse if link is None else replace(evse, link=link) for evse in found}


def _permits(config: Config, channel: str) -> dict[StationId, frozenset[str]]:
    """At the stations of this channel that OCPP leads."""
    led = {evse.station for evse in config.site.evses.values() if evse.companion == channel}
    return {station: permit for station, permit in config.permits.items() if station in led}


def _meter(meter: MeterConfig) -> MeterSettings:
    if meter.role in (MeterRole.GRID, MeterRole.CIRCUIT) and not guards(meter.kind):
        raise Misconfigured(
            f"meter {meter.id}: kind {meter.kind} tells no currents, so it cannot guard a circuit"
        )
    names = (field.name for field in fields(MeterSettings))
    return MeterSettings(**{name: getattr(meter, name) for name in names})


def _modbus(config: Config, clock: Clock) -> ModbusMeters | None:
    """One driver for all that hangs on Modbus: units behind one address share its connection."""
    if not (config.meters or config.inputs or config.batteries):
        return None
    return ModbusMeters(
        [_meter(each) for each in config.meters],
        clock,
        [ContactSettings(**asdict(each)) for each in config.inputs],
        [OutputSettings(**asdict(each)) for each in config.batteries],
    )


def _mqtt(config: Config, mqtt: MqttConfig, clock: Clock, look: Callable[[], Snapshot | None]) -> MqttLink:
    most_ma = {evse.id: evse.max_ma for evse in config.site.evses.values()}
    version = metadata.version("depot-controller")
    settings = MqttSettings(**asdict(mqtt), site=config.site.name, version=version, max_ma=most_ma)
    return MqttLink(settings, clock, look)


def _ocpp(config: Config, clock: Clock) -> OcppServer | None:
    if config.ocpp is None:
        return None
    stations = {
        station.station: StationSettings(
            _evses(config, station.station),
            station.password,
            station.allow_insecure,
            station.version,
            station.security_profile,
            station.allow_from,
            station.assume_version,
        )
        for station in config.ocpp.stations.values()
    }
    tls = config.ocpp.tls
    settings = OcppSettings(
        config.ocpp.host,
        config.ocpp.port,
        stations,
        offline_tokens=cast("Policy", config.ocpp.offline_tokens),
        tls=None if tls is None else TlsSettings(**asdict(tls)),
        folder=config.storage_path,
    )
    return OcppServer(settings, clock)


def _recall(ocpp: OcppServer, known: Restored) -> None:
    """So that stations which go on as if nothing had happened are not taken for strangers."""
    running = [(session.evse, session.transaction) for session in known.sessions]
    # where only we closed the session, the transaction may still run: it has to be able to come to light again
    ended = [
        (session.evse, session.transaction)
        for session in known.closed
        if "stop-missing" not in session.marks and session.transaction not in NO_TRANSACTION
    ]
    ocpp.recall(running, ended)


def _cloud(config: Config, clock: Clock, book: EgressBook) -> Switch | None:
    """Off unless the customer's table stands in the config (the reader requires consent and purposes there)."""
    platform = config.open_platform
    if platform is None or platform.cloud is None:
        return None
    cloud = platform.cloud
    devices = {
        station.station: CloudDevice(station.device_id, _evses(config, station.station, CLOUD_LINK))
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
            readings=platform.readings,
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
        station.serial: OnsiteCharger(
            station.station, station.model, _evses(config, station.station, ONSITE_LINK)
        )
        for station in onsite.stations.values()
    }
    own = {evse.id for evse in config.site.evses.values() if evse.companion is None}
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
            readings=platform.readings,
            permits=_permits(config, channel.id),
        )
        vault = config.storage_path / "onsite.json"
        return OnsiteHost(settings, clock, vault, look, FinishedSessions(storage, own))

    return Switch(channel, host)
