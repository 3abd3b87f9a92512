"""What people may ask the hosted platform for: its sites, the energy it counts, the end of flexibility."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from two_backends import site

from controller.cli import main
from controller.consent import Switch
from drivers.openplatform.operator import PlatformOperator

Said = tuple[int, str, str]


async def test_sites_energy_and_the_end_of_flexibility(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    purposes = '"monitor", "control", "flexibility"'
    async with site(tmp_path, purposes) as place, place.controller() as two:

        async def depot(*arguments: str) -> Said:
            where = ("--socket", str(tmp_path / "control.sock"))
            code = await asyncio.to_thread(main, [*arguments, *where])
            return code, *capsys.readouterr()

        await two.until(lambda: two.state() == "ok")
        code, said, _ = await depot("channels", "sites")
        assert code == 0
        assert said.split()[:5] == ["SITE", "NAME", "CONNECTORS", "CAPACITY", "kW"]
        assert "st-sim-01" in said
        [found] = json.loads((await depot("channels", "sites", "--json"))[1])
        assert (found["site_id"], found["connectors"]) == ("st-sim-01", 1)
        code, said, _ = await depot("channels", "energy", "--since", "3h", "--json")
        assert code == 0
        keys = {"site", "label", "start", "charge_wh", "discharge_wh", "max_w"}
        assert [(point.keys(), point["site"]) for point in json.loads(said)] == [(keys, "st-sim-01")]
        code, said, _ = await depot("channels", "energy", "--per", "day")
        assert said.split("\n")[0].split("  ")[0] == "SITE"
        code, said, wrong = await depot(
            "channels", "energy", "--since", "2030-01-01", "--until", "2029-01-01"
        )
        assert (code, said) == (2, "")
        assert wrong == "depot: the period of an energy query ends before it begins\n"

        switch = next(one for one in two.house.switches if isinstance(one, Switch))
        operator = switch.driver
        assert isinstance(operator, PlatformOperator)
        await operator.flexibility(40, 3600, "test")
        [charger] = two.platform.chargers.values()
        await two.until(lambda: [a.percent for a in charger.flexibility.values()] == [40])
        assert (await depot("flex", "end"))[0] == 0
        await two.until(lambda: not [a for a in charger.flexibility.values() if a.percent < 100])

        assert (await depot("channels", "disable", "open-platform"))[0] == 0
        gone = (1, "", "depot: no hosted platform is on; `depot channels` shows what is\n")
        assert await depot("channels", "sites") == gone
        assert await depot("channels", "energy") == gone
        assert (await depot("flex", "end"))[0] == 0, "here it ends all the same"


@pytest.mark.parametrize("arguments", [["sites", "extra"], ["energy", "--per", "week"]])
def test_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["channels", *arguments])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
