"""Discharge, flexibility, stored plans and signed requests of the operator client, against the scripted platform."""

from __future__ import annotations

import asyncio
import hmac
import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from openplatform_bench import (
    ALL,
    HTML,
    SECRET,
    Handler,
    ManualClock,
    Platform,
    Site,
    a_device,
    discharge,
    hang_up,
    limit,
    says,
    site,
    start,
    stop,
)

from controller.core import events as ev
from controller.core.commands import DropSchedule, StoreSchedule
from controller.core.model import EvseId, Schedule, ScheduleType, SlotAction, TimeSlot
from controller.core.readings import Readings
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.settings import CHANNEL

CP1 = EvseId("CP1/1")


def bodies(platform: Platform, operation: str) -> list[Any]:
    return [body for op, _, body in platform.bodies if op == operation]


# --- discharge --------------------------------------------------------------------------------------------------


async def test_a_discharge_is_bounded_in_power_time_and_charge() -> None:
    async with site(clock=ManualClock()) as s:
        s.operator.send(discharge(power_w=7_009, duration_s=1800, min_soc=10))
        await s.platform.until(lambda: s.platform.count["discharge"] == 1)
        assert bodies(s.platform, "discharge") == [{"discharge_power": 7.0, "duration": 900, "min_soc": 20}]
        assert s.platform.bodies[-1][1] == "/v1/operator/devices/dvc_CP1/connectors/1/discharge"
    async with site() as s:
        s.operator.send(discharge(duration_s=9e9, min_soc=55))
        assert isinstance(await s.heard.ended("c1"), ev.CommandAccepted)
        assert bodies(s.platform, "discharge")[0]["duration"] == 900
        assert bodies(s.platform, "discharge")[0]["min_soc"] == 55


@pytest.mark.parametrize(
    "changes", [{"duration_s": 0.0}, {"duration_s": -5.0}, {"power_w": 9}, {"power_w": -7_000}]
)
async def test_a_discharge_of_nothing_is_refused_and_never_sent(changes: dict[str, Any]) -> None:
    async with site() as s:
        s.operator.send(discharge(**changes))
        assert isinstance(await s.heard.ended("c1"), ev.CommandRefused)
        assert not s.platform.count["discharge"]


@pytest.mark.parametrize(
    ("purposes", "refused"),
    [
        ({"monitor", "control"}, {"discharge"}),
        ({"monitor", "v2g"}, {"start", "limit"}),
        ({"monitor"}, {"discharge", "start", "limit", "stop"}),
        ({"control", "v2g"}, {"discharge", "start", "limit", "stop"}),
    ],
)
async def test_each_command_needs_its_purpose_and_whoever_discharges_may_stop(
    purposes: set[str], refused: set[str]
) -> None:
    wait = "ok" if "monitor" in purposes else "off"
    async with site(purposes=frozenset(purposes), wait=wait) as s:
        found = set()
        for name, make in {"discharge": discharge, "start": start, "limit": limit, "stop": stop}.items():
            s.operator.send(make(name))
            outcome = await s.heard.ended(name)
            if isinstance(outcome, ev.CommandRefused):
                assert "not consented" in outcome.reason
                found.add(name)
        assert found == refused


async def test_a_refused_discharge_leaves_no_trace() -> None:
    async with site() as s:
        s.platform.progress = "failed"
        s.operator.send(discharge())
        outcome = await s.heard.ended("c1")
        assert isinstance(outcome, ev.CommandRefused) and outcome.reason == "no car"
        await s.platform.push("dvc_CP1", state="discharging", power=-7)
        await s.heard.until(lambda: s.heard.of(ev.TransactionStarted))
        await s.heard.until(lambda: s.heard.of(ev.FallbackRefused))  # somebody else's


