"""How the gaps of the Open Platform's documentation are read: one named setting per assumption.

Owns the names, their defaults, the range each may be set to and the gap it belongs to, so that a test in the vendor's
sandbox changes a value and not code. Where energy could move, the default is the reading that moves less, and no value
within a range makes a site less safe. Must not act on any of them: that is the drivers'. What a gap is about, and what
is fixed on purpose, stands in `drivers/openplatform/gaps.toml`. Source: Open Platform GAPS (the G numbers below).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Literal, get_type_hints


@dataclass(frozen=True, slots=True)
class Gap:
    """Which gap a setting closes, and what it may be set to: numbers from `least` to `most`, texts of this `form` and
    not below `least_text`."""

    number: int
    least: float = 0.0
    most: float = 0.0
    form: str = ""
    least_text: str = ""

    @property
    def id(self) -> str:
        return f"G-{self.number:02}"


_DAY_S = 86400.0
_GATE = "260420.0107"  # the firmware that is documented to hold a second backend


@dataclass(frozen=True, slots=True)
class Readings:
    """The defaults follow GAPS."""

    # G-03: what a charger that registers with us is told. Nothing expires here, as there is no way to renew a secret
    secret_expires_in_s: Annotated[float, Gap(3, _DAY_S, 3650 * _DAY_S)] = 3650 * _DAY_S

    # G-05: what is signed and how it is written, where requests are signed at all
    signature_joined_by: Annotated[Literal["nothing", "newline"], Gap(5)] = "nothing"
    signature_method: Annotated[Literal["upper", "lower"], Gap(5)] = "upper"
    signature_path_has_version: Annotated[bool, Gap(5)] = True  # "/v1/operator/..." and not "/operator/..."
    signature_path_has_query: Annotated[bool, Gap(5)] = False
    signature_time: Annotated[Literal["iso", "epoch"], Gap(5)] = "iso"
    signature_time_header: Annotated[str, Gap(5, form="X-(?!Signature$)[A-Za-z][A-Za-z0-9-]{0,39}")] = (
        "X-Timestamp"
    )
    signature_body: Annotated[Literal["as-sent", "sorted"], Gap(5)] = "as-sent"
    signature_encoding: Annotated[Literal["hex", "hex-upper", "base64"], Gap(5)] = "hex"

    # G-06
    empty_answer_is_success: Annotated[bool, Gap(6)] = True  # a 2xx without a body is code 0 with null data
    token_answer: Annotated[Literal["bare", "wrapped"], Gap(6)] = "bare"  # ours; both are read

    # G-07: a charger may hear a command twice, under one id, and acts once
    heartbeat_offers: Annotated[Literal["without-poll", "always", "never"], Gap(7)] = "without-poll"
    command_resend_s: Annotated[float, Gap(7, 1, 60)] = 5.0

    # G-08: the core counts on a start being over by then, so longer is not offered
    command_expiry_s: Annotated[float, Gap(8, 10, 120)] = 120.0
    pause_command: Annotated[Literal["set_power_limit", "pause_charging"], Gap(8)] = "set_power_limit"

    # G-09
    start_repeat_after_s: Annotated[float, Gap(9, 30, 120)] = 60.0  # and only if nothing changed for so long
    same_start_s: Annotated[float, Gap(9, 180, 600)] = 600.0  # so long a transaction_id is known again

    # G-10: a schedule answer has no id to follow. "answer": success means the charger has it; "telemetry": only the
    # charger's next sign of life after it does
    schedule_confirmed_by: Annotated[Literal["answer", "telemetry"], Gap(10)] = "telemetry"
    queued_failed_s: Annotated[float, Gap(10, 30, 600)] = 300.0
    flex_status_asked: Annotated[bool, Gap(10)] = True  # once per action, until the platform knows no such id

    # G-11
    slot_time_zone: Annotated[Literal["site", "utc"], Gap(11)] = (
        "site"  # "site" turns to UTC by itself where local times are ambiguous
    )
    slot_midnight_end: Annotated[Literal["00:00", "24:00"], Gap(11)] = "00:00"
    plan_removed_by: Annotated[Literal["empty-validity", "disabled"], Gap(11)] = "empty-validity"
    idle_stays_idle: Annotated[bool, Gap(11)] = (
        True  # a stored slot or its end never starts an idle connector
    )
    # one enabled schedule per connector: our leased limit switches a stored plan off, which is stored again afterwards
    lease_displaces_plan: Annotated[bool, Gap(11)] = True

    # G-12
    below_minimum_pauses: Annotated[bool, Gap(12)] = (
        True  # a power below the minimum current is not rounded up
    )
    flex_base: Annotated[Literal["charger", "connector"], Gap(12)] = (
        "charger"  # what a percentage is a share of
    )
    flex_max_s: Annotated[float, Gap(12, 60, 4 * 3600)] = 4 * 3600.0
    flex_end_s: Annotated[float, Gap(12, 1, 60)] = 1.0  # an action ends early by 100 % for so long
    brake_s: Annotated[float, Gap(12, 60, 900)] = 300.0  # how long an automatic brake holds

    # G-14
    discharge_floor_soc: Annotated[int, Gap(14, 20, 100)] = 20  # per cent; no discharge of ours goes below
    discharge_default_s: Annotated[float, Gap(14, 60, 4 * 3600)] = (
        3600.0  # of a client that names no duration
    )
    # after a discharge of ours the charger does not begin to charge by itself
    discharge_ends_idle: Annotated[bool, Gap(14)] = True

    # G-15
    stream_ids: Annotated[int, Gap(15, 1, 50)] = 50  # chargers per socket
    stream_every_s: Annotated[float, Gap(15, 1, 60)] = 5.0  # ours, while a connector is active
    silence_s: Annotated[float, Gap(15, 10, 60)] = 30.0  # suspect only while a connector is active

    # G-16: on AC `current` is the highest phase and `voltage` phase to neutral; on DC both belong to the vehicle's side
    highest_ac_voltage_mv: Annotated[int, Gap(16, 250_000, 450_000)] = 300_000
    # a limit is a power: the charger divides it by this and by phases, see next; a higher one would let more flow
    phase_voltage_mv: Annotated[int, Gap(16, 100_000, 230_000)] = 230_000
    # By which phases? "wired": those of the EVSE, whatever the vehicle uses. This is hoped, not proven: a charger that
    # divides by the vehicle's phases lets a single-phase vehicle draw three times the current we meant on one phase,
    # up to the EVSE's maximum; then only REST reads (`current`, `voltage`) show it, and the overdraw is booked after
    # `spread_look_s` at the earliest. "vehicle": every limit is written for one phase, which is safe with any vehicle
    # and leaves a three-phase vehicle a third of its current, below 18 A nothing at all. It fits sites with AC
    # stations; a DC station always loads its phases alike.
    kw_limit_spreads: Annotated[Literal["wired", "vehicle"], Gap(16)] = "wired"
    spread_look_s: Annotated[float, Gap(16, 5, 60)] = (
        10.0  # so soon after power begins we look over how many phases
    )
    spread_again_s: Annotated[float, Gap(16, 10, 600)] = 120.0  # and so often again, as long as it flows
    idle_read_s: Annotated[float, Gap(16, 60, 600)] = (
        300.0  # an idle charger sends so little that it is read now and then
    )
    device_silent_s: Annotated[float, Gap(16, 45, 90)] = (
        90.0  # a charger of ours that is silent for so long is away
    )
    late_upload_s: Annotated[float, Gap(16, 5, 60)] = (
        30.0  # what is older proves the charger alive and no more
    )

    # G-17
    pause_reads_as_idle: Annotated[bool, Gap(17)] = True  # a connector we paused, its transaction goes on
    resume_s: Annotated[float, Gap(17, 15, 300)] = (
        60.0  # so long a vehicle may take to draw again after a pause
    )
    offline_beat_is_shutdown: Annotated[bool, Gap(17)] = True  # a heartbeat that says so ends the link

    # G-18
    bare_number_is_code: Annotated[bool, Gap(18)] = True  # 421 is F-0421

    # G-19
    record_tolerance_wh: Annotated[int, Gap(19, 10, 5_000)] = (
        100  # a charged energy and its registers differ by less
    )

    # G-20: a session is told by its start, in half-open windows
    records_after_s: Annotated[float, Gap(20, 1, 3600)] = 30.0  # first look after start-up
    records_every_s: Annotated[float, Gap(20, 60, _DAY_S)] = 900.0
    records_overlap_s: Annotated[float, Gap(20, 3600, 7 * _DAY_S)] = (
        48 * 3600.0
    )  # uploads come late after an outage
    records_repeat_days: Annotated[int, Gap(20, 1, 31)] = 7  # so far back once a day, and at start-up

    # G-21
    energy_bucket_zone: Annotated[Literal["utc", "site"], Gap(21)] = (
        "utc"  # of the platform's days and months
    )

    # G-22: requests per minute; `burst_share` of them at once, `headroom` stays unused, stops may dip into that
    gets_per_min: Annotated[int, Gap(22, 10, 600)] = 60
    controls_per_min: Annotated[int, Gap(22, 10, 300)] = 30
    tokens_per_min: Annotated[int, Gap(22, 2, 60)] = 10
    registrations_per_min: Annotated[int, Gap(22, 1, 60)] = 10  # per address, with us
    uploads_per_min: Annotated[int, Gap(22, 10, 600)] = (
        60  # events, records and firmware reports of one charger
    )
    headroom: Annotated[float, Gap(22, 0.1, 0.7)] = 0.3
    burst_share: Annotated[float, Gap(22, 0.05, 0.5)] = 0.1

    # G-23
    firmware_gate: Annotated[str, Gap(23, form=r"[0-9]{6}\.[0-9]{4}", least_text=_GATE)] = _GATE
    upgrade_names_version: Annotated[bool, Gap(23)] = True  # beside the address of the image

    # G-25
    region_read_from_host: Annotated[bool, Gap(25)] = True  # a host that names another region is refused

    # G-29
    clock_skew_s: Annotated[float, Gap(29, 30, 60)] = (
        60.0  # a charger's clock is at most so far off: what leases have room for
    )
    stamp_tolerance_s: Annotated[float, Gap(29, 1, 15)] = (
        10.0  # telemetry stamped so long ago still counts as now
    )
    stamp_ahead_s: Annotated[float, Gap(29, 10, 300)] = 60.0  # a stamp further in the future is no stamp

    # G-31
    write_includes_read: Annotated[bool, Gap(31)] = False

    # G-34: no order to discharge lasts longer, so a charger that lost its link ends by then
    discharge_alone_s: Annotated[float, Gap(34, 60, 900)] = 900.0


def gaps_by_setting() -> dict[str, Gap]:
    """The gap each setting belongs to, in their order."""
    hints = get_type_hints(Readings, include_extras=True)
    return {each.name: hints[each.name].__metadata__[0] for each in fields(Readings)}


def changed(readings: Readings) -> Iterator[tuple[str, str, object, object]]:
    """What differs from the defaults: gap, setting, value, default."""
    default = Readings()
    for name, gap in gaps_by_setting().items():
        if getattr(readings, name) != getattr(default, name):
            yield gap.id, name, getattr(readings, name), getattr(default, name)
