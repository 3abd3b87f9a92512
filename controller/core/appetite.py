"""How much a vehicle takes, learnt from what it leaves: the planner distrusts what was declared.

Owns one number per session: the most a vehicle drew while its EVSE allowed clearly more, 0 when it takes nothing
although it may, None while the limit is what binds it (then nothing is known). It follows the vehicle: at the end of a
charge it falls. Advice for the planner only; limits never come from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.core.model import EvseId
from controller.core.session import Session

LEFT_MA = 1500  # less than this below its limit a vehicle may well be limited by it (peers: 1.5 A, 25 s)
STEADY_S = 30.0
NOTHING_MA = 500


@dataclass(slots=True)
class _Track:
    session: str
    limit_ma: int
    since_s: float
    most_ma: int = 0
    drawn_ma: int | None = None


class Appetites:
    """One track per EVSE at most."""

    def __init__(self) -> None:
        self._tracks: dict[EvseId, _Track] = {}

    def most_ma(self, session: Session) -> int | None:
        track = self._tracks.get(session.evse)
        return None if track is None or track.session != session.id else track.drawn_ma

    def sample(
        self, session: Session | None, limit_ma: int | None, highest_ma: int | None, taken_s: float
    ) -> None:
        """`limit_ma`: what the station has accepted; `highest_ma`: what flows on the phase with most."""
        if session is None or limit_ma is None or highest_ma is None:
            return
        track = self._tracks.get(session.evse)
        if track is None or track.session != session.id:
            track = self._tracks[session.evse] = _Track(session.id, limit_ma, taken_s)
        if limit_ma != track.limit_ma:
            track.limit_ma, track.since_s, track.most_ma = limit_ma, taken_s, 0
        if track.drawn_ma is not None and highest_ma > track.drawn_ma + LEFT_MA:
            track.drawn_ma = None
        if limit_ma == 0 or highest_ma > limit_ma - LEFT_MA:
            track.since_s, track.most_ma = taken_s, 0
            return
        track.most_ma = max(track.most_ma, highest_ma)
        if taken_s - track.since_s >= STEADY_S:
            track.drawn_ma = 0 if track.most_ma < NOTHING_MA else track.most_ma
            track.since_s, track.most_ma = taken_s, 0
