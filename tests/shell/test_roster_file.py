"""Roster files: what is taken, what is said of mistakes, and that no file makes more than lines of text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_depot import site

from controller.core.model import EvseId
from controller.core.roster import Repeat, RosterEntry, occasions
from controller.roster_file import BadRoster, Merged, Reading, merged, read_csv
from controller.roster_ics import read_ics

ZONE = "Europe/Amsterdam"
NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
SITE = site()
HEAD = "vehicle,departs,energy,soc,arrives,returns,evse,block\n"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def take(
    reading: Reading, known: tuple[RosterEntry, ...] = (), *, now: datetime = NOW, replace_all: bool = False
) -> Merged:
    return merged("week.csv", reading, known, SITE, now, replace_all)


def refused(text: str, known: tuple[RosterEntry, ...] = ()) -> list[str]:
    with pytest.raises(BadRoster) as error:
        take(read_csv(text, ZONE), known)
    return str(error.value).splitlines()


def ics(*lines: str, head: str = "DTSTART;TZID=Europe/Amsterdam:20261123T053000") -> str:
    event = ["BEGIN:VEVENT", head, "SUMMARY:BUS-07 30 kWh", *lines, "END:VEVENT"]
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *event, "END:VCALENDAR", ""])


# --- CSV ----------------------------------------------------------------------------------------------------------


def test_a_row_with_everything_and_one_with_little() -> None:
    text = HEAD + (
        "BUS-07,2026-11-23T05:30,30 kWh,,2026-11-22T18:10,2026-11-23T18:10,A/1,L1-12\n"
        "BUS-07,2026-11-24 05:30,,80 %,,,,\n"
        "BUS-07,2026-11-25T04:30:00Z,,,,,,\n"
    )
    assert [line for line, _ in read_csv(text, ZONE).found] == [2, 3, 4]
    taken = take(read_csv(text, ZONE))
    assert taken.added == 3 and taken.replaced == 0 and taken.notes == ()
    first, second, third = taken.entries
    assert first == RosterEntry(
        "BUS-07",
        utc("2026-11-23T04:30"),
        30_000,
        None,
        utc("2026-11-22T17:10"),
        utc("2026-11-23T17:10"),
        EvseId("A/1"),
        "L1-12",
    )
    assert (second.departs, second.energy_wh, second.soc) == (utc("2026-11-24T04:30"), None, 80)
    assert (third.departs, third.energy_wh, third.soc) == (utc("2026-11-25T04:30"), None, None)


def test_columns_in_any_order_semicolons_and_a_byte_order_mark() -> None:
    text = "\ufeffSoC ; Departs;VEHICLE\n\n80;2026-11-23T05:30;BUS-07\n"
    reading = read_csv(text, ZONE)
    assert reading.wrong == []
    assert reading.found == [(3, RosterEntry("BUS-07", utc("2026-11-23T04:30"), None, 80))]


BAD_ROWS = [
    ("BUS-07,tomorrow,30 kWh,,,,,", 'departs: "tomorrow" is not a time'),
    ("BUS-07,2026-11-31T05:30,30 kWh,,,,,", "departs"),
    ("BUS-07,2027-02-29T05:30,30 kWh,,,,,", "departs"),
    ("BUS-07,2026-11-23,30 kWh,,,,,", "departs"),
    ("BUS-07,,30 kWh,,,,,", "departs is missing"),
    (",2026-11-23T05:30,30 kWh,,,,,", "vehicle is missing"),
    ("BUS-07,2026-11-23T05:30,30,,,,,", 'energy: "30" is not an energy; write it like "30 kWh"'),
    ("BUS-07,2026-11-23T05:30,0 kWh,,,,,", "energy"),
    ("BUS-07,2026-11-23T05:30,9999 kWh,,,,,", "energy"),
    ("BUS-07,2026-11-23T05:30,,130 %,,,,", "soc"),
    ("BUS-07,2026-11-23T05:30,30 kWh,80 %,,,,", "both"),
    ("BUS-07,2026-11-23T05:30,30 kWh,,2026-11-23T06:00,,,", "arrives lies after departs"),
    ("BUS-07,2026-11-23T05:30,30 kWh,,,2026-11-23T05:00,,", "returns lies before departs"),
    ("BUS-07,2026-11-23T05:30,30 kWh,,,2027-11-23T05:00,,", "more than 60 days"),
    ("BUS-07,2026-11-23T05:30,30 kWh,,,,A/9,", 'no EVSE "A/9"; did you mean A/1?'),
    ("BUS-07,2026-11-23T05:30", "2 fields where the first line has 8"),
    ("BUS-07,9026-11-23T05:30,30 kWh,,,,,", "out of range"),
    ("BUS-07,0001-01-01T00:00+14:00,30 kWh,,,,,", "out of range"),
]


@pytest.mark.parametrize(("row", "says"), BAD_ROWS)
def test_a_bad_row_is_named_with_its_line(row: str, says: str) -> None:
    good = "BUS-07,2026-11-24T05:30,30 kWh,,,,,\n"
    lines = refused(HEAD + good + row + "\n")
    assert len(lines) == 1 and lines[0].startswith("week.csv:3: "), lines
    assert says in lines[0]


def test_every_mistake_at_once_and_a_long_list_is_cut() -> None:
    lines = refused(HEAD + "".join(f"{row}\n" for row, _ in BAD_ROWS[:10]))
    assert [line.split(":")[1] for line in lines] == [str(number) for number in range(2, 12)]
    lines = refused(HEAD + "X,nonsense,,,,,,\n" * 50)
    assert len(lines) == 21 and lines[-1] == "... and 30 more"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "week.csv:1: empty"),
        ("\n\n", "week.csv:1: empty"),
        (HEAD, "nothing to come"),
        ("vehicle,leaves\n", 'week.csv:1: column "leaves" is not known'),
        ("vehicle,energy\n", "week.csv:1: column departs is missing"),
        ("vehicle,departs,departs\n", "twice"),
        (HEAD + '"BUS-07,2026-11-24T05:30\n', "week.csv:2: not CSV"),
        (HEAD + "BUS-07,2026-11-21T05:30,30 kWh,,,,,\n", "all of its 1 entries lie in the past"),
    ],
)
def test_what_is_no_roster(text: str, says: str) -> None:
    lines = refused(text)
    assert len(lines) == 1 and says in lines[0], lines


def test_what_is_past_among_others_is_left_out_and_said() -> None:
    text = HEAD + "BUS-07,2026-11-21T05:30,30 kWh,,,,,\nBUS-07,2026-11-23T05:30,30 kWh,,,,,\n"
    taken = take(read_csv(text, ZONE))
    assert [entry.departs for entry in taken.entries] == [utc("2026-11-23T04:30")]
    assert taken.notes == ("week.csv:2: BUS-07 departs 2026-11-21 05:30, in the past: left out",)


def test_one_that_is_out_and_comes_back_is_not_past() -> None:
    text = HEAD + "BUS-07,2026-11-22T05:30,30 kWh,,,2026-11-22T23:00,,\n"
    assert len(take(read_csv(text, ZONE)).entries) == 1


def test_a_vehicle_nobody_knows_is_kept_and_said() -> None:
    taken = take(read_csv(HEAD + "bus-70,2026-11-23T05:30,30 kWh,,,,,\n", ZONE))
    assert [entry.vehicle for entry in taken.entries] == ["bus-70"]
    assert taken.notes == (
        'week.csv:2: vehicle "bus-70" is not in the config: kept, but nobody can recognise it; did you mean BUS-07?',
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            (
                "BUS-07,2026-11-23T05:30,30 kWh,,,2026-11-23T18:00,,",
                "BUS-07,2026-11-23T17:00,30 kWh,,,,,",
            ),
            "week.csv:3: BUS-07 is not back before 2026-11-23 18:00, but here or leaving again from 2026-11-23 17:00"
            " on (line 2)",
        ),
        (
            ("BUS-07,2026-11-23T05:30,30 kWh,,,,,", "BUS-07,2026-11-23T05:30,20 kWh,,,,,"),
            "week.csv:3: BUS-07 is said to depart twice at 2026-11-23 05:30 (line 2)",
        ),
        (
            (
                "X,2026-11-23T05:30,30 kWh,,2026-11-22T20:00,,A/1,",
                "BUS-07,2026-11-23T04:30,30 kWh,,2026-11-22T21:00,,A/1,",
            ),
            "week.csv:3: X and BUS-07 are both at A/1 from 2026-11-22 21:00 on (line 2)",
        ),
    ],
)
def test_overlaps_are_named_with_both_lines(rows: tuple[str, ...], says: str) -> None:
    assert refused(HEAD + "\n".join(rows)) == [says]


def test_one_after_the_other_is_no_overlap() -> None:
    text = HEAD + (
        "BUS-07,2026-11-23T05:30,30 kWh,,2026-11-22T20:00,2026-11-23T12:00,A/1,\n"
        "BUS-07,2026-11-23T13:00,10 kWh,,2026-11-23T12:00,2026-11-23T18:00,A/1,\n"
        "X,2026-11-23T12:00,10 kWh,,2026-11-23T05:30,,A/1,\n"
    )
    assert take(read_csv(text, ZONE)).added == 3


# --- beside what is known -----------------------------------------------------------------------------------------


def entry(departs: str, vehicle: str = "BUS-07", **more: object) -> RosterEntry:
    return replace(RosterEntry(vehicle, utc(departs)), **more)  # type: ignore[arg-type]


def test_an_import_adds_corrects_or_replaces() -> None:
    known = (entry("2026-11-20T05:00"), entry("2026-11-23T04:30"), entry("2026-11-24T04:30"))
    reading = read_csv(HEAD + "BUS-07,2026-11-23T05:30,30 kWh,,,,,\nX,2026-11-23T05:30,,,,,,\n", ZONE)
    added = take(reading, known)
    assert (added.added, added.replaced, len(added.entries)) == (2, 1, 3)  # the past one is gone
    assert take(reading, added.entries).entries == added.entries, "the same file again changes nothing"
    assert len(take(reading, known, replace_all=True).entries) == 2


def test_what_contradicts_the_roster_before_says_how_to_replace_it() -> None:
    known = (entry("2026-11-23T04:30", returns=utc("2026-11-23T18:00")),)
    (line,) = refused(HEAD + "BUS-07,2026-11-23T12:00,30 kWh,,,,,\n", known)
    assert line.startswith("week.csv:2: ") and line.endswith("--replace puts this file in its place")
    assert take(read_csv(HEAD + "BUS-07,2026-11-23T12:00,,,,,,\n", ZONE), known, replace_all=True).added == 1


# --- the nights of the time change, and the leap day --------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("2027-03-28T02:30", "2027-03-28T01:00"),  # left out: the end of the gap
        ("2027-03-28T03:00", "2027-03-28T01:00"),
        ("2026-10-25T02:30", "2026-10-25T00:30"),  # twice: the first
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30"),  # or the one that is meant
        ("2028-02-29T05:30", "2028-02-29T04:30"),
    ],
)
def test_times_on_odd_nights(local: str, expected: str) -> None:
    reading = read_csv(HEAD + f"BUS-07,{local},30 kWh,,,,,\n", ZONE)
    assert [found.departs for _, found in reading.found] == [utc(expected)]


# --- iCalendar ----------------------------------------------------------------------------------------------------


def test_an_event_is_a_trip() -> None:
    text = ics(
        "DTEND;TZID=Europe/Amsterdam:20261123T181000",
        "LOCATION:A/1",
        "DESCRIPTION:Line 1\\, early\\nsecond line",
        "BEGIN:VALARM",
        "SUMMARY:wake up",
        "END:VALARM",
    )
    reading = read_ics(text, "UTC")
    assert reading.wrong == []
    ((line, found),) = reading.found
    assert line == 3
    assert found == RosterEntry(
        "BUS-07",
        utc("2026-11-23T04:30"),
        30_000,
        returns=utc("2026-11-23T17:10"),
        evse=EvseId("A/1"),
        block="Line 1, early",
    )


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("BUS-07", ("BUS-07", None, None)),
        ("BUS-07 80 %", ("BUS-07", None, 80)),
        ("BUS-07 80%", ("BUS-07", None, 80)),
        ("Bus 7 12.5 kWh", ("Bus 7", 12_500, None)),
        ("Bus 7", ("Bus 7", None, None)),
    ],
)
def test_the_summary_says_vehicle_and_need(
    summary: str, expected: tuple[str, int | None, int | None]
) -> None:
    ((_, found),) = read_ics(ics().replace("BUS-07 30 kWh", summary), ZONE).found
    assert (found.vehicle, found.energy_wh, found.soc) == expected


def test_folded_lines_floating_utc_and_duration() -> None:
    text = ics("DURATION:PT12H30M", head="DTSTART:202611\r\n 23T053000").replace(
        "BUS-07 30", "BUS\r\n\t-07 30"
    )
    ((_, found),) = read_ics(text, ZONE).found
    assert (found.vehicle, found.departs) == ("BUS-07", utc("2026-11-23T04:30"))
    assert found.returns == utc("2026-11-23T17:00")
    ((_, found),) = read_ics(ics(head="DTSTART:20261123T053000Z"), ZONE).found
    assert found.departs == utc("2026-11-23T05:30")


def test_weekly_on_working_days_with_a_day_left_out_and_one_moved() -> None:
    text = "\n".join(
        [
            "BEGIN:VCALENDAR",
            "BEGIN:VTIMEZONE",
            "TZID:Europe/Amsterdam",
            "BEGIN:STANDARD",
            "DTSTART:19701025T030000",
            "END:STANDARD",
            "END:VTIMEZONE",
            "BEGIN:VEVENT",
            "UID:one",
            "DTSTART;TZID=Europe/Amsterdam:20261123T053000",
            "DTEND;TZID=Europe/Amsterdam:20261123T180000",
            "RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;UNTIL=20261204T235959Z",
            "EXDATE;TZID=Europe/Amsterdam:20261125T053000",
            "SUMMARY:BUS-07 30 kWh",
            "END:VEVENT",
            "BEGIN:VEVENT",
            "UID:one",
            "RECURRENCE-ID;TZID=Europe/Amsterdam:20261126T053000",
            "DTSTART;TZID=Europe/Amsterdam:20261126T073000",
            "SUMMARY:BUS-07 20 kWh",
            "END:VEVENT",
            "BEGIN:VEVENT",
            "UID:one",
            "RECURRENCE-ID;TZID=Europe/Amsterdam:20261127T053000",
            "DTSTART;TZID=Europe/Amsterdam:20261127T053000",
            "STATUS:CANCELLED",
            "SUMMARY:BUS-07 20 kWh",
            "END:VEVENT",
            "END:VCALENDAR",
        ]
    )
    reading = read_ics(text, "UTC")
    assert reading.wrong == []
    taken = take(reading)
    days = [
        turn.departs.astimezone(ZoneInfo(ZONE)).strftime("%d %H:%M")
        for each in taken.entries
        for turn in occasions(each, NOW, NOW + timedelta(days=30))
    ]
    assert sorted(days) == [
        "01 05:30", "02 05:30", "03 05:30", "04 05:30", "23 05:30", "24 05:30", "26 07:30", "30 05:30"
    ]  # fmt: skip


BAD_EVENTS = [
    ("RRULE:FREQ=MONTHLY", 6, "MONTHLY is not supported"),
    ("RRULE:FREQ=WEEKLY;BYDAY=1MO", 6, "BYDAY"),
    ("RRULE:FREQ=WEEKLY;BYSETPOS=1", 6, "BYSETPOS=1 is not supported"),
    ("RRULE:FREQ=DAILY;INTERVAL=0", 6, "INTERVAL"),
    ("RRULE:FREQ=DAILY;COUNT=3;UNTIL=20261230T000000Z", 6, "both"),
    ("RRULE:FREQ=DAILY;FREQ=DAILY", 6, "once"),
    ("RDATE:20261124T053000", 6, "RDATE"),
    ("DTEND:20261123", 6, "not a time like"),
    ("DTEND;TZID=W. Europe Standard Time:20261123T180000", 6, "TZID"),
    ("DURATION:P", 6, "DURATION"),
    ("EXDATE:nonsense", 6, "nonsense"),
    ("LOCATION:" + "x" * 70, 6, "LOCATION"),
    ("SUMMARY:twice", 6, "SUMMARY stands twice"),
    ("no colon", 6, "not a line of iCalendar"),
    ("END:VALARM", 6, "without its BEGIN"),
    ("DTEND:20261122T053000", 3, "returns lies before departs"),
]


@pytest.mark.parametrize(("line", "at", "says"), BAD_EVENTS)
def test_a_bad_line_is_named(line: str, at: int, says: str) -> None:
    wrong = read_ics(ics(line), ZONE).wrong
    assert len(wrong) == 1 and wrong[0][0] == at and says in wrong[0][1], wrong


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, "no event in it"),
        ("BEGIN:VCALENDAR\nEND:VCALENDAR\n", 1, "no event in it"),
        ("vehicle,departs\n", 1, "not a line of iCalendar"),
        ("SUMMARY:x\n", 1, "begins with BEGIN:VCALENDAR"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:x\n", 3, "ends inside VEVENT"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:x\nEND:VEVENT\nEND:VCALENDAR", 2, "DTSTART is missing"),
        (ics(head="DTSTART;VALUE=DATE:20261123"), 4, "a whole day is no departure"),
        (ics(head="DTSTART:20270229T053000"), 4, "20270229T053000"),
        (ics().replace("BUS-07 30 kWh", ""), 5, "SUMMARY is missing"),
        (ics().replace("BUS-07 30 kWh", "BUS-07 130 %"), 5, "soc"),
    ],
)
def test_what_is_no_calendar(text: str, at: int, says: str) -> None:
    wrong = read_ics(text, ZONE).wrong
    assert len(wrong) == 1 and wrong[0][0] == at and says in wrong[0][1], wrong


def test_two_series_of_one_vehicle_that_cross_are_found_weeks_ahead() -> None:
    other = ics("RRULE:FREQ=WEEKLY;BYDAY=TU;INTERVAL=3", head="DTSTART:20261124T050000").replace(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n", ""
    )
    first = ics("DURATION:PT1H", "RRULE:FREQ=DAILY;INTERVAL=2").replace("END:VCALENDAR\r\n", "")
    with pytest.raises(BadRoster, match=r"week.csv:9: BUS-07 is not back before 2026-12-15 06:30"):
        # on Tuesday 24 November the daily one rests, three weeks later it does not; both leave within the hour
        take(read_ics(first + other.replace("050000", "060000"), ZONE))


# --- rules against an independent reader --------------------------------------------------------------------------

RULES = st.builds(
    lambda freq, interval, days, end: ";".join(
        [f"FREQ={freq}", f"INTERVAL={interval if freq == 'WEEKLY' or not days else 1}"]
        + ([f"BYDAY={','.join(days)}"] if days else [])
        + ([end] if end else [])
    ),
    st.sampled_from(["DAILY", "WEEKLY"]),
    st.integers(1, 5),
    st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), unique=True, max_size=4),
    st.sampled_from(["", "COUNT=7", "COUNT=1", "UNTIL=20270115T053000"]),
)


@settings(max_examples=150, deadline=None)
@given(rule=RULES, day=st.integers(0, 13))
def test_series_are_those_of_another_reader(rule: str, day: int) -> None:
    start = datetime(2026, 11, 23, 5, 30) + timedelta(days=day)  # noqa: DTZ001 - the other reader is naive
    until = datetime(2027, 4, 1, 2)  # noqa: DTZ001
    expected = list(takewhile(lambda at: at < until, rrulestr(f"RRULE:{rule}", dtstart=start)))
    if rule.count("BYDAY") and start not in expected:
        # RFC 5545: DTSTART is the first of the series even where the rule does not name its day
        if "COUNT" in rule:
            return
        expected.insert(0, start)
    reading = read_ics(ics(f"RRULE:{rule}", head=f"DTSTART:{start:%Y%m%dT%H%M%S}"), "Europe/Amsterdam")
    assert reading.wrong == []
    ((_, found),) = reading.found
    zone = ZoneInfo(ZONE)
    turns = occasions(found, utc("2026-11-01T00:00"), utc("2027-04-01T00:00"))
    assert [turn.departs.astimezone(zone).replace(tzinfo=None) for turn in turns] == expected


def test_a_series_keeps_its_clock_over_the_time_change() -> None:
    found = RosterEntry(
        "X",
        utc("2027-03-26T01:30"),  # 02:30 on site
        returns=utc("2027-03-26T17:00"),
        repeat=Repeat(ZONE),
    )
    turns = list(occasions(found, utc("2027-03-26T00:00"), utc("2027-03-30T00:00")))
    assert [turn.departs for turn in turns] == [
        utc("2027-03-26T01:30"), utc("2027-03-27T01:30"), utc("2027-03-28T01:00"), utc("2027-03-29T00:30")
    ]  # fmt: skip
    assert turns[2].returns == utc("2027-03-28T16:00")


def test_a_yearly_leap_day_is_just_another_day() -> None:
    found = RosterEntry("X", utc("2028-02-28T05:30"), repeat=Repeat("UTC"))
    days = [
        f"{turn.departs:%m-%d}" for turn in occasions(found, utc("2028-02-28T00:00"), utc("2028-03-02T00:00"))
    ]
    assert days == ["02-28", "02-29", "03-01"]


# --- the examples -------------------------------------------------------------------------------------------------


def test_both_examples_are_good_and_say_the_same_of_the_bus() -> None:
    folder = Path(__file__).parents[1] / "data"
    table = read_csv((folder / "roster.csv").read_text(), ZONE)
    calendar = read_ics((folder / "roster.ics").read_text(), ZONE)
    assert table.wrong == calendar.wrong == []
    assert [line for line, _ in table.found] == [2, 3, 4, 5] and [line for line, _ in calendar.found] == [
        4,
        14,
    ]
    first, weekly = table.found[0][1], calendar.found[0][1]
    assert replace(first, arrives=None) == replace(weekly, repeat=None)
    tuesday = list(occasions(weekly, NOW, NOW + timedelta(days=2)))[1]
    assert tuesday == table.found[1][1]
    assert table.found[2][1] == calendar.found[1][1]


# --- whatever stands in it ----------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(
        [
            "BUS-07",
            "2026-11-23T05:30",
            "30 kWh",
            "80 %",
            "A/1",
            "",
            '"',
            "\x00",
            "9" * 400,
            "é",
            "2026-W48-1T05:30",
        ]
    ),
    st.text(max_size=12),
)
CSV_TEXTS = st.lists(st.lists(CELLS, max_size=9).map(",".join), max_size=6).map(
    lambda rows: HEAD + "\n".join(rows)
)
ICS_LINES = st.one_of(
    st.sampled_from(
        [
            "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VCALENDAR", "END:VCALENDAR", "DTSTART:20261123T053000",
            "DTEND:20261123T183000", "SUMMARY:BUS-07 30 kWh", "RRULE:FREQ=DAILY", "RRULE:FREQ=WEEKLY;COUNT=999",
            "RRULE:FREQ=DAILY;UNTIL=20991231T000000Z", "DURATION:P999W", "DTSTART;TZID=../etc/passwd:20261123T053000",
            "DTSTART;TZID=:20261123T053000", "DTSTART:99991231T235959", " folded", "EXDATE:,", "RECURRENCE-ID:x",
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(), CSV_TEXTS))
def test_any_text_as_csv_is_read_or_refused_by_lines(text: str) -> None:
    check(read_csv(text, ZONE), text)


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(
        st.text(),
        st.lists(ICS_LINES, max_size=14).map("\n".join),
        st.lists(ICS_LINES, max_size=8).map(lambda lines: ics(*lines)),
    )
)
def test_any_text_as_icalendar_is_read_or_refused_by_lines(text: str) -> None:
    check(read_ics(text, ZONE), text)


def check(reading: Reading, text: str) -> None:
    lines = text.count("\n") + text.count("\r") + 1
    assert all(1 <= line <= lines and said.strip() for line, said in reading.wrong)
    try:
        taken = take(reading)
    except BadRoster as error:
        said = str(error).splitlines()
        assert said and len(said) <= 21 and all(line.startswith(("week.csv:", "... and")) for line in said)
    else:
        assert reading.wrong == [] and taken.added == len(taken.entries) > 0
