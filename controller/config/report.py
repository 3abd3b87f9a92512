"""What `depot check` prints: the site as it was understood, and the fallback budget of every circuit.

Owns the words and columns (80 characters, plain text). Shows no secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from controller.config.budget import PHASE_NAMES, fallback_budget
from controller.config.budget_beside import PowerBudget, alone_told, power_budgets
from controller.config.grid import described
from controller.config.meter_address import MeterAddress
from controller.config.outside import outside
from controller.config.readings import written
from controller.config.stations import PERMITS
from controller.config.storing import DAY_S
from controller.config.tariff import DAYS, uncovered
from controller.config.types import Budget, Config, Keep
from controller.config.values import in_amps, in_kw
from controller.config.wording import amount, imbalance_of, limit_of, phases_of, supply_of, wiring
from controller.core.model import Circuit, CircuitId, Evse, StationId
from controller.core.readings import changed
from controller.core.windows import clock
from controller.rights import EVERYONE, Rights

WIDTH = 80


def describe(config: Config) -> str:
    """The config in plain text, at most 80 columns, without a line break at the end."""
    sections = [
        ("Site", _site(config)),
        ("Circuits", _circuits(config)),
        ("Meters", _meters(config)),
        ("Grid", described(config)),
        ("Stations", _stations(config)),
        ("Vehicles", _vehicles(config)),
        ("Tariff", _tariff(config)),
        ("Channels", _channels(config)),
        ("Seen from outside", outside(config)),
        ("Readings of the Open Platform that differ from the default", _readings(config)),
        ("Fallback budget: every station alone, worst load beside them", _budgets(config)),
    ]
    return "\n\n".join("\n".join([title, *_fitted(lines)]) for title, lines in sections if lines)


def _fitted(lines: Iterable[str]) -> Iterator[str]:
    """Indented; a line that is too long goes on below, because cutting it would hide what was understood."""
    for line in lines:
        yield from wrap(line, WIDTH, initial_indent="  ", subsequent_indent=" " * 8)


def _site(config: Config) -> list[str]:
    site = config.site
    return [
        f"{site.name}, {site.timezone}, {site.voltage_mv / 1e3:g} V to neutral",
        *imbalance_of(site),
        f"unknown id tokens: {'accepted' if site.accept_unknown_tokens else 'rejected'}",
        *_offline(config),
        *_unqualified(config),
        f"storage {config.storage_path}",
        *_kept(config.keep),
        f"control socket {config.control_socket}",
        *_roles(config.rights),
    ]


def _kept(keep: Keep) -> list[str]:
    times = (
        ("sessions", keep.sessions_s),
        ("id tokens in them", keep.tokens_s),
        ("alarms", keep.alarms_s),
        ("audit", keep.audit_s),
    )
    told = [f"{what} {kept_s / DAY_S:g} d" for what, kept_s in times if kept_s is not None]
    return [f"  kept for: {', '.join(told)}"] if told else []


def _roles(rights: Rights) -> list[str]:
    looks = "every user of this box" if rights.viewers == EVERYONE else f"group {rights.viewers}"
    return [f"  act: root and group {rights.operators}; look only: {looks}"]


def _offline(config: Config) -> list[str]:
    if config.ocpp is None:
        return []
    who = {"list": "id tokens on its list", "anyone": "anybody", "nobody": "nobody"}
    return [f"at an OCPP station that is out of reach may charge: {who[config.ocpp.offline_tokens]}"]


def _unqualified(config: Config) -> list[str]:
    if config.ocpp is None:
        return []
    counts = (
        "their maximum" if config.ocpp.needs_proof else "their fallback, though nobody saw them fall to it"
    )
    return [f"OCPP stations without `depot qualify` count, while out of reach, at {counts}"]


def _circuits(config: Config) -> list[str]:
    children: dict[CircuitId | None, list[Circuit]] = {}
    for circuit in config.site.circuits.values():
        children.setdefault(circuit.parent, []).append(circuit)
    rows: list[str] = []
    waiting = [(0, circuit) for circuit in reversed(children.get(None, []))]
    while waiting:
        depth, circuit = waiting.pop()
        assumed = circuit.assumed_load_ma
        meter = f"meter {circuit.meter}" if circuit.meter else "no meter"
        load = (
            "unknown load: all at fallback while blind"
            if assumed is None
            else f"assumed load {phases_of(assumed)}"
        )
        breaker = f", breaker {circuit.breaker}" if circuit.breaker else ""
        rows.append(f"{'  ' * depth}{circuit.id}  {limit_of(circuit)}, {meter}, {load}{breaker}")
        waiting += [(depth + 1, child) for child in reversed(children.get(circuit.id, []))]
    return rows


def _meters(config: Config) -> list[str]:
    rows = [["meter", "kind", "address", "measures", "poll", "stale", "phases", ""]]
    for meter in config.meters:
        wire = (meter.transport, meter.baud, meter.parity, meter.stop_bits)
        address = str(MeterAddress(meter.host, meter.port, meter.unit, *wire)).removeprefix("tcp://")
        times = [f"{seconds:g} s" for seconds in (meter.poll_s, meter.stale_after_s)]
        turned = ["inverted"] if meter.invert else []
        scaled = [] if meter.ct_ratio == 1 else [f"x{meter.ct_ratio:g}"]
        rows.append(
            [
                meter.id,
                meter.kind,
                address,
                meter.role,
                *times,
                wiring(meter.phases),
                " ".join(scaled + turned),
            ]
        )
    return _columns(rows) if len(rows) > 1 else []


def _stations(config: Config) -> list[str]:
    rows = [["EVSE", "circuit", "min", "max", "step", "phases", "fallback", "channel"]]
    for evse in config.site.evses.values():
        amps = [amount(evse, milli) for milli in (evse.min_ma, evse.max_ma)] + [in_amps(evse.step_ma)]
        rows.append(
            [
                evse.id,
                evse.circuit,
                *amps,
                supply_of(evse),
                amount(evse, evse.fallback_ma),
                _way(config, evse),
            ]
        )
    return _columns(rows) if len(rows) > 1 else []


def _way(config: Config, evse: Evse) -> str:
    if config.ocpp is not None and evse.station in config.ocpp.stations:
        insecure = ", INSECURE" if config.ocpp.stations[evse.station].allow_insecure else ""
        beside = "" if evse.companion is None else f" + {evse.companion.partition('/')[2]}"
        return f"ocpp{beside}{insecure}"
    link = evse.link.channel.partition("/")[2]
    return f"{link}, autostart" if evse.autostart else link


def _vehicles(config: Config) -> list[str]:
    rows = []
    for vehicle in config.site.vehicles.values():
        battery = "battery unknown" if vehicle.battery_wh is None else f"{vehicle.battery_wh / 1e3:g} kWh"
        power = "any power" if vehicle.max_power_w is None else f"up to {vehicle.max_power_w / 1e3:g} kW"
        row = f"{vehicle.id}  {battery}, {power}, id tokens: {len(vehicle.tokens)}"
        if vehicle.lends_w:
            row += f", lends {vehicle.lends_w / 1e3:g} kW above {vehicle.lends_above_pct} %"
        rows.append(row + (f", priority {vehicle.priority}" if vehicle.priority else ""))
    return rows


def _tariff(config: Config) -> list[str]:
    tariff = config.tariff
    if tariff is None:
        return []
    unit, rows = f"{tariff.currency}/kWh", []
    for band in tariff.bands.bands:
        days = ", " + " ".join(DAYS[day] for day in band.days) if band.days else ""
        times = f"{clock(band.from_min)} to {clock(band.until_min)}"
        rows.append(f"{times}  {band.price_micro / 1e6:g} {unit}{days}")
    for gap in uncovered(tariff.bands) if tariff.prices is None else ():
        rows.append(f"no price {gap}: cost unknown there, planned with the mean")
    for kind, path in (("prices", tariff.prices), ("feed-in", tariff.feed_in_prices)):
        if path is not None:
            rows.append(f"{kind} from {path}")
    if tariff.feed_in is not None:
        rows.append(f"feed-in  {tariff.feed_in.bands[0].price_micro / 1e6:g} {unit}")
    if tariff.peak_price_micro:
        price = tariff.peak_price_micro / 1e6
        rows.append(f"peak  {price:g} {tariff.currency} per kW of the month's highest quarter hour")
    return rows


def _channels(config: Config) -> list[str]:
    rows = []
    if (ocpp := config.ocpp) is not None:
        tls = "" if ocpp.tls is None else f" and wss {ocpp.tls.host}:{ocpp.tls.port}"
        rows.append(f"ocpp  listens on ws {ocpp.host}:{ocpp.port}{tls}, {_count(ocpp.stations)}")
    if (platform := config.open_platform) is not None:
        rows.append(f"open-platform  mode {platform.mode}, enabled by {platform.enabled_by}")
        rows.append(f"  allowed: {', '.join(sorted(platform.purposes))}")
        if (cloud := platform.cloud) is not None:
            signed = ", requests signed" if cloud.sign_requests else ""
            rows.append(f"  cloud {cloud.base_url}, region {cloud.region}, {_count(cloud.stations)}{signed}")
            if not cloud.site_ids or "flexibility" not in platform.purposes:
                rows.append("    no brake when decreases outrun the quota: it needs site_ids and flexibility")
        if (onsite := platform.onsite) is not None:
            scheme = "http (this machine only)" if onsite.tls_cert is None else "https"
            rows.append(
                f"  onsite listens on {scheme} {onsite.host}:{onsite.port}, {_count(onsite.stations)}"
            )
            for client in onsite.clients:
                rows.append(f"    client {client.id} may {' and '.join(sorted(client.scopes))}")
        rows += _companions(config)
    return rows or ["none: nothing is controlled"]


def _readings(config: Config) -> list[str]:
    return [
        f"{gap}  {name} = {written(value)} (default {written(default)})"
        for gap, name, value, default in changed(config.readings)
    ]


def _companions(config: Config) -> list[str]:
    """What the Open Platform may do at each station that OCPP leads."""
    rows = []
    for station, permit in config.permits.items():
        refused = [word for word in PERMITS if word not in permit]
        words = [f"permitted: {', '.join(sorted(permit))}"] if permit else []
        words += [f"refused: {', '.join(refused)}"] if refused else []
        rows.append(
            f"    {station}: OCPP leads; here discharge, faults, flexibility, energy; {'; '.join(words)}"
        )
    return ["  beside OCPP", *rows] if rows else []


def _count(stations: Iterable[StationId]) -> str:
    number = len(list(stations))
    return "1 station" if number == 1 else f"{number} stations"


def _budgets(config: Config) -> list[str]:
    rows = [["circuit", "phase", "limit", "assumed", "fallbacks", "spare"]]
    for budget in fallback_budget(config.site):
        rows += _budget_rows(budget)
    rows += [_power_row(budget) for budget in power_budgets(config.site)]
    return _columns(rows) + alone_told(config.site)


def _power_row(budget: PowerBudget) -> list[str]:
    watts = (budget.limit_w, budget.assumed_w, budget.fallbacks_w, budget.spare_w)
    return [budget.circuit, "all", *("unknown" if each is None else in_kw(each) for each in watts)]


def _budget_rows(budget: Budget) -> list[list[str]]:
    """One row when all phases are alike, else one per phase."""
    parts = [part for part in (budget.limit_ma, budget.assumed_ma, budget.fallbacks_ma) if part is not None]
    alike = all(len(set(part)) == 1 for part in parts)
    return [
        [
            budget.circuit,
            "each" if alike else PHASE_NAMES[phase],
            in_amps(budget.limit_ma[phase]),
            "unknown" if budget.assumed_ma is None else in_amps(budget.assumed_ma[phase]),
            in_amps(budget.fallbacks_ma[phase]),
            "unknown" if budget.spare_ma is None else in_amps(budget.spare_ma[phase]),
        ]
        for phase in range(1 if alike else 3)
    ]


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
