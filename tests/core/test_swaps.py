"""Another bay as a remedy: who should change places with whom, what that brings, and when nobody should walk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Departure,
    Evse,
    EvseId,
    Link,
    Moment,
    Remedy,
    Schedule,
    ScheduleType,
    Site,
    SlotAction,
    StationId,
    TimeSlot,
    Vehicle,
    VehicleId,
    each_phase,
)
from controller.core.planning import PlanRequest, Present
from controller.planner.horizon import plan

NOW = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
LINK = Link("wire", 180, 30, 10, 12)
BAYS = {"weak": 11, "strong": 32}  # amps
ROW = CircuitId("row")


def bay(name: str) -> EvseId:
    return EvseId(f"{name}/1")


def yard(
    wants: dict[str, tuple[float, float]], site_a: int = 63, row_a: int = 63, most_a: int = 0
) -> PlanRequest:
    """wants: hours and kWh, by bay. The bay "row" hangs on a circuit of its own."""
    evses, departures, vehicles, present = {}, dict[str, Departure](), {}, []
    for name, amps in (*BAYS.items(), ("row", 32)):
        circuit = ROW if name == "row" else SITE
        evses[bay(name)] = Evse(bay(name), StationId(name), circuit, 1000 * amps, 6_000, (0, 1, 2), 0, LINK)
    for name, (hours, kwh) in wants.items():
        vehicle = VehicleId(f"VAN-{name}")
        vehicles[vehicle] = Vehicle(vehicle, None, most_a * 690 or None)
        present.append(Present(bay(name), vehicle, NOW, 0, None))
        departures[vehicle] = Departure(vehicle, NOW + timedelta(hours=hours), energy_wh=int(1000 * kwh))
    circuits = {
        SITE: Circuit(SITE, None, each_phase(1000 * site_a)),
        ROW: Circuit(ROW, SITE, each_phase(1000 * row_a)),
    }
    place = Site("depot", "UTC", 230_000, circuits, evses, vehicles=vehicles)
    return PlanRequest(Moment(0.0, NOW), place, tuple(present), {}, departures)


def swap(request: PlanRequest, name: str) -> Remedy | None:
    made = plan(request)
    assert made.by == "horizon", made.why
    found = [each for each in made.remedies if each.kind == "swap" and each.evse == bay(name)]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_hurried_one_at_the_weak_bay_swaps_with_the_idle_one_at_the_strong() -> None:
    request = yard({"weak": (2.0, 30.0), "strong": (10.0, 20.0), "row": (10.0, 20.0)})
    remedy = swap(request, "weak")
    assert remedy is not None
    assert remedy.text in ("swap places with VAN-row at row/1", "swap places with VAN-strong at strong/1")
    # 2 h at 11 A are 15.2 kWh; at 32 A all of the 30 fits
    assert 14_500 < remedy.gain_wh < 15_000


def test_a_swap_does_what_it_says() -> None:
    wants = {"weak": (2.0, 30.0), "strong": (10.0, 20.0), "row": (10.0, 20.0)}
    assert swap(yard(wants), "weak") is not None
    after = plan(yard({"weak": wants["strong"], "strong": wants["weak"], "row": wants["row"]}))
    assert all((wish.short_wh or 0) < 100 for wish in after.wishes.values())


def test_a_free_bay_is_better_than_a_swap_with_who_needs_it() -> None:
    remedy = swap(yard({"weak": (2.0, 30.0), "strong": (2.0, 30.0)}), "weak")
    assert remedy is not None and remedy.text == "move to row/1" and remedy.gain_wh > 10_000


def test_nobody_is_made_short_for_another() -> None:
    busy = {"weak": (2.0, 30.0), "strong": (2.0, 40.0), "row": (2.0, 40.0)}
    assert swap(yard(busy, site_a=200), "weak") is None


def test_where_the_site_is_full_no_bay_helps() -> None:
    assert swap(yard({"weak": (2.0, 30.0), "strong": (2.0, 20.0)}, site_a=22), "weak") is None


def test_a_vehicle_that_cannot_draw_more_stays_where_it_is() -> None:
    assert swap(yard({"weak": (2.0, 30.0)}, most_a=11), "weak") is None


def test_the_way_out_of_a_full_row() -> None:
    request = yard({"row": (2.0, 30.0)}, row_a=8)
    remedy = swap(request, "row")
    assert remedy is not None and remedy.text == "move to strong/1"


def test_bays_with_windows_are_left_out() -> None:
    slot = TimeSlot(0, 0, SlotAction.CHARGE)
    always = Schedule("always", ScheduleType.DAILY, True, "UTC", (slot,))
    request = yard({"weak": (2.0, 30.0)})
    assert swap(request, "weak") is not None
    windows = {bay("strong"): (always,), bay("row"): (always,)}
    assert swap(replace(request, schedules=windows), "weak") is None
