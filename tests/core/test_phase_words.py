"""A limit for one phase as each version of OCPP says it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.core.commands import SetLimit
from controller.core.model import CircuitId, Evse, EvseId, Link, StationId
from drivers.errors import Refused
from drivers.ocpp import v2_setup
from drivers.ocpp.versions import V16, V21, V201
from drivers.ocpp.words import Capabilities, Words

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LINK = Link("ocpp", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
EVSE = Evse(EvseId("CP1/1"), StationId("CP1"), CircuitId("site"), 32_000, 6_000, (1, 2, 0), 6_000, LINK)
ABLE = Capabilities(max_stack_level=3, takes_watts=True)
ALL = pytest.mark.parametrize("words", [V16, V201, V21], ids=lambda words: words.version)


def period(words: Words, phases: int | None, able: Capabilities = ABLE) -> dict[str, Any]:
    command = SetLimit("c1", EVSE.id, words.channel, 16_000, 180.0, "7", phases=phases)
    payload = words.limit(command, 1, EVSE, able, NOW).payload
    profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
    schedule = profile["chargingSchedule"]
    (found,) = (schedule[0] if isinstance(schedule, list) else schedule)["chargingSchedulePeriod"]
    return dict(found)


@ALL
def test_as_wired_nothing_is_said_of_phases(words: Words) -> None:
    assert period(words, None, replace(ABLE, chooses_phase=True)) == {"startPeriod": 0, "limit": 16.0}


@ALL
def test_one_phase(words: Words) -> None:
    assert period(words, 1) == {"startPeriod": 0, "limit": 16.0, "numberPhases": 1}


@pytest.mark.parametrize("words", [V201, V21], ids=lambda words: words.version)
def test_which_phase_is_said_where_the_station_would_choose(words: Words) -> None:
    """It is not allowed anywhere else."""
    said = period(words, 1, replace(ABLE, chooses_phase=True))
    assert said == {"startPeriod": 0, "limit": 16.0, "numberPhases": 1, "phaseToUse": 1}


@ALL
def test_one_phase_is_said_in_amperes_only(words: Words) -> None:
    with pytest.raises(Refused, match="watts only"):
        period(words, 1, replace(ABLE, in_watts=True))
    assert period(words, None, replace(ABLE, in_watts=True))["limit"] == 16 * 230 * 3


@pytest.mark.parametrize(("told", "chooses"), [("true", True), ("false", False), (None, False)])
def test_a_station_that_chooses_its_phase_says_so(told: str | None, chooses: bool) -> None:
    configuration = {} if told is None else {v2_setup.PHASE_CHOICE.key: told}
    assert v2_setup.capabilities(configuration).chooses_phase is chooses
