"""What a host may ask of a simulated charger: commands as they come over the wire become orders, or a refusal.

Owns the reading of the parameters the portal leaves open (G-08), of the connector a command is for, and of its
expiry. Must not act, keep state or know HTTP; shares no parsing code with the host that is tested against it.
Readings: the connector is `params.connector_id`, else the polled one, else the only one, else the command is refused
(G-07). Only a stop is still wanted after its expiry. Without an expiry a command's age is unknown: a start, a
discharge or an upgrade is then carried out only on a link that has stood for 120 s (G-08, G-29).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controller.core.model import Schedule
from drivers.sim.cloudschedule import read_schedule
from drivers.sim.cloudwords import (
    MAX_FLEXIBILITY_S,
    DischargeOrder,
    FlexibilityOrder,
    LimitOrder,
    Refusal,
    StartOrder,
    StopOrder,
    discharge_order,
    instant,
    integer,
    power,
    required,
    start_order,
    stop_order,
    text,
)

STEADY_LINK_S = 120.0  # G-08
HOST = ("host",)  # the target of a percentage that comes as `set_power_limit`: a newer one replaces it
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class UpgradeOrder:
    version: str


What = StartOrder | StopOrder | DischargeOrder | Schedule | LimitOrder | FlexibilityOrder | UpgradeOrder


@dataclass(frozen=True, slots=True)
class Command:
    """`connector` is None for what concerns the whole charger."""

    id: str
    connector: int | None
    what: What
    expiry: datetime | None

    @property
    def waits_for_word(self) -> bool:
        """Whether it is carried out only once the host knows that it was accepted; stops and limits never wait."""
        return isinstance(self.what, StartOrder | DischargeOrder | UpgradeOrder)

    def too_late(self, now: datetime, link_age_s: float) -> str | None:
        """Why its age forbids it, None when it may be carried out."""
        if isinstance(self.what, StopOrder):
            return None
        if self.expiry is not None:
            return "expired" if now >= self.expiry else None
        return "age_unknown" if self.waits_for_word and link_age_s < STEADY_LINK_S else None


def read_command(fields: Mapping[str, Any], polled: int | None, connectors: int) -> Command:
    """A command of a heartbeat answer (`polled` None) or of the poll of a connector. Raises Refusal."""
    command_id = required(text(fields, "command_id"), "command_id")
    name = required(text(fields, "command"), "command")
    params = fields.get("params") or {}
    if not isinstance(params, dict):
        raise Refusal(1001, "params must be an object", field="params")
    number = integer(params, "connector_id", low=1, high=connectors) or polled
    if number is None and connectors == 1:
        number = 1
    what = _read(name, params)
    if isinstance(what, FlexibilityOrder | UpgradeOrder):
        number = None
    elif number is None:
        raise Refusal(1002, "connector_id is required", field="connector_id")
    return Command(command_id, number, what, instant(fields, "expiry"))


def forever(order: LimitOrder) -> LimitOrder:
    """The same limit for a charger that does not honour durations."""
    return replace(order, duration_s=10**9)


def _read(name: str, params: Mapping[str, Any]) -> What:
    match name:
        case "start_charging":
            return start_order(params)
        case "stop_charging":
            return stop_order(params)
        case "discharge":
            return discharge_order(params)
        case "set_schedule":
            return read_schedule(params)
        case "set_power_limit":
            return _limit(params)
        case "firmware_upgrade":
            return _upgrade(params)
    raise Refusal(1001, f"unknown command {name}", field="command", value=name)


def _limit(params: Mapping[str, Any]) -> LimitOrder | FlexibilityOrder:
    """kW bound this connector, a percentage is of the charger's rated power (G-12)."""
    limit_kw, percent = power(params, "power_limit"), integer(params, "power_limit_percent", low=0, high=100)
    if (limit_kw is None) == (percent is None):
        raise Refusal(1002, "power_limit or power_limit_percent is required", field="power_limit")
    duration_s = required(integer(params, "duration", low=1, high=MAX_FLEXIBILITY_S), "duration")
    if limit_kw is not None:
        return LimitOrder(limit_kw, duration_s)
    return FlexibilityOrder(HOST, percent or 0, duration_s, pause=percent == 0)


def _upgrade(params: Mapping[str, Any]) -> UpgradeOrder:
    """Images come over TLS and with a digest, or from the charger's own store (G-23)."""
    url, digest = text(params, "url"), text(params, "sha256")
    if url is not None and not url.startswith("https://"):
        raise Refusal(1001, "url must begin with https://", field="url", value=url)
    if digest is not None and _SHA256.fullmatch(digest) is None:
        raise Refusal(1001, "sha256 must be 64 hex digits", field="sha256", value=digest)
    return UpgradeOrder(required(text(params, "firmware_version"), "firmware_version"))
