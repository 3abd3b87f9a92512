"""The six checks of a proof on site, one function each: what is done, what must be seen, and the line that says so.

A check returns its finding, raises Failed with it, or Hindered when the vehicle or the site is in the way. What is
promised is tested only after room was kept for the worst (`Scene.reserve`). Source: field notes section 2, the six steps
of qualification; IEC 61851-1 for the seconds a vehicle may take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from controller.core.model import Evse, Link
from controller.qualify_scene import (
    QUIET_MA,
    SAMPLE_S,
    UPPER_MA,
    Failed,
    Hindered,
    Sample,
    Scene,
    amps,
)
from drivers.errors import DriverError

FOLLOW_S = 10.0
QUIET_S = 15.0
HOLD_S = 590.0  # longer than any check, shorter than the depot allows a hold to be
AWAY_S = 300.0  # a station that was cut off or restarted dials again after a back-off
CARD_S = 120.0  # for a person to hold a card to the reader
WAKE_S = 60.0  # until a vehicle draws again
STEADY_S = 30.0
CUT_MORE_S = 30.0
GAP_S = 4.0  # after each write: a spike must have time to reach the vehicle
REGISTER_WH = 20  # what a register may hide by its own steps
REGISTER_PCT = 3
LONG, SHORT = 20, 6  # writes


@dataclass(frozen=True, slots=True)
class Marks:
    """The three limits of a proof, lowest first. The highest lies well above the fallback."""

    low_ma: int
    middle_ma: int
    top_ma: int


def marks_of(evse: Evse, room_ma: int) -> Marks | None:
    """None where its circuits leave no room for three limits that a meter can tell apart."""
    step, least = evse.step_ma, 3_000
    wanted = max(4_000, (evse.fallback_ma + 4_000 - evse.min_ma + 1) // 2)
    gap = min(wanted, (min(evse.max_ma, room_ma) - evse.min_ma) // 2)
    gap = -(-gap // step) * step if gap == wanted else gap // step * step
    top = evse.min_ma + 2 * gap
    if gap < least or top > min(evse.max_ma, room_ma) or top < evse.fallback_ma + least:
        return None
    return Marks(evse.min_ma, evse.min_ma + gap, top)


async def limits(scene: Scene, marks: Marks, writes: int) -> str:
    told = []
    for limit_ma in (marks.low_ma, marks.top_ma, marks.middle_ma):
        said_s = await scene.accept(limit_ma)
        seen, took_s = await scene.follow(limit_ma, FOLLOW_S)
        told.append(f"{amps(limit_ma)}: {amps(seen.highest_ma)} {took_s:.0f} s after its yes")
        scene.say(f"{amps(limit_ma)} accepted after {said_s:.0f} s, measured {amps(seen.highest_ma)}")
    return "; ".join(told)


async def lease(scene: Scene, marks: Marks, writes: int) -> str:
    await _at_top(scene, marks)
    await scene.reserve()
    await scene.hold(HOLD_S)
    link, fallback_ma = scene.evse.link, scene.evse.fallback_ma
    left_s = _lease_left_s(scene)
    began_s, latest_s = scene.now_s, left_s + link.lease_slack_s + link.settle_s
    scene.say(f"no renewals: {amps(fallback_ma)} is due within {latest_s:.0f} s")

    def fallen() -> bool:
        seen = scene.since(began_s)
        return bool(seen) and seen[-1].highest_ma <= fallback_ma + UPPER_MA

    took_s = await scene.until(fallen, latest_s)
    scene.needs_session()
    last = await scene.sample()
    if took_s is None and last.highest_ma > fallback_ma + UPPER_MA:
        raise Failed(
            f"its lease did not end: {amps(last.highest_ma)} after {scene.now_s - began_s:.0f} s without renewal,"
            f" {amps(fallback_ma)} was due"
        )
    stays_s = scene.now_s
    await scene.until(lambda: False, FOLLOW_S)
    _none_above(scene, stays_s, fallback_ma, "after its lease had ended")
    return f"fell to {amps(last.highest_ma)} within {latest_s if took_s is None else took_s:.0f} s"


async def cut(scene: Scene, marks: Marks, writes: int) -> str:
    await _at_top(scene, marks)
    await scene.reserve()
    await scene.hold(HOLD_S)
    link, fallback_ma = scene.evse.link, scene.evse.fallback_ma
    steady_s = scene.now_s
    await scene.until(lambda: _lease_left_s(scene) <= link.lease_s / 2, link.lease_s)
    before = await scene.sample()
    steady = scene.since(steady_s)
    ends_s = scene.now_s + _lease_left_s(scene) + link.lease_slack_s + link.settle_s
    away_s = link.lease_s + link.lease_slack_s + CUT_MORE_S
    scene.say(f"its link is cut for {away_s:.0f} s")
    cut_s = scene.now_s
    await scene.prover.cut(scene.evse.station, away_s)
    fell = await _watched_fall(scene, before, ends_s, cut_s + away_s)
    scene.say("it may come back now")
    await scene.hold(HOLD_S)
    if await scene.until(lambda: scene.linked_s > cut_s and scene.view.connected, AWAY_S) is None:
        raise Failed(f"did not connect again within {AWAY_S:.0f} s")
    after = await scene.sample()
    scene.needs_session()
    if after.highest_ma > fallback_ma + UPPER_MA:
        raise Failed(f"came back at {amps(after.highest_ma)}: alone it did not fall to {amps(fallback_ma)}")
    if fallback_ma >= scene.evse.min_ma and after.highest_ma < QUIET_MA:
        raise Hindered("the vehicle stopped to charge while the link was cut: nothing was proven")
    share = min(1.0, (fallback_ma + UPPER_MA) / max(1, before.highest_ma))
    return energy_fits(steady, before, after, ends_s, share) or fell or _unseen()


async def reboot(scene: Scene, marks: Marks, writes: int) -> str:
    await _at_top(scene, marks)
    evse, fallback_ma, token = scene.evse, scene.evse.fallback_ma, scene.token
    session = None if scene.view.session is None else scene.view.session.id
    await scene.reserve()
    await scene.hold(HOLD_S)
    scene.prover.spare_fallback(evse.station, True)
    asked_s = scene.now_s
    try:
        await scene.prover.reset(evse.station)
    except DriverError as error:
        raise Failed(f"does not restart when it is asked: {error}") from None
    scene.say("restarting")

    def back() -> bool:
        return min(scene.linked_s, scene.booted_s) > asked_s and scene.view.connected

    if await scene.until(back, AWAY_S) is None:
        raise Failed(f"did not come back from a restart within {AWAY_S:.0f} s")
    back_s = scene.now_s
    scene.say("back")
    # most stations end their transaction, and say so a little later
    ended = await scene.until(
        lambda: scene.view.session is None or scene.view.session.id != session, STEADY_S
    )
    if ended is not None:
        await _session_again(scene, token)

    def judged() -> bool:
        drawn = [each for each in scene.since(back_s) if each.highest_ma > QUIET_MA]
        return any(_too_high(each, fallback_ma) for each in drawn) or (
            bool(drawn) and scene.now_s - drawn[0].taken_s >= STEADY_S
        )

    charges = fallback_ma >= evse.min_ma
    await scene.until(judged, WAKE_S + STEADY_S if charges else STEADY_S)
    _none_above(scene, back_s, fallback_ma, "after a restart, before any limit: it forgot its fallback")
    scene.needs_session()
    highest_ma = max((each.highest_ma for each in scene.since(back_s)), default=0)
    if charges and highest_ma < QUIET_MA:
        raise Hindered("the vehicle did not charge after the restart: nothing was proven")
    return f"back after {back_s - asked_s:.0f} s, at most {amps(highest_ma)} until a new limit"


async def pause(scene: Scene, marks: Marks, writes: int) -> str:
    await _at_top(scene, marks)
    await scene.accept(0)
    stopped_s = scene.now_s

    def quiet() -> Sample | None:
        return next((each for each in scene.since(stopped_s) if each.highest_ma < QUIET_MA), None)

    def judged() -> bool:
        return scene.view.session is None or quiet() is not None or bool(scene.since(stopped_s + QUIET_S))

    await scene.until(judged, QUIET_S + SAMPLE_S)
    if scene.view.session is None:
        raise Failed("a limit of 0 A ended its session")
    rest = quiet()
    if rest is None:
        drawn_ma = max((each.highest_ma for each in scene.since(stopped_s)), default=None)
        raise Failed(f"still draws {amps(drawn_ma)} {QUIET_S:.0f} s after it accepted 0 A")
    await scene.accept(marks.low_ma)
    resumed_s = scene.now_s

    def awake() -> bool:
        seen = scene.since(resumed_s)
        return any(_too_high(each, marks.low_ma) for each in seen) or any(
            each.highest_ma >= QUIET_MA and scene.now_s - each.taken_s >= QUIET_S for each in seen
        )

    woke = await scene.until(awake, WAKE_S + QUIET_S)
    _none_above(scene, resumed_s, marks.low_ma, f"on resuming with {amps(marks.low_ma)}")
    scene.needs_session()
    if woke is None:
        raise Failed(f"did not charge again within {WAKE_S:.0f} s (or the vehicle sleeps: plug it in again)")
    highest_ma = max(each.highest_ma for each in scene.since(resumed_s))
    return f"below 1 A after {rest.taken_s - stopped_s:.0f} s, at most {amps(highest_ma)} on resuming"


async def spikes(scene: Scene, marks: Marks, writes: int) -> str:
    await scene.accept(marks.middle_ma)
    await scene.follow(marks.middle_ma, FOLLOW_S)
    since_s = scene.now_s
    for number in range(writes):
        limit_ma = (marks.low_ma, marks.middle_ma)[number % 2]
        await scene.accept(limit_ma)
        await scene.until(lambda: False, GAP_S)
        if not await scene.prover.ask_for_values(scene.evse):
            await scene.sample()
        if (number + 1) % 5 == 0:
            scene.say(f"{number + 1} of {writes} limits written")
        _none_above(scene, since_s, marks.middle_ma, f"after write {number + 1} of {writes}: a spike")
    await scene.sample()
    _none_above(scene, since_s, marks.middle_ma, f"after {writes} writes: a spike")
    scene.needs_session()
    highest_ma = max(each.highest_ma for each in scene.since(since_s))
    return f"{writes} writes, {len(scene.since(since_s))} samples, at most {amps(highest_ma)}"


Check = Callable[[Scene, Marks, int], Awaitable[str]]
CHECKS: Mapping[str, Check] = {
    "limits": limits,
    "lease": lease,
    "cut": cut,
    "reboot": reboot,
    "pause": pause,
    "spikes": spikes,
}


def seconds_of(check: str, link: Link, writes: int) -> float:
    """About how long a check takes."""
    lease_s, slack_s = link.lease_s, link.lease_slack_s
    write_s = (link.raise_gap_s + GAP_S) / 2 + 1
    return {
        "limits": 3 * FOLLOW_S,
        "lease": FOLLOW_S + lease_s + link.settle_s + FOLLOW_S,
        "cut": FOLLOW_S + lease_s / 2 + lease_s + slack_s + CUT_MORE_S + 15,
        "reboot": 30 + STEADY_S,
        "pause": 30 + QUIET_S,
        "spikes": writes * write_s + FOLLOW_S,
    }[check]


# --- parts of checks ----------------------------------------------------------------------------------------------


async def _at_top(scene: Scene, marks: Marks) -> None:
    await scene.accept(marks.top_ma)
    await scene.follow(marks.top_ma, 2 * FOLLOW_S)


def _lease_left_s(scene: Scene) -> float:
    return scene.view.lease_left_s or 0.0


def _too_high(sample: Sample, limit_ma: int) -> bool:
    return sample.highest_ma > limit_ma + UPPER_MA


def _none_above(scene: Scene, since_s: float, limit_ma: int, when: str) -> None:
    worst = max(scene.since(since_s), key=lambda each: each.highest_ma, default=None)
    if worst is not None and _too_high(worst, limit_ma):
        raise Failed(f"drew {amps(worst.highest_ma)} at {amps(limit_ma)} {when}")


async def _session_again(scene: Scene, token: str | None) -> None:
    """The same token begins the next one, without any limit."""
    if token is not None and scene.view.session is None:
        try:
            await scene.prover.begin(scene.evse, token)
        except DriverError as error:
            scene.say(str(error))
        if await scene.until(lambda: scene.view.session is not None, STEADY_S) is not None:
            return
    scene.say(f"hold the card to the reader within {CARD_S:.0f} s (plug in again if it asks for that)")
    if await scene.until(lambda: scene.view.session is not None, CARD_S) is None:
        raise Hindered("no session began after the restart: nothing was proven")


async def _watched_fall(scene: Scene, before: Sample, ends_s: float, until_s: float) -> str:
    """What a meter of its own saw while the station could not speak; empty without one."""
    circuit = scene.own_circuit()
    if circuit is None or any(circuit.measured_ma[phase] is None for phase in scene.evse.phases):
        await scene.until(lambda: False, until_s - scene.now_s)
        return ""
    beside = {phase: (circuit.measured_ma[phase] or 0) - before.highest_ma for phase in scene.evse.phases}
    await scene.until(lambda: False, ends_s - scene.now_s)
    highest_ma = 0
    while scene.now_s < until_s:
        await scene.until(lambda: False, 1.0)
        seen = scene.own_circuit()
        for phase, other_ma in beside.items():
            value = None if seen is None else seen.measured_ma[phase]
            highest_ma = max(highest_ma, (value or 0) - max(0, other_ma))
    if highest_ma > scene.evse.fallback_ma + UPPER_MA:
        raise Failed(
            f"alone it did not fall to {amps(scene.evse.fallback_ma)}: its meter saw {amps(highest_ma)}"
        )
    return f"its own meter saw at most {amps(highest_ma)} after the lease"


def energy_fits(steady: Sequence[Sample], before: Sample, after: Sample, ends_s: float, share: float) -> str:
    """The energy while nobody looked: at most as before until its lease was over at `ends_s`, then a `share` of that.
    Empty where there is no register to judge by; raises Failed when it took more."""
    powers = [each.power_w for each in steady if each.power_w is not None]
    if before.register_wh is None or after.register_wh is None or not powers:
        return ""
    limited_s = max(0.0, min(ends_s, after.taken_s) - before.taken_s)
    alone_s = max(0.0, after.taken_s - max(ends_s, before.taken_s))
    most_wh = fmean(powers) * (limited_s + alone_s * share) / 3600 * (100 + REGISTER_PCT) / 100 + REGISTER_WH
    drawn_wh = after.register_wh - before.register_wh
    if drawn_wh < 0:
        return ""  # a register that began again says nothing
    span_s = after.taken_s - before.taken_s
    if drawn_wh > most_wh:
        raise Failed(
            f"took {drawn_wh} Wh in {span_s:.0f} s alone; its lease and fallback make {most_wh:.0f} Wh at most"
        )
    return f"took {drawn_wh} Wh in {span_s:.0f} s alone (at most {most_wh:.0f} Wh), back at {amps(after.highest_ma)}"


def _unseen() -> str:
    raise Hindered("neither a register nor a meter of its own saw what it did alone: nothing was proven")
