"""What a simulated charger remembers through a reboot: configuration keys, profiles, tokens, unsent records.

Owns the factory values and which keys may be written (OCPP 1.6 section 9). No behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drivers.sim.cards import LIST_ENTRIES, Cards, Reservation
from drivers.sim.certificates import Certificates
from drivers.sim.merge import TX, Profile
from drivers.sim.outbox import Json, Record

SECRET_KEY = "AuthorizationKey"  # can be written, is never read back

FACTORY: Mapping[str, str] = {
    "AllowOfflineTxForUnknownId": "false",
    "AuthorizeRemoteTxRequests": "false",
    "ConnectionTimeOut": "60",
    "CpoName": "Depot",
    "HeartbeatInterval": "300",
    "LocalAuthListEnabled": "true",
    "LocalAuthorizeOffline": "true",
    "LocalPreAuthorize": "false",
    "MeterValueSampleInterval": "60",
    "MeterValuesSampledData": (
        "Energy.Active.Import.Register,Current.Import,Power.Active.Import,Current.Offered,Voltage,SoC"
    ),
    "StopTransactionOnInvalidId": "true",
    "TransactionMessageAttempts": "5",
    "TransactionMessageRetryInterval": "30",
    "WebSocketPingInterval": "0",
}
READ_ONLY: Mapping[str, str] = {
    "ChargeProfileMaxStackLevel": "9",
    "ChargingScheduleAllowedChargingRateUnit": "Current,Power",
    "ChargingScheduleMaxPeriods": "48",
    "ClockAlignedDataInterval": "0",
    "ConnectorSwitch3to1PhaseSupported": "false",
    "LocalAuthListMaxLength": str(LIST_ENTRIES),
    "MaxChargingProfilesInstalled": "20",
    "ReserveConnectorZeroSupported": "true",
    "SendLocalListMaxLength": str(LIST_ENTRIES),
    "StopTransactionOnEVSideDisconnect": "true",
    "SupportedFeatureProfiles": (
        "Core,FirmwareManagement,LocalAuthListManagement,Reservation,SmartCharging,RemoteTrigger"
    ),
    "SupportedFileTransferProtocols": "HTTP,HTTPS",
}


@dataclass(slots=True)
class Flash:
    """`inoperative`: connectors switched off by ChangeAvailability. `unsaid`: what it has to say after a reboot."""

    configuration: dict[str, str]
    read_only: dict[str, str]
    profiles: tuple[Profile, ...] = ()
    inoperative: set[int] = field(default_factory=set)
    cards: Cards = field(default_factory=Cards)
    reservations: dict[int, Reservation] = field(default_factory=dict)
    certificates: Certificates = field(default_factory=Certificates)
    firmware: str = "1.0.0"
    records: list[Record] = field(default_factory=list)
    unsaid: list[tuple[str, Json]] = field(default_factory=list)

    def number(self, key: str) -> int:
        return int(self.configuration.get(key) or self.read_only[key])

    def says_yes(self, key: str) -> bool:
        return self.configuration[key].casefold() == "true"

    def heartbeat_s(self) -> float:
        return self.number("HeartbeatInterval")

    def keep_heartbeat(self, seconds: int) -> None:
        self.configuration["HeartbeatInterval"] = str(seconds)

    def record_tries(self) -> tuple[int, float]:
        return self.number("TransactionMessageAttempts"), self.number("TransactionMessageRetryInterval")

    def write(self, key: str, value: str) -> str:
        """ChangeConfiguration: "Accepted", "Rejected" (read only or not a fitting value) or "NotSupported"."""
        if key in self.read_only:
            return "Rejected"
        if key not in self.configuration:
            return "NotSupported"
        factory = FACTORY.get(key, "")
        if factory.isdigit() and not value.isdigit():
            return "Rejected"
        if factory in ("true", "false") and value.casefold() not in ("true", "false"):
            return "Rejected"
        self.configuration[key] = value
        return "Accepted"

    def forget_transactions(self, connector: int | None = None) -> None:
        """A TxProfile dies with its transaction; all of them die with the power (connector None)."""
        self.profiles = tuple(
            profile
            for profile in self.profiles
            if profile.purpose != TX or (connector is not None and profile.connector != connector)
        )


def blank(connectors: int, overrides: Mapping[str, str]) -> Flash:
    """A charger as it left the factory, but for `overrides`."""
    read_only = {**READ_ONLY, "NumberOfConnectors": str(connectors)}
    configuration = dict(FACTORY)
    for key, value in overrides.items():
        (read_only if key in read_only else configuration)[key] = value
    return Flash(configuration, read_only)
