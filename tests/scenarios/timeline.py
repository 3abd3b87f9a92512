"""Runs a timeline: a TOML file of what happens on a site and what the depot must do about it.

    title, why            what it shows and where it comes from
    [site]                limit, and `building` (assumed while the meter is silent) or `load` (no meter at all);
                          tokens = "any": unknown ones may charge
    [[station]]           name, phases, max, fallback; by_hand = true: its answers are part of the story;
                          count = 8: as many of them, VAN1 to VAN8
    [[moment]]            at = seconds; happens = [sentences]; and what must be true then:
        sends             the commands since the moment before, in order (left out: not looked at)
        reserves          per station the current it may draw if left alone
        allows            per station the limit it has accepted ("none": no lease alive)
        state             auto, degraded, failsafe, starting
        alarms            kinds shown to the operator
        saves             sessions written since the moment before: "VAN1 T1 running", "VAN1 T1 ended superseded"
        answer            the verdict for the token that was presented
        says              words that each must stand in the text of some alarm
        quality           of the meter
        within            true: since the moment before, all that stations may draw and the building that was
                          assumed stayed within the limit

Between two moments the depot steps every second, the meter (if it speaks) is read every second, and stations that are
not by_hand accept every limit within the second. Facts of one moment are followed by one step. What the meter reads is
told as a number, or by what the building takes: then every vehicle draws and reports all it may, and the meter the sum.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import (
    Command,
    Entry,
    SessionSaved,
    SetLimit,
    StartCharging,
    StartDischarge,
    StopCharging,
)
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    EvseState,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    PerPhase,
    Site,
    StationId,
    Vehicle,
    VehicleId,
    each_phase,
    evse_id,
    station_of,
)
from controller.core.snapshot import Snapshot
from controller.core.units import parse_current_ma

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
MAIN = MeterId("main")
PHASES = {"L1": 0, "L2": 1, "L3": 2}
KNOWN = Vehicle(VehicleId("van"), 60_000, None, ("TAG1", "TAG2"))
NO_CURRENT: PerPhase[int | None] = PerPhase(None, None, None)


def named(story: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every station with its own name."""
    for station in story["station"]:
        if "count" not in station:
            yield station
        for number in range(1, station.get("count", 0) + 1):
            yield {**station, "name": f"{station['name']}{number}"}


def site_of(story: dict[str, Any]) -> Site:
    described, evses = story["site"], {}
    stations = list(named(story))
    metered = "building" in described
    load = each_phase(parse_current_ma(described["building"] if metered else described["load"]))
    for station in stations:
        name = evse_id(station["name"], 1)
        evses[name] = Evse(
            name,
            StationId(station["name"]),
            SITE,
            parse_current_ma(station["max"]),
            6_000,
            tuple(PHASES[word] for word in station["phases"].split()),
            parse_current_ma(station["fallback"]),
            LINK,
        )
    limit = each_phase(parse_current_ma(described["limit"]))
    circuit = Circuit(SITE, None, limit, MAIN if metered else None, load)
    meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)} if metered else {}
    return Site(
        "depot",
        "UTC",
        230_000,
        {SITE: circuit},
        evses,
        meters,
        {KNOWN.id: KNOWN},
        described.get("tokens") == "any",
    )


def shown(command: Command) -> str:
    station = station_of(command.evse)
    match command:
        case SetLimit():
            return f"{station} limit {command.limit_ma / 1e3:g} A"
        case StartCharging():
            return f"{station} start"
        case StartDischarge():
            return f"{station} discharge"
        case StopCharging():
            return f"{station} stop {command.transaction}"


