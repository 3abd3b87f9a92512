"""The local list of id tokens in a station: what goes into it, and how it gets there.

Owns the choice (full or differential, in pieces of a size the station takes, which tokens where not all fit) and the
order of questions. A station is told the difference only while it says that it holds the version this process gave it;
whatever else it holds is replaced as a whole. A token that was removed or blocked may still be in the station's cache,
so that is emptied first. Names no version: the words come in (`ListWords`). Source: OCPP 1.6 sections 3.5, 4.6, 5.10,
5.15, 2.0.1 part 2 sections C11 and D01-D02.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.core.commands import StoreTokens
from controller.core.model import IdToken, Moment, StationId
from drivers.errors import Nonsense, Refused
from drivers.ocpp.frames import Payload
from drivers.ocpp.settings import Policy
from drivers.ocpp.station import CallError
from drivers.ocpp.words import Ask, Order, status_of

log = logging.getLogger(__name__)

FEW = 20  # tokens per message while a station has not said how many it takes
MOST = 200  # however many it takes: a frame has an end

Send = Callable[[str, Payload], Awaitable[Payload]]  # raises DriverError
Listed = tuple[IdToken, str]  # a token and the status it is listed with


@dataclass(frozen=True, slots=True)
class Room:
    """What a station says of its list; None where it does not."""

    available: bool | None = None
    enabled: bool | None = None
    most: int | None = None  # tokens in all
    at_once: int | None = None  # tokens per message


class ListWords(Protocol):
    """Local lists in the words of one OCPP version."""

    @property
    def longest_token(self) -> int: ...

    async def room(self, ask: Ask) -> Room: ...

    async def switch_on(self, ask: Ask) -> bool: ...

    def ask_version(self) -> Order: ...

    def version_of(self, answer: Payload) -> int | None:
        """0: the list is empty; None: it keeps none."""

    def entry(self, token: IdToken, status: str) -> Payload: ...

    def removal(self, token: IdToken) -> Payload: ...

    def update(self, version: int, full: bool, entries: Sequence[Payload]) -> Order: ...


@dataclass(slots=True)
class Kept:
    """What this process knows of one station. version and listed: what it said yes to last, 0 while that is unknown.
    usable: who could be in its cache with a yes; None = anybody. failed: the version of the book it failed to store."""

    version: int = 0
    listed: tuple[Listed, ...] = ()
    usable: frozenset[str] | None = None
    failed: int = 0


def ranked(tokens: Iterable[IdToken], policy: Policy, now: Moment) -> list[Listed]:
    """The tokens of vehicles first, then the others, then those that may not charge: where not all fit, a forbidden
    token is as good as an unknown one, unless anyone may charge: then it must be known before all. Each kind in the
    order of its letters, so that the same book gives the same list."""

    def rank(listed: Listed) -> tuple[int, str]:
        token, status = listed
        if status != "Accepted":
            kind = 0 if policy == "anyone" else 3
        else:
            kind = 1 if token.vehicle is not None else 2
        return kind, token.id.casefold()

    return sorted(((token, _status(token, now)) for token in tokens), key=rank)


def _status(token: IdToken, now: Moment) -> str:
    if token.blocked:
        return "Blocked"
    expired = token.expires is not None and now.utc_trusted and token.expires <= now.utc
    return "Expired" if expired else "Accepted"


async def store(
    command: StoreTokens,
    station: StationId,
    kept: Kept,
    words: ListWords,
    send: Send,
    policy: Policy,
    now: Moment,
) -> None:
    """Returns when the station holds the list. Raises Refused when it keeps no list or not the whole one, any other
    DriverError when nobody knows what it holds."""
    listed = ranked(command.tokens, policy, now)
    await _clear_cache(station, kept, listed, send)
    ask = _forgiving(station, send)
    room = await words.room(ask)
    if room.available is False:
        raise Refused("it keeps no local list")
    if room.enabled is False and not await words.switch_on(ask):
        raise Refused("its local list is switched off and stays so")
    held = words.version_of(await send(*words.ask_version()))
    if held is None:
        raise Refused("it keeps no local list")
    short = [each for each in listed if len(each[0].id) <= words.longest_token]
    fitting = tuple(short[: room.most])
    await _Push(command.version, kept, words, send, room.at_once).bring(fitting, held)
    if len(fitting) < len(listed):
        long, over = len(listed) - len(short), len(short) - len(fitting)
        reasons = [f"{long} are longer than {words.longest_token} characters"] if long else []
        reasons += [f"{over} do not fit, it holds {room.most}"] if over else []
        raise Refused(
            f"{len(listed) - len(fitting)} of {len(listed)} id tokens left out: {', '.join(reasons)}"
        )


async def _clear_cache(station: StationId, kept: Kept, listed: Iterable[Listed], send: Send) -> None:
    """When somebody who could be in it may not charge any more; a station without a cache says no, which is as good."""
    usable = frozenset(token.id.casefold() for token, status in listed if status == "Accepted")
    if kept.usable is None or kept.usable - usable:
        await _forgiving(station, send)("ClearCache", {})
    kept.usable = usable


class _Push:
    """One list on its way into one station."""

    def __init__(self, version: int, kept: Kept, words: ListWords, send: Send, at_once: int | None) -> None:
        self._version = version
        self._kept = kept
        self._words = words
        self._send = send
        self._at_once = max(1, min(at_once or FEW, MOST))

    async def bring(self, listed: tuple[Listed, ...], held: int) -> None:
        words, kept = self._words, self._kept
        entries = [words.entry(*each) for each in listed]
        reached: int | None = None
        if 0 < kept.version == held:
            changes = self._changes(listed)
            if not changes:
                kept.listed = listed
                return
            if len(changes) < len(entries):
                reached = await self._in_pieces(changes, False, above=held)
        if reached is None:
            reached = await self._in_pieces(entries, True, above=0)
        if reached is None:  # some want a whole list to be newer than theirs too
            now_held = words.version_of(await self._send(*words.ask_version())) or 0
            reached = await self._in_pieces(entries, True, above=now_held)
        if reached is None:
            raise Refused("it takes no version of the list")
        kept.version, kept.listed = reached, listed

    def _changes(self, listed: tuple[Listed, ...]) -> list[Payload]:
        words = self._words
        old = {token.id.casefold(): words.entry(token, status) for token, status in self._kept.listed}
        names = {token.id.casefold() for token, _ in listed}
        gone = [words.removal(token) for token, _ in self._kept.listed if token.id.casefold() not in names]
        new = [words.entry(*each) for each in listed if old.get(each[0].id.casefold()) != words.entry(*each)]
        return gone + new

    async def _in_pieces(self, entries: Sequence[Payload], full: bool, above: int) -> int | None:
        """The version the station has reached; None where it wants another one. Every piece is a version of its own,
        because a difference must be newer; the last one is the book's, which has changed more often than that."""
        starts = range(0, len(entries), self._at_once) or range(1)
        version = max(1, above + 1, self._version - len(starts) + 1)
        self._kept.version = 0  # until it is through, nobody knows what is in there
        for number, first in enumerate(starts):
            piece = entries[first : first + self._at_once]
            answer = await self._send(*self._words.update(version + number, full and number == 0, piece))
            match status_of(answer).casefold():
                case "accepted":
                    pass
                case "versionmismatch":
                    return None
                case "notsupported":
                    raise Refused("it keeps no local list")
                case other:
                    self._note_failure()
                    raise Nonsense(f'the list was answered with "{other}"')
        return version + len(starts) - 1

    def _note_failure(self) -> None:
        """A second time would wear out its memory for nothing: perhaps it is full, which 2.x does not say beforehand."""
        if self._kept.failed == self._version:
            raise Refused("it failed twice to store this list")
        self._kept.failed = self._version


def _forgiving(station: StationId, send: Send) -> Ask:
    """For questions whose refusal is an answer too."""

    async def ask(action: str, payload: Payload) -> Payload | None:
        try:
            return await send(action, payload)
        except CallError as error:
            log.info("%s: %s: %s", station, action, error)
            return None

    return ask
