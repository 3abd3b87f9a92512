"""What a proof on site looks at and acts through: the measured current of one EVSE, its limits, its link.

Owns the hold on renewals, the limit of the proof and the room that is kept for the worst while a promise is tested: the
EVSE counts at its maximum until its fallback is stored again. Every limit goes through the depot, none around it. Knows
no protocol: what is done to the station besides is behind `Prover`. `lift` undoes everything at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.core.belief import highest_ma
from controller.core.events import (
    Event,
    EvseSample,
    FallbackRefused,
    LimitWished,
    LinkUp,
    RenewalHeld,
    StationBooted,
)
from controller.core.model import Circuit, Evse, StationId
from controller.core.snapshot import CircuitView, EvseView, Snapshot
from controller.runtime import Runtime
from drivers.errors import DriverError

UPPER_MA, LOWER_MA = (
    1_000,
    2_000,
)  # a meter may show this much more than the limit, a vehicle take this much less
QUIET_MA = 1_000
ACCEPT_S = 90.0  # raises wait for their gap, for a quiet half minute and for room
SAMPLE_S = 70.0  # the slowest stations send one a minute
ROOM_S = 90.0  # others are lowered and follow
STORE_S = 60.0
DROP_S = 90.0
_SAMPLES = 2_000  # of one proof, at one a second


class Failed(Exception):
    """The station did not do what it should; the text is the finding."""


class Hindered(Exception):
    """The proof cannot go on, and the station has nothing to do with it."""


class Prover(Protocol):
    """What a charger's driver does for a proof. The first four raise DriverError."""

    async def reset(self, station: StationId) -> None: ...

    async def begin(self, evse: Evse, token: str) -> None: ...

    async def cut(self, station: StationId, seconds: float) -> None: ...

    async def ask_for_values(self, evse: Evse) -> bool: ...

    def spare_fallback(self, station: StationId, spared: bool) -> None: ...

    def set_up(self, station: StationId) -> None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    taken_s: float
    highest_ma: int
    power_w: int | None
    register_wh: int | None


def amps(current_ma: int | None) -> str:
    return "? A" if current_ma is None else f"{current_ma / 1e3:.1f} A".replace(".0 A", " A")


