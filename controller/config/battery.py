"""[battery.*]: stationary batteries that take set-points, and where those are written.

Owns their keys and defaults. What a kind can do its driver knows.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.config.circuits import ALL_PHASES
from controller.config.meter_address import meter_address
from controller.config.table import Table
from controller.config.types import BatteryConfig, MeterConfig
from controller.config.values import (
    duration_s,
    energy_wh,
    one_of,
    percent,
    phases,
    power_w,
    quoted,
)
from controller.core.model import SITE, Battery, Circuit, CircuitId, MeterId, MeterRole

KEYS = "meter address kind circuit charge discharge floor phases lease capacity"
DEFAULT_FLOOR_PCT = 10
DEFAULT_LEASE_S = 60.0


def read_batteries(
    root: Table, circuits: Mapping[CircuitId, Circuit], meters: tuple[MeterConfig, ...]
) -> tuple[tuple[Battery, ...], tuple[BatteryConfig, ...]]:
    """The batteries, and where each is reached."""
    batteries: list[Battery] = []
    places: list[BatteryConfig] = []
    roles = {meter.id: meter.role for meter in meters}
    for name, table in root.tables("battery", KEYS):
        if SITE in circuits and circuits[SITE].meter is None:
            table.findings.note(
                table.path, "needs a meter that sees what the site imports", "name the meter of the site"
            )
        if "meter" not in table:
            table.note("meter", "is missing", 'name a meter with role = "battery"')
        meter = table.refer("meter", "meter", root.names("meter"))
        if meter is not None and roles.get(MeterId(meter), MeterRole.BATTERY) is not MeterRole.BATTERY:
            table.note(
                "meter",
                f"{quoted(meter)} measures something else",
                f'write role = "battery" in [meter.{meter}]',
            )
        circuit = table.refer("circuit", "circuit", (SITE, *root.names("circuit"))) or SITE
        table.optional("kind", one_of("sunspec"), "sunspec")
        at = table.required("address", meter_address, '"tcp://10.0.4.40:502/1"')
        charge_w = table.required("charge", power_w, '"10 kW"')
        discharge_w = table.required("discharge", power_w, '"10 kW"')
        floor_pct = table.optional("floor", percent, DEFAULT_FLOOR_PCT)
        wired = table.optional("phases", phases, ALL_PHASES)
        capacity_wh = table.optional("capacity", energy_wh, None)
        lease_s = table.optional("lease", duration_s(10.0, 3600.0), DEFAULT_LEASE_S)
        if meter is None or at is None or charge_w is None or discharge_w is None:
            continue
        batteries.append(
            Battery(
                name,
                MeterId(meter),
                CircuitId(circuit),
                charge_w,
                discharge_w,
                floor_pct,
                wired,
                lease_s,
                capacity_wh=capacity_wh,
            )
        )
        places.append(
            BatteryConfig(name, at.host, at.port, at.unit, at.transport, at.baud, at.parity, at.stop_bits)
        )
    return tuple(batteries), tuple(places)
