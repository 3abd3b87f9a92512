"""Programs on site at a station that OCPP leads: what they may order there without a permit, and with one."""

from __future__ import annotations

from typing import Any

import pytest
from onsite_clients_bench import PLAN, onsite, session, view

from controller.core import events as ev
from controller.core.model import EvseId, EvseState, StationId

LED = StationId("CP1")
PATH = "/devices/dvc_1/connectors/1"
BODIES: dict[str, Any] = {"start": {}, "stop": {}, "schedule": PLAN}
KINDS = {"start": ev.StartWished, "stop": ev.StopWished, "schedule": ev.ScheduleSet}


@pytest.mark.parametrize("word", BODIES)
async def test_sessions_are_ocpps_unless_the_config_permits(word: str) -> None:
    async with onsite(permits={LED: frozenset(BODIES) - {word}}) as bench:
        refused = await bench.post(f"{PATH}/{word}", BODIES[word])
        assert refused.refusal == (403, 2003, None)
        assert f"does not permit {word} here" in refused.body["message"]
        assert bench.said == []
        elsewhere = await bench.post(f"/devices/dvc_2/connectors/1/{word}", BODIES[word])
        assert elsewhere.status == 200, "a station of its own"
    async with onsite(permits={LED: frozenset({word})}) as bench:
        assert (await bench.post(f"{PATH}/{word}", BODIES[word])).status == 200
        [said] = bench.said
        assert isinstance(said, KINDS[word])


async def test_a_discharge_needs_no_permit_and_may_be_ended_where_it_began() -> None:
    async with onsite(permits={LED: frozenset()}) as bench:
        order = {"discharge_power": 5, "duration": 600}
        assert (await bench.post(f"{PATH}/discharge", order)).status == 200
        bench.show(view("CP1/1", EvseState.DISCHARGING, session=session()))
        assert (await bench.post(f"{PATH}/stop", {})).status == 200
        assert [type(said) for said in bench.said] == [ev.DischargeWished, ev.StopWished]
        assert {said.evse for said in bench.said} == {EvseId("CP1/1")}  # type: ignore[union-attr]
        bench.show(view("CP1/1", EvseState.CHARGING, session=session()))
        assert (await bench.post(f"{PATH}/stop", {})).refusal == (403, 2003, None)
