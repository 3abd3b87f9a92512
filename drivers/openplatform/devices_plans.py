"""Schedules in the chargers of the on-site host, so that they run while both the box and its programs are gone.

Owns our copy, which is in the vault because a charger cannot be asked what it stores, and what still has to be told to
each charger; that survives restarts of both. A stored plan is capped to the fallback (`limits.stored_plan`), so a
charger left alone stays within it; `set_power_limit` lies over it while we are there. A connector keeps one plan: a
plan under another id takes the former one out first. Must not send: the hatch asks what is due.
Source: DESIGN section 5, GAPS G-11.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from controller.core.model import Evse, EvseId, Moment, Schedule
from drivers.openplatform.devices_desk import StorePlan
from drivers.openplatform.limits import removed_plan, stored_plan
from drivers.openplatform.settings import Readings
from drivers.openplatform.vault import Vault

log = logging.getLogger(__name__)

_RETRY_S = 60.0


class DevicePlans:
    """`evses`: those of the on-site host. The caller commits the vault after a change."""

    def __init__(
        self, evses: Mapping[EvseId, Evse], vault: Vault, can_discharge: bool, readings: Readings
    ) -> None:
        self._evses = evses
        self._vault = vault
        self._can_discharge = can_discharge
        self._readings = readings
        self._on_wire: set[EvseId] = set()
        self._not_before_s: dict[EvseId, float] = {}
        self._count = 0

    def keep(self, evse: EvseId, plan: Schedule, now: Moment) -> None:
        """Raises ValueError for an EVSE that is not here and a plan that cannot be said."""
        if evse not in self._evses:
            raise ValueError(f"{evse} is not on this channel")
        body = stored_plan(self._evses[evse], plan, self._can_discharge, self._readings)
        kept = self._copy(evse)["id"]
        before = [removed_plan(kept, now.utc)] if kept not in (None, plan.id) else []
        self._change(evse, plan.id, [*before, body])

    def drop(self, evse: EvseId, id: str | None, now: Moment) -> None:
        """Takes the plan of that name (None: whichever there is) out of the charger again."""
        kept = self._copy(evse)["id"]
        if kept is not None and id in (None, kept):
            self._change(evse, None, [removed_plan(kept, now.utc)])

    def stands(self, evse: EvseId) -> bool:
        """Whether the charger runs our copy by itself now, as far as we know."""
        copy = self._copy(evse)
        return copy["id"] is not None and not copy["todo"]

    def due(self, evse: EvseId, now_s: float) -> StorePlan | None:
        """What to lay out for this connector now; `told` must follow."""
        todo = self._copy(evse)["todo"]
        if not todo or evse in self._on_wire or now_s < self._not_before_s.get(evse, 0.0):
            return None
        self._on_wire.add(evse)
        self._count += 1
        return StorePlan(f"plan-{self._count}", evse, todo[0])

    def told(self, order: StorePlan, accepted: bool | None, reason: str, now_s: float) -> None:
        """What became of it; None: nobody knows, so it is sent again. One the charger refused is not sent again until
        somebody changes it."""
        self._on_wire.discard(order.evse)
        copy = self._copy(order.evse)
        if copy["todo"][:1] != [order.body]:
            return  # changed meanwhile
        if accepted:
            self._change(order.evse, copy["id"], copy["todo"][1:])
        elif accepted is None:
            self._not_before_s[order.evse] = now_s + _RETRY_S
        else:
            self._not_before_s[order.evse] = float("inf")
            log.warning("%s: the charger would not store its plan: %s", order.evse, reason)

    def _copy(self, evse: EvseId) -> Mapping[str, Any]:
        return self._vault.schedule(evse) or {"id": None, "todo": []}

    def _change(self, evse: EvseId, id: str | None, todo: list[Mapping[str, Any]]) -> None:
        self._not_before_s.pop(evse, None)
        self._vault.keep_schedule(evse, {"id": id, "todo": todo})
