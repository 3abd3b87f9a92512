"""Imbalance: the difference between two phases at the grid connection that the contract allows ([site] max_imbalance).

|I_a - I_b| <= d cannot be filled as it stands: taking current away from one phase may break it. So what we grant on a
phase counts in full, and against it the other phases count only with what flows there anyway: their background, and
what our EVSEs there were seen drawing. That is a plain sum with a limit, one per phase (`Quota`), which the allocator
keeps exactly, fairly and without waste; as vehicles begin to draw, the room on the other phases follows. EVSEs that
load all three phases alike cancel out.

It is a contract measured over minutes, no fuse: grants keep it, and commitments (what stations may do alone) do not
count but for stations out of reach. Where the load that is not ours breaks it by itself, we add nothing on the phase
that leads. Source: VDE-AR-N 4100 (4.6 kVA), scheduling reference section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controller.core.allocator import Quota
from controller.core.background import Assumed, Sight
from controller.core.belief import EvseBelief
from controller.core.grid import PHASE_NAMES
from controller.core.model import SITE, CircuitId, EvseId
from controller.core.state import State

_NONE = (0, 0, 0)

Phases = Sequence[int]


def imbalance(
    state: State,
    assumed: Mapping[CircuitId, Assumed],
    fewer: Mapping[EvseId, tuple[int, ...]],
    away: Iterable[tuple[EvseId, int]],
    now_s: float,
) -> tuple[tuple[Quota, ...], tuple[Quota, ...]]:
    """Quotas for lowering and for raising; none without a limit. `fewer`: phases in use, as `Usage.fewer`; `away`: what
    EVSEs out of reach may draw."""
    most_ma = state.site.max_imbalance_ma
    if most_ma is None:
        return (), ()
    loaded, members = state.usage.uneven(fewer)
    ours_ma = [list(_NONE), list(_NONE)]  # the most and the least drawn of late, per phase
    for evse, phases in loaded.items():
        seen = state.belief.evses[evse]
        grant_ma = state.memory[evse].grant_ma
        if grant_ma and seen.fresh(now_s) is not None:
            for phase in phases:
                least, most = _seen_ma(seen, phase)
                ours_ma[0][phase] += min(most, grant_ma)
                ours_ma[1][phase] += min(least, grant_ma)
    away_ma = list(_NONE)
    for evse, current_ma in away:
        for phase in loaded.get(evse, ()):
            away_ma[phase] += current_ma
    lower, raising = (
        tuple(
            Quota(
                members[p],
                most_ma + min(base[q] + ours[q] for q in range(3) if q != p) - load[p] - away_ma[p],
                f"imbalance {PHASE_NAMES[p]}",
            )
            for p in range(3)
            if members[p]
        )
        for ours, (base, load) in zip(ours_ma, _background(state, assumed, now_s), strict=True)
    )
    return lower, raising


def _seen_ma(seen: EvseBelief, phase: int) -> tuple[int, int]:
    """The least and the most it drew on this phase of late; never below nothing."""
    least = most = None
    for _, current in seen.recent:
        value = current[phase]
        if value is None:
            continue
        least = value if least is None or value < least else least
        most = value if most is None or value > most else most
    return max(0, least or 0), max(0, most or 0)


def _background(
    state: State, assumed: Mapping[CircuitId, Assumed], now_s: float
) -> tuple[tuple[Phases, Phases], tuple[Phases, Phases]]:
    """What flows on each phase that is not ours, at least and at most: as it is now, and over the last half minute."""
    track, load = state.belief.backgrounds.get(SITE), assumed.get(SITE)
    if track is None or load is None:
        return (_NONE, _NONE), (_NONE, _NONE)  # unmeasured, nobody knows more than our own part
    estimate = [value or 0 for value in track.estimate_ma()]
    if load.sight is not Sight.CLEAR:  # what is assumed then is meant for fuses
        return (estimate, estimate), (estimate, estimate)
    return (estimate, load.lower_ma), (track.least_ma(now_s), load.raise_ma)
