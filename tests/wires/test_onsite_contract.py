"""The on-site host against its own API description: requests for every operation of the charger and operator surface,
good ones, bad ones at every border of their schema, and random ones, on a real socket.

No failure of ours (5xx), only documented status codes, content types, headers and bodies; and nothing that breaks the
description is taken, where the description is all there is to say (`NOT_STRICT`). A check that never got past the door
would check nothing: most cases carry a valid token and the ids of a charger that exists, and each operation counts how
many of them got in and how many were taken. `positive_data_acceptance` is left out on purpose: ids that do not exist
are 404 or 409 however well they are written. The legacy surface is not offered.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.internal.conjecture.providers import HypothesisProvider
from onsite_clients_bench import AMPLE, PAUSE, PLAN, charging, picture, view
from onsite_devices_bench import ALL, NOON, HandClock, Heard, a_charger, limit
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from websockets.sync.client import connect

from controller.core.model import EvseId, EvseState
from drivers.openplatform import devices_gate
from drivers.openplatform.clients import LocalClient
from drivers.openplatform.clients_books import Book
from drivers.openplatform.onsite import OnsiteHost, OnsiteSettings

DESCRIPTION = Path(devices_gate.__file__).with_name("openapi.yaml")
SCHEMA = schemathesis.openapi.from_path(DESCRIPTION).include(path_regex="^/v1/(operator|device)/")
OPERATIONS = {found.ok().definition.raw["operationId"]: found.ok() for found in SCHEMA.get_all_operations()}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
# Where a charger reports facts, unknown words, null for "absent" and fields nobody reads (the vehicle's identity) are no
# reason to lose the fact (G-17).
NOT_STRICT = {
    "heartbeat",
    "uploadTelemetry",
    "reportEvent",
    "uploadChargingRecord",
    "reportCommandStatus",
    "reportFirmwareStatus",
}
PATIENCE_S = 10.0
STEP_S = 7.0  # passes between two requests: the smallest quota, 10 a minute, never runs dry
RANDOM = {
    GenerationMode.POSITIVE: 10,
    GenerationMode.NEGATIVE: 4,
}  # cases of each operation beside the systematic ones
FIRMWARE, MODEL = "260420.0107", "TP-AC22"
CLIENTS = (
    LocalClient("ems", "ems-secret", frozenset({"read", "write"})),
    LocalClient("viewer", "viewer-secret", frozenset({"read"})),
)
ME = {"operator": "ems"}  # which group a client means by its own operator id
SENSE = {"setSchedule": PLAN, "sendFlexibility": PAUSE}  # which values make sense together no schema says
BOOKS = tuple(
    Book(f"r{hours}", EvseId("OPERATOR/1"), NOON - timedelta(hours=hours), NOON, energy_wh, soc_start=20)
    for hours, energy_wh in ((1, 7_000), (2, -3_000), (30, 40_000))
)


async def read_books(
    since: datetime | None, until: datetime | None, evses: Collection[EvseId], skip: int, limit: int
) -> tuple[int, Sequence[Book]]:
    found = [
        book
        for book in reversed(BOOKS)
        if book.evse in evses
        and (since is None or book.started >= since)
        and (until is None or book.started < until)
    ]
    return len(found), found[skip : skip + limit]


class House:
    """The host in a thread of its own, with one charger for each charger operation, so that none disturbs another."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.heard = HandClock(), Heard()
        self.http = requests.Session()
        names = [*OPERATIONS, "OPERATOR", *(f"new-{n}" for n in range(100))]
        chargers = {name: a_charger(name) for name in names}
        self.strangers = iter(names[-100:])
        shown = picture(charging("OPERATOR/1"), view("OPERATOR/2", EvseState.FAULTED), at=NOON)
        told = OnsiteSettings("127.0.0.1", 0, None, None, chargers, CLIENTS, "J", ALL, "UTC", AMPLE)
        self.host = OnsiteHost(told, self.clock, folder / "vault.json", lambda: shown, read_books)
        self._loop = asyncio.new_event_loop()
        self._up, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        running = asyncio.create_task(self.host.run(self.heard.report))
        await self.host.ready()
        self._up.set()
        await self._stop.wait()
        running.cancel()
        await asyncio.wait({running})

    def __enter__(self) -> House:
        self._thread.start()
        assert self._up.wait(PATIENCE_S)
        self.url = f"http://127.0.0.1:{self.host.port}"
        self.device_id, _ = self.register("OPERATOR")
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._loop.close()

    def pass_time(self, command_for: str | None = None) -> None:
        """A quota's worth of time; with a new limit at the hatch for both connectors of a charger, so that a poll need
        not wait for real. Done before the next request is read."""

        def work() -> None:
            self.clock.advance(STEP_S)
            if command_for is not None:
                for number in (1, 2):
                    self.host.send(limit(f"c-{self.clock.mono_s}-{number}", evse=f"{command_for}/{number}"))

        self._loop.call_soon_threadsafe(work)

    def post(self, path: str, token: str = "", **body: Any) -> Any:
        self.pass_time()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self.http.post(f"{self.url}{path}", json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def register(self, serial: str) -> tuple[str, str]:
        data = self.post("/v1/device/register", **introduction(serial))["data"]
        return data["device_id"], data["device_secret"]

    def client_token(self, client: str = "ems") -> str:
        who = {"client_id": client, "client_secret": f"{client}-secret", "grant_type": "client_credentials"}
        return str(self.post("/v1/operator/oauth/token", **who)["access_token"])


def introduction(serial: str) -> dict[str, str]:
    return {"sn": serial, "model": MODEL, "manufacturer": "T", "firmware_version": FIRMWARE}


class Visit:
    """All requests to one operation: who asks, for what, and what came of it."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.operation = OPERATIONS[name]
        self.is_charger = "/device/" in self.operation.path
        self.sent = self.entered = self.taken = 0
        self.answers: Counter[int] = Counter()
        self.known: dict[str, Any] = {}
        if self.is_charger and name != "registerDevice":
            self.known = dict(zip(("device_id", "device_secret"), house.register(name), strict=True))
            grant = house.post("/v1/device/token", **self.known, grant_type="client_credentials")
            self.token = grant["access_token"]
            self.strange = house.client_token()
            beat = {"timestamp": "2026-06-02T12:00:00Z", "status": "online", "fault_code": 0}
            house.post("/v1/device/heartbeat", self.token, **beat)
            if name == "reportCommandStatus":
                self.known["command_id"] = self.fetched_command()
        else:
            self.token, self.strange = house.client_token(), house.client_token("viewer")
            path = f"/v1/operator/devices/{house.device_id}/connectors/1/start"
            self.known["command_id"] = house.post(path, self.token)["data"]["command_id"]

    def fetched_command(self) -> str:
        self.house.pass_time(command_for=self.name)
        where, who = f"{self.house.url}/v1/device/commands", {"Authorization": f"Bearer {self.token}"}
        polled = self.house.http.get(where, params={"connector_id": 1}, headers=who, timeout=PATIENCE_S)
        return str(polled.json()["data"]["command_id"])

    def cases(self) -> Iterator[Any]:
        """From the description alone, the same ones every time."""
        generation = SCHEMA.config.generation
        yield from SCHEMA.iter_coverage_cases(
            self.operation, generation_modes=list(RANDOM), generation_config=generation
        )
        for mode in RANDOM:
            yield from drawn(self.operation, mode)

    def send(self, case: Any) -> None:
        """Every eighth case comes without a token, and every eighth with one that opens something else."""
        self.sent += 1
        token = {3: "", 7: self.strange}.get(self.sent % 8, self.token)
        if self.sent % 4 != 1:
            self.make_true(case)
        self.house.pass_time(command_for=self.name if self.name == "pollCommand" else None)
        headers = {"Authorization": f"Bearer {token}"}
        response = case.call(
            base_url=self.house.url, session=self.house.http, headers=headers, timeout=PATIENCE_S
        )
        checks = CHECKS if self.name in NOT_STRICT else [*CHECKS, negative_data_rejection]
        case.validate_response(response, checks=checks, headers=headers)
        self.answers[response.status_code] += 1
        in_the_way = (401, 403, 405, 429)
        self.entered += response.status_code not in in_the_way
        self.taken += response.status_code == 200

    def make_true(self, case: Any) -> None:
        """Puts ids and secrets that exist where the case has any, unless it is about their being wrong."""
        about = case.meta.phase.data.parameter_location if case.meta.phase.data else None
        if case.meta.generation.mode is GenerationMode.POSITIVE:
            parts = [case.path_parameters, case.query, case.body]
        else:
            parts = [case.path_parameters] if about != "path" else []
        for part in parts:
            if isinstance(part, dict):
                part.update({name: value for name, value in self.truth(part).items() if name in part})

    def truth(self, part: dict[str, Any]) -> dict[str, Any]:
        if self.name == "registerDevice":
            return introduction(next(self.house.strangers, "nobody is left"))
        true = {"connector_id": 1, **self.known}
        if self.name == "reportFirmwareStatus":
            true["firmware_version"] = FIRMWARE  # another one could close the gate behind itself
        if not self.is_charger:
            true |= {"device_id": self.house.device_id, "client_id": "ems", "client_secret": "ems-secret"}
            true |= {"timezone": "Europe/Berlin", "target_ids": [ME.get(part.get("target_type"), "site")]}
        if self.sent % 4 == 2:
            true |= SENSE.get(self.name, {})
        return true


def drawn(operation: Any, mode: GenerationMode) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=RANDOM[mode],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        found.append(case)

    # Constants come from whatever modules of ours are imported: which tests ran before would decide what is sent.
    with (
        pytest.MonkeyPatch.context() as patch,
        suppress(Unsatisfiable),  # an id in a path has no wrong form
    ):
        patch.setattr(HypothesisProvider, "_maybe_draw_constant", lambda *_, **__: None)
        collect()
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with pytest.MonkeyPatch.context() as patch, House(tmp_path_factory.mktemp("house")) as built:
        patch.setattr(devices_gate, "REFUSE_AFTER_S", 0.0)
        yield built


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_host_does_what_its_description_says(house: House, name: str) -> None:
    visit = Visit(house, name)
    for case in visit.cases():
        visit.send(case)
    assert visit.entered >= 8, visit.answers
    if name != "openStream":  # the next test opens it
        assert visit.taken >= 4, visit.answers
    if name not in ("operatorToken", "deviceToken", "registerDevice"):
        assert visit.answers[401] >= 2, visit.answers


def test_the_stream_says_what_its_description_says(house: House) -> None:
    document = dict(SCHEMA.raw_schema)
    frame = {"$ref": "#/components/schemas/TelemetryFrame", "components": document["components"]}
    where = f"ws{house.url.removeprefix('http')}/v1/operator/stream?devices={house.device_id}"
    who = {"Authorization": f"Bearer {house.client_token()}"}
    with connect(where, additional_headers=who, proxy=None) as stream:
        said = json.loads(stream.recv(timeout=PATIENCE_S))
    jsonschema_rs.validator_for(frame).validate(said)
    assert [connector["state"] for connector in said["connectors"]] == ["charging", "fault"]


def test_every_operation_is_offered_and_the_legacy_surface_is_not(house: House) -> None:
    assert len(OPERATIONS) == 21
    legacy = [
        path for path in SCHEMA.raw_schema["paths"] if not path.startswith(("/v1/operator/", "/v1/device/"))
    ]
    assert len(legacy) == 8
    for path in legacy:
        answer = house.http.put(f"{house.url}{path}", json={}, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["code"]) == (404, 3001)
