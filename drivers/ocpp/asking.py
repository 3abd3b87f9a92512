"""Questions of setup, asked in the manner of the station: its pace, keys that hurt it, what it cannot measure or not so often.

Owns what becomes of a question on its way out, and whether a question of somebody else may go out at all. Must not decide
what is asked. Source: `dialects.toml`, rows 14, 16, 28, 45 and 46.
"""

from __future__ import annotations

import logging
from typing import Any

from controller.ports import Clock
from drivers.errors import DriverError, Refused
from drivers.ocpp.dialects import Manners
from drivers.ocpp.frames import Payload
from drivers.ocpp.memory import Memory
from drivers.ocpp.station import Session
from drivers.ocpp.words import status_of

log = logging.getLogger(__name__)

SAMPLE_INTERVAL = ("MeterValueSampleInterval", "TxUpdatedInterval")
SLOWER_S = (30, 60)  # intervals that stations are known to insist on
Used = tuple[str, ...]  # switches that changed something
_YES = ("accepted", "rebootrequired")


class Asking:
    """`ask` for setup: an answer, or None; housekeeping that fails is a fact about the station."""

    def __init__(self, session: Session, memory: Memory, clock: Clock) -> None:
        self._session = session
        self._memory = memory
        self._clock = clock

    async def ask(self, action: str, request: Payload) -> Payload | None:
        manners = self._memory.manners
        if manners.switches.setup_gap_s:
            await self._clock.sleep(manners.switches.setup_gap_s)
            self._memory.note_repairs("setup_gap_s")
        polite, used = polite_request(manners, action, request)
        self._memory.note_repairs(*used)
        answer = await self._call(action, polite)
        if not _refuses_interval(action, polite, answer) or not manners.may_learn("slowmeter"):
            return answer
        for seconds in SLOWER_S:
            if int(polite["value"]) >= seconds:
                continue
            again = await self._call(action, {**polite, "value": str(seconds)})
            if status_of(again or {}).casefold() in _YES:
                self._memory.learn("slowmeter")
                return again
        return answer

    async def _call(self, action: str, request: Payload) -> Payload | None:
        try:
            return await self._session.call(action, request)
        except DriverError as error:
            if not self._session.ended:
                log.info("%s: %s: %s", self._session.station, action, error)
            return None


def polite_request(manners: Manners, action: str, request: Payload) -> tuple[Payload, Used]:
    """The question as this station can bear it, and the switches that changed it."""
    switches = manners.switches
    if action == "GetConfiguration" and request.get("key"):
        asked = list(request["key"])
        keys = [key for key in asked if not _denied(manners, key)]
        more = [key for key in manners.table.telling_keys() if key not in keys]
        return {**request, "key": keys + more}, (("read_deny",) if keys != asked else ())
    if action == "ChangeConfiguration":
        value, used = _polite_value(manners, str(request.get("key")), str(request.get("value")))
        return ({**request, "value": value} if used else request), used
    if action == "SetVariables" and (switches.measurands_exclude or switches.min_sample_s):
        data: list[Payload] = []
        changed: set[str] = set()
        for item in request["setVariableData"]:
            value, used = _polite_value(manners, str(item["variable"]["name"]), str(item["attributeValue"]))
            data.append({**item, "attributeValue": value} if used else item)
            changed.update(used)
        return {**request, "setVariableData": data}, tuple(sorted(changed))
    return request, ()


def refuse_what_hurts(manners: Manners, action: str, request: Payload) -> None:
    """For questions of people. Raises Refused when the station would not survive it."""
    if action != "GetConfiguration" or not manners.switches.read_deny:
        return
    keys: Any = request.get("key") or manners.switches.read_deny  # no key means all of them
    for key in keys if isinstance(keys, list | tuple) else ():
        if _denied(manners, str(key)):
            raise Refused(f"this station reboots when it is asked for {key}; name other keys instead")


def _polite_value(manners: Manners, name: str, value: str) -> tuple[str, Used]:
    switches = manners.switches
    if name in SAMPLE_INTERVAL and value.isdecimal() and int(value) < switches.min_sample_s:
        return str(switches.min_sample_s), ("min_sample_s",)
    if name.endswith(("SampledData", "UpdatedMeasurands")) and switches.measurands_exclude:
        unwanted = {each.casefold() for each in switches.measurands_exclude}
        kept = ",".join(each for each in value.split(",") if each.strip().casefold() not in unwanted)
        return (kept, ("measurands_exclude",)) if kept != value else (value, ())
    return value, ()


def _denied(manners: Manners, key: str) -> bool:
    return key.casefold() in {each.casefold() for each in manners.switches.read_deny}


def _refuses_interval(action: str, request: Payload, answer: Payload | None) -> bool:
    if action != "ChangeConfiguration" or request.get("key") not in SAMPLE_INTERVAL or answer is None:
        return False
    return status_of(answer).casefold() == "rejected"
