"""Id tokens: which a driver may charge on, and which stations keep the list for when we are gone.

Owns the book (the operators' tokens and those of the configured vehicles) and the verdict on a presented token. Its
version counts the changes and never goes back, so that a station's list can be compared with it. Must not know how a
list gets into a station. Source: OCPP 2.0.1 block C and D, 1.6 sections 4.8 and 5.15; the order of reasons is ours:
what a person forbade comes before what time or use forbid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from controller.core.commands import StoreTokens, TokenForgotten, TokenSaved
from controller.core.model import EvseId, IdToken, Moment, Site, StationId, VehicleId, Verdict, station_of

CALM_S = 3.0  # an import changes many tokens: stations get the list once it has stood still this long
AGAIN_S = 60.0  # a list that got lost on the way is sent again after this


class TokenBook:
    """Tokens by their id, without regard to case."""

    def __init__(self, site: Site) -> None:
        self.version = 0
        self._site = site
        self._tokens = self._configured()  # until the ledger has told what it knew

    def all(self) -> tuple[IdToken, ...]:
        return tuple(self._tokens[key] for key in sorted(self._tokens))

    def find(self, token: str) -> IdToken | None:
        return self._tokens.get(token.casefold())

    def vehicle_of(self, token: str | None) -> VehicleId | None:
        known = None if token is None else self.find(token)
        return self._site.vehicle_of(token) if known is None else known.vehicle

    def put(self, token: IdToken) -> tuple[TokenSaved, ...]:
        """Nothing when it is known exactly so already."""
        if self.find(token.id) == token:
            return ()
        self.version += 1
        self._tokens[token.id.casefold()] = token
        return (TokenSaved(token, self.version),)

    def remove(self, token: str) -> tuple[TokenForgotten, ...]:
        gone = self._tokens.pop(token.casefold(), None)
        if gone is None:
            return ()
        self.version += 1
        return (TokenForgotten(gone.id, self.version),)

    def restore(self, tokens: Iterable[IdToken], version: int) -> tuple[TokenSaved | TokenForgotten, ...]:
        """What the ledger knew, brought into line with the vehicles of the config: their tokens are in the book too."""
        self.version = version
        self._tokens = {token.id.casefold(): token for token in tokens}
        configured = self._configured()
        changed: list[TokenSaved | TokenForgotten] = []
        for key, token in list(self._tokens.items()):
            if token.configured and key not in configured:
                changed += self.remove(token.id)
        for key, token in configured.items():
            known = self._tokens.get(key)
            # what an operator said of a vehicle's token (blocked, a group) stays; whose it is says the config
            changed += self.put(token if known is None else replace(known, vehicle=token.vehicle))
        return tuple(changed)

    def _configured(self) -> dict[str, IdToken]:
        return {
            text.casefold(): IdToken(text, vehicle=vehicle.id, configured=True)
            for vehicle in self._site.vehicles.values()
            for text in vehicle.tokens
        }

    def verdict(
        self, token: str | None, at: StationId, charging: Mapping[EvseId, str | None], now: Moment
    ) -> Verdict:
        """For a token presented at a station while `charging` (EVSE -> token) goes on. A start without a token is the
        station's own business."""
        known = None if token is None else self.find(token)
        if token is None or (known is None and self._site.accept_unknown_tokens):
            return Verdict.ACCEPTED
        if known is None:
            return Verdict.INVALID
        if known.blocked:
            return Verdict.BLOCKED
        if known.expires is not None and now.utc_trusted and known.expires <= now.utc:
            return Verdict.EXPIRED
        if not known.concurrent and self._is_used_elsewhere(known, at, charging):
            return Verdict.CONCURRENT_TX
        return Verdict.ACCEPTED

    def _is_used_elsewhere(
        self, known: IdToken, at: StationId, charging: Mapping[EvseId, str | None]
    ) -> bool:
        """At its own station the driver presents it again to stop."""
        wanted = known.id.casefold()
        return any(
            other is not None and other.casefold() == wanted and station_of(evse) != at
            for evse, other in charging.items()
        )


@dataclass(slots=True)
class _List:
    """version: the station said yes to it. asked: the one sent last. again_s: not before then, unless there is a newer."""

    version: int = 0
    asked: int = 0
    command: str | None = None  # under way
    again_s: float = float("-inf")


class Lists:
    """What we believe of the local list in each station."""

    def __init__(self, stations: Mapping[StationId, tuple[EvseId, str]]) -> None:
        """`stations`: one of its EVSEs and its channel, for each that can keep a list."""
        self._stations = stations
        self._lists = {station: _List() for station in stations}
        self._calm_since_s = float("-inf")
        self._version = 0

    def due(
        self, book: TokenBook, connected: Collection[StationId], name: Callable[[], str], now_s: float
    ) -> list[StoreTokens]:
        """The lists to send now. A book that never had a token is nobody's business."""
        if book.version != self._version:
            self._version, self._calm_since_s = book.version, now_s
        if book.version == 0 or now_s < self._calm_since_s + CALM_S:
            return []
        commands = []
        for station, kept in self._lists.items():
            stale = kept.version != book.version and kept.command is None
            if station not in connected or not stale:
                continue
            if kept.asked == book.version and now_s < kept.again_s:
                continue
            evse, channel = self._stations[station]
            kept.command, kept.asked, kept.again_s = name(), book.version, now_s + AGAIN_S
            commands.append(StoreTokens(kept.command, evse, channel, book.version, book.all()))
        return commands

    def accepted(self, command: str) -> None:
        for kept in self._under(command):
            kept.version = kept.asked

    def refused(self, command: str) -> None:
        """It keeps no list, or not this one: asked again when the list has changed, or after its next reboot."""
        for kept in self._under(command):
            kept.again_s = float("inf")

    def lost(self, command: str) -> None:
        for _ in self._under(command):
            pass

    def rebooted(self, station: StationId) -> None:
        if station in self._lists:
            self._lists[station] = _List()

    def versions(self) -> Mapping[StationId, int]:
        """What each station has said yes to since it booted; 0 = nothing yet."""
        return {station: kept.version for station, kept in self._lists.items()}

    def _under(self, command: str) -> Iterable[_List]:
        for kept in self._lists.values():
            if kept.command == command:
                kept.command = None
                yield kept
