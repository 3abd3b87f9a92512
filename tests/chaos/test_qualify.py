"""`depot qualify` on the real controller and simulated stations: honest ones pass, each bad habit is found by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import whole_house
from whole_house import WholeHouse

from controller import proof_calls, qualify_checks
from controller.config import stations
from controller.core.model import StationId
from controller.qualify_checks import CHECKS
from drivers.sim.quirks import Quirks
from ui.client import CallRefused, Client

CP = "CP001"
SHORT = replace(stations.OCPP_LINK, lease_s=30.0, lease_slack_s=6.0, raise_gap_s=4.0, needs_proof=True)


@asynccontextmanager
async def at_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, quirks: Quirks | None = None, **more: Any
) -> AsyncIterator[tuple[WholeHouse, Client]]:
    """A vehicle charges at the station to be proven; leases are short, and time runs fast."""
    monkeypatch.setattr(stations, "OCPP_LINK", SHORT)
    monkeypatch.setattr(whole_house, "SPEED", 25.0)
    habits = {} if quirks is None else {CP: quirks}
    async with whole_house.whole_house(folder, quirks=habits, limit_a=80.0, **more) as site:
        site.arrive(CP)
        await site.until(lambda: (site.view(CP).measured_ma.l1 or 0) > 8_000)
        yield site, Client(site.socket)


async def proof(client: Client, **args: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Begins, follows to the end, and returns the outcome and the lines told."""
    run = (await client.call("qualify", station=CP, quick=True, **args))["run"]
    lines: list[dict[str, Any]] = []
    while True:
        news = await client.call("qualify-follow", run=run, seen=len(lines))
        lines += news["lines"]
        if news["outcome"] is not None:
            return news["outcome"], lines


def verdicts(outcome: dict[str, Any]) -> dict[str, str]:
    return dict(finding.split(": ", 1) for finding in outcome["findings"])


def lifted(site: WholeHouse) -> bool:
    """Nothing of a proof is left: it charges on, above its fallback, and counts with it."""
    view = site.view(CP)
    return view.operator_limit_ma is None and view.fallback_stored and (view.accepted_ma or 0) > 15_000


async def test_an_honest_station_passes_and_counts_at_its_fallback_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path, monkeypatch) as (site, client):
        await client.call("limit", evse=CP, limit_ma=16_000)
        told = await client.call("qualify", station=CP, quick=True, dry=True)
        began_s = site.clock.now().mono_s
        outcome, lines = await proof(client)
        took_s = site.clock.now().mono_s - began_s
        assert outcome["passed"] and outcome["stored"], (outcome, lines)
        assert not [finding for finding in outcome["findings"] if "FAILED" in finding]
        assert [line["check"] for line in lines if line["passed"]] == list(told["checks"])
        assert 0.5 * told["seconds"] < took_s < 1.5 * told["seconds"], "what was told before was about right"
        await site.until(lambda: site.view(CP).operator_limit_ma == 16_000)  # the operator's stands again
        await site.until(lambda: site.view(CP).fallback_stored)
        assert site.world.overloads() == {}
        assert site.runtime is not None
        assert site.runtime.depot.proven_firmware(StationId(CP)) == "1.0.0"
        listed = (await client.call("qualifications"))["stations"]
        found = next(each for each in listed if each["id"] == CP)
        assert found["proven"] and found["proofs"][0]["findings"] == outcome["findings"]
        # a later part of the checks takes nothing away
        rest = ["limits", "lease", "cut", "reboot", "spikes"]
        outcome, _ = await proof(client, skip=rest)
        assert not outcome["passed"] and not outcome["stored"]
        assert verdicts(outcome)["cut"] == "skipped"
        assert site.runtime.depot.proven_firmware(StationId(CP)) == "1.0.0"
        site.stations[CP].drop_link(away_s=10_000.0)
        await site.until(lambda: not site.view(CP).connected)
        await site.until(lambda: site.view(CP).commitment_ma == 6_000)


