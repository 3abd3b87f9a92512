"""[vehicle.*]: what may be lent and at what price, priorities, and what is wrong with them in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config import load
from controller.config.types import ConfigError
from controller.core.model import VehicleId

HEAD = '[site]\nname = "d"\ntimezone = "UTC"\nlimit = "63 A"\nassumed_load = "10 A"\n[ocpp]\nlisten = "127.0.0.1:0"\n'
STATION = '[station.A]\ncircuit = "site"\nfallback = "0 A"\nevse.1 = { max = "16 A", min = "6 A", phases = "L1 L2 L3" }\nocpp = { allow_insecure = true }\n'
TAIL = '[storage]\npath = "state"\n[control]\nsocket = "c.sock"\n'
VAN = '[vehicle.VAN]\nbattery = "60 kWh"\n'


def read(tmp_path: Path, lines: str) -> Path:
    path = tmp_path / "depot.toml"
    path.write_text(HEAD + STATION + VAN + lines + "\n" + TAIL)
    return path


def test_what_a_vehicle_lends_and_when_it_goes_short(tmp_path: Path) -> None:
    lines = 'v2g = { power = "5 kW", floor = "60 %", cycle_price = 0.08 }\npriority = 1'
    van = load(read(tmp_path, lines)).site.vehicles[VehicleId("VAN")]
    assert (van.lends_w, van.lends_above_pct, van.lends_for_micro, van.priority) == (5_000, 60, 80_000, 1)
    plain = load(read(tmp_path, "")).site.vehicles[VehicleId("VAN")]
    assert (plain.lends_w, plain.priority) == (0, 0)


@pytest.mark.parametrize(
    ("lines", "key", "says"),
    [
        ('v2g = { floor = "60 %" }', "vehicle.VAN.v2g.power", "is missing"),
        ('v2g = { power = "5 kW" }', "vehicle.VAN.v2g.floor", "is missing"),
        ('v2g = { power = "5 kW", floor = "10 %" }', "vehicle.VAN.v2g.floor", "is too low"),
        ('v2g = { power = "5 kW", floor = "60 kWh" }', "vehicle.VAN.v2g.floor", "not a state of charge"),
        (
            'v2g = { power = "5 kW", floor = "60 %", cycle_price = -1 }',
            "vehicle.VAN.v2g.cycle_price",
            "price",
        ),
        (
            'v2g = { power = "5 kW", floor = "60 %", cycle_price = true }',
            "vehicle.VAN.v2g.cycle_price",
            "price",
        ),
        ('v2g = "5 kW"', "vehicle.VAN.v2g", "not a table"),
        ("priority = 9", "vehicle.VAN.priority", "not a priority"),
        ("priority = true", "vehicle.VAN.priority", "not a priority"),
        ('priority = "high"', "vehicle.VAN.priority", "not a priority"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, lines: str, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(read(tmp_path, lines))
    (problem,) = refused.value.problems
    assert key in str(refused.value) and says in str(refused.value), problem


def test_lending_needs_a_battery_of_known_size(tmp_path: Path) -> None:
    path = read(tmp_path, 'v2g = { power = "5 kW", floor = "60 %" }')
    path.write_text(path.read_text().replace('battery = "60 kWh"\n', ""))
    with pytest.raises(ConfigError, match="needs to know the battery"):
        load(path)
