"""Facts of a channel that does not lead the EVSE they are about: evidence, never a session (DESIGN section 6).

Owns what a companion may change: that power flows back, the state of charge, faults, and that more current flows than
the leading channel was allowed. What it says of transactions, fallbacks and reboots is about its own view of the
station and moves nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from controller.core import charge_told
from controller.core.commands import Entry, StationSaved
from controller.core.events import (
    Event,
    EvseSample,
    FallbackRefused,
    FallbackStored,
    StationBooted,
    StatusChanged,
    TransactionStarted,
)
from controller.core.model import Moment, Site, family_of
from controller.core.state import State

Told = StatusChanged | EvseSample | FallbackStored | FallbackRefused | TransactionStarted | StationBooted

# telemetry of the companion may show the time before a limit that was written so lately
LATE_S = 20.0


def beside(site: Site, event: Event) -> Told | None:
    """The event, if a companion tells it; None if the leading channel does, or no channel at all."""
    match event:
        case StationBooted(station=station, channel=channel):
            evse = next((evse for evse in site.evses.values() if evse.station == station), None)
        case (
            StatusChanged(evse=name, channel=channel)
            | EvseSample(evse=name, channel=channel)
            | FallbackStored(evse=name, channel=channel)
            | FallbackRefused(evse=name, channel=channel)
            | TransactionStarted(evse=name, channel=channel)
        ):
            evse = site.evses.get(name)
        case _:
            return None
    if evse is None or evse.companion is None or family_of(channel) == family_of(evse.link.channel):
        return None
    return event


def apply_beside(state: State, event: Told, now: Moment) -> tuple[Entry, ...]:
    belief = state.belief
    match event:
        case StatusChanged():
            belief.status_beside(event, now.mono_s)
        case EvseSample():
            return _sampled(state, event, now)
        case StationBooted():
            if belief.booted(event):
                return (StationSaved(event.station, event.vendor, event.model, event.firmware, event.serial),)
        case FallbackStored() | FallbackRefused() | TransactionStarted():
            pass
        case _:
            assert_never(event)
    return ()


def _sampled(state: State, event: EvseSample, now: Moment) -> tuple[Entry, ...]:
    highest_ma = state.belief.sample_beside(event)
    settled = now.mono_s - state.commitments.accounts[event.evse].wrote_s >= LATE_S
    if highest_ma is not None and settled and state.belief.evses[event.evse].beside.fresh(now.mono_s):
        state.commitments.measured(event.evse, highest_ma, now.mono_s)
    # its register is another one than the transaction counts with
    entries = state.sessions.sample(replace(event, register_wh=None), now)
    charge_told.sampled(state, event)
    return tuple(entries)
