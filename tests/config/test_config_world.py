"""Outputs and limits beside plain amps: DC outputs, unknown rotation, limits in kW, the imbalance."""

from __future__ import annotations

import pytest

from controller.config import ConfigError, describe, load
from controller.core.model import SITE, Dc, Evse, PerPhase, each_phase
from controller.core.watts import limit_ma, limit_w, load_ma

DEPOT = """
[site]
name = "Yard"
timezone = "UTC"
limit = "400 kW"
fuse = ["630 A", "630 A", "600 A"]
max_imbalance = "20 A"
assumed_load = "10 A"
[ocpp]
listen = ":0"
[station.DC1]
circuit = "site"
fallback = "20 kW"
evse.1 = { max_power = "180 kW", current = "dc" }
evse.2 = { max_power = "60 kW", current = "dc", min_power = "5 kW", efficiency = 0.95 }
ocpp = { allow_insecure = true }
[station.AC1]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A", phases = "unknown" }
ocpp = { allow_insecure = true }
"""


def test_a_dc_output_is_counted_at_a_low_voltage_with_its_losses(write_config):
    site = load(write_config(DEPOT)).site
    one, two = (site.evses[name] for name in ("DC1/1", "DC1/2"))
    assert one.dc == Dc(180_000, 207_000, 92)
    assert two.dc == Dc(60_000, 207_000, 95)
    assert one.max_ma == 316_000, "180 kW / 0.92 / (3 x 207 V) = 315.06 A, in whole steps"
    assert (one.min_ma, two.min_ma) == (6_000, 9_000)
    assert one.fallback_ma == 35_007 and one.phases == (0, 1, 2)
    assert not site.evses["AC1/1"].rotation_known and one.rotation_known


def test_limits_in_kilowatts_stand_beside_amps(write_config):
    site = load(write_config(DEPOT)).site
    circuit = site.circuits[SITE]
    assert (circuit.limit_w, circuit.limit_ma) == (400_000, PerPhase(630_000, 630_000, 600_000))
    assert site.max_imbalance_ma == 20_000


def test_they_are_told(write_config):
    shown = describe(load(write_config(DEPOT)))
    assert "site  400 kW and 630 A / 630 A / 600 A" in shown
    assert "at most 20 A between two phases, of our EVSEs alone: no meter tells the rest" in shown
    assert "DC1/1  site     3.42 kW  180 kW  1 A   DC, 316 A  20 kW" in shown
    assert "AC1/1  site     6 A      32 A    1 A   unknown    6 A" in shown


def test_watts_and_amps_of_a_dc_output_come_back_as_no_more(write_config):
    evse = load(write_config(DEPOT)).site.evses["DC1/1"]
    assert evse.dc is not None
    for current_ma in (*range(0, 5_000, 7), 6_000, 99_999, 316_000):
        watts = limit_w(evse, current_ma, 230_000)
        assert load_ma(evse.dc, watts) <= current_ma < load_ma(evse.dc, watts + 1) + 1
        assert limit_w(evse, limit_ma(evse, watts, 230_000), 230_000) <= watts
    assert load_ma(evse.dc, -100_000) == -load_ma(evse.dc, 100_000)


def test_an_ac_outlet_keeps_its_arithmetic() -> None:
    evse = Evse("A/1", "A", SITE, 32_000, 6_000, (0, 1, 2), 6_000, None)  # type: ignore[arg-type]
    assert limit_w(evse, 16_000, 230_000) == 11_040
    assert limit_ma(evse, 11_040, 230_000) == 16_000


def test_a_fallback_below_what_the_output_can_give_is_said_in_its_own_unit(write_config):
    with pytest.raises(ConfigError) as caught:
        load(write_config(DEPOT.replace('"20 kW"', '"4 kW"')))
    [problem] = caught.value.problems
    assert problem.text == "4 kW is below the minimum of EVSE 2 (5.309 kW): a pause"
    with pytest.raises(ConfigError) as caught:
        load(write_config(DEPOT.replace('"20 kW"', '"70 kW"')))
    [problem] = caught.value.problems
    assert problem.text == "70 kW is above the maximum of EVSE 2 (60 kW)"


def test_zero_pauses_in_either_unit(write_config):
    for written in ('"0 kW"', '"0 A"'):
        site = load(write_config(DEPOT.replace('"20 kW"', written))).site
        assert site.evses["DC1/1"].fallback_ma == 0


def test_one_number_holds_for_all_phases(write_config):
    text = DEPOT.replace('["630 A", "630 A", "600 A"]', '"630 A"')
    assert load(write_config(text)).site.circuits[SITE].limit_ma == each_phase(630_000)
