"""The values a config file becomes, and the error it becomes when it is wrong.

Owns the dataclasses of INTERFACE section 3 that are not in `controller.core.model`, and `ConfigError`.
Reads nothing. Secrets are kept out of every `repr`, so that a logged config gives nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from controller.core.model import CircuitId, MeterId, MeterRole, PerPhase, Site, StationId
from controller.core.readings import Readings
from controller.core.tariff import Rates
from controller.rights import DEFAULT, Rights


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """How to reach and read one meter. `kind` names a file in drivers/modbus; whether it exists is checked
    there.

    host, port: on a serial line (transport "rtu") the path of the device and 0; baud, parity and stop_bits count there only.
    phases: the grid phase (0, 1, 2) each of the meter's inputs hangs on, as in `Evse.phases`.
    """

    id: MeterId
    kind: str
    host: str
    port: int
    unit: int
    poll_s: float
    stale_after_s: float
    role: MeterRole
    invert: bool
    ct_ratio: float
    phases: tuple[int, ...]
    transport: str = "tcp"  # or "rtu+tcp", "rtu"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1


@dataclass(frozen=True, slots=True)
class InputConfig:
    """Where the contact of an external limit is read. `table`: "coil" or "input"; the rest as for a meter."""

    id: str
    host: str
    port: int
    unit: int
    table: str
    at: int
    poll_s: float
    transport: str = "tcp"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    def named(self, name: str, poll_s: float) -> InputConfig:
        return replace(self, id=name, poll_s=poll_s)


@dataclass(frozen=True, slots=True)
class BatteryConfig:
    """Where the set-points of a battery are written; as for a meter."""

    id: str
    host: str
    port: int
    unit: int
    transport: str = "tcp"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1


@dataclass(frozen=True, slots=True)
class OcppStation:
    """`password` None only when `allow_insecure`, or with certificates; `version` None = negotiated; `security_profile`: the
    least it may come with; `allow_from`: addresses and networks it may come from, empty = any; `assume_version`: it may
    come without naming a version."""

    station: StationId
    password: str | None = field(repr=False)
    allow_insecure: bool
    version: str | None
    security_profile: int = 0
    allow_from: tuple[str, ...] = ()
    assume_version: bool = False


@dataclass(frozen=True, slots=True)
class OcppTls:
    """`client_ca`: who may sign certificates of stations. `legacy_rsa`: ciphers for the first TLS generation too."""

    host: str
    port: int
    cert: Path
    key: Path
    client_ca: Path | None
    legacy_rsa: bool


@dataclass(frozen=True, slots=True)
class OcppConfig:
    host: str
    port: int  # 0: the system picks a free one
    stations: Mapping[StationId, OcppStation]
    tls: OcppTls | None = None
    needs_proof: bool = (
        True  # a station without a passed `depot qualify` counts at its maximum while out of reach
    )
    offline_tokens: str = "list"  # who may charge while we are out of reach: list, anyone or nobody


@dataclass(frozen=True, slots=True)
class CloudStation:
    """permit: what the platform may do beside OCPP (stations.PERMITS); without OCPP it may do everything."""

    station: StationId
    device_id: str
    permit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CloudConfig:
    base_url: str  # without a slash at the end
    region: str
    client_id: str
    client_secret: str = field(repr=False)
    site_ids: tuple[str, ...]
    sign_requests: bool
    stations: Mapping[StationId, CloudStation]


@dataclass(frozen=True, slots=True)
class OnsiteStation:
    """A charger that will register with us: only this serial number and model are let in. `permit`: as above."""

    station: StationId
    serial: str
    model: str
    permit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OnsiteClient:
    """A program on site. `scopes`: read, write or both; one does not include the other."""

    id: str
    secret: str = field(repr=False)
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class OnsiteConfig:
    """`tls_cert` and `tls_key` are None together, and then only on the loopback address."""

    host: str
    port: int  # 0: the system picks a free one
    tls_cert: Path | None
    tls_key: Path | None
    clients: tuple[OnsiteClient, ...]
    stations: Mapping[StationId, OnsiteStation]


@dataclass(frozen=True, slots=True)
class OpenPlatformConfig:
    """The customer's consent (mode, who enabled it, for which purposes) and where it leads."""

    mode: str
    enabled_by: str
    purposes: frozenset[str]
    cloud: CloudConfig | None
    onsite: OnsiteConfig | None
    readings: Readings = field(default_factory=Readings)


