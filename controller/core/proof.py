"""Why a step was allowed: everything that it rested on, as it was when it was decided.

Owns the shape of the evidence; the shell writes it down (controller.journal), a checker that shares no code with us judges
it (controller.checker), and `controller.core.why` asks it what bound an EVSE. Judges nothing itself and changes nothing.
It is made in every step, so it is made of references and small tuples; what can be worked out later is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.core.allocator import Demand, Quota
from controller.core.background import Assumed
from controller.core.bounds import Bound
from controller.core.commands import Command, SetLimit
from controller.core.commitments import Account, Hold, Sent
from controller.core.events import MeterReading
from controller.core.grid import Grid
from controller.core.model import CircuitId, EvseId, Moment, Site
from controller.core.state import State


class Booked(NamedTuple):
    """The commitments of one EVSE, one by one, with when each ends."""

    fallback_ma: int | None  # None: not proven to be stored
    alone: bool
    proven: bool
    accepted_ma: int | None
    accepted_until_s: float
    sent: tuple[Sent, ...]
    holds: tuple[Hold, ...]
    overdraw_ma: int
    overdraw_until_s: float
    refusals: int
    accepted_phases: int | None = None


@dataclass(frozen=True, slots=True)
class Rooms:
    """Per resource, before bounds: limit minus background for lowering and for raising; and what EVSEs may draw that are
    out of reach. bounds, quotas: what narrows them beside the circuits' limits. fewer: the resources of EVSEs whose vehicle
    loads fewer than the EVSE is wired to. one_phase: those that are granted their first conductor alone."""

    lower_ma: tuple[int, ...]
    raise_ma: tuple[int, ...]
    away_ma: tuple[int, ...]
    bounds: tuple[Bound, ...]
    lower_quotas: tuple[Quota, ...] = ()
    raise_quotas: tuple[Quota, ...] = ()
    fewer: Mapping[EvseId, tuple[int, ...]] = field(default_factory=dict)
    one_phase: frozenset[EvseId] = frozenset()


@dataclass(frozen=True, slots=True)
class Proof:
    """assumed: per circuit with a meter. heard: what became of commands and transactions since the step before, as
    (what, command or EVSE, when). before_ma: the grants of the step before, of the EVSEs within reach. grants: current,
    what bound it, whether it takes limits. short: somewhere the commitments do not fit, whoever is to blame."""

    at: Moment
    boot: str
    site: Site
    grid: Grid
    assumed: Mapping[CircuitId, Assumed]
    readings: Mapping[CircuitId, MeterReading | None]
    rooms: Rooms
    demands: tuple[Demand, ...]
    before_ma: Mapping[EvseId, int]
    grants: Mapping[EvseId, tuple[int, str, bool]]
    books: Mapping[EvseId, Booked]
    writes: tuple[SetLimit, ...]
    heard: tuple[tuple[str, str, float], ...]
    short: bool


def proof(
    state: State,
    now: Moment,
    assumed: Mapping[CircuitId, Assumed],
    rooms: Rooms,
    demands: Sequence[Demand],
    before_ma: Mapping[EvseId, int],
    served: frozenset[EvseId],
    commands: Sequence[Command],
    committed_ma: Sequence[int],
) -> Proof:
    """Of a step that is decided: the books hold what was just sent."""
    heard = tuple(state.heard)
    state.heard.clear()
    meters, circuits = state.belief.meters, state.site.circuits
    return Proof(
        at=now,
        boot=state.boot,
        site=state.site,
        grid=state.grid,
        assumed=assumed,
        readings={id: meters[meter].reading for id in assumed if (meter := circuits[id].meter) is not None},
        rooms=rooms,
        demands=tuple(demands),
        before_ma=before_ma,
        grants={id: (m.grant_ma, m.bound_by, id in served) for id, m in state.memory.items()},
        books={id: _booked(account) for id, account in state.commitments.accounts.items()},
        writes=tuple([command for command in commands if isinstance(command, SetLimit)]),
        heard=heard,
        short=any(need > room for need, room in zip(committed_ma, rooms.lower_ma, strict=True)),
    )


def _booked(account: Account) -> Booked:
    return Booked(
        account.fallback_ma,
        account.alone,
        account.proven,
        account.accepted_ma,
        account.accepted_until_s,
        tuple(account.sent),
        tuple(account.holds),
        account.overdraw_ma,
        account.overdraw_until_s,
        account.refusals,
        account.accepted_phases,
    )
