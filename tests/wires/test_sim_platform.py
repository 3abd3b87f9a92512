"""The simulated Open Platform over real HTTP: tokens, scopes, envelope, quotas, faults on demand, the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from cloud_bench import PAUSE, SECRET, Bench, bench, frame, listening, running, van

from controller.clock import SystemClock
from drivers.sim.platform import Quotas


@pytest.fixture
async def depot() -> AsyncIterator[Bench]:
    async with bench() as one:
        yield one


# --- access ------------------------------------------------------------------------------------------------


async def test_token_answer_is_bare_and_old_tokens_stay_valid(depot: Bench) -> None:
    first = depot.token
    answer = await depot.log_in()
    assert answer.body == {"access_token": depot.token, "token_type": "Bearer", "expires_in": 86400}
    depot.token = first
    assert (await depot.get("/sites")).code == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"client_id": "depot", "client_secret": "wrong", "grant_type": "client_credentials"}, 401, 2001),
        ({"client_id": "nobody", "client_secret": SECRET, "grant_type": "client_credentials"}, 401, 2001),
        ({"client_id": "depot", "client_secret": SECRET}, 400, 1002),
        ({"client_id": "depot", "client_secret": SECRET, "grant_type": "password"}, 400, 1001),
        ([], 400, 1001),
    ],
)
async def test_token_refusals(depot: Bench, body: Any, status: int, code: int) -> None:
    answer = await depot.post("/oauth/token", body)
    assert (answer.status, answer.code, answer.body["data"]) == (status, code, None)


async def test_no_unknown_and_expired_tokens(depot: Bench) -> None:
    depot.platform.expire_tokens()
    assert [(a.status, a.code) for a in [await depot.get("/sites")]] == [(401, 2002)]
    depot.token = "made-up"
    assert [(a.status, a.code) for a in [await depot.get("/sites")]] == [(401, 2001)]
    depot.token = ""
    assert [(a.status, a.code) for a in [await depot.get("/sites")]] == [(401, 2001)]


async def test_tokens_live_a_day_of_clock_time(depot: Bench) -> None:
    depot.clock.mono_s += 86_399
    assert (await depot.get("/sites")).code == 0
    depot.clock.mono_s += 1
    assert (await depot.get("/sites")).code == 2002


async def test_scopes(depot: Bench) -> None:
    depot.platform.access.admit("reader", "r", ("read",))
    await depot.log_in("reader", "r")
    assert (await depot.get("/devices/dvc_1")).code == 0
    answer = await depot.post("/devices/dvc_1/connectors/1/stop")
    assert (answer.status, answer.code) == (403, 2003)


async def test_quotas_count_a_minute_and_say_how_long_to_wait() -> None:
    async with bench(quotas=Quotas(queries=2, control=1, tokens=1)) as depot:
        again = await depot.log_in()
        assert (again.status, again.code) == (429, 5001)
        assert (await depot.get("/sites")).code == 0
        depot.clock.mono_s += 20
        assert (await depot.get("/devices/dvc_1")).code == 0
        limited = await depot.get("/sites")
        assert (limited.status, limited.code, limited.body["details"]) == (
            429,
            5001,
            {"retry_after_seconds": 40},
        )
        await depot.order("stop")  # control has its own quota
        assert (await depot.post("/control/flexibility", PAUSE)).code == 5001
        depot.clock.mono_s += 40
        assert (await depot.get("/sites")).code == 0


# --- shape -------------------------------------------------------------------------------------------------


async def test_unknown_things_are_3001_in_the_envelope(depot: Bench) -> None:
    for path in ("/devices/dvc_9", "/commands/cmd_9", "/nothing/here"):
        answer = await depot.get(path)
        assert (answer.status, answer.code, answer.body["data"]) == (404, 3001, None), path
    assert (await depot.post("/devices/dvc_1/connectors/2/stop")).code == 3001
    assert (await depot.post("/devices/dvc_1/connectors/0/stop")).code == 1001
    assert (await depot.get("/devices/dvc_1/connectors/1/stop")).status == 405


async def test_device_shows_the_last_upload(depot: Bench) -> None:
    data = (await depot.get("/devices/dvc_1")).data
    assert {k: data[k] for k in ("sn", "firmware_version", "status", "site_id")} == {
        "sn": "SN-dvc_1",
        "firmware_version": "260420.0107",
        "status": "online",
        "site_id": "st-a",
    }
    assert data["connectors"] == [
        {
            "connector_id": 1,
            "status": "idle",
            "power": 0.0,
            "voltage": 230.0,
            "current": 0.0,
            "energy_delivered": 0.0,
            "last_telemetry_time": "2026-06-02T12:00:20Z",
        }
    ]
    depot.evses[0].plug(van(soc=0.42))
    assert (await depot.connector())["status"] == "idle"  # not uploaded yet
    depot.live(0.5)
    plugged = await depot.connector()
    assert (plugged["status"], plugged["soc"]) == ("preparing", 42)


async def test_sites_count_connectors_and_page() -> None:
    async with bench() as depot:
        depot.platform.chargers["dvc_2"].site_id = "st-b"
        depot.evses[1].break_down("GroundFailure")
        depot.live(0.5)
        second = (await depot.get("/sites", page="2", size="1")).data
        assert (second["total"], second["page"], second["size"]) == (2, 2, 1)
        assert second["items"][0]["site_id"] == "st-b"
        assert second["items"][0]["status_summary"] == {"idle": 0, "charging": 0, "fault": 1}
        assert (await depot.get("/sites", status="inactive")).data["items"] == []
        assert (await depot.get("/sites", size="101")).code == 1001
        assert (await depot.connector("dvc_2"))["status"] == "fault"


async def test_requests_are_counted_and_bodies_kept(depot: Bench) -> None:
    await depot.order("start", {"charge_power": 7})
    await depot.get("/sites")
    assert depot.platform.requests == {"operatorToken": 1, "startCharging": 1, "listSites": 1}
    assert depot.platform.bodies[-1] == ("startCharging", {"charge_power": 7})


# --- faults on demand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 1001),
        (400, 1002),
        (401, 2001),
        (401, 2002),
        (403, 2003),
        (404, 3001),
        (409, 4001),
        (429, 5001),
        (500, 9001),
    ],
)
async def test_fail_with_every_published_code(depot: Bench, status: int, code: int) -> None:
    depot.platform.fail_with(status, code, times=2, details={"retry_after_seconds": 7})
    await depot.log_in()  # the token call is not meant
    for _ in range(2):
        answer = await depot.get("/sites")
        assert (answer.status, answer.code, answer.body["details"]) == (
            status,
            code,
            {"retry_after_seconds": 7},
        )
    assert (await depot.get("/sites")).code == 0


async def test_fail_one_operation_only(depot: Bench) -> None:
    depot.platform.fail_with(500, 9001, operation="operatorToken")
    assert (await depot.get("/sites")).code == 0
    assert (await depot.log_in()).code == 9001


async def test_html_instead_of_json(depot: Bench) -> None:
    depot.platform.html, depot.platform.html_status = True, 502
    async with depot.http.get(f"{depot.platform.base_url}/operator/sites") as response:
        assert (response.status, response.content_type) == (502, "text/html")


async def test_a_platform_that_was_down_comes_back_on_the_same_port(depot: Bench) -> None:
    await depot.platform.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await depot.get("/sites")
    await depot.platform.start()
    assert (await depot.get("/sites")).code == 0


async def test_mute_and_slow_requests_are_carried_out(depot: Bench) -> None:
    depot.evses[0].plug(van())
    depot.platform.mute = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await depot.order("start")
    depot.platform.mute = False
    depot.live(20)
    assert (await depot.connector())["status"] == "charging"
    depot.platform.slow_s = 0.1
    before_s = asyncio.get_running_loop().time()
    await depot.get("/sites")
    assert asyncio.get_running_loop().time() - before_s >= 0.09


# --- the stream --------------------------------------------------------------------------------------------


async def test_stream_speaks_at_once_on_change_and_every_five_seconds_in_a_session(depot: Bench) -> None:
    async with listening(depot, "dvc_1") as socket:
        depot.live(90)  # idle: uploads every minute, but silence here
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.05)
        depot.evses[0].plug(van(soc=0.5))
        depot.live(0.5)
        first = await frame(socket)
        assert first == {
            "device_id": "dvc_1",
            "timestamp": "2026-06-02T12:01:50Z",
            "connectors": [
                {"connector_id": 1, "state": "preparing", "power": 0.0, "energy_delivered": 0.0, "soc": 50}
            ],
        }
        await depot.order("start", {"charge_power": 11.04})
        depot.live(2)
        assert (await frame(socket))["connectors"][0]["state"] == "charging"
        stamps = []
        for _ in range(4):
            for _ in range(10):
                depot.live(0.5)
                await asyncio.sleep(0)  # the writer takes what there is: one slot per charger
            message = await frame(socket)
            stamps.append(datetime.fromisoformat(message["timestamp"]))
        assert {(b - a).total_seconds() for a, b in pairwise(stamps)} == {5.0}
        assert message["connectors"][0]["power"] == 11.04
        assert message["connectors"][0]["energy_delivered"] > 0
        depot.platform.set_offline("dvc_1")
        depot.live(60)
        depot.platform.set_offline("dvc_1", False)
        depot.live(0.5)
        late = datetime.fromisoformat((await frame(socket))["timestamp"])
        assert (late - stamps[-1]).total_seconds() >= 60  # nothing in between


async def test_stream_takes_the_token_from_the_query_and_keeps_one_socket_per_set(depot: Bench) -> None:
    async with listening(depot, "dvc_2,dvc_1", header=False), listening(depot, "dvc_1"):
        with refused(429):
            async with listening(depot, "dvc_1,dvc_2"):
                pass
    async with listening(depot, "dvc_1,dvc_2"):
        pass


@contextmanager
def refused(status: int) -> Iterator[None]:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        yield
    assert caught.value.status == status


async def test_stream_handshake_refusals(depot: Bench) -> None:
    for devices, status in (("dvc_1,dvc_9", 404), ("", 400), (",".join(f"d{n}" for n in range(51)), 400)):
        with refused(status):
            async with listening(depot, devices):
                pass
    depot.platform.expire_tokens()
    with refused(401):
        async with listening(depot):
            pass


async def test_dropped_sockets_and_expired_tokens() -> None:
    clock = SystemClock(speed=60)
    async with bench(clock=clock) as depot, running(depot):
        async with listening(depot) as socket:
            depot.platform.drop_streams()
            assert (await socket.receive(timeout=5)).type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            )
        async with listening(depot) as socket:
            depot.platform.expire_tokens()
            message = await socket.receive(timeout=5)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
