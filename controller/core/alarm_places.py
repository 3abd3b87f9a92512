"""Where alarms belong: which alarm makes another one needless, and which ones are about the same corner of the site.

Owns the relations between kinds and sources, worked out from the config alone. Must not know what state an alarm is in.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.core.model import Circuit, Evse, EvseId, Site, family_of

Key = tuple[str, str]  # kind, source

# what a station that is out of reach cannot be blamed for; what it had said before (faults) stays
_OFFLINE_EXPLAINS = frozenset({"asleep", "stuck", "refuses", "fallback", "unproven", "rotation", "offline"})
_SILENT = " F-0301"


class Places:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._stations: dict[str, list[Evse]] = {}
        for evse in site.evses.values():
            self._stations.setdefault(evse.station, []).append(evse)

    def parents(self, kind: str, source: str) -> tuple[Key, ...]:
        """Alarms that explain this one, so that nobody need be told of it beside them."""
        return tuple(self._parents(kind, source))

    def _parents(self, kind: str, source: str) -> Iterator[Key]:
        evses = self._evses(source)
        if kind == "offline" or (kind == "fault-code" and source.endswith(_SILENT)):
            for channel in dict.fromkeys(family_of(evse.link.channel) for evse in evses):
                yield "channel", channel
        if kind in _OFFLINE_EXPLAINS:
            for station in dict.fromkeys(evse.station for evse in evses):
                yield from (
                    ("offline", evse.id)
                    for evse in self._stations[station]
                    if (kind, source) != ("offline", evse.id)
                )
        if kind == "trip-margin":
            yield from (("meter", own.meter) for own in list(self._path(source))[:1] if own.meter is not None)
        if kind == "failsafe":
            for above in self._path(source):
                if above.id != source:
                    yield "failsafe", above.id
                if above.meter is not None:
                    yield "meter", above.meter

    def owners(self, source: str) -> tuple[str, ...]:
        """The source and what it is a part of, as people name it: taken out of service, these take it along."""
        bare = source.partition(" ")[0]
        stations = (evse.station for evse in self._evses(bare))
        return tuple(dict.fromkeys((source, bare, *stations)))

    def known(self, source: str) -> bool:
        """Whether the site has a thing of this name that alarms can be about."""
        site = self._site
        named = {each.id for each in site.batteries} | {each.id for each in site.grid_limits}
        things = (site.evses, self._stations, site.circuits, site.meters, named, self._channels())
        return any(source in names for names in things)

    def related(self, one: str, other: str) -> bool:
        """Whether one of them lies on the way of the other to the grid connection."""
        first, second = self._way(one), self._way(other)
        return first[0] in second or second[0] in first

    def _way(self, source: str) -> tuple[str, ...]:
        evses = self._evses(source)
        if evses:
            evse = evses[0]
            bare = source.partition(" ")[0]
            circuits = (circuit.id for circuit in self._site.path(evse.circuit))
            return (bare, evse.station, family_of(evse.link.channel), *circuits)
        for circuit in self._site.circuits.values():
            if source in (circuit.id, circuit.meter):
                return tuple(above.id for above in self._path(circuit.id))
        return (source,)

    def _path(self, circuit: str) -> Iterator[Circuit]:
        node = next((each for each in self._site.circuits.values() if each.id == circuit), None)
        return iter(()) if node is None else self._site.path(node.id)

    def _evses(self, source: str) -> list[Evse]:
        bare = source.partition(" ")[0]
        evse = self._site.evses.get(EvseId(bare))
        return [evse] if evse is not None else self._stations.get(bare, [])

    def _channels(self) -> set[str]:
        names = {each.companion for each in self._site.evses.values() if each.companion}
        return names | {family_of(each.link.channel) for each in self._site.evses.values()}
