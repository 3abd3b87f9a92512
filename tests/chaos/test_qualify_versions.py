"""`depot qualify` on stations of OCPP 2.0.1 and 2.1: the same proof in other words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import whole_house
from test_whole_house_versions import mixed_house

from controller.config import stations
from controller.core.model import StationId
from ui.client import Client


@pytest.mark.parametrize(("name", "skipped"), [("CP002", []), ("CP003", ["lease", "cut", "spikes"])])
async def test_the_proof_passes_in_every_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, skipped: list[str]
) -> None:
    short = replace(stations.OCPP_LINK, lease_s=30.0, lease_slack_s=6.0, raise_gap_s=4.0)
    monkeypatch.setattr(stations, "OCPP_LINK", short)
    monkeypatch.setattr(whole_house, "SPEED", 25.0)
    async with mixed_house(tmp_path, limit_a=80.0) as site:
        site.arrive(name)
        await site.until(lambda: (site.view(name).measured_ma.l1 or 0) > 8_000)
        client = Client(tmp_path / "control.sock")
        run = (await client.call("qualify", station=name, quick=True, skip=skipped))["run"]
        seen: list[object] = []
        while (news := await client.call("qualify-follow", run=run, seen=len(seen)))["outcome"] is None:
            seen += news["lines"]
        assert news["outcome"]["passed"] is (skipped == []), (seen, news)
        wrong = [each for each in news["outcome"]["findings"] if "FAILED" in each or "not done" in each]
        assert wrong == [] and news["outcome"]["hindered"] is None
        assert site.world.overloads() == {}
        assert site.runtime is not None
        assert (site.runtime.depot.proven_firmware(StationId(name)) is not None) is (skipped == [])
