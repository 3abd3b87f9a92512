"""What operators may say to the simulated platform: bodies and queries become orders, or a refusal with its code.

Owns the published error codes and the checks of every request field. Must not keep state or know HTTP; shares no
parsing code with the client that is tested against it. Strict where the client should be strict in what it sends,
silent about unknown fields (they may come without notice, G-30).
Source: Open Platform REFERENCE sections 4, 5, 7, 10 and openapi.yaml; readings G-12, G-14, G-29.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

HTTP_STATUS = {
    1001: 400,
    1002: 400,
    2001: 401,
    2002: 401,
    2003: 403,
    3001: 404,
    4001: 409,
    5001: 429,
    9001: 500,
}

MAX_FLEXIBILITY_S = 4 * 3600  # G-12: nobody contracted more
DEFAULT_DISCHARGE_S = 3600  # G-14
DISCHARGE_FLOOR_SOC = 20  # G-14: below this vehicles refuse anyway (F-0702)
MAX_PAGE_SIZE = 100
MAX_INTEGER = 2**31 - 1
MAX_KW = 1e6
_DIGITS = re.compile(r"[0-9]{1,10}")

T = TypeVar("T")


class Refusal(Exception):
    """An answer that is not a success: the platform's code, a text for people and `details` for programs.

    `status` is the HTTP status that goes with the code.
    """

    def __init__(self, code: int, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.status = HTTP_STATUS.get(code, 400)
        self.details = details


@dataclass(frozen=True, slots=True)
class StartOrder:
    charge_kw: float | None = None
    duration_s: int | None = None
    target_soc: int | None = None
    transaction_id: str | None = None


@dataclass(frozen=True, slots=True)
class StopOrder:
    reason: str = "user_request"


@dataclass(frozen=True, slots=True)
class DischargeOrder:
    discharge_kw: float
    duration_s: int
    min_soc: int


@dataclass(frozen=True, slots=True)
class LimitOrder:
    """A limit of one connector; while it runs it stands in the place of the start's `charge_kw`."""

    limit_kw: float
    duration_s: int


@dataclass(frozen=True, slots=True)
class FlexibilityOrder:
    """`targets`: "all", "site:ID" or "operator:ID"; a charger keeps one action per target. `pause` stops both
    directions, a percentage (of rated power) limits charging only."""

    targets: tuple[str, ...]
    percent: int
    duration_s: int
    pause: bool


def start_order(body: Mapping[str, Any]) -> StartOrder:
    return StartOrder(
        charge_kw=positive(body, "charge_power"),
        duration_s=integer(body, "duration", low=1),
        target_soc=integer(body, "target_soc", low=0, high=100),
        transaction_id=text(body, "transaction_id"),
    )


def stop_order(body: Mapping[str, Any]) -> StopOrder:
    return StopOrder(text(body, "reason") or "user_request")


def discharge_order(body: Mapping[str, Any]) -> DischargeOrder:
    min_soc = integer(body, "min_soc", low=0, high=100)
    return DischargeOrder(
        discharge_kw=required(positive(body, "discharge_power"), "discharge_power"),
        duration_s=integer(body, "duration", low=1) or DEFAULT_DISCHARGE_S,
        min_soc=DISCHARGE_FLOOR_SOC if min_soc is None else min_soc,
    )


def flexibility_order(body: Mapping[str, Any]) -> FlexibilityOrder:
    kind = required(choice(body, "target_type", ("site", "operator", "all")), "target_type")
    targets: tuple[str, ...] = ("all",)
    if kind != "all":
        ids = required(body.get("target_ids"), "target_ids")
        if not isinstance(ids, list) or not ids or not all(isinstance(i, str) and i for i in ids):
            raise Refusal(1001, "target_ids must be a list of ids", field="target_ids", value=ids)
        targets = tuple(f"{kind}:{i}" for i in ids)
    pause = (
        required(choice(body, "command", ("set_power_limit", "pause_charging")), "command")
        == "pause_charging"
    )
    params = required(body.get("params"), "params")
    if not isinstance(params, dict):
        raise Refusal(1001, "params must be an object", field="params", value=params)
    duration_s = required(integer(params, "duration", low=1, high=MAX_FLEXIBILITY_S), "params.duration")
    percent = 0
    if not pause:
        percent = required(
            integer(params, "power_limit_percent", low=0, high=100), "params.power_limit_percent"
        )
    return FlexibilityOrder(targets, percent, duration_s, pause)


def paging(query: Mapping[str, str]) -> tuple[int, int]:
    """`page` from 1 and `size` 1-100, defaults 1 and 20."""
    page = digits(query, "page", low=1)
    size = digits(query, "size", low=1, high=MAX_PAGE_SIZE)
    return page or 1, size or 20


def required(value: T | None, field: str) -> T:
    if value is None:
        raise Refusal(1002, f"{field} is required", field=field)
    return value


def text(source: Mapping[str, Any], field: str) -> str | None:
    value = source.get(field)
    if value is not None and (not isinstance(value, str) or not value):
        raise Refusal(1001, f"{field} must be a text", field=field, value=value)
    return value


def choice(source: Mapping[str, Any], field: str, known: tuple[str, ...]) -> str | None:
    value = text(source, field)
    if value is not None and value not in known:
        raise Refusal(1001, f"{field} must be one of {', '.join(known)}", field=field, value=value)
    return value


def positive(body: Mapping[str, Any], field: str) -> float | None:
    value = power(body, field)
    if value == 0:
        raise Refusal(1001, f"{field} must be greater than zero", field=field, value=value)
    return value


def power(body: Mapping[str, Any], field: str) -> float | None:
    """kW, zero included."""
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_KW:
        raise Refusal(1001, f"{field} must be a power in kW", field=field, value=value)
    return float(value)


def integer(body: Mapping[str, Any], field: str, low: int, high: int = MAX_INTEGER) -> int | None:
    value = body.get(field)
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high
    ):
        raise Refusal(1001, f"{field} must be a whole number, {low} to {high}", field=field, value=value)
    return value


def digits(query: Mapping[str, str], field: str, low: int, high: int = MAX_INTEGER) -> int | None:
    """A whole number as a path or query writes it."""
    value = query.get(field)
    if value is None:
        return None
    return integer({field: int(value) if _DIGITS.fullmatch(value) else value}, field, low, high)


def instant(source: Mapping[str, Any], field: str) -> datetime | None:
    """An ISO 8601 instant; offsets and fractions are read (G-29), a time without a zone is not an instant."""
    value = text(source, field)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 2000 <= moment.year < 2100:
        raise Refusal(1001, f"{field} must be an ISO 8601 time with a zone", field=field, value=value)
    return moment.astimezone(UTC)


def stamp(moment: datetime) -> str:
    """A UTC time as the platform writes it: whole seconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
