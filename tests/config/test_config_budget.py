"""The arithmetic of stations left alone: phases, rotation, trees, and what to change when it does not fit."""

from __future__ import annotations

import pytest

from controller.config import Budget, ConfigError, fallback_budget, load
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    Link,
    PerPhase,
    Site,
    StationId,
    each_phase,
    evse_id,
)

ROW = CircuitId("row")
LINK = Link("ocpp", 180, 30, 10, 12)


def evse(station: str, number: int, circuit: CircuitId, phases: tuple[int, ...], fallback_ma: int) -> Evse:
    return Evse(
        evse_id(station, number), StationId(station), circuit, 32_000, 6_000, phases, fallback_ma, LINK
    )


def site(assumed_ma: PerPhase[int] | None, *evses: Evse) -> Site:
    circuits = {
        SITE: Circuit(SITE, None, each_phase(100_000), assumed_load_ma=assumed_ma),
        ROW: Circuit(ROW, SITE, PerPhase(32_000, 32_000, 20_000), assumed_load_ma=each_phase(0)),
    }
    return Site("s", "UTC", 230_000, circuits, {e.id: e for e in evses})


def test_each_evse_counts_on_the_phases_it_hangs_on_in_its_circuit_and_above():
    at_row, at_site = fallback_budget_of(
        site(
            PerPhase(10_000, 20_000, 30_000),
            evse("A", 1, ROW, (1, 2, 0), 6_000),
            evse("A", 2, ROW, (2,), 7_000),
            evse("B", 1, SITE, (1,), 8_000),
            evse("C", 1, SITE, (0, 2), 1_000),
        )
    )
    assert at_row == Budget(
        ROW,
        limit_ma=PerPhase(32_000, 32_000, 20_000),
        assumed_ma=each_phase(0),
        fallbacks_ma=PerPhase(6_000, 6_000, 13_000),
        spare_ma=PerPhase(26_000, 26_000, 7_000),
    )
    assert at_site == Budget(
        SITE,
        limit_ma=each_phase(100_000),
        assumed_ma=PerPhase(10_000, 20_000, 30_000),
        fallbacks_ma=PerPhase(7_000, 14_000, 14_000),
        spare_ma=PerPhase(83_000, 66_000, 56_000),
    )


def test_an_unknown_load_leaves_the_spare_unknown():
    _, at_site = fallback_budget_of(site(None, evse("A", 1, ROW, (0,), 6_000)))
    assert (at_site.assumed_ma, at_site.spare_ma) == (None, None)
    assert at_site.fallbacks_ma == PerPhase(6_000, 0, 0)


def fallback_budget_of(of: Site) -> tuple[Budget, Budget]:
    by_circuit = {budget.circuit: budget for budget in fallback_budget(of)}
    return by_circuit[ROW], by_circuit[SITE]


# --- refusing what does not fit ----------------------------------------------------------------------------

DEPOT = """
[site]
name = "Yard"
timezone = "UTC"
limit = "{site}"
assumed_load = "{assumed}"
[circuit.row]
parent = "site"
limit = "{row}"
[ocpp]
listen = ":0"
"""


def depot(
    phases: list[str], fallback: str, site: str = "100 A", assumed: str = "10 A", row: str = "63 A"
) -> str:
    text = DEPOT.format(site=site, assumed=assumed, row=row)
    for number, wired in enumerate(phases, 1):
        text += f"""
[station.S{number}]
circuit = "row"
fallback = "{fallback}"
evse.1 = {{ max = "32 A", phases = "{wired}" }}
ocpp = {{ allow_insecure = true }}
"""
    return text


def test_the_last_milliampere_still_fits(write_config):
    load(write_config(depot(["L1 L2 L3"] * 3, "10 A", site="40 A", row="30 A")))


def test_rotated_single_phase_stations_fit_where_unrotated_ones_do_not(write_config):
    load(write_config(depot(["L1", "L2", "L3"], "20 A", row="20 A")))
    with pytest.raises(ConfigError) as caught:
        load(write_config(depot(["L1", "L1", "L3"], "20 A", row="20 A")))
    [problem] = caught.value.problems
    assert (problem.where, problem.line) == ("circuit.row.limit", 9)
    assert problem.text == "the fallbacks of 40 A on L1 are 20 A above the limit of 20 A"
    assert problem.suggestion == (
        'set fallback = "0 A" on 1 station of row, or raise the limit to 40 A where the copper allows it'
    )


def test_the_assumed_load_counts_and_the_cheapest_change_is_the_fewest_stations(write_config):
    text = depot(["L1 L2 L3"] * 10, "6 A", assumed="58 A")
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    [problem] = caught.value.problems
    assert (problem.where, problem.line) == ("site.limit", 5)
    assert problem.text == (
        "the fallbacks of 60 A and the assumed load of 58 A on L1 are 18 A above the limit of 100 A"
    )
    assert 'set fallback = "0 A" on 3 stations of site' in problem.suggestion
    spared = text.replace('fallback = "6 A"', 'fallback = "0 A"', 3)  # the advice, followed, is enough
    load(write_config(spared))


def test_a_load_above_the_limit_cannot_be_mended_by_pausing(write_config):
    with pytest.raises(ConfigError) as caught:
        load(write_config(depot(["L1"], "6 A", site="50 A", assumed="60 A", row="32 A")))
    [problem] = caught.value.problems
    assert problem.suggestion == ("lower assumed_load, or raise the limit to 66 A where the copper allows it")


def test_an_unknown_background_load_does_not_excuse_fallbacks_above_the_limit(write_config):
    text = (
        depot(["L1"] * 3, "20 A", site="50 A").replace('assumed_load = "10 A"', 'meter = "m"')
        + '[meter.m]\nkind = "b23"\naddress = "tcp://g/1"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    [problem] = caught.value.problems
    assert problem.text == "the fallbacks of 60 A on L1 are 10 A above the limit of 50 A"


def test_a_parent_cannot_assume_less_load_than_its_children(write_config):
    text = depot(["L1"], "6 A").replace("[ocpp]", 'assumed_load = ["0 A", "12 A", "0 A"]\n[ocpp]')
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    [problem] = caught.value.problems
    assert (problem.where, problem.line) == ("site.assumed_load", 6)
    assert problem.text == "10 A on L2 is less than the circuits below assume (12 A)"
    assert problem.suggestion == 'write "12 A" or more'
