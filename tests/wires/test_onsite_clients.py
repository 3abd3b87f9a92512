"""The operator operations of the on-site host for local clients, over real HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from onsite_clients_bench import PAUSE, PLAN, PURPOSES, SLOT, Bench, charging, onsite, order, session, view

from controller.core.events import (
    AccessRefused,
    DischargeWished,
    StartWished,
    StopWished,
)
from controller.core.model import EvseId, EvseState
from controller.core.readings import Readings
from drivers.openplatform.clients import LocalClient

ONE = "/devices/dvc_1/connectors/1"
# --- who may --------------------------------------------------------------------------------------------------------


async def test_a_token_is_bare_and_lasts_a_day() -> None:
    async with onsite() as bench:
        answer = await bench.log_in()
        assert answer.body == {"access_token": bench.token, "token_type": "Bearer", "expires_in": 86400}
        assert answer.headers["Cache-Control"] == "no-store"
        bench.clock.advance(86399)
        assert (await bench.get("/sites")).status == 200
        bench.clock.advance(1)
        assert (await bench.get("/sites")).refusal == (401, 2002, None)


async def test_a_new_token_leaves_the_old_one_valid() -> None:
    async with onsite() as bench:
        first = bench.token
        await bench.log_in()
        assert bench.token != first
        assert (await bench.call("GET", "/sites", token=first)).status == 200


@pytest.mark.parametrize(
    ("client", "secret"),
    [("ems", "viewer-secret"), ("nobody", "x"), ("nobody", ""), ("void", ""), ("ems", "é\ud800")],
)
async def test_a_stranger_gets_no_token_and_is_reported(client: str, secret: str) -> None:
    async with onsite() as bench:
        assert (await bench.log_in(client, secret)).refusal == (401, 2001, None)
        [refused] = bench.said
        assert isinstance(refused, AccessRefused)
        assert (refused.channel, refused.identity, refused.peer) == (
            "open-platform/onsite",
            client,
            "127.0.0.1",
        )


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({}, (400, 1002, "client_id")),
        ({"client_id": "ems", "client_secret": "s"}, (400, 1002, "grant_type")),
        ({"client_id": "ems", "client_secret": "s", "grant_type": "password"}, (400, 1001, "grant_type")),
        (
            {"client_id": 7, "client_secret": "s", "grant_type": "client_credentials"},
            (400, 1001, "client_id"),
        ),
        (
            {"client_id": "ems", "client_secret": ["s"], "grant_type": "client_credentials"},
            (400, 1001, "client_secret"),
        ),
    ],
)
async def test_a_token_request_is_read_strictly(body: Any, refusal: Any) -> None:
    async with onsite() as bench:
        answer = await bench.post("/oauth/token", body)
        assert answer.refusal == refusal
        assert bench.said == []


async def test_guessing_secrets_ends_at_ten_a_minute_and_then_the_right_one_waits_too() -> None:
    async with onsite(replace(Readings(), tokens_per_min=10)) as bench:
        for _ in range(10):
            assert (await bench.log_in("viewer", "guess")).status == 401
        assert (await bench.log_in("viewer", "guess")).refusal == (429, 5001, None)
        assert (await bench.log_in("viewer")).refusal == (
            429,
            5001,
            None,
        )  # else guessing would go on behind it
        bench.clock.advance(6)
        assert (await bench.log_in("viewer")).status == 200


@pytest.mark.parametrize("token", ["", "unknown", "é", "x" * 5000])
async def test_without_a_known_token_nothing_opens(token: str) -> None:
    async with onsite() as bench:
        answer = await bench.call("GET", "/sites", token=token)
        assert answer.refusal == (401, 2001, None)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_scopes_do_not_include_each_other() -> None:
    async with onsite() as bench:
        await bench.log_in("viewer")
        assert (await bench.post(f"{ONE}/stop")).refusal == (403, 2003, None)
        assert (await bench.get("/sites")).status == 200
        await bench.log_in("hand")
        assert (await bench.get("/sites")).refusal == (403, 2003, None)
        assert (await bench.post(f"{ONE}/stop")).status == 200


async def test_each_purpose_gates_its_operations_but_never_a_stop() -> None:
    async with onsite(purposes=frozenset()) as bench:
        calls = [
            ("GET", "/sites", None),
            ("GET", "/devices/dvc_1", None),
            ("GET", "/charging-records", None),
            ("GET", "/aggregated/energy", None),
            ("POST", f"{ONE}/start", None),
            ("POST", f"{ONE}/schedule", PLAN),
            ("POST", f"{ONE}/discharge", {"discharge_power": 5}),
            ("POST", "/control/flexibility", PAUSE),
        ]
        for method, path, body in calls:
            assert (await bench.call(method, path, body)).refusal == (403, 2003, None), path
        assert (await bench.get("/stream", devices="dvc_1")).refusal == (403, 2003, None)
        assert bench.said == []
        assert (await bench.post(f"{ONE}/stop")).status == 200
    async with onsite(purposes=PURPOSES - {"v2g"}) as bench:
        plan = PLAN | {"time_slots": [SLOT | {"action": "discharge"}]}
        assert (await bench.post(f"{ONE}/schedule", plan)).refusal == (403, 2003, None)
        assert bench.said == []


async def test_quotas_are_per_client_and_a_stop_has_its_own() -> None:
    async with onsite(Readings()) as bench:
        for _ in range(60):
            assert (await bench.get("/sites")).status == 200
        refused = await bench.get("/sites")
        assert refused.refusal == (429, 5001, None)
        assert refused.body["details"] == {"retry_after_seconds": 1}
        assert refused.headers["Retry-After"] == "1"
        for _ in range(30):
            assert (await bench.post(f"{ONE}/start", {"charge_power": 7})).status == 200
        assert (await bench.post(f"{ONE}/start")).refusal == (429, 5001, None)
        assert (await bench.post("/control/flexibility", PAUSE)).refusal == (429, 5001, None)
        assert (await bench.post(f"{ONE}/stop")).status == 200
        await bench.log_in("viewer")
        assert (await bench.get("/sites")).status == 200
        await bench.log_in("ems")
        bench.clock.advance(1)
        assert (await bench.get("/sites")).status == 200
        assert (await bench.get("/sites")).status == 429


def test_no_secret_in_a_repr() -> None:
    assert "hush" not in repr(LocalClient("ems", "hush", frozenset()))


# --- reading --------------------------------------------------------------------------------------------------------


async def test_the_site() -> None:
    async with onsite() as bench:
        bench.show(charging("CP1/1"), view("CP1/2", EvseState.FAULTED))
        assert (await bench.get("/sites")).data == {
            "items": [
                {
                    "site_id": "st-a",
                    "name": "Depot Noord",
                    "total_connectors": 3,
                    "status_summary": {"idle": 0, "charging": 1, "fault": 1},
                    "power_capacity": 172.5,
                }
            ],
            "total": 1,
            "page": 1,
            "size": 20,
        }
        assert (await bench.get("/sites", page="2", size="5")).data == {
            "items": [],
            "total": 1,
            "page": 2,
            "size": 5,
        }
        assert (await bench.get("/sites", status="inactive")).data["total"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("page", "0"), ("page", "x"), ("size", "101"), ("size", "-1"), ("size", "²"), ("status", "on")],
)
async def test_paging_is_read_strictly(field: str, value: str) -> None:
    async with onsite() as bench:
        assert (await bench.get("/sites", **{field: value})).refusal == (400, 1001, field)


async def test_a_charger_shows_what_is_known_and_nothing_else() -> None:
    async with onsite() as bench:
        bench.show(charging("CP1/1"))
        answer = await bench.get("/devices/dvc_1")
        assert answer.data == {
            "device_id": "dvc_1",
            "sn": "SN1",
            "model": "TP-DC180",
            "manufacturer": "Tellus Power",
            "firmware_version": "260420.0107",
            "last_heartbeat": "2026-06-02T12:00:00Z",
            "status": "online",
            "connectors": [
                {
                    "connector_id": 1,
                    "status": "charging",
                    "power": 22.1,
                    "current": 32.0,
                    "energy_delivered": 5.4,
                    "soc": 58,
                },
                {"connector_id": 2, "status": "idle", "energy_delivered": 0},
            ],
            "site_id": "st-a",
        }
        assert "F00D" not in str(answer.body) and "WZZTST" not in str(answer.body)
        other = (await bench.get("/devices/dvc_2")).data
        assert other["status"] == "offline" and other["connectors"][0]["status"] == "unavailable"
        assert "firmware_version" not in other


@pytest.mark.parametrize(
    ("state", "power_w", "status"),
    [
        (EvseState.PREPARING, None, "idle"),
        (EvseState.SUSPENDED_EVSE, 0, "idle"),
        (EvseState.FINISHING, 300, "charging"),
        (EvseState.SUSPENDED_EV, -300, "discharging"),
        (EvseState.DISCHARGING, -9000, "discharging"),
        (EvseState.RESERVED, None, "unavailable"),
        (EvseState.FAULTED, 300, "fault"),
    ],
)
async def test_states_of_a_connector(state: EvseState, power_w: int | None, status: str) -> None:
    async with onsite() as bench:
        bench.show(view("CP1/1", state, power_w=power_w))
        connector = (await bench.get("/devices/dvc_1")).data["connectors"][0]
        assert connector["status"] == status
        assert connector.get("power") == (None if power_w is None else power_w / 1000)


async def test_every_evse_state_has_a_word() -> None:
    async with onsite() as bench:
        for state in EvseState:
            bench.show(view("CP1/1", state))
            status = (await bench.get("/devices/dvc_1")).data["connectors"][0]["status"]
            assert status in ("idle", "charging", "discharging", "fault", "unavailable")


async def test_before_the_first_snapshot_nothing_is_invented() -> None:
    async with onsite() as bench:
        bench.shown[0] = None
        assert (await bench.get("/devices/dvc_1")).refusal == (500, 9001, None)


# --- acting ---------------------------------------------------------------------------------------------------------


async def test_a_start_becomes_a_wish() -> None:
    async with onsite() as bench:
        body = {
            "charge_power": 7.0,
            "duration": 5400,
            "target_soc": 85,
            "transaction_id": "t-1",
            "surprise": [1],
        }
        answer = await bench.post(f"{ONE}/start", body)
        assert answer.body["message"] == "queued"
        command_id = answer.data["command_id"]
        assert answer.data == {"command_id": command_id, "status": "queued"}
        # 7 kW on three phases of 230 V: 10144.9 mA, rounded down
        assert bench.said == [
            StartWished(command_id, "client ems", EvseId("CP1/1"), limit_ma=10_144, soc=85, duration_s=5400.0)
        ]


async def test_a_start_needs_no_body_and_a_big_power_is_no_more_than_the_rating() -> None:
    async with onsite() as bench:
        await bench.post(f"{ONE}/start", b"")
        await bench.post("/devices/dvc_1/connectors/2/start", {"charge_power": 500})
        first, second = bench.said
        assert isinstance(first, StartWished) and (first.limit_ma, first.soc, first.duration_s) == (
            None,
            None,
            None,
        )
        assert isinstance(second, StartWished) and (second.evse, second.limit_ma) == ("CP1/2", 32_000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"charge_power": 0}, "charge_power"),
        ({"charge_power": None}, "charge_power"),
        ({"transaction_id": None}, "transaction_id"),
        ({"charge_power": -7}, "charge_power"),
        ({"charge_power": "7"}, "charge_power"),
        ({"charge_power": True}, "charge_power"),
        ({"charge_power": 10**400}, "charge_power"),
        ({"duration": 0}, "duration"),
        ({"duration": 1.5}, "duration"),
        ({"duration": 10**9}, "duration"),
        ({"target_soc": 101}, "target_soc"),
        ({"target_soc": [50]}, "target_soc"),
        ({"transaction_id": ""}, "transaction_id"),
        ({"transaction_id": "x" * 129}, "transaction_id"),
        ({"transaction_id": "a\nb"}, "transaction_id"),
        ({"transaction_id": "\ud800"}, "transaction_id"),
    ],
)
async def test_a_start_is_read_strictly(body: Any, field: str) -> None:
    async with onsite() as bench:
        assert (await bench.post(f"{ONE}/start", body)).refusal == (400, 1001, field)
        assert bench.said == []


async def test_a_number_beyond_json_is_refused_with_the_field() -> None:
    async with onsite() as bench:
        assert (await bench.post(f"{ONE}/start", b'{"charge_power": 1e999}')).refusal == (
            400,
            1001,
            "charge_power",
        )
        assert (await bench.post(f"{ONE}/start", b'{"charge_power": NaN}')).refusal == (400, 1001, None)


@pytest.mark.parametrize(
    "path", ["/devices/dvc_9/connectors/1", "/devices/dvc_1/connectors/3", "/devices/%2e%2e/connectors/1"]
)
@pytest.mark.parametrize("action", ["start", "stop", "discharge", "schedule"])
async def test_an_unknown_connector_is_3001(path: str, action: str) -> None:
    async with onsite() as bench:
        assert (await bench.post(f"{path}/{action}", {})).refusal == (404, 3001, None)


@pytest.mark.parametrize("number", ["0", "one", "-1", "1.0", "9999999999999"])
async def test_a_connector_is_a_number_from_1(number: str) -> None:
    async with onsite() as bench:
        assert (await bench.post(f"/devices/dvc_1/connectors/{number}/stop")).refusal == (
            400,
            1001,
            "connector_id",
        )


async def test_a_power_is_a_current_on_the_phases_the_connector_has() -> None:
    async with onsite() as bench:
        await bench.post("/devices/dvc_1/connectors/2/start", {"charge_power": 3.68})
        [fact] = bench.said
        assert isinstance(fact, StartWished) and fact.limit_ma == 16_000


async def test_the_same_transaction_starts_once_in_ten_minutes() -> None:
    async with onsite() as bench:
        body = {"transaction_id": "t-1"}
        first = (await bench.post(f"{ONE}/start", body)).data["command_id"]
        bench.clock.advance(599)
        assert (await bench.post(f"{ONE}/start", body)).data == {"command_id": first, "status": "queued"}
        assert len(bench.said) == 1
        other = await bench.post("/devices/dvc_2/connectors/1/start", body)
        assert other.data["command_id"] != first and len(bench.said) == 2
        await bench.log_in("hand")
        assert (await bench.post(f"{ONE}/start", body)).data["command_id"] != first
        await bench.log_in("ems")
        bench.clock.advance(1)
        assert (await bench.post(f"{ONE}/start", body)).data["command_id"] != first
        assert len(bench.said) == 4


async def test_a_start_that_never_reached_the_core_may_be_repeated(caplog: pytest.LogCaptureFixture) -> None:
    async with onsite() as bench:
        bench.breaks = True
        refused = await bench.post(f"{ONE}/start", {"transaction_id": "t-1"})
        assert refused.refusal == (500, 9001, None)
        assert "secret" not in str(refused.body)
        [line] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "RuntimeError" in line.message and "\n" not in line.message and line.exc_info is None
        bench.breaks = False
        assert (await bench.post(f"{ONE}/start", {"transaction_id": "t-1"})).status == 200
        assert len(bench.said) == 1


async def test_a_stop() -> None:
    async with onsite() as bench:
        command_id = (await bench.post(f"{ONE}/stop", {"reason": "time_limit"})).data["command_id"]
        assert bench.said == [StopWished(command_id, "client ems", EvseId("CP1/1"))]
        assert (await bench.post(f"{ONE}/stop", {"reason": 7})).refusal == (400, 1001, "reason")
        assert (await bench.post(f"{ONE}/stop", {"reason": None})).refusal == (400, 1001, "reason")
        assert (await bench.post(f"{ONE}/stop", {"reason": "any\nwords"})).status == 200


async def test_a_discharge() -> None:
    async with onsite() as bench:
        body = {"discharge_power": 22.5, "duration": 2700, "min_soc": 45}
        command_id = (await bench.post(f"{ONE}/discharge", body)).data["command_id"]
        assert bench.said == [DischargeWished(command_id, "client ems", EvseId("CP1/1"), 22_500, 45, 2700.0)]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, 1002, "discharge_power"),
        ({"discharge_power": -11}, 1001, "discharge_power"),
        ({"discharge_power": 0.0004}, 1001, "discharge_power"),
        ({"discharge_power": 5, "min_soc": 20.5}, 1001, "min_soc"),
        ({"discharge_power": 5, "min_soc": None}, 1001, "min_soc"),
        ({"discharge_power": 5, "duration": 86_401}, 1001, "duration"),
    ],
)
async def test_a_discharge_is_read_strictly(body: Any, code: int, field: str) -> None:
    async with onsite() as bench:
        answer = await bench.post(f"{ONE}/discharge", body)
        assert answer.refusal == (400, code, field)
        assert bench.said == []


async def test_an_error_repeats_the_value_where_it_is_harmless() -> None:
    async with onsite() as bench:
        answer = await bench.post(f"{ONE}/discharge", {"discharge_power": -11})
        assert answer.body["details"] == {"field": "discharge_power", "value": -11}


# --- progress -------------------------------------------------------------------------------------------------------


async def started(bench: Bench) -> str:
    return str((await bench.post(f"{ONE}/start")).data["command_id"])


async def test_a_start_is_completed_when_its_session_is_over() -> None:
    async with onsite() as bench:
        command_id = await started(bench)
        assert await bench.progress(command_id) == ("queued", None)
        bench.show(orders=[order(command_id, stages="sent")])
        assert await bench.progress(command_id) == ("queued", None)
        bench.clock.advance(5)
        bench.show(orders=[order(command_id, stages="sent accepted")])
        data = (await bench.get(f"/commands/{command_id}")).data
        assert data["status"] == "accepted"
        assert (data["created_at"], data["updated_at"]) == ("2026-06-02T12:00:00Z", "2026-06-02T12:00:05Z")
        done = order(command_id, stages="sent accepted applied measured", outcome="done")
        bench.show(charging("CP1/1"), orders=[done])
        assert (await bench.progress(command_id))[0] == "accepted"
        bench.show(charging("CP1/1", energy_wh=52_900))  # the core has forgotten the order
        assert await bench.progress(command_id) == ("accepted", {"energy_delivered": 52.9})
        bench.show()
        assert await bench.progress(command_id) == ("completed", {"energy_delivered": 52.9})


async def test_another_session_on_the_connector_ends_the_command_too() -> None:
    async with onsite() as bench:
        command_id = await started(bench)
        bench.show(charging("CP1/1"), orders=[order(command_id, outcome="done")])
        await bench.progress(command_id)
        bench.show(charging("CP1/1", id="s-2"))
        assert (await bench.progress(command_id))[0] == "completed"


async def test_progress_is_followed_while_nobody_asks() -> None:
    async with onsite() as bench:
        command_id = await started(bench)
        bench.show(orders=[order(command_id, outcome="refused", reason="the station is offline")])
        bench.clock.advance(1)
        await bench.get("/sites")  # the loop has turned
        bench.show()
        assert await bench.progress(command_id) == ("failed", {"message": "the station is offline"})


async def test_a_discharge_is_completed_when_it_ends_within_its_session() -> None:
    async with onsite() as bench:
        command_id = str((await bench.post(f"{ONE}/discharge", {"discharge_power": 5})).data["command_id"])
        discharging = view("CP1/1", EvseState.DISCHARGING, power_w=-5000, session=session())
        bench.show(discharging, orders=[order(command_id, outcome="done")])
        assert (await bench.progress(command_id))[0] == "accepted"
        bench.show(charging("CP1/1"))
        assert (await bench.progress(command_id))[0] == "completed"


async def test_a_stop_is_completed_when_the_core_says_so() -> None:
    async with onsite() as bench:
        command_id = str((await bench.post(f"{ONE}/stop")).data["command_id"])
        bench.show(orders=[order(command_id, outcome="done")])
        assert (await bench.progress(command_id))[0] == "completed"


async def test_an_order_without_a_trace_fails_after_five_minutes() -> None:
    async with onsite() as bench:
        command_id = await started(bench)
        bench.clock.advance(300)
        assert (await bench.progress(command_id))[0] == "queued"
        bench.clock.advance(1)
        status, result = await bench.progress(command_id)
        assert status == "failed" and "no trace" in result["message"]


async def test_an_order_last_seen_lately_is_not_given_up() -> None:
    async with onsite() as bench:
        command_id = await started(bench)
        bench.clock.advance(299)
        bench.show(orders=[order(command_id, stages="sent")])
        assert (await bench.progress(command_id))[0] == "queued"
        bench.show()
        bench.clock.advance(299)
        assert (await bench.progress(command_id))[0] == "queued"


async def test_a_command_of_another_client_is_unknown() -> None:
    async with onsite() as bench:
        command_id = await started(bench)
        await bench.log_in("viewer")
        assert (await bench.get(f"/commands/{command_id}")).refusal == (404, 3001, None)
        assert (await bench.get("/commands/cmd_none")).refusal == (404, 3001, None)
