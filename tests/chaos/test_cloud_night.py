"""A whole night of a depot that has nothing but the hosted platform: two chargers, no OCPP, one wire to the internet."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from night_site import (
    STAGES,
    Cut,
    Json,
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

LIMIT_A = 36.0  # two vehicles want 64 A beside a building of 10 A; together their fallbacks just fit
SECRET = "a-long-secret-of-the-platform"
LAST_WORD_WH = 32.0  # a charger speaks every 5 s: at 32 A its last word misses so much, which its record has
FIELDS = {
    "token": {"client_id", "client_secret", "grant_type"},
    "device": set(),
    "command": set(),
    "stream": {"devices"},
    "start": {"charge_power", "transaction_id"},
    "stop": {"reason"},
    "discharge": {"discharge_power", "duration", "min_soc"},
    "schedule": {
        "schedule_id", "enabled", "type", "effective_from", "effective_until", "timezone",
        *(f"time_slots.0.{name}" for name in ("start", "end", "action", "power_limit")),
    },
}  # fmt: skip
SCHEDULE = """
schedule_id = "nights"
type = "daily"
[[time_slots]]
start = "00:00"
end = "00:00"
power_limit = "4.2 kW"
action = "charge"
"""


def station(name: str, device: str, autostart: bool) -> list[str]:
    link = f'device_id = "{device}", link = "cloud", autostart = {str(autostart).lower()}'
    return [
        f"[station.{name}]", 'circuit = "site"', 'fallback = "10 A"', f"open_platform = {{ {link} }}",
        'evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }',
    ]  # fmt: skip


@asynccontextmanager
async def depot(folder: Path) -> AsyncIterator[tuple[Night, Process, Cut]]:
    """Charger TC starts by itself, charger TD waits for an order and can discharge; the wire to the platform can be
    cut. Yields when both are reachable."""
    async with night(folder) as made, Cut() as wire:
        secret(folder, "platform.secret", SECRET)
        platform = await made.sim(
            "platform", "platform", "--device", "dvc_1:SN-C", "--device", "dvc_2:SN-D", "--client-id", "night",
            "--client-secret-file", str(folder / "platform.secret"), "--v2g", "--vehicle-after", "0 s",
        )  # fmt: skip
        wire.target = int(await platform.until_said(r"^platform: http://127\.0\.0\.1:(\d+)/v1$"))
        meter_port = await made.meter("platform")
        cloud = consent(
            "cloud", f'base_url = "http://127.0.0.1:{wire.port}/v1"', 'region = "site"', 'client_id = "night"',
            'client_secret_file = "platform.secret"', 'site_ids = ["st-sim-01"]',
        )  # fmt: skip
        stations = [*station("TC", "dvc_1", True), *station("TD", "dvc_2", False)]
        (folder / "depot.toml").write_text(config(meter_port, *cloud, *stations, limit_a=LIMIT_A))
        await made.run()
        await made.until(lambda seen: all(one["connected"] for one in seen["evses"]), "both are reachable")
        yield made, platform, wire


async def test_the_evening_with_orders_a_power_cut_and_the_bill(tmp_path: Path) -> None:
    async with depot(tmp_path) as (made, platform, _):
        (tmp_path / "nights.toml").write_text(SCHEDULE)
        await made.ordered("start", "TD/1")
        await made.until_evse("TC/1", charges, "starts by itself")
        _, stored = await asyncio.gather(
            made.ordered("limit", "TD/1", "7 A"),
            made.done("schedule", "set", "TC/1", str(tmp_path / "nights.toml")),
        )
        assert stored.out.startswith("stored: nights (daily")
        (listed,) = await made.json("schedule", "list")
        assert (listed["evse"], listed["schedule_id"]) == ("TC/1", "nights")
        seen = await made.until(
            lambda seen: (amps(evse(seen, "TD/1")) or 99) <= 7.1 and (amps(evse(seen, "TC/1")) or 99) <= 6.2,
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
        egress = await made.json("egress")
        truth = await platform.truth()
        await made.end()
        for name, device in (("TC/1", "dvc_1/1"), ("TD/1", "dvc_2/1")):
            one, delivered_wh = sessions[name], truth[device]["delivered_wh"]
            assert one["ended"] is not None and one["stop_reason"] == "operator"
            assert delivered_wh - LAST_WORD_WH <= one["energy_wh"] <= delivered_wh + 1, (one, truth)
        judge(egress)
        made.unharmed(LIMIT_A)


async def test_the_night_of_flexibility_discharge_and_a_second_backend_taken_away(tmp_path: Path) -> None:
    async with depot(tmp_path) as (made, platform, wire):
        started = asyncio.create_task(made.ordered("start", "TD/1"))
        diagnosed, firmware = await asyncio.gather(
            made.json("diagnose", "TD"), made.json("firmware", "status")
        )
        assert (diagnosed["station"], diagnosed["link"]["connected"], diagnosed["faults"]) == ("TD", True, [])
        offered = {one["id"]: (one["passes_gate"], one["upgrade"]) for one in firmware["stations"]}
        assert offered == dict.fromkeys(("TC", "TD"), (True, "not offered by the API"))
        await started
        flexed, _ = await asyncio.gather(
            made.done("flex", "limit", "25", "--for", "10m"),
            made.ordered("discharge", "TD/1", "--power", "3 kW", "--min-soc", "20", "--for", "30m"),
        )
        assert flexed.stages == STAGES[2:]
        seen = await made.until(lambda seen: feeds_back(evse(seen, "TD/1")), "TD feeds back")
        assert (amps(evse(seen, "TC/1")) or 99) <= 8.1
        before = {one["id"]: one["session"]["id"] for one in seen["evses"]}
        await made.done("flex", "end")

        wire.cut = True
        wire.sever()
        await made.until(lambda seen: channel(seen)["state"] != "ok", "the cut shows")
        wire.cut = False
        await made.until(lambda seen: channel(seen)["state"] == "ok", "the wire carries again")
        await made.until(lambda seen: all(one["connected"] for one in seen["evses"]), "everybody is back")

        off = await made.done("channels", "disable", "open-platform")
        assert off.seconds < 5
        assert wire.links == 0, "not a socket is open"
        assert is_one_line(await made.depot("stop", "TC/1"), 1, "the station is offline")
        assert wire.links == 0
        by = ("--by", "J. de Vries", *purposes("monitor", "control", "v2g"))
        await made.done("channels", "enable", "open-platform", *by)
        await made.until(lambda seen: all(one["connected"] for one in seen["evses"]), "everybody is back")

        await asyncio.gather(*(made.ordered("stop", name) for name in before))
        sessions = await made.json("sessions")
        egress = await made.json("egress")
        truth = await platform.truth()
        await made.end()
        assert {one["evse"]: one["id"] for one in sessions} == before, (
            "cut and switch are no end of a session"
        )
        assert len(sessions) == 3 and all(one["ended"] for one in sessions), "TD charged, then fed back"
        assert truth["dvc_2/1"]["fed_back_wh"] > 1
        charged_wh = truth["dvc_2/1"]["delivered_wh"]
        assert sum(one["energy_wh"] for one in sessions if one["evse"] == "TD/1") <= charged_wh + 1
        judge(egress)
        made.unharmed(LIMIT_A)


def channel(seen: Json) -> Json:
    return dict(next(one for one in seen["channels"] if one["id"] == "open-platform/cloud"))


def judge(egress: list[Json]) -> None:
    """Every request says what it carried: these fields and no others, no secret, no name; and the chain holds."""
    rows = sorted(egress, key=lambda row: row["id"])
    assert {row["operation"] for row in rows} >= {"token", "device", "stream", "start", "schedule", "stop"}
    previous = ""
    for row in rows:
        names, known = set(row["fields"]), FIELDS[row["operation"]]
        assert names == known or (row["operation"] == "schedule" and names < known), row
        fields = json.dumps(row["fields"], separators=(",", ":"), sort_keys=True)
        told = [row[name] for name in ("time", "channel", "host", "operation", "method", "path")]
        chained = [row["id"], *told, fields, row["bytes"], row["status"]]
        text = previous + json.dumps(chained, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert row["hash"] == previous, row
    book = json.dumps(rows)
    assert not [word for word in (SECRET, "Vries", "Night", "nights", "TD/1", "TC/1") if word in book]
