"""What a proof on site (`depot qualify`) does to a station besides limits: restart it, cut it off, begin again, ask for values.

Owns the words of each OCPP version for that. Must not send a limit: those come from the depot, or from the station's own
memory, which is what is proven. Source: OCPP 1.6 sections 5.11, 5.14 and 5.17; 2.0.1 part 2 sections B11, E02 and F06;
a soft reset is what stations survive best, an immediate one what 2.x offers while a transaction runs.
"""

from __future__ import annotations

from zlib import crc32

from controller.core.model import Evse, StationId, number_of
from drivers.errors import DriverError, Refused, Unreachable
from drivers.ocpp.server import OcppServer
from drivers.ocpp.words import status_of

ANSWER_S = 15.0


class Proving:
    """Satisfies `controller.qualify_scene.Prover`. Raises DriverError where the station does not do as it is asked."""

    def __init__(self, server: OcppServer) -> None:
        self._server = server

    async def reset(self, station: StationId) -> None:
        await self._ask(station, "Reset", {"type": "Soft" if self._is_16(station) else "Immediate"})

    async def begin(self, evse: Evse, token: str) -> None:
        """Begins a transaction as if the driver had come back with that token; no limit comes with it."""
        number = number_of(evse.id)
        if self._is_16(evse.station):
            await self._ask(evse.station, "RemoteStartTransaction", {"connectorId": number, "idTag": token})
            return
        name = {"idToken": token, "type": "Central"}
        request = {"evseId": number, "remoteStartId": crc32(token.encode()) & 0x7FFFFFFF, "idToken": name}
        await self._ask(evse.station, "RequestStartTransaction", request)

    async def ask_for_values(self, evse: Evse) -> bool:
        """False where the station does not send values when it is asked."""
        number = number_of(evse.id)
        where = {"connectorId": number} if self._is_16(evse.station) else {"evse": {"id": number}}
        try:
            await self._ask(evse.station, "TriggerMessage", {"requestedMessage": "MeterValues", **where})
        except DriverError:
            return False
        return True

    async def cut(self, station: StationId, seconds: float) -> None:
        await self._server.cut(station, seconds)

    def spare_fallback(self, station: StationId, spared: bool) -> None:
        self._server.spare_fallback(station, spared)

    def set_up(self, station: StationId) -> None:
        self._server.set_up(station)

    def _is_16(self, station: StationId) -> bool:
        version = self._server.version(station)
        if version is None:
            raise Unreachable(f"{station} is not connected")
        return version == "1.6"

    async def _ask(self, station: StationId, action: str, request: dict[str, object]) -> None:
        status = status_of(await self._server.request(station, action, request, ANSWER_S))
        if status.casefold() not in ("accepted", "scheduled"):
            raise Refused(f'{action}: the station said "{status}"')