@pytest.mark.parametrize("bad", [says(500, 9001), HTML, hang_up])
async def test_an_unanswered_discharge_is_looked_for_and_never_repeated(bad: Handler) -> None:
    async with site(prepare=lambda p: p.script["discharge"].append(bad)) as s:
        s.platform.devices["dvc_CP1"] = a_device(status="discharging", power=-7, energy_delivered=0.1)
        s.operator.send(discharge())
        assert isinstance(await s.heard.ended("c1"), ev.CommandAccepted)
        assert s.platform.count["discharge"] == 1
    async with site(prepare=lambda p: p.script["discharge"].append(bad), answer_s=150) as s:
        s.operator.send(discharge())
        assert isinstance(await s.heard.ended("c1"), ev.CommandLost)
        assert s.platform.count["discharge"] == 1


async def test_an_unanswered_second_discharge_is_lost_because_the_first_proves_nothing() -> None:
    async with site(prepare=lambda p: p.script["discharge"].append(hang_up)) as s:
        s.platform.devices["dvc_CP1"] = a_device(status="discharging", power=-7)
        await s.platform.push("dvc_CP1", state="discharging", power=-7)
        await s.heard.until(lambda: s.heard.of(ev.TransactionStarted))
        s.operator.send(discharge())
        assert isinstance(await s.heard.ended("c1"), ev.CommandLost)
        assert s.platform.count["discharge"] == 1


@pytest.mark.parametrize(("status", "code"), [(400, 1002), (403, 2003), (404, 3001), (409, 4001)])
async def test_a_no_to_a_discharge_is_final_and_says_its_code(status: int, code: int) -> None:
    async with site(prepare=lambda p: p.always.update(discharge=says(status, code))) as s:
        s.operator.send(discharge())
        outcome = await s.heard.ended("c1")
        assert isinstance(outcome, ev.CommandRefused) and str(code) in outcome.reason
        assert s.platform.count["discharge"] == 1


# --- flexibility ------------------------------------------------------------------------------------------------


async def test_flexibility_by_percent_and_by_pause() -> None:
    async with site(site_ids=("st-1", "st-2")) as s:
        sent = await s.operator.flexibility(40, 1200, "grid request")
        assert (sent.control_id, sent.percent, round(sent.duration_s)) == ("flx", 40, 1200)
        sent = await s.operator.flexibility(None, 9e9)
        assert sent.percent is None and sent.duration_s <= 4 * 3600
        first, second = bodies(s.platform, "flexibility")
        assert first == {
            "target_type": "site",
            "target_ids": ["st-1", "st-2"],
            "command": "set_power_limit",
            "params": {"power_limit_percent": 40, "duration": 1200, "reason": "grid request"},
        }
        assert second["command"] == "pause_charging" and "power_limit_percent" not in second["params"]
        assert second["params"]["duration"] == 4 * 3600


async def test_flexibility_needs_consent_a_site_and_sense() -> None:
    async with site(site_ids=("st-1",)) as s:
        for percent, duration_s in ((101, 60), (-1, 60), (50, 0), (50, -1), (50, float("nan"))):
            with pytest.raises(ValueError):
                await s.operator.flexibility(percent, duration_s)
        with pytest.raises(ValueError, match="confirmation"):
            await s.operator.flexibility(50, 60, everything=True)
        assert not s.platform.count["flexibility"]
        await s.operator.flexibility(50, 60, everything=True, confirmed=True)
        assert bodies(s.platform, "flexibility")[0]["target_type"] == "all"
    for changes in ({"purposes": ALL - {"flexibility"}, "site_ids": ("st-1",)}, {"site_ids": ()}):
        async with site(**changes) as s:
            with pytest.raises(Misconfigured):
                await s.operator.flexibility(40, 120)
            assert not s.platform.count["flexibility"]


async def test_a_refused_flexibility_says_so_and_leaves_nothing_behind() -> None:
    async with site(
        site_ids=("st-1",), prepare=lambda p: p.script["flexibility"].append(says(404, 3001))
    ) as s:
        with pytest.raises(DriverError, match="3001"):
            await s.operator.flexibility(40, 120)
        await s.operator.end_flexibility()  # there is none
        assert s.platform.count["flexibility"] == 1
        await s.operator.flexibility(40, 120)
        await s.operator.end_flexibility()
        last = bodies(s.platform, "flexibility")[-1]["params"]
        assert last == {"power_limit_percent": 100, "duration": 1, "reason": "site limit"}


