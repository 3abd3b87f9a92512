"""The evidence of a step (controller.core.proof) as rows of the journal, and rows as evidence again.

Owns what stands in a row; the words are in controller.journal_read. Pure, and written for the thread that writes the
journal: per step only what changed is turned into plain values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from controller.core.allocator import Demand, Quota
from controller.core.background import Assumed, Sight
from controller.core.bounds import Bound
from controller.core.events import MeterReading
from controller.core.grid import Grid
from controller.core.model import (
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    Link,
    MeterId,
    Moment,
    PerPhase,
    Site,
    StationId,
)
from controller.core.proof import Booked, Proof, Rooms
from controller.core.share import METER_MARGIN_PCT
from controller.journal_read import VERSION

Plain = dict[str, Any]


def site_row(site: Site, boot: str, config: str) -> Plain:
    """What does not change while a process runs. `config`: the hash of the file it came from."""
    return {
        "journal": VERSION,
        "boot": boot,
        "config": config,
        "name": site.name,
        "timezone": site.timezone,
        "voltage_mv": site.voltage_mv,
        "margin_pct": METER_MARGIN_PCT,
        "circuits": {
            circuit.id: {
                "parent": circuit.parent,
                "limit": circuit.limit_ma,
                "meter": circuit.meter,
                "assumed": circuit.assumed_load_ma,
            }
            for circuit in site.circuits.values()
        },
        "evses": {
            evse.id: {
                "station": evse.station,
                "circuit": evse.circuit,
                "phases": evse.phases,
                "max": evse.max_ma,
                "min": evse.min_ma,
                "step": evse.step_ma,
                "fallback": evse.fallback_ma,
                "link": asdict(evse.link),
            }
            for evse in site.evses.values()
        },
    }


class Rows:
    """Turns the proofs of one block into lines, each against the one before."""

    def __init__(self) -> None:
        self._before: dict[str, Mapping[Any, Any]] = {name: {} for name in _CODERS}
        self._scalars: Plain = {}

    def line(self, proof: Proof) -> str:
        row: Plain = {"t": _s(proof.at.mono_s), "u": round(proof.at.utc.timestamp() * 1000)}
        for name, table in _tables(proof).items():
            known, code = self._before[name], _CODERS[name]
            changed = {key: code(value) for key, value in table.items() if known.get(key) != value}
            changed.update({key: None for key in known if key not in table})
            if changed:
                row[name] = changed
            self._before[name] = table
        scalars = {
            "x": proof.at.utc_trusted,
            "b": [[b.circuit, b.lower_ma, b.raise_ma, b.why] for b in proof.rooms.bounds],
            "q": [
                [[sorted(q.members), q.room_ma, q.why] for q in quotas]
                for quotas in (proof.rooms.lower_quotas, proof.rooms.raise_quotas)
            ],
            "p": {
                evse: sorted({proof.grid.resources[r][1] for r in uses})
                for evse, uses in proof.rooms.fewer.items()
            },
            "s": sorted(proof.rooms.one_phase),
        }
        row |= {name: value for name, value in scalars.items() if self._scalars.get(name) != value}
        self._scalars = scalars
        if proof.writes:
            row["w"] = [[w.evse, w.id, w.limit_ma, w.raises, *_told(w.phases)] for w in proof.writes]
        if proof.heard:
            row["h"] = [[what, whose, _s(at_s)] for what, whose, at_s in proof.heard]
        return json.dumps(row, separators=(",", ":"))


def _tables(proof: Proof) -> dict[str, Mapping[Any, Any]]:
    rooms, before = proof.rooms, proof.before_ma
    return {
        "c": proof.assumed,
        "m": proof.readings,
        "r": dict(enumerate(zip(rooms.lower_ma, rooms.raise_ma, rooms.away_ma, strict=True))),
        "e": proof.books,
        "d": {demand.evse: demand for demand in proof.demands},
        "g": {evse: (*grant, before.get(evse, 0)) for evse, grant in proof.grants.items()},
    }


def _assumed(load: Assumed) -> list[int]:
    return [*load.lower_ma, *load.raise_ma, int(load.sight)]


def _reading(reading: MeterReading | None) -> list[Any]:
    return [None, None, None, None] if reading is None else [*reading.current_ma, _s(reading.taken_s)]


def _booked(book: Booked) -> list[Any]:
    return [
        *book[:4],
        _s(book.accepted_until_s),
        [[s.command, s.limit_ma, _s(s.sent_s), _s(s.until_s), *_told(s.phases)] for s in book.sent],
        [[h.current_ma, _s(h.until_s), h.firm, _s(h.sent_s), *_told(h.phases)] for h in book.holds],
        book.overdraw_ma,
        _s(book.overdraw_until_s),
        book.refusals,
        *_told(book.accepted_phases),
    ]


def _told(phases: int | None) -> list[int]:
    """As wired is not written down."""
    return [] if phases is None else [phases]


def _demand(demand: Demand) -> list[Any]:
    return list(demand[1:])


_ASKED = Demand._fields[1:]  # all but the EVSE
_CODERS: Mapping[str, Callable[[Any], Any]] = {
    "c": _assumed,
    "m": _reading,
    "r": list,
    "e": _booked,
    "d": _demand,
    "g": list,
}


def _s(at_s: float) -> float | None:
    """In milliseconds; what never was is null."""
    return None if at_s == float("-inf") else round(at_s, 3)


# --- and back: for `depot why --at` -------------------------------------------------------------------------------


def site_of(row: Plain) -> Site:
    """The site as far as limits go."""
    circuits = {
        CircuitId(id): Circuit(
            CircuitId(id),
            None if each["parent"] is None else CircuitId(each["parent"]),
            PerPhase(*each["limit"]),
            None if each["meter"] is None else MeterId(each["meter"]),
            None if each["assumed"] is None else PerPhase(*each["assumed"]),
        )
        for id, each in row["circuits"].items()
    }
    evses = {
        EvseId(id): Evse(
            EvseId(id),
            StationId(each["station"]),
            CircuitId(each["circuit"]),
            each["max"],
            each["min"],
            tuple(each["phases"]),
            each["fallback"],
            Link(**each["link"]),
            each["step"],
        )
        for id, each in row["evses"].items()
    }
    return Site(row["name"], row["timezone"], row["voltage_mv"], circuits, evses)


def proof_of(site_row: Plain, row: Plain) -> Proof:
    """The evidence as far as it explains grants: the books stay in the row."""
    site = site_of(site_row)
    grid = Grid.of(site)
    rooms = [row["r"][str(n)] for n in range(len(grid.resources))]
    lower, raising, away = (tuple(room[n] for room in rooms) for n in range(3))
    bounds = tuple(
        Bound(CircuitId(c), PerPhase(*low), PerPhase(*high), why) for c, low, high, why in row["b"]
    )
    lower_quotas, raise_quotas = (
        tuple(Quota(frozenset(map(EvseId, m)), room, why) for m, room, why in each) for each in row["q"]
    )
    fewer = {
        EvseId(evse): tuple(r for r in grid.uses[EvseId(evse)] if grid.resources[r][1] in phases)
        for evse, phases in row["p"].items()
    }
    one_phase = frozenset(map(EvseId, row.get("s", ())))
    assumed = {
        CircuitId(c): Assumed(PerPhase(*load[:3]), PerPhase(*load[3:6]), Sight(load[6]))
        for c, load in row["c"].items()
    }
    return Proof(
        at=Moment(row["t"], datetime.fromtimestamp(row["u"] / 1000, UTC), row["x"]),
        boot=site_row["boot"],
        site=site,
        grid=grid,
        assumed=assumed,
        readings={},
        rooms=Rooms(lower, raising, away, bounds, lower_quotas, raise_quotas, fewer, one_phase),
        demands=tuple(_demand_of(EvseId(evse), values) for evse, values in row["d"].items()),
        before_ma={EvseId(evse): values[3] for evse, values in row["g"].items()},
        grants={EvseId(evse): tuple(values[:3]) for evse, values in row["g"].items()},
        books={},
        writes=(),
        heard=(),
        short=False,
    )


def _demand_of(evse: EvseId, values: Sequence[Any]) -> Demand:
    asked = dict(zip(_ASKED, values, strict=True))
    asked["uses"] = None if asked["uses"] is None else tuple(asked["uses"])
    asked["caps"] = tuple((ma, why) for ma, why in asked["caps"])
    return Demand(evse, **asked)
