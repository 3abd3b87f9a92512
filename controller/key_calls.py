"""The console's calls about the keys of stations: a new password, a new certificate.

Owns what a caller may ask and how a failure is told. Must not see a password: it is made, sent and kept where the
stations are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text
from controller.core.model import StationId
from drivers.errors import DriverError, Unreachable


class Locksmith(Protocol):
    """All raise DriverError; what is returned is what the station said."""

    async def change_password(self, station: StationId, by: str) -> str: ...

    async def forget_password(self, station: StationId, by: str) -> None: ...

    async def renew_certificate(self, station: StationId, by: str) -> str: ...


class KeyCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, locksmith: Locksmith | None) -> None:
        self._locksmith = locksmith
        self.table: Mapping[str, tuple[bool, Call]] = {
            "station-password": (True, self._password),
            "station-certificate": (True, self._certificate),
        }

    async def _password(self, args: Args, peer: Peer) -> Any:
        """`forget`: back to the password of the config, without telling the station."""
        station, locksmith = self._meant(args)
        try:
            if args.get("forget") is True:
                await locksmith.forget_password(station, peer.name)
                return {"station": station, "said": None}
            return {"station": station, "said": await locksmith.change_password(station, peer.name)}
        except Unreachable as error:
            text = f"{station}: {error}; if it got a new password all the same, that opens too from now on"
            raise Refusal("unreachable", text) from None
        except DriverError as error:
            raise Refusal("refused", str(error)) from None

    async def _certificate(self, args: Args, peer: Peer) -> Any:
        station, locksmith = self._meant(args)
        try:
            return {"station": station, "said": await locksmith.renew_certificate(station, peer.name)}
        except DriverError as error:
            raise Refusal("refused", str(error)) from None

    def _meant(self, args: Args) -> tuple[StationId, Locksmith]:
        if self._locksmith is None:
            raise Refusal("refused", "there is no [ocpp] in the config")
        return StationId(_text(args, "station") or ""), self._locksmith
