"""The config file: TOML in, frozen dataclasses out, every mistake at once with its line and a suggestion.

Owns `load`. Must not open a socket, start anything or know a driver by name. Source: INTERFACE section 3.
Every mistake in the file, the file itself being unreadable included, is a `Problem` of one `ConfigError`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from controller.config.battery import read_batteries
from controller.config.budget import fallback_budget, note_infeasible
from controller.config.channels import (
    OPEN_PLATFORM_KEYS,
    read_open_platform,
)
from controller.config.circuits import (
    DEFAULT_VOLTAGE_MV,
    SITE_KEYS,
    SiteHead,
    is_tree,
    read_circuits,
    read_head,
    read_meters,
)
from controller.config.files import socket_path
from controller.config.grid import note_blind_surplus, read_grid_limits
from controller.config.lines import KeyPath, key_lines
from controller.config.ocpp import OCPP_KEYS, read_ocpp
from controller.config.outside import METRICS_KEYS, MQTT_KEYS, read_metrics, read_mqtt
from controller.config.report import describe
from controller.config.stations import OCPP_LINK, read_stations
from controller.config.storing import DEFAULT_STORAGE, read_storage
from controller.config.table import Findings, Table
from controller.config.tariff import TARIFF_KEYS, read_tariff
from controller.config.types import (
    BatteryConfig,
    Budget,
    CloudConfig,
    CloudStation,
    Config,
    ConfigError,
    InputConfig,
    Keep,
    MeterConfig,
    MetricsConfig,
    MqttConfig,
    OcppConfig,
    OcppStation,
    OcppTls,
    OnsiteClient,
    OnsiteConfig,
    OnsiteStation,
    OpenPlatformConfig,
    Problem,
    TariffConfig,
)
from controller.config.values import flag, group
from controller.config.vehicles import read_vehicles
from controller.core.model import Evse, EvseId, Meter, Site
from controller.rights import DEFAULT, EVERYONE, Rights

__all__ = [
    "DEFAULT_STORAGE",
    "BatteryConfig",
    "Budget",
    "CloudConfig",
    "CloudStation",
    "Config",
    "ConfigError",
    "InputConfig",
    "Keep",
    "MeterConfig",
    "MetricsConfig",
    "MqttConfig",
    "OcppConfig",
    "OcppStation",
    "OcppTls",
    "OnsiteClient",
    "OnsiteConfig",
    "OnsiteStation",
    "OpenPlatformConfig",
    "Problem",
    "TariffConfig",
    "describe",
    "fallback_budget",
    "load",
]

DEFAULT_SOCKET = Path("/run/depot/control.sock")
# A depot of 50 stations is some 15 kB; more than this is another file by mistake (or a device that never
# ends).
CONFIG_MAX_BYTES = 1_000_000

_ROOT_KEYS = "site circuit grid_limit battery meter ocpp open_platform station vehicle storage control tariff metrics mqtt"
_AT_LINE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


def load(path: Path, changes: Mapping[KeyPath, object] = MappingProxyType({})) -> Config:
    """Reads and checks the file and the secret files it names. Raises ConfigError with every problem. `changes`: values
    that take the place of the file's ("what if"), by the path of their key."""
    source = _read(path)
    try:
        values = tomllib.loads(source)
        findings = Findings(key_lines(source))
    except RecursionError:
        raise _unusable(path, "is nested too deeply", "is it a config file?") from None
    except ValueError as error:  # TOMLDecodeError, and numbers too long for Python
        raise _not_toml(path, source, str(error)) from None
    for key, value in changes.items():
        values = _changed(values, key, value)
    config = _config(path, values, findings)
    if findings.problems:
        raise ConfigError(path, findings.problems)
    return config


def _changed(values: Mapping[str, object], key: KeyPath, value: object) -> dict[str, object]:
    if not key[1:]:
        return {**values, key[0]: value}
    below = values.get(key[0])
    return {**values, key[0]: _changed(below if isinstance(below, dict) else {}, key[1:], value)}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_MAX_BYTES + 1)
        if len(content) > CONFIG_MAX_BYTES:
            raise _unusable(path, f"is longer than {CONFIG_MAX_BYTES} bytes", "is it a config file?")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(path, [Problem(line, "", "is not UTF-8 text", "save the file as UTF-8")]) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _unusable(path, f"cannot be read: {reason}", "check the path and the rights") from None


def _unusable(path: Path, text: str, suggestion: str) -> ConfigError:
    return ConfigError(path, [Problem(None, "", text, suggestion)])


