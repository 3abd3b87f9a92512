"""The fallback budget beside amps: kilowatts, imbalance, stations without a proof; and that its advice is the cheapest."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.config import ConfigError, describe, load
from controller.config.fewest import fewest

SITE = """
[site]
name = "Yard"
timezone = "UTC"
limit = "{limit}"
fuse = "250 A"
assumed_load = "10 A"
max_imbalance = "20 A"
[ocpp]
listen = ":0"
unqualified = "{unqualified}"
"""


def depot(
    evses: list[str], limit: str = "160 kW", fallback: str = "10 A", unqualified: str = "fallback"
) -> str:
    text = SITE.format(limit=limit, unqualified=unqualified)
    for number, evse in enumerate(evses, 1):
        text += f'[station.S{number}]\ncircuit = "site"\nfallback = "{fallback}"\n'
        text += f"evse.1 = {{ {evse} }}\nocpp = {{ allow_insecure = true }}\n"
    return text


THREE, ONE, UNKNOWN = 'max = "32 A"', 'max = "32 A", phases = "L1"', 'max = "32 A", phases = "unknown"'


def test_kilowatts_must_carry_the_fallbacks_at_the_highest_voltage(write_config):
    """5 x 3 x 10 A and 3 x 10 A of load at 253 V are 45.54 kW."""
    load(write_config(depot([THREE] * 5, limit="45.54 kW")))
    with pytest.raises(ConfigError) as caught:
        load(write_config(depot([THREE] * 5, limit="45 kW")))
    [problem] = caught.value.problems
    assert problem.where == "site.limit"
    assert problem.text == (
        "the fallbacks of 37.95 kW and the assumed load of 7.59 kW at 253 V are 0.54 kW above the limit of 45 kW"
    )
    assert problem.suggestion == (
        'set fallback = "0 A" on 1 station of site, or raise the limit to 45.54 kW where that is allowed'
    )
    text = depot([THREE] * 5, limit="45 kW").replace('fallback = "10 A"', 'fallback = "0 A"', 1)
    load(write_config(text))


def test_a_load_above_the_kilowatts_cannot_be_mended_by_pausing(write_config):
    with pytest.raises(ConfigError) as caught:
        load(write_config(depot([THREE], limit="7 kW")))
    [problem] = caught.value.problems
    assert problem.suggestion.startswith("lower assumed_load, or raise the limit to 15.18 kW")


def test_dc_outputs_count_with_their_supply(write_config):
    dc = 'max_power = "60 kW", current = "dc"'
    shown = describe(load(write_config(depot([dc], limit="44 kW", fallback="30 kW"))))
    assert ["site", "each", "250", "A", "10", "A", "52.51", "A", "187.49", "A"] in map(
        str.split, shown.splitlines()
    )
    assert "site     all    44 kW  7.59 kW  32.609 kW  3.801 kW" in shown, "30 kW / 0.92"
    with pytest.raises(ConfigError):
        load(write_config(depot([dc], limit="40 kW", fallback="30 kW")))


def test_what_stations_draw_alone_may_break_the_imbalance_and_that_is_told(write_config):
    shown = " ".join(describe(load(write_config(depot([ONE] * 3)))).split())
    assert "alone, stations may draw 30 A on L1 that the other phases need not draw" in shown
    assert 'set fallback = "0 A" on 1 of them' in shown
    assert "alone, stations" not in describe(load(write_config(depot([ONE] * 2 + [THREE] * 3))))
    assert "alone, stations" in describe(load(write_config(depot([UNKNOWN] * 3)))), (
        "nobody knows where they hang"
    )


def test_stations_without_a_proof_are_told_where_their_maximum_does_not_fit(write_config):
    text = depot([THREE] * 8, unqualified="maximum")
    shown = " ".join(describe(load(write_config(text))).split())
    assert "count at their maximum, all together 266 A on L1 of 250 A" in shown
    assert "all together" not in describe(load(write_config(depot([THREE] * 7, unqualified="maximum"))))
    assert "all together" not in describe(load(write_config(depot([THREE] * 8))))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 4).map(lambda amps: amps * 6)] * 3), max_size=7),
    st.tuples(*[st.integers(-10, 60)] * 3),
)
def test_the_fewest_are_as_few_as_trying_everything(
    draws: list[tuple[int, int, int]], over: tuple[int, int, int]
):
    def enough(chosen: tuple[tuple[int, int, int], ...]) -> bool:
        return all(sum(draw[p] for draw in chosen) >= over[p] for p in range(3))

    wanted = next(
        (n for n in range(len(draws) + 1) if any(enough(some) for some in combinations(draws, n))), None
    )
    assert fewest(draws, over) == wanted


def test_a_large_site_is_quick():
    draws = [(6_000 * (n % 3 == 0), 6_000 * (n % 3 != 1), 6_000 + 1_000 * (n % 4)) for n in range(200)]
    assert fewest(draws, (200_000, 300_000, 400_000)) is not None
