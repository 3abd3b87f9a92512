"""What a simulated charger does wrong, as data. Each field names its row in the field notes, section 2."""

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
