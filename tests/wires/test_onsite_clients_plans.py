"""Schedules and flexibility that local clients send to the on-site host, over real HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from onsite_clients_bench import NOON, PAUSE, PLAN, SLOT, onsite

from controller.core.events import FlexWished, ScheduleCleared, ScheduleSet
from controller.core.model import SITE, EvseId, Schedule, ScheduleType, SlotAction, TimeSlot

ONE = "/devices/dvc_1/connectors/1"

# --- schedules ------------------------------------------------------------------------------------------------------


async def test_a_schedule_reaches_the_core_whole() -> None:
    async with onsite() as bench:
        body = {
            "schedule_id": "night-tariff-a",
            "enabled": True,
            "type": "weekly",
            "time_slots": [
                {
                    "day_of_week": ["sun", "mon"],
                    "start": "23:30",
                    "end": "05:15",
                    "power_limit": 40,
                    "action": "charge",
                },
                {
                    "day_of_week": ["mon"],
                    "start": "17:30",
                    "end": "19:00",
                    "power_limit": 20.0005,
                    "action": "discharge",
                },
            ],
            "target_soc": 95,
            "effective_from": "2026-06-08T00:00:00Z",
            "effective_until": "2026-09-30T22:00:00+02:00",
            "timezone": "Europe/Berlin",
        }
        assert (await bench.post(f"{ONE}/schedule", body)).body == {
            "code": 0,
            "message": "success",
            "data": None,
        }
        slots = (
            TimeSlot(23 * 60 + 30, 5 * 60 + 15, SlotAction.CHARGE, 40_000, (0, 6)),
            TimeSlot(17 * 60 + 30, 19 * 60, SlotAction.DISCHARGE, 20_000, (0,)),
        )
        since, until = datetime(2026, 6, 8, tzinfo=UTC), datetime(2026, 9, 30, 20, tzinfo=UTC)
        schedule = Schedule(
            "night-tariff-a", ScheduleType.WEEKLY, True, "Europe/Berlin", slots, 95, since, until
        )
        assert bench.said == [ScheduleSet("client ems", EvseId("CP1/1"), schedule)]


async def test_a_once_schedule_without_a_beginning_counts_from_now() -> None:
    async with onsite() as bench:
        await bench.post(f"{ONE}/schedule", PLAN | {"type": "once"})
        [fact] = bench.said
        assert isinstance(fact, ScheduleSet) and fact.schedule.effective_from == NOON


async def test_disabled_with_an_empty_validity_deletes() -> None:
    async with onsite() as bench:
        at = "2026-06-08T00:00:00Z"
        body = PLAN | {"enabled": False, "effective_from": at, "effective_until": at, "time_slots": []}
        assert (await bench.post(f"{ONE}/schedule", body)).status == 200
        assert bench.said == [ScheduleCleared("client ems", EvseId("CP1/1"), "nights")]


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"schedule_id": None}, 1002, "schedule_id"),
        ({"enabled": None}, 1002, "enabled"),
        ({"enabled": "yes"}, 1001, "enabled"),
        ({"type": None}, 1002, "type"),
        ({"type": "yearly"}, 1001, "type"),
        ({"timezone": None}, 1002, "timezone"),
        ({"timezone": "Mars/Olympus"}, 1001, "timezone"),
        ({"timezone": "../../etc/passwd"}, 1001, "timezone"),
        ({"timezone": "/etc/localtime"}, 1001, "timezone"),
        ({"time_slots": None}, 1002, "time_slots"),
        ({"time_slots": {}}, 1001, "time_slots"),
        ({"time_slots": []}, 1001, "time_slots"),
        ({"time_slots": [SLOT] * 101}, 1001, "time_slots"),
        ({"time_slots": [SLOT, SLOT]}, 1001, "time_slots"),
        ({"time_slots": [7]}, 1001, "time_slots[0].slot"),
        ({"time_slots": [SLOT | {"start": "24:00"}]}, 1001, "time_slots[0].start"),
        ({"time_slots": [SLOT | {"start": "9:00"}]}, 1001, "time_slots[0].start"),
        ({"time_slots": [SLOT | {"start": None}]}, 1002, "time_slots[0].start"),
        ({"time_slots": [SLOT | {"end": "22:00"}]}, 1001, "time_slots"),
        ({"time_slots": [SLOT | {"action": "boost"}]}, 1001, "time_slots[0].action"),
        ({"time_slots": [SLOT | {"power_limit": -1}]}, 1001, "time_slots[0].power_limit"),
        ({"time_slots": [SLOT | {"day_of_week": ["mon"]}]}, 1001, "time_slots[0].day_of_week"),
        ({"time_slots": [SLOT | {"day_of_week": [["mon"]]}]}, 1001, "time_slots[0].day_of_week"),
        ({"type": "weekly"}, 1002, "time_slots[0].day_of_week"),
        ({"target_soc": 130}, 1001, "target_soc"),
        ({"target_soc": None}, 1001, "target_soc"),
        ({"time_slots": [SLOT | {"power_limit": None}]}, 1001, "time_slots[0].power_limit"),
        ({"effective_from": "soon"}, 1001, "effective_from"),
        ({"effective_from": 20260608}, 1001, "effective_from"),
        ({"effective_until": "9999-12-31T23:59:59-23:59"}, 1001, "effective_until"),
        (
            {"effective_from": "2026-06-08T00:00:00Z", "effective_until": "2026-06-07T00:00:00Z"},
            1001,
            "effective_until",
        ),
    ],
)
async def test_a_schedule_is_read_strictly(change: Any, code: int, field: str) -> None:
    async with onsite() as bench:
        assert (await bench.post(f"{ONE}/schedule", PLAN | change)).refusal == (400, code, field)
        assert bench.said == []


# --- flexibility ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "command", "params", "percent"),
    [
        (
            {"target_type": "site", "target_ids": ["st-a"]},
            "set_power_limit",
            {"power_limit_percent": 35, "duration": 2400},
            35,
        ),
        (
            {"target_type": "operator", "target_ids": ["ems"]},
            "set_power_limit",
            {"power_limit_percent": 0, "duration": 2400},
            0,
        ),
        ({"target_type": "all"}, "pause_charging", {"duration": 2400, "reason": "frequency event"}, 0),
    ],
)
async def test_flexibility_becomes_a_wish_for_the_site(
    target: Any, command: str, params: Any, percent: int
) -> None:
    async with onsite() as bench:
        answer = await bench.post("/control/flexibility", target | {"command": command, "params": params})
        control_id = answer.data["control_id"]
        assert answer.data == {"control_id": control_id, "status": "executing"}
        assert bench.said == [FlexWished(control_id, "client ems", SITE, percent, 2400.0)]
        assert (await bench.progress(control_id))[0] == "queued"


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"target_type": None}, 400, 1002, "target_type"),
        ({"target_type": "galaxy"}, 400, 1001, "target_type"),
        ({"target_type": "site"}, 400, 1002, "target_ids"),
        ({"target_type": "site", "target_ids": []}, 400, 1002, "target_ids"),
        ({"target_type": "site", "target_ids": "st-a"}, 400, 1001, "target_ids"),
        ({"target_type": "site", "target_ids": ["st-a", "st-b"]}, 404, 3001, "target_ids"),
        ({"target_type": "operator", "target_ids": ["st-a"]}, 404, 3001, "target_ids"),
        ({"command": None}, 400, 1002, "command"),
        ({"command": "explode"}, 400, 1001, "command"),
        ({"params": None}, 400, 1002, "params"),
        ({"params": [600]}, 400, 1001, "params"),
        ({"params": {}}, 400, 1002, "params.duration"),
        ({"params": {"duration": 14_401}}, 400, 1001, "params.duration"),
        ({"params": {"duration": 60, "reason": 5}}, 400, 1001, "params.reason"),
        ({"command": "set_power_limit"}, 400, 1002, "params.power_limit_percent"),
        (
            {"command": "set_power_limit", "params": {"power_limit_percent": 101, "duration": 5}},
            400,
            1001,
            "params.power_limit_percent",
        ),
    ],
)
async def test_flexibility_is_read_strictly(change: Any, status: int, code: int, field: str) -> None:
    async with onsite() as bench:
        assert (await bench.post("/control/flexibility", PAUSE | change)).refusal == (status, code, field)
        assert bench.said == []
