"""What goes to a broker: states as JSON documents, things that happened, and Home Assistant's device discovery.

Owns topics, keys and units; pure functions of a picture. Amps and watts as people read them; unknown is null. No id token
ever goes out. Must not know a connection. Source: the device discovery format of Home Assistant's MQTT integration
(one retained message per device: device, origin, components), its device classes and units.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.core.model import EvseId, number_of
from controller.core.snapshot import CircuitView, EvseView, Snapshot
from drivers.mqtt.settings import MqttSettings

PUBLISH_S = 10.0  # how often a state that did not change goes out again
EXPIRE_S = 60  # Home Assistant forgets a state this old
BIRTH_TOPIC = "homeassistant/status"
DISCOVERY = "homeassistant/device"
PHASES = ("l1", "l2", "l3")

Document = dict[str, Any]


def status_topic(topic: str) -> str:
    """ "online", or by our last will "offline"."""
    return f"{topic}/status"


def evse_topic(topic: str, evse: EvseId) -> str:
    return f"{topic}/evse/{evse}"


def text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


# --- states -----------------------------------------------------------------------------------------------------


def states(topic: str, snapshot: Snapshot) -> Iterator[tuple[str, str, Document]]:
    """Topic, what changing makes it urgent, and the document."""
    site = _site(snapshot)
    yield f"{topic}/site", f"{site['state']} {site['alarms']}", site
    for circuit in snapshot.circuits:
        yield f"{topic}/circuit/{circuit.id}", "", _circuit(circuit)
    for evse in snapshot.evses:
        document = _evse(evse)
        urgent = f"{document['state']} {document['connected']} {document['session']} {document['operator_limit_a']}"
        yield evse_topic(topic, evse.id), urgent, document


def _site(snapshot: Snapshot) -> Document:
    powers = [evse.power_w for evse in snapshot.evses if evse.power_w is not None]
    worst = min((alarm.priority for alarm in snapshot.alarms), default=None)
    return {
        "state": snapshot.state,
        "text": snapshot.text,
        "charging": sum(evse.state.value == "charging" for evse in snapshot.evses),
        "connected": sum(evse.connected for evse in snapshot.evses),
        "evses": len(snapshot.evses),
        "charging_w": sum(powers) if powers else None,
        "alarms": len(snapshot.alarms),
        "worst_alarm": worst,
        "peak_quarter_w": None if snapshot.peak is None else snapshot.peak.mean_w,
    }


def _circuit(view: CircuitView) -> Document:
    found: Document = {}
    kinds = {"measured": view.measured_ma, "limit": view.limit_ma, "committed": view.committed_ma}
    for kind, values in kinds.items():
        found |= {f"{kind}_{phase}_a": _amps(milli) for phase, milli in zip(PHASES, values, strict=True)}
    return found


def _evse(view: EvseView) -> Document:
    session = view.session
    return {
        "state": view.state.value,
        "connected": view.connected,
        "power_w": view.power_w,
        "grant_a": _amps(view.grant_ma),
        "operator_limit_a": _amps(view.operator_limit_ma),
        "max_a": _amps(view.limit_ma),
        "paused": view.paused,
        "bound_by": view.bound_by,
        "fault": view.fault,
        "session": None if session is None else session.id,
        "vehicle": None if session is None else session.vehicle,
        "energy_wh": None if session is None else session.energy_wh,
        "soc": None if session is None else session.soc,
    } | {f"measured_{phase}_a": _amps(milli) for phase, milli in zip(PHASES, view.measured_ma, strict=True)}


def _amps(milli: int | None) -> float | None:
    return None if milli is None else milli / 1e3


# --- what happened ----------------------------------------------------------------------------------------------


def happened(before: Snapshot, now: Snapshot) -> Iterator[Document]:
    """Sessions and alarms that began or ended between two pictures."""
    at = now.time.isoformat(timespec="seconds")
    was = {evse.id: evse.session for evse in before.evses}
    for evse in now.evses:
        old, new = was.get(evse.id), evse.session
        if (None if old is None else old.id) == (None if new is None else new.id):
            continue
        for kind, session in (("session-ended", old), ("session-started", new)):
            if session is not None:
                told = {"session": session.id, "vehicle": session.vehicle, "energy_wh": session.energy_wh}
                yield {"at": at, "event": kind, "evse": evse.id} | told
    raised = {alarm.id: alarm for alarm in before.alarms}
    present = {alarm.id: alarm for alarm in now.alarms}
    for kind, ids in (("alarm-raised", present.keys() - raised), ("alarm-ended", raised.keys() - present)):
        for id in sorted(ids):
            alarm = (present | raised)[id]
            told = {"priority": alarm.priority, "source": alarm.source, "text": alarm.text}
            yield {"at": at, "event": kind, "alarm": id} | told


# --- Home Assistant ---------------------------------------------------------------------------------------------


def discovery(settings: MqttSettings, snapshot: Snapshot) -> Iterator[tuple[str, Document]]:
    """One message per device: the site, each circuit and each station."""
    root = _slug(settings.topic)
    site = _Device(settings, root, settings.site, None, "Charging depot")
    site.add("state", "sensor", "State", "site", icon="mdi:ev-station")
    site.add("charging_w", "sensor", "Charging power", "site", "power", "W")
    site.add("charging", "sensor", "EVSEs charging", "site", state_class="measurement")
    site.add("alarms", "sensor", "Alarms", "site", state_class="measurement")
    yield site.message()
    for circuit in snapshot.circuits:
        made = _Device(
            settings, f"{root}_circuit_{_slug(circuit.id)}", f"Circuit {circuit.id}", root, "Circuit"
        )
        for kind in ("measured", "limit", "committed"):
            for phase in PHASES:
                name = f"{kind.capitalize()} {phase.upper()}"
                made.add(f"{kind}_{phase}_a", "sensor", name, f"circuit/{circuit.id}", "current", "A")
        yield made.message()
    stations: dict[str, list[EvseView]] = {}
    for evse in snapshot.evses:
        stations.setdefault(evse.station, []).append(evse)
    for station, evses in stations.items():
        yield _station(settings, root, station, evses)


def _station(
    settings: MqttSettings, root: str, station: str, evses: Sequence[EvseView]
) -> tuple[str, Document]:
    made = _Device(
        settings, f"{root}_station_{_slug(station)}", station, root, evses[0].identity or "Charging station"
    )
    for evse in evses:
        place, key = f"evse/{evse.id}", str(number_of(evse.id))
        name = "" if len(evses) == 1 else f" {key}"
        made.add("state", "sensor", f"State{name}", place, key=key)
        made.add("connected", "binary_sensor", f"Link{name}", place, "connectivity", key=key)
        made.add("power_w", "sensor", f"Power{name}", place, "power", "W", key=key)
        made.add("energy_wh", "sensor", f"Session energy{name}", place, "energy", "Wh", key=key)
        made.add("soc", "sensor", f"State of charge{name}", place, "battery", "%", key=key)
        made.add("grant_a", "sensor", f"Granted{name}", place, "current", "A", key=key)
        made.add("vehicle", "sensor", f"Vehicle{name}", place, key=key)
        for phase in PHASES:
            made.add(
                f"measured_{phase}_a", "sensor", f"{phase.upper()}{name}", place, "current", "A", key=key
            )
        for order in sorted(settings.commands):
            made.order(order, f"{order.capitalize()}{name}", evse.id, key)
    return made.message()


class _Device:
    """One discovery message in the making."""

    def __init__(self, settings: MqttSettings, id: str, name: str, via: str | None, model: str) -> None:
        self._settings = settings
        self._id = id
        self._device: Document = {"identifiers": [id], "name": name, "manufacturer": "Depot", "model": model}
        if via is not None:
            self._device["via_device"] = via
        self._components: dict[str, Document] = {}

    def add(
        self, value: str, platform: str, name: str, place: str, kind: str = "", unit: str = "", key: str = "", **more: str
    ) -> None:  # fmt: skip
        made: Document = {
            "platform": platform,
            "unique_id": "_".join(part for part in (self._id, key, value) if part),
            "name": name,
            "state_topic": f"{self._settings.topic}/{place}",
            "value_template": "{{ value_json." + value + " }}",
            "expire_after": EXPIRE_S,
            **more,
        }
        if platform == "binary_sensor":
            made |= {"payload_on": "True", "payload_off": "False"}
        if kind:
            made["device_class"] = kind
        if unit:
            made["unit_of_measurement"] = unit
            # a session's energy begins at 0 again: that is a total which increases
            made["state_class"] = "total_increasing" if kind == "energy" else "measurement"
        self._components[made["unique_id"]] = made

    def order(self, order: str, name: str, evse: EvseId, key: str) -> None:
        made: Document = {
            "platform": "button",
            "unique_id": f"{self._id}_{key}_set_{order}",
            "name": name,
            "command_topic": f"{evse_topic(self._settings.topic, evse)}/set/{order}",
        }
        if order == "limit":
            most_a = self._settings.max_ma[evse] / 1e3
            made |= {
                "platform": "number",
                "state_topic": evse_topic(self._settings.topic, evse),
                "value_template": "{{ value_json.operator_limit_a if value_json.operator_limit_a is not none"
                " else value_json.max_a }}",
                "min": 0,
                "max": most_a,
                "step": 1,
                "unit_of_measurement": "A",
                "device_class": "current",
            }
        self._components[made["unique_id"]] = made

    def message(self) -> tuple[str, Document]:
        document = {
            "device": self._device | {"sw_version": self._settings.version},
            "origin": {"name": "depot-controller", "sw_version": self._settings.version},
            "components": self._components,
            "availability": [{"topic": status_topic(self._settings.topic)}],
            "qos": 0,
        }
        return f"{DISCOVERY}/{self._id}/config", document


def _slug(name: str) -> str:
    """What Home Assistant takes as an id. Two names never become one."""
    plain = re.sub(r"[^A-Za-z0-9-]", "_", name)
    return plain if plain == name else f"{plain}_{zlib.crc32(name.encode()):08x}"


def orders_topic(topic: str) -> str:
    """All orders for EVSEs: topic/evse/STATION/NUMBER/set/ORDER."""
    return f"{topic}/evse/+/+/set/+"


def order_of(topic: str, heard: str) -> tuple[EvseId, str] | None:
    """EVSE and order of a topic."""
    parts = heard.removeprefix(f"{topic}/evse/").split("/")
    if len(parts) != 4 or parts[2] != "set" or not parts[1].isdigit():
        return None
    return EvseId(f"{parts[0]}/{parts[1]}"), parts[3]
