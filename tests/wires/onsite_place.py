"""A host with everybody at work, and all 21 operations of its two surfaces as a table: path, token, a body that is right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onsite_clients_bench import AMPLE, CLIENTS, PAUSE, PLAN, picture, view
from onsite_devices_bench import Bench, Peer, limit, onsite, some_settings

from controller.core import events as ev

CONNECTOR = "operator/devices/{device}/connectors/1"
WHO = {"grant_type": "client_credentials"}
CLIENT = {"client_id": "ems", "client_secret": "ems-secret", **WHO}
SPAN = "granularity=day&start_time=2026-06-01T00:00:00Z&end_time=2026-06-02T00:00:00Z"
TELEMETRY = {
    "connector_id": 1,
    "state": "idle",
    "voltage": 230,
    "current": 0,
    "power": 0,
    "energy_delivered": 0,
}
RECORD = {
    "record_id": "r1",
    "connector_id": 1,
    "start_time": "2026-06-02T11:00:00Z",
    "end_time": "2026-06-02T11:30:00Z",
    "energy": 1.0,
    "max_power": 3,
    "avg_power": 2,
    "meter_start": 1,
    "meter_end": 2,
}
STRANGER = {"sn": "TP-2", "model": "TP-AC22", "manufacturer": "T", "firmware_version": "260420.0107"}


@dataclass(frozen=True, slots=True)
class Operation:
    """`path` below /v1, with places for ids; `good` None: it takes no body. `needs`: the scope, "device" a charger's
    token, "" none."""

    path: str
    needs: str
    good: dict[str, Any] | None = None

    @property
    def method(self) -> str:
        return "GET" if self.good is None else "POST"


OPERATIONS = {
    "operatorToken": Operation("operator/oauth/token", "", CLIENT),
    "listSites": Operation("operator/sites", "read"),
    "getDevice": Operation("operator/devices/{device}", "read"),
    "startCharging": Operation(f"{CONNECTOR}/start", "write", {"transaction_id": "t1"}),
    "stopCharging": Operation(f"{CONNECTOR}/stop", "write", {}),
    "startDischarge": Operation(f"{CONNECTOR}/discharge", "write", {"discharge_power": 5}),
    "setSchedule": Operation(f"{CONNECTOR}/schedule", "write", PLAN),
    "listChargingRecords": Operation("operator/charging-records", "read"),
    "getAggregatedEnergy": Operation(f"operator/aggregated/energy?{SPAN}", "read"),
    "sendFlexibility": Operation("operator/control/flexibility", "write", PAUSE),
    "getCommand": Operation("operator/commands/{ordered}", "read"),
    "openStream": Operation("operator/stream?devices={device}", "read"),
    "registerDevice": Operation("device/register", "", STRANGER),
    "deviceToken": Operation(
        "device/token", "", {"device_id": "{device}", "device_secret": "{secret}", **WHO}
    ),
    "heartbeat": Operation("device/heartbeat", "device", {"status": "online", "fault_code": 0}),
    "uploadTelemetry": Operation("device/telemetry", "device", TELEMETRY),
    "reportEvent": Operation(
        "device/events", "device", {"connector_id": 1, "event_type": "start", "data": {}}
    ),
    "uploadChargingRecord": Operation("device/charging-records", "device", RECORD),
    "pollCommand": Operation("device/commands?connector_id=1&wait=1", "device"),
    "reportCommandStatus": Operation(
        "device/command-status", "device", {"command_id": "{fetched}", "status": "accepted"}
    ),
    "reportFirmwareStatus": Operation(
        "device/firmware/status", "device", {"firmware_version": "260420.0107", "status": "success"}
    ),
}
GUARDED = [name for name, operation in OPERATIONS.items() if operation.needs]
WITH_BODY = [name for name, operation in OPERATIONS.items() if operation.good is not None]


class Place:
    """A host with a charger and two clients at work, and commands under way in both directions."""

    def __init__(self, bench: Bench, peer: Peer) -> None:
        self.bench, self.peer = bench, peer
        self.ids = {"device": peer.device_id, "secret": peer.secret}
        self.tokens: dict[str, str] = {}  # of the charger ("device") and of each client

    async def log_in(self) -> None:
        assert (await self.peer.login())[0] == 200
        for client in ("ems", "viewer", "hand"):
            who = {"client_id": client, "client_secret": f"{client}-secret", **WHO}
            status, answer = await self.bench.request("POST", "/v1/operator/oauth/token", who)
            assert status == 200
            self.tokens[client] = answer["access_token"]
        self.tokens["device"] = self.peer.token

    def path(self, operation: Operation) -> str:
        return f"/v1/{operation.path.format(**self.ids)}"

    def good(self, name: str) -> Any:
        """The body of a request that is right."""
        body = OPERATIONS[name].good
        if body is None:
            return None
        filled = {
            key: value.format(**self.ids) if isinstance(value, str) else value for key, value in body.items()
        }
        return {"timestamp": self.bench.stamp()} | filled if "device/" in OPERATIONS[name].path else filled

    def token(self, name: str) -> str:
        match OPERATIONS[name].needs:
            case "":
                return ""
            case "device":
                return self.tokens["device"]
            case _:
                return self.tokens["ems"]

    async def ask(
        self, name: str, body: Any = None, token: str | None = None, data: bytes | None = None
    ) -> tuple[int, Any]:
        """Time passes before each request, so that no quota is ever used up."""
        operation = OPERATIONS[name]
        self.bench.clock.advance(7)
        token = self.token(name) if token is None else token
        return await self.bench.request(operation.method, self.path(operation), body, token, data)

    @property
    def told(self) -> list[ev.Event]:
        """What came in from outside: no facts that time alone makes."""
        alone = ev.LinkDown | ev.CommandLost | ev.CommandRefused
        return [event for event in self.bench.heard.events if not isinstance(event, alone)]

    async def is_well(self, name: str) -> None:
        """The operation does for a good request what it always does; others too."""
        if name == "pollCommand":
            self.bench.host.send(limit("c2"))
        status, answer = await self.ask(name, self.good(name))
        # the stream is no WebSocket here, which is all there is to say against it
        assert (status, "WebSocket" in str(answer)) == ((400, True) if name == "openStream" else (200, False))
        assert (await self.peer.heartbeat())[0] == 200


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    settings = replace(some_settings(readings=AMPLE), clients=CLIENTS)
    shown = picture(view("CP1/1"), view("CP1/2"))
    async with onsite(folder, settings, look=lambda: shown) as bench:
        made = Place(bench, await bench.charger())
        await made.log_in()
        start = await made.ask("startCharging", {})
        made.ids["ordered"] = start[1]["data"]["command_id"]
        bench.host.send(limit("c1"))
        made.ids["fetched"] = (await made.peer.poll())["command_id"]
        await bench.heard.until(lambda: bench.heard.of(ev.CommandSent))
        yield made
