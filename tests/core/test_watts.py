"""DC outputs on every wire: limits leave as watts that keep the grant, measurements come back as amps of the supply."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.core.belief import least_on_grid, to_grid
from controller.core.commands import SetLimit
from controller.core.model import (
    SITE,
    Dc,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    each_phase,
)
from controller.core.readings import Readings
from controller.core.watts import limit_w, load_ma, most_phases, vehicle_ma
from drivers.ocpp import profiles, samples, v2_orders
from drivers.ocpp.words import Capabilities, sample_of
from drivers.openplatform import limits
from drivers.openplatform.samples import evse_sample
from drivers.openplatform.words import ConnectorReading

NOW = Moment(100.0, datetime(2026, 11, 22, tzinfo=UTC))
LINK = Link("ocpp", 180, 30, 10, 12)
DC = Dc(60_000, 207_000, 92)
EVSE = Evse(EvseId("D/1"), StationId("D"), SITE, 106_000, 6_000, (0, 1, 2), 20_000, LINK, dc=DC)


def watts_of(payload: dict[str, Any]) -> tuple[str, float]:
    profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
    schedule = profile["chargingSchedule"]
    schedule = schedule[0] if isinstance(schedule, list) else schedule
    [period] = schedule["chargingSchedulePeriod"]
    assert "numberPhases" not in period
    return schedule["chargingRateUnit"], period["limit"]


@pytest.mark.parametrize("limit_ma", [6_000, 33_333, 106_000])
@pytest.mark.parametrize(
    "able", [Capabilities(), Capabilities(in_watts=True), Capabilities(voltage_mv=250_000)]
)
def test_ocpp_sends_watts_that_keep_the_grant(limit_ma: int, able: Capabilities) -> None:
    command = SetLimit("c1", EVSE.id, "ocpp", limit_ma, 180, "7")
    for payload in (
        profiles.limit(command, 1, EVSE, able, NOW.utc),
        v2_orders.limit(command, 1, EVSE, able, NOW.utc, False),
    ):
        unit, watts = watts_of(payload)
        assert unit == "W"
        assert load_ma(DC, int(watts)) <= limit_ma < load_ma(DC, int(watts) + 1) + 1
    for payload in (profiles.fallback(1, EVSE, able), v2_orders.fallback(1, EVSE, able)):
        unit, watts = watts_of(payload)
        assert unit == "W" and load_ma(DC, int(watts)) <= EVSE.fallback_ma


def values(**told: tuple[str, str]) -> samples.Values:
    sampled = [
        {"measurand": name.replace("_", "."), "value": value, "unit": unit, "location": "Outlet"}
        for name, (value, unit) in told.items()
    ]
    return samples.newest_values([{"timestamp": "2026-11-22T00:00:00Z", "sampledValue": sampled}], None)


def test_amps_of_a_dc_output_are_the_vehicles() -> None:
    told = values(Current_Import=("120", "A"), Voltage=("400", "V"), Power_Active_Import=("48", "kW"))
    sample = sample_of(told, EVSE, "ocpp1.6", 1.0)
    assert sample.power_w == 48_000
    assert sample.current_ma == each_phase(84_016), "48 kW / 0.92 / (3 x 207 V), rounded up"


def test_without_a_power_volts_and_amps_tell_it_and_one_alone_tells_nothing() -> None:
    both = values(Current_Import=("120", "A"), Voltage=("400", "V"), Current_Offered=("150", "A"))
    sample = sample_of(both, EVSE, "ocpp1.6", 1.0)
    assert (sample.power_w, sample.offered_ma) == (48_000, None)
    alone = sample_of(values(Current_Import=("120", "A")), EVSE, "ocpp1.6", 1.0)
    assert alone.current_ma == each_phase(None) and alone.power_w is None


def test_what_flows_back_is_below_zero() -> None:
    told = values(Power_Active_Export=("9200", "W"))
    assert sample_of(told, EVSE, "ocpp2.1", 1.0).current_ma == each_phase(-load_ma(DC, 9_200))


@pytest.mark.parametrize("spreads", ["wired", "vehicle"])
def test_the_open_platform_speaks_kilowatts_already(spreads: str) -> None:
    readings = Readings(kw_limit_spreads=spreads)  # type: ignore[arg-type]
    watts = limits.limit_w(50_000, EVSE, readings)
    assert watts % 10 == 0 and load_ma(DC, watts) <= 50_000 < load_ma(DC, watts + 20)
    reading = ConnectorReading(1, EvseState.CHARGING, "charging", 48_000, 400.0, 120_000)
    sample = evse_sample(EVSE, reading, None, None, NOW, readings)
    assert sample.current_ma == each_phase(84_016)
    back = ConnectorReading(1, EvseState.DISCHARGING, "discharging", 9_200)
    assert evse_sample(EVSE, back, None, None, NOW, readings).current_ma == each_phase(-load_ma(DC, 9_200))


def test_watts_of_an_unknown_wiring_may_all_be_on_one_phase() -> None:
    known = Evse(EvseId("A/1"), StationId("A"), SITE, 32_000, 6_000, (0, 1, 2), 6_000, LINK)
    unknown = replace(known, rotation_known=False)
    assert (limit_w(known, 16_000, 230_000), limit_w(unknown, 16_000, 230_000)) == (11_040, 3_680)
    reading = ConnectorReading(1, EvseState.CHARGING, "charging", 3_680)
    sample = evse_sample(unknown, reading, None, None, NOW, Readings())
    assert sample.current_ma == each_phase(None), (
        "no current was told, and which phases carry it nobody knows"
    )
    told = replace(reading, voltage_v=230.0, current_ma=16_000)
    assert evse_sample(unknown, told, None, None, NOW, Readings()).current_ma == PerPhase(16_000, None, None)
    assert to_grid(unknown, PerPhase(16_000, None, None)) == each_phase(16_000)
    assert least_on_grid(unknown, each_phase(16_000), PerPhase(16_000, None, None)) == each_phase(0)
    assert least_on_grid(unknown, each_phase(16_000), PerPhase(16_000, 15_000, 15_500)) == each_phase(15_000)
    assert least_on_grid(unknown, each_phase(None), each_phase(None)) == each_phase(None)


# --- what a vehicle can use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power_w", "seen", "phases", "most_ma"),
    [
        (11_040, None, 3, 16_000),
        (3_700, None, 1, 16_086),  # three times 6 A would be more than it takes
        (7_400, None, 3, 10_724),
        (7_400, 1, 1, 32_173),
        (7_400, 3, 3, 10_724),
        (1_000, None, 1, 6_000),  # below that nothing would flow
    ],
)
def test_a_vehicle_of_little_power_uses_few_phases(
    power_w: int, seen: int | None, phases: int, most_ma: int
) -> None:
    three = replace(EVSE, max_ma=32_000, dc=None)
    assert most_phases(three, power_w, 230_000, seen) == phases
    assert vehicle_ma(three, power_w, 230_000, seen) == most_ma


def test_a_vehicle_is_never_held_below_what_an_output_needs_to_begin() -> None:
    assert vehicle_ma(EVSE, 1_000, 230_000, None) == EVSE.min_ma