@pytest.mark.parametrize(
    ("quirks", "only", "finding"),
    [
        (Quirks(ignores_limits=True), "limits", "accepted 6 A and draws 32 A"),
        (Quirks(ignores_expiry=True), "lease", "its lease did not end: 14 A after"),
        (Quirks(ignores_expiry=True), "cut", "came back at 14 A: alone it did not fall to 6 A"),
        (
            Quirks(forgets_fallback=True),
            "reboot",
            "at 6 A after a restart, before any limit: it forgot its fallback",
        ),
        (Quirks(not_supported=frozenset({"Reset"})), "reboot", "does not restart when it is asked"),
        (Quirks(pause_ends=True), "pause", "a limit of 0 A ended its session"),
        (Quirks(spike_after_write_s=8.0), "spikes", "a spike"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_bad_habit_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quirks: Quirks, only: str, finding: str
) -> None:
    async with at_work(tmp_path, monkeypatch, quirks) as (site, client):
        skipped = [check for check in CHECKS if check != only]
        outcome, lines = await proof(client, skip=skipped)
        assert not outcome["passed"] and outcome["stored"], lines
        assert finding in verdicts(outcome)[only], lines
        assert verdicts(outcome)[only].startswith("FAILED: ")
        assert site.world.overloads() == {}, "room was kept for the worst before the promise was tested"
        await site.until(lambda: site.view(CP).operator_limit_ma is None)


async def test_it_is_refused_with_one_line_where_it_cannot_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path, monkeypatch) as (site, client):

        async def refusal(**args: object) -> str:
            with pytest.raises(CallRefused) as caught:
                await client.call("qualify", **args)
            assert "\n" not in caught.value.text
            return caught.value.text

        assert "has no session: plug in a vehicle" in await refusal(station="CP002")
        assert "no station 'CP9'" in await refusal(station="CP9")
        assert "has no EVSE 2" in await refusal(station=CP, evse=2)
        assert "nothing is left" in await refusal(station=CP, skip=list(CHECKS))
        assert "skip must list" in await refusal(station=CP, skip=["all"])
        site.building.amps = 62.0
        await site.until(lambda: (site.view(CP).accepted_ma or 0) < 12_000)
        assert "too little for three limits" in await refusal(station=CP)
        site.building.amps = 15.0
        await site.until(lambda: (site.view(CP).accepted_ma or 0) > 15_000)
        await client.call("pause", evse=CP)
        await site.until(lambda: site.view(CP).measured_ma.l1 == 0)
        assert "is paused" in await refusal(station=CP)
        site.stations[CP].drop_link(away_s=1000.0)
        await site.until(lambda: not site.view(CP).connected)
        assert "is offline" in await refusal(station=CP)


async def test_only_one_at_a_time_and_whoever_stops_it_lifts_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path, monkeypatch) as (site, client):
        run = (await client.call("qualify", station=CP))["run"]
        with pytest.raises(CallRefused, match="one at a time"):
            await client.call("qualify", station=CP)
        await site.until(lambda: site.view(CP).accepted_ma == 6_000)
        outcome = (await client.call("qualify-stop", run=run))["outcome"]
        assert not outcome["passed"] and not outcome["stored"] and "ended by" in outcome["hindered"]
        await site.until(lambda: lifted(site))
        assert (
            site.runtime is not None and len(site.runtime.hearers) == 1
        )  # who learns from what comes and goes


async def test_when_nobody_follows_while_the_link_is_cut_the_station_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_calls, "LOST_S", 2.0)
    async with at_work(tmp_path, monkeypatch) as (site, client):
        monkeypatch.setattr(qualify_checks, "CUT_MORE_S", 100_000.0)
        run = (await client.call("qualify", station=CP, skip=[c for c in CHECKS if c != "cut"]))["run"]
        async with asyncio.timeout(20):
            while site.view(CP).connected:
                assert (await client.call("qualify-follow", run=run, seen=100))["outcome"] is None
        await site.until(lambda: lifted(site))
        answer = await client.call("qualify-follow", run=run, seen=0)
        assert "nobody followed" in answer["outcome"]["hindered"]


async def test_an_overload_on_the_way_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_work(tmp_path, monkeypatch) as (site, client):
        run = (await client.call("qualify", station=CP))["run"]
        await site.until(lambda: site.view(CP).accepted_ma == 6_000)
        site.building.amps = 85.0
        async with asyncio.timeout(20):
            while (answer := await client.call("qualify-follow", run=run, seen=0))["outcome"] is None:
                pass
        assert "circuit site is overloaded" in answer["outcome"]["hindered"]
        assert not answer["outcome"]["stored"]
        site.building.amps = 15.0
        await site.until(lambda: lifted(site))
