"""phase_switching: of three-phase AC outlets that OCPP leads, and of nothing else."""

from __future__ import annotations

import pytest

from controller.config import ConfigError, describe, load
from controller.core.model import EvseId

DEPOT = """
[site]
name = "Yard"
timezone = "UTC"
limit = "100 A"
assumed_load = "10 A"
[ocpp]
listen = ":0"
[open_platform]
listen = ":0"
[station.AC1]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A", phases = "L2 L3 L1", phase_switching = true }
evse.2 = { max = "32 A" }
ocpp = { allow_insecure = true }
"""
BESIDE = 'evse.2 = { max = "32 A" }'


def test_a_station_can_be_told_to_charge_on_one_phase(write_config):
    config = load(write_config(DEPOT.replace('[open_platform]\nlisten = ":0"\n', "")))
    assert config.site.evses[EvseId("AC1/1")].phase_switching
    assert not config.site.evses[EvseId("AC1/2")].phase_switching
    assert "L2 L3 L1 or L2" in describe(config)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            'evse.2 = { max = "32 A", phases = "L1", phase_switching = true }',
            "needs an outlet on three phases",
        ),
        ('evse.2 = { max = "32 A", phases = "unknown", phase_switching = true }', 'like phases = "L2 L3 L1"'),
        ('evse.2 = { max_power = "60 kW", current = "dc", phase_switching = true }', "a DC output takes all"),
        ('evse.2 = { max = "32 A", phase_switching = "yes" }', "yes"),
    ],
)
def test_elsewhere_it_is_refused(write_config, written, said):
    text = DEPOT.replace(BESIDE, written).replace('[open_platform]\nlisten = ":0"\n', "")
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    (line,) = str(caught.value).splitlines()
    assert "station.AC1.evse.2.phase_switching" in line and said in line


def test_the_open_platform_has_no_word_for_it(write_config):
    text = DEPOT.replace(
        "ocpp = { allow_insecure = true }",
        'open_platform = { link = "onsite", serial = "TP-1", model = "TP-AC22" }',
    ).replace('[ocpp]\nlisten = ":0"\n', "")
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    lines = [line for line in str(caught.value).splitlines() if "phase_switching" in line]
    assert lines and "the Open Platform has no word for it" in lines[0]
