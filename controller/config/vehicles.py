"""[vehicle.*]: what is charged, and what its battery may lend (V2G).

Owns their keys and rules. Source: INTERFACE section 3, README.
"""

from __future__ import annotations

from controller.config.prices import HIGHEST
from controller.config.table import Table
from controller.config.values import (
    Wrong,
    energy_wh,
    percent,
    power_w,
    quoted,
    shown,
    texts,
)
from controller.core.discharge import FLOOR_PCT
from controller.core.model import Vehicle, VehicleId

VEHICLE_KEYS = "battery tokens max_power v2g priority"
V2G_KEYS = "power floor cycle_price"
LONGEST_TOKEN = 36  # IdTokenType of OCPP 2.0.1
MOST_PRIORITY = 8


def read_vehicles(root: Table) -> dict[VehicleId, Vehicle]:
    vehicles: dict[VehicleId, Vehicle] = {}
    owners: dict[str, str] = {}
    for name, table in root.tables("vehicle", VEHICLE_KEYS):
        tokens = table.optional("tokens", texts, ())
        for token in tokens:
            if len(token) > LONGEST_TOKEN:
                table.note(
                    "tokens", f"{quoted(token)} is longer than {LONGEST_TOKEN} characters", "check the token"
                )
            if token.casefold() in owners:
                owner = owners[token.casefold()]
                table.note(
                    "tokens",
                    f"{quoted(token)} already belongs to vehicle {quoted(owner)}",
                    "remove one of them",
                )
            owners.setdefault(token.casefold(), name)
        vehicles[VehicleId(name)] = Vehicle(
            VehicleId(name),
            table.optional("battery", energy_wh, None),
            table.optional("max_power", power_w, None),
            tokens,
            *_lending(table),
            priority=table.optional("priority", _priority, 0),
        )
    return vehicles


def _lending(table: Table) -> tuple[int, int, int]:
    """Watts, floor and price; nothing without `v2g`."""
    v2g = table.table("v2g", V2G_KEYS)
    if v2g is None:
        return 0, 100, 0
    if "battery" not in table:
        table.note("v2g", "needs to know the battery", 'write battery = "94 kWh" too')
    power = v2g.required("power", power_w, '"5 kW"')
    floor_pct = v2g.required("floor", percent, '"60 %"')
    price_micro = v2g.optional("cycle_price", _price_micro, 0)
    if floor_pct is not None and floor_pct < FLOOR_PCT:
        v2g.note("floor", f"{floor_pct} % is too low", f"nothing is discharged below {FLOOR_PCT} %")
    return power or 0, 100 if floor_pct is None else floor_pct, price_micro


def _price_micro(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= HIGHEST:
        raise Wrong(f"{shown(value)} is not a price per kWh", "write a number like 0.08")
    return round(value * 1_000_000)


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST_PRIORITY:
        raise Wrong(
            f"{shown(value)} is not a priority",
            f"write a whole number up to {MOST_PRIORITY}: the higher, the later it goes short",
        )
    return value
