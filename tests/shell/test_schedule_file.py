"""The schedule file: the sample of the interface, every mistake as one clear line, there and back again."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.core.model import Schedule, ScheduleType, SlotAction, TimeSlot
from controller.schedule_file import DAYS, read_schedule, schedule_document

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
ZONE = "Europe/Amsterdam"
SAMPLE = """
schedule_id = "nights"
type = "weekly"                       # once | daily | weekly
timezone = "Europe/Amsterdam"         # default: the site's
enabled = true
target_soc = 90
effective_from = 2026-11-22T00:00:00Z
[[time_slots]]
day_of_week = ["mon", "tue", "wed", "thu", "fri"]
start = "22:00"
end = "06:00"
power_limit = "7 kW"
action = "charge"                     # charge | discharge | idle
"""


def test_the_sample_of_the_interface() -> None:
    assert read_schedule(SAMPLE, "UTC", NOW) == Schedule(
        id="nights",
        type=ScheduleType.WEEKLY,
        enabled=True,
        timezone=ZONE,
        slots=(TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, 7_000, (0, 1, 2, 3, 4)),),
        target_soc=90,
        effective_from=datetime(2026, 11, 22, tzinfo=UTC),
    )


def test_defaults_are_the_sites_zone_enabled_and_every_day() -> None:
    text = 'schedule_id="x"\ntype="daily"\n[[time_slots]]\nstart="00:00"\nend="00:00"\naction="idle"'
    schedule = read_schedule(text, ZONE, NOW)
    assert (schedule.timezone, schedule.enabled, schedule.target_soc) == (ZONE, True, None)
    assert schedule.slots == (TimeSlot(0, 0, SlotAction.IDLE),)


def test_once_counts_from_now_unless_it_says_otherwise() -> None:
    once = SAMPLE.replace('"weekly"', '"once"')
    assert read_schedule(once, ZONE, NOW).effective_from == datetime(2026, 11, 22, tzinfo=UTC)
    undated = once.replace("effective_from = 2026-11-22T00:00:00Z", "")
    assert read_schedule(undated, ZONE, NOW).effective_from == NOW


@pytest.mark.parametrize("written", ["2026-11-22", "2026-11-22T00:00:00", "2026-11-22T00:00:00+01:00"])
def test_a_time_without_a_zone_is_in_the_schedules_zone(written: str) -> None:
    text = SAMPLE.replace("2026-11-22T00:00:00Z", written)
    assert read_schedule(text, "UTC", NOW).effective_from == datetime(2026, 11, 21, 23, tzinfo=UTC)


MISTAKES = [
    ("nights = [", "not TOML"),
    ("x = " + "[" * 20_000, "not TOML"),
    ("", "schedule_id is missing"),
    (SAMPLE + "\nspeed = 3", "time_slots 1: speed is not known; known are action"),
    ("colour = 1\n" + SAMPLE, "colour is not known; known are"),
    (SAMPLE.replace('"nights"', '""'), "schedule_id: a text"),
    (SAMPLE.replace('"nights"', "7"), "schedule_id: a text"),
    (SAMPLE.replace('"nights"', '"a\\nb"'), "schedule_id: a text"),
    (SAMPLE.replace('"nights"', f'"{"n" * 65}"'), "schedule_id: a text"),
    (SAMPLE.replace('type = "weekly"', ""), "type: one of once, daily, weekly"),
    (SAMPLE.replace('"weekly"', '"hourly"'), "type: one of once, daily, weekly"),
    (SAMPLE.replace('"weekly"', "[]"), "type: one of"),
    (SAMPLE.replace('"Europe/Amsterdam"', '"Mars/Olympus"'), 'timezone: "Mars/Olympus"'),
    (SAMPLE.replace('"Europe/Amsterdam"', '"../../etc/passwd"'), "timezone:"),
    (SAMPLE.replace('"Europe/Amsterdam"', '""'), "timezone:"),
    (SAMPLE.replace('"Europe/Amsterdam"', '"Europe"'), "timezone:"),
    (SAMPLE.replace('"Europe/Amsterdam"', "true"), "timezone:"),
    (SAMPLE.replace('"Europe/Amsterdam"', "[1]"), "timezone:"),
    (SAMPLE.replace("enabled = true", 'enabled = "yes"'), "enabled: true or false"),
    (SAMPLE.replace("= 90", "= 101"), "target_soc: a whole number from 0 to 100"),
    (SAMPLE.replace("= 90", "= true"), "target_soc: a whole number"),
    (SAMPLE.replace("= 90", "= 90.5"), "target_soc: a whole number"),
    (SAMPLE.replace("2026-11-22T00:00:00Z", '"today"'), "effective_from: a date or time like"),
    (SAMPLE.replace("2026-11-22T00:00:00Z", "07:30:00"), "effective_from: a date or time like"),
    (SAMPLE.replace("2026-11-22T00:00:00Z", "0001-01-01T00:00:00+14:00"), "effective_from: "),
    (SAMPLE.replace("2026-11-22T00:00:00Z", "9999-12-31T23:59:59-14:00"), "effective_from: "),
    (SAMPLE.replace("2026-11-22T00:00:00Z", "0001-01-01"), "effective_from: "),
    (SAMPLE.split("[[")[0], "time_slots: at least one"),
    (SAMPLE.split("[[")[0] + "time_slots = 3", "time_slots: write each as [[time_slots]]"),
    (SAMPLE.split("[[")[0] + "time_slots = [3]", "time_slots: write each as [[time_slots]]"),
    (SAMPLE.replace('"mon"', '"monday"'), "time_slots 1: day_of_week: a list of mon"),
    (SAMPLE.replace('"mon"', "{}"), "time_slots 1: day_of_week"),
    (SAMPLE.replace('["mon", "tue", "wed", "thu", "fri"]', '"mon"'), "time_slots 1: day_of_week"),
    (SAMPLE.replace('["mon", "tue", "wed", "thu", "fri"]', "[]"), "a weekly schedule needs day_of_week"),
    (SAMPLE.replace('"22:00"', '"10 pm"'), 'time_slots 1: start: write it like "22:00"'),
    (SAMPLE.replace('"22:00"', '"24:00"'), "time_slots 1: start"),
    (SAMPLE.replace('"22:00"', "22:00:00"), "time_slots 1: start"),
    (SAMPLE.replace('end = "06:00"', ""), "time_slots 1: end"),
    (SAMPLE.replace('"06:00"', '"22:00"'), "start equals end"),
    (SAMPLE.replace('"7 kW"', "7"), 'power_limit: write it like "7 kW"'),
    (SAMPLE.replace('"7 kW"', '"7"'), 'time_slots 1: power_limit: "7" is not a power'),
    (SAMPLE.replace('"7 kW"', '"16 A"'), "time_slots 1: power_limit"),
    (SAMPLE.replace('"7 kW"', '"-7 kW"'), "time_slots 1: power_limit"),
    (SAMPLE.replace('"7 kW"', f'"{"9" * 400} kW"'), "time_slots 1: power_limit"),
    (SAMPLE.replace('"charge" ', '"boost" '), "time_slots 1: action: one of charge, discharge, idle"),
    (SAMPLE.replace('action = "charge"', ""), "time_slots 1: action"),
    (
        SAMPLE.replace('"charge" ', '"discharge" ').replace('power_limit = "7 kW"', ""),
        "time_slots 1: power_limit is missing: a discharge needs one above 0",
    ),
    (
        SAMPLE.replace('"charge" ', '"discharge" ').replace('"7 kW"', '"0 kW"'),
        "a discharge needs one above 0",
    ),
    (
        SAMPLE + '[[time_slots]]\nday_of_week=["mon"]\nstart="23:00"\nend="23:30"\naction="idle"',
        "time_slots overlap",
    ),
]


def test_a_discharge_slot_names_its_power() -> None:
    (slot,) = read_schedule(SAMPLE.replace('"charge" ', '"discharge" '), ZONE, NOW).slots
    assert (slot.action, slot.power_limit_w) == (SlotAction.DISCHARGE, 7_000)


@pytest.mark.parametrize(("text", "part"), MISTAKES, ids=[part[:40] for _, part in MISTAKES])
def test_a_mistake_is_one_line_that_names_it(text: str, part: str) -> None:
    with pytest.raises(ValueError) as found:
        read_schedule(text, ZONE, NOW)
    assert part in str(found.value)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600


def as_toml(document: dict[str, Any]) -> str:
    """The document of `--json` as somebody would write it into a file."""
    lines = []
    for key, value in document.items():
        if key.startswith("effective") and value is not None:
            lines.append(f"{key} = {value}")
        elif key != "time_slots" and value is not None:
            lines.append(f"{key} = {_toml(value)}")
    for slot in document["time_slots"]:
        lines.append("[[time_slots]]")
        lines += [f"{key} = {_toml(value)}" for key, value in slot.items() if value is not None]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


instants = st.integers(50_000_000, 7_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC))
slots = st.builds(
    TimeSlot,
    start_min=st.integers(0, 1439),
    end_min=st.integers(0, 1439),
    action=st.sampled_from([SlotAction.CHARGE, SlotAction.IDLE]),
    power_limit_w=st.none() | st.integers(0, 2_000_000_000),
    days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
).filter(lambda slot: slot.start_min != slot.end_min)
schedules = st.builds(
    Schedule,
    id=st.text("abcdefghij -_.äß", min_size=1, max_size=64),
    type=st.sampled_from(ScheduleType),
    enabled=st.booleans(),
    timezone=st.sampled_from(["UTC", "Europe/Amsterdam", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    slots=slots.map(lambda slot: (slot,)),
    target_soc=st.none() | st.integers(0, 100),
    effective_from=instants,
    effective_until=st.none() | instants,
)


@given(schedules)
def test_what_is_shown_can_be_stored_again(schedule: Schedule) -> None:
    assert read_schedule(as_toml(schedule_document(schedule)), "UTC", NOW) == schedule


def _never_anything_but_a_value_error(text: str) -> None:
    try:
        schedule = read_schedule(text, ZONE, NOW)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert schedule_document(schedule)["schedule_id"] == schedule.id


@given(st.text(max_size=200))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    _never_anything_but_a_value_error(text)


values = st.one_of(
    st.sampled_from(
        ["1", "-1", "true", "nan", "inf", "[]", "{}", "''", "2026-02-30", "07:30:00", "9999-12-31", "1e400"]
    ),
    st.sampled_from(["1970-01-01T00:00:00+14:00", "'7 kW'", "'22:00'", "'once'", "'daily'", "'Etc/UTC'"]),
    st.text(max_size=12).map(lambda text: repr(text)),
    st.lists(st.sampled_from([f"'{day}'" for day in DAYS])).map(lambda days: f"[{', '.join(days)}]"),
)
keys = st.sampled_from(
    [
        "schedule_id",
        "type",
        "timezone",
        "enabled",
        "target_soc",
        "effective_from",
        "effective_until",
        "time_slots",
    ]
)
slot_keys = st.sampled_from(["day_of_week", "start", "end", "power_limit", "action"])


@given(st.dictionaries(keys, values), st.lists(st.dictionaries(slot_keys, values), max_size=3))
@example({"schedule_id": "'x'", "type": "'daily'"}, [{"start": "'00:00'", "end": "'24:00'"}])
def test_any_values_under_known_keys_are_a_schedule_or_a_value_error(
    head: dict[str, str], given_slots: list[dict[str, str]]
) -> None:
    lines = [f"{key} = {value}" for key, value in head.items()]
    for slot in given_slots:
        lines += ["[[time_slots]]", *(f"{key} = {value}" for key, value in slot.items())]
    _never_anything_but_a_value_error("\n".join(lines))


@given(st.data())
def test_any_damage_to_a_good_file_is_a_schedule_or_a_value_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SAMPLE)))
    end = data.draw(st.integers(start, min(len(SAMPLE), start + 20)))
    _never_anything_but_a_value_error(SAMPLE[:start] + data.draw(st.text(max_size=10)) + SAMPLE[end:])


def test_the_sample_is_toml() -> None:
    assert tomllib.loads(SAMPLE)["time_slots"][0]["power_limit"] == "7 kW"
