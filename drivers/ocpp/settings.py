"""What the OCPP server is told: where to listen, whom to let in, and how patient to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from controller.core.model import Evse, StationId
from drivers.ocpp.dialects import Dialects, shipped
from drivers.ocpp.tls import TlsSettings

Policy = Literal["list", "anyone", "nobody"]


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
    """`evses` by EVSE number. Without a password the station gets in only if `allow_insecure` says so.

    version: "1.6", "2.0.1" or "2.1" pins it; None takes the newest that the station offers. security_profile: the least it
    may come with. allow_from: networks it may come from; empty = from anywhere.
    assume_version: it may come without naming a subprotocol; then it speaks `version`.
    """

    evses: Mapping[int, Evse]
    password: str | None = field(default=None, repr=False)
    allow_insecure: bool = False
    version: str | None = None
    security_profile: int = 0
    allow_from: tuple[str, ...] = ()
    assume_version: bool = False


@dataclass(frozen=True, slots=True)
class OcppSettings:
    """`listen_port` 0 lets the system choose. `sample_interval_s` is what stations are asked to report at.
    `offline_tokens`: who may charge while we are out of reach: who is on the station's list, or a known one in its cache;
    anyone; nobody. `tls`: the second, encrypted port.
    `folder`: where changed passwords and the authority lie; None = they live as long as the process.
    `dialects`: what is known of the ways of stations."""

    listen_host: str
    listen_port: int
    stations: Mapping[StationId, StationSettings]
    heartbeat_s: int = 60
    sample_interval_s: int = 5
    offline_tokens: Policy = "list"
    patience: Patience = Patience()
    tls: TlsSettings | None = None
    folder: Path | None = None
    dialects: Dialects = field(default_factory=shipped, repr=False)
