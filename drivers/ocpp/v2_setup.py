"""What an OCPP 2.x station is asked and told during setup: variables of its device model.

Owns the variables, their values, and the reading and writing of them in pieces a station can take (ItemsPerMessage). The
order of setup is in `setup`. Every refusal is a fact about the station, never an error. Source: OCPP 2.0.1 part 2
sections B05-B06 and the referenced components and variables (appendix 3.1); 2.1 for V2XChargingCtrlr.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from drivers.ocpp.frames import Payload, clean
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.words import Ask, Capabilities

log = logging.getLogger(__name__)

T = TypeVar("T")

FEW = 4  # variables per message while a station has not said how many it takes: the smallest limit seen is 4
MOST = 50  # however many it takes: a frame has an end
_LONGEST_VALUE = 1000
_LISTS = re.compile(r"[,;\s]+")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a component; `evse` for those that an EVSE has."""

    component: str
    name: str
    instance: str | None = None
    evse: int | None = None

    @property
    def key(self) -> str:
        instance = f"[{self.instance}]" if self.instance else ""
        return f"{self.component}.{self.name}{instance}".casefold()

    def as_payload(self) -> Payload:
        component: Payload = {"name": self.component}
        if self.evse is not None:
            component["evse"] = {"id": self.evse}
        variable: Payload = {"name": self.name}
        if self.instance is not None:
            variable["instance"] = self.instance
        return {"component": component, "variable": variable}


ITEMS_TO_GET = Variable("DeviceDataCtrlr", "ItemsPerMessage", "GetVariables")
ITEMS_TO_SET = Variable("DeviceDataCtrlr", "ItemsPerMessage", "SetVariables")
HEARTBEAT = Variable("OCPPCommCtrlr", "HeartbeatInterval")
SAMPLE_INTERVAL = Variable("SampledDataCtrlr", "TxUpdatedInterval")
SAMPLES = Variable("SampledDataCtrlr", "TxUpdatedMeasurands")
SAMPLES_AT_START = Variable("SampledDataCtrlr", "TxStartedMeasurands")
SAMPLES_AT_END = Variable("SampledDataCtrlr", "TxEndedMeasurands")
SAMPLE_INTERVAL_AT_END = Variable("SampledDataCtrlr", "TxEndedInterval")
ALIGNED_INTERVAL = Variable("AlignedDataCtrlr", "Interval")
AUTHORIZE_REMOTE = Variable("AuthCtrlr", "AuthorizeRemoteStart")
PRE_AUTHORIZE = Variable("AuthCtrlr", "LocalPreAuthorize")
OFFLINE_KNOWN = Variable("AuthCtrlr", "LocalAuthorizeOffline")
OFFLINE_UNKNOWN = Variable("AuthCtrlr", "OfflineTxForUnknownIdEnabled")
STOP_INVALID = Variable("TxCtrlr", "StopTxOnInvalidId")
SMART_AVAILABLE = Variable("SmartChargingCtrlr", "Available")
SMART_ENABLED = Variable("SmartChargingCtrlr", "Enabled")
RATE_UNIT = Variable("SmartChargingCtrlr", "RateUnit")
STACK_LEVEL = Variable("SmartChargingCtrlr", "ProfileStackLevel")
PERIODS = Variable("SmartChargingCtrlr", "PeriodsPerSchedule")
PHASE_CHOICE = Variable("SmartChargingCtrlr", "ACPhaseSwitchingSupported")
V2X_AVAILABLE = Variable("V2XChargingCtrlr", "Available")
V2X_ENABLED = Variable("V2XChargingCtrlr", "Enabled")
V2X_MODES = Variable("V2XChargingCtrlr", "SupportedOperationModes")
_V2X = (V2X_AVAILABLE, V2X_ENABLED, V2X_MODES)

