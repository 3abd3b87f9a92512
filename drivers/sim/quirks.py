"""What a simulated charger does wrong, as data: on OCPP (rows of the field notes, section 2) and on the Open Platform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Quirks:
    """The default charger has none.

    ignores_limits      answers Accepted to every profile and charges on at its hardware maximum (27)
    ignores_expiry      a profile never ends by itself: leases are not honoured
    refuses_tx_profile  only TxDefaultProfile and ChargePointMaxProfile are accepted (25)
    stack_levels        the only stack levels it accepts; None = all it advertises (24)
    newest_only         a profile replaces all others of its EVSE and purpose, whatever their stack level
    only_relative       only profiles of kind Relative are accepted (29)
    no_meter_values     never sends MeterValues, not even when triggered
    reaction_s          time between accepting a limit and offering it
    spike_after_write_s full hardware current for this long after every accepted profile while charging (22)
    resets_register     the energy register starts at 0 with every transaction (41)
    stop_without_tag    StopTransaction never carries an idTag
    duplicate_start     every StartTransaction is sent twice, with different message ids (9, 10)
    pause_ends          a limit below the minimum ends the transaction (36)
    forgets_fallback    a reboot loses every charging profile: it offers what its hardware can until it is told again
    forgets_stop        no StopTransaction after a reboot with an open transaction (12)
    silent_reconnect    no BootNotification when only the link was lost (18)
    answers_after_s     every answer comes this late
    unanswered          actions of the central system that it never answers (63)
    not_supported       actions of the central system that it answers with CALLERROR NotSupported (61)
    configuration       values of configuration keys that differ from the factory's (31, 42)
    fails               what goes wrong in an update or a log: "download", "signature", "install", "upload"
    only_unit           only profiles in this unit ("W", "A") are accepted (31)
    steps_a             only these currents are accepted as limits (35)
    limit_key           the configuration key that sets its limit in whole amperes, beside all profiles (28)
    deaf_after_pause    the first profile after a pause is accepted and not followed: it charges at its maximum (21)
    fatal_reads         configuration keys that make it reboot when they are asked for (14)
    fatal_writes        configuration keys that make it reboot when they are written (14)
    fragile_s           a call this soon after its introduction was answered makes it introduce itself again (15)
    calls_apart_s       two calls that follow each other faster than this make it drop the link (16)
    triggers_at         connectors that StatusNotification may be asked for; it tells no status by itself (19)
    mute_with           no MeterValues while MeterValuesSampledData names one of these (45)
    samples_apart_s     the shortest MeterValueSampleInterval it accepts (46)
    ignores_phases      numberPhases is accepted and not followed (33)
    event_faults        of OCPP 2.x transaction events: "no_connector" id, "every_evse" (in each event, not the first
                        only), "seq_gaps" after each periodic value, "shuffled" replays (62)
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
    forgets_fallback: bool = False
    forgets_stop: bool = False
    silent_reconnect: bool = False
    answers_after_s: float = 0.0
    unanswered: frozenset[str] = frozenset()
    not_supported: frozenset[str] = frozenset()
    configuration: Mapping[str, str] = field(default_factory=dict)
    fails: frozenset[str] = frozenset()
    only_unit: str | None = None
    steps_a: frozenset[float] | None = None
    limit_key: str | None = None
    deaf_after_pause: bool = False
    fatal_reads: frozenset[str] = frozenset()
    fatal_writes: frozenset[str] = frozenset()
    fragile_s: float = 0.0
    calls_apart_s: float = 0.0
    triggers_at: frozenset[int] | None = None
    mute_with: frozenset[str] = frozenset()
    samples_apart_s: int = 0
    ignores_phases: bool = False
    event_faults: frozenset[str] = frozenset()
    newest_only: bool = False

    def take_limits(self, unit: str, amounts: Iterable[float]) -> bool:
        """Whether its firmware takes limits in this unit and of these sizes."""
        if self.only_unit not in (None, unit):
            return False
        return self.steps_a is None or unit != "A" or all(each in self.steps_a for each in amounts)


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
    upgrade          a firmware upgrade "works", "fails" while it is written, or "hangs" there and says nothing more
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
    upgrade: str = "works"


CAREFUL = DeviceQuirks()
