"""A plan in a station only ever lowers: at no moment, and in no state of lease, plan and transaction, is more allowed with
it than without it, and never more than the lease or the fallback. Judged by the simulated stations' own reading of the
profiles, for every version."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.commands import SetLimit, StorePlan
from controller.core.model import (
    SITE,
    Circuit,
    Departure,
    Evse,
    Link,
    Moment,
    Plan,
    Site,
    StationId,
    each_phase,
    evse_id,
)
from controller.core.planning import PlanRequest, Present, Price
from controller.core.standby import Standby, StandbyStep
from controller.core.standby_plan import standbys
from drivers.errors import Refused
from drivers.ocpp import keeping
from drivers.ocpp.dialects import Switches
from drivers.ocpp.fitting import fit_able, fit_ma
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.versions import V16, V21, V201
from drivers.ocpp.words import Capabilities, Words
from drivers.sim import charger2_merge, merge, orders

NOW = datetime(2026, 11, 20, 18, 7, 13, tzinfo=UTC)
LINK = Link("ocpp", 180, 30, 10, 12, stores_plans=True)
ID = evse_id("A", 1)
FOLDERS = {"1.6": "v16", "2.0.1": "v201", "2.1": "v21"}
HARDWARE = merge.Hardware(32.0, 3, 230.0)

evses = st.builds(
    lambda fallback_ma, phases: Evse(ID, StationId("A"), SITE, 32_000, 6_000, phases, fallback_ma, LINK),
    st.integers(0, 20_000),
    st.sampled_from([(0, 1, 2), (0,)]),
)
capabilities = st.builds(
    Capabilities,
    max_stack_level=st.integers(0, 9),
    in_watts=st.booleans(),
    max_periods=st.none() | st.integers(1, 12),
    profile_kind=st.sampled_from(["Absolute", "Relative"]),
)
switches = st.builds(
    Switches,
    stack_levels=st.sampled_from([(), (0, 2, 5), (1, 3)]),
    steps_a=st.sampled_from([(), (6, 10, 16, 20, 32)]),
    pause=st.sampled_from(["zero", "six_amp"]),
)
plans_w = st.lists(st.integers(-7000, 22_000), min_size=1, max_size=40)


def standby_of(
    evse: Evse, watts: list[int], slot_min: int, leaves_h: float, prices: list[float], wakes: bool
) -> Standby | None:
    slots = tuple(NOW + timedelta(minutes=slot_min * n) for n in range(len(watts) + 1))
    site = Site("depot", "UTC", 230_000, {SITE: Circuit(SITE, None, each_phase(63_000))}, {ID: evse})
    departures = {ID: Departure(ID, NOW + timedelta(hours=leaves_h), energy_wh=1)}
    known = tuple(Price(NOW + timedelta(hours=n), amount) for n, amount in enumerate(prices))
    request = PlanRequest(
        Moment(0.0, NOW), site, (Present(ID, None, NOW, 0, None, wakes=wakes),), {}, departures, prices=known
    )
    return standbys(request, Plan(NOW, "horizon", {}, slots=slots, evses_w={ID: tuple(watts)})).get(ID)


def read(words: Words, payload: dict[str, Any]) -> merge.Profile:
    Schemas(FOLDERS[words.version]).check("SetChargingProfile", payload)
    if words.version == "1.6":
        return orders.read_profile(payload["csChargingProfiles"], payload["connectorId"], NOW)
    return charger2_merge.read_profile(payload["chargingProfile"], payload["evseId"], NOW, words.channel)


def allowed_a(profiles: list[merge.Profile], at: datetime, began: datetime | None) -> float:
    return charger2_merge.allowed(profiles, 1, at, HARDWARE, began).limit_a


def drawn(gaps_min: list[int], limits_ma: list[int]) -> Standby:
    """Any: what the driver gets may be wrong."""
    at, steps = NOW, []
    for gap_min, limit_ma in zip(gaps_min, limits_ma, strict=False):
        steps.append(StandbyStep(at, limit_ma))
        at += timedelta(minutes=gap_min)
    return Standby(tuple(steps), at)


lists = {"min_size": 1, "max_size": 25}
anything = st.builds(drawn, st.lists(st.integers(1, 240), **lists), st.lists(st.integers(0, 32_000), **lists))


@pytest.mark.parametrize("words", [V16, V201, V21], ids=lambda words: words.version)
@settings(max_examples=200, deadline=None)
@given(
    evses,
    capabilities,
    switches,
    anything,
    st.integers(0, 32_000),
    st.floats(0, 20),
    st.floats(0, 900),
    st.lists(st.integers(-3600, 48 * 3600), **lists),
)
def test_a_stored_plan_only_ever_lowers(
    words: Words,
    evse: Evse,
    able: Capabilities,
    switch: Switches,
    standby: Standby,
    lease_ma: int,
    began_h: float,
    late_s: float,
    moments: list[int],
) -> None:
    able, evse = fit_able(able, switch), replace(evse, fallback_ma=fit_ma(evse.fallback_ma, switch))
    began, told = NOW - timedelta(hours=began_h), NOW + timedelta(seconds=late_s)
    command = StorePlan("c", ID, "ocpp", "17", began, standby)
    try:
        layer = keeping.layer(command, evse, able, switch, 1, 0.0, told)
    except Refused:
        return
    assert 0 < layer.level < able.max_stack_level, "between the fallback and the lease"
    assert able.max_periods is None or len(layer.periods) <= able.max_periods
    plan = read(words, words.plan("17", 1, evse, able, layer).payload)
    fallback = read(words, words.fallback(1, evse, able).payload)
    limit = SetLimit("l", ID, "ocpp", lease_ma, 180.0, "17")
    lease = read(words, words.limit(limit, 1, evse, able, told).payload)
    installed: list[merge.Profile] = []
    for profile in (fallback, lease, plan):
        installed = list(merge.install(installed, profile))
    assert len(installed) == 3, "none of them replaces another"
    without = [fallback, lease]
    edges = [standby.until, *(step.start for step in standby.steps), told + timedelta(seconds=180)]
    ats = [NOW + timedelta(seconds=each) for each in moments]
    ats += [edge + timedelta(seconds=off) for edge in edges for off in (-1, 0, 1)]
    for at in ats:
        if at < began:
            continue
        assert allowed_a(installed, at, began) <= allowed_a(without, at, began), at
        assert allowed_a(installed, at, None) == allowed_a(without, at, None), "it is the transaction's"
        if lease.period_at(at, began) is not None:
            assert allowed_a(installed, at, began) == allowed_a(without, at, began), "the lease goes first"
        elif at >= standby.until:
            assert allowed_a(installed, at, began) == allowed_a([fallback], at, began)
        else:
            assert allowed_a(installed, at, began) <= evse.fallback_ma / 1000
    gone = keeping.ended(evse, able, switch, told)
    assert gone is not None
    dropped = list(merge.install(installed, read(words, words.plan("17", 1, evse, able, gone).payload)))
    for at in (at for at in ats if at >= max(began, told)):
        assert allowed_a(dropped, at, began) <= allowed_a(without, at, began), at
        if at >= told + timedelta(seconds=keeping.LAST_S):
            assert allowed_a(dropped, at, began) == allowed_a(without, at, began), at


@settings(max_examples=200, deadline=None)
@given(
    evses, plans_w, st.sampled_from([15, 30, 60]), st.floats(0.1, 30), st.lists(st.floats(-1, 3), max_size=20),
    st.booleans(),
)  # fmt: skip
def test_nobody_goes_short_by_it(
    evse: Evse, watts: list[int], slot_min: int, leaves_h: float, prices: list[float], wakes: bool
) -> None:
    """Until it leaves it gets what the plan gives it, or all that its fallback could."""
    standby = standby_of(evse, watts, slot_min, leaves_h, prices, wakes)
    if standby is None:
        return
    w_per_ma = 0.230 * len(evse.phases)
    leaves, slot = NOW + timedelta(hours=leaves_h), timedelta(minutes=slot_min)
    assert standby.steps and all(0 <= step.limit_ma <= evse.fallback_ma for step in standby.steps)
    planned_wh = given_wh = most_wh = 0.0
    for n, planned_w in enumerate(watts):
        start = NOW + n * slot
        limit_ma = standby.limit_ma(start)
        hours = slot_min / 60
        planned_wh += max(0, planned_w) * hours if planned_w >= 50 else 0
        given_wh += (evse.fallback_ma if limit_ma is None else limit_ma) * w_per_ma * hours
        if start < leaves:
            most_wh += evse.fallback_ma // 100 * 100 * w_per_ma * hours
    assert given_wh >= min(planned_wh, most_wh) - len(watts) * 50