@dataclass(frozen=True, slots=True)
class TariffConfig:
    """What energy costs. `prices`: the file of what we pay, or None; then `bands` has it. `feed_in_prices`: the file of what
    we get, or None; then `feed_in` has it, if we get anything."""

    currency: str
    prices: Path | None
    bands: Rates
    peak_price_micro: int = 0  # per kW of the month's highest quarter hour
    feed_in_prices: Path | None = None
    feed_in: Rates | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """How many seconds the books keep what is over; None = for ever. tokens_s: after that, aliases stand in the place of
    the id tokens of sessions."""

    sessions_s: float | None = None
    tokens_s: float | None = None
    alarms_s: float | None = None
    audit_s: float | None = None


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    host: str
    port: int  # 0: the system picks a free one


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """`topic`: what every topic of ours begins with. `ca`: None = the system's. `commands`: what may be ordered."""

    host: str
    port: int
    tls: bool
    topic: str
    home_assistant: bool
    username: str | None
    password: str | None = field(repr=False)
    ca: Path | None
    cert: Path | None
    key: Path | None
    commands: frozenset[str]


@dataclass(frozen=True, slots=True)
class Config:
    path: Path
    site: Site
    meters: tuple[MeterConfig, ...]
    ocpp: OcppConfig | None
    open_platform: OpenPlatformConfig | None
    storage_path: Path
    control_socket: Path
    production: bool = False  # no door for compliance tests
    tariff: TariffConfig | None = None
    inputs: tuple[InputConfig, ...] = ()
    batteries: tuple[BatteryConfig, ...] = ()
    rights: Rights = DEFAULT  # who may look and act at the control socket
    metrics: MetricsConfig | None = None
    mqtt: MqttConfig | None = None
    keep: Keep = field(default_factory=Keep)

    @property
    def readings(self) -> Readings:
        """How the gaps of the Open Platform's documentation are read here."""
        return Readings() if self.open_platform is None else self.open_platform.readings

    @property
    def permits(self) -> Mapping[StationId, frozenset[str]]:
        """What the Open Platform may do at the stations that OCPP leads."""
        platform = self.open_platform
        if platform is None or self.ocpp is None:
            return {}
        channels = [channel for channel in (platform.cloud, platform.onsite) if channel is not None]
        stations = [station for channel in channels for station in channel.stations.values()]
        return {each.station: each.permit for each in stations if each.station in self.ocpp.stations}


@dataclass(frozen=True, slots=True)
class Budget:
    """What one circuit must carry when every station below it is alone.

    assumed_ma: the worst load that is not ours; None = nobody told us, and then `spare_ma` is None too.
    spare_ma: limit - assumed - fallbacks; negative = does not fit.
    """

    circuit: CircuitId
    limit_ma: PerPhase[int]
    assumed_ma: PerPhase[int] | None
    fallbacks_ma: PerPhase[int]
    spare_ma: PerPhase[int] | None


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the line it stands on (None = the file as a whole), the key, what is wrong, what to do."""

    line: int | None
    where: str
    text: str
    suggestion: str

    def __str__(self) -> str:
        said = f"{self.text}; {self.suggestion}" if self.suggestion else self.text
        said = f"{self.where}: {said}" if self.where else said
        # ids come from the file: nothing in them may break the line or drive a terminal
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in said)


class ConfigError(Exception):
    """The file cannot be used. `problems` holds every mistake in file order; `str` prints one per line."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.where)))
        super().__init__(str(path), self.problems)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.path}:{problem.line}: {problem}" if problem.line else f"{self.path}: {problem}"
            for problem in self.problems
        )
