"""Every call of the control socket against the audit: one that acts leaves exactly one row with who, what and how it
ended; one that looks leaves none. A call that nobody put into the table fails the first test.

A whole depot with simulated chargers on both channels, over real sockets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller import console as console_module
from controller.clock import SystemClock
from controller.core.snapshot import Snapshot
from controller.core.wire import instant_text
from controller.rights import Peer, Rights
from controller.runtime import Runtime
from drivers.sim.site import DemoSite
from tests.audit_rows import audit_tail
from tests.demo_house import demo_house
from ui.client import CallRefused, Client

SPEED = 5.0
DEADLINE_S = 60.0
E = "CP001/1"
CLOUD = "open-platform/cloud"
NIGHTS = (
    'schedule_id = "n"\ntype = "daily"\n[[time_slots]]\nstart = "22:00"\nend = "06:00"\naction = "charge"\n'
)
TOMORROW = instant_text(datetime.now(UTC) + timedelta(days=1))
ROSTER = {"file": "r.csv", "text": "vehicle,departs,energy\nBUS-01,2031-11-23 05:00,30 kWh\n", "upload": "u",
          "piece": 0, "last": True}  # fmt: skip


@dataclass(frozen=True)
class Acts:
    """`what`: the row's; `refused`: the call is answered with an error all the same. `outcome`: what its detail must tell."""

    args: dict[str, Any]
    what: str
    subject: str
    outcome: str = ".*"
    refused: bool = False


@dataclass(frozen=True)
class Looks:
    """`refused`: there is nothing to see here, which is an answer too. `operator`: only they may."""

    args: dict[str, Any]
    refused: bool = False
    operator: bool = False


def ask(**args: Any) -> dict[str, Any]:
    return {"station": "CP001", "question": "trigger", "args": {"message": "heartbeat"}, **args}


# In this order: what one does the next finds.
TABLE: dict[str, Acts | Looks] = {
    "whoami": Looks({}),
    "status": Looks({}),
    "channels": Looks({}),
    "sessions": Looks({}),
    "sessions-changed": Looks({}),
    "sessions-signed": Looks({}),
    "records": Looks({}),
    "books": Looks({}),
    "frames": Looks({}, operator=True),
    "what-if": Looks({"change": "site.limit=100 A"}),
    "schedule-list": Looks({}),
    "stations": Looks({}),
    "station-history": Looks({"station": "CP001"}),
    "tokens": Looks({}),
    "qualifications": Looks({}),
    "onboarding": Looks({}),
    "roster": Looks({}),
    "plan": Looks({}),
    "preview": Looks({"order": "pause", "evse": E}),
    "why": Looks({"evse": E}),
    "verify": Looks({}),
    "alarms": Looks({}),
    "alarm": Looks({"alarm": "none"}, refused=True),
    "log": Looks({}),
    "history": Looks({"evse": E}),
    "egress": Looks({}),
    "qualify-follow": Looks({"run": "p-9"}, refused=True, operator=True),
    "pause": Acts({"evse": E}, "pause", E),
    "resume": Acts({"evse": E}, "resume", E),
    "limit": Acts({"evse": E, "limit_ma": 8_000}, "limit", E, "limit 8 A"),
    "discharge": Acts({"evse": E, "power_w": 5_000}, "discharge-refused", E, ".+"),
    "flex": Acts({"percent": 90, "duration_s": 600}, "flex", "site", "flex 90 %"),
    "flex-end": Acts({}, "flex-ended", "Demo depot"),
    "schedule-set": Acts({"evse": E, "text": NIGHTS}, "schedule-set", E, "n"),
    "schedule-clear": Acts({"evse": E}, "schedule-cleared", E, "n"),
    "depart": Acts({"target": E, "at": TOMORROW, "soc": 80}, "departure-set", E, TOMORROW[:10]),
    "soc": Acts({"target": E, "soc": 40}, "soc-told", E, "40 %"),
    "stop": Acts({"evse": E}, "stop", E),
    "start": Acts({"evse": "CP002/1"}, "start(-refused)?", "CP002/1"),
    "recording": Acts({}, "recording", ""),
    "tokens-set": Acts({"tokens": [{"token": "04FF04FF"}]}, "token-(set|added)", "…04FF"),
    "token-remove": Acts({"token": "04FF04FF"}, "token-removed", "…04FF"),
    "token-forget": Acts({"token": "04FF04FF"}, "token-forgotten", "#[0-9a-f]{20}"),
    "roster-import": Acts(ROSTER, "roster-set", "Demo depot", "r.csv: 1 entries"),
    "roster-clear": Acts({}, "roster-set", "Demo depot", "cleared"),
    "station-ask": Acts(ask(), "station-asked", "CP001", "trigger message=heartbeat: .+"),
    "station-password": Acts({"station": "CP002"}, "station-asked", "CP002", "password: .+"),
    "station-certificate": Acts({"station": "CP001"}, "station-asked", "CP001", "certificate: .+", refused=True),
    "firmware-upgrade": Acts({"stations": ["CP002"], "version": "9.9", "url": None}, "firmware-campaign.*", "CP002"),
    "firmware-stop": Acts({}, "firmware-campaign-stop", ".*"),
    "alarm-ack": Acts({"alarm": "?"}, "alarm-acked", "main"),
    "alarm-shelve": Acts({"alarm": "?", "for_s": 600, "reason": "test"}, "alarm-shelved", "main", "meter until .*: test"),
    "alarm-unshelve": Acts({"alarm": "?"}, "alarm-unshelved", "main"),
    "service": Acts({"source": "CP002", "out": True, "reason": "cable"}, "out-of-service", "CP002", "cable"),
    "channel-sites": Acts({}, "channel-sites", ""),
    "channel-energy": Acts({}, "channel-energy", ""),
    "channel-disable": Acts({"channel": CLOUD}, "channel-disabled", CLOUD, ".*"),
    "channel-enable": Acts({"channel": CLOUD, "by": "J. Vis", "purposes": ["monitor"]}, "channel-enabled", CLOUD, "by J. Vis for monitor"),
    "qualify": Acts({"station": "CP001"}, "qualify", "CP001", refused=True),
    "qualify-stop": Acts({"run": "p-9"}, "qualify-stop", "", refused=True),
    "backup": Acts({}, "backup", "depot.db", "depot-.*.db"),
}  # fmt: skip


