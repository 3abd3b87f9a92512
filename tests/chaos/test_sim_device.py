"""The simulated Open Platform charger against a tiny on-site host on a real socket."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from device_host import bench

from drivers.sim import cloudcharger, device, deviceorders
from drivers.sim.evse import SimEvse
from drivers.sim.v2g import V2gEvse

POWER = {"charge_power": 4.14}  # 6 A


async def test_first_contact_registers_once_and_in_order() -> None:
    async with bench() as b:
        await b.host.until(lambda: b.host.polls)
        kinds = list(dict.fromkeys(path for path, _ in b.host.heard))
        assert kinds == ["register", "token", "heartbeat", "telemetry"]
        assert b.host.heard[0][1] == {
            "sn": "SN1",
            "model": "TP-AC22",
            "manufacturer": "Simulated",
            "firmware_version": "260420.0107",
        }
        beat = await b.host.first("heartbeat")
        assert (beat["status"], beat["fault_code"]) == ("online", 0)
        assert b.host.polls[0] == {"connector_id": "1", "wait": "30"}
        await b.host.until(lambda: len(b.host.all("heartbeat")) >= 3)
        b.device.reboot(1.0)
        await b.host.until(lambda: len(b.host.all("token")) == 2)
        assert len(b.host.all("register")) == 1
        assert json.loads(json.dumps(b.store)) == b.store  # plain values, fit for a file


async def test_a_new_process_with_the_same_memory_keeps_the_identity() -> None:
    async with bench() as b:
        await b.switch_off()
        b.switch_on()
        await b.eventually(lambda: b.device.connected)
        assert len(b.host.all("register")) == 1


async def test_lost_credentials_ask_for_service_and_do_not_loop() -> None:
    async with bench() as b:
        await b.switch_off()
        b.store.clear()
        b.switch_on()
        await b.eventually(lambda: b.device.link.needs_service)
        assert "4001" in str(b.device.link.needs_service)
        await b.clock.sleep(60)
        assert len(b.host.all("register")) == 2
        assert not b.device.connected


async def test_a_whole_session() -> None:
    async with bench() as b:
        b.plug()
        plug_in = await b.host.first("events", event_type="plug_in")
        assert (plug_in["connector_id"], plug_in["data"]) == (1, {"vehicle_connected": True})
        start = await b.order("start_charging", {"charge_power": 11.04})
        await b.word(start, "accepted")
        await b.host.first("events", event_type="start")
        full = await b.host.first("telemetry", power=11.04)
        assert (full["state"], full["current"], full["voltage"]) == ("charging", 16.0, 230.0)
        assert full["phase_details"]["phase_c"] == {"voltage": 230.0, "current": 16.0}
        assert set(full) == {
            *("timestamp", "connector_id", "state", "voltage", "current", "power", "energy_delivered", "soc"),
            "phase_details",
        }
        stop = await b.order("stop_charging", {"reason": "time_limit"})
        await b.word(stop, "accepted", "completed")
        over = await b.word(start, "accepted", "completed")
        record = await b.host.first("charging-records", connector_id=1)
        assert not {"stop_reason", "device_id"} & record.keys()
        assert record["meter_end"] - record["meter_start"] == pytest.approx(record["energy"])
        assert over["details"]["energy_delivered"] == record["energy"] > 0
        assert (await b.host.first("events", event_type="stop"))["data"] == {"reason": "time_limit"}
        b.evse.unplug()
        await b.host.first("events", event_type="plug_out")
        events = [body["event_type"] for body in b.host.all("events")]
        assert events == ["plug_in", "start", "stop", "plug_out"]


async def test_accepted_is_known_before_anything_flows() -> None:
    async with bench() as b:
        b.plug()
        await b.order("start_charging")
        await b.host.first("events", event_type="start")
        heard = [path if path != "events" else body["event_type"] for path, body in b.host.heard]
        assert heard.index("command-status") < heard.index("start")
        assert all(
            body["power"] == 0 for path, body in b.host.heard[: heard.index("start")] if path == "telemetry"
        )


async def test_telemetry_comes_every_5_s_in_a_session_and_every_60_s_idle() -> None:
    async with bench() as b:
        await b.host.until(lambda: len(b.host.all("telemetry")) >= 3)
        assert 59 <= _gaps(b.host.all("telemetry")[-2:])[0] <= 90
        b.plug()
        await b.order("start_charging", POWER)
        await b.host.until(lambda: len(b.host.all("telemetry", state="charging")) >= 6)
        gaps = sorted(_gaps(b.host.all("telemetry", state="charging")[2:]))
        assert gaps[0] >= 4
        assert gaps[len(gaps) // 2] <= 8  # the machine of the test may pause for a moment


async def test_a_limit_lies_over_the_start_and_falls_back_by_itself() -> None:
    async with bench() as b:
        b.plug()
        await b.order("start_charging", POWER)
        await b.offered(6.0)
        limit = await b.order("set_power_limit", {"power_limit": 11.04, "duration": 120})
        await b.offered(16.0)
        b.device.drop_link(150)
        assert b.evse.offered_a == pytest.approx(16.0)  # the link has nothing to do with it
        await b.offered(6.0)
        await b.word(limit, "accepted", "completed")


async def test_a_newer_limit_replaces_and_below_the_minimum_it_pauses() -> None:
    async with bench() as b:
        b.plug()
        await b.order("start_charging", {"charge_power": 22.08})
        await b.offered(32.0)
        long = await b.order("set_power_limit", {"power_limit": 6.9, "duration": 600})
        await b.offered(10.0)
        await b.order("set_power_limit", {"power_limit": 4.0, "duration": 100})
        await b.offered(0.0)
        assert b.device.connectors[0].session is not None
        await b.host.first("telemetry", state="idle", power=0.0)
        await b.offered(32.0)  # back to the start's power, not to the limit that was replaced
        await b.word(long, "accepted")


async def test_a_percentage_is_of_rated_power_and_bounds_a_limit() -> None:
    async with bench() as b:
        b.plug()
        await b.order("start_charging", POWER)
        await b.order("set_power_limit", {"power_limit": 22.0, "duration": 300})
        await b.order("set_power_limit", {"power_limit_percent": 50, "duration": 100})
        await b.offered(16.0)
        await b.offered(22_000 / 690)


async def test_discharge_and_how_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudcharger, "LONELY_DISCHARGE_S", 150.0)
    async with bench(V2gEvse("SN1/1", 32.0)) as b:
        b.plug(soc=0.7)
        out = await b.order("discharge", {"discharge_power": 11.04, "duration": 3600, "min_soc": 30})
        seen = await b.host.first("telemetry", power=-11.04)
        assert (seen["state"], seen["current"], seen["phase_details"]["phase_a"]["current"]) == (
            "discharging",
            16.0,
            16.0,
        )
        await b.order("set_power_limit", {"power_limit": 0, "duration": 60})
        assert (await b.word(out, "accepted", "completed"))["details"]["reason"] == "paused"
        assert (await b.host.first("charging-records"))["energy"] > 0
        assert b.evse.register_wh == 0.0
        lonely = await b.order("discharge", {"discharge_power": 5, "duration": 36000})
        await b.eventually(lambda: b.evse.power_w < 0)
        b.device.drop_link(200)
        await b.clock.sleep(40)
        assert b.evse.power_w < 0
        await b.eventually(lambda: b.evse.power_w == 0)
        assert (await b.word(lonely, "accepted", "completed"))["details"]["reason"] == "link_lost"


async def test_a_schedule_outlives_the_process() -> None:
    async with bench() as b:
        slot = {"start": "00:00", "end": "00:00", "action": "charge", "power_limit": 6.9}
        plan = {"schedule_id": "p", "enabled": True, "type": "daily", "timezone": "UTC", "time_slots": [slot]}
        await b.word(await b.order("set_schedule", plan), "accepted", "completed")
        await b.switch_off()
        b.switch_on()
        await b.eventually(lambda: b.device.connected)
        b.plug()
        await b.order("start_charging", {"charge_power": 22.0})
        await b.offered(10.0)
        for limit_kw, amps in ((4.14, 6.0), (22.0, 10.0)):  # the lower of slot and limit holds
            await b.order("set_power_limit", {"power_limit": limit_kw, "duration": 600})
            await b.offered(amps)


# --- commands: once, in time, on the right connector -------------------------------------------------------


async def test_one_command_over_both_paths_is_acted_on_once() -> None:
    async with bench() as b:
        b.plug()
        command = b.host.command("start_charging", {"connector_id": 1}, b.soon())
        b.host.in_heartbeat = [command]
        await b.host.offer(command)
        await b.host.first("events", event_type="start")
        await b.order("stop_charging")
        await b.host.offer(command)  # and once more when it is long over
        await b.host.next_poll()
        b.device.reboot(1.0)
        await b.eventually(lambda: not b.device.connected)
        await b.host.offer(command)
        await b.host.next_poll()
        await b.host.next_poll()
        assert len(b.host.all("events", event_type="start")) == 1
        words = {body["status"] for body in b.host.all("command-status", command_id=command["command_id"])}
        assert words == {"accepted", "completed"}  # its last word is said again, nothing else


@pytest.mark.parametrize(
    ("name", "params", "expiry", "reason"),
    [
        ("start_charging", {}, "2020-01-01T00:00:00Z", "expired"),
        ("set_power_limit", {"power_limit": 5, "duration": 60}, "2020-01-01T00:00:00Z", "expired"),
        ("start_charging", {"connector_id": 2}, None, "connector_id must be a whole number, 1 to 1"),
        ("start_charging", {"charge_power": "much"}, None, "charge_power must be a power in kW"),
        ("start_charging", [], "never", "expiry must be an ISO 8601 time with a zone"),
        ("start_charging", [1], None, "params must be an object"),
        ("discharge", {"discharge_power": 5}, "later", "no_v2g_hardware"),
        ("set_power_limit", {"power_limit": 5}, None, "duration is required"),
        ("set_power_limit", {"duration": 5}, None, "power_limit or power_limit_percent is required"),
        (
            "set_power_limit",
            {"power_limit": float("nan"), "duration": 5},
            None,
            "power_limit must be a power in kW",
        ),
        ("set_schedule", {"schedule_id": "p"}, None, "enabled is required"),
        (
            "firmware_upgrade",
            {"firmware_version": "2", "url": "http://x/"},
            None,
            "url must begin with https://",
        ),
        ("reboot", {}, None, "unknown command reboot"),
    ],
)
async def test_what_is_rejected(name: str, params: Any, expiry: str | None, reason: str) -> None:
    async with bench() as b:
        b.plug()
        command = b.host.command(name, params, b.soon() if expiry == "later" else expiry)
        await b.host.offer(command)
        said = await b.word(command["command_id"], "rejected")
        assert said["message"] == reason
        assert not b.evse.energised


async def test_without_an_expiry_a_start_needs_a_steady_link_and_a_stop_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as b:
        b.plug()
        monkeypatch.setattr(deviceorders, "STEADY_LINK_S", 1e6)
        early = b.host.command("start_charging")
        await b.host.offer(early)
        assert (await b.word(early["command_id"], "rejected"))["message"] == "age_unknown"
        monkeypatch.undo()
        await b.clock.sleep(120)
        start = b.host.command("start_charging")
        await b.host.offer(start)
        await b.word(start["command_id"], "accepted")
        await b.eventually(lambda: b.evse.energised)
        stop = b.host.command("stop_charging", {}, "2020-01-01T00:00:00Z")
        await b.host.offer(stop)
        await b.word(stop["command_id"], "accepted", "completed")


async def test_it_judges_by_its_own_clock() -> None:
    async with bench(skew_s=7200) as b:
        b.plug()
        command = b.host.command("start_charging", {}, b.soon())
        await b.host.offer(command)
        said = await b.word(command["command_id"], "rejected")
        assert said["message"] == "expired"
        assert said["timestamp"] > b.soon(6000)


async def test_things_that_are_no_commands_disturb_nothing() -> None:
    async with bench() as b:
        nameless = {"command_id": 7, "command": "stop_charging", "params": {}}
        things: tuple[Any, ...] = ("<html>", [], {}, nameless)
        for thing in things:
            await b.host.offer(thing)
        b.host.in_heartbeat = [None, "x"]  # type: ignore[list-item]
        b.plug()
        await b.word(await b.order("start_charging"), "accepted")


async def test_the_connector_of_a_command(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(SimEvse("SN1/1", 32.0), SimEvse("SN1/2", 32.0)) as b:
        b.plug(1)
        b.plug(2)
        nobodys = b.host.command("start_charging", {}, b.soon())
        b.host.in_heartbeat = [nobodys]
        said = await b.word(nobodys["command_id"], "rejected")
        assert said["message"] == "connector_id is required"
        await b.order("start_charging", {}, connector=2)
        await b.host.first("telemetry", connector_id=2, state="charging")
        assert not b.evses[0].energised
        await b.order("start_charging", {"connector_id": 1}, connector=2)  # its own word counts
        await b.host.first("telemetry", connector_id=1, state="charging")


async def test_a_start_that_could_not_be_confirmed_is_not_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "WORD_S", 0.2)
    async with bench() as b:
        b.plug()
        b.host.trouble["command-status"].extend([(500, 9001, {"retry_after_seconds": 3000})])
        command = b.host.command("start_charging", {}, b.soon(9000))
        await b.host.offer(command)
        await b.eventually(
            lambda: (b.device.memory.said(command["command_id"]) or {}).get("status") == "failed"
        )
        assert not b.evse.energised


# --- links, restarts, refusals -----------------------------------------------------------------------------


async def test_offline_it_charges_on_and_nothing_is_lost() -> None:
    async with bench() as b:
        b.plug()
        await b.order("start_charging", {"duration": 120})
        await b.eventually(lambda: b.evse.drawing)
        await b.host.stop()
        await b.eventually(lambda: not b.device.connected)
        assert b.evse.drawing
        await b.eventually(lambda: not b.evse.energised)
        b.evse.unplug()
        await b.clock.sleep(200)
        heard = len(b.host.heard)
        await b.host.start()
        await b.host.first("events", event_type="plug_out")
        await b.host.first("charging-records")
        events = [body["event_type"] for body in b.host.all("events")]
        assert events == ["plug_in", "start", "stop", "plug_out"]
        await b.host.until(lambda: len(b.host.all("telemetry")) and b.device.link.samples.newest == {})
        late = [body for path, body in b.host.heard[heard:] if path == "telemetry"]
        assert len(late) >= 3  # one a minute and how it stands now
        assert _gaps(late)[0] >= 59


async def test_dropped_and_rebooted_it_comes_back() -> None:
    async with bench() as b:
        b.plug()
        start = await b.order("start_charging")
        await b.eventually(lambda: b.evse.drawing)
        b.device.drop_link(30)
        await b.eventually(lambda: not b.device.connected)
        assert b.evse.drawing
        await b.eventually(lambda: b.device.connected)
        assert b.evse.drawing
        b.device.reboot(30)
        assert not b.evse.energised
        await b.eventually(lambda: not b.device.connected)
        said = await b.word(start, "accepted", "completed")
        assert said["details"]["reason"] == "reboot"
        await b.host.first("charging-records")
        await b.host.until(lambda: len(b.host.all("events", event_type="plug_in")) == 2)  # it looked again


async def test_a_record_goes_on_until_it_is_taken() -> None:
    async with bench() as b:
        b.host.trouble["charging-records"].extend(
            [(500, 9001, {}), (429, 5001, {"retry_after_seconds": 7}), (409, 4001, {})]
        )
        b.plug()
        await b.order("start_charging", {"duration": 30})
        await b.host.until(lambda: len(b.host.all("charging-records")) == 3)
        await b.eventually(lambda: not b.device.memory.reports)
        ids = {body["record_id"] for body in b.host.all("charging-records")}
        assert len(ids) == 1
        assert "refused" not in b.store
        await b.order("start_charging", {"duration": 30})
        await b.host.until(lambda: len(b.host.all("charging-records")) == 4)
        assert len({body["record_id"] for body in b.host.all("charging-records")}) == 2


async def test_a_report_that_is_refused_for_good_is_set_aside() -> None:
    async with bench() as b:
        b.host.trouble["events"].append((400, 1001, {}))
        b.plug()
        await b.eventually(lambda: b.store.get("refused"))
        assert b.store["refused"][0]["body"]["event_type"] == "plug_in"
        b.evse.unplug()
        await b.host.first("events", event_type="plug_out")
        await b.eventually(lambda: not b.device.memory.reports)
        assert b.device.connected


async def test_tokens_are_renewed_before_they_expire_and_when_they_are_refused() -> None:
    async with bench(on=False) as b:
        b.host.token_life_s, b.host.wrapped_tokens = 60, True
        b.switch_on()
        await b.host.until(lambda: b.host.issued == 2)
        assert b.device.connected
    async with bench(SimEvse("SN1/1", 32.0), SimEvse("SN1/2", 32.0)) as b:
        await b.host.until(lambda: len(b.host.polls) >= 2)
        b.host.tokens.clear()
        await b.word(await b.order("stop_charging"), "accepted", "completed")
        assert b.device.connected
        assert b.host.issued == 2  # one for all requests that found the old one spent


async def test_a_secret_that_is_refused_is_tried_once_an_hour() -> None:
    async with bench(on=False) as b:
        b.host.trouble["token"].append((401, 2001, {}))
        b.switch_on()
        await b.eventually(lambda: b.device.link.needs_service)
        await b.clock.sleep(120)
        assert len(b.host.all("token")) == 1
        b.device.drop_link()
        await b.eventually(lambda: b.device.connected)
        assert b.device.link.needs_service is None


async def test_faults_in_events_and_heartbeats() -> None:
    async with bench() as b:
        b.plug()
        start = await b.order("start_charging")
        b.evse.break_down("F-0421")
        fault = await b.host.first("events", event_type="fault")
        assert fault["data"] == {"fault_code": "F-0421", "fault_message": "F-0421", "details": {}}
        await b.host.first("heartbeat", status="fault", fault_code=421)
        await b.host.first("telemetry", state="fault")
        await b.word(start, "accepted", "failed")
        b.evse.break_down(None)
        await b.host.until(lambda: b.host.all("heartbeat")[-1]["fault_code"] == 0)


async def test_an_upgrade_reports_its_way_and_ends_with_the_first_heartbeat() -> None:
    async with bench() as b:
        upgrade = await b.order("firmware_upgrade", {"firmware_version": "260518.0002"})
        await b.word(upgrade, "accepted", "completed")
        await b.host.first("firmware/status", status="success", firmware_version="260518.0002")
        assert [(s["status"], s["progress"]) for s in b.host.all("firmware/status")] == [
            ("downloading", 0),
            ("downloading", 50),
            ("downloading", 100),
            ("upgrading", 0),
            ("upgrading", 50),
            ("success", 100),
        ]
        assert b.device.identity()["firmware_version"] == b.store["firmware"] == "260518.0002"
        b.plug()
        await b.order("start_charging")
        refused = await b.order("firmware_upgrade", {"firmware_version": "260518.0003"})
        assert (await b.word(refused, "rejected"))["message"] == "session_running"


# --- bad manners -------------------------------------------------------------------------------------------


async def test_quirks_of_limits() -> None:
    async with bench(ignores_limits=True) as b:
        b.plug()
        await b.order("start_charging", POWER)
        await b.word(await b.order("set_power_limit", {"power_limit": 11, "duration": 60}), "accepted")
        await b.host.next_poll()
        await b.offered(6.0)
    async with bench(ignores_expiry=True) as b:
        b.plug()
        await b.order("start_charging", POWER)
        await b.order("set_power_limit", {"power_limit": 11.04, "duration": 10})
        await b.offered(16.0)
        await b.clock.sleep(60)
        await b.offered(16.0)


async def test_quirks_of_reports() -> None:
    async with bench(
        repeats=True, number_faults=True, stop_reasons=True, no_phases=True, paused_state="charging"
    ) as b:
        b.plug()
        await b.order("start_charging", {"charge_power": 1.0})
        assert "phase_details" not in await b.host.first("telemetry", state="charging", power=0.0)
        b.evse.break_down("F-0421")
        await b.host.until(lambda: len(b.host.all("events", event_type="fault")) == 2)
        assert b.host.all("events", event_type="fault")[0]["data"]["fault_code"] == 421
        assert (await b.host.first("charging-records"))["stop_reason"] == "fault"


async def test_quirks_of_commands() -> None:
    async with bench(no_poll=True, no_events=True, rejects=frozenset({"stop_charging"})) as b:
        b.plug()
        start, stop = b.host.command("start_charging", {}, b.soon()), b.host.command("stop_charging")
        b.host.in_heartbeat = [start, stop]
        await b.word(start["command_id"], "accepted")
        await b.word(stop["command_id"], "rejected")
        await b.host.first("telemetry", state="charging")
        assert (b.host.polls, b.host.all("events")) == ([], [])
    async with bench(no_status=True) as b:
        b.plug()
        await b.host.offer(b.host.command("start_charging", {}, b.soon()))
        await b.eventually(lambda: b.evse.energised)
        assert b.host.all("command-status") == []


def _gaps(bodies: list[Any]) -> list[float]:
    times = [datetime.fromisoformat(body["timestamp"]) for body in bodies]
    return [(after - before).total_seconds() for before, after in pairwise(times)]
