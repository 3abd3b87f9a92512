"""Session records, sites and energy of the operator client, against the scripted platform."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openplatform_bench import HTML, Platform, Site, says, site

from controller.core import events as ev
from controller.core.readings import Readings
from drivers.errors import DriverError, Misconfigured

OFTEN = Readings(records_after_s=5, records_every_s=60, records_repeat_days=3)
DAY = datetime(2026, 6, 2, tzinfo=UTC)


def a_record(at: datetime, id: str = "r1", device: str = "dvc_CP1", **changes: Any) -> dict[str, Any]:
    stamps = {"start_time": at.isoformat(), "end_time": (at + timedelta(minutes=40)).isoformat()}
    meters = {"energy": 5.5, "meter_start": 100.0, "meter_end": 105.5, "stop_reason": "ev_disconnected"}
    return {"record_id": id, "device_id": device, "connector_id": 1} | stamps | meters | changes


def asked(platform: Platform) -> list[dict[str, str]]:
    return [body for op, _, body in platform.bodies if op == "records"]


def received(s: Site) -> list[Any]:
    return s.heard.of(ev.RecordReceived)


async def test_the_last_days_are_asked_day_by_day_page_by_page_and_told_once() -> None:
    def fill(platform: Platform) -> None:
        now = platform.clock.now().utc
        platform.records = [a_record(now - timedelta(hours=30), f"r{n}", energy=n / 100) for n in range(250)]
        platform.records += [a_record(now - timedelta(hours=1), "fresh"), a_record(now, "other", "dvc_else")]
        platform.records += [
            a_record(now - timedelta(days=9), "ancient"),
            {"record_id": "broken"} | a_record(now, ""),
        ]

    async with site(prepare=fill, readings=OFTEN, records=True) as s:
        await s.heard.until(lambda: len(received(s)) == 251)
        first = asked(s.platform)
        days = [(query["start_time"], query["page"]) for query in first]
        assert len({start for start, _ in days}) >= 3 and [
            page for start, page in days if start == _busiest(days)
        ] == ["1", "2", "3"]
        for query in first:
            begin, end = (datetime.fromisoformat(query[f"{edge}_time"]) for edge in ("start", "end"))
            assert end - begin == timedelta(days=1) and begin.time() == DAY.time() and query["size"] == "100"
        await s.platform.until(lambda: len(asked(s.platform)) >= len(first) + 12)
        assert len(received(s)) == 251  # nothing twice
        fresh = next(e for e in received(s) if e.record == "fresh")
        assert (fresh.evse, fresh.energy_wh, fresh.reason) == ("CP1/1", 5_500, "ev_disconnected")
        assert (fresh.register_start_wh, fresh.register_end_wh) == (100_000, 105_500)
        assert fresh.ended - fresh.started == timedelta(minutes=40)


def _busiest(days: list[tuple[str, str]]) -> str:
    starts = [start for start, _ in days]
    return max(starts, key=starts.count)


async def test_a_late_record_and_a_corrected_one_are_told() -> None:
    async with site(readings=OFTEN, records=True) as s:
        await s.platform.until(lambda: s.platform.count["records"] >= 4)
        late = s.platform.clock.now().utc - timedelta(hours=40)
        s.platform.records = [a_record(late)]
        assert (await s.heard.until(lambda: received(s)))[0].energy_wh == 5_500
        s.platform.records = [a_record(late, energy=6.0)]
        await s.heard.until(lambda: len(received(s)) == 2)
        assert received(s)[1].energy_wh == 6_000


async def test_a_look_between_covers_two_days_and_the_daily_one_all_of_them() -> None:
    readings = Readings(records_after_s=1, records_every_s=30, records_repeat_days=6)
    async with site(readings=readings, records=True) as s:
        await s.platform.until(lambda: s.platform.count["records"] >= 10)
        starts = [query["start_time"] for query in asked(s.platform)]
        assert len(set(starts[:7])) == 7 and starts[:7] == sorted(starts[:7])
        assert starts[7:10] == starts[4:7]


async def test_after_a_session_its_record_is_asked_for_soon() -> None:
    readings = Readings(records_after_s=1, records_every_s=100_000, records_repeat_days=1)
    async with site(readings=readings, records=True) as s:
        await s.platform.until(lambda: s.platform.count["records"] == 2)
        await s.platform.push("dvc_CP1", state="charging", power=5)
        await s.platform.push("dvc_CP1", state="idle", power=0)
        await s.heard.until(lambda: s.heard.of(ev.TransactionEnded))
        s.platform.records = [a_record(s.clock.now().utc - timedelta(minutes=5))]
        await s.heard.until(lambda: received(s))


async def test_beside_ocpp_no_record_is_asked_for() -> None:
    async with site(readings=OFTEN, records=True, mode="companion") as s:
        await s.clock.sleep(120)
        assert not s.platform.count["records"]


async def test_refused_records_are_surfaced_and_not_asked_again() -> None:
    async with site(
        readings=OFTEN, records=True, prepare=lambda p: p.always.update(records=says(403, 2003))
    ) as s:
        changed = await s.heard.until(
            lambda: [e for e in s.heard.of(ev.ChannelChanged) if e.state == "degraded"]
        )
        assert "session records" in changed[0].text and "2003" in changed[0].text
        await s.clock.sleep(300)
        assert s.platform.count["records"] == 1
        assert not s.heard.of(ev.LinkDown)


@pytest.mark.parametrize(
    "bad", [HTML, says(500, 9001), says(429, 5001, retry_after_seconds=3), says(200, 0, ["x"])]
)
async def test_records_that_fail_come_later_and_the_channel_is_well_again(bad: Any) -> None:
    def rough(platform: Platform) -> None:
        platform.script["records"].extend([bad] * 3)
        platform.records = [a_record(platform.clock.now().utc - timedelta(hours=2))]

    async with site(readings=OFTEN, records=True, prepare=rough) as s:
        await s.heard.until(lambda: received(s))
        await s.heard.until(lambda: s.heard.of(ev.ChannelChanged)[-1].state == "ok")
        assert len(received(s)) == 1 and not s.heard.of(ev.LinkDown)


async def test_a_platform_that_pages_without_end_is_left() -> None:
    async with site(readings=OFTEN, records=True) as s:
        full = [a_record(DAY, f"x{n}") for n in range(100)]
        s.platform.always["sites"] = says(200, 0, {"items": full, "page": 1, "size": 100})
        await s.operator.sites()
        assert s.platform.count["sites"] == 2


async def test_sites_and_energy() -> None:
    async with site(site_ids=("st-1", "st-2")) as s:
        (place,) = await s.operator.sites()
        assert (place.site_id, place.name, place.connectors, place.capacity_w) == ("st-1", "Noord", 4, 88_500)
        energy = await s.operator.energy(DAY, DAY + timedelta(hours=3), "hour")
        assert set(energy) == {"st-1", "st-2"}
        assert (energy["st-1"][0].charge_wh, energy["st-1"][0].discharge_wh) == (12_500, 250)
        assert energy["st-1"][0].start == DAY + timedelta(hours=10)
        queries = [body for op, _, body in s.platform.bodies if op == "energy"]
        assert queries[1] == {
            "granularity": "hour",
            "start_time": "2026-06-02T00:00:00Z",
            "end_time": "2026-06-02T03:00:00Z",
            "site_ids": "st-2",
        }


async def test_what_cannot_be_asked_is_refused_and_never_repeated() -> None:
    async with site(site_ids=("st-1",), prepare=lambda p: p.always.update(energy=says(400, 1001))) as s:
        with pytest.raises(DriverError, match="1001"):
            await s.operator.energy(DAY, DAY + timedelta(hours=3))
        assert s.platform.count["energy"] == 1
        with pytest.raises(ValueError):
            await s.operator.energy(DAY, DAY)
        s.platform.always["sites"] = HTML
        with pytest.raises(DriverError):
            await s.operator.sites()
        assert s.platform.count["sites"] == 4  # might have been weather
    async with site() as s:
        with pytest.raises(Misconfigured):
            await s.operator.energy(DAY, DAY + timedelta(hours=3))
    async with site(site_ids=("st-1",), purposes=frozenset({"control"}), wait="off") as s:
        with pytest.raises(Misconfigured):
            await s.operator.sites()
        assert not s.platform.count