async def test_flexibility_says_when_the_quota_is_shut_instead_of_waiting() -> None:
    busy = says(429, 5001, retry_after_seconds=900)
    async with site(site_ids=("st-1",), prepare=lambda p: p.always.update(schedule=busy)) as s:
        s.operator.send(limit())
        assert isinstance(await s.heard.ended("c1"), ev.CommandRefused)
        with pytest.raises(DriverError, match="no control request"):
            await s.operator.flexibility(40, 120)
        assert not s.platform.count["flexibility"]


async def test_a_brake_does_not_lift_a_deeper_order_and_the_order_goes_out_again_after_it() -> None:
    clock = ManualClock()
    names = [f"CP{n}" for n in range(1, 7)]
    readings = Readings(schedule_confirmed_by="answer", brake_s=100)
    async with site(" ".join(names), clock=clock, site_ids=("st-1",), readings=readings) as s:
        await s.operator.flexibility(60, 1000)
        for name in names:
            await s.platform.push(f"dvc_{name}", state="charging", power=11)
        await s.heard.until(lambda: len(s.heard.of(ev.TransactionStarted)) == 6)
        for at, name in enumerate(names):
            s.operator.send(limit(f"d{at}", 8_000, name))
        await s.platform.until(lambda: s.platform.count["flexibility"] == 2)
        assert bodies(s.platform, "flexibility")[-1]["params"]["power_limit_percent"] == 25
        await _advance_until(s, lambda: s.platform.count["flexibility"] == 3)
        last = bodies(s.platform, "flexibility")[-1]["params"]
        assert last["power_limit_percent"] == 60 and 850 < last["duration"] <= 900
        # a milder order while a pause holds changes nothing at the chargers
        await s.operator.flexibility(None, 50)
        assert bodies(s.platform, "flexibility")[-1]["command"] == "pause_charging"


async def _advance_until(s: Site, true: Any) -> None:
    assert isinstance(s.clock, ManualClock)
    async with asyncio.timeout(8):
        while not true():
            s.clock.advance(1.0)
            await asyncio.sleep(0.003)


# --- plans in the charger ---------------------------------------------------------------------------------------


def a_plan(id: str = "night", **changes: Any) -> Schedule:
    slots = (TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, 11_000),)
    return replace(Schedule(id, ScheduleType.DAILY, True, "Europe/Amsterdam", slots), **changes)


def plans(platform: Platform) -> list[Any]:
    return [body for body in bodies(platform, "schedule") if body["schedule_id"].startswith("depot-plan")]


def store(plan: Schedule, evse: EvseId = CP1, id: str = "s1") -> StoreSchedule:
    return StoreSchedule(id, evse, CHANNEL, plan)


async def test_a_plan_goes_into_a_free_charger_and_again_after_our_session() -> None:
    async with site() as s:
        s.operator.send(store(a_plan()))
        await s.platform.until(lambda: len(plans(s.platform)) == 1)
        assert plans(s.platform)[0]["time_slots"][0]["power_limit"] == 4.14
        s.operator.send(start("a"))
        assert isinstance(await s.heard.ended("a"), ev.CommandAccepted)
        order = [op for op, _, _ in s.platform.bodies if op in ("schedule", "start")]
        assert order == ["schedule", "schedule", "start"]  # set aside before the start
        assert plans(s.platform)[1]["enabled"] is False
        await s.platform.push("dvc_CP1", state="charging", power=4.1)
        s.operator.send(limit("b"))
        assert isinstance(await s.heard.ended("b"), ev.CommandAccepted)
        s.operator.send(stop("c"))
        assert isinstance(await s.heard.ended("c"), ev.CommandAccepted)
        assert len(plans(s.platform)) == 2
        await s.platform.push("dvc_CP1", state="idle", power=0)
        await s.platform.until(lambda: len(plans(s.platform)) == 3)
        assert plans(s.platform)[2]["enabled"] is True


