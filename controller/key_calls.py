"""The console's calls about the keys of stations: a new password, a new certificate.

Owns what a caller may ask, how a failure is told, and that each is audited with its outcome. Must not see a password: it
is made, sent and kept where the stations are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text
from controller.core.events import StationAsked
from controller.core.model import StationId
from drivers.errors import DriverError, Unreachable

LONGEST = 200  # of an outcome in the audit


class Locksmith(Protocol):
    """All raise DriverError; what is returned is what the station said."""

    async def change_password(self, station: StationId, by: str) -> str: ...

    async def forget_password(self, station: StationId, by: str) -> None: ...

    async def renew_certificate(self, station: StationId, by: str) -> str: ...


class KeyCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(
        self, locksmith: Locksmith | None, report: Callable[[StationAsked], Awaitable[object]]
    ) -> None:
        self._locksmith = locksmith
        self._report = report
        self.table: Mapping[str, tuple[bool, Call]] = {
            "station-password": (True, self._password),
            "station-certificate": (True, self._certificate),
        }

    @takes("station forget")
    async def _password(self, args: Args, peer: Peer) -> Any:
        """`forget`: back to the password of the config, without telling the station."""
        station, locksmith = self._meant(args)
        try:
            if args.get("forget") is True:
                await self._audited(
                    peer, station, "password forget", locksmith.forget_password(station, peer.name)
                )
                return {"station": station, "said": None}
            asked = locksmith.change_password(station, peer.name)
            return {"station": station, "said": await self._audited(peer, station, "password", asked)}
        except Unreachable as error:
            text = f"{station}: {error}; if it got a new password all the same, that opens too from now on"
            raise Refusal("unreachable", text) from None
        except DriverError as error:
            raise Refusal("refused", str(error)) from None

    @takes("station")
    async def _certificate(self, args: Args, peer: Peer) -> Any:
        station, locksmith = self._meant(args)
        try:
            asked = locksmith.renew_certificate(station, peer.name)
            return {"station": station, "said": await self._audited(peer, station, "certificate", asked)}
        except DriverError as error:
            raise Refusal("refused", str(error)) from None

    async def _audited(
        self, peer: Peer, station: StationId, what: str, asked: Coroutine[Any, Any, str | None]
    ) -> str | None:
        outcome = "broken off"
        try:
            said = await asked
            outcome = "done" if said is None else said
            return said
        except DriverError as error:
            outcome = f"{error.kind}: {error}"
            raise
        finally:
            await self._report(StationAsked(peer.name, StationId(station[:64]), what, outcome[:LONGEST]))

    def _meant(self, args: Args) -> tuple[StationId, Locksmith]:
        if self._locksmith is None:
            raise Refusal("refused", "there is no [ocpp] in the config")
        return StationId(_text(args, "station") or ""), self._locksmith
