"""[grid_limit.*]: limits that the grid operator puts on and off by a contact, and where that contact is read.

Owns the address of an input, the power behind "40 %", "60 kW" and "14a", and the defaults. Source: field notes on §14a
EnWG (BNetzA BK6-22-300): at least 4.2 kW stay, and behind one energy management Pmin = 4.2 kW + (n - 1) x GZF x 4.2 kW.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from controller.config.circuits import FASTEST_POLL_S, SLOWEST_POLL_S
from controller.config.meter_address import MeterAddress, meter_address
from controller.config.table import Findings, Table
from controller.config.types import Config, InputConfig
from controller.config.values import Wrong, duration_s, one_of, power_w, quoted, text
from controller.core.model import SITE, Circuit, CircuitId, Evse, EvseId, GridLimit, Site, number_of
from controller.core.units import power_for_current_w

KEYS = "circuit input active limit evses poll stale_after on_loss within"
DEFAULT_POLL_S = 1.0
DEFAULT_STALE_AFTER_S = 10.0
DEFAULT_WITHIN_S = 60.0
LEAST_14A_W = 4_200
# how likely so many devices draw at once (GZF), for n = 2 to 8; from 9 on the last one
SHARES_PCT = (80, 75, 70, 65, 60, 55, 50)
SHARE_FROM_9_PCT = 45

_PERCENT = re.compile(r"(\d{1,3}) ?%")
_INPUT = re.compile(r"(?P<address>[^?].*)\?(?P<table>coil|input)=(?P<at>\d{1,5})")


def guaranteed_w(devices: int) -> int:
    """What §14a leaves to so many devices behind one energy management."""
    if devices < 2:
        return LEAST_14A_W
    share = SHARES_PCT[devices - 2] if devices <= 8 else SHARE_FROM_9_PCT
    return LEAST_14A_W + (devices - 1) * share * LEAST_14A_W // 100


def read_grid_limits(
    root: Table,
    circuits: Mapping[CircuitId, Circuit],
    evses: Mapping[EvseId, Evse],
    voltage_mv: int,
) -> tuple[tuple[GridLimit, ...], tuple[InputConfig, ...]]:
    """The limits, and where their contacts are."""
    limits: list[GridLimit] = []
    inputs: list[InputConfig] = []
    places: dict[object, str] = {}
    for name, table in root.tables("grid_limit", KEYS):
        circuit = CircuitId(table.refer("circuit", "circuit", (SITE, *root.names("circuit"))) or SITE)
        below = [evse for evse in evses.values() if _hangs_on(circuits, evse.circuit, circuit)]
        read = table.required("limit", _limit(below, voltage_mv, table), '"40 %", "60 kW" or "14a"')
        active = table.required("active", one_of("closed", "open"), '"closed"')
        found = table.required("input", input_address, '"tcp://10.0.4.30:502/1?coil=0"')
        period = duration_s(FASTEST_POLL_S, SLOWEST_POLL_S)
        poll_s = table.optional("poll", period, DEFAULT_POLL_S)
        stale_after_s = table.optional(
            "stale_after", duration_s(FASTEST_POLL_S, 600.0), DEFAULT_STALE_AFTER_S
        )
        if stale_after_s <= poll_s:
            table.note(
                "stale_after", "is not longer than the poll", f'write stale_after = "{5 * poll_s:g} s"'
            )
        on_loss = table.optional("on_loss", one_of("limit", "hold"), "limit")
        within_s = table.optional("within", duration_s(1.0, 3600.0), DEFAULT_WITHIN_S)
        if read is None or found is None or active is None:
            continue
        other = places.setdefault((found.host, found.port, found.unit, found.table, found.at), name)
        if other != name:
            table.note("input", f"is also the input of {quoted(other)}", "give each limit its own contact")
        most_w, said = read
        limits.append(
            GridLimit(name, circuit, most_w, said, active == "closed", stale_after_s, on_loss, within_s)
        )
        inputs.append(found.named(name, poll_s))
    return tuple(limits), tuple(inputs)


def input_address(value: object) -> InputConfig:
    """ "tcp://10.0.4.30:502/1?coil=0" or "...?input=3": the address of a meter, and which coil or discrete input."""
    written = text(value)
    match = _INPUT.fullmatch(written)
    if match is None or int(match["at"]) > 65535:
        raise Wrong(
            f"{quoted(written)} is not the address of a contact",
            'write "tcp://HOST:PORT/UNIT?coil=0", or ?input=0 for a discrete input',
        )
    at = meter_address(match["address"])
    return InputConfig(
        "", at.host, at.port, at.unit, match["table"], int(match["at"]), 0.0,
        at.transport, at.baud, at.parity, at.stop_bits,
    )  # fmt: skip


def _limit(evses: list[Evse], voltage_mv: int, table: Table) -> Callable[[object], tuple[int, str]]:
    def read(value: object) -> tuple[int, str]:
        written = text(value)
        if written.casefold() in ("14a", "§14a"):
            count = table.optional("evses", _count, len(evses))
            most_w = guaranteed_w(count)
            return most_w, f"§14a {most_w / 1e3:g} kW for {count} EVSEs"
        if (match := _PERCENT.fullmatch(written)) is not None:
            if int(match[1]) > 100:
                raise Wrong(f"{quoted(written)} is more than all", 'write "0 %" to "100 %"')
            rated_w = sum(power_for_current_w(evse.max_ma, voltage_mv, len(evse.phases)) for evse in evses)
            most_w = rated_w * int(match[1]) // 100
            return most_w, f"{match[1]} % ({most_w / 1e3:g} kW)"
        most_w = 0 if re.fullmatch(r"0(\.0+)? ?k?W", written) else power_w(written)
        return most_w, f"{most_w / 1e3:g} kW"

    return read


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise Wrong("is not a number of EVSEs", "write how many count, like 4, or leave it out")
    return value


def _hangs_on(circuits: Mapping[CircuitId, Circuit], at: CircuitId | None, top: CircuitId) -> bool:
    for _ in range(len(circuits) + 1):
        if at is None or at == top:
            return at == top
        node = circuits.get(at)
        at = None if node is None else node.parent
    return False


def described(config: Config) -> list[str]:
    """For `depot check`: the peak, each limit with its contact, and the batteries."""
    lines = []
    if config.site.peak_w is not None:
        follows = ", or the month's highest so far" if config.site.peak_follows_month else ""
        lines.append(f"quarter-hour peak  {config.site.peak_w / 1e3:g} kW{follows}")
    for limit, contact in zip(config.site.grid_limits, config.inputs, strict=True):
        wire = (contact.transport, contact.baud, contact.parity, contact.stop_bits)
        address = MeterAddress(contact.host, contact.port, contact.unit, *wire)
        position = "closed" if limit.active_closed else "open"
        lost = "the limit holds" if limit.on_loss == "limit" else "what was read last holds"
        lines.append(
            f"{limit.id}  {limit.circuit} {limit.text} while {contact.table} {contact.at} of {address} is {position}, "
            f"applied within {limit.within_s:g} s; signal lost for {limit.stale_after_s:g} s: {lost}"
        )
    for battery, place in zip(config.site.batteries, config.batteries, strict=True):
        wire = (place.transport, place.baud, place.parity, place.stop_bits)
        lines.append(
            f"battery {battery.id}  {battery.circuit}, charges {battery.charge_w / 1e3:g} kW, discharges "
            f"{battery.discharge_w / 1e3:g} kW down to {battery.floor_pct} %, meter {battery.meter}, set-points to "
            f"{MeterAddress(place.host, place.port, place.unit, *wire)}"
        )
    return lines


def note_blind_surplus(site: Site, findings: Findings) -> None:
    """Charging from what would be exported needs somebody who sees the export."""
    if SITE in site.circuits and site.circuits[SITE].meter is None:
        for evse in site.evses.values():
            if evse.surplus:
                findings.note(
                    ("station", evse.station, "evse", str(number_of(evse.id)), "surplus"),
                    "needs a meter that sees what would be exported",
                    "name the meter of the site",
                )
