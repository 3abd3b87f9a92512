"""Limits in kW: what flows never stays above them, at any voltage, and what they allow is used."""

from __future__ import annotations

import pytest
from yard import Yard, a_site, an_evse

LIMIT_W = 44_000


def settled_w(yard: Yard, seconds: int = 90) -> int:
    volts = yard.voltage_mv or 230_000
    return max(sum(flows) * volts // 1_000_000 for flows in list(yard.run(seconds))[-20:])


@pytest.mark.parametrize("volts", [207, 230, 253])
def test_the_measured_voltage_turns_kilowatts_into_amps(volts: int) -> None:
    yard = Yard(a_site([an_evse(n) for n in range(4)], limit_w=LIMIT_W), voltage_mv=volts * 1000)
    for number in range(4):
        yard.plug(number)
    step_w = 4 * 3 * volts  # whole amps at four stations
    assert LIMIT_W * 98 // 100 - step_w <= settled_w(yard) <= LIMIT_W
    assert yard.bound_by(next(iter(yard.vehicles))) == "circuit site 44 kW"


@pytest.mark.parametrize("metered", [True, False])
def test_an_unknown_voltage_is_the_highest(metered: bool) -> None:
    """44 kW at 253 V are 57 A per phase, and 10 A are assumed of the building where there is no meter."""
    yard = Yard(a_site([an_evse(n) for n in range(4)], metered=metered, limit_w=LIMIT_W), voltage_mv=None)
    for number in range(4):
        yard.plug(number)
    flows = list(yard.run(90))[-1]
    assert (
        max(flows) <= 57_900 - (0 if metered else 10_000) < max(flows) + 4_000 + (0 if not metered else 1_200)
    )


def test_the_load_that_is_not_ours_counts_and_single_phase_vehicles_share_by_phase() -> None:
    yard = Yard(
        a_site([an_evse(0), an_evse(1, (0,)), an_evse(2, (0,))], limit_w=LIMIT_W),
        lambda second: (20_000, 40_000, 10_000),
    )
    for number in range(3):
        yard.plug(number)
    assert LIMIT_W * 80 // 100 <= settled_w(yard, 120) <= LIMIT_W


def test_the_amps_beside_it_hold_as_well() -> None:
    yard = Yard(a_site([an_evse(0, (0,)), an_evse(1, (0,))], limit_ma=40_000, limit_w=LIMIT_W))
    for number in range(2):
        yard.plug(number)
    assert max(list(yard.run(90))[-1]) <= 40_000
