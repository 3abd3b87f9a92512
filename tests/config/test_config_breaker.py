"""`breaker`: what protects a circuit, for the trip margin that is shown."""

from __future__ import annotations

import pytest

from controller.config import ConfigError, load
from controller.config.report import describe
from controller.core.bimetal import KINDS
from controller.core.model import SITE, CircuitId


def test_the_breaker_of_a_circuit_is_optional_and_shown(write_config, valid):
    assert {circuit.breaker for circuit in load(write_config(valid)).site.circuits.values()} == {None}
    for kind in KINDS:
        named = valid.replace('meter = "main"', f'meter = "main"\nbreaker = "{kind}"', 1)
        config = load(write_config(named))
        assert config.site.circuits[SITE].breaker == kind
        assert f"breaker {kind}" in describe(config)
    row = valid.replace('meter = "row_a"', 'meter = "row_a"\nbreaker = "C"', 1)
    assert load(write_config(row)).site.circuits[CircuitId("row_a")].breaker == "C"


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ('meter = "main"', 'meter = "main"\nbreaker = "gg"', "site.breaker", '"gg" is not known here'),
        ('meter = "main"', 'meter = "main"\nbreaker = 63', "site.breaker", "text"),
        (
            'limit = "32 A"',
            'limit = "32 A"\nbreaker = "B"',
            "circuit.row_b.breaker",
            "no meter tells the load",
        ),
    ],
)
def test_a_breaker_nobody_knows_or_measures_is_refused(write_config, valid, old, new, where, said):
    with pytest.raises(ConfigError) as caught:
        load(write_config(valid.replace(old, new, 1)))
    (problem,) = caught.value.problems
    assert problem.where == where
    assert said in f"{problem.text} {problem.suggestion}"
