"""The console's call about onboarding: where the OCPP doors are and what each station of the config must show there.

Owns what may be told: names, ports and which file holds a password; never a password. Must not judge what is wrong with a
station: the refusals at the door are in the snapshot, and what they mean is told by the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from controller.calls import takes
from controller.channel_calls import Call
from controller.config import Config
from controller.config.types import OcppStation
from controller.console import Args, Peer
from controller.runtime import Runtime


class Doors(Protocol):
    """The central system; the ports are the real ones."""

    @property
    def port(self) -> int: ...

    @property
    def tls_port(self) -> int | None: ...


class OnboardCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, config: Config, doors: Doors | None) -> None:
        self._runtime = runtime
        self._config = config
        self._doors = doors
        self.table: Mapping[str, tuple[bool, Call]] = {"onboarding": (False, self._onboarding)}

    @takes()
    async def _onboarding(self, args: Args, peer: Peer) -> Any:
        """`plain` and `tls`: host and port as the config says; None where there is none."""
        config, ocpp = self._config, self._config.ocpp
        channels = {evse.station: evse.link.channel for evse in config.site.evses.values()}
        others = {} if ocpp is None else {s: c for s, c in channels.items() if s not in ocpp.stations}
        document: dict[str, Any] = {
            "config": str(config.path.absolute()),
            "plain": None,
            "tls": None,
            "stations": [],
        }
        if ocpp is None or self._doors is None:
            return document | {"elsewhere": channels}
        document["plain"] = {"host": ocpp.host, "port": self._doors.port}
        if ocpp.tls is not None and self._doors.tls_port is not None:
            document["tls"] = {"host": ocpp.tls.host, "port": self._doors.tls_port}
        document["stations"] = [_station(station) for station in ocpp.stations.values()]
        return document | {"elsewhere": others}


def _station(station: OcppStation) -> dict[str, Any]:
    return {
        "id": station.station,
        "has_password": station.password is not None,
        "allow_insecure": station.allow_insecure,
        "security_profile": station.security_profile,
        "version": station.version,
        "allow_from": list(station.allow_from),
    }
