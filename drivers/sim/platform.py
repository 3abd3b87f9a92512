"""An honest fake of the hosted Open Platform: the whole operator surface on a real socket, chargers behind it.

Owns the HTTP side: routes, envelope, scopes and quotas, the stream's handshake, and the switches that make it fail.
It must not share a line with the client it tests. What chargers do with orders stands in `cloudcharger`, how orders
reach them in `clouddelivery`; the readings of the portal's gaps taken here:
- the token answer is bare, everything else wrapped (G-06); a `control_id` is no `command_id`, and a schedule call
  returns null (G-10). Schedule and flexibility calls answer 200 before any charger has them (G-12).
- `target_type: all` is accepted; at most 4 h; one unknown id fails the whole call, in `devices` too (G-12, G-15).
- tokens need the `read` scope for the stream, and a socket is cut when its token expires (G-15).
- control calls share 30/min, reads and command status 60/min (G-22).
All times are clock time, except `slow_s`. Source: Open Platform openapi.yaml, REFERENCE sections 3-12, GAPS.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from controller.ports import Clock
from drivers.sim.cloudaccess import Access, Quotas
from drivers.sim.cloudbooks import Energy, Records
from drivers.sim.cloudcharger import CloudCharger, Order
from drivers.sim.clouddelivery import Called, Delivery
from drivers.sim.cloudschedule import read_schedule
from drivers.sim.cloudstream import MAX_IDS, Listener, Streams
from drivers.sim.cloudwords import (
    Refusal,
    choice,
    digits,
    discharge_order,
    flexibility_order,
    paging,
    required,
    stamp,
    start_order,
    stop_order,
    text,
)

__all__ = ["CloudCharger", "Quotas", "SimPlatform"]

log = logging.getLogger(__name__)

TICK_S = 0.5
MAX_BODY = 64 * 1024
SEEN_BODIES = 100
CONNECTOR = "/operator/devices/{device_id}/connectors/{connector_id}"

_HTML = "<html><body><h1>Welcome to the guest network</h1></body></html>"
_COUNTED = ("idle", "charging", "fault")  # of the five states only these stand in `status_summary`

Body = Mapping[str, Any]
BODY = web.RequestKey("body", Mapping)  # where the middleware leaves the parsed body
Operation = Callable[[web.Request, Body], Any]


@dataclass(slots=True)
class Failure:
    """The next `times` requests (of `operation`; None = any but the token's) are refused like this."""

    status: int
    code: int
    details: Mapping[str, Any]
    times: int
    operation: str | None


class SimPlatform:
    """`await start()`, then keep `run()` running; `stop()` leaves nothing behind, and a `start()` after it takes the
    same port (a platform that was down). Whoever owns the physics steps the EVSEs. `latency`: least and most seconds
    from a call to its charger.

    requests  how often each operation (its operationId) was called, refused ones included
    bodies    the last 100 request bodies as (operation, parsed JSON)
    mute      requests are carried out but never answered
    slow_s    real seconds every answer is late
    html      an HTML page with `html_status` instead of any answer
    """

    def __init__(
        self,
        chargers: Sequence[CloudCharger],
        clock: Clock,
        client_id: str,
        client_secret: str,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: tuple[float, float] = (0.3, 1.5),
        seed: int = 0,
        quotas: Quotas | None = None,
    ) -> None:
        random = Random(seed)
        self.clock = clock
        self.access = Access(quotas or Quotas(), random)
        self.access.admit(client_id, client_secret)
        self.records = Records()
        self.energy = Energy()
        self.streams = Streams()
        self.delivery = Delivery(chargers, self.records, latency, random)
        self.requests: Counter[str] = Counter()
        self.bodies: deque[tuple[str, Any]] = deque(maxlen=SEEN_BODIES)
        self.mute = False
        self.slow_s = 0.0
        self.html = False
        self.html_status = 200
        self.operator_id = f"op-{client_id}"
        self._created = clock.now()
        self._failures: list[Failure] = []
        self._address = (host, port)
        self._runner: web.AppRunner | None = None

    @property
    def chargers(self) -> Mapping[str, CloudCharger]:
        """By device id."""
        return self.delivery.chargers

    @property
    def base_url(self) -> str:
        """Valid once started."""
        host, port = self._address
        return f"http://{host}:{port}/v1"

    async def start(self) -> None:
        """Opens the port. Raises OSError when it is taken."""
        app = web.Application(middlewares=[self._answer], client_max_size=MAX_BODY)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()
        self._address = self._runner.addresses[0][:2]
        self.tick()

    async def stop(self) -> None:
        self.streams.drop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def run(self) -> None:
        """Lets chargers and platform live until cancelled."""
        while True:
            self.tick()
            now_s = self.clock.now().mono_s
            self.streams.cut(partial(self.access.is_expired, now_s=now_s))
            await self.clock.sleep(TICK_S)

    def tick(self) -> None:
        """One step of every charger and its link, at the clock's now."""
        now = self.clock.now()
        for charger, telemetry in self.delivery.tick(now):
            connectors = [
                {
                    "connector_id": values["connector_id"],
                    "state": values["status"],
                    "power": values["power"],
                    "energy_delivered": values["energy_delivered"],
                }
                | ({"soc": values["soc"]} if "soc" in values else {})
                for values in telemetry
            ]
            frame = {"device_id": charger.device_id, "timestamp": stamp(now.utc), "connectors": connectors}
            self.streams.publish(charger.device_id, json.dumps(frame))
        self.energy.account(self.chargers.values(), now.utc)

    # --- switches for tests and the demo -----------------------------------------------------------------

    def fail_with(
        self,
        status: int,
        code: int,
        times: int = 1,
        operation: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Refuses the next `times` requests with this HTTP status and code, before anything is carried out."""
        self._failures = [failure for failure in self._failures if failure.times > 0]
        self._failures.append(Failure(status, code, details or {}, times, operation))

    def drop_streams(self) -> None:
        """Breaks every telemetry socket without a close frame."""
        self.streams.drop()

    def expire_tokens(self) -> None:
        """Every token given out so far is expired (2002); `run` then cuts their sockets."""
        self.access.expire_all()

    def set_offline(self, device_id: str, offline: bool = True) -> None:
        """Takes the charger's link away, or gives it back; the charger goes on by itself."""
        self.delivery.set_online(device_id, not offline, self.clock.now())

    # --- every request -----------------------------------------------------------------------------------

    def _routes(self) -> list[web.RouteDef]:
        def route(method: str, path: str, name: str, scope: str, operation: Operation) -> web.RouteDef:
            async def handle(request: web.Request) -> web.Response:
                kind = "queries" if method == "GET" else "control"
                now_s = self.clock.now().mono_s
                client = self.access.client(_bearer(request), scope, now_s)
                self.access.spend(client.id, kind, now_s)
                return _envelope(200, 0, "success", operation(request, request[BODY]))

            return web.route(method, f"/v1{path}", handle, name=name)

        return [
            web.post("/v1/operator/oauth/token", self._token, name="operatorToken"),
            web.get("/v1/operator/stream", self._stream, name="openStream"),
            route("GET", "/operator/sites", "listSites", "read", self._sites),
            route("GET", "/operator/devices/{device_id}", "getDevice", "read", self._device),
            route("POST", f"{CONNECTOR}/start", "startCharging", "write", self._control(start_order)),
            route("POST", f"{CONNECTOR}/stop", "stopCharging", "write", self._control(stop_order)),
            route(
                "POST", f"{CONNECTOR}/discharge", "startDischarge", "write", self._control(discharge_order)
            ),
            route("POST", f"{CONNECTOR}/schedule", "setSchedule", "write", self._schedule),
            route("GET", "/operator/charging-records", "listChargingRecords", "read", self._records),
            route("GET", "/operator/aggregated/energy", "getAggregatedEnergy", "read", self._energy),
            route("POST", "/operator/control/flexibility", "sendFlexibility", "write", self._flexibility),
            route("GET", "/operator/commands/{command_id}", "getCommand", "read", self._command),
        ]

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name or "unknown"
        self.requests[name] += 1
        if name == "openStream":
            await self._dawdle()
        if self.html:
            return web.Response(status=self.html_status, text=_HTML, content_type="text/html")
        answer: web.StreamResponse
        try:
            self._fail_if_told(name)
            request[BODY] = await self._body(request, name)
            answer = await handler(request)
        except Refusal as refusal:
            answer = _refused(refusal.status, refusal)
        except web.HTTPRequestEntityTooLarge:
            answer = _refused(400, Refusal(1001, "body too large"))
        except web.HTTPException as error:
            answer = _refused(error.status, Refusal(3001, "no such operation"))
        except Exception:
            log.exception("simulated platform failed in %s", name)
            answer = _refused(500, Refusal(9001, "internal error"))
        if name != "openStream":
            await self._dawdle()
        return answer

    async def _dawdle(self) -> None:
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.mute:
            await asyncio.Event().wait()  # until the client gives up

    def _fail_if_told(self, name: str) -> None:
        for failure in self._failures:
            meant = name != "operatorToken" if failure.operation is None else name == failure.operation
            if meant and failure.times > 0:
                failure.times -= 1
                refusal = Refusal(failure.code, "told to fail", **failure.details)
                refusal.status = failure.status
                raise refusal

    async def _body(self, request: web.Request, name: str) -> Body:
        """The JSON object sent along; an empty body is an empty object. Raises Refusal 1001."""
        sent = await request.read()
        if not sent:
            return {}
        try:
            body = json.loads(sent)
        except ValueError:
            body = None
        self.bodies.append((name, body))
        if not isinstance(body, dict):
            raise Refusal(1001, "the body must be a JSON object")
        return body

    # --- the operations ----------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response(self.access.issue(request[BODY], self.clock.now().mono_s))

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        token = _bearer(request) or request.query.get("token")
        client = self.access.client(token, "read", self.clock.now().mono_s)
        devices = frozenset(required(text(request.query, "devices"), "devices").split(","))
        if len(devices) > MAX_IDS:
            raise Refusal(1001, f"at most {MAX_IDS} chargers", field="devices")
        for device_id in devices:
            self.delivery.charger(device_id)
        return await self.streams.serve(request, Listener(client.id, token or "", devices))

    def _sites(self, request: web.Request, body: Body) -> dict[str, Any]:
        page, size = paging(request.query)
        status = choice(request.query, "status", ("active", "inactive"))
        ids = [] if status == "inactive" else sorted(self._site_ids())
        items = [self._site(site_id) for site_id in ids[(page - 1) * size : page * size]]
        return {"items": items, "total": len(ids), "page": page, "size": size}

    def _site(self, site_id: str) -> dict[str, Any]:
        here = [charger for charger in self.chargers.values() if charger.site_id == site_id]
        states = Counter(c.status for charger in here for c in charger.connectors)
        return {
            "site_id": site_id,
            "name": f"Simulated {site_id}",
            "total_connectors": states.total(),
            "status_summary": {state: states[state] for state in _COUNTED},
            "power_capacity": sum(charger.rated_kw for charger in here),
            "created_at": stamp(self._created.utc),
        }

    def _site_ids(self) -> set[str]:
        return {charger.site_id for charger in self.chargers.values()}

    def _device(self, request: web.Request, body: Body) -> dict[str, Any]:
        return self.delivery.device(self.delivery.charger(request.match_info["device_id"]))

    def _control(self, read: Callable[[Body], Called]) -> Operation:
        def operate(request: web.Request, body: Body) -> dict[str, Any]:
            charger, number = self._connector(request)
            command = self.delivery.queue(charger, number, read(body), self.clock.now())
            return {"command_id": command.id, "status": "queued"}

        return operate

    def _schedule(self, request: web.Request, body: Body) -> None:
        charger, number = self._connector(request)
        order = Order(self.delivery.new_id("sch"), number, read_schedule(body))
        self.delivery.dispatch(charger, order, self.clock.now())

    def _connector(self, request: web.Request) -> tuple[CloudCharger, int]:
        charger = self.delivery.charger(request.match_info["device_id"])
        number = required(digits(request.match_info, "connector_id", low=1), "connector_id")
        if number > len(charger.connectors):
            raise Refusal(3001, "no such resource")
        return charger, number

    def _records(self, request: web.Request, body: Body) -> dict[str, Any]:
        return self.records.page(request.query)

    def _energy(self, request: web.Request, body: Body) -> dict[str, Any]:
        return self.energy.series(request.query, self._site_ids())

    def _flexibility(self, request: web.Request, body: Body) -> dict[str, Any]:
        order = flexibility_order(body)
        known = {"all", f"operator:{self.operator_id}", *(f"site:{site_id}" for site_id in self._site_ids())}
        if not set(order.targets) <= known:
            raise Refusal(3001, "no such resource", field="target_ids")
        control_id = self.delivery.new_id("flx")
        for charger in self.chargers.values():
            mine = tuple(
                t for t in order.targets if not t.startswith("site:") or t == f"site:{charger.site_id}"
            )
            if mine:
                order_here = Order(control_id, None, replace(order, targets=mine))
                self.delivery.dispatch(charger, order_here, self.clock.now())
        return {"control_id": control_id, "status": "executing"}

    def _command(self, request: web.Request, body: Body) -> dict[str, Any]:
        return self.delivery.command(request.match_info["command_id"]).fields()


def _bearer(request: web.Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else None


def _envelope(status: int, code: int, message: str, data: Any, **more: Any) -> web.Response:
    return web.json_response({"code": code, "message": message, "data": data} | more, status=status)


def _refused(status: int, refusal: Refusal) -> web.Response:
    details = {"details": refusal.details} if refusal.details else {}
    return _envelope(status, refusal.code, str(refusal), None, **details)
