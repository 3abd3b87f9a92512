"""The conformance door: who may knock, what each call does, and what it answers when it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ocpp_peer import PASSWORD, Depot, basic, peer, running
from octt_bench import a_suite, open_door, settle, suite_and_station, written
from websockets.exceptions import InvalidStatus

from controller.clock import SystemClock
from controller.core.events import ChannelChanged, TokenSet
from controller.core.model import IdToken
from drivers.errors import Misconfigured
from drivers.ocpp.octt import MOST_ITEMS, ConformanceDoor, loopback

VARIABLE = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}


# --- where it opens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["127.0.0.1:5001", "127.9.9.9:5001", "[::1]:5001", "127.0.0.1:0"])
def test_loopback(text: str) -> None:
    assert loopback(text)[1] in (5001, 0)


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:5001", "10.0.0.1:5001", "[::]:5001", "localhost:5001", ":5001", "5001", "127.0.0.1",
     "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1:-1", "127.0.0.1:²", ""],
)  # fmt: skip
def test_anything_but_loopback_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="only come from this box"):
        loopback(text)


CONFIG = """
[site]
name = "Test bench"
timezone = "Europe/Amsterdam"
limit = "32 A"
assumed_load = "10 A"
{production}
{ocpp}
[station.CP001]
circuit = "site"
fallback = "6 A"
evse.1 = {{ max = "16 A", min = "6 A", phases = "L1 L2 L3" }}
{link}
[storage]
path = "state"
[control]
socket = "control.sock"
"""
OCPP = '[ocpp]\nlisten = "127.0.0.1:0"'


@pytest.mark.parametrize(
    ("production", "address", "code", "said"),
    [
        ("", "0.0.0.0:5001", 2, "only come from this box"),
        ("production = true", "127.0.0.1:0", 1, "production = true under [site] forbids it"),
    ],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path, production: str, address: str, code: int, said: str
) -> None:
    (tmp_path / "CP001.secret").touch(mode=0o600)
    (tmp_path / "CP001.secret").write_text("a-long-random-password")
    link = 'ocpp = { password_file = "CP001.secret" }'
    (tmp_path / "depot.toml").write_text(CONFIG.format(production=production, ocpp=OCPP, link=link))
    command = [
        sys.executable,
        "-m",
        "controller",
        "run",
        str(tmp_path / "depot.toml"),
        "--octt-trigger",
        address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


async def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with running() as (server, depot):
            address = ("127.0.0.1", taken.getsockname()[1])
            door = ConformanceDoor(address, server, SystemClock(), depot.report, lambda token: None)
            with pytest.raises(Misconfigured, match="cannot listen on"):
                await door.run()


async def test_people_see_that_it_is_open() -> None:
    async with open_door() as (_, depot, _):
        told = await depot.until_a(ChannelChanged, channel="ocpp/octt")
        assert told.state == "degraded" and "door is open on 127.0.0.1" in told.text


# --- what it answers ------------------------------------------------------------------------------------------


async def test_a_request_of_1_6_and_its_answer() -> None:
    said = {"status": "Accepted"}
    async with suite_and_station(UnlockConnector={"status": "NotSupported"}, Reset=said) as (
        suite,
        station,
        _,
    ):
        assert await suite.ask("1.6/CP1/reset", {"type": "Soft"}) == said
        assert await station.call_of("Reset") == {"type": "Soft"}
        answer = await suite.ask("1.6/CP1/unlock-connector", {"connectorId": 1})
        assert answer == {"status": "NotSupported"}


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_a_request_of_2(version: str) -> None:
    async with suite_and_station(version, Reset={"status": "Scheduled"}) as (suite, station, _):
        assert await suite.ask(f"{version}/CP1/call/Reset", {"type": "OnIdle"}) == {"status": "Scheduled"}
        assert await station.call_of("Reset") == {"type": "OnIdle"}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("1.6/NOBODY/reset", 404, "no such station"),
        ("1.6/CP2/reset", 404, "CP2 is not connected"),
        ("2.0.1/CP1/call/Reset", 404, "CP1 speaks OCPP 1.6"),
        ("2.1/NOBODY/set-pending-boot", 404, "no such station"),
        ("1.6/CP1/make-coffee", 400, "MakeCoffee is not a message"),
        ("1.6/CP1/reset/now", 404, "no such call"),
        ("3.0/CP1/reset", 404, "no such call"),
        ("2.0.1/CP1/make-coffee", 404, "no such call"),
        ("", 404, "no such call"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked(path: str, status: int, said: str) -> None:
    async with suite_and_station() as (suite, station, _):
        before = len(station.calls)
        found, answer = await suite.post(path, {"type": "Soft"})
        assert (found, list(answer)) == (status, ["error"]) and said in answer["error"]
        assert len(station.calls) == before


BAD_BODIES: list[Any] = [b"", b"type=Soft", b"[]", b"null", b'"Soft"', b"\xff", b"{" * 50_000, b"[" * 5000]


@pytest.mark.parametrize(
    "body", [*BAD_BODIES, {"type": "Gentle"}, {"type": 1}, {}, {"type": "Soft", "when": "now"}]
)
async def test_a_bad_body_is_400_and_nothing_is_sent(body: Any) -> None:
    async with suite_and_station() as (suite, station, _):
        status, answer = await suite.post("1.6/CP1/reset", body)
        assert (status, list(answer)) == (400, ["error"])
        assert not any(action == "Reset" for action, _ in station.calls)


async def test_a_body_too_long_is_400() -> None:
    async with suite_and_station() as (suite, _, _):
        status, answer = await suite.post("1.6/CP1/reset", b'{"type": "' + b"S" * 70_000 + b'"}')
        assert (status, answer) == (400, {"error": "the body is too long"})


async def test_a_mute_station_is_504_and_an_error_of_the_station_502() -> None:
    async with suite_and_station(Reset=None, ClearCache=("InternalError", "no memory")) as (suite, _, _):
        status, answer = await suite.post("1.6/CP1/reset", {"type": "Hard"})
        assert status == 504 and "no answer to Reset" in answer["error"]
        status, answer = await suite.post("1.6/CP1/clear-cache")
        assert (status, answer) == (502, {"error": "InternalError: no memory"})


async def test_only_posts_and_no_browsers() -> None:
    async with suite_and_station() as (suite, station, _):
        before = len(station.calls)
        url = f"{suite.base_url}/1.6/CP1/clear-cache"
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as answer:
                assert (answer.status, list(await answer.json())) == (405, ["error"])
            async with http.post(url, data=b"{}", headers={"Origin": "http://evil.example"}) as answer:
                assert (answer.status, list(await answer.json())) == (403, ["error"])
            async with http.post(url.replace("/api/octt", ""), data=b"{}") as answer:
                assert (answer.status, list(await answer.json())) == (404, ["error"])
        assert len(station.calls) == before


# --- in pieces ------------------------------------------------------------------------------------------------


def told(payload: dict[str, Any]) -> dict[str, Any]:
    results = [
        {**item, "attributeStatus": "Accepted", "attributeValue": "1"} for item in payload["getVariableData"]
    ]
    return {"getVariableResult": results}


def wanted(count: int) -> list[dict[str, Any]]:
    return [{**VARIABLE, "variable": {"name": f"V{number}"}} for number in range(count)]


def sizes(station: Any, action: str, key: str) -> list[int]:
    return [len(payload[key]) for name, payload in station.calls if name == action]


async def test_variables_go_in_pieces_of_what_the_suite_says() -> None:
    """TC_B_08."""
    async with suite_and_station("2.0.1", GetVariables=told, SetVariables=written) as (suite, station, _):
        await suite.ask("2.0.1/CP1/set-items-per-message", {"get_variables": 2, "set_variables": 3})
        station.calls.clear()
        answer = await suite.ask("2.0.1/CP1/get-variables", {"getVariableData": wanted(5)})
        names = [result["variable"]["name"] for result in answer["getVariableResult"]]
        assert names == ["V0", "V1", "V2", "V3", "V4"]
        assert sizes(station, "GetVariables", "getVariableData") == [2, 2, 1]
        data = [{**each, "attributeValue": "1"} for each in wanted(4)]
        answer = await suite.ask("2.0.1/CP1/set-variables", {"setVariableData": data})
        assert [result["attributeStatus"] for result in answer["setVariableResult"]] == ["Accepted"] * 4
        assert sizes(station, "SetVariables", "setVariableData") == [3, 1]


async def test_variables_go_in_pieces_of_what_the_station_said() -> None:
    def items(payload: dict[str, Any]) -> dict[str, Any]:
        """GetVariables takes 7, SetVariables 2."""
        answer = told(payload)
        for result in answer["getVariableResult"]:
            result["attributeValue"] = {"GetVariables": "7", "SetVariables": "2"}.get(
                result["variable"].get("instance", ""), "1"
            )
        return answer

    async with open_door() as (server, _, suite), peer(server, subprotocols=["ocpp2.0.1"]) as station:
        await settle(station, items)
        station.calls.clear()
        await suite.ask("2.0.1/CP1/get-variables", {"getVariableData": wanted(8)})
        assert sizes(station, "GetVariables", "getVariableData") == [7, 1]
        data = [{**each, "attributeValue": "1"} for each in wanted(3)]
        await suite.ask("2.0.1/CP1/set-variables", {"setVariableData": data})
        assert sizes(station, "SetVariables", "setVariableData") == [2, 1]


async def test_a_report_that_asks_for_more_than_the_station_takes() -> None:
    async with suite_and_station("2.0.1", GetReport={"status": "Accepted"}) as (suite, station, _):
        await suite.ask("2.0.1/CP1/set-items-per-message", {"get_report": 1})
        body = {"requestId": 1, "componentVariable": [VARIABLE]}
        assert await suite.ask("2.0.1/CP1/call/GetReport", body) == {"status": "Accepted"}
        status, answer = await suite.post(
            "2.0.1/CP1/call/GetReport", {**body, "componentVariable": [VARIABLE] * 2}
        )
        assert status == 400 and "takes 1" in answer["error"]
        assert len([1 for action, _ in station.calls if action == "GetReport"]) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("get-variables", {}),
        ("get-variables", {"getVariableData": []}),
        ("get-variables", {"getVariableData": "all"}),
        ("get-variables", {"getVariableData": [VARIABLE], "more": 1}),
        ("get-variables", {"getVariableData": [VARIABLE] * (MOST_ITEMS + 1)}),
        ("get-variables", {"getVariableData": [{"component": 5}]}),
        ("set-variables", {"getVariableData": [VARIABLE]}),
        ("set-items-per-message", {}),
        ("set-items-per-message", {"get_variables": 0}),
        ("set-items-per-message", {"get_variables": True}),
        ("set-items-per-message", {"get_variables": 2.0}),
        ("set-items-per-message", {"get_variable": 2}),
        ("set-pending-boot", {}),
        ("set-pending-boot", {"pending": 1}),
        ("set-security-profile", {}),
        ("set-security-profile", {"security_profile": 4}),
        ("set-security-profile", {"security_profile": True}),
        ("set-security-profile", {"security_profile": "2"}),
    ],
)
async def test_bodies_that_make_no_sense(path: str, body: Any) -> None:
    async with suite_and_station("2.0.1") as (suite, station, _):
        station.calls.clear()
        status, answer = await suite.post(f"2.0.1/CP1/{path}", body)
        assert (status, list(answer)) == (400, ["error"])
        assert station.calls == []


# --- what is arranged -----------------------------------------------------------------------------------------


async def test_the_next_boot_waits_and_the_door_speaks_with_who_waits() -> None:
    """TC_B_02, TC_B_31: pending, then what the central system asks in between, then accepted."""
    about = {"reason": "PowerUp", "chargingStation": {"vendorName": "ACME", "model": "Two"}}
    async with open_door() as (server, _, suite):
        await suite.ask("2.0.1/CP1/set-pending-boot", {"pending": True})
        async with peer(server, subprotocols=["ocpp2.0.1"]) as station:
            reply = await station.ask("BootNotification", about)
            assert reply[2]["status"] == "Pending" and reply[2]["interval"] > 0
            station.answers = {
                "TriggerMessage": {"status": "Accepted"},
                "GetBaseReport": {"status": "Accepted"},
                "SetVariables": written,
            }
            report = {"requestId": 1, "reportBase": "FullInventory"}
            assert (await suite.ask("2.0.1/CP1/call/GetBaseReport", report))["status"] == "Accepted"
            notify = {"requestId": 1, "generatedAt": "2026-11-22T10:00:00Z", "seqNo": 0, "tbc": False}
            assert (await station.ask("NotifyReport", notify))[2] == {}
            trigger = {"requestedMessage": "BootNotification"}
            await suite.ask("2.0.1/CP1/call/TriggerMessage", trigger)
            assert await station.call_of("TriggerMessage") == trigger
            station.answers |= {
                "SetChargingProfile": {"status": "Accepted"},
                "GetVariables": {"getVariableResult": []},
            }
            reply = await station.ask("BootNotification", {**about, "reason": "Triggered"})
            assert reply[2]["status"] == "Accepted"


async def test_a_boot_that_was_to_wait_need_not() -> None:
    async with open_door() as (server, _, suite):
        await suite.ask("2.0.1/CP1/set-pending-boot", {"pending": True})
        await suite.ask("2.0.1/CP1/set-pending-boot", {"pending": False})
        async with peer(server, subprotocols=["ocpp2.0.1"]) as station:
            about = {"reason": "PowerUp", "chargingStation": {"vendorName": "ACME", "model": "Two"}}
            station.answers["GetVariables"] = {"getVariableResult": []}
            station.answers["SetVariables"] = written
            assert (await station.ask("BootNotification", about))[2]["status"] == "Accepted"


async def status_of(server: Any, password: str) -> int:
    try:
        async with peer(server, headers=basic("CP1", password)):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def test_a_security_profile_is_required_and_given_back() -> None:
    async with open_door() as (server, _, suite):
        assert await status_of(server, PASSWORD) == 101
        await suite.ask("2.0.1/CP1/set-security-profile", {"security_profile": 2})
        assert await status_of(server, PASSWORD) == 401
        await suite.ask("2.0.1/CP1/set-security-profile", {"security_profile": 1})
        assert await status_of(server, PASSWORD) == 101
        await suite.ask("2.0.1/CP1/set-security-profile", {"security_profile": 0})
        assert await status_of(server, "wrong") == 401, "0 opens nothing that the config keeps shut"


async def test_a_password_is_set() -> None:
    async with open_door() as (server, _, suite):
        body = {"station_id": "CP1", "password": "another one 12345678"}
        await suite.ask("set-basic-auth-password", body)
        assert await status_of(server, PASSWORD) == 401
        assert await status_of(server, "another one 12345678") == 101


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"station_id": "NOBODY", "password": "x"}, 404),
        ({"station_id": 5, "password": "x"}, 404),
        ({"password": "x"}, 404),
        ({"station_id": "CP1"}, 400),
        ({"station_id": "CP1", "password": ""}, 400),
        ({"station_id": "CP1", "password": "x" * 65}, 400),
    ],
)
async def test_a_password_that_cannot_be_set(body: Any, status: int) -> None:
    async with open_door() as (server, _, suite):
        assert (await suite.post("set-basic-auth-password", body))[0] == status
        assert await status_of(server, PASSWORD) == 101


@pytest.mark.parametrize(("version", "action"), [("1.6", "ChangeConfiguration"), ("2.0.1", "SetVariables")])
async def test_a_new_password_is_written_and_used(version: str, action: str) -> None:
    """TC_073, TC_A_09."""
    async with open_door() as (server, _, suite):
        async with peer(server, subprotocols=[f"ocpp{version}"]) as station:
            station.answers["SetVariables"] = written
            assert await suite.ask(f"{version}/CP1/update-basic-auth-password") == {"status": "Accepted"}
            payload = await station.call_of(action)
        if version == "1.6":
            assert payload["key"] == "AuthorizationKey" and 16 <= len(bytes.fromhex(payload["value"])) <= 20
            new = bytes.fromhex(payload["value"]).decode()
        else:
            (item,) = payload["setVariableData"]
            assert (item["component"]["name"], item["variable"]["name"]) == (
                "SecurityCtrlr",
                "BasicAuthPassword",
            )
            new = item["attributeValue"]
        assert await status_of(server, new) == 101
        assert await status_of(server, PASSWORD) == 401, "the old one ended when the new one came"


async def test_a_password_the_station_refuses_stays() -> None:
    """TC_A_10."""

    def refused(payload: dict[str, Any]) -> dict[str, Any]:
        answer = written(payload)
        answer["setVariableResult"][0]["attributeStatus"] = "Rejected"
        return answer

    async with open_door() as (server, _, suite):
        async with peer(server, subprotocols=["ocpp2.0.1"]) as station:
            station.answers["SetVariables"] = refused
            answer = await suite.ask("2.0.1/CP1/update-basic-auth-password")
            assert answer["status"] == "Rejected"
        assert await status_of(server, PASSWORD) == 101


@pytest.mark.parametrize("status", ["Accepted", "Blocked", "Expired"])
async def test_a_token_is_made(status: str) -> None:
    async with open_door() as (_, depot, suite):
        await suite.ask("create-token", {"token_id": "100000C06", "status": status})
        event = await depot.until_a(TokenSet)
        assert event.token.id == "100000C06"
        assert event.token.blocked is (status == "Blocked")
        assert (event.token.expires is not None) is (status == "Expired")


async def test_a_token_made_again_keeps_what_is_known_of_it() -> None:
    async with running() as (server, depot), a_suite(server, depot) as suite:
        await make_known(depot)
        await suite.ask("create-token", {"token_id": "100000C06", "status": "Blocked"})
        token = depot.all(TokenSet)[-1].token
        assert (token.blocked, token.group) == (True, "VANS")


async def make_known(depot: Depot) -> None:
    await depot.report(TokenSet("test", IdToken("100000C06", group="VANS")))


@pytest.mark.parametrize(
    "body",
    [{}, {"token_id": "A"}, {"token_id": "", "status": "Accepted"}, {"token_id": "A" * 37, "status": "Accepted"},
     {"token_id": "A", "status": "Invalid"}, {"token_id": "A\nB", "status": "Accepted"}, {"token_id": 7, "status": "Accepted"},
     {"token_id": "A", "status": ["Accepted"]}],
)  # fmt: skip
async def test_a_token_that_cannot_be_made(body: Any) -> None:
    async with open_door() as (_, depot, suite):
        assert (await suite.post("create-token", body))[0] == 400
        assert depot.all(TokenSet) == []
