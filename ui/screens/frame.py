"""What every screen has in common: header, banners, alarm lines, circuit rows, footer. Pure.

Each function takes the picture and a width and returns lines.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from controller.core.model import PerPhase, Quality
from controller.core.snapshot import AlarmView, CircuitView, MeterView, Snapshot
from ui import format as fmt
from ui.lines import BLANK, Line, Span, Tone, emphasised, line, wrapped
from ui.picture import MARKS, TONES, Picture, doubtful, ranked_alarms, troubled_channels

_STATE_TONES = {"auto": Tone.PLAIN, "degraded": Tone.HIGH, "failsafe": Tone.CRITICAL, "starting": Tone.LOW}
_ALARM_WORDS = {
    "unack": "UNACK",
    "ack": "acked",
    "rtn-unack": "RTN",
    "shelved": "shelf",
    "out-of-service": "out",
}
_PHASES = ("L1", "L2", "L3")


def header(picture: Picture, title: str, width: int, restriction: str | None) -> Line:
    """One row: screen, site, site time, state, alarm counts, links, and why this dashboard cannot act."""
    snapshot = picture.snapshot
    if snapshot is None:
        return line(Span(f" {title}", Tone.STRONG), "  DEPOT")
    when = fmt.day_and_clock(snapshot.time, picture.place)
    ok = len(snapshot.channels) - len(troubled_channels(snapshot))
    head = Span(f" {title}", Tone.STRONG)
    rest = line(
        f"  {'OLD ' if picture.old else ''}{when}  ",
        Span(snapshot.state.upper(), _STATE_TONES.get(snapshot.state, Tone.HIGH)),
        f"  {restriction}  " if restriction else "  ",
        *_alarm_counts(snapshot),
        f"  links {ok}/{len(snapshot.channels)}",
    )
    room = (
        width - 2 - sum(len(span.text) for span in (head, *rest))
    )  # the name gives way to what is happening
    name = fmt.fit(snapshot.site, min(len(snapshot.site), max(4, min(room, 18 if width < 100 else 40))))
    return line(head, f"  {name}", *rest)


def _alarm_counts(snapshot: Snapshot) -> list[Span]:
    counts = []
    for priority, mark in MARKS.items():
        count = sum(alarm.priority == priority for alarm in snapshot.alarms)
        counts.append(Span(f"{mark}{count}", TONES[priority] if count else Tone.PLAIN))
        counts.append(Span(" "))
    return counts[:-1]


def banners(picture: Picture, width: int) -> list[Line]:
    """Nothing while all is well; else why the values are old, why the site is not in auto, which link is down."""
    snapshot = picture.snapshot
    rows = []
    if picture.lost is not None and snapshot is not None:
        text = f" NOT CONNECTED, values are OLD ({fmt.clock(snapshot.time, picture.place)}): {picture.lost}"
        rows += [line(Span(fmt.fit(row[0].text, width), Tone.CRITICAL)) for row in wrapped(text, width)[:2]]
    if snapshot is None:
        return rows
    if snapshot.state != "auto" or snapshot.text:
        tone = _STATE_TONES.get(snapshot.state, Tone.HIGH) if snapshot.state != "auto" else Tone.LOW
        said = wrapped(f"{snapshot.state.upper()}: {snapshot.text}", width)[:2]
        rows += [tuple(span._replace(tone=tone) for span in row) for row in said]
    for channel in troubled_channels(snapshot)[:2]:
        rows.append(
            line(Span(fmt.fit(f" ! link {channel.id} {channel.state}: {channel.text}", width), Tone.HIGH))
        )
    return rows


def alarm_rows(picture: Picture, width: int, room: int) -> list[Line]:
    """The most urgent alarms, at most `room` rows; the last one counts what did not fit."""
    if picture.snapshot is None or room < 1:
        return []
    alarms = ranked_alarms(picture.snapshot)
    shown = alarms if len(alarms) <= room else alarms[: room - 1]
    now, place = picture.snapshot.time, picture.place
    rows = [alarm_row(alarm, now, place, width) for alarm in shown]
    if len(shown) < len(alarms):
        rows.append(line(f"    and {len(alarms) - len(shown)} more alarms"))
    return rows


def alarm_row(alarm: AlarmView, now: datetime, place: tzinfo, width: int) -> Line:
    tone = TONES.get(alarm.priority, Tone.LOW)
    since = fmt.fit(fmt.short_time(alarm.since, now, place), 5)
    state = fmt.fit(_ALARM_WORDS.get(alarm.state, alarm.state), 5)
    text = fmt.fit(alarm.text, max(8, width - 29))
    mark = Span(fmt.fit(MARKS.get(alarm.priority, "?"), 2), tone)
    return line(" ", mark, f" {since} {state} {fmt.tail(alarm.source, 10)}  {text}")


def circuit_rows(
    circuit: CircuitView, picture: Picture, width: int, glyphs: fmt.Glyphs, phases: range
) -> list[Line]:
    """One row per phase asked for: draw, bar with the commitment mark, limit, commitment, meter freshness."""
    meters = picture.snapshot.meters if picture.snapshot else ()
    meter = next((meter for meter in meters if meter.id == circuit.meter), None)
    rows = []
    for row, phase in enumerate(phases):
        measured, limit = circuit.measured_ma[phase], circuit.limit_ma[phase]
        committed, background = circuit.committed_ma[phase], circuit.background_ma[phase]
        unknown = (
            background is None and circuit.meter is not None
        )  # without a meter nothing else is expected there
        worst = None if unknown else committed + max(0, background or 0)
        unsure = doubtful(circuit) or picture.old
        tone = (
            Tone.CRITICAL if measured is not None and measured > limit else Tone.LOW if unsure else Tone.PLAIN
        )
        rows.append(
            line(
                f" {fmt.fit(circuit.id if row == 0 else '', 8)} {_PHASES[phase]} ",
                Span(fmt.drawn_amps(measured, unsure), tone),
                f"{fmt.bar(measured, worst, limit, max(4, min(60, width - 54)), glyphs)} {fmt.limit_amps(limit):>3}A"
                f" commit {fmt.commitment_amps(committed, 4):>3}A ",
                *_tail(row, circuit, meter, picture.old),
            )
        )
    return rows


def _tail(row: int, circuit: CircuitView, meter: MeterView | None, old: bool) -> list[str | Span]:
    if row == 0:
        return [meter_age(meter, old)] if meter else ["no meter" if circuit.meter is None else "meter ?"]
    if row == 1 and meter is not None:
        return [f"{fmt.kilo(meter.power_w, 6)} kW"]
    return []


def meter_age(meter: MeterView, old: bool) -> Span:
    """`main 0.8s`, with a `?` when the values are not good, `main bad` when there are none."""
    good = meter.quality is Quality.GOOD
    state = "bad" if meter.quality is Quality.BAD else fmt.doubted(fmt.age(meter.age_s), old or not good)
    return Span(f"{fmt.fit(meter.id, min(len(meter.id), 8))} {state}", Tone.PLAIN if good else Tone.HIGH)


def worst_phase(circuit: CircuitView) -> int:
    """The phase with the least room left, by what it draws and by what it may come to draw."""

    def load(phase: int) -> tuple[float, int]:
        drawn = circuit.measured_ma[phase] or 0
        worst = circuit.committed_ma[phase] + max(0, circuit.background_ma[phase] or 0)
        return (max(drawn, worst) / max(1, circuit.limit_ma[phase]), -phase)

    return max(range(3), key=load)


def within_limits(circuit: CircuitView) -> bool:
    pairs = zip(circuit.measured_ma, circuit.limit_ma, strict=True)
    return not doubtful(circuit) and all(drawn is None or drawn <= limit for drawn, limit in pairs)


def three_amps(values: PerPhase[int | None]) -> int | None:
    """The largest known phase current (by size), None when no phase is known."""
    known = [value for value in values if value is not None]
    return max(known, key=abs) if known else None


SCREENS = "1Ovw 2Evse 3Sess 4Plan 5Alarm 6Chan 7Log  : command  ? help"


def screens(right: str, width: int) -> Line:
    """The last row of every screen: where the number keys lead."""
    return footer(SCREENS, right, width)


def footer(text: str, right: str, width: int) -> Line:
    """One reversed row: keys on the left, position on the right."""
    room = max(0, width - len(right) - 2)
    return line(Span(f" {fmt.fit(text, room)}{right} ", Tone.BAR))


def page(body: list[Line], foot: list[Line], height: int) -> list[Line]:
    """Exactly `height` lines: the body cut or padded, the foot at the bottom (the last of it when very low)."""
    foot = foot[-height:]
    room = height - len(foot)
    return [*body[:room], *[BLANK] * (room - len(body)), *foot]


def waiting(picture: Picture, width: int) -> list[Line]:
    """What a screen shows before the first snapshot."""
    reason = wrapped(picture.lost or "connected, waiting for the first picture...", width)
    hint = wrapped(
        "The dashboard tries again every second. Is the controller running? (systemctl status depot)", width
    )
    return [BLANK, *map(emphasised, reason), BLANK, *hint]
