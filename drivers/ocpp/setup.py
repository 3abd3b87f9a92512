"""What a station is asked after it connected or rebooted, so that its limits hold and its facts arrive.

Owns the order: first the stored fallback, on the safety lane, because until it is stored a lost link means full current;
then commands may flow; then what the station can do, what it measures, and what state it is in. Every refusal is a fact
about the station, never an error. Source: OCPP 1.6 sections 5.3, 5.8, 5.16, 5.17 and 9.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from controller.core.events import Event, FallbackRefused, FallbackStored
from controller.core.model import Evse
from drivers.errors import DriverError, Nonsense, Unreachable
from drivers.ocpp import profiles, v16
from drivers.ocpp.memory import Memory
from drivers.ocpp.queues import Lane
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.station import Session

log = logging.getLogger(__name__)

# most wanted first; stations that refuse the long list take the short one
MEASURANDS = (
    "Current.Import,Power.Active.Import,Energy.Active.Import.Register,Current.Offered,SoC",
    "Current.Import,Power.Active.Import,Energy.Active.Import.Register",
    "Current.Import,Energy.Active.Import.Register",
)


class Setup:
    """`run` once per connection or boot; it may be cancelled and started again at any point."""

    def __init__(
        self,
        session: Session,
        evses: Mapping[int, Evse],
        settings: OcppSettings,
        memory: Memory,
        tell: Callable[[Event], None],
    ) -> None:
        self._session = session
        self._evses = evses
        self._settings = settings
        self._memory = memory
        self._tell = tell

    async def run(self, ask_for_boot: bool, fallbacks_done: Callable[[], None]) -> None:
        """Returns when everything was asked, or when the session has ended."""
        unsure = [number for number in self._evses if not await self._store_fallback(number, last_try=False)]
        fallbacks_done()
        await asyncio.sleep(0)  # commands that waited ask for their turn before our next question does
        if ask_for_boot:
            await self._ask("TriggerMessage", {"requestedMessage": "BootNotification"})
        in_watts = self._memory.able.in_watts
        configuration = await self._read_configuration()
        if self._memory.able.in_watts != in_watts:
            unsure = list(self._evses)  # what was stored or refused in the other unit says little
        for number in unsure:
            await self._store_fallback(number, last_try=True)
        await self._configure(configuration)
        for number in self._evses:
            await self._ask(
                "TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": number}
            )

    async def _store_fallback(self, number: int, last_try: bool) -> bool:
        """False when nobody knows whether it is stored; that is reported only after the last try."""
        evse = self._evses[number]
        request = profiles.fallback(number, evse, self._memory.able)
        try:
            answer = await self._session.call("SetChargingProfile", request, Lane.SAFETY)
        except (Unreachable, Nonsense) as error:
            if last_try and not self._session.ended:
                self._refused(evse, str(error))
            return False
        except DriverError as error:
            self._refused(evse, str(error))
            return True
        status = v16.status_of(answer)
        if status.casefold() == "accepted":
            self._tell(FallbackStored(evse.id, v16.CHANNEL, evse.fallback_ma))
        else:
            self._refused(evse, f'the station said "{status}"')
        return True

    def _refused(self, evse: Evse, reason: str) -> None:
        log.warning("%s does not store its fallback: %s", evse.id, reason)
        self._tell(FallbackRefused(evse.id, v16.CHANNEL, reason))

    async def _read_configuration(self) -> Mapping[str, str]:
        answer = await self._ask("GetConfiguration", {"key": list(profiles.KEYS)})
        configuration = profiles.read_configuration(answer or {})
        if configuration:
            self._memory.able = profiles.capabilities(configuration)
            self._memory.note_quirks(self._memory.able.shortcomings(len(self._evses)))
        return configuration

    async def _configure(self, configuration: Mapping[str, str]) -> None:
        """Writes only what differs: some stations keep their configuration in memory that wears out."""
        wanted = {
            "MeterValueSampleInterval": str(self._settings.sample_interval_s),
            "HeartbeatInterval": str(self._settings.heartbeat_s),
        }
        if self._memory.able.asks_for_remote_tokens:
            wanted["AuthorizeRemoteTxRequests"] = "false"  # we have authorized what we start ourselves
        for key, value in wanted.items():
            if configuration.get(key.casefold(), "").casefold() != value:
                await self._change(key, value)
        if not self._memory.measurands_written:
            for measurands in MEASURANDS:
                if await self._change("MeterValuesSampledData", measurands):
                    self._memory.measurands_written = True
                    break

    async def _change(self, key: str, value: str) -> bool:
        answer = await self._ask("ChangeConfiguration", {"key": key, "value": value})
        status = v16.status_of(answer or {}).casefold()
        if answer is not None and status not in ("accepted", "rebootrequired"):
            log.info("%s: %s stays as it is: %s", self._session.station, key, status or "no status")
        return status in ("accepted", "rebootrequired")

    async def _ask(self, action: str, request: dict[str, object]) -> dict[str, object] | None:
        """The answer, or None: housekeeping that fails is a fact about the station."""
        try:
            return await self._session.call(action, request)
        except DriverError as error:
            if not self._session.ended:
                log.info("%s: %s: %s", self._session.station, action, error)
            return None
