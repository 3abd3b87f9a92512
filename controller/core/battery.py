"""Stationary batteries as outputs: what each should do now, and what it may be doing.

Owns the policy (pure arithmetic over one `Scene`) and the book of set-points under way. In this order: discharge where
the quarter hour or a fuse is tight; do what a plan says; store what would be exported. A battery that is not measured,
or whose state of charge is not known, is left alone: its set-point runs out, and it is on its own.

What a battery was told to charge counts as load until the meters show it (`Unit.unseen_w`), as long as its lease may run,
answered or not. What it discharges frees no room to raise into: it can end within a second, and what others were raised
to holds for their lease (see `commitments`). Both are kept by `bounds`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from controller.core.background import EVIDENCE_S
from controller.core.commands import SetBattery
from controller.core.model import Battery, Moment, Site
from controller.core.snapshot import BatteryView
from controller.core.supervisor import Condition

GAP_S = 5.0  # between two set-points, unless relief is needed
STEP_PCT = 2  # of its rating: smaller changes wait for the renewal
REFUSED_S = 15.0  # pause after a refusal
STUBBORN = 3
FULL_PCT = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """What the policy looks at. Powers in W, charging and import positive.

    relief_w: how much less the site should import, for the quarter hour or a fuse. spare_w: what would be exported if
    the battery did nothing. room_w: what it may take from the grid at most. plan_w: what a plan says, None = nothing.
    """

    soc_pct: int | None
    measured_w: int | None
    relief_w: int
    relief_why: str
    spare_w: int
    room_w: int
    plan_w: int | None


def set_point(battery: Battery, scene: Scene) -> tuple[int, str] | None:
    """The power and why, or None: leave it alone."""
    if scene.measured_w is None or scene.soc_pct is None:
        return None
    can_w = battery.discharge_w if scene.soc_pct > battery.floor_pct else 0
    if scene.relief_w > 0:
        return -min(scene.relief_w, can_w), scene.relief_why
    takes_w = battery.charge_w if scene.soc_pct < FULL_PCT else 0
    if scene.plan_w is not None:
        return max(-can_w, min(scene.plan_w, takes_w, max(0, scene.room_w))), "plan"
    return max(0, min(scene.spare_w, takes_w)), "surplus"


@dataclass(frozen=True, slots=True)
class _Point:
    """A set-point that may be followed until `until_s`."""

    command: str
    power_w: int
    sent_s: float
    until_s: float


@dataclass(slots=True)
class Unit:
    """The book of one battery. `points`: all that may be followed now, the newest last; `accepted`: one was answered."""

    battery: Battery
    points: list[_Point] = field(default_factory=list)
    accepted: _Point | None = None
    refused_s: float = float("-inf")
    refusals: int = 0
    wanted_w: int | None = None
    why: str = ""
    _shown: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, measured_w: int | None, now_s: float) -> None:
        """What it charges with, as measured now."""
        self._shown.append((now_s, max(0, measured_w or 0)))
        while self._shown[0][0] < now_s - EVIDENCE_S:
            self._shown.popleft()

    def expire(self, now_s: float) -> None:
        if any(point.until_s <= now_s for point in self.points):
            self.points = [point for point in self.points if point.until_s > now_s]
        if self.accepted is not None and self.accepted.until_s <= now_s:
            self.accepted = None

    def unseen_w(self) -> int:
        """What it may be charging with, beyond what the meters have shown long enough to be believed as load."""
        told_w = self.told_w()
        return max(0, told_w - min((watts for _, watts in self._shown), default=0))

    def told_w(self) -> int:
        """The most it may be charging with."""
        return max((0, *(point.power_w for point in self.points)))

    def due(self, wanted_w: int, urgent: bool, now_s: float) -> bool:
        """Whether a set-point should leave now: another one, or the same before half of its lease is over."""
        if now_s - self.refused_s < REFUSED_S:
            return False
        newest = self.points[-1] if self.points else None
        if newest is None:
            return True
        apart_w = abs(wanted_w - newest.power_w)
        if now_s - newest.sent_s >= self.battery.lease_s / 2:
            return True
        step_w = max(self.battery.charge_w, self.battery.discharge_w) * STEP_PCT // 100
        turns = apart_w > step_w or (wanted_w == 0) != (newest.power_w == 0)
        return turns and (urgent or now_s - newest.sent_s >= GAP_S)


class Batteries:
    """All batteries of the site."""

    def __init__(self, site: Site) -> None:
        self.units = {battery.id: Unit(battery) for battery in site.batteries}

    def due(
        self, scene: Callable[[Unit], Scene], next_command: Callable[[], str], now: Moment
    ) -> Iterator[SetBattery]:
        for unit in self.units.values():
            unit.expire(now.mono_s)
            seen = scene(unit)
            wanted = set_point(unit.battery, seen)
            if wanted is None:
                unit.wanted_w, unit.why = None, "not measured: left alone"
                continue
            unit.wanted_w, unit.why = wanted
            if not unit.due(unit.wanted_w, seen.relief_w > 0, now.mono_s):
                continue
            battery = unit.battery
            command = SetBattery(next_command(), battery.id, battery.channel, unit.wanted_w, battery.lease_s)
            until_s = now.mono_s + battery.answer_s + battery.lease_s + battery.lease_slack_s
            unit.points.append(_Point(command.id, command.power_w, now.mono_s, until_s))
            yield command

    # --- what becomes of it -----------------------------------------------------------------------------------------

    def accepted(self, command: str) -> None:
        """It follows this one: older ones are over."""
        for unit, point in self._with(command):
            unit.points = [each for each in unit.points if each.sent_s >= point.sent_s]
            unit.accepted, unit.refusals = point, 0

    def refused(self, command: str, now_s: float) -> None:
        """Nothing changed there."""
        for unit, point in self._with(command):
            unit.points.remove(point)
            unit.refused_s, unit.refusals = now_s, unit.refusals + 1

    def lost(self, command: str, now_s: float) -> None:
        """Perhaps followed, perhaps not: it counts until its lease is over."""
        for unit, _ in self._with(command):
            unit.refused_s, unit.refusals = now_s, unit.refusals + 1

    def replaced(self, command: str) -> None:
        for unit, point in self._with(command):
            unit.points.remove(point)

    def _with(self, command: str) -> Iterable[tuple[Unit, _Point]]:
        return [
            (unit, point) for unit in self.units.values() for point in unit.points if point.command == command
        ]

    # --- for people -------------------------------------------------------------------------------------------------

    def conditions(self) -> Iterator[Condition]:
        for unit in self.units.values():
            if unit.refusals >= STUBBORN:
                text = f"{unit.refusals} set-points in a row not accepted"
                yield Condition("battery", unit.battery.id, 2, text)

    def views(self, look: Callable[[Unit], tuple[int | None, int | None]]) -> tuple[BatteryView, ...]:
        """`look`: power and state of charge as measured."""
        found = []
        for unit in self.units.values():
            measured_w, soc_pct = look(unit)
            accepted_w = None if unit.accepted is None else unit.accepted.power_w
            found.append(
                BatteryView(
                    unit.battery.id,
                    unit.battery.circuit,
                    measured_w,
                    soc_pct,
                    unit.wanted_w,
                    accepted_w,
                    unit.why,
                )
            )
        return tuple(found)
