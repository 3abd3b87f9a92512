"""The OCPP versions this central system speaks, newest first, and which one a station gets.

Owns the choice and the adapters that make `Words` of the modules of a version. Source: OCPP-J 1.6 section 3.2, 2.0.1
part 4 section 3.1 (the server picks one of the subprotocols offered and echoes it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging, UpgradeFirmware
from controller.core.model import Evse, Moment
from drivers.errors import Refused
from drivers.ocpp import firmware, profiles, v2, v2_orders, v2_setup, v16, v16_setup
from drivers.ocpp.frames import Payload
from drivers.ocpp.lists import ListWords
from drivers.ocpp.lists_words import Lists2, Lists16
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.station import Dialect
from drivers.ocpp.words import Ask, Capabilities, Known, Layer, Order, Request, Words


class _V16:
    version = "1.6"
    channel = v16.CHANNEL
    subprotocol = "ocpp1.6"
    lists: ListWords = Lists16()
    dialect = Dialect(v16.CHANNEL, v16.CODES, Schemas("v16"), v16.is_sheddable, v16.is_sacred)

    def read(self, action: str, payload: Payload, known: Known, now: Moment) -> Request:
        return v16.read(action, payload, known, now)

    def fallback(self, number: int, evse: Evse, able: Capabilities) -> Order:
        return Order("SetChargingProfile", profiles.fallback(number, evse, able))

    def maximum(self, limit_ma: int, evse: Evse, able: Capabilities, now: datetime) -> Order:
        return Order("SetChargingProfile", profiles.maximum(limit_ma, evse, able, now))

    def limit(self, command: SetLimit, number: int, evse: Evse, able: Capabilities, now: datetime) -> Order:
        return Order("SetChargingProfile", profiles.limit(command, number, evse, able, now))

    def start(
        self, command: StartCharging, number: int, evse: Evse, able: Capabilities, now: datetime
    ) -> Order:
        return Order("RemoteStartTransaction", profiles.start(command, number, evse, able, now))

    def stop(self, command: StopCharging) -> Order:
        return Order("RemoteStopTransaction", profiles.stop(command))

    def discharge(
        self,
        command: StartDischarge,
        transaction: str | None,
        number: int,
        evse: Evse,
        able: Capabilities,
        now: datetime,
    ) -> Order:
        raise Refused("OCPP 1.6 has no word for discharging; the Open Platform has")

    def plan(self, transaction: str, number: int, evse: Evse, able: Capabilities, layer: Layer) -> Order:
        return Order("SetChargingProfile", profiles.plan(transaction, number, evse, able, layer))

    def upgrade(self, command: UpgradeFirmware, now: datetime) -> Order:
        return firmware.upgrade_16(command, now)

    def ask_for_boot(self) -> Order:
        return Order("TriggerMessage", {"requestedMessage": "BootNotification"})

    def ask_for_status(self, number: int) -> Order:
        return Order("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": number})

    async def read_configuration(self, ask: Ask) -> Mapping[str, str]:
        return await v16_setup.read_configuration(ask)

    def capabilities(self, configuration: Mapping[str, str]) -> Capabilities:
        return profiles.capabilities(configuration)

    async def configure(
        self,
        ask: Ask,
        configuration: Mapping[str, str],
        able: Capabilities,
        settings: OcppSettings,
        measurands_written: bool,
    ) -> bool:
        return await v16_setup.configure(ask, configuration, able, settings, measurands_written)


class _V2:
    """2.0.1 and 2.1: one family, the newer with more messages and fields."""

    lists: ListWords = Lists2()

    def __init__(self, version: str, folder: str, readers: Mapping[str, v2.Reader], is_21: bool) -> None:
        self.version = version
        self.channel = self.subprotocol = f"ocpp{version}"
        self._schemas = Schemas(folder)
        self.dialect = Dialect(
            self.channel, v2.CODES, self._schemas, v2.is_sheddable, v2.is_sacred, v2.NOBODY, boots_once=True
        )
        self._readers = readers
        self._is_21 = is_21

    def read(self, action: str, payload: Payload, known: Known, now: Moment) -> Request:
        return v2.read(action, payload, known, now, self._readers, self._schemas)

    def fallback(self, number: int, evse: Evse, able: Capabilities) -> Order:
        return Order("SetChargingProfile", v2_orders.fallback(number, evse, able))

    def maximum(self, limit_ma: int, evse: Evse, able: Capabilities, now: datetime) -> Order:
        return Order("SetChargingProfile", v2_orders.maximum(limit_ma, evse, able, now))

    def limit(self, command: SetLimit, number: int, evse: Evse, able: Capabilities, now: datetime) -> Order:
        return Order("SetChargingProfile", v2_orders.limit(command, number, evse, able, now, self._is_21))

    def start(
        self, command: StartCharging, number: int, evse: Evse, able: Capabilities, now: datetime
    ) -> Order:
        payload = v2_orders.start(command, number, evse, able, now, self._is_21)
        return Order("RequestStartTransaction", payload)

    def stop(self, command: StopCharging) -> Order:
        return Order("RequestStopTransaction", v2_orders.stop(command))

    def discharge(
        self,
        command: StartDischarge,
        transaction: str | None,
        number: int,
        evse: Evse,
        able: Capabilities,
        now: datetime,
    ) -> Order:
        if not self._is_21:
            raise Refused("OCPP 2.0.1 has no word for discharging; 2.1 and the Open Platform have")
        return Order("SetChargingProfile", v2_orders.discharge(command, transaction, number, evse, able, now))

    def plan(self, transaction: str, number: int, evse: Evse, able: Capabilities, layer: Layer) -> Order:
        return Order("SetChargingProfile", v2_orders.plan(transaction, number, evse, able, layer))

    def upgrade(self, command: UpgradeFirmware, now: datetime) -> Order:
        return firmware.upgrade_2(command, now)

    def ask_for_boot(self) -> Order:
        return Order("TriggerMessage", {"requestedMessage": "BootNotification"})

    def ask_for_status(self, number: int) -> Order:
        if number == 0:
            return Order("TriggerMessage", {"requestedMessage": "StatusNotification"})
        evse = {"id": number, "connectorId": 1}  # F06.FR.12: a status is always asked of a connector
        return Order("TriggerMessage", {"requestedMessage": "StatusNotification", "evse": evse})

    async def read_configuration(self, ask: Ask) -> Mapping[str, str]:
        return await v2_setup.read_configuration(ask, self._is_21)

    def capabilities(self, configuration: Mapping[str, str]) -> Capabilities:
        return v2_setup.capabilities(configuration)

    async def configure(
        self,
        ask: Ask,
        configuration: Mapping[str, str],
        able: Capabilities,
        settings: OcppSettings,
        measurands_written: bool,
    ) -> bool:
        return await v2_setup.configure(ask, configuration, able, settings, measurands_written)


V16: Final[Words] = _V16()
V201: Final[Words] = _V2("2.0.1", "v201", v2.READERS_201, is_21=False)
V21: Final[Words] = _V2("2.1", "v21", v2.READERS_21, is_21=True)
VERSIONS: Final[tuple[Words, ...]] = (V21, V201, V16)  # best first


def spoken(pinned: str | None) -> tuple[Words, ...]:
    """What a station may speak, best first; `pinned` as in the config."""
    return tuple(words for words in VERSIONS if pinned in (None, words.version))


def choose(offered: Iterable[str], pinned: str | None) -> Words | None:
    """The best of what a station offers and may speak."""
    offers = frozenset(offered)
    return next((words for words in spoken(pinned) if words.subprotocol in offers), None)