@asynccontextmanager
async def a_whole_depot(folder: Path) -> AsyncIterator[tuple[Runtime, DemoSite, Path]]:
    """Until CP001 charges and every station has answered."""
    clock = SystemClock(SPEED)
    site = DemoSite(4, clock, 1, ocpp=("1.6", "2.0.1"))
    async with demo_house(site, folder) as runtime:
        await seen(runtime, lambda now: all(evse.connected for evse in now.evses) and charges(now))
        yield runtime, site, folder / "control.sock"


def charges(now: Snapshot) -> bool:
    evse = next(evse for evse in now.evses if evse.id == E)
    return evse.session is not None and (evse.power_w or 0) > 0


async def seen(runtime: Runtime, true: Callable[[Snapshot], bool]) -> Snapshot:
    async with asyncio.timeout(DEADLINE_S):
        now = await runtime.next_snapshot(None)
        while not true(now):
            now = await runtime.next_snapshot(now)
    return now


async def test_one_row_for_what_acts_and_none_for_what_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_whole_depot(tmp_path) as (runtime, site, socket):
        client = Client(socket)
        with pytest.raises(CallRefused) as unknown:
            await client.call("no-such-call")
        known = set(unknown.value.text.partition("known: ")[2].split(", ")) - {"watch"}
        problems = [
            f"{name}: stands on one side only, the console's or this table's" for name in known ^ set(TABLE)
        ]
        for name, row in TABLE.items():
            args = await prepared(name, row.args, runtime, site)
            monkeypatch.setattr(Rights, "peer", lambda *_, name=name: Peer(f"by-{name}", operator=True))
            try:
                await client.call(name, **args)
                refused = None
            except CallRefused as error:
                refused = error.text
            problems += [f"{name}: {each}" for each in await judged(name, row, refused, runtime)]
        assert not problems, "\n".join(problems)


async def prepared(name: str, args: dict[str, Any], runtime: Runtime, site: DemoSite) -> dict[str, Any]:
    if name == "alarm-ack":
        await site.meter.stop()
    if args.get("alarm") == "?":
        now = await seen(
            runtime, lambda now: any(a.source == "main" for a in (*now.alarms, *now.alarms_quiet))
        )
        return args | {"alarm": next(a.id for a in (*now.alarms, *now.alarms_quiet) if a.source == "main")}
    return args


async def judged(name: str, row: Acts | Looks, refused: str | None, runtime: Runtime) -> list[str]:
    wrong = []
    if (refused is not None) != row.refused:
        wrong.append(f"answered {refused or 'ok'}")
    if isinstance(row, Looks):
        await runtime.next_snapshot(runtime.snapshot)
        found = await rows_of(name, runtime)
        return [*wrong, *(["looks, and is audited all the same"] if found else [])]
    found = await rows_of(name, runtime)
    for _ in range(100):
        if found:
            break
        await asyncio.sleep(0.02)
        found = await rows_of(name, runtime)
    await runtime.next_snapshot(runtime.snapshot)  # a second one would be there by then
    found = await rows_of(name, runtime)
    if len(found) != 1:
        return [*wrong, f"{len(found)} rows: {found}"]
    for column, pattern in (("what", row.what), ("subject", row.subject), ("detail", row.outcome)):
        if not re.match(pattern, found[0][column]):
            wrong.append(f"{column} is {found[0][column]!r}, not {pattern!r}")
    return wrong


async def rows_of(name: str, runtime: Runtime) -> list[dict[str, Any]]:
    return [row for row in await audit_tail(runtime.ledger, 500) if row["by"] == f"by-{name}"]


async def test_a_viewer_is_refused_whatever_acts_and_never_what_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "CLIENTS", 200)
    async with a_whole_depot(tmp_path) as (runtime, _, socket):
        client, before = Client(socket), len(await audit_tail(runtime.ledger, 500))
        monkeypatch.setattr(Rights, "peer", lambda *_: Peer("guest", operator=False))
        for name, row in TABLE.items():
            try:
                await client.call(name, **row.args)
                code = None
            except CallRefused as error:
                code = error.code
            acts = isinstance(row, Acts) or row.operator
            assert (code == "not-allowed") == acts, f"{name}: {code}"
        await runtime.next_snapshot(runtime.snapshot)
        mine = [each for each in await audit_tail(runtime.ledger, 500) if each["by"] == "guest"]
        assert {each["what"] for each in mine} == {"not-allowed"} and before
        assert {each["subject"] for each in mine} == {
            name for name, row in TABLE.items() if isinstance(row, Acts) or row.operator
        }
