"""The console's calls about sessions: what the books have of them, their signed meter values, what changed since somebody
looked last; and what is forgotten of a driver.

Owns how id tokens leave the box: as they are to operators who ask for that, else as an alias (controller.pseudonyms). Sums
and pages are the caller's business.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

from controller import session_store
from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _time, _whole, stored
from controller.core.events import TokenErased
from controller.core.model import station_of
from controller.core.session import entry_of
from controller.core.view import mask
from controller.ledger import LedgerError
from controller.pseudonyms import Pseudonyms, is_alias
from controller.runtime import Runtime
from controller.session_store import Wanted, document
from controller.storage import LEDGER, Storage

PAGE = 1000  # sessions in one answer: some 80 ms of the storage thread, which has commits to make
SIGNED_PAGE = 100

T = TypeVar("T")
Shown = Literal["plain", "hashed", "masked"]


class SessionCalls:
    """`table` is for `Console`."""

    def __init__(self, runtime: Runtime, storage: Storage) -> None:
        self._runtime = runtime
        self._storage = storage
        self._pseudonyms = Pseudonyms(storage.folder)
        self.table: Mapping[str, tuple[bool, Call]] = {
            "sessions": (False, self._sessions),
            "sessions-changed": (False, self._changed),
            "sessions-signed": (False, self._signed),
            "records": (False, self._records),
            "token-forget": (True, self._forget),
        }

    @takes("since until evse vehicle token tokens skip")
    async def _sessions(self, args: Args, peer: Peer) -> Any:
        """A page of them, beginning with the one numbered `skip`; `more` says whether another page follows. A running one as
        it is now: the books are some minutes behind. Narrowed by `evse` (or its station), `vehicle`, `token` (or its
        alias). `tokens`: "plain" for operators, "hashed", "masked"; left out: plain where the caller may see them."""
        shown = _shown(args, peer, "plain" if peer.operator else "masked")
        rows = await self._page(args, peer, PAGE)
        return {"sessions": [self._as_told(row, shown) for row in rows[:PAGE]], "more": len(rows) > PAGE}

    @takes("after tokens")
    async def _changed(self, args: Args, peer: Peer) -> Any:
        """Those that changed after revision `after`, in the order of their changes; `more` says whether to ask again, after
        the revision of the last one. As the books have them: what is told here may be kept elsewhere. `tokens` as in
        `sessions`, "hashed" when left out."""
        after, shown = _whole(args, "after", most=2**62) or 0, _shown(args, peer, "hashed")
        await self._ready()
        rows = await self._read(lambda db: session_store.changed(db, after, PAGE + 1))
        return {"sessions": [self._as_told(row, shown) for row in rows[:PAGE]], "more": len(rows) > PAGE}

    @takes("since until evse vehicle token tokens skip")
    async def _signed(self, args: Args, peer: Peer) -> Any:
        """The sessions that `sessions` would show and that have signed meter values, with these (`signed`)."""
        shown = _shown(args, peer, "plain" if peer.operator else "masked")
        rows = await self._page(args, peer, SIGNED_PAGE, signed=True)
        told = []
        for row in rows[:SIGNED_PAGE]:
            read = partial(
                session_store.signed, station=station_of(row["evse"]), transaction=row["transaction"]
            )
            told.append({**self._as_told(row, shown), "signed": await self._read(read)})
        return {"sessions": told, "more": len(rows) > SIGNED_PAGE}

    @takes("since until evse skip")
    async def _records(self, args: Args, peer: Peer) -> Any:
        """A page of the chargers' own records of a time; one that fits no session of ours has none."""
        wanted, skip = Wanted(*_span(args), evse=_text(args, "evse")), _whole(args, "skip") or 0
        rows = await self._read(lambda db: session_store.records(db, wanted, skip, PAGE + 1))
        return {"records": rows[:PAGE], "more": len(rows) > PAGE}

    @takes("token")
    async def _forget(self, args: Args, peer: Peer) -> Any:
        """`token` is out of the book, and an alias stands in its place in all sessions."""
        token, depot = (_text(args, "token") or "").strip(), self._runtime.depot
        if not token or is_alias(token):
            raise Refusal("bad-request", "token is missing")
        known = depot.tokens.find(token)
        if known is not None and known.configured:
            raise Refusal(
                "configured",
                f"it belongs to {known.vehicle} in the config: take it out there, then forget it",
            )
        for evse in depot.site.evses:
            if (depot.token(evse) or "").casefold() == token.casefold():
                raise Refusal("charging", f"it charges at {evse}: forget it once that has ended")
        await self._ready()
        alias = self._pseudonyms.alias(token)
        assert alias is not None
        await stored(self._runtime, TokenErased(peer.name, token, alias))
        count = await self._read(lambda db: session_store.count_of(db, alias))
        await self._read(session_store.put_in_place)
        return {"alias": alias, "sessions": count, "was_known": known is not None}

    async def _page(self, args: Args, peer: Peer, most: int, signed: bool = False) -> list[dict[str, Any]]:
        """Sessions as they are now, with their tokens, and one more than fits if there is one."""
        token, skip = _text(args, "token"), _whole(args, "skip") or 0
        if token is not None and not (peer.operator or is_alias(token)):
            raise Refusal("not-allowed", "who has charged with an id token is for operators; name its alias")
        wanted = Wanted(*_span(args), evse=_text(args, "evse"), vehicle=_text(args, "vehicle"), signed=signed)
        await self._ready()
        alias = self._pseudonyms.alias(token)

        def page(db: sqlite3.Connection) -> list[dict[str, Any]]:
            if alias is None:
                return session_store.lasting(db, wanted, skip, most + 1)
            same = [each for each in session_store.tokens(db) if self._pseudonyms.alias(each) == alias]
            return session_store.lasting(db, replace(wanted, tokens=tuple(same)), skip, most + 1)

        return [self._lively(row) for row in await self._read(page)]

    async def _ready(self) -> None:
        try:
            await self._pseudonyms.ready()
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._storage.read(LEDGER, work)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None

    def _as_told(self, row: dict[str, Any], shown: Shown) -> dict[str, Any]:
        token = row["token"]
        match shown:
            case "plain":
                return row
            case "hashed":
                return {**row, "token": self._pseudonyms.alias(token)}
            case "masked":
                return {**row, "token": token if token is None or is_alias(token) else mask(token)}

    def _lively(self, row: dict[str, Any]) -> dict[str, Any]:
        session = None if row["ended"] is not None else self._runtime.depot.session(row["evse"])
        return row if session is None or session.id != row["id"] else {**row, **document(entry_of(session))}


def _span(args: Args) -> tuple[str, str]:
    since, until = _time(args, "since"), _time(args, "until")
    return (
        "" if since is None else session_store.text_of(since),
        "~" if until is None else session_store.text_of(until),
    )


def _shown(args: Args, peer: Peer, unasked: Shown) -> Shown:
    match _text(args, "tokens"):
        case None:
            return unasked
        case "plain" if not peer.operator:
            raise Refusal("not-allowed", "whole id tokens are for operators; leave it out for aliases")
        case "plain":
            return "plain"
        case "hashed":
            return "hashed"
        case "masked":
            return "masked"
        case other:
            raise Refusal("bad-request", f'tokens: "{other}" is not one of plain, hashed, masked')
