"""The simulated vehicle and EVSE: what flows, and that no energy appears or vanishes."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.sim.evse import SimEvse
from drivers.sim.vehicle import Vehicle

STEP_S = 0.1


def live(evse: SimEvse, seconds: float) -> None:
    for step in range(round(seconds / STEP_S)):
        evse.step(STEP_S, step * STEP_S)


def van(**habits: Any) -> Vehicle:
    plain: dict[str, Any] = {"id": "VAN", "token": "T", "battery_wh": 60_000.0, "soc": 0.3, "reaction_s": 2.0}
    return Vehicle(**{**plain, **habits})


def charging(evse: SimEvse, vehicle: Vehicle, seconds: float = 20.0) -> None:
    evse.plug(vehicle)
    evse.energised = True
    live(evse, seconds)


def test_draws_what_is_offered_on_the_right_grid_phases() -> None:
    evse = SimEvse("A/1", max_a=32.0, phases=(1, 2, 0))
    charging(evse, van(max_a=32.0, phases=1))
    assert evse.current_a == pytest.approx((0.0, 32.0, 0.0))
    assert evse.conductor_a == pytest.approx((32.0, 0.0, 0.0))
    assert evse.power_w == pytest.approx(32.0 * 230.0)


def test_three_phase_vehicle_on_one_conductor() -> None:
    evse = SimEvse("A/1", max_a=16.0, phases=(2,))
    charging(evse, van())
    assert evse.current_a == pytest.approx((0.0, 0.0, 16.0))


def test_nothing_flows_without_the_contactor_and_stops_at_once_when_it_opens() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    evse.plug(van())
    live(evse, 20)
    assert evse.current_a == (0.0, 0.0, 0.0)
    evse.energised = True
    live(evse, 20)
    assert evse.power_w > 0
    evse.energised = False
    live(evse, STEP_S)
    assert evse.current_a == (0.0, 0.0, 0.0)
    assert evse.power_w == 0.0


def test_fault_opens_the_contactor() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    charging(evse, van())
    evse.break_down("GroundFailure")
    live(evse, STEP_S)
    assert evse.power_w == 0.0


def test_energy_is_conserved_between_meter_and_battery() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    vehicle = van(efficiency=0.9)
    charging(evse, vehicle, 1800.0)
    assert evse.register_wh > 5000
    assert (vehicle.soc - 0.3) * 60_000.0 == pytest.approx(evse.register_wh * 0.9)


def test_register_is_the_integral_of_power() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    evse.plug(van())
    evse.energised = True
    by_hand_wh = 0.0
    for step in range(600):
        evse.step(STEP_S, step * STEP_S)
        by_hand_wh += evse.power_w * STEP_S / 3600.0
    assert evse.register_wh == pytest.approx(by_hand_wh)
    assert by_hand_wh > 0


def test_follows_a_lower_pilot_only_after_its_reaction_time() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    charging(evse, van(reaction_s=4.0))
    evse.limit_a = 8.0
    live(evse, 3.5)
    assert evse.current_a[0] == pytest.approx(16.0)
    live(evse, 2.5)
    assert evse.current_a[0] == pytest.approx(8.0)


def test_a_pilot_that_changes_all_the_time_is_still_followed() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    charging(evse, van(reaction_s=4.0))
    for tenth in range(100):
        evse.limit_a = 8.0 + 0.01 * (tenth % 2)
        live(evse, STEP_S)
    assert evse.current_a[0] < 8.1


@pytest.mark.parametrize(
    ("limit_a", "drawn_a"), [(5.9, 0.0), (6.0, 6.0), (0.0, 0.0), (-1.0, 0.0), (99.0, 16.0)]
)
def test_below_six_amps_is_a_pause(limit_a: float, drawn_a: float) -> None:
    evse = SimEvse("A/1", max_a=16.0)
    evse.limit_a = limit_a
    charging(evse, van(max_a=99.0))
    assert evse.current_a[0] == pytest.approx(drawn_a)


def test_tapers_above_eighty_percent_and_stops_when_full() -> None:
    drawn = []
    for soc in (0.79, 0.85, 0.95, 1.0):
        evse = SimEvse("A/1", max_a=16.0)
        charging(evse, van(soc=soc, battery_wh=1e9))
        drawn.append(evse.current_a[0])
    assert drawn[0] == pytest.approx(16.0)
    assert drawn[0] > drawn[1] > drawn[2] > 0.0
    assert drawn[3] == 0.0


def test_appetite_is_a_ceiling() -> None:
    evse = SimEvse("A/1", max_a=32.0)
    charging(evse, van(max_a=32.0, appetite_a=9.5))
    assert evse.current_a[0] == pytest.approx(9.5)


def test_a_sleepy_vehicle_needs_a_second_offer() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    charging(evse, van(sleepy_s=60.0))
    evse.limit_a = 0.0
    live(evse, 90.0)
    evse.limit_a = 16.0
    live(evse, 30.0)
    assert evse.current_a[0] == 0.0
    evse.limit_a = 0.0
    live(evse, 5.0)
    evse.limit_a = 16.0
    live(evse, 30.0)
    assert evse.current_a[0] == pytest.approx(16.0)


def test_a_short_pause_does_not_send_it_to_sleep() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    charging(evse, van(sleepy_s=60.0))
    evse.limit_a = 0.0
    live(evse, 50.0)
    evse.limit_a = 16.0
    live(evse, 20.0)
    assert evse.current_a[0] == pytest.approx(16.0)


def test_leaves_when_it_wants_and_takes_the_current_along() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    told: list[bool] = []
    evse.watchers.append(lambda: told.append(evse.vehicle is not None))
    charging(evse, van(leaves_s=30.0), 29.0)
    assert evse.power_w > 0
    evse.step(STEP_S, 30.0)
    assert evse.vehicle is None
    assert evse.current_a == (0.0, 0.0, 0.0)
    assert told == [True, True, False]  # plugged, drawing, gone


def test_one_cable_one_vehicle() -> None:
    evse = SimEvse("A/1", max_a=16.0)
    evse.plug(van())
    with pytest.raises(ValueError, match="already plugged"):
        evse.plug(van())


def test_impossible_wiring_is_refused() -> None:
    with pytest.raises(ValueError, match="phases"):
        SimEvse("A/1", max_a=16.0, phases=(0, 0))
