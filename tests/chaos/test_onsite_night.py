"""A whole night of a depot that has nothing but the on-site host: three connectors, no OCPP, no internet."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from night_site import (
    STAGES,
    Cut,
    Night,
    Process,
    amps,
    charges,
    config,
    consent,
    evse,
    feeds_back,
    is_one_line,
    night,
    purposes,
    secret,
)

LIMIT_A = 40.0  # three vehicles want 48 A beside a building of 10 A
LAST_WORD_WH = 16.0  # a charger speaks every 5 s: at 16 A its last word misses so much, which its record has
SCHEDULE = """
schedule_id = "nights"
type = "weekly"
[[time_slots]]
day_of_week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
start = "00:00"
end = "00:00"
power_limit = "4.2 kW"
action = "charge"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def station(name: str, serial: str, connectors: int, autostart: bool) -> list[str]:
    link = f'serial = "{serial}", model = "TP-AC22", link = "onsite", autostart = {str(autostart).lower()}'
    return [
        f"[station.{name}]", 'circuit = "site"', 'fallback = "6 A"', f"open_platform = {{ {link} }}",
        *(f'evse.{n} = {{ max = "16 A", min = "6 A", phases = "L1 L2 L3" }}' for n in range(1, connectors + 1)),
    ]  # fmt: skip


async def device(made: Night, name: str, port: int, *more: str) -> Process:
    memory = ("--memory", str(made.folder / f"{name}.json"), "--spread", "0 s", "--max", "16")
    url = ("--url", f"http://127.0.0.1:{port}/v1", "--serial", name)
    return await made.sim("device", name, *url, *memory, "--vehicle-after", "0 s", *more)


@asynccontextmanager
async def depot(folder: Path) -> AsyncIterator[tuple[Night, dict[str, Process], Cut, int]]:
    """Station TA with two connectors that start by themselves, behind a wire that can be cut; station TB with one that
    waits for an order and can discharge. Yields when a vehicle is at each of them."""
    port = free_port()
    async with night(folder) as made, Cut(port) as wire:
        meter_port = await made.meter("SN-A", "SN-B")
        secret(folder, "ems.secret", "a-long-secret-of-the-ems")
        clients = 'clients = [{ id = "ems", secret_file = "ems.secret", scopes = ["read"] }]'
        onsite = consent("onsite", f'listen = "127.0.0.1:{port}"', clients)
        stations = [*station("TA", "SN-A", 2, True), *station("TB", "SN-B", 1, False)]
        (folder / "depot.toml").write_text(config(meter_port, *onsite, *stations, limit_a=LIMIT_A))
        await made.run()
        devices = {
            "TA": await device(made, "SN-A", wire.port, "--connectors", "2"),
            "TB": await device(made, "SN-B", port, "--v2g"),
        }
        await made.until_evse("TB/1", lambda one: one["state"] == "preparing", "has a vehicle")
        yield made, devices, wire, port


async def test_the_evening_with_orders_a_power_cut_and_the_bill(tmp_path: Path) -> None:
    async with depot(tmp_path) as (made, devices, _, _):
        (tmp_path / "nights.toml").write_text(SCHEDULE)
        await made.ordered("start", "TB/1", "--limit", "8 A")
        for name in ("TA/1", "TA/2"):
            await made.until_evse(name, charges, "starts by itself")
        limited, stored = await asyncio.gather(
            made.json("limit", "TA/1", "7 A"),
            made.done("schedule", "set", "TA/2", str(tmp_path / "nights.toml")),
        )
        assert [one["stage"] for one in limited["stages"]] == STAGES
        assert (limited["kind"], limited["subject"], limited["outcome"]) == ("limit", "TA/1", "done")
        assert stored.out.startswith("stored: nights (weekly")
        (listed,) = await made.json("schedule", "list")
        assert (listed["evse"], listed["schedule_id"]) == ("TA/2", "nights")
        seen = await made.until(
            lambda seen: (amps(evse(seen, "TA/1")) or 99) <= 7.1 and (amps(evse(seen, "TA/2")) or 99) <= 6.2,
            "limit and schedule are obeyed",
        )

        before = {one["id"]: one["session"]["id"] for one in seen["evses"]}
        assert made.controller is not None
        await made.controller.kill()
        await made.run()
        after = await made.until(
            lambda seen: all(one["connected"] and one["session"] for one in seen["evses"]),
            "every session goes on after the power cut",
        )
        assert {one["id"]: one["session"]["id"] for one in after["evses"]} == before

        await asyncio.gather(*(made.ordered("stop", name) for name in before))
        sessions = {one["evse"]: one for one in await made.json("sessions")}
        assert {name: one["id"] for name, one in sessions.items()} == before, "each is booked once"
        truth = await devices["TA"].truth() | await devices["TB"].truth()
        await made.end()
        for name, one in sessions.items():
            assert one["ended"] is not None and one["stop_reason"] == "operator"
            delivered_wh = truth[name.replace("T", "SN-")]["delivered_wh"]
            assert delivered_wh - LAST_WORD_WH <= one["energy_wh"] <= delivered_wh + 1, (one, truth)
            assert abs(sum(recorded_wh(tmp_path, one["id"])) - delivered_wh) <= 1, "the charger's own record"
        made.unharmed(LIMIT_A)


