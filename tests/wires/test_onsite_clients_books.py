"""What local clients may read of the past: session records and energy series, over real HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onsite_clients_bench import NOON, onsite

from controller.core.model import EvseId
from drivers.openplatform.clients_books import Book


def book(
    record: str, evse: str, hours: float, energy_wh: int = 52_900, lasted_h: float = 0.5, **more: Any
) -> Book:
    began = NOON + timedelta(hours=hours)
    return Book(record, EvseId(evse), began, began + timedelta(hours=lasted_h), energy_wh, **more)


async def test_records() -> None:
    async with onsite() as bench:
        bench.books += [
            book("r-2", "CP1/2", -1, -3000),
            book("r-1", "CP1/1", -2, register_start_wh=80_412_300, register_end_wh=80_465_200, max_power_w=151_400,
                 soc_start=31, soc_end=86, reason="ev_disconnected"),
            book("r-3", "CP2/1", 0),
            book("r-x", "CP9/1", 0),
        ]  # fmt: skip
        data = (await bench.get("/charging-records", size="2")).data
        assert (data["total"], data["page"], data["size"]) == (3, 1, 2)
        assert data["items"] == [
            {
                "record_id": "r-1",
                "device_id": "dvc_1",
                "connector_id": 1,
                "start_time": "2026-06-02T10:00:00Z",
                "end_time": "2026-06-02T10:30:00Z",
                "energy": 52.9,
                "max_power": 151.4,
                "avg_power": 105.8,
                "meter_start": 80412.3,
                "meter_end": 80465.2,
                "stop_reason": "ev_disconnected",
                "vehicle_info": {"soc_start": 31, "soc_end": 86},
            },
            {
                "record_id": "r-2",
                "device_id": "dvc_1",
                "connector_id": 2,
                "start_time": "2026-06-02T11:00:00Z",
                "end_time": "2026-06-02T11:30:00Z",
                "energy": 3.0,
                "avg_power": 6.0,
            },
        ]
        assert [
            r["record_id"] for r in (await bench.get("/charging-records", size="2", page="2")).data["items"]
        ] == ["r-3"]


@pytest.mark.parametrize(
    ("query", "records"),
    [
        ({"device_id": "dvc_1"}, ["r-1", "r-2"]),
        ({"device_id": "dvc_1", "connector_id": "2"}, ["r-2"]),
        ({"connector_id": "1"}, ["r-1", "r-3"]),
        ({"device_id": "dvc_9"}, []),
        ({"start_time": "2026-06-02T11:00:00Z"}, ["r-2", "r-3"]),
        ({"start_time": "2026-06-02T12:00:00+02:00", "end_time": "2026-06-02T11:00:00Z"}, ["r-1"]),
    ],
)
async def test_records_are_filtered_by_start_half_open(query: dict[str, str], records: list[str]) -> None:
    async with onsite() as bench:
        bench.books += [book("r-1", "CP1/1", -2), book("r-2", "CP1/2", -1), book("r-3", "CP2/1", 0)]
        data = (await bench.get("/charging-records", **query)).data
        assert [record["record_id"] for record in data["items"]] == records


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "2026-06-02"}, "start_time"),
        ({"end_time": "2026-13-02T00:00:00Z"}, "end_time"),
        ({"start_time": "2026-06-02T11:00:00Z", "end_time": "2026-06-02T10:00:00Z"}, "end_time"),
        ({"connector_id": "0"}, "connector_id"),
        ({"device_id": ""}, "device_id"),
    ],
)
async def test_record_queries_are_read_strictly(query: dict[str, str], field: str) -> None:
    async with onsite() as bench:
        assert (await bench.get("/charging-records", **query)).refusal == (400, 1001, field)


DAY = {"granularity": "hour", "start_time": "2026-06-02T10:00:00Z", "end_time": "2026-06-02T13:00:00Z"}


async def test_energy_is_spread_over_the_session_and_none_is_lost() -> None:
    async with onsite() as bench:
        # 10:30-12:30, 10001 Wh charged; 12:15-12:45, 900 Wh discharged; one of zero length; one before the period
        bench.books += [
            book("a", "CP1/1", -1.5, 10_001, 2.0),
            book("b", "CP2/1", 0.25, -900, 0.5),
            book("c", "CP1/2", -2, 100, 0),
            book("d", "CP1/2", -9, 5000, 1.0),
        ]
        data = (await bench.get("/aggregated/energy", **DAY)).data
        assert data == {
            "granularity": "hour",
            "start_time": "2026-06-02T10:00:00Z",
            "end_time": "2026-06-02T13:00:00Z",
            "series": [
                {
                    "time": "2026-06-02T10:00:00Z",
                    "charge_energy": 2.6,
                    "discharge_energy": 0.0,
                    "avg_power": 2.6,
                },
                {
                    "time": "2026-06-02T11:00:00Z",
                    "charge_energy": 5.001,
                    "discharge_energy": 0.0,
                    "avg_power": 5.001,
                },
                {
                    "time": "2026-06-02T12:00:00Z",
                    "charge_energy": 2.5,
                    "discharge_energy": 0.9,
                    "avg_power": 1.6,
                },
            ],
            "total": {"charge_energy": 10.101, "discharge_energy": 0.9},
        }


async def test_a_session_counts_only_where_it_lies_within_the_period() -> None:
    async with onsite() as bench:
        bench.books.append(book("a", "CP1/1", -1.5, 10_001, 2.0))  # 10:30 to 12:30
        query = DAY | {"start_time": "2026-06-02T11:00:00Z", "end_time": "2026-06-02T11:30:00Z"}
        [point] = (await bench.get("/aggregated/energy", **query)).data["series"]
        assert (point["time"], point["charge_energy"]) == ("2026-06-02T11:00:00Z", 2.5)
        assert point["avg_power"] == 5.0


@pytest.mark.parametrize(
    ("granularity", "labels"),
    [("day", ["2026-05-31", "2026-06-01"]), ("month", ["2026-05", "2026-06"])],
)
async def test_days_and_months_are_utc_and_empty_ones_are_missing(
    granularity: str, labels: list[str]
) -> None:
    async with onsite() as bench:
        bench.books.append(book("a", "CP1/1", -37, 4000, 2.0))  # 31 May 23:00 to 1 June 01:00
        query = {
            "granularity": granularity,
            "start_time": "2026-01-01T00:00:00Z",
            "end_time": "2027-01-01T00:00:00Z",
        }
        data = (await bench.get("/aggregated/energy", group_by="site", **query)).data
        assert [point["time"] for point in data["series"]] == labels
        assert [point["charge_energy"] for point in data["series"]] == [2.0, 2.0]
        assert {point["group_id"] for point in data["series"]} == {"st-a"}


async def test_a_long_history_is_read_in_pages_and_other_sites_are_empty() -> None:
    async with onsite() as bench:
        bench.books += [book(f"r-{n:04}", "CP1/1", -1, 1, 0.1) for n in range(2500)]
        assert (await bench.get("/aggregated/energy", **DAY)).data["total"]["charge_energy"] == 2.5
        data = (await bench.get("/aggregated/energy", site_ids="st-b,st-c", **DAY)).data
        assert data["series"] == [] and data["total"]["charge_energy"] == 0


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"granularity": None}, 1002, "granularity"),
        ({"start_time": None}, 1002, "start_time"),
        ({"end_time": None}, 1002, "end_time"),
        ({"granularity": "minute"}, 1001, "granularity"),
        ({"group_by": "colour"}, 1001, "group_by"),
        ({"end_time": "2026-06-01T00:00:00Z"}, 1001, "end_time"),
        ({"end_time": "2036-06-01T00:00:00Z"}, 1001, "end_time"),
    ],
)
async def test_energy_queries_are_read_strictly(change: dict[str, str | None], code: int, field: str) -> None:
    async with onsite() as bench:
        query = {name: value for name, value in (DAY | change).items() if value is not None}
        assert (await bench.get("/aggregated/energy", **query)).refusal == (400, code, field)
