"""What goes wrong again and again: links that come and go, the same fault at several stations. Bounded memory.

Owns the counts behind the alarms that no single fact justifies; the supervisor asks it once per step. Must not decide
what an alarm weighs. Codes and limits: Open Platform REFERENCE section 18 (F-0301, F-0302) and runbook 19.1 step 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controller.core.model import StationId

STORM_LINKS = 5  # more often than this within `STORM_S` is a reconnect storm
STORM_S = 600.0
CLUSTER_S = 7 * 86_400.0
CLUSTER_STATIONS = 3  # so many stations with one code are one story
CLUSTER_ALIKE = 2  # of the same firmware so many are enough
CODES_KEPT = 200
_LINKS_KEPT = 4 * STORM_LINKS
# say nothing about what broke, so several of them are no story
_SAYS_NOTHING = frozenset({"", "fault", "NoError", "OtherError"})


class Storm(NamedTuple):
    station: StationId
    channel: str
    links: int


class Silence(NamedTuple):
    """A link that was there and is gone."""

    station: StationId
    channel: str
    since_s: float
    reason: str


class Cluster(NamedTuple):
    """One fault code at several stations, each with the firmware it had then ("" = unknown)."""

    code: str
    stations: Mapping[StationId, str]


class Trouble:
    def __init__(self) -> None:
        self._links: dict[StationId, deque[tuple[float, str]]] = {}
        self._silent: dict[tuple[StationId, str], Silence] = {}
        self._codes: dict[str, dict[StationId, tuple[float, str]]] = {}

    # --- facts; the caller names only stations of the site --------------------------------------------------------

    def link_up(self, station: StationId, channel: str, now_s: float) -> None:
        self._links.setdefault(station, deque(maxlen=_LINKS_KEPT)).append((now_s, channel))
        self._silent.pop((station, channel), None)

    def link_down(self, station: StationId, channel: str, reason: str, now_s: float) -> None:
        self._silent[station, channel] = Silence(station, channel, now_s, reason)

    def fault(self, station: StationId, code: str, firmware: str, now_s: float) -> None:
        if code in _SAYS_NOTHING:
            return
        seen = self._codes.pop(code, {})  # the code that is told again is the newest
        self._codes[code] = {**seen, station: (now_s, firmware)}
        if len(self._codes) > CODES_KEPT:
            del self._codes[next(iter(self._codes))]

    # --- questions ------------------------------------------------------------------------------------------------

    def storms(self, now_s: float) -> Iterator[Storm]:
        for station, links in self._links.items():
            while links and links[0][0] < now_s - STORM_S:
                links.popleft()
            if len(links) > STORM_LINKS:
                yield Storm(station, links[-1][1], len(links))

    def silences(self) -> Iterator[Silence]:
        yield from self._silent.values()

    def clusters(self, now_s: float) -> Iterator[Cluster]:
        for code, seen in self._codes.items():
            if len(seen) < CLUSTER_ALIKE:
                continue
            lately = {station: build for station, (at_s, build) in seen.items() if at_s >= now_s - CLUSTER_S}
            builds = [build for build in lately.values() if build]
            alike = {build for build in builds if builds.count(build) >= CLUSTER_ALIKE}
            if len(lately) >= CLUSTER_STATIONS:
                yield Cluster(code, lately)
            elif alike:
                yield Cluster(code, {s: build for s, build in lately.items() if build in alike})