@dataclass
class Stage:
    """One timeline on its way."""

    site: Site
    depot: Depot
    by_hand: set[EvseId]
    second: float = 0.0
    meter_ma: int | None = None
    building_ma: int | None = None
    sign: int = 1  # of what the meter shows
    late_s: float = 0.0  # of the meter's answers
    failing: tuple[str, str] | None = None  # what the bus says of the meter
    within: bool = True
    waiting: dict[EvseId, list[str]] = field(default_factory=dict)  # limits not yet answered, oldest first
    sent: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    verdict: str | None = None
    snapshot: Snapshot | None = None
    orders: int = 0

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    def tell(self, fact: ev.Event) -> Applied:
        applied = self.depot.apply(fact, self.now)
        self._keep(applied.entries)
        return applied

    def _keep(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if isinstance(entry, SessionSaved):
                words = [station_of(entry.evse), entry.transaction]
                words += ["running"] if entry.ended is None else ["ended", entry.stop_reason or ""]
                self.saved.append(" ".join([*words, *entry.marks]))

    def step(self) -> None:
        decision = self.depot.step(self.now)
        self._keep(decision.entries)
        self.snapshot = decision.snapshot
        (circuit,) = decision.snapshot.circuits
        booked = zip(circuit.committed_ma, circuit.background_ma, circuit.limit_ma, strict=True)
        self.within &= all(ours + (others or 0) <= limit for ours, others, limit in booked)
        for command in decision.commands:
            self.sent.append(shown(command))
            if isinstance(command, SetLimit):
                self.waiting.setdefault(command.evse, []).append(command.id)
            else:
                self.tell(ev.CommandAccepted(command.id))

    def pass_to(self, second: float) -> None:
        while self.second < second:
            self.second = min(second, self.second + 1.0)
            if self.second < second:
                self.read_meter()
            for evse, names in self.waiting.items():
                while names and evse not in self.by_hand:
                    self.tell(ev.CommandAccepted(names.pop(0)))
            if self.second < second:
                self.step()

    def read_meter(self) -> None:
        if self.failing is not None:
            self.tell(ev.MeterFailed(MAIN, *self.failing))
        elif self.building_ma is not None or self.meter_ma is not None:
            total = self.everything_ma(self.building_ma) if self.meter_ma is None else [self.meter_ma] * 3
            reading: PerPhase[int | None] = PerPhase(*(self.sign * one for one in total))
            self.tell(ev.MeterReading(MAIN, self.now.mono_s - self.late_s, reading, None, NO_CURRENT))

    def everything_ma(self, building_ma: int | None) -> list[int]:
        """What the building takes and every vehicle that may; each of them reports it every five seconds."""
        total = [building_ma or 0] * 3
        for view in () if self.snapshot is None else self.snapshot.evses:
            if view.session is not None:
                drawn = view.fallback_ma if view.accepted_ma is None else view.accepted_ma
                for phase in self.site.evses[view.id].phases:
                    total[phase] += drawn
                if self.second % 5 == 0:
                    _draws(self, view.id, f"{drawn / 1e3} A")
        return total

    def order(self) -> str:
        self.orders += 1
        return f"o{self.orders}"

    def answered(self, evse: EvseId, answer: Callable[[str], ev.Event]) -> None:
        self.tell(answer(self.waiting[evse].pop(0)))


def _connects(stage: Stage, evse: EvseId) -> None:
    stage.tell(ev.LinkUp(station_of(evse), "wire", "peer"))
    stage.tell(ev.StatusChanged(evse, "wire", EvseState.CHARGING))


def _starts(stage: Stage, evse: EvseId, transaction: str, token: str) -> None:
    stage.tell(ev.TransactionStarted(evse, "wire", transaction, token, 0, stage.now.utc))


def _ends(stage: Stage, evse: EvseId, transaction: str) -> None:
    stage.tell(ev.TransactionEnded(station_of(evse), evse, transaction, "Local", 0, stage.now.utc))


def _draws(stage: Stage, evse: EvseId, current: str) -> None:
    measured: list[int | None] = [None, None, None]
    measured[: len(stage.site.evses[evse].phases)] = [parse_current_ma(current)] * len(
        stage.site.evses[evse].phases
    )
    stage.tell(ev.EvseSample(evse, "wire", stage.now.mono_s, PerPhase(*measured)))


def _meter(stage: Stage, current: str) -> None:
    sign = -1 if current.startswith("-") else 1
    stage.meter_ma, stage.failing, stage.late_s = (
        sign * parse_current_ma(current.removeprefix("-")),
        None,
        0.0,
    )
    stage.building_ma = None


def _building(stage: Stage, current: str) -> None:
    stage.building_ma, stage.failing, stage.late_s, stage.meter_ma = (
        parse_current_ma(current),
        None,
        0.0,
        None,
    )


def _silent(stage: Stage) -> None:
    stage.meter_ma = stage.building_ma = None


def _fails(stage: Stage, kind: str, text: str) -> None:
    stage.failing = (kind, text)


def _flex(stage: Stage, percent: str, seconds: str) -> None:
    stage.tell(ev.FlexWished(stage.order(), "grid", SITE, int(percent), float(seconds)))


def _token(stage: Stage, token: str, evse: EvseId) -> None:
    stage.verdict = stage.tell(ev.TokenPresented(station_of(evse), token)).verdict.value


Told = Callable[..., object]
STATION, CURRENT = r"(\w+)", r"([\d.]+ A)"
SENTENCES: dict[str, Told] = {
    rf"{STATION} connects": _connects,
    rf"{STATION} loses its link": lambda s, e: s.tell(ev.LinkDown(station_of(e), "wire", "closed")),
    rf"{STATION} reboots": lambda s, e: s.tell(ev.StationBooted(station_of(e), "wire", "V", "M", "1")),
    rf"{STATION} stores its fallback": lambda s, e: s.tell(
        ev.FallbackStored(e, "wire", s.site.evses[e].fallback_ma)
    ),
    rf"{STATION} starts (\w+) for (\w+)": _starts,
    rf"{STATION} ends (\w+)": _ends,
    rf"{STATION} draws {CURRENT}": _draws,
    rf"{STATION} accepts": lambda s, e: s.answered(e, ev.CommandAccepted),
    rf"{STATION} refuses": lambda s, e: s.answered(e, lambda name: ev.CommandRefused(name, "Rejected")),
    rf"{STATION} does not answer": lambda s, e: s.answered(e, lambda name: ev.CommandLost(name, "no answer")),
    r"the meter reads (-?[\d.]+ A)": _meter,
    rf"the building takes {CURRENT}": _building,
    r"the meter is turned (round|back)": lambda s, way: setattr(s, "sign", -1 if way == "round" else 1),
    r"the meter answers (\d+) s late": lambda s, seconds: setattr(s, "late_s", float(seconds)),
    r"the meter is (unreachable|refused|nonsense|stuck): (.+)": _fails,
    r"the grid operator leaves (\d+) % for (\d+) s": _flex,
    r"the meter falls silent": _silent,
    rf"token (\w+) is shown to {STATION}": _token,
    rf"ann limits {STATION} to {CURRENT}": lambda s, e, a: s.tell(
        ev.LimitWished(s.order(), "ann", e, parse_current_ma(a))
    ),
    rf"ann lifts the limit of {STATION}": lambda s, e: s.tell(ev.LimitWished(s.order(), "ann", e, None)),
    rf"ann pauses {STATION}": lambda s, e: s.tell(ev.PauseWished(s.order(), "ann", e)),
    rf"ann resumes {STATION}": lambda s, e: s.tell(ev.ResumeWished(s.order(), "ann", e)),
    rf"ann stops {STATION}": lambda s, e: s.tell(ev.StopWished(s.order(), "ann", e)),
}


def happen(stage: Stage, sentence: str) -> None:
    """Station names become EVSE ids, the rest stays as written. Raises ValueError for a sentence nobody knows."""
    for pattern, told in SENTENCES.items():
        match = re.fullmatch(pattern, sentence)
        if match is not None:
            names = {station_of(evse): evse for evse in stage.site.evses}
            words: list[Any] = [names.get(StationId(word), word) for word in match.groups()]
            everybody = list(names.values()) if words[:1] == ["everybody"] else words[:1]
            for number, first in enumerate(everybody, 1):  # "everybody starts T for CAR": T1 for CAR1, ...
                numbered = words[0] == "everybody"
                rest = [
                    f"{word}{number}" if numbered and word in ("T", "CAR") else word for word in words[1:]
                ]
                told(stage, first, *rest)
            if not words:
                told(stage)
            return
    raise ValueError(f"no such sentence: {sentence!r}")


def found(stage: Stage, key: str, wanted: Any) -> Any:
    """What is true now, in the form it was asked in."""
    assert stage.snapshot is not None
    views = {view.station: view for view in stage.snapshot.evses}
    match key:
        case "sends":
            return stage.sent
        case "saves":
            return stage.saved
        case "answer":
            return stage.verdict
        case "state":
            return stage.snapshot.state
        case "says":
            return [word for word in wanted if any(word in alarm.text for alarm in stage.snapshot.alarms)]
        case "quality":
            return stage.snapshot.meters[0].quality.value
        case "within":
            return stage.within
        case "alarms":
            return sorted({alarm.kind for alarm in stage.snapshot.alarms})
        case "reserves":
            return {name: f"{views[name].commitment_ma / 1e3:g} A" for name in wanted}
        case "allows":
            accepted = {name: views[name].accepted_ma for name in wanted}
            return {name: "none" if ma is None else f"{ma / 1e3:g} A" for name, ma in accepted.items()}
    raise ValueError(f"no such expectation: {key}")


def play(path: Path) -> None:
    """Raises AssertionError where the depot does something else, with the moment it happened at."""
    story = tomllib.loads(path.read_text())
    site = site_of(story)
    by_hand = {evse_id(s["name"], 1) for s in named(story) if s.get("by_hand")}
    stage = Stage(site, Depot(site, "1"), by_hand)
    for moment in story["moment"]:
        stage.pass_to(moment["at"])
        for sentence in moment.get("happens", []):
            happen(stage, sentence)
        stage.read_meter()
        stage.step()
        wanted = {key: value for key, value in moment.items() if key not in ("at", "happens", "note")}
        if "alarms" in wanted:
            wanted["alarms"] = sorted(wanted["alarms"])
        seen = {key: found(stage, key, value) for key, value in wanted.items()}
        assert seen == wanted, f"{story['title']}: at {moment['at']} s"
        stage.sent, stage.saved, stage.within = [], [], True
