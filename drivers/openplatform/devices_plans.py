"""Schedules in the chargers of the on-site host, so that they run while both the box and its programs are gone.

Owns our copy, which is in the vault because a charger cannot be asked what it stores, and what still has to be told to
each charger; that survives restarts of both. A stored plan is capped to the fallback (`limits.stored_plan`), so a
charger left alone stays within it. While a limit and a slot hold at once the lower may count (G-11 leaves it open): so
a plan rests while the connector is in a session, which we lead, and goes back in when it is free. A connector keeps one
plan: a plan under another id takes the former one out first. Must not send: the hatch asks what is due.
Source: DESIGN section 5, GAPS G-11.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from controller.core.model import Evse, EvseId, Moment, Schedule
from controller.core.readings import Readings
from drivers.openplatform.devices_desk import StorePlan
from drivers.openplatform.limits import removed_plan, stored_plan
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
        copy = self._copy(evse)
        if copy.get("body") == body and not self._is_refused(evse):
            return  # told already, or about to be: memory in chargers wears
        before = (
            [removed_plan(copy["id"], now.utc, self._readings)] if copy["id"] not in (None, plan.id) else []
        )
        self._change(evse, plan.id, body, rests=True, todo=before)

    def drop(self, evse: EvseId, id: str, now: Moment) -> None:
        """Takes the plan of that name out of the charger again."""
        if self._copy(evse)["id"] == id:
            self._change(evse, None, None, rests=False, todo=[removed_plan(id, now.utc, self._readings)])

    def due(self, evse: EvseId, now: Moment, free: bool) -> StorePlan | None:
        """What to lay out for this connector now; `told` must follow. `free`: no session, and none on its way."""
        if evse in self._on_wire or now.mono_s < self._not_before_s.get(evse, 0.0):
            return None
        self._rest_or_return(evse, now, free)
        todo = self._copy(evse)["todo"]
        if not todo:
            return None
        self._on_wire.add(evse)
        self._count += 1
        return StorePlan(f"plan-{self._count}", evse, todo[0])

    def _rest_or_return(self, evse: EvseId, now: Moment, free: bool) -> None:
        copy = self._copy(evse)
        id, body, todo = copy["id"], copy.get("body"), copy["todo"]
        if body is None:
            return
        if not free and not copy["rests"]:
            # what was not told yet need not be taken back
            gone = todo[:-1] if todo else [removed_plan(id, now.utc, self._readings)]
            self._change(evse, id, body, rests=True, todo=gone)
        elif free and copy["rests"] and not todo:
            self._change(evse, id, body, rests=False, todo=[body])

    def told(self, order: StorePlan, accepted: bool | None, reason: str, now_s: float) -> None:
        """What became of it; None: nobody knows, so it is sent again. One the charger refused is not sent again until
        somebody changes it."""
        self._on_wire.discard(order.evse)
        copy = self._copy(order.evse)
        if copy["todo"][:1] != [order.body]:
            return  # changed meanwhile
        if accepted:
            self._change(order.evse, copy["id"], copy.get("body"), copy.get("rests", False), copy["todo"][1:])
        elif accepted is None:
            self._not_before_s[order.evse] = now_s + _RETRY_S
        else:
            self._not_before_s[order.evse] = float("inf")
            log.warning("%s: the charger would not store its plan: %s", order.evse, reason)

    def _is_refused(self, evse: EvseId) -> bool:
        return self._not_before_s.get(evse) == float("inf")

    def _copy(self, evse: EvseId) -> Mapping[str, Any]:
        return self._vault.schedule(evse) or {"id": None, "todo": []}

    def _change(
        self,
        evse: EvseId,
        id: str | None,
        body: Mapping[str, Any] | None,
        rests: bool,
        todo: Sequence[Mapping[str, Any]],
    ) -> None:
        """`body`: what the charger has once all of `todo` is told, unless it `rests`."""
        self._not_before_s.pop(evse, None)
        self._vault.keep_schedule(evse, {"id": id, "body": body, "rests": rests, "todo": list(todo)})
