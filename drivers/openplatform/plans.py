"""Customers' schedules in the chargers, so that they hold while we and the platform are gone.

Owns our copy (the platform cannot be asked what a charger stores) and whether the charger runs it. A connector runs one
enabled schedule, and our leased limits are schedules too: a plan rests while a session is led by us and goes back into
the charger when the connector is free. How it is capped stands in `limits`. Uses only quota that nobody else needs.
Our own decisions while we are there are made from the same plan by the core, not here.
Source: Open Platform REFERENCE section 9, GAPS G-11.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.core.model import Evse, EvseId, Schedule, station_of
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.bell import Bell
from drivers.openplatform.budget import Kind
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.limits import removed_plan, stored_plan
from drivers.openplatform.rest import Declined, Rest, device_path
from drivers.openplatform.settings import CloudSettings

log = logging.getLogger(__name__)

_LOOK_S = 20.0
_RETRY_S = 60.0
_PATIENCE_S = 10.0  # a start is not kept waiting longer than this for the quota
_ROOM = 2  # control requests that are left to limits and stops


@dataclass(slots=True)
class _Kept:
    plan: Schedule
    stands: bool = False  # the charger runs it, as far as we know
    not_before_s: float = float("-inf")


class Plans:
    def __init__(self, settings: CloudSettings, rest: Rest, fleet: Fleet, clock: Clock) -> None:
        self._readings = settings.readings
        self._can_control = "control" in settings.purposes
        self._can_discharge = "v2g" in settings.purposes
        self._rest = rest
        self._fleet = fleet
        self._clock = clock
        self._kept: dict[EvseId, _Kept] = {}  # one per connector
        self._obsolete: dict[tuple[EvseId, str], None] = {}  # to be deleted in the charger
        self._bell = Bell(clock)
        self._in_order = asyncio.Lock()  # a plan under way and a start must not cross

    def keep(self, evse: EvseId, plan: Schedule) -> None:
        """From now on this is the charger's plan, in place of the one before. Raises Misconfigured without consent,
        ValueError for a plan or an EVSE that cannot be."""
        stored_plan(self._evse(evse), plan, self._can_discharge, self._readings)
        old = self._kept.get(evse)
        if old is not None and old.plan.id != plan.id:
            self._obsolete[evse, old.plan.id] = None
        self._obsolete.pop((evse, plan.id), None)
        if old is None or old.plan != plan or not old.stands:
            self._kept[evse] = _Kept(plan)
        self._bell.ring()

    def drop(self, evse: EvseId, id: str) -> None:
        """Takes that plan out of the charger, whoever put it there. Raises as `keep`."""
        self._evse(evse)
        kept = self._kept.get(evse)
        if kept is not None and kept.plan.id == id:
            del self._kept[evse]
        self._obsolete[evse, id] = None
        self._bell.ring()

    def _evse(self, evse: EvseId) -> Evse:
        if not self._can_control:
            raise Misconfigured("purpose control not consented")
        found = self._fleet.where(evse)
        if found is None:
            raise ValueError(f"{evse} is not on this platform")
        return found[2]

    def displaced(self, evse: EvseId) -> None:
        """A leased limit went to this connector."""
        if self._readings.lease_displaces_plan and evse in self._kept:
            self._kept[evse].stands = False

    async def step_aside(self, evse: EvseId) -> None:
        """Before a start of ours: an idle slot would keep the vehicle from drawing, and then nothing shows that the
        session began. Failing to do so is no reason not to start."""
        async with self._in_order:
            kept = self._kept.get(evse)
            wait_s = self._rest.budget.wait_s(Kind.CONTROL, self._clock.now().mono_s)
            if kept is None or not kept.stands or wait_s > _PATIENCE_S:
                return
            await self._rest.turn(Kind.CONTROL)
            try:
                await self._post(evse, removed_plan(kept.plan.id, self._clock.now().utc, self._readings))
                kept.stands = False
            except DriverError as error:
                log.warning("%s: the stored plan could not be set aside: %s", evse, error)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._tidy()
            await self._bell.wait(_LOOK_S if self._kept or self._obsolete else None)

    async def _tidy(self) -> None:
        """Deletes what is obsolete and stores what does not stand, where nothing of ours is running."""
        for evse, id in list(self._obsolete):
            if await self._try(evse, removed_plan(id, self._clock.now().utc, self._readings)) != "later":
                self._obsolete.pop((evse, id), None)
        for evse, kept in list(self._kept.items()):
            now_s = self._clock.now().mono_s
            found = self._fleet.where(evse)
            if kept.stands or now_s < kept.not_before_s or found is None:
                continue
            outcome = await self._try(
                evse, stored_plan(found[2], kept.plan, self._can_discharge, self._readings)
            )
            kept.stands = outcome == "stored"
            kept.not_before_s = float("inf") if outcome == "refused" else now_s + _RETRY_S

    async def _try(self, evse: EvseId, body: Mapping[str, Any]) -> Literal["stored", "refused", "later"]:
        """One request, where nothing of ours runs and the quota has room for it."""
        async with self._in_order:
            now_s = self._clock.now().mono_s
            if not self._is_free(evse) or self._rest.budget.affords(Kind.CONTROL, now_s, 0.0) <= _ROOM:
                return "later"
            self._rest.budget.take(Kind.CONTROL, now_s)
            try:
                await self._post(evse, body)
            except Declined as refused:
                log.warning("%s: the charger's plan was refused: %s", evse, refused)
                return "refused"
            except DriverError as error:
                log.debug("%s: plan not stored yet: %s", evse, error)
                return "later"
            return "stored"

    async def _post(self, evse: EvseId, body: Mapping[str, Any]) -> None:
        found = self._fleet.where(evse)
        assert found is not None, "only our own are kept"
        await self._rest.call("schedule", "POST", device_path(found[0], found[1], "schedule"), body)

    def _is_free(self, evse: EvseId) -> bool:
        return (
            self._fleet.is_enabled(evse)
            and self._fleet.is_up(station_of(evse))
            and self._fleet.is_free(evse, self._clock.now().mono_s)
        )
