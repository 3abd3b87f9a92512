"""What the link to a broker needs to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.core.model import EvseId


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """`topic`: what every topic of ours begins with. `ca` None: the system's authorities. `commands`: what may be ordered,
    of start, stop, pause, resume and limit. `max_ma`: the EVSEs and the most each can take."""

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
    site: str
    version: str
    max_ma: Mapping[EvseId, int]
