"""A site whose chargers have ways of their own: they charge, the copper notices nothing, and people can see it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from whole_house import FALLBACK_A, whole_house

from controller.cli import main
from drivers.sim.quirks import Quirks


async def test_stations_with_ways_share_the_copper_and_people_see_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = {"CP001": Quirks(only_relative=True), "CP002": Quirks(stack_levels=frozenset({0}))}
    async with whole_house(tmp_path, limit_a=100.0, quirks=ways) as site:
        for name in ("CP001", "CP002"):
            site.arrive(name)
        await site.until(lambda: all(site.drawn_a(name) > FALLBACK_A + 1 for name in ("CP001", "CP002")))
        await site.until(lambda: site.view("CP002").commitment_ma == 32_000)
        assert site.view("CP001").commitment_ma <= 32_000
        site.world.catch_up()
        assert site.world.overloads() == {}
        command = ["diagnose", "CP001", "--socket", str(site.socket)]
        assert await asyncio.to_thread(main, [*command, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)["ways"]
        (relative,) = [way for way in told if way["name"] == "relative"]
        assert relative["row"] == 29 and relative["times"] >= 1
        assert await asyncio.to_thread(main, command) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "relative" in line]
        assert line.split()[:2] == ["29", "relative"] and "Relative only" in line
        assert await asyncio.to_thread(main, ["diagnose", "CP003", "--socket", str(site.socket)]) == 0
        assert "its ways" not in capsys.readouterr().out