async def test_a_plan_waits_while_somebody_charges_and_a_lease_displaces_it() -> None:
    async with site(prepare=lambda p: p.devices.update(dvc_CP1=a_device(status="charging", power=5))) as s:
        await s.heard.until(lambda: s.heard.of(ev.TransactionStarted))
        s.operator.send(store(a_plan()))
        s.operator.send(limit("a"))
        assert isinstance(await s.heard.ended("a"), ev.CommandAccepted)
        assert not plans(s.platform)
        s.platform.devices["dvc_CP1"] = a_device()
        await s.platform.push("dvc_CP1", state="idle", power=0)
        await s.platform.until(lambda: len(plans(s.platform)) == 1)
        await s.platform.push("dvc_CP1", state="charging", power=5)
        s.operator.send(limit("b"))
        assert isinstance(await s.heard.ended("b"), ev.CommandAccepted)
        await s.platform.push("dvc_CP1", state="idle", power=0)
        await s.platform.until(lambda: len(plans(s.platform)) == 2)


async def test_one_plan_per_connector_and_dropping_it_deletes_it() -> None:
    async with site() as s:
        s.operator.send(store(a_plan("one")))
        await s.platform.until(lambda: len(plans(s.platform)) == 1)
        s.operator.send(store(a_plan("two")))
        await s.platform.until(lambda: len(plans(s.platform)) == 3)
        one, gone, two = plans(s.platform)
        assert gone["schedule_id"] == one["schedule_id"] != two["schedule_id"]
        assert gone["enabled"] is False and gone["effective_from"] == gone["effective_until"]
        s.operator.send(DropSchedule("d", CP1, CHANNEL, "two"))
        assert isinstance(await s.heard.ended("d"), ev.CommandAccepted)
        await s.platform.until(lambda: len(plans(s.platform)) == 4)
        assert (
            plans(s.platform)[3]["schedule_id"] == two["schedule_id"] and not plans(s.platform)[3]["enabled"]
        )


async def test_a_plan_that_is_refused_is_not_sent_again_and_one_that_is_lost_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site("CP1 CP2", prepare=lambda p: p.script["schedule"].append(says(400, 1001))) as s:
        s.operator.send(store(a_plan()))
        await s.platform.until(lambda: len(plans(s.platform)) == 1)
        s.platform.script["schedule"].append(says(500, 9001))
        s.operator.send(store(a_plan(), EvseId("CP2/1"), "s2"))
        await s.platform.until(lambda: len(plans(s.platform)) == 3)
        await s.clock.sleep(200)
        paths = [path for op, path, _ in s.platform.bodies if op == "schedule"]
        assert [path.split("/")[4] for path in paths] == ["dvc_CP1", "dvc_CP2", "dvc_CP2"]
        assert "1001" in caplog.text


async def test_a_plan_that_the_charger_may_have_from_before_is_taken_out_by_its_name() -> None:
    async with site() as s:
        s.operator.send(DropSchedule("d", CP1, CHANNEL, "night"))
        assert isinstance(await s.heard.ended("d"), ev.CommandAccepted)
        await s.platform.until(lambda: len(plans(s.platform)) == 1)
        assert plans(s.platform)[0]["enabled"] is False
        s.operator.send(store(a_plan()))
        await s.platform.until(lambda: len(plans(s.platform)) == 2)
        assert plans(s.platform)[0]["schedule_id"] == plans(s.platform)[1]["schedule_id"]
        s.operator.send(store(a_plan(), id="again"))
        assert isinstance(await s.heard.ended("again"), ev.CommandAccepted)
        await s.clock.sleep(60)
        assert len(plans(s.platform)) == 2, "it has that one"