def _not_toml(path: Path, source: str, said: str) -> ConfigError:
    match = _AT_LINE.fullmatch(said)
    text = match[1] if match else said
    line = int(match[2]) if match and match[2] else source.count("\n") + 1
    twice = text.startswith(("Cannot declare", "Cannot overwrite", "Cannot mutate"))
    suggestion = (
        "the same table or key stands here twice: keep one" if twice else 'texts need quotes: limit = "16 A"'
    )
    return ConfigError(path, [Problem(line, "", text, suggestion)])


def _config(path: Path, values: Mapping[str, object], findings: Findings) -> Config:
    """As much of the config as could be understood; worth something only when nothing was noted."""
    root = Table(findings, (), values, _ROOT_KEYS)
    site_table = root.table("site", SITE_KEYS)
    if "site" not in root:
        root.note("site", "is missing", "add [site] with name, timezone and limit")
    head = SiteHead("", "", DEFAULT_VOLTAGE_MV) if site_table is None else read_head(site_table)
    stations = read_stations(root, path.parent, ("site", *root.names("circuit")), head.voltage_mv)
    circuits, used_meters = read_circuits(root, site_table)
    meters = read_meters(root, used_meters)
    production = site_table is not None and site_table.optional("production", flag, False)
    ocpp, accept_unknown_tokens = None, False
    if (table := root.table("ocpp", OCPP_KEYS)) is not None:
        ocpp, accept_unknown_tokens = read_ocpp(table, stations.ocpp, path.parent, production)
    open_platform = None
    if (table := root.table("open_platform", OPEN_PLATFORM_KEYS)) is not None:
        open_platform = read_open_platform(table, stations, path.parent)
    storage_path, keep = read_storage(root, path.parent)
    control_socket, rights = _read_control(root, path.parent)
    grid_limits, inputs = read_grid_limits(root, circuits, stations.evses, head.voltage_mv)
    batteries, places = read_batteries(root, circuits, meters)
    tariff = None
    if (table := root.table("tariff", TARIFF_KEYS)) is not None:
        tariff = read_tariff(table, path.parent, head.timezone)
    metrics = None if (table := root.table("metrics", METRICS_KEYS)) is None else read_metrics(table)
    mqtt = (
        None if (table := root.table("mqtt", MQTT_KEYS)) is None else read_mqtt(table, path.parent, head.name)
    )
    site = Site(
        name=head.name,
        timezone=head.timezone,
        voltage_mv=head.voltage_mv,
        circuits=circuits,
        evses=_proven(stations.evses, ocpp),
        meters={m.id: Meter(m.id, m.kind, m.role, m.poll_s, m.stale_after_s) for m in meters},
        vehicles=read_vehicles(root),
        accept_unknown_tokens=accept_unknown_tokens,
        peak_w=head.peak_w,
        peak_follows_month=head.peak_follows_month,
        grid_limits=grid_limits,
        batteries=batteries,
        max_imbalance_ma=head.max_imbalance_ma,
    )
    note_blind_surplus(site, findings)
    if stations.complete and is_tree(circuits, root.names("circuit")):
        note_infeasible(site, findings)
    return Config(
        path,
        site,
        meters,
        ocpp,
        open_platform,
        storage_path,
        control_socket,
        production,
        tariff=tariff,
        inputs=inputs,
        batteries=places,
        rights=rights,
        metrics=metrics,
        mqtt=mqtt,
        keep=keep,
    )


def _proven(evses: Mapping[EvseId, Evse], ocpp: OcppConfig | None) -> Mapping[EvseId, Evse]:
    """With what must be proven of the stations on OCPP; those on the Open Platform follow the readings of G-34."""
    if ocpp is None or not ocpp.needs_proof:
        return evses
    return {
        id: replace(evse, link=replace(evse.link, needs_proof=True))
        if evse.link.channel == OCPP_LINK.channel
        else evse
        for id, evse in evses.items()
    }


def _read_control(root: Table, base: Path) -> tuple[Path, Rights]:
    """Where the controller can be reached, and by whom."""
    control = root.table("control", "socket operators viewers")
    rights = DEFAULT
    if control is not None:
        operators = control.optional("operators", group, rights.operators)
        rights = Rights(operators, control.optional("viewers", group, rights.viewers))
        if rights.operators == EVERYONE:
            control.note("operators", "everyone may not act", "name a group, and give everyone viewers")
    place = (
        DEFAULT_SOCKET if control is None else control.optional("socket", socket_path(base), DEFAULT_SOCKET)
    )
    return place, rights
