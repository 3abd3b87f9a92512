"""iCalendar as a roster: an event is a trip. DTSTART departs, DTEND returns, SUMMARY says the vehicle and its need.

    SUMMARY:BUS-07 30 kWh        or "BUS-07 80 %", or "BUS-07" alone: leaves full
    LOCATION:CP001/1             the EVSE, may be left out
    DESCRIPTION:...              the first line of up to 64 characters is shown as the block

Source: RFC 5545 (content lines 3.1, DATE-TIME 3.3.5, DURATION 3.3.6, RECUR 3.3.10). A reader of our own, because the
libraries there are do not say in which line a mistake stands and bring three packages. The subset: RRULE daily and weekly
with INTERVAL, COUNT, UNTIL, BYDAY and WKST, EXDATE, RECURRENCE-ID (a changed or cancelled instance), TZID as an IANA
name, UTC and floating times. What is outside of it is a mistake with its line, never a guess. VTIMEZONE is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from controller.core.model import EvseId
from controller.core.roster import Repeat, RosterEntry, occasions
from controller.core.windows import instant
from controller.roster_file import LONGEST_TEXT, YEARS, Reading, named, need

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
RULE_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "WKST")
ONCE = ("DTSTART", "DTEND", "DURATION", "SUMMARY", "RRULE", "LOCATION", "RECURRENCE-ID", "UID", "STATUS")
MOST_COUNT = 1000
MOST_INTERVAL = 60
MOST_BUT = 400
FOR_EVER = timedelta(days=3660)  # nobody counts further

_LINE = re.compile(
    r'([A-Za-z0-9-]+)((?:;[A-Za-z0-9-]+=(?:"[^"]*"|[^":;,]*)(?:,(?:"[^"]*"|[^":;,]*))*)*):(.*)', re.S
)
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(Z?)")
_DURATION = re.compile(
    r"\+?P(?:(\d{1,3})W)?(?:(\d{1,3})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?"
)
_NEED = re.compile(r"(.*?)\s+(\d+(?:\.\d+)?\s*(?:Wh|kWh|MWh|%))")


@dataclass(frozen=True, slots=True)
class _Property:
    line: int
    params: Mapping[str, str]
    value: str


@dataclass(slots=True)
class _Component:
    line: int
    properties: dict[str, list[_Property]] = field(default_factory=dict)

    def one(self, name: str) -> _Property | None:
        return next(iter(self.properties.get(name, ())), None)


class _Wrong(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def read_ics(text: str, timezone: str) -> Reading:
    """Never raises for what stands in it."""
    reading = Reading()
    events = list(_events(text.lstrip("\ufeff"), reading))
    changed: dict[str, list[tuple[int, datetime]]] = {}
    found: list[tuple[int, RosterEntry, str]] = []
    for event in events:
        try:
            uid = _text(event, "UID") or f"line {event.line}"
            if (moved := event.one("RECURRENCE-ID")) is not None:
                changed.setdefault(uid, []).append((moved.line, _time(moved, timezone)[0]))
            if _text(event, "STATUS").upper() != "CANCELLED":
                found.append((event.line, _entry(event, timezone), "" if moved is not None else uid))
        except _Wrong as wrong:
            reading.wrong.append((wrong.line, str(wrong)))
    for line, entry, uid in found:
        if entry.repeat is not None and uid in changed:
            but = (*entry.repeat.but, *(at for _, at in changed[uid]))
            entry = replace(entry, repeat=replace(entry.repeat, but=but))
        reading.add(line, entry)
    if not events and not reading.wrong:
        reading.wrong.append((1, "no event in it (BEGIN:VEVENT)"))
    return reading


def _events(text: str, reading: Reading) -> Iterator[_Component]:
    """Components inside an event (alarms) and beside it (zones) are passed over."""
    open_: list[str] = []
    event: _Component | None = None
    for line, content in _unfolded(text):
        match = _LINE.fullmatch(content)
        if match is None:
            reading.wrong.append((line, f'"{content[:40]}" is not a line of iCalendar (NAME:value)'))
            return
        name, params, value = match[1].upper(), _params(match[2]), match[3]
        if name == "BEGIN":
            open_.append(value.strip().upper())
            if open_[-1] == "VEVENT":
                event = _Component(line)
        elif name == "END":
            if not open_ or open_.pop() != value.strip().upper():
                reading.wrong.append((line, f"END:{value[:40]} without its BEGIN"))
                return
            if value.strip().upper() == "VEVENT" and event is not None:
                yield event
                event = None
        elif event is not None and open_[-1] == "VEVENT":
            told = event.properties.setdefault(name, [])
            told.append(_Property(line, params, value))
            if name in ONCE and len(told) > 1:
                reading.wrong.append((line, f"{name} stands twice in one event"))
        elif not open_:
            reading.wrong.append((line, "not an iCalendar file; it begins with BEGIN:VCALENDAR"))
            return
    if open_:
        reading.wrong.append((max(1, len(text.splitlines())), f"the file ends inside {open_[-1]}"))


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """A line that begins with a blank goes on where the one before ended (RFC 5545 3.1)."""
    begun, content = 0, ""
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line[:1] in (" ", "\t") and begun:
            content += line[1:]
            continue
        if begun:
            yield begun, content
        begun, content = (number, line) if line.strip() else (0, "")
    if begun:
        yield begun, content


def _params(text: str) -> dict[str, str]:
    pairs = re.findall(r';([A-Za-z0-9-]+)=("[^"]*"|[^":;,]*)', text)
    return {name.upper(): value.strip('"') for name, value in pairs}


def _text(event: _Component, name: str) -> str:
    told = event.one(name)
    if told is None:
        return ""
    return re.sub(r"\\([nN,;\\])", lambda m: "\n" if m[1] in "nN" else m[1], told.value).strip()


def _entry(event: _Component, timezone: str) -> RosterEntry:
    start = event.one("DTSTART")
    if start is None:
        raise _Wrong(event.line, "DTSTART is missing: when does it leave?")
    departs, zone = _time(start, timezone)
    returns = _returns(event, departs, zone)
    summary = event.one("SUMMARY")
    if summary is None or not _text(event, "SUMMARY"):
        raise _Wrong(event.line if summary is None else summary.line, "SUMMARY is missing: which vehicle?")
    said = _text(event, "SUMMARY")
    parts = _NEED.fullmatch(said)
    vehicle, amount = (parts[1].strip(), parts[2]) if parts is not None else (said, "")
    is_soc = amount.endswith("%")
    wrong: list[str] = []
    energy_wh, soc = need("" if is_soc else amount, amount if is_soc else "", wrong)
    named("the vehicle in SUMMARY", vehicle, wrong)
    if wrong:
        raise _Wrong(summary.line, "; ".join(wrong))
    place, block = event.one("LOCATION"), _text(event, "DESCRIPTION").partition("\n")[0].strip()
    evse = named("LOCATION", _text(event, "LOCATION"), wrong)
    if wrong and place is not None:
        raise _Wrong(place.line, "; ".join(wrong))
    return RosterEntry(
        vehicle=vehicle,
        departs=departs,
        energy_wh=energy_wh,
        soc=soc,
        returns=returns,
        evse=EvseId(evse) if evse else None,
        block="".join(c for c in block if c.isprintable())[:LONGEST_TEXT],
        repeat=_repeat(event, departs, zone),
    )


def _returns(event: _Component, departs: datetime, zone: str) -> datetime | None:
    end, lasts = event.one("DTEND"), event.one("DURATION")
    if end is not None and lasts is not None:
        raise _Wrong(lasts.line, "DTEND and DURATION are both given")
    if end is not None:
        return _time(end, zone)[0]
    if lasts is None:
        return None
    match = _DURATION.fullmatch(lasts.value.strip())
    if match is None or not any(match.groups()):
        raise _Wrong(lasts.line, f'DURATION: "{lasts.value[:40]}" is not one; write it like PT12H30M')
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return departs + timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _time(told: _Property, timezone: str) -> tuple[datetime, str]:
    """The instant and the zone its clock is in."""
    return _instant(told.line, told.value.strip(), told.params.get("TZID"), timezone)


def _instant(line: int, text: str, tzid: str | None, timezone: str) -> tuple[datetime, str]:
    match = _TIME.fullmatch(text)
    if match is None:
        hint = "; a whole day is no departure" if re.fullmatch(r"\d{8}", text) else ""
        raise _Wrong(line, f'"{text[:40]}" is not a time like 20261123T053000{hint}')
    try:
        at = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError as error:
        raise _Wrong(line, f'"{text}": {error}') from None
    if at.year not in YEARS:
        raise _Wrong(line, f'"{text}" is out of range')
    if match[7]:
        return at, "UTC"
    name = timezone if tzid is None else tzid.lstrip("/")
    try:
        zone = ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise _Wrong(
            line, f'TZID "{name[:40]}" is not known; export with names like Europe/Amsterdam'
        ) from None
    return instant(at.date(), at.hour * 60 + at.minute, zone), name


def _repeat(event: _Component, departs: datetime, zone: str) -> Repeat | None:
    if (rdate := event.one("RDATE")) is not None:
        raise _Wrong(rdate.line, "RDATE is not supported; write an event of its own")
    told, but = event.one("RRULE"), _left_out(event, zone)
    if told is None:
        return None
    if event.one("RECURRENCE-ID") is not None:
        raise _Wrong(told.line, "RRULE in an event that changes one instance")
    parts = _rule(told)
    freq = parts.get("FREQ", "")
    if freq not in ("DAILY", "WEEKLY"):
        raise _Wrong(told.line, f"RRULE: FREQ={freq[:20]} is not supported; DAILY and WEEKLY are")
    every = _number(told, parts, "INTERVAL", MOST_INTERVAL) or 1
    days = _days(told, parts)
    if freq == "DAILY" and days and every > 1:
        raise _Wrong(told.line, "RRULE: BYDAY with a daily INTERVAL above 1 is not supported")
    if freq == "WEEKLY" and not days:
        days = (departs.astimezone(ZoneInfo(zone)).weekday(),)
    if parts.get("WKST", "MO") != "MO" and every > 1:
        raise _Wrong(told.line, "RRULE: WKST other than MO with an INTERVAL is not supported")
    repeat = Repeat(zone, every, days, _until(told, parts, zone), but)
    count = _number(told, parts, "COUNT", MOST_COUNT)
    if count is not None and repeat.until is not None:
        raise _Wrong(told.line, "RRULE: COUNT and UNTIL are both given")
    return repeat if count is None else replace(repeat, until=_last(departs, repeat, count))


def _rule(told: _Property) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in filter(None, told.value.strip().upper().split(";")):
        name, equals, value = part.partition("=")
        if not equals or name not in RULE_PARTS or name in parts:
            raise _Wrong(told.line, f"RRULE: {part[:40]} is not supported; {', '.join(RULE_PARTS)} are, once")
        parts[name] = value
    return parts


def _number(told: _Property, parts: Mapping[str, str], name: str, most: int) -> int | None:
    text = parts.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) <= most):
        raise _Wrong(told.line, f"RRULE: {name} is a whole number from 1 to {most}")
    return int(text)


def _days(told: _Property, parts: Mapping[str, str]) -> tuple[int, ...]:
    if "BYDAY" not in parts:
        return ()
    days = parts["BYDAY"].split(",")
    if not set(days) <= set(DAYS):
        raise _Wrong(told.line, f"RRULE: BYDAY is a list of {', '.join(DAYS)}")
    return tuple(sorted({DAYS.index(day) for day in days}))


def _until(told: _Property, parts: Mapping[str, str], zone: str) -> datetime | None:
    text = parts.get("UNTIL")
    if text is None:
        return None
    whole_day = f"{text}T235900" if re.fullmatch(r"\d{8}", text) else text
    return _instant(told.line, whole_day, None, zone)[0]


def _left_out(event: _Component, zone: str) -> tuple[datetime, ...]:
    found = [
        _instant(told.line, each.strip(), told.params.get("TZID"), zone)[0]
        for told in event.properties.get("EXDATE", ())
        for each in told.value.split(",")
    ]
    if len(found) > MOST_BUT:
        raise _Wrong(event.line, f"more than {MOST_BUT} dates are left out (EXDATE)")
    return tuple(found)


def _last(departs: datetime, repeat: Repeat, count: int) -> datetime:
    """The departure that COUNT ends with; dates that are left out count too."""
    entry = RosterEntry("", departs, repeat=replace(repeat, until=None, but=()))
    far = departs + min(timedelta(days=7 * repeat.every * count + 7), FOR_EVER)
    turns = occasions(entry, departs - timedelta(seconds=1), far)
    return next((turn.departs for turn in islice(turns, count - 1, None)), far)
