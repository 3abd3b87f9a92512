"""What a simulated OCPP 2.x station answers about its device model, and the variables that tell what is so now.

One function per action, as in `charger2_charging`. Source: OCPP 2.0.1 part 2 B05-B08, part 1 chapter 4; OCPP
2.1 part 2 chapter Q (V2X).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from drivers.sim.cards import LIST_ENTRIES
from drivers.sim.charger2_charging import ENTRIES, OPERATION_MODES
from drivers.sim.charger2_evse import CONNECTOR, Evse
from drivers.sim.charger2_variables import Nature, Place
from drivers.sim.link import CallError
from drivers.sim.outbox import Json
from drivers.sim.stamps import stamp
from drivers.sim.v2g import V2gEvse

if TYPE_CHECKING:
    from drivers.sim.charger2 import SimStation

PART = 25  # rows in one NotifyReport
SUMMARY = ("AvailabilityState", "Problem")
AVAILABILITY = Nature("OptionList", choices="Available,Occupied,Reserved,Unavailable,Faulted", monitored=True)


def get_variables(station: SimStation, payload: Json) -> Json:
    wanted = _at_most(station, payload["getVariableData"], "GetVariables")
    return {"getVariableResult": [station.memory.variables.read(one) for one in wanted]}


def set_variables(station: SimStation, payload: Json) -> Json:
    results = []
    for one in _at_most(station, payload["setVariableData"], "SetVariables"):
        result, place = station.memory.variables.write(one)
        results.append(result)
        if place is not None:
            station.settings_changed(place)
    return {"setVariableResult": results}


def get_base_report(station: SimStation, payload: Json) -> Json:
    kinds: Mapping[str, Callable[[Place, Nature], bool]] = {
        "FullInventory": lambda place, nature: True,
        "ConfigurationInventory": lambda place, nature: nature.mutability != "ReadOnly",
        "SummaryInventory": lambda place, nature: place.variable in SUMMARY,
    }
    only = kinds.get(payload["reportBase"])
    if only is None:
        return {"status": "NotSupported"}
    return _report(station, int(payload["requestId"]), only)


def get_report(station: SimStation, payload: Json) -> Json:
    wanted = _at_most(station, payload.get("componentVariable") or [], "GetReport")
    criteria = payload.get("componentCriteria")

    def asked_for(place: Place, nature: Nature) -> bool:
        words = place.words()
        named = not wanted or any(
            names(one["component"], words["component"])
            and ("variable" not in one or names(one["variable"], words["variable"]))
            for one in wanted
        )
        return named and (criteria is None or place.variable in criteria)

    return _report(station, int(payload["requestId"]), asked_for)


def names(asked: Json, words: Json) -> bool:
    """What a request leaves out, it does not care about."""
    return all(words.get(key) == value for key, value in asked.items() if key != "customData")


def _report(station: SimStation, id: int, only: Callable[[Place, Nature], bool]) -> Json:
    rows = station.memory.variables.report(only)
    if not rows:
        return {"status": "EmptyResultSet"}
    in_parts(station, "NotifyReport", id, "reportData", rows)
    return {"status": "Accepted"}


def in_parts(station: SimStation, action: str, id: int, key: str, rows: list[Json]) -> None:
    """A report as numbered messages, the last one without `tbc`."""
    for part, first in enumerate(range(0, len(rows), PART)):
        station.tell(
            f"{action}/{id}/{part}",
            action,
            {
                "requestId": id,
                "generatedAt": stamp(station.utc()),
                "seqNo": part,
                "tbc": first + PART < len(rows),
                key: rows[first : first + PART],
            },
        )


def _at_most(station: SimStation, rows: list[Json], action: str) -> list[Json]:
    most = station.memory.variables.number("DeviceDataCtrlr", "ItemsPerMessage", action)
    if len(rows) > most:
        raise CallError("OccurrenceConstraintViolation", f"{action}: at most {most} items")
    return rows


def add_live_variables(station: SimStation) -> None:
    """What is so now is asked for when somebody reads it."""
    memory, put = station.memory, station.memory.variables.put
    text, count, yes = Nature(), Nature("integer"), Nature("boolean")

    def of_station(variable: str, value: str | Callable[[], str], nature: Nature) -> None:
        put(Place("ChargingStation", variable), value, nature)

    of_station("Available", "true", yes)
    of_station("AvailabilityState", lambda: _station_state(station), AVAILABILITY)
    of_station("Model", station.model, text)
    of_station("VendorName", station.vendor, text)
    of_station("SerialNumber", f"SIM-{station.station_id}"[:25], text)
    of_station("FirmwareVersion", lambda: memory.firmware, text)
    of_station("Problem", lambda: _yes(any(evse.evse.fault is not None for evse in station.evses)), yes)
    of_station("SupplyPhases", str(max(len(evse.evse.phases) for evse in station.evses)), count)
    put(Place("ClockCtrlr", "DateTime"), lambda: stamp(station.utc()), Nature("dateTime"))
    put(Place("SecurityCtrlr", "Identity"), station.station_id, text)
    put(
        Place("SmartChargingCtrlr", "Entries", "ChargingProfiles"),
        lambda: str(len(memory.profiles)),
        Nature("integer", highest=ENTRIES),
    )
    put(
        Place("LocalAuthListCtrlr", "Entries"),
        lambda: str(len(memory.cards.listed)),
        Nature("integer", highest=LIST_ENTRIES),
    )
    put(
        Place("DisplayMessageCtrlr", "DisplayMessages"),
        lambda: str(len(memory.messages)),
        Nature("integer", highest=10),
    )
    put(Place("OCPPCommCtrlr", "ActiveNetworkProfile"), lambda: _first_slot(station), count)
    for evse in station.evses:
        _add_evse(station, evse)


def _add_evse(station: SimStation, evse: Evse) -> None:
    put, hardware = station.memory.variables.put, evse.hardware
    most_w = hardware.max_a * hardware.voltage_v * hardware.conductors
    rows: list[tuple[str, str | Callable[[], str], Nature]] = [
        ("AllowReset", "true", Nature("boolean")),
        ("Available", "true", Nature("boolean")),
        ("AvailabilityState", lambda: station.status(evse), AVAILABILITY),
        (
            "Power",
            lambda: f"{evse.evse.power_w:.1f}",
            Nature("decimal", unit="W", highest=most_w, monitored=True),
        ),
        ("Problem", lambda: _yes(evse.evse.fault is not None), Nature("boolean", monitored=True)),
        ("SupplyPhases", str(hardware.conductors), Nature("integer")),
    ]
    for variable, value, nature in rows:
        put(Place("EVSE", variable, None, evse.number), value, nature)
    if isinstance(evse.evse, V2gEvse):
        for variable, text, nature in (
            ("Available", "true", Nature("boolean")),
            ("Enabled", "true", Nature("boolean")),
            ("SupportedOperationModes", ",".join(OPERATION_MODES), Nature("MemberList")),
        ):
            put(Place("V2XChargingCtrlr", variable, None, evse.number), text, nature)
    of_connector: list[tuple[str, str | Callable[[], str], Nature]] = [
        ("Available", "true", Nature("boolean")),
        ("AvailabilityState", lambda: station.status(evse), AVAILABILITY),
        ("ConnectorType", "cType2", Nature()),
        ("SupplyPhases", str(hardware.conductors), Nature("integer")),
    ]
    for variable, value, nature in of_connector:
        put(Place("Connector", variable, None, evse.number, CONNECTOR), value, nature)


def _station_state(station: SimStation) -> str:
    if 0 in station.memory.inoperative:
        return "Unavailable"
    states = {station.status(evse) for evse in station.evses}
    return states.pop() if len(states) == 1 else "Available"


def _first_slot(station: SimStation) -> str:
    return station.memory.variables.text("OCPPCommCtrlr", "NetworkConfigurationPriority").split(",")[0] or "0"


def _yes(true: bool) -> str:
    return "true" if true else "false"


HANDLERS: Mapping[str, Callable[[SimStation, Json], Json]] = {
    "GetVariables": get_variables,
    "SetVariables": set_variables,
    "GetBaseReport": get_base_report,
    "GetReport": get_report,
}
