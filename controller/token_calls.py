"""The console's calls about id tokens: the book, its changes, and which stations have it.

Owns what a caller may say of a token and how it is checked; several tokens in one call are taken all or none. Tokens are
shown whole to operators only. Source: IdTokenType of OCPP 2.0.1 (36 characters, no case), INTERFACE section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, stored
from controller.core.events import TokenRemoved, TokenSet
from controller.core.model import IdToken, VehicleId
from controller.core.view import mask
from controller.core.wire import instant, instant_text
from controller.runtime import Runtime

MOST_AT_ONCE = 200
LONGEST_ID = 36
LONGEST_TEXT = 80
_FIELDS = frozenset({"token", "group", "expires", "blocked", "vehicle", "concurrent", "note"})


class TokenCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.table: Mapping[str, tuple[bool, Call]] = {
            "tokens": (False, self._tokens),
            "tokens-set": (True, self._set),
            "token-remove": (True, self._remove),
        }

    @takes()
    async def _tokens(self, args: Args, peer: Peer) -> Any:
        depot = self._runtime.depot
        return {
            "version": depot.tokens.version,
            "tokens": [
                {
                    "token": token.id if peer.operator else mask(token.id),
                    "group": token.group,
                    "expires": None if token.expires is None else instant_text(token.expires),
                    "blocked": token.blocked,
                    "vehicle": token.vehicle,
                    "concurrent": token.concurrent,
                    "configured": token.configured,
                    "note": token.note,
                }
                for token in depot.tokens.all()
            ],
            "stations": [
                {"id": station, "version": version} for station, version in depot.token_lists().items()
            ],
        }

    @takes("tokens")
    async def _set(self, args: Args, peer: Peer) -> Any:
        """`tokens`: a list of objects with `token` and what is known of it; what is left out stays as it is."""
        given = args.get("tokens")
        if not isinstance(given, list) or not 0 < len(given) <= MOST_AT_ONCE:
            raise Refusal("bad-request", f"tokens: a list of 1 to {MOST_AT_ONCE} is expected")
        tokens = [self._read(number, each) for number, each in enumerate(given, start=1)]
        for token in tokens:
            await stored(self._runtime, TokenSet(peer.name, token))
        return {"stored": len(tokens), "version": self._runtime.depot.tokens.version}

    @takes("token")
    async def _remove(self, args: Args, peer: Peer) -> Any:
        name = args.get("token")
        known = self._runtime.depot.tokens.find(name) if isinstance(name, str) else None
        if known is None:
            raise Refusal("unknown-token", "no such token; `depot tokens list` shows them")
        if known.configured:
            raise Refusal(
                "configured",
                f"it belongs to {known.vehicle} in the config: block it here, or take it out there",
            )
        await stored(self._runtime, TokenRemoved(peer.name, known.id))
        return {"removed": known.id, "version": self._runtime.depot.tokens.version}

    def _read(self, number: int, given: object) -> IdToken:
        def wrong(text: str) -> Refusal:
            return Refusal("bad-token", f"token {number}: {text}")

        if not isinstance(given, dict) or (unknown := set(given) - _FIELDS):
            raise wrong(
                f"known fields are {', '.join(sorted(_FIELDS))}"
                if isinstance(given, dict)
                else "not an object"
            )
        assert not unknown
        name = given.get("token")
        if not isinstance(name, str) or not 0 < len(name.strip()) <= LONGEST_ID or not name.isprintable():
            raise wrong(f"1 to {LONGEST_ID} printable characters are needed")
        name = name.strip()
        known = self._runtime.depot.tokens.find(name) or IdToken(name)
        values = {key: value for key, value in given.items() if key != "token"}
        for key in ("blocked", "concurrent"):
            if not isinstance(values.setdefault(key, getattr(known, key)), bool):
                raise wrong(f"{key} is true or false")
        for key in ("group", "note"):
            text = values.setdefault(key, getattr(known, key))
            if text is not None and (
                not isinstance(text, str) or len(text) > LONGEST_TEXT or not text.isprintable()
            ):
                raise wrong(f"{key} is text of up to {LONGEST_TEXT} characters")
        vehicle = values.get("vehicle", known.vehicle)
        if vehicle is not None and vehicle not in self._runtime.depot.site.vehicles:
            raise wrong(f"no vehicle {vehicle!r} in the config")
        if known.configured and vehicle != known.vehicle:
            raise wrong(f"the config says that it belongs to {known.vehicle}")
        expires = known.expires
        if "expires" in values:
            try:
                expires = None if values["expires"] is None else instant(values["expires"])
            except ValueError as error:
                raise wrong(f"expires: {error}") from None
        group = values["group"] or None
        if group is not None and len(group) > LONGEST_ID:
            raise wrong(f"group is at most {LONGEST_ID} characters")
        return IdToken(
            id=known.id,
            group=group,
            expires=expires,
            blocked=values["blocked"],
            vehicle=None if vehicle is None else VehicleId(vehicle),
            concurrent=values["concurrent"],
            configured=known.configured,
            note=values["note"] or "",
        )