async def test_the_night_of_flexibility_discharge_and_a_second_backend_taken_away(tmp_path: Path) -> None:
    async with depot(tmp_path) as (made, devices, wire, port):
        started = asyncio.create_task(made.ordered("start", "TB/1"))
        refused, diagnosed, firmware, sent = await asyncio.gather(
            made.depot("discharge", "TA/1", "--power", "3 kW", "--json"),
            made.json("diagnose", "TB"),
            made.json("firmware", "status"),
            made.json("egress"),
        )
        assert (refused.code, json.loads(refused.out)["outcome"]) == (1, "refused"), "it cannot discharge"
        assert (
            refused.err.startswith("depot: discharge TA/1 refused: ") and len(refused.err.splitlines()) == 1
        )
        assert (diagnosed["station"], diagnosed["link"]["connected"], diagnosed["faults"]) == ("TB", True, [])
        assert {one["id"]: one["passes_gate"] for one in firmware["stations"]} == {"TA": True, "TB": True}
        assert sent == [], "nothing leaves the site"
        await started
        flexed = await made.done("flex", "limit", "40", "--for", "10m")
        assert flexed.stages == STAGES[2:]
        seen = await made.look()
        assert seen is not None
        assert all((amps(one) or 99) <= 6.5 for one in seen["evses"])
        before = {name: evse(seen, name)["session"]["id"] for name in ("TA/1", "TA/2")}

        wire.cut = True
        wire.sever()
        await asyncio.gather(
            made.done("flex", "end"),
            made.ordered("discharge", "TB/1", "--power", "3 kW", "--min-soc", "20", "--for", "30m"),
        )
        wire.cut = False
        await made.until_evse("TB/1", feeds_back, "feeds back")

        off = await made.done("channels", "disable", "open-platform")
        assert off.seconds < 5
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        (channel,) = await made.json("channels")
        assert (channel["id"], channel["state"]) == ("open-platform/onsite", "off")
        assert is_one_line(await made.depot("stop", "TA/1"), 1, "the station is offline")
        by = ("--by", "J. de Vries", *purposes("monitor", "control", "v2g"))
        await made.done("channels", "enable", "open-platform", *by)
        await made.until(lambda seen: all(one["connected"] for one in seen["evses"]), "everybody is back")

        await asyncio.gather(*(made.ordered("stop", name) for name in ("TA/1", "TA/2", "TB/1")))
        sessions = await made.json("sessions")
        truth = await devices["TA"].truth() | await devices["TB"].truth()
        await made.end()
        booked = {one["evse"]: one["id"] for one in sessions if one["evse"].startswith("TA")}
        assert booked == before, "cut and switch are no end of a session"
        assert len(sessions) == 4 and all(one["ended"] for one in sessions), "TB charged, then fed back"
        charged_wh = truth["SN-B/1"]["delivered_wh"]
        assert truth["SN-B/1"]["fed_back_wh"] > 1
        assert sum(one["energy_wh"] for one in sessions if one["evse"] == "TB/1") <= charged_wh + 1
        made.unharmed(LIMIT_A)


def recorded_wh(folder: Path, session: str) -> list[int]:
    """What the chargers' own records say of a session."""
    with closing(sqlite3.connect(folder / "state" / "depot.db")) as db:
        return [row[0] for row in db.execute("SELECT energy_wh FROM records WHERE session = ?", (session,))]
