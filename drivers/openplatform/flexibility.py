"""Flexibility actions on the whole site: ordered ones, and the automatic brake.

Owns what is active, because the platform knows one action per target and the newest replaces the older (G-12): an
ordered action and the brake are two layers, the lowest goes out, and what outlives it goes out again when it is over.
An action ends by the charger's own clock, whatever becomes of us. The brake is for overloads that outrun the quota: more
decreases wait than it lets out in 2 s. Measured against the simulated platform with 20 EVSEs on one circuit: an overload
is gone after 6 to 8 s with it, and after some 50 s without (no site_ids, or no consent to "flexibility"). No free text
leaves the site: the reason is one of a few words. Must not judge the effect: that shows in telemetry only.
Source: Open Platform REFERENCE section 10, GAPS G-12; DESIGN section 5.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.bell import Bell
from drivers.openplatform.budget import Kind
from drivers.openplatform.fields import as_text
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.limits import brake_percent
from drivers.openplatform.rest import NOTHING_DONE, Declined, NotSent, Rest, command_path
from drivers.openplatform.settings import CloudSettings
from drivers.openplatform.slots import Slots
from drivers.openplatform.words import flexibility_request, read_command

log = logging.getLogger(__name__)

_BRAKE_WITHIN_S = 2.0
_BRAKE_AGAIN_S = 10.0
_PATIENCE_S = 15.0  # a person is told rather than kept waiting for the quota
_UNKNOWN = 3001

Reason = Literal["site limit", "grid request", "peak", "test"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What went out: `percent` None is a pause, `duration_s` already capped, `control_id` as the platform named it."""

    control_id: str | None
    percent: int | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class _Action:
    percent: int | None
    until_s: float
    reason: Reason

    @property
    def depth(self) -> int:
        return -1 if self.percent is None else self.percent


