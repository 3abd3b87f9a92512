"""What settings of `Readings` change between programs: over real sockets, with the benches of host and client."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import onsite_clients_bench as clients
import onsite_devices_bench as devices
import openplatform_bench as hosted
import pytest

from controller.core import events as ev
from controller.core.readings import Readings
from drivers.openplatform import signing

ONE = "/devices/dvc_1/connectors/1"


# --- the host and its chargers ------------------------------------------------------------------------------------


async def test_what_a_charger_is_told_of_its_secret_and_its_token(tmp_path: Path) -> None:
    for place, readings, expires_s, wrapped in (
        ("a", Readings(), 3650 * 86400, False),
        ("b", Readings(secret_expires_in_s=86400.0, token_answer="wrapped"), 86400, True),
    ):
        (tmp_path / place).mkdir()
        async with devices.onsite(tmp_path / place, devices.some_settings(readings=readings)) as b:
            peer = devices.Peer(b, "TP-1")
            assert (await peer.register())[1]["data"]["expires_in"] == expires_s
            body = {
                "device_id": peer.device_id,
                "device_secret": peer.secret,
                "grant_type": "client_credentials",
            }
            _, answer = await b.post("token", body)
            assert ("data" in answer, "access_token" in answer) == (wrapped, not wrapped)
            peer.token = (answer["data"] if wrapped else answer)["access_token"]
            assert (await peer.heartbeat())[0] == 200
            b.clock.advance(2 * 86400)  # the secret is as good as ever
            assert (await b.post("token", body))[0] == 200


@pytest.mark.parametrize(
    ("offers", "with_poll", "without"), [("without-poll", 0, 1), ("always", 1, 1), ("never", 0, 0)]
)
async def test_where_a_heartbeat_carries_commands(
    offers: Any, with_poll: int, without: int, tmp_path: Path
) -> None:
    settings = devices.some_settings(readings=Readings(heartbeat_offers=offers, command_resend_s=10.0))
    async with devices.onsite(tmp_path, settings) as b:
        peer = await b.charger()
        b.host.send(devices.start("a", evse="CP1/2"))
        assert len((await peer.heartbeat())[1]["data"]["commands"]) == without
        poll = asyncio.create_task(peer.poll(1))
        await b.waiting("TP-1", 1)
        b.host.send(devices.start("b"))
        body = await poll
        assert body is not None
        poll = asyncio.create_task(peer.poll(1))
        await b.waiting("TP-1", 1)
        desk = b.host._surface._chargers["TP-1"].hatch._desks[1]  # type: ignore[union-attr]
        b.clock.mono_s += 11  # due once more; nothing ticks, so the poll sleeps on
        assert desk.next(b.clock.mono_s) is not None
        again = [
            c
            for c in (await peer.heartbeat())[1]["data"]["commands"]
            if c["command_id"] == body["command_id"]
        ]
        assert len(again) == with_poll
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)


@pytest.mark.parametrize(("expiry_s", "expires"), [(120.0, "12:02:00"), (30.0, "12:00:30")])
async def test_when_a_start_expires(expiry_s: float, expires: str, tmp_path: Path) -> None:
    settings = devices.some_settings(readings=Readings(command_expiry_s=expiry_s))
    async with devices.onsite(tmp_path, settings) as b:
        peer = await b.charger()
        b.host.send(devices.start("a"))
        assert (await peer.poll())["expiry"] == f"2026-06-02T{expires}Z"
        b.host.send(devices.limit("b"))  # never beyond what its lease has slack for
        body = await peer.poll()
        assert body["command"] == "set_power_limit" and body["expiry"] == f"2026-06-02T{expires}Z"


async def test_how_often_a_stranger_may_register_and_a_charger_upload(tmp_path: Path) -> None:
    settings = devices.some_settings(readings=Readings(registrations_per_min=2, uploads_per_min=10))
    async with devices.onsite(tmp_path, settings) as b:
        peer = await b.charger()
        again = [(await peer.register())[0] for _ in range(2)]
        assert again == [409, 429]
        codes = [(await peer.event("plug_in", at=b.stamp(n)))[0] for n in range(12)]
        assert codes == [200] * 10 + [429] * 2


async def test_a_record_that_contradicts_itself_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with devices.onsite(tmp_path) as b:
        peer = await b.charger()
        record = {"connector_id": 1, "start_time": b.stamp(600), "end_time": b.stamp(10), "energy": 5}
        record |= {"max_power": 11, "avg_power": 7, "meter_start": 1, "meter_end": 9}
        for _ in range(2):
            assert (await peer.say("charging-records", record_id="r1", **record))[0] == 200
        assert [r.message for r in caplog.records if "differ" in r.message] == [
            "CP1: record r1: its energy and its registers differ by 3000 Wh"
        ]
        assert len(b.heard.of(ev.RecordReceived)) == 1


# --- the host and its clients -------------------------------------------------------------------------------------


async def test_a_client_that_may_write_may_read_where_that_is_the_reading() -> None:
    async with clients.onsite(replace(clients.AMPLE, write_includes_read=True)) as bench:
        await bench.log_in("hand")
        assert (await bench.get("/sites")).status == 200
        await bench.log_in("viewer")
        assert (await bench.post(f"{ONE}/stop")).refusal == (403, 2003, None)


async def test_a_clients_token_may_come_in_an_envelope() -> None:
    body = {"client_id": "ems", "client_secret": "ems-secret", "grant_type": "client_credentials"}
    async with clients.onsite() as bench:
        bare = await bench.call("POST", "/oauth/token", body, token="")
        bench.surface._readings = replace(bench.surface._readings, token_answer="wrapped")
        wrapped = await bench.call("POST", "/oauth/token", body, token="")
    assert "data" not in bare.body and wrapped.data.keys() == bare.body.keys()
    assert bare.headers["Cache-Control"] == wrapped.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("failed_s", [300.0, 60.0])
async def test_a_command_nobody_sees_counts_as_failed(failed_s: float) -> None:
    async with clients.onsite(replace(clients.AMPLE, queued_failed_s=failed_s)) as bench:
        command_id = (await bench.post(f"{ONE}/stop")).data["command_id"]
        bench.clock.advance(failed_s)
        assert (await bench.progress(command_id))[0] == "queued"
        bench.clock.advance(1)
        assert (await bench.progress(command_id))[0] == "failed"


async def test_a_discharge_without_a_duration_gets_one() -> None:
    async with clients.onsite(replace(clients.AMPLE, discharge_default_s=900.0)) as bench:
        assert (await bench.post(f"{ONE}/discharge", {"discharge_power": 5})).status == 200
        [wish] = [event for event in bench.said if isinstance(event, ev.DischargeWished)]
        assert (wish.min_soc, wish.duration_s) == (20, 900.0)


@pytest.mark.parametrize(("every_s", "frames"), [(5.0, 4), (10.0, 2)])
async def test_how_often_a_charger_in_use_speaks(every_s: float, frames: int) -> None:
    async with clients.onsite(replace(clients.AMPLE, stream_every_s=every_s)) as bench:
        streams, views = bench.surface._streams, clients.charging("CP1/1")
        bench.show(views)
        streams._is_due("dvc_1", frame := _frame(), 1000.0)
        due = [at for at in range(1001, 1021) if streams._is_due("dvc_1", frame, float(at))]
        assert len(due) == frames


def _frame() -> dict[str, Any]:
    return {"connectors": [{"connector_id": 1, "state": "charging"}]}


# --- the client and the hosted platform ---------------------------------------------------------------------------


def control_reads(platform: hosted.Platform) -> int:
    return sum(path.endswith("/commands/flx") for _, path, _ in platform.bodies)


async def test_the_status_of_an_action_is_asked_once_and_a_failure_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosted.site(site_ids=("st-1",), clock=hosted.ManualClock()) as s:
        s.platform.progress = "failed"
        await s.operator.flexibility(40, 1200)
        await s.platform.until(lambda: control_reads(s.platform) == 1)
        await _logged(caplog, "flexibility failed, says the platform: no car")
        await s.operator.flexibility(30, 1200)
        await s.platform.until(lambda: control_reads(s.platform) == 2)


async def test_a_platform_that_knows_no_such_id_is_not_asked_again() -> None:
    unknown = lambda p: p.always.update(command=hosted.says(404, 3001))  # noqa: E731
    async with hosted.site(site_ids=("st-1",), clock=hosted.ManualClock(), prepare=unknown) as s:
        await s.operator.flexibility(40, 1200)
        await s.platform.until(lambda: control_reads(s.platform) == 1)
        async with asyncio.timeout(hosted.DEADLINE_S):
            while s.operator._flexibility._asks:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        await s.operator.flexibility(30, 1200)
        await s.operator.end_flexibility()
        assert s.platform.count["flexibility"] == 3 and control_reads(s.platform) == 1


async def test_the_status_of_an_action_need_not_be_asked_and_its_end_may_take_longer() -> None:
    readings = Readings(flex_status_asked=False, flex_end_s=20.0)
    async with hosted.site(site_ids=("st-1",), clock=hosted.ManualClock(), readings=readings) as s:
        await s.operator.flexibility(40, 1200)
        await s.operator.end_flexibility()
        ends = [body["params"] for op, _, body in s.platform.bodies if op == "flexibility"]
        assert ends[-1]["power_limit_percent"] == 100 and ends[-1]["duration"] == 20
        assert control_reads(s.platform) == 0


async def test_an_idle_charger_is_read_now_and_then() -> None:
    for every_s, reads in ((300.0, 2), (60.0, 6)):
        clock = hosted.ManualClock()
        async with hosted.site(clock=clock, readings=Readings(idle_read_s=every_s)) as s:
            began = s.platform.count["device"]
            for _ in range(310):
                clock.advance(1.0)
                await asyncio.sleep(0.001)
            assert s.platform.count["device"] - began in (reads - 1, reads)


async def test_a_queued_command_is_not_waited_for_longer_than_that() -> None:
    clock = hosted.ManualClock()
    async with hosted.site(clock=clock, readings=Readings(queued_failed_s=30.0)) as s:
        s.platform.progress = "queued"
        s.operator.send(hosted.stop())
        began_s = clock.now().mono_s
        async with asyncio.timeout(hosted.DEADLINE_S):
            while s.heard.outcome("c1") is None:
                clock.advance(0.5)
                await asyncio.sleep(0.002)
        assert isinstance(s.heard.outcome("c1"), ev.CommandLost) and clock.now().mono_s - began_s < 45


async def test_a_signature_may_leave_the_version_out_of_the_path() -> None:
    for has_version, path in ((True, "/v1/operator/devices/dvc_CP1"), (False, "/operator/devices/dvc_CP1")):
        readings = Readings(signature_path_has_version=has_version)
        async with hosted.site(clock=hosted.ManualClock(), sign_requests=True, readings=readings) as s:
            headers = next(head for head in s.platform.heads if head[0] == "device")[3]
            signed = signing.sign(hosted.SECRET, "GET", path, headers["X-Timestamp"], b"", readings)
            assert headers["X-Signature"] == signed


async def _logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(hosted.DEADLINE_S):
        while text not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