_READ = (
    SMART_AVAILABLE,
    SMART_ENABLED,
    RATE_UNIT,
    STACK_LEVEL,
    PERIODS,
    PHASE_CHOICE,
    replace(PHASE_CHOICE, evse=1),
    HEARTBEAT,
    SAMPLE_INTERVAL,
    SAMPLES,
    SAMPLES_AT_START,
    SAMPLES_AT_END,
    SAMPLE_INTERVAL_AT_END,
    ALIGNED_INTERVAL,
    AUTHORIZE_REMOTE,
    PRE_AUTHORIZE,
    OFFLINE_KNOWN,
    OFFLINE_UNKNOWN,
    STOP_INVALID,
)
# the component belongs to an EVSE; some stations have it once for all
_READ_21 = (*_READ, *_V2X, *(replace(variable, evse=1) for variable in _V2X))

REGISTER = "Energy.Active.Import.Register"
# most wanted first; stations that refuse the long list take the short one
MEASURANDS = (
    f"Current.Import,Power.Active.Import,{REGISTER},Current.Offered,SoC",
    f"Current.Import,Power.Active.Import,{REGISTER}",
    f"Current.Import,{REGISTER}",
)
_BOTH_WAYS = f"Current.Import,Current.Export,Power.Active.Import,Power.Active.Export,{REGISTER},SoC"


async def read_configuration(ask: Ask, is_21: bool) -> dict[str, str]:
    """What the station says of itself, by `Variable.key`; empty when it says nothing."""
    found = await get_variables(ask, (ITEMS_TO_GET,), 1)
    found |= await get_variables(ask, (ITEMS_TO_SET,), 1)
    wanted = _READ_21 if is_21 else _READ
    return found | await get_variables(ask, wanted, items_per_message(found, ITEMS_TO_GET))


def items_per_message(configuration: Mapping[str, str], variable: Variable) -> int:
    told = _whole(configuration.get(variable.key))
    return min(told, MOST) if told else FEW


async def get_variables(ask: Ask, variables: Sequence[Variable], at_once: int) -> dict[str, str]:
    """The values a station tells; what it refuses is left out. A message refused as a whole is tried one by one."""
    found: dict[str, str] = {}
    for piece in _pieces(variables, at_once):
        answer = await ask("GetVariables", {"getVariableData": [each.as_payload() for each in piece]})
        if answer is None and len(piece) > 1:
            found |= await get_variables(ask, piece, 1)
        found |= read_variables(answer or {})
    return found


def read_variables(answer: Payload) -> dict[str, str]:
    """The accepted values of a GetVariables answer."""
    results = answer.get("getVariableResult")
    found: dict[str, str] = {}
    for result in results if isinstance(results, list) else []:
        variable = _variable(result) if isinstance(result, dict) else None
        value = result.get("attributeValue") if variable is not None else None
        accepted = variable is not None and _folded(result.get("attributeStatus")) == "accepted"
        if variable is not None and accepted and isinstance(value, str):
            found[variable.key] = clean(value, _LONGEST_VALUE).strip("\"'")
    return found


def capabilities(configuration: Mapping[str, str]) -> Capabilities:
    units = _words(configuration.get(RATE_UNIT.key, ""))
    level = _whole(configuration.get(STACK_LEVEL.key))
    watts = bool(units & {"w", "power"})
    available, enabled = (_truth(configuration.get(each.key)) for each in (SMART_AVAILABLE, SMART_ENABLED))
    return Capabilities(
        smart_charging=available if available is not None else enabled or None,  # off can be switched on
        max_stack_level=1 if level is None else level,
        in_watts=watts and not units & {"a", "current"},
        takes_watts=watts,
        max_periods=_whole(configuration.get(PERIODS.key)),
        asks_for_remote_tokens=_truth(configuration.get(AUTHORIZE_REMOTE.key)),
        discharge=_discharges(configuration),
        chooses_phase=_truth(configuration.get(PHASE_CHOICE.key)) is True,
    )


def _discharges(configuration: Mapping[str, str]) -> bool:
    """Declared, not switched off, and with a set-point of ours."""
    available, enabled = (_truth(configuration.get(each.key)) for each in (V2X_AVAILABLE, V2X_ENABLED))
    modes = _words(configuration.get(V2X_MODES.key, ""))
    return (
        True in (available, enabled)
        and False not in (available, enabled)
        and (not modes or "centralsetpoint" in modes)
    )