class Flexibility:
    def __init__(self, settings: CloudSettings, rest: Rest, fleet: Fleet, slots: Slots, clock: Clock) -> None:
        self._settings = settings
        self._rest = rest
        self._fleet = fleet
        self._slots = slots
        self._clock = clock
        self._layers: dict[Literal["ordered", "brake"], _Action] = {}
        self._active: _Action | None = None  # what the chargers follow now
        self._bell = Bell(clock)
        self._brake_again_s = float("-inf")
        self._unasked: str | None = None  # an action whose status nobody has asked for yet
        self._asks = settings.readings.flex_status_asked

    @property
    def is_allowed(self) -> bool:
        return {"monitor", "flexibility"} <= self._settings.purposes and bool(self._settings.site_ids)

    async def order(
        self, percent: int | None, duration_s: float, reason: Reason, *, everything: bool, confirmed: bool
    ) -> Sent:
        """See PlatformOperator.flexibility."""
        if not self.is_allowed:
            raise Misconfigured('open platform: no consent to purpose "flexibility", or no site_ids')
        if everything and not confirmed:
            raise ValueError("a target of all chargers in reach, ours or not, needs a second confirmation")
        if (percent is not None and not 0 <= percent <= 100) or not duration_s > 0:
            raise ValueError(f"cannot limit to {percent} % for {duration_s} s")
        duration_s = min(duration_s, self._settings.readings.flex_max_s)
        now_s = self._clock.now().mono_s
        wait_s = self._rest.budget.wait_s(Kind.CONTROL, now_s, urgent=True)
        if wait_s > _PATIENCE_S:
            raise NotSent(f"no control request is allowed for another {wait_s:.0f} s")
        action = _Action(percent, now_s + duration_s, reason)
        await self._rest.turn(Kind.CONTROL, urgent=True)
        if everything:
            return await self._post(action, None)
        self._layers["ordered"] = action
        try:
            return await self._apply()
        except NOTHING_DONE:
            self._layers.pop("ordered", None)
            raise

    async def end(self) -> None:
        """Ends the ordered action early: 100 % for a second, or the brake if it holds (G-12). Raises as Rest.call."""
        if self._layers.pop("ordered", None) is None:
            return
        await self._rest.turn(Kind.CONTROL)
        await self._apply()

    def brake_due(self, now_s: float) -> int | None:
        """The percentage to brake to, when more decreases wait than the quota lets out in 2 s and none holds yet. The
        request is taken out of the budget: the caller must `brake`."""
        if not self.is_allowed:
            return None
        waiting = self._slots.waiting_decreases()
        if not waiting or len(waiting) <= self._rest.budget.affords(Kind.CONTROL, now_s, _BRAKE_WITHIN_S):
            return None
        percent = 100
        for limit in waiting:
            found = self._fleet.where(limit.evse)
            if found is not None:
                charger_ma = self._fleet.charger_max_ma(limit.evse)
                needed = brake_percent(limit.limit_ma, found[2], charger_ma, self._settings.readings)
                percent = min(percent, needed)
        active = self._active
        holds = active is not None and now_s < active.until_s and percent >= active.depth
        if (
            holds
            or now_s < self._brake_again_s
            or not self._rest.budget.take(Kind.CONTROL, now_s, urgent=True)
        ):
            return None
        self._brake_again_s = now_s + _BRAKE_AGAIN_S
        return percent

    async def brake(self, percent: int) -> None:
        until_s = self._clock.now().mono_s + self._settings.readings.brake_s
        self._layers["brake"] = _Action(percent, until_s, "site limit")
        try:
            await self._apply()
        except DriverError as error:
            log.warning("brake to %d %% failed: %s", percent, error)
        else:
            log.warning("decreases wait: site braked to %d %%", percent)

    async def run(self) -> None:
        """Sends again what outlives the action that was sent last. Until cancelled."""
        while True:
            await self._ask()
            now_s = self._clock.now().mono_s
            if self._active is None:
                await self._bell.wait()
            elif now_s < self._active.until_s:
                await self._bell.wait(self._active.until_s - now_s)
            elif not self._standing(now_s):
                self._active = None
            else:
                await self._rest.turn(Kind.CONTROL)
                try:
                    await self._apply()
                except DriverError as error:
                    log.warning("flexibility not renewed: %s", error)
                    await self._clock.sleep(_BRAKE_AGAIN_S)

    def _standing(self, now_s: float) -> _Action | None:
        """The deepest of the actions that still hold."""
        self._layers = {layer: action for layer, action in self._layers.items() if action.until_s > now_s}
        return min(self._layers.values(), key=lambda action: action.depth, default=None)

    async def _apply(self) -> Sent:
        now_s = self._clock.now().mono_s
        deepest = self._standing(now_s)
        sent = await self._post(
            deepest or _Action(100, now_s + self._settings.readings.flex_end_s, "site limit"),
            self._settings.site_ids,
        )
        self._active = deepest
        self._unasked = sent.control_id if self._asks and deepest is not None else None
        self._bell.ring()
        return sent

    async def _ask(self) -> None:
        """Once per action for its status: a failure is worth a line, nothing else follows from it. A platform that
        knows no such id is not asked again (G-10)."""
        control_id, self._unasked = self._unasked, None
        if control_id is None:
            return
        try:
            data = await self._rest.read("command", command_path(control_id), patience_s=0.0)
        except DriverError as error:
            self._asks = not (isinstance(error, Declined) and error.code == _UNKNOWN)
            log.debug("status of flexibility %s not read: %s", control_id, error)
            return
        status = read_command(data)[1]
        if status.progress == "failed":
            log.warning("flexibility failed, says the platform: %s", status.reason or "no reason given")

    async def _post(self, action: _Action, site_ids: tuple[str, ...] | None) -> Sent:
        duration_s = max(1.0, action.until_s - self._clock.now().mono_s)
        body = flexibility_request(site_ids, action.percent, duration_s, action.reason)
        data: Any = await self._rest.call("flexibility", "POST", "/operator/control/flexibility", body)
        control_id = as_text(data.get("control_id")) if isinstance(data, Mapping) else None
        return Sent(control_id, action.percent, duration_s)
