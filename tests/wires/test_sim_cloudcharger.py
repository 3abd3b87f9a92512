"""Chargers behind the simulated Open Platform, over real HTTP: commands, flexibility, discharge, records, energy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cloud_bench import PAUSE, Bench, bench, flex, van

from drivers.sim.evse import SimEvse
from drivers.sim.v2g import V2gEvse


@pytest.fixture
async def depot() -> AsyncIterator[Bench]:
    async with bench() as one:
        yield one


# --- commands ----------------------------------------------------------------------------------------------


async def test_start_charge_stop_leaves_a_record(depot: Bench) -> None:
    evse = depot.evses[0]
    evse.plug(van())
    start = await depot.order("start", {"charge_power": 11.04})
    assert await depot.progress(start) == ("queued", None)
    depot.live(2)
    assert await depot.progress(start) == ("accepted", None)
    depot.live(1800)
    seen = await depot.connector()
    assert (seen["status"], seen["power"], seen["current"]) == ("charging", 11.04, 16.0)
    stop = await depot.order("stop", {"reason": "time_limit"})
    depot.live(2)
    assert (await depot.progress(stop))[0] == "completed"
    status, result = await depot.progress(start)
    assert (status, result["reason"], evse.power_w) == ("completed", "time_limit", 0.0)
    [record] = (await depot.get("/charging-records")).data["items"]
    assert (
        record["meter_end"] == round(evse.register_wh) / 1e3 == result["energy_delivered"] == record["energy"]
    )
    assert 5.4 < record["energy"] < 5.6
    assert (record["max_power"], record["stop_reason"]) == (11.04, "time_limit")
    assert record["vehicle_info"]["soc_start"] == 30
    assert (await depot.connector())["status"] == "preparing"


async def test_starts_that_are_refused(depot: Bench) -> None:
    alone = await depot.order("start")
    depot.live(2)
    assert await depot.progress(alone) == ("failed", {"reason": "no_vehicle"})
    depot.evses[0].plug(van())
    first, second = await depot.order("start"), await depot.order("start")
    depot.live(4)
    assert (await depot.progress(first))[0] == "accepted"
    assert await depot.progress(second) == ("failed", {"reason": "session_running"})


async def test_the_same_transaction_is_the_same_command_for_ten_minutes(depot: Bench) -> None:
    body = {"transaction_id": "t-1"}
    first = await depot.order("start", body)
    assert await depot.order("start", body) == first
    assert await depot.order("start", body, device="dvc_2") != first
    depot.clock.mono_s += 601
    assert await depot.order("start", body) != first


async def test_sessions_end_by_themselves(depot: Bench) -> None:
    for body, reason in (
        ({"duration": 60}, "time_limit"),
        ({"target_soc": 31}, "soc_target_reached"),
        ({}, None),
    ):
        vehicle = van(soc=0.305)
        depot.evses[0].plug(vehicle)
        start = await depot.order("start", body)
        depot.live(300)
        if reason is None:
            assert (await depot.progress(start))[0] == "accepted"
            depot.evses[0].unplug()
            assert not depot.evses[0].energised  # the contactor does not wait for the next look
            reason = "ev_disconnected"
            depot.live(1)
        else:
            depot.evses[0].unplug()
        status, result = await depot.progress(start)
        assert (status, result["reason"]) == ("completed", reason)
    assert (await depot.get("/charging-records")).data["total"] == 3


async def test_a_fault_ends_the_session_and_fails_its_start(depot: Bench) -> None:
    depot.evses[0].plug(van())
    start = await depot.order("start")
    depot.live(20)
    depot.evses[0].break_down("GroundFailure")
    depot.live(1)
    assert (await depot.progress(start))[0] == "failed"
    assert (await depot.connector())["status"] == "fault"


async def test_an_offline_charger_goes_on_and_gets_no_old_order_but_a_stop(depot: Bench) -> None:
    evse = depot.evses[0]
    evse.plug(van())
    await depot.order("start", {"duration": 90})
    depot.live(10)
    depot.platform.set_offline("dvc_1")
    start = await depot.order("start")
    depot.live(119)
    assert (await depot.get("/devices/dvc_1")).data["status"] == "offline"
    assert (await depot.progress(start))[0] == "queued"
    assert (await depot.get("/charging-records")).data["total"] == 0  # over, but not uploaded
    assert not evse.energised
    depot.live(2)
    assert await depot.progress(start) == ("failed", {"reason": "expired"})
    stop, late = await depot.order("stop"), await depot.order("start")
    depot.live(300)
    assert [(await depot.progress(c))[0] for c in (stop, late)] == ["queued", "failed"]
    depot.platform.set_offline("dvc_1", False)
    depot.live(1)
    assert (await depot.progress(stop))[0] == "completed"
    assert (await depot.get("/charging-records")).data["total"] == 1


async def test_orders_do_not_overtake_each_other(depot: Bench) -> None:
    depot.evses[0].plug(van())
    for _ in range(10):  # the last one wins, whatever the latency
        await depot.order("start")
        await depot.order("stop")
    depot.live(3)
    assert (await depot.connector())["status"] == "preparing"


@pytest.mark.parametrize(
    ("what", "body", "code", "where"),
    [
        ("start", {"charge_power": 0}, 1001, "charge_power"),
        ("start", {"charge_power": "7"}, 1001, "charge_power"),
        ("start", {"charge_power": 10**400}, 1001, "charge_power"),
        ("start", {"duration": 10**400}, 1001, "duration"),
        ("start", {"duration": "60"}, 1001, "duration"),
        ("start", {"duration": 1.5}, 1001, "duration"),
        ("start", {"target_soc": 101}, 1001, "target_soc"),
        ("start", {"target_soc": True}, 1001, "target_soc"),
        ("discharge", {}, 1002, "discharge_power"),
        ("discharge", {"discharge_power": -11}, 1001, "discharge_power"),
    ],
)
async def test_bad_values_name_their_field(depot: Bench, what: str, body: Any, code: int, where: str) -> None:
    answer = await depot.post(f"/devices/dvc_1/connectors/1/{what}", body)
    assert (answer.status, answer.code, answer.body["details"]["field"]) == (400, code, where)


async def test_bodies_that_are_no_json_object(depot: Bench) -> None:
    url = f"{depot.platform.base_url}/operator/devices/dvc_1/connectors/1/start"
    headers = {"Authorization": f"Bearer {depot.token}"}
    for raw in (b"{", b"[1]", b"\xff\xfe", b"x" * 70_000):
        async with depot.http.post(url, data=raw, headers=headers) as response:
            assert (response.status, (await response.json())["code"]) == (400, 1001)


# --- flexibility and discharge -----------------------------------------------------------------------------


async def test_flexibility_lowest_wins_newer_replaces_and_ends_alone(depot: Bench) -> None:
    evse = depot.evses[0]
    evse.plug(van())
    await depot.order("start")
    answer = await depot.post("/control/flexibility", flex(50, 300))
    assert answer.data["status"] == "executing"
    assert (await depot.get(f"/commands/{answer.data['control_id']}")).code == 3001
    depot.live(20)
    half_a = 11_000 / 690
    assert evse.limit_a == pytest.approx(half_a)
    await depot.post("/control/flexibility", flex(25, 60, "all"))
    depot.live(20)
    assert evse.limit_a == pytest.approx(half_a / 2)
    assert evse.power_w == pytest.approx(5500)
    depot.platform.set_offline("dvc_1")
    depot.live(60)
    assert evse.limit_a == pytest.approx(half_a)  # the wider one is over, the site's holds
    depot.platform.set_offline("dvc_1", False)
    await depot.post("/control/flexibility", flex(100, 10))
    depot.live(5)
    assert evse.limit_a == pytest.approx(22_000 / 690)  # the newer one has replaced it
    depot.live(10)
    assert evse.limit_a == 32.0


async def test_flexibility_reaches_only_its_site_and_pauses_below_the_minimum(depot: Bench) -> None:
    depot.platform.chargers["dvc_2"].site_id = "st-b"
    for evse, device in zip(depot.evses, ("dvc_1", "dvc_2"), strict=True):
        evse.plug(van())
        await depot.order("start", device=device)
    await depot.post("/control/flexibility", flex(18, 300, ids=("st-b",)))  # 3.96 kW, 5.7 A
    depot.live(20)
    assert depot.evses[0].conductor_a[0] == 32.0
    assert depot.evses[1].power_w == 0.0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (flex(50, 60, ids=("st-x",)), 404, 3001),
        (flex(50, 60, ids=()), 400, 1001),
        (flex(101, 60), 400, 1001),
        (flex(50, 4 * 3600 + 1), 400, 1001),
        ({"target_type": "site", "command": "pause_charging", "params": {"duration": 60}}, 400, 1002),
        (PAUSE | {"params": {}}, 400, 1002),
        (PAUSE | {"params": 5}, 400, 1001),
        (PAUSE | {"command": "reboot"}, 400, 1001),
        ({"command": "pause_charging", "params": {"duration": 60}}, 400, 1002),
    ],
)
async def test_flexibility_refusals(depot: Bench, body: Any, status: int, code: int) -> None:
    answer = await depot.post("/control/flexibility", body)
    assert (answer.status, answer.code) == (status, code)
    assert (await depot.post("/control/flexibility", PAUSE)).code == 0


async def test_discharge_needs_the_hardware_and_a_full_enough_vehicle() -> None:
    async with bench(SimEvse("P1/1", 32.0), V2gEvse("P2/1", 32.0)) as depot:
        for evse in depot.evses:
            evse.plug(van(soc=0.205))
        plain = await depot.order("discharge", {"discharge_power": 11.04})
        empty = await depot.order("discharge", {"discharge_power": 11.04, "min_soc": 50}, device="dvc_2")
        depot.live(2)
        assert await depot.progress(plain) == ("failed", {"reason": "no_v2g_hardware"})
        assert await depot.progress(empty) == ("failed", {"reason": "vehicle_refused_discharge"})
        to_floor = await depot.order("discharge", {"discharge_power": 11.04, "min_soc": 5}, device="dvc_2")
        depot.live(30)
        seen = await depot.connector("dvc_2")
        assert (seen["status"], seen["power"]) == ("discharging", -11.04)
        depot.live(600)
        assert (await depot.progress(to_floor))[1]["reason"] == "soc_floor_reached"
        [record] = (await depot.get("/charging-records")).data["items"]
        assert 0 < record["energy"] == record["meter_end"] - record["meter_start"]
        assert depot.evses[1].register_wh == 0.0  # import does not run backwards


async def test_a_discharge_replaces_charging_and_ends_on_pause_and_without_a_link() -> None:
    async with bench(V2gEvse("P1/1", 32.0)) as depot:
        depot.evses[0].plug(van(soc=0.7))
        charging = await depot.order("start")
        depot.live(10)
        out = await depot.order("discharge", {"discharge_power": 5})
        depot.live(10)
        assert (await depot.progress(charging))[1]["reason"] == "discharge_ordered"
        await depot.post("/control/flexibility", flex(0, 30))  # a percentage is about charging only
        depot.live(5)
        assert (await depot.connector())["status"] == "discharging"
        await depot.post("/control/flexibility", PAUSE)
        depot.live(5)
        assert (await depot.progress(out))[1]["reason"] == "flexibility"
        depot.live(60)
        lonely = await depot.order("discharge", {"discharge_power": 5, "duration": 7200})
        depot.live(10)
        depot.platform.set_offline("dvc_1")
        depot.live(899)
        assert depot.evses[0].power_w < 0
        depot.live(2)
        assert depot.evses[0].power_w == 0.0
        depot.platform.set_offline("dvc_1", False)
        depot.live(1)
        assert (await depot.progress(lonely))[1]["reason"] == "link_lost"


# --- records and energy ------------------------------------------------------------------------------------


async def test_records_page_and_filter(depot: Bench) -> None:
    for n in range(5):
        device, evse = (("dvc_1", depot.evses[0]), ("dvc_2", depot.evses[1]))[n % 2]
        evse.plug(van())
        await depot.order("start", device=device)
        depot.live(60)
        evse.unplug()
        depot.live(0.5)
    everything = (await depot.get("/charging-records")).data
    ids = [item["record_id"] for item in everything["items"]]
    assert (everything["total"], everything["page"], everything["size"], len(set(ids))) == (5, 1, 20, 5)
    pages = [
        (await depot.get("/charging-records", page=str(p), size="2")).data["items"] for p in (1, 2, 3, 4)
    ]
    assert [item["record_id"] for page in pages for item in page] == ids
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    begins = [item["start_time"] for item in everything["items"]]
    window = {"start_time": begins[1], "end_time": begins[3]}
    assert [i["record_id"] for i in (await depot.get("/charging-records", **window)).data["items"]] == ids[
        1:3
    ]
    one = await depot.get("/charging-records", device_id="dvc_2", connector_id="1")
    assert [item["record_id"] for item in one.data["items"]] == [ids[1], ids[3]]
    for bad in ({"page": "0"}, {"size": "x"}, {"start_time": "yesterday"}):
        assert (await depot.get("/charging-records", **bad)).code == 1001


async def test_energy_comes_in_buckets_and_nothing_measured_is_missing(depot: Bench) -> None:
    depot.evses[0].plug(van())
    await depot.order("start", {"charge_power": 11.04})
    depot.live(3600)
    span = {"start_time": "2026-06-02T00:00:00Z", "end_time": "2026-06-03T00:00:00Z"}
    hours = (await depot.get("/aggregated/energy", granularity="hour", **span)).data
    assert [point["time"] for point in hours["series"]] == ["2026-06-02T12:00:00Z", "2026-06-02T13:00:00Z"]
    delivered = depot.evses[0].register_wh / 1e3
    assert hours["total"]["charge_energy"] == pytest.approx(delivered, abs=0.001)
    assert hours["series"][0]["max_power"] == 11.04
    day = (await depot.get("/aggregated/energy", granularity="day", group_by="site", **span)).data
    assert [(point["time"], point["group_id"]) for point in day["series"]] == [("2026-06-02", "st-a")]
    assert (await depot.get("/aggregated/energy", granularity="hour")).code == 1002
    assert (await depot.get("/aggregated/energy", granularity="week", **span)).code == 1001
    assert (await depot.get("/aggregated/energy", granularity="day", site_ids="st-x", **span)).code == 3001
