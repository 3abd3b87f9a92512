"""What the dashboard knows: the newest snapshot, whether the link to it lives, and what in it is abnormal.

Pure. Must not decide anything about charging: it only ranks what the controller reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from controller.core.model import EvseId, EvseState, Quality
from controller.core.snapshot import (
    AlarmView,
    ChannelView,
    CircuitView,
    EvseView,
    OrderView,
    SessionView,
    Snapshot,
)
from ui import format as fmt
from ui.lines import Tone

NORMAL = 9  # sorts after every alarm priority
SHORT_WH = 500  # less is not called short

MARKS = {1: "!!", 2: "!", 3: "~"}
TONES = {1: Tone.CRITICAL, 2: Tone.HIGH, 3: Tone.LOW}

_QUIET_CHANNELS = frozenset({"ok", "off", "disabled"})
_NEEDS_A_LOOK = {EvseState.FAULTED: 2, EvseState.OFFLINE: 2, EvseState.UNAVAILABLE: 3}


@dataclass(frozen=True, slots=True)
class Picture:
    """`lost` is None while the link lives, else one line saying why the snapshot (if any) is old."""

    snapshot: Snapshot | None = None
    lost: str | None = "connecting..."

    @property
    def old(self) -> bool:
        return self.snapshot is not None and self.lost is not None

    @property
    def place(self) -> tzinfo:
        return fmt.zone(self.snapshot.timezone if self.snapshot else "UTC")

    def evse(self, wanted: EvseId | None) -> EvseView | None:
        evses = self.snapshot.evses if self.snapshot else ()
        return next((evse for evse in evses if evse.id == wanted), None)

    def orders_of(self, evse: EvseId) -> list[OrderView]:
        """Newest first; the controller lists them in the order they were given."""
        orders = self.snapshot.orders if self.snapshot else ()
        return [order for order in reversed(orders) if order.evse == evse]


def ranked_alarms(snapshot: Snapshot) -> list[AlarmView]:
    """Most urgent first; within a priority what nobody has acknowledged, then the newest."""
    return sorted(
        snapshot.alarms,
        key=lambda alarm: (alarm.priority, alarm.state == "ack", -alarm.since.timestamp(), alarm.id),
    )


def alarms_of(evse: EvseView, snapshot: Snapshot) -> list[AlarmView]:
    return [alarm for alarm in ranked_alarms(snapshot) if alarm.source in (evse.id, evse.station)]


def attention(evse: EvseView, snapshot: Snapshot) -> int:
    """How much this EVSE needs a person: 1, 2, 3 as alarm priorities, or NORMAL."""
    ranks = [alarm.priority for alarm in snapshot.alarms if alarm.source in (evse.id, evse.station)]
    ranks.append(_NEEDS_A_LOOK.get(evse.state, NORMAL))
    if not evse.connected or evse.fault:
        ranks.append(2)
    if lacking(evse.session):
        ranks.append(3)
    return min(ranks)


def lacking(session: SessionView | None) -> bool:
    """It will leave with less than it needs, by more than is worth a word."""
    return session is not None and (session.short_wh or 0) >= SHORT_WH


def ranked_evses(snapshot: Snapshot) -> list[tuple[int, EvseView]]:
    """(attention, EVSE), abnormal first; equals stay in the order of the config, so rows do not dance."""
    return sorted(((attention(evse, snapshot), evse) for evse in snapshot.evses), key=lambda pair: pair[0])


def troubled_channels(snapshot: Snapshot) -> list[ChannelView]:
    return [channel for channel in snapshot.channels if channel.state not in _QUIET_CHANNELS]


def doubtful(circuit: CircuitView) -> bool:
    """True when the circuit has a meter whose values must not be taken at face value."""
    return circuit.quality is not None and circuit.quality is not Quality.GOOD


def vehicle_name(evse: EvseView) -> str:
    """The vehicle, else the masked token, else `-` for nobody and `?` for somebody unknown."""
    if evse.session is None:
        return "-"
    return evse.session.vehicle or evse.session.token or "?"