@pytest.mark.parametrize(
    ("plan", "evse", "purposes", "why"),
    [
        ({"timezone": "Mars/Olympus"}, CP1, ALL, "Mars"),
        ({}, EvseId("CP9/1"), ALL, "not on this platform"),
        ({}, CP1, ALL - {"control"}, "purpose control not consented"),
    ],
)
async def test_impossible_plans_are_refused_with_the_reason(
    plan: dict[str, Any], evse: EvseId, purposes: frozenset[str], why: str
) -> None:
    async with site(purposes=purposes) as s:
        s.operator.send(store(a_plan(**plan), evse))
        refused = await s.heard.ended("s1")
        assert isinstance(refused, ev.CommandRefused) and why in refused.reason
        if not plan:
            s.operator.send(DropSchedule("d", evse, CHANNEL, "night"))
            assert isinstance(await s.heard.ended("d"), ev.CommandRefused)


# --- signature, region ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", ["", "\n"])
async def test_signed_requests_verify_over_what_was_on_the_wire(delimiter: str) -> None:
    joined: Any = "newline" if delimiter else "nothing"
    readings = Readings(signature_joined_by=joined)
    async with site(sign_requests=True, readings=readings, site_ids=("st 1",)) as s:
        s.operator.send(stop())
        await s.heard.ended("c1")
        await s.operator.energy(datetime.fromisoformat("2026-06-02T00:00:00Z"), s.clock.now().utc)
        seen = {op: (path, body, head) for op, path, body, head in s.platform.heads}
        assert set(seen) == {"token", "device", "stream", "stop", "command", "energy"}
        assert "X-Signature" not in seen.pop("token")[2]  # its secret is in the body
        for operation, (path, body, head) in seen.items():
            method = "POST" if operation == "stop" else "GET"
            text = delimiter.join([method, path.partition("?")[0], head["X-Timestamp"], body])
            expected = hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()
            assert head["X-Signature"] == expected, operation
            sent = datetime.fromisoformat(head["X-Timestamp"])
            assert abs((s.clock.now().utc - sent).total_seconds()) < 600


async def test_unsigned_is_the_default_and_an_untrusted_clock_signs_nothing() -> None:
    async with site() as s:
        assert not any("X-Signature" in head for _, _, _, head in s.platform.heads)
    async with site(sign_requests=True, clock=ManualClock(trusted=False), wait="down") as s:
        assert "clock is not trusted" in s.heard.of(ev.ChannelChanged)[0].text
        assert set(s.platform.count) == {"token"}


async def test_signatures_reach_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[Any] = []
    async with site(sign_requests=True, on_request=lambda *request: shown.append(request)) as s:
        s.operator.send(stop())
        await s.heard.ended("c1")
        signatures = [head["X-Signature"] for _, _, _, head in s.platform.heads if "X-Signature" in head]
    assert signatures and not any(signature in caplog.text + repr(shown) for signature in signatures)


async def test_a_host_of_another_region_is_never_opened() -> None:
    with pytest.raises(Misconfigured, match="region"):
        async with site(base_url="https://us.platform.example/v1", region="eu"):
            raise AssertionError


# --- looking at phases ------------------------------------------------------------------------------------------


async def test_a_charger_that_begins_to_charge_is_read_soon_to_see_its_phases() -> None:
    async with site() as s:
        s.platform.devices["dvc_CP1"] = a_device(status="charging", power=7.36, voltage=230.0, current=32.0)
        await s.platform.push("dvc_CP1", state="charging", power=7.36)
        await s.platform.push("dvc_CP1", state="charging", power=7.36)
        began_s = s.clock.now().mono_s
        samples = await s.heard.until(
            lambda: [e for e in s.heard.of(ev.EvseSample) if e.current_ma == (32_000, None, None)]
        )
        assert samples[0].power_w == 7_360
        assert s.platform.seen_s["device"][-1] - began_s < 25  # and not when the silence rule asks
