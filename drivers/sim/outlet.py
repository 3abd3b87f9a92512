"""The hardware of one EVSE as every version of OCPP sees it: how it follows a limit, and its energy register.

Owns the quirks of obeying. Knows no transaction and no message.
"""

from __future__ import annotations

from drivers.sim.evse import SimEvse
from drivers.sim.merge import Hardware
from drivers.sim.quirks import Quirks


class Outlet:
    def __init__(self, number: int, evse: SimEvse, quirks: Quirks) -> None:
        self.number = number
        self.evse = evse
        self.hardware = Hardware(evse.max_a, len(evse.phases), evse.output_v)
        self._quirks = quirks
        self._register_zero_wh = 0.0
        self._spike_until_s = 0.0
        self._apply_at_s: float | None = None
        self._paused = self._deaf = False  # deaf: it follows no limit since the pause

    def forget(self) -> None:
        """Power gone: what was only in memory is lost and the contactor opens."""
        self.evse.energised = False
        self.evse.switched = None
        self.evse.limit_a = self.evse.max_a
        self._apply_at_s = None
        self._spike_until_s = 0.0

    def offer(self, limit_a: float, now_s: float, phases: int | None = None) -> None:
        """Follows the merged limit, as fast and as faithfully as the quirks let it. phases: that its profile names."""
        evse = self.evse
        if not self._quirks.ignores_phases:
            evse.switch(phases if phases is not None and phases < len(evse.phases) else None)
        if self._quirks.deaf_after_pause:
            self._deaf = limit_a >= evse.min_a and (self._deaf or self._paused)
            self._paused = limit_a < evse.min_a
            limit_a = evse.max_a if self._deaf else limit_a
        if self._quirks.ignores_limits or now_s < self._spike_until_s:
            limit_a = evse.max_a
        elif self._quirks.reaction_s and limit_a != evse.limit_a:
            if self._apply_at_s is None:
                self._apply_at_s = now_s + self._quirks.reaction_s
            if now_s < self._apply_at_s:
                return
        self._apply_at_s = None
        evse.limit_a = limit_a

    def written_while_charging(self, now_s: float) -> None:
        """A profile came in the middle of a transaction."""
        self._spike_until_s = now_s + self._quirks.spike_after_write_s
        self._deaf = False

    def register_wh(self) -> int:
        """The energy register as this charger shows it, whole Wh."""
        return int(self.evse.register_wh - self._register_zero_wh)

    def zero_register(self) -> None:
        self._register_zero_wh = self.evse.register_wh
