"""A first config as a person tells it: what was answered, the fallbacks that fit under it, and the commented file.

Owns the words of the file and the proposal of fallbacks. Must not ask, read or write anything; `load` judges the result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.config.values import in_amps
from controller.core.model import SITE

FALLBACK_MA = 6_000  # the least current at which a vehicle charges (IEC 61851-1)


@dataclass(frozen=True, slots=True)
class DraftMeter:
    """`said`: what it is, for the comment."""

    id: str
    kind: str
    address: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class DraftCircuit:
    """The grid connection has no parent. assumed_ma: the worst per phase that is not ours."""

    id: str
    parent: str | None
    limit_ma: int
    assumed_ma: int
    meter: DraftMeter | None = None


@dataclass(frozen=True, slots=True)
class DraftStation:
    """`evses` alike, each on `phases`."""

    id: str
    circuit: str
    evses: int
    max_ma: int
    phases: str
    fallback_ma: int = FALLBACK_MA

    @property
    def secret(self) -> str:
        """The name of its password file."""
        return f"{self.id}.secret"


@dataclass(frozen=True, slots=True)
class Draft:
    """circuits: the grid connection first. `here`: books and socket lie beside the file, not where a service has them."""

    name: str
    timezone: str
    voltage: str
    circuits: tuple[DraftCircuit, ...]
    stations: tuple[DraftStation, ...] = ()
    ocpp_port: int = 8887
    here: bool = True
    secrets_in: str = ""  # the folder of the password files, as the file names it, with its slash
    notes: Mapping[str, str] = field(default_factory=dict)  # by station: where it knocked


def with_fallbacks(draft: Draft) -> Draft:
    """Every station at 6 A, or as many of the last ones of a circuit at 0 A (they pause when alone) as must for all of its
    fuses to hold. Innermost circuits first: what pauses there pauses for all above."""
    stations = list(draft.stations)
    for circuit in sorted(draft.circuits, key=lambda each: -len(_path(draft, each.id))):
        for number in reversed(range(len(stations))):
            if _fits(draft, stations, circuit):
                break
            if circuit.id in _path(draft, stations[number].circuit):
                stations[number] = replace(stations[number], fallback_ma=0)
    return replace(draft, stations=tuple(stations))


def assumed_below(draft: Draft, circuit: str) -> int:
    """What the circuits right below it assume together: it cannot assume less."""
    return sum(each.assumed_ma for each in draft.circuits if each.parent == circuit)


def _fits(draft: Draft, stations: Sequence[DraftStation], circuit: DraftCircuit) -> bool:
    room_ma = circuit.limit_ma - circuit.assumed_ma
    mine = [each for each in stations if circuit.id in _path(draft, each.circuit)]
    return all(
        sum(each.fallback_ma * each.evses for each in mine if phase in each.phases.split()) <= room_ma
        for phase in ("L1", "L2", "L3")
    )


def _path(draft: Draft, circuit: str) -> list[str]:
    """The circuit and all above it."""
    parents = {each.id: each.parent for each in draft.circuits}
    found, at = [], parents.get(circuit)
    found.append(circuit)
    while at is not None:
        found.append(at)
        at = parents.get(at)
    return found


# --- the file -------------------------------------------------------------------------------------------------------


def written(draft: Draft) -> str:
    """The config in TOML, with what each line means."""
    blocks = [_site(draft), *(_circuit(each) for each in draft.circuits[1:])]
    blocks += [_meter(each.meter) for each in draft.circuits if each.meter is not None]
    if draft.stations:
        blocks.append(
            "# where OCPP chargers connect: ws://THIS-BOX:PORT/ocpp/ID\n"
            f"[ocpp]\nlisten = {_text(f'0.0.0.0:{draft.ocpp_port}')}\n"
        )
    blocks += [_station(each, draft.secrets_in, draft.notes.get(each.id)) for each in draft.stations]
    if draft.here:
        blocks.append('# the books, and where `depot ui` finds the controller (DEPOT_SOCKET or --socket)\n'
                      '[storage]\npath = "state"\n\n[control]\nsocket = "control.sock"\n')  # fmt: skip
    return "\n".join(blocks)


def _site(draft: Draft) -> str:
    top = draft.circuits[0]
    return "\n".join(
        (
            "# Written by `depot init`. Every change: depot check FILE, then restart the controller.",
            "[site]",
            f"name = {_text(draft.name)}",
            f"timezone = {_text(draft.timezone)}",
            *_lines(("limit", in_amps(top.limit_ma), "the fuse of the grid connection, per phase")),
            *_lines(("voltage", draft.voltage, "to neutral")),
            *_fed(top),
            "",
        )
    )


def _circuit(circuit: DraftCircuit) -> str:
    head = (f"[circuit.{_key(circuit.id)}]", f"parent = {_text(str(circuit.parent))}")
    limit = _lines(("limit", in_amps(circuit.limit_ma), "its fuse, per phase"))
    return "\n".join((*head, *limit, *_fed(circuit), ""))


def _fed(circuit: DraftCircuit) -> Iterator[str]:
    if circuit.meter is not None:
        yield from _lines(("meter", circuit.meter.id, "measures all that flows here"))
    if circuit.assumed_ma or circuit.id == SITE:
        when = "while the meter is silent" if circuit.meter is not None else "nothing measures it"
        yield from _lines(
            ("assumed_load", in_amps(circuit.assumed_ma), f"the worst that is not ours, per phase; {when}")
        )


def _meter(meter: DraftMeter) -> str:
    said = f"# {meter.said}\n" if meter.said else ""
    return f"{said}[meter.{_key(meter.id)}]\nkind = {_text(meter.kind)}\naddress = {_text(meter.address)}\n"


def _station(station: DraftStation, folder: str, note: str | None) -> str:
    alone = "what each EVSE does alone" if station.fallback_ma else "it pauses alone: more does not fit"
    evse = f'{{ max = {_text(in_amps(station.max_ma))}, min = "6 A", phases = {_text(station.phases)} }}'
    return "\n".join(
        (
            *((f"# {note}",) if note else ()),
            f"[station.{_key(station.id)}]",
            f"circuit = {_text(station.circuit)}",
            *_lines(("fallback", in_amps(station.fallback_ma), alone)),
            *(f"evse.{number} = {evse}" for number in range(1, station.evses + 1)),
            f"ocpp = {{ password_file = {_text(folder + station.secret)} }}",
            "",
        )
    )


def _lines(*rows: tuple[str, str, str]) -> Iterator[str]:
    for key, value, meaning in rows:
        yield f"{f'{key} = {_text(value)}':<30} # {meaning}"


def _key(id: str) -> str:
    return id if id.replace("-", "").replace("_", "").isalnum() and id.isascii() else _text(id)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