class Scene:
    """One EVSE under proof. `say(text, passed)` shows a line to whoever follows; `passed` is left out while a check goes on."""

    def __init__(
        self, runtime: Runtime, prover: Prover, evse: Evse, by: str, say: Callable[..., None]
    ) -> None:
        self.evse = evse
        self.prover = prover
        self.say = say
        self.samples: deque[Sample] = deque(maxlen=_SAMPLES)
        self.linked_s = self.booted_s = float("-inf")
        self._runtime = runtime
        self._by = by
        self._orders = 0
        self._before_ma = self.view.operator_limit_ma
        self._path: tuple[Circuit, ...] = tuple(runtime.depot.site.path(evse.circuit))
        runtime.hearers.append(self._hear)

    # --- seeing -----------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return self._runtime.clock.now().mono_s

    @property
    def snapshot(self) -> Snapshot:
        assert self._runtime.snapshot is not None, "whoever begins a proof has seen a snapshot"
        return self._runtime.snapshot

    @property
    def view(self) -> EvseView:
        return next(view for view in self.snapshot.evses if view.id == self.evse.id)

    @property
    def token(self) -> str | None:
        return self._runtime.depot.token(self.evse.id)

    def since(self, at_s: float) -> list[Sample]:
        return [sample for sample in self.samples if sample.taken_s >= at_s]

    def own_circuit(self) -> CircuitView | None:
        """A metered circuit with nothing of ours below it but this EVSE."""
        site = self._runtime.depot.site
        for circuit in self._path[:-1]:
            if circuit.meter is not None:
                below = [each for each in site.evses.values() if circuit in site.path(each.circuit)]
                return self._circuit(circuit) if below == [self.evse] else None
        return None

    async def until(self, met: Callable[[], bool], within_s: float) -> float | None:
        """Looks once a second; returns how long it took, None when it did not happen. Raises Hindered when a circuit on
        the way to this EVSE is overloaded."""
        began_s, seen = self.now_s, None
        while not met():
            if self.now_s - began_s >= within_s:
                return None
            seen = await self._runtime.next_snapshot(seen)
            names = {circuit.id for circuit in self._path}
            for alarm in (*seen.alarms, *seen.alarms_quiet):
                if alarm.kind == "overload" and alarm.source in names:
                    raise Hindered(f"circuit {alarm.source} is overloaded: {alarm.text}")
        return self.now_s - began_s

    async def sample(self) -> Sample:
        """The next one. Raises Failed when none comes."""
        asked_s = self.now_s
        if await self.until(lambda: bool(self.since(asked_s)), SAMPLE_S) is None:
            raise Failed(f"told no current within {SAMPLE_S:.0f} s")
        return self.since(asked_s)[0]

    # --- doing ------------------------------------------------------------------------------------------------------

    async def accept(self, limit_ma: int) -> float:
        """Has the depot set this limit; returns how long it took until the station said yes."""
        await self._wish(limit_ma)

        def accepted() -> bool:
            view = self.view
            return view.accepted_ma == limit_ma and view.commanded_ma == limit_ma

        took_s = await self.until(accepted, ACCEPT_S)
        if took_s is not None:
            return took_s
        view = self.view
        self.needs_session()
        if view.grant_ma != limit_ma:
            raise Hindered(
                f"only {amps(view.grant_ma)} of {amps(limit_ma)} can be given now ({view.bound_by})"
            )
        raise Failed(f"did not accept {amps(limit_ma)} within {ACCEPT_S:.0f} s")

    def needs_session(self) -> None:
        if not self.view.connected:
            raise Failed("its link is gone")
        if self.view.session is None:
            raise Failed("its session ended")

    async def follow(self, limit_ma: int, within_s: float) -> tuple[Sample, float]:
        """The first sample that shows the limit, and after how long. Late is the first one past the time."""
        since_s = self.now_s
        fits = range(limit_ma - LOWER_MA, limit_ma + UPPER_MA + 1)

        def fitting() -> Sample | None:
            return next((each for each in self.since(since_s) if each.highest_ma in fits), None)

        def late() -> bool:
            return bool(self.since(since_s + within_s))

        await self.until(lambda: fitting() is not None or late(), within_s + SAMPLE_S)
        found, all_of_it = fitting(), self.since(since_s)
        if found is not None:
            return found, max(0.0, found.taken_s - since_s)
        if not all_of_it:
            raise Failed(f"told no current within {within_s + SAMPLE_S:.0f} s")
        drawn_ma = all_of_it[-1].highest_ma
        if drawn_ma > limit_ma:
            raise Failed(f"accepted {amps(limit_ma)} and draws {amps(drawn_ma)} after {within_s:.0f} s")
        raise Hindered(f"the vehicle takes {amps(drawn_ma)} of {amps(limit_ma)}: use one that takes more")

    async def hold(self, seconds: float) -> None:
        """No limit goes out for so long; renew for longer than ten minutes. Raises Hindered when the station may still
        have a plan for when we are gone: that would be seen, not its fallback."""
        await self._runtime.report(RenewalHeld(self._by, self.evse.id, self.now_s + seconds))
        standbys = self._runtime.depot.standbys
        if seconds <= 0 or not standbys.holds(self.evse.id):
            return
        if await self.until(lambda: not standbys.holds(self.evse.id), DROP_S) is None:
            raise Hindered("the plan it holds for when we are gone could not be taken out of it")

    async def reserve(self) -> None:
        """From now on its promise does not count: the depot keeps room for its maximum. Raises Hindered without room."""
        channel = self.view.channels[0]
        reason = "under proof: nobody knows yet whether it keeps it"
        await self._runtime.report(FallbackRefused(self.evse.id, channel, reason))
        if await self.until(self._fits, ROOM_S) is None:
            most = amps(self.evse.max_ma)
            raise Hindered(
                f"no room for its maximum of {most} while that is not proven: let others finish first"
            )

    async def settle(self) -> None:
        """The hold is over, and the fallback stored again. Raises Failed when the station does not take it."""
        self._unhold()
        await self.hold(0.0)
        if self.view.fallback_stored:
            return
        self.prover.set_up(self.evse.station)
        if await self.until(lambda: self.view.fallback_stored, STORE_S) is None:
            raise Failed("did not store its fallback again")

    async def lift(self) -> None:
        """Undoes everything: the hold, the cut, the limit. Never waits for the station."""
        if self._hear in self._runtime.hearers:
            self._runtime.hearers.remove(self._hear)
        self._unhold()
        await self.hold(0.0)
        try:
            if not self.view.connected:
                await self.prover.cut(self.evse.station, 0.0)
        except DriverError as error:
            self.say(str(error))
        if not self.view.fallback_stored:
            self.prover.set_up(self.evse.station)
        await self._wish(self._before_ma)

    def _unhold(self) -> None:
        self.prover.spare_fallback(self.evse.station, False)

    async def _wish(self, limit_ma: int | None) -> None:
        self._orders += 1
        order = f"q-{self.evse.id}-{self._orders}-{self.now_s:.0f}"
        await self._runtime.report(LimitWished(order, self._by, self.evse.id, limit_ma))

    def _fits(self) -> bool:
        """What all may draw, left alone, fits every circuit on the way."""
        if self.view.commitment_ma < self.evse.max_ma:
            return False  # not booked yet
        for circuit in self._path:
            view = self._circuit(circuit)
            for phase in self.evse.phases:
                if view.committed_ma[phase] + (view.background_ma[phase] or 0) > view.limit_ma[phase]:
                    return False
        return True

    def _circuit(self, circuit: Circuit) -> CircuitView:
        return next(view for view in self.snapshot.circuits if view.id == circuit.id)

    def _hear(self, event: Event) -> None:
        match event:
            case EvseSample() if event.evse == self.evse.id:
                drawn_ma = highest_ma(event.current_ma)
                if drawn_ma is not None:
                    self.samples.append(Sample(event.taken_s, drawn_ma, event.power_w, event.register_wh))
            case LinkUp() if event.station == self.evse.station:
                self.linked_s = self.now_s
            case StationBooted() if event.station == self.evse.station:
                self.booted_s = self.now_s