async def configure(
    ask: Ask,
    configuration: Mapping[str, str],
    able: Capabilities,
    settings: OcppSettings,
    measurands_written: bool,
) -> bool:
    """Writes only what differs: some stations keep their variables in memory that wears out."""
    wanted = {
        HEARTBEAT: str(settings.heartbeat_s),
        SAMPLE_INTERVAL: str(settings.sample_interval_s),
        SAMPLES_AT_START: REGISTER,
        SAMPLES_AT_END: REGISTER,
        SAMPLE_INTERVAL_AT_END: "0",  # the end alone: the way there was told already
        ALIGNED_INTERVAL: "0",  # would come beside the samples and say the same
        STOP_INVALID: "true",
        PRE_AUTHORIZE: "false",  # while we are there, we are asked
        OFFLINE_KNOWN: "false" if settings.offline_tokens == "nobody" else "true",
        OFFLINE_UNKNOWN: "true" if settings.offline_tokens == "anyone" else "false",
    }
    if able.asks_for_remote_tokens:
        wanted[AUTHORIZE_REMOTE] = "false"  # we have authorized what we start ourselves
    if _truth(configuration.get(SMART_ENABLED.key)) is False:
        wanted[SMART_ENABLED] = "true"
    # what a station does not have is not written, except where it may only be silent about itself
    changes = [
        (variable, value)
        for variable, value in wanted.items()
        if configuration.get(variable.key, "").casefold() != value.casefold()
        and (variable.key in configuration or variable in (HEARTBEAT, SAMPLE_INTERVAL))
    ]
    at_once = items_per_message(configuration, ITEMS_TO_SET)
    await set_variables(ask, changes, at_once)
    if measurands_written:
        return True
    for measurands in (_BOTH_WAYS, *MEASURANDS) if able.discharge else MEASURANDS:
        if _words(configuration.get(SAMPLES.key, "")) == _words(measurands):
            return True
        if await set_variables(ask, [(SAMPLES, measurands)], 1):
            return True
    return False


async def set_variables(ask: Ask, changes: Sequence[tuple[Variable, str]], at_once: int) -> bool:
    """Whether the station took every one; those it did not take are told in the log."""
    taken: set[str] = set()
    for piece in _pieces(changes, at_once):
        data = [{"attributeValue": value, **variable.as_payload()} for variable, value in piece]
        answer = await ask("SetVariables", {"setVariableData": data})
        if answer is None and len(piece) > 1:
            for change in piece:
                taken |= {change[0].key} if await set_variables(ask, [change], 1) else set()
            continue
        results = (answer or {}).get("setVariableResult")
        for result in results if isinstance(results, list) else []:
            variable = _variable(result) if isinstance(result, dict) else None
            if variable is None:
                continue
            status = _folded(result.get("attributeStatus"))
            if status in ("accepted", "rebootrequired"):
                taken.add(variable.key)
            else:
                log.info("%s stays as it is: %s", variable.key, status or "no status")
    return all(variable.key in taken for variable, _ in changes)


def _variable(result: Mapping[str, Any]) -> Variable | None:
    component, variable = result.get("component"), result.get("variable")
    if not isinstance(component, dict) or not isinstance(variable, dict):
        return None
    names = component.get("name"), variable.get("name")
    instance = variable.get("instance")
    if not isinstance(names[0], str) or not isinstance(names[1], str):
        return None
    return Variable(
        clean(names[0], 50), clean(names[1], 50), clean(instance, 50) if isinstance(instance, str) else None
    )


def _pieces(items: Sequence[T], at_once: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), at_once):
        yield items[first : first + at_once]


def _folded(value: object) -> str:
    return clean(value, 50).casefold() if isinstance(value, str) else ""


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text) else None


def _truth(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get((text or "").casefold())


def _words(text: str) -> frozenset[str]:
    return frozenset(word for part in _LISTS.split(text) if (word := part.strip("\"'").casefold()))
