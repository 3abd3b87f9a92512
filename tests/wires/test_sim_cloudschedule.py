"""Schedules in the chargers of the simulated Open Platform: leases, what is refused, clock changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from cloud_bench import Bench, bench, flex, frame, lease, listening, running, van

from controller.clock import SystemClock
from drivers.sim.cloudschedule import read_schedule, store


@pytest.fixture
async def depot() -> AsyncIterator[Bench]:
    async with bench() as one:
        yield one


async def test_a_lease_lies_over_a_low_start_and_lapses(depot: Bench) -> None:
    evse = depot.evses[0]
    evse.plug(van())
    await depot.order("start", {"charge_power": 4.14})
    depot.live(20)
    assert evse.conductor_a == (6.0, 6.0, 6.0)
    path = "/devices/dvc_1/connectors/1/schedule"
    assert (await depot.post(path, lease("12:00", "12:03", 11.04))).data is None
    assert evse.limit_a == 6.0  # 200 is not yet in the charger
    depot.live(20)
    assert evse.conductor_a == (16.0, 16.0, 16.0)
    assert (await depot.post(path, lease("12:01", "12:03", 8.28))).data is None  # the same id replaces
    depot.live(20)
    assert evse.conductor_a[0] == pytest.approx(12.0)
    depot.platform.set_offline("dvc_1")  # it ends by the charger's own clock: 12:01:20 now
    depot.live(99)
    assert evse.limit_a == pytest.approx(12.0)
    depot.live(20)
    assert evse.conductor_a == (6.0, 6.0, 6.0)


async def test_a_lease_below_the_minimum_current_pauses(depot: Bench) -> None:
    depot.evses[0].plug(van())
    await depot.order("start", {"charge_power": 11.04})
    path = "/devices/dvc_1/connectors/1/schedule"
    for plan in (lease("12:00", "12:05", 4.0), lease("12:00", "12:05", 0)):
        await depot.post(path, plan)
        depot.live(20)
        assert depot.evses[0].power_w == 0.0
    assert (await depot.connector())["status"] == "charging"  # a session without flow, as configured
    idle = lease("12:00", "12:05", 5.0)
    idle["time_slots"][0]["action"] = "idle"
    await depot.post(path, idle)
    depot.live(20)
    assert depot.evses[0].power_w == 0.0
    deleted = lease("12:00", "12:05", 5.0, enabled=False, effective_from=STAMP, effective_until=STAMP)
    await depot.post(path, deleted)
    depot.live(20)
    assert depot.platform.chargers["dvc_1"].connectors[0].schedules == {}
    assert depot.evses[0].conductor_a[0] == pytest.approx(16.0)


async def test_schedules_survive_a_reboot_flexibility_does_not_and_one_is_enabled(depot: Bench) -> None:
    depot.evses[0].plug(van())
    path = "/devices/dvc_1/connectors/1/schedule"
    await depot.post(path, lease("11:00", "13:00", 5.0, schedule_id="old", type="daily"))
    await depot.post(path, lease("11:00", "13:00", 8.28, schedule_id="new", type="daily"))
    depot.live(2)
    box = depot.platform.chargers["dvc_1"]
    assert {i: s.plan.enabled for i, s in box.connectors[0].schedules.items()} == {"old": False, "new": True}
    start = await depot.order("start")
    await depot.post("/control/flexibility", flex(0, 3600))
    depot.live(20)
    box.reboot(depot.clock.now())
    depot.live(2)
    assert (await depot.progress(start))[1]["reason"] == "reboot"
    await depot.order("start")
    depot.live(20)
    assert depot.evses[0].conductor_a[0] == pytest.approx(12.0)


async def test_schedules_start_nothing_unless_told_to() -> None:
    for starts, status in ((False, "preparing"), (True, "charging")):
        async with bench(schedule_starts=starts) as depot:
            depot.evses[0].plug(van())
            await depot.post("/devices/dvc_1/connectors/1/schedule", lease("12:00", "12:30", 11.0))
            depot.live(60)
            assert (await depot.connector())["status"] == status
            await depot.order("stop")
            depot.live(60)
            assert (await depot.connector())["status"] == "preparing"  # somebody stopped it: it stays stopped


async def test_paused_sessions_can_read_idle() -> None:
    async with bench(paused_status="idle") as depot:
        depot.evses[0].plug(van())
        await depot.order("start", {"charge_power": 2})
        depot.live(20)
        assert (await depot.connector())["status"] == "idle"


STAMP = "2026-06-02T00:00:00Z"
SLOT = {"start": "22:00", "end": "06:00", "action": "charge", "day_of_week": ["mon"]}
WEEKLY = {
    "schedule_id": "s",
    "enabled": True,
    "type": "weekly",
    "timezone": "Europe/Amsterdam",
    "time_slots": [SLOT],
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"timezone": None}, 1002),
        ({"timezone": "Mars/Olympus"}, 1001),
        ({"timezone": "../etc/passwd"}, 1001),
        ({"schedule_id": None}, 1002),
        ({"enabled": None}, 1002),
        ({"enabled": 1}, 1001),
        ({"type": "hourly"}, 1001),
        ({"time_slots": None}, 1002),
        ({"time_slots": []}, 1001),
        ({"time_slots": [SLOT | {"day_of_week": None}]}, 1002),
        ({"time_slots": [SLOT | {"day_of_week": ["monday"]}]}, 1001),
        ({"time_slots": [SLOT | {"end": "24:00"}]}, 1001),
        ({"time_slots": [SLOT | {"end": "22:00"}]}, 1001),
        ({"time_slots": [SLOT | {"action": None}]}, 1002),
        ({"time_slots": [SLOT | {"power_limit": -1}]}, 1001),
        ({"time_slots": [SLOT, SLOT | {"start": "05:00", "end": "07:00", "day_of_week": ["tue"]}]}, 1001),
        ({"time_slots": [SLOT | {"day_of_week": ["sun"]}, SLOT | {"start": "05:00", "end": "07:00"}]}, 1001),
        ({"effective_from": "2026-06-02T00:00:00"}, 1001),
        ({"effective_from": "9999-12-31T00:00:00Z"}, 1001),
        ({"effective_from": STAMP, "effective_until": STAMP}, 1001),
    ],
)
async def test_schedules_that_are_refused(depot: Bench, change: dict[str, Any], code: int) -> None:
    plan = {k: v for k, v in (WEEKLY | change).items() if v is not None}
    answer = await depot.post("/devices/dvc_1/connectors/1/schedule", plan)
    assert (answer.status, answer.code) == (400, code)
    assert (await depot.post("/devices/dvc_1/connectors/1/schedule", WEEKLY)).code == 0


def runs(plan: dict[str, Any], at: str, stored: str = "2026-01-01T00:00Z") -> bool:
    kept = store(read_schedule(plan), datetime.fromisoformat(stored))
    return kept.slot_at(datetime.fromisoformat(at)) is not None


@pytest.mark.parametrize(
    ("start", "end", "zone", "at", "expected"),
    [
        ("22:00", "06:00", "UTC", "2026-06-02T05:59Z", True),
        ("22:00", "06:00", "UTC", "2026-06-02T06:00Z", False),
        ("00:00", "00:00", "UTC", "2026-06-02T23:59Z", True),
        ("12:00", "13:00", "Europe/Amsterdam", "2026-06-02T10:30Z", True),
        ("12:00", "13:00", "Europe/Amsterdam", "2026-01-02T10:30Z", False),
        # short night 29 March 2026: 02:00 to 03:00 does not exist in Amsterdam, 03:00 is 01:00 UTC
        ("02:30", "03:30", "Europe/Amsterdam", "2026-03-29T00:59Z", False),
        ("02:30", "03:30", "Europe/Amsterdam", "2026-03-29T01:00Z", True),
        ("02:15", "02:45", "Europe/Amsterdam", "2026-03-29T01:00Z", False),
        # long night 25 October 2026: 02:00 to 03:00 happens twice, the first from 00:00 UTC on
        ("02:15", "02:45", "Europe/Amsterdam", "2026-10-25T00:30Z", True),
        ("02:15", "02:45", "Europe/Amsterdam", "2026-10-25T01:30Z", False),
    ],
)
def test_daily_slots(start: str, end: str, zone: str, at: str, expected: bool) -> None:
    assert runs(lease(start, end, 5, type="daily", timezone=zone), at) is expected


def test_weekly_slots_belong_to_the_day_they_start_on() -> None:
    night = WEEKLY | {"timezone": "UTC"}
    assert runs(night, "2026-06-02T05:00Z")  # the night from Monday to Tuesday
    assert not runs(night, "2026-06-01T05:00Z")
    cut = night | {"effective_until": "2026-06-02T04:00:00Z"}
    assert runs(cut, "2026-06-02T03:59Z") and not runs(cut, "2026-06-02T04:00Z")


def test_once_runs_once() -> None:
    plan = lease("22:00", "06:00", 5)
    stored = "2026-06-02T23:00Z"
    assert runs(plan, "2026-06-03T05:00Z", stored)
    assert not runs(plan, "2026-06-03T23:00Z", stored)
    later = plan | {"effective_from": "2026-06-09T00:00:00Z"}
    assert not runs(later, "2026-06-08T23:30Z", stored) and runs(later, "2026-06-09T00:30Z", stored)


async def test_a_lease_by_itself_on_a_fast_clock() -> None:
    clock = SystemClock(speed=60)
    async with bench(clock=clock) as depot, running(depot), listening(depot, "dvc_1") as socket:

        async def until(state: str, low_kw: float, high_kw: float) -> None:
            async with asyncio.timeout(8):
                while True:
                    seen = (await frame(socket))["connectors"][0]
                    if seen["state"] == state and low_kw <= seen["power"] <= high_kw:
                        return

        depot.evses[0].plug(van())
        await until("preparing", 0, 0)
        await depot.order("start", {"charge_power": 4.2})
        await until("charging", 4.1, 4.2)
        now = clock.now().utc
        end = now + timedelta(minutes=2)
        await depot.post("/devices/dvc_1/connectors/1/schedule", lease(f"{now:%H:%M}", f"{end:%H:%M}", 11.04))
        await until("charging", 11, 11.04)
        await until("charging", 4.1, 4.2)
        assert clock.now().utc >= end.replace(second=0, microsecond=0)
        await depot.order("stop")
        await until("preparing", 0, 0)
