"""`depot qualify`: the proof on site that a station does what the safety of the depot rests on.

Owns the order of the checks, who may begin when, what is told meanwhile, and the outcome. However it ends (done, failed,
cancelled, in the way of the site), every hold, cut and limit is lifted, and only a station that was found wanting or proven
is remembered. The checks themselves are in `qualify_checks`, what they see and do in `qualify_scene`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.events import StationQualified
from controller.core.model import Evse
from controller.core.snapshot import CircuitView, EvseView, Snapshot
from controller.qualify_checks import CHECKS, LONG, SHORT, Marks, marks_of, seconds_of
from controller.qualify_scene import QUIET_MA, Failed, Hindered, Prover, Scene, amps
from controller.runtime import Runtime
from drivers.errors import DriverError

log = logging.getLogger(__name__)

LINES = 500
METER_PCT = 98  # of a metered circuit; the rest stays free


@dataclass(frozen=True, slots=True)
class Line:
    """`passed`: None while a check goes on."""

    at: datetime
    check: str
    text: str
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`hindered`: why the proof was given up, if it was. `stored`: it counts from now on."""

    passed: bool
    stored: bool
    findings: tuple[str, ...]
    hindered: str | None = None


@dataclass(slots=True)
class Progress:
    """For whoever follows. `began_s`: of the present check, monotonic."""

    evse: Evse
    marks: Marks
    checks: tuple[str, ...]
    writes: int
    lines: list[Line] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    began_s: float = 0.0
    outcome: Outcome | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def seconds(self) -> float:
        return sum(seconds_of(check, self.evse.link, self.writes) for check in self.checks)

    def left_s(self, now_s: float) -> float:
        """About how long it will take still."""
        ahead = [check for check in self.checks if check not in self.done]
        if not ahead or self.outcome is not None:
            return 0.0
        expected_s = [seconds_of(check, self.evse.link, self.writes) for check in ahead]
        return max(1.0, expected_s[0] - (now_s - self.began_s)) + sum(expected_s[1:])


def prepare(runtime: Runtime, evse: Evse, skipped: Collection[str], quick: bool) -> Progress:
    """What would be done. Raises Hindered with the reason why it cannot begin now."""
    snapshot = runtime.snapshot
    if snapshot is None:
        raise Hindered("the controller is just starting")
    view = next(view for view in snapshot.evses if view.id == evse.id)
    if (reason := _unready(snapshot, evse, view, skipped)) is not None:
        raise Hindered(f"{evse.id} {reason}")
    room_ma = max(_room_ma(runtime, snapshot, evse, view), view.grant_ma or 0)
    marks = marks_of(evse, room_ma)
    if marks is None:
        raise Hindered(
            f"{evse.id} has {amps(min(room_ma, evse.max_ma))} on its circuits now: too little for three limits"
            f" from {amps(evse.min_ma)} to well above its fallback of {amps(evse.fallback_ma)}"
        )
    checks = tuple(check for check in CHECKS if check not in skipped)
    return Progress(evse, marks, checks, SHORT if quick else LONG)


def _unready(snapshot: Snapshot, evse: Evse, view: EvseView, skipped: Collection[str]) -> str | None:
    if not view.connected:
        return "is offline"
    if not view.fallback_stored:
        return "does not store its fallback: there is nothing to prove (see depot status)"
    if view.session is None:
        return "has no session: plug in a vehicle and start it"
    if view.paused:
        return "is paused: resume it first"
    drawn = [value for value in view.measured_ma if value is not None]
    if not drawn:
        return "tells no current: nothing could be measured"
    if max(drawn) < QUIET_MA:
        return f"draws nothing ({view.bound_by}): it needs a vehicle that charges"
    for other in snapshot.evses:
        disturbs = not {"cut", "reboot"} <= set(skipped)
        if other.station == evse.station and other.id != evse.id and other.session is not None and disturbs:
            return f"shares its box with {other.id}, which has a session too"
    return None


def _room_ma(runtime: Runtime, snapshot: Snapshot, evse: Evse, view: EvseView) -> int:
    """What is left for this EVSE while the others keep what they have."""
    path = {circuit.id for circuit in runtime.depot.site.path(evse.circuit)}

    def left_ma(circuit: CircuitView, phase: int) -> int:
        most = circuit.limit_ma[phase] * (100 if circuit.meter is None else METER_PCT) // 100
        others = circuit.committed_ma[phase] - view.commitment_ma
        return most - (circuit.background_ma[phase] or 0) - others

    return min(left_ma(each, phase) for each in snapshot.circuits if each.id in path for phase in evse.phases)


async def qualify(runtime: Runtime, prover: Prover, progress: Progress, by: str) -> Outcome:
    """Runs the checks one after the other; `progress` shows how far it is. May be cancelled at any moment."""
    evse, found = progress.evse, {check: "skipped" for check in CHECKS if check not in progress.checks}
    firmware = runtime.depot.firmware(evse.station)
    failed: set[str] = set()
    hindered: str | None = None
    check = ""

    def say(text: str, passed: bool | None = None) -> None:
        if len(progress.lines) < LINES:
            progress.lines.append(Line(runtime.clock.now().utc, check, text, passed))
        progress.news.set()

    scene = Scene(runtime, prover, evse, f"{by} (qualify)", say)
    try:
        for check in progress.checks:
            progress.began_s = scene.now_s
            if (reason := _pointless(check, failed)) is not None:
                found[check] = reason
                say(reason)
            else:
                await _one(check, scene, progress, found, failed)
                if check not in failed:
                    say(found[check], True)
            progress.done.append(check)
    except Hindered as error:
        hindered = str(error)
        say(hindered)
    except asyncio.CancelledError:
        hindered = "ended before it was done"
        raise
    finally:
        await scene.lift()
        outcome = await _conclude(runtime, progress, by, firmware, found, failed, hindered)
        progress.outcome = outcome
    return outcome


def _pointless(check: str, failed: Collection[str]) -> str | None:
    if "limits" in failed:
        return "not done: it does not follow limits"
    return "not done: its lease does not end" if check == "cut" and "lease" in failed else None


async def _one(check: str, scene: Scene, progress: Progress, found: dict[str, str], failed: set[str]) -> None:
    """A station that failed a check may still pass the next, if it is safe to go on. Raises Hindered if it is not."""
    try:
        found[check] = await CHECKS[check](scene, progress.marks, progress.writes)
        await scene.settle()
        return
    except (Failed, DriverError) as failure:
        failed.add(check)
        found[check] = str(failure)
        scene.say(str(failure), False)
    try:
        await scene.settle()
        scene.needs_session()
    except (Failed, DriverError) as error:
        raise Hindered(f"given up: {error}") from None


async def _conclude(
    runtime: Runtime,
    progress: Progress,
    by: str,
    firmware: str,
    found: dict[str, str],
    failed: set[str],
    hindered: str | None,
) -> Outcome:
    """Proven only by all checks; found wanting by one. A part of the checks takes no earlier proof away."""
    evse = progress.evse
    whole = set(progress.done) == set(CHECKS)
    passed = whole and not failed
    findings = tuple(
        f"{check}: {'FAILED: ' if check in failed else ''}{found.get(check, 'not done')}" for check in CHECKS
    )
    proven = runtime.depot.proven_firmware(evse.station) == firmware
    stored = passed or bool(failed) or (hindered is None and not proven)
    if stored:
        await runtime.report(StationQualified(by, evse.station, firmware, passed, findings))
    log.info("%s: proof %s (%s)", evse.station, "passed" if passed else "not passed", hindered or "done")
    return Outcome(passed, stored, findings, hindered)
