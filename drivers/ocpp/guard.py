"""What nobody may ask of a station by hand: whatever could let more current flow than the depot has decided.

Owns the actions and the names of settings that are refused, with the command that is meant instead. Must not be asked
about what the depot itself sends. Vendors name their settings as they like: a name that sounds like a limit is one.
Source: OCPP 1.6 sections 5.16 and 9.4, 2.0.1 part 2 section K, 2.1 part 2 sections K, Q and R.
"""

from __future__ import annotations

import re
from typing import Any, Final

from drivers.errors import Refused
from drivers.ocpp import v2, v16
from drivers.ocpp.frames import Payload
from drivers.ocpp.schemas import Schemas

_FOLDERS: Final = {"2.0.1": "v201", "2.1": "v21"}
_READERS: Final = {"2.0.1": v2.READERS_201, "2.1": v2.READERS_21}
_LIMITS: Final = frozenset(
    {
        "AFRRSignal",
        "ClearChargingProfile",
        "ClearDERControl",
        "NotifyAllowedEnergyTransfer",
        "SetChargingProfile",
        "SetDERControl",
        "UpdateDynamicSchedule",
        "UsePriorityCharging",
    }
)
_STARTS: Final = frozenset({"RemoteStartTransaction", "RequestStartTransaction"})
_LIMIT_NAME = re.compile(
    r"current|amp(?:s|ere|erage)|power|limit|phase|fuse|fallback|failsafe|charg\w*rate|charg\w*profile"
    r"|smartcharg|stacklevel|load(?:manag|balanc|shar)|v2x|\bder",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"AuthorizationKey|BasicAuthPassword", re.IGNORECASE)


def check_action(version: str, action: str, payload: Payload) -> None:
    """Raises Refused for what is not ours to ask, or not by hand."""
    if not _is_ours(version, action):
        raise Refused(f"{action} is nothing that OCPP {version} lets a central system ask")
    if action in _LIMITS:
        raise Refused(f"{action} could widen a limit of the depot: use `depot limit` instead")
    if action in _STARTS:
        raise Refused(f"{action} would start outside the depot's limits: use `depot start` instead")
    if action == "ChangeConfiguration":
        check_name(str(payload.get("key")))
    for row in _rows(payload.get("setVariableData") if action == "SetVariables" else None):
        check_name(f"{_name(row.get('component'))}.{_name(row.get('variable'))}")


def check_name(name: str) -> None:
    """Raises Refused for a setting that is not to be written by hand."""
    if _SECRET_NAME.search(name):
        raise Refused(f"{name} is the station's secret: use `depot station-password` instead")
    if _LIMIT_NAME.search(name):
        raise Refused(f"{name} sounds like a limit, and limits are the depot's: use `depot limit` instead")


def _is_ours(version: str, action: str) -> bool:
    if action == "DataTransfer":
        return True
    if version == "1.6":
        return action in v16.OURS_TO_SEND
    return Schemas(_FOLDERS[version]).has_request(action) and action not in _READERS[version]


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _name(value: object) -> str:
    return f"{value.get('name')}" if isinstance(value, dict) else ""
