"""The operator surface for programs on site: an energy manager, a diagnostics console.

Owns the twelve operations as routes, who may call which (token, scope, the customer's purposes, quota), and what they
become: wishes for the core, by "client ID". It reads everything from the snapshot and the books and decides nothing
itself; whether a start happens is the core's business and shows in the command's status. A stop needs no purpose and
has a quota of its own, so that nothing a client did before can hold it up.
Must not see chargers, sockets of chargers, id tokens or vehicle identities.
Source: Open Platform openapi.yaml, REFERENCE sections 3.1 and 5 to 12, GAPS G-06, G-09, G-10, G-22, G-31.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from aiohttp import web

from controller.core.events import (
    AccessRefused,
    DischargeWished,
    FlexWished,
    ScheduleCleared,
    ScheduleSet,
    StartWished,
    StopWished,
)
from controller.core.model import SITE, Evse, EvseState, StationId
from controller.core.readings import Readings
from controller.core.snapshot import Snapshot
from controller.ports import Clock, Report
from drivers.openplatform.answers import (
    ABOUT,
    FORBIDDEN,
    INTERNAL,
    INVALID,
    UNAUTHORIZED,
    UNKNOWN,
    ApiError,
    choice,
    digits,
    invalid,
    missing,
    ok,
    read_json,
    text,
    token_answer,
)
from drivers.openplatform.clients_books import Books, energy_series, records_page
from drivers.openplatform.clients_commands import Commands, Kind
from drivers.openplatform.clients_stream import Listener, Streams
from drivers.openplatform.clients_words import (
    Cleared,
    LocalDevice,
    check_reason,
    device_fields,
    read_discharge,
    read_flexibility,
    read_paging,
    read_schedule,
    read_start,
    site_fields,
    views_of,
)
from drivers.openplatform.tokens import Grant, Quota, Tokens, bearer, is_same_secret

CHANNEL = "open-platform/onsite"
TICK_S = 0.25
_DEVICE = "/v1/operator/devices/{device_id}"
_CONNECTOR = f"{_DEVICE}/connectors/{{connector_id}}"

Operation = Callable[[web.Request, str], Awaitable[web.Response]]  # the request, the client's id


@dataclass(frozen=True, slots=True)
class LocalClient:
    """A program on site. `scopes`: read, write or both; one does not include the other."""

    id: str
    secret: str = field(repr=False)
    scopes: frozenset[str]


class ClientSurface:
    """`routes` go into an application with the `guard` of `answers`; `run` must run while they are served.

    devices: by device id, read live (a charger may register later). look: the newest snapshot. purposes: the customer's
    consent, word by word: "monitor" opens the reads, "control" start and schedule, "v2g" discharge, "flexibility" the
    group limit. `readings` hold the requests per minute and the other readings of the gaps. permits: by station that
    OCPP leads, which of start, stop and schedule the config permits here (G-27); what is not in it is ours alone.
    """

    def __init__(
        self,
        clients: Sequence[LocalClient],
        devices: Mapping[str, LocalDevice],
        look: Callable[[], Snapshot | None],
        report: Report,
        clock: Clock,
        books: Books,
        purposes: frozenset[str],
        readings: Readings | None = None,
        site_id: str = SITE,
        permits: Mapping[StationId, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        self._permits = permits
        self._clients = {client.id: client for client in clients}
        self._devices = devices
        self._look = look
        self._report = report
        self._clock = clock
        self._books = books
        self._purposes = purposes
        self._readings = readings or Readings()
        self._site_id = site_id
        self._tokens = Tokens()
        self._commands = Commands(self._readings.same_start_s, self._readings.queued_failed_s)
        self._streams = Streams(devices, look, self._readings.stream_every_s)
        self._gets = Quota(self._readings.gets_per_min)
        self._controls = Quota(self._readings.controls_per_min)
        self._stops = Quota(self._readings.controls_per_min)
        self._token_calls = Quota(self._readings.tokens_per_min)
        self._strangers = Quota(self._readings.tokens_per_min)  # failed token calls, per address

    def routes(self) -> list[web.RouteDef]:
        """All twelve operations."""
        read = partial(self._route, "GET", "read", self._gets)
        write = partial(self._route, "POST", "write", self._controls)
        return [
            web.post("/v1/operator/oauth/token", self._token),
            web.get("/v1/operator/stream", self._stream, allow_head=False),
            read("/v1/operator/sites", "monitor", self._sites),
            read(_DEVICE, "monitor", self._device),
            read("/v1/operator/charging-records", "monitor", self._records),
            read("/v1/operator/aggregated/energy", "monitor", self._energy),
            read("/v1/operator/commands/{command_id}", None, self._command),
            write(f"{_CONNECTOR}/start", "control", self._start),
            self._route("POST", "write", self._stops, f"{_CONNECTOR}/stop", None, self._stop),
            write(f"{_CONNECTOR}/discharge", "v2g", self._discharge),
            write(f"{_CONNECTOR}/schedule", "control", self._schedule),
            write("/v1/operator/control/flexibility", "flexibility", self._flexibility),
        ]

    async def run(self) -> None:
        """Follows commands and feeds the streams until cancelled; then every stream is ended."""
        try:
            while True:
                now = self._clock.now()
                snapshot = self._look()
                if snapshot is not None:
                    self._commands.observe(snapshot, now)
                self._streams.tick(now.mono_s)
                await self._clock.sleep(TICK_S)
        finally:
            self._streams.close()

    # --- who may ----------------------------------------------------------------------------------------------------

    def _route(
        self, method: str, scope: str, quota: Quota, path: str, purpose: str | None, operation: Operation
    ) -> web.RouteDef:
        async def handle(request: web.Request) -> web.Response:
            grant = self._admit(bearer(request.headers.get("Authorization")), scope, quota)
            request[ABOUT] = grant.holder
            self._need(purpose)
            return await operation(request, grant.holder)

        options = {"allow_head": False} if method == "GET" else {}
        return web.RouteDef(method, path, handle, options)

    def _admit(self, token: str | None, scope: str, quota: Quota) -> Grant:
        now_s = self._clock.now().mono_s
        grant = self._tokens.check(token, now_s, scope)
        quota.spend(grant.holder, now_s)
        return grant

    def _need(self, purpose: str | None) -> None:
        if purpose is not None and purpose not in self._purposes:
            raise ApiError(FORBIDDEN, f"the site's consent does not cover {purpose}")

    def _need_permit(self, evse: Evse, word: str) -> None:
        permit = self._permits.get(evse.station)
        if permit is not None and word not in permit:
            raise ApiError(FORBIDDEN, f"OCPP leads this connector, and the site does not permit {word} here")

    async def _token(self, request: web.Request) -> web.Response:
        body = await read_json(request, ("client_id", "client_secret", "grant_type"))
        name, secret = text(body, "client_id"), body["client_secret"]
        if not isinstance(secret, str):
            raise invalid("client_secret", None, "a text")
        choice(body, "grant_type", ("client_credentials",))
        now_s, peer = self._clock.now().mono_s, request.remote or "?"
        self._strangers.spend(peer, now_s, requests=0)
        client = self._clients.get(name or "")
        # an unknown client costs the same comparison, and an empty secret opens nothing
        if not is_same_secret(secret, client.secret if client else "") or client is None or not secret:
            self._strangers.spend(peer, now_s)
            reason = "unknown client" if client is None else "wrong secret"
            await self._report(AccessRefused(CHANNEL, name or "", peer, reason))
            raise ApiError(UNAUTHORIZED, "client not recognised")
        self._token_calls.spend(client.id, now_s)
        with_read = self._readings.write_includes_read and "write" in client.scopes
        scopes = client.scopes | {"read"} if with_read else client.scopes
        return token_answer(self._tokens.issue(client.id, scopes, now_s), self._readings.token_answer)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _sites(self, request: web.Request, client: str) -> web.Response:
        page, size = read_paging(request.query)
        status = choice(request.query, "status", ("active", "inactive"))
        snapshot = self._now_seen()
        site = site_fields(snapshot, self._devices, self._site_id, self._readings.phase_voltage_mv)
        sites = [] if status == "inactive" else [site]
        items = sites[(page - 1) * size : page * size]
        return ok({"items": items, "total": len(sites), "page": page, "size": size})

    async def _device(self, request: web.Request, client: str) -> web.Response:
        device = self._device_of(request)
        return ok(device_fields(device, views_of(self._now_seen()), self._site_id))

    async def _records(self, request: web.Request, client: str) -> web.Response:
        return ok(await records_page(self._books, self._devices, request.query))

    async def _energy(self, request: web.Request, client: str) -> web.Response:
        series = await energy_series(self._books, self._devices, request.query, self._site_id, client)
        return ok(series)

    async def _command(self, request: web.Request, client: str) -> web.Response:
        self._commands.observe(self._now_seen(), self._clock.now())
        return ok(self._commands.status(client, request.match_info["command_id"]))

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        token = bearer(request.headers.get("Authorization")) or request.query.get("token")
        grant = self._admit(token, "read", self._gets)
        self._need("monitor")
        given = request.query.get("devices", "")
        if not given:
            raise missing("devices")
        devices = frozenset(given.split(","))
        if len(devices) > self._readings.stream_ids:
            raise invalid("devices", None, f"at most {self._readings.stream_ids} chargers")
        if not devices <= self._devices.keys():
            # the operation documents no 404, and one unknown id fails the whole subscription (G-15)
            raise ApiError(INVALID, "no such charger", field="devices")
        listener = Listener(grant.holder, devices, grant.expires_s)
        return await self._streams.serve(request, listener, self._clock.now().mono_s)

    # --- acting -----------------------------------------------------------------------------------------------------

    async def _start(self, request: web.Request, client: str) -> web.Response:
        evse = self._evse_of(request)
        self._need_permit(evse, "start")
        body = await read_json(request)
        transaction = text(body, "transaction_id")
        wish = read_start(body, f"client {client}", evse, self._readings.phase_voltage_mv)
        known = self._commands.known(client, evse.id, transaction, self._clock.now())
        return _queued(known or await self._order(client, "start", wish, transaction))

    async def _stop(self, request: web.Request, client: str) -> web.Response:
        evse = self._evse_of(request)
        if not self._is_discharging(evse):  # what was begun here may be ended here (G-14)
            self._need_permit(evse, "stop")
        check_reason(await read_json(request))  # a stop carries nothing else
        return _queued(await self._order(client, "stop", StopWished("", f"client {client}", evse.id)))

    async def _discharge(self, request: web.Request, client: str) -> web.Response:
        evse = self._evse_of(request)
        wish = read_discharge(await read_json(request), f"client {client}", evse, self._readings)
        return _queued(await self._order(client, "discharge", wish))

    async def _schedule(self, request: web.Request, client: str) -> web.Response:
        evse, by = self._evse_of(request), f"client {client}"
        self._need_permit(evse, "schedule")
        schedule = read_schedule(await read_json(request), self._clock.now().utc)
        if isinstance(schedule, Cleared):
            await self._report(ScheduleCleared(by, evse.id, schedule.schedule))
        else:
            if any(slot.action == "discharge" for slot in schedule.slots):
                self._need("v2g")
            await self._report(ScheduleSet(by, evse.id, schedule))
        return ok()

    async def _flexibility(self, request: web.Request, client: str) -> web.Response:
        wanted = read_flexibility(await read_json(request), self._site_id, client, self._readings.flex_max_s)
        wish = FlexWished("", f"client {client}", SITE, wanted.percent, wanted.duration_s)
        control_id = await self._order(client, "flexibility", wish)
        return ok({"control_id": control_id, "status": "executing"})

    async def _order(
        self,
        client: str,
        kind: Kind,
        wish: StartWished | StopWished | DischargeWished | FlexWished,
        transaction: str | None = None,
    ) -> str:
        """Hands the wish to the core under a new command id. The id is known before the core is: a repeat that comes
        meanwhile finds it."""
        evse = None if isinstance(wish, FlexWished) else wish.evse
        command_id = self._commands.open(client, kind, evse, self._clock.now(), transaction)
        try:
            await self._report(replace(wish, order=command_id))
        except BaseException:
            self._commands.withdraw(command_id)
            raise
        return command_id

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _now_seen(self) -> Snapshot:
        snapshot = self._look()
        if snapshot is None:
            raise ApiError(INTERNAL, "the controller is starting")
        return snapshot

    def _device_of(self, request: web.Request) -> LocalDevice:
        device = self._devices.get(request.match_info["device_id"])
        if device is None:
            raise ApiError(UNKNOWN, "no such charger")
        return device

    def _is_discharging(self, evse: Evse) -> bool:
        snapshot = self._look()
        view = None if snapshot is None else views_of(snapshot).get(evse.id)
        return view is not None and view.state is EvseState.DISCHARGING

    def _evse_of(self, request: web.Request) -> Evse:
        device = self._device_of(request)
        number = digits(request.match_info, "connector_id", 1, 10**6)
        evse = None if number is None else device.evses.get(number)
        if evse is None:
            raise ApiError(UNKNOWN, "no such connector")
        return evse


def _queued(command_id: str) -> web.Response:
    return ok({"command_id": command_id, "status": "queued"}, "queued")
