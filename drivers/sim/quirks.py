"""What a simulated charger does wrong, as data: on OCPP (rows of the field notes, section 2) and on the Open Platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Quirks:
    """The default charger has none.

    ignores_limits      answers Accepted to every profile and charges on at its hardware maximum (27)
    ignores_expiry      a profile never ends by itself: leases are not honoured
    refuses_tx_profile  only TxDefaultProfile and ChargePointMaxProfile are accepted (25)
    stack_levels        the only stack levels it accepts; None = all it advertises (24)
    only_relative       only profiles of kind Relative are accepted (29)
    no_meter_values     never sends MeterValues, not even when triggered
    reaction_s          time between accepting a limit and offering it
    spike_after_write_s full hardware current for this long after every accepted profile while charging (22)
    resets_register     the energy register starts at 0 with every transaction (41)
    stop_without_tag    StopTransaction never carries an idTag
    duplicate_start     every StartTransaction is sent twice, with different message ids (9, 10)
    pause_ends          a limit below the minimum ends the transaction (36)
    forgets_stop        no StopTransaction after a reboot with an open transaction (12)
    silent_reconnect    no BootNotification when only the link was lost (18)
    answers_after_s     every answer comes this late
    unanswered          actions of the central system that it never answers (63)
    not_supported       actions of the central system that it answers with CALLERROR NotSupported (61)
    configuration       values of configuration keys that differ from the factory's (31, 42)
    """

    ignores_limits: bool = False
    ignores_expiry: bool = False
    refuses_tx_profile: bool = False
    stack_levels: frozenset[int] | None = None
    only_relative: bool = False
    no_meter_values: bool = False
    reaction_s: float = 0.0
    spike_after_write_s: float = 0.0
    resets_register: bool = False
    stop_without_tag: bool = False
    duplicate_start: bool = False
    pause_ends: bool = False
    forgets_stop: bool = False
    silent_reconnect: bool = False
    answers_after_s: float = 0.0
    unanswered: frozenset[str] = frozenset()
    not_supported: frozenset[str] = frozenset()
    configuration: Mapping[str, str] = field(default_factory=dict)


HONEST = Quirks()


@dataclass(frozen=True, slots=True)
class DeviceQuirks:
    """What a simulated Open Platform charger does wrong or differently; the G numbers are those of GAPS.

    ignores_limits   accepts every `set_power_limit` and charges on as if it had not come
    ignores_expiry   a `set_power_limit` never ends by itself: leases are not honoured
    rejects          commands it answers with `rejected`, like "discharge" (G-08)
    no_status        never says what became of a command
    no_poll          takes commands from heartbeat answers only (G-07)
    no_events        sends neither plug nor session events: sessions show in telemetry and records only
    repeats          every report is sent twice
    acts_after_s     time between accepting a command and acting on it
    skew_s           how far its own UTC is ahead (G-29)
    spread_s         waits a random time up to this before it dials again (G-34)
    schedule_starts  a charge slot starts a plugged vehicle (G-11)
    paused_state     telemetry state of a session without flow: "idle" or "charging" (G-17)
    number_faults    faults as 421 instead of "F-0421" (G-18)
    stop_reasons     records carry the unpublished `stop_reason` (G-19)
    no_phases        telemetry without `phase_details` (G-16)
    upgrade_fails    a firmware upgrade fails while it is written, with this message
    """

    ignores_limits: bool = False
    ignores_expiry: bool = False
    rejects: frozenset[str] = frozenset()
    no_status: bool = False
    no_poll: bool = False
    no_events: bool = False
    repeats: bool = False
    acts_after_s: float = 0.0
    skew_s: float = 0.0
    spread_s: float = 60.0
    schedule_starts: bool = False
    paused_state: str = "idle"
    number_faults: bool = False
    stop_reasons: bool = False
    no_phases: bool = False
    upgrade_fails: str | None = None


CAREFUL = DeviceQuirks()
