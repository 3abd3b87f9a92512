"""What the OCPP server is told: where to listen, whom to let in, and how patient to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.core.model import Evse, StationId


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds of real time before the wire gives up. The defaults are for the field; tests shorten them.

    safety_s        answer to a limit or a stop; slow stations need 3-5 s
    housekeeping_s  answer to anything else; cut to `safety_s` as soon as a safety call waits
    boot_s          a station that has not introduced itself by then never will by itself
    ping_s          between pings, and for a pong
    takeover_s      for an old connection to prove that it is alive when a second one appears
    """

    safety_s: float = 10.0
    housekeeping_s: float = 30.0
    boot_s: float = 5.0
    ping_s: float = 20.0
    takeover_s: float = 2.0


@dataclass(frozen=True, slots=True)
class StationSettings:
    """`evses` by EVSE number. Without a password the station gets in only if `allow_insecure` says so."""

    evses: Mapping[int, Evse]
    password: str | None = field(default=None, repr=False)
    allow_insecure: bool = False


@dataclass(frozen=True, slots=True)
class OcppSettings:
    """`listen_port` 0 lets the system choose. `sample_interval_s` is what stations are asked to report at."""

    listen_host: str
    listen_port: int
    stations: Mapping[StationId, StationSettings]
    heartbeat_s: int = 60
    sample_interval_s: int = 5
    patience: Patience = Patience()
