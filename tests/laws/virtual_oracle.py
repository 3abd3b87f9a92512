"""What must hold in every virtual night, judged by what really flows and what really is on its way (field notes 5.3).

I1   Nothing but the load of others, or a station that does not do what it was told, brings a circuit above its limit,
     and never for longer than it takes to see it, say it and follow it (`_budget_s`): unless nothing is left to lower.
I2   After every decision that adds: all that stations may draw from now on without hearing from us again, and the
I3   least the others drew of late, is within every limit. Decreases that nobody has confirmed count at their old value.
I8   Two minutes after the last mishap every station in reach is under a lease of ours and the site is no longer degraded.
I13  The controller gone, every station is at its fallback once its lease has run out, and that fits.
And an honest meter is never judged wrong (`controller.core.witness`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plant import loads
from virtual_mishaps import night_of
from virtual_night import BUSY_S, QUIET_S, Night

from controller.core.decide import Decision
from controller.core.model import Circuit, CircuitId, Evse, MeterId

Resource = tuple[CircuitId, int]
RESPONSE_S = 10  # a reading, a decision, an answer after 2 s at most, 5 s to follow
SAMPLES_S = 12  # the slowest ordinary interval of samples, and a bit
SEEN_S = 24  # others are known once samples of 10 s have stood for 12 s (controller.core.background), and are told late
SETTLED_S = 30.0
UNSEEN_MA = 1_000  # a vehicle may draw so much too much before it is booked (commitments.OVERDRAW_MA)
BREAKER_LAG_S, BREAKER_TRIPS = 26.0, 1.13**2  # a quick B characteristic: twice its rating for 10 s


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Over:
    """A circuit that carries too much: for how long though somebody could be lower, and how long that is no surprise."""

    seconds: int = 0
    budget_s: float = 0.0


class Oracle:
    """Looks at one night, second by second. Raises Broken."""

    def __init__(self, night: Night) -> None:
        self.night = night
        self.resources: list[Resource] = [(c, phase) for c in night.site.circuits for phase in range(3)]
        self.buildings: dict[Resource, deque[int]] = {r: deque(maxlen=SEEN_S) for r in self.resources}
        self.over: dict[Resource, Over] = {resource: Over() for resource in self.resources}
        self.heat = dict.fromkeys(self.resources, 1.0)
        self.below = {
            c: [
                e
                for e in night.site.evses.values()
                if any(node.id == c for node in night.site.path(e.circuit))
            ]
            for c in night.site.circuits
        }

    # --- every second ---------------------------------------------------------------------------------------------------

    def flows(self) -> None:
        """I1, after physics and before the decision."""
        night = self.night
        for circuit in night.site.circuits:
            load, building = night.load_ma(circuit), night.building_ma(circuit)
            for phase in range(3):
                resource = (circuit, phase)
                self.buildings[resource].append(building[phase])
                limit_ma = night.site.circuits[circuit].limit_ma[phase]
                self._breaker(resource, load[phase] / limit_ma)
                if load[phase] <= limit_ma + self._unseen_ma(resource):
                    self.over[resource] = Over()
                    continue
                over = self.over[resource]
                over.budget_s = max(over.budget_s, self._budget_s(circuit))
                over.seconds += self._could_be_lower(resource)
                if over.seconds > over.budget_s:
                    said = f"{load[phase]} of {limit_ma} mA, for {over.seconds} s longer than it had to be"
                    self._broken("I1", f"{circuit} L{phase + 1} at {said}")

    def _breaker(self, resource: Resource, multiple: float) -> None:
        """Whatever its circuit is not to blame for has cooled down before it counts again."""
        if self._budget_s(resource[0]) > RESPONSE_S:
            self.heat[resource] = 1.0
            return
        heat = self.heat[resource]
        self.heat[resource] = heat + (multiple**2 - heat) / BREAKER_LAG_S
        if self.heat[resource] > BREAKER_TRIPS:
            self._broken("I1", f"the breaker of {resource[0]} L{resource[1] + 1} trips")

    def _unseen_ma(self, resource: Resource) -> int:
        """What a meter would see and samples need not show."""
        if self.night.site.circuits[resource[0]].meter is not None:
            return 0
        return sum(
            min(UNSEEN_MA, self.night.wires[evse.id].over_ma)
            for evse in self.below[resource[0]]
            if resource[1] in evse.phases
        )

    def _budget_s(self, circuit: CircuitId) -> float:
        """How long after a mishap an overload may last. Whatever nobody hears ends with its lease."""
        night, budget_s = self.night, float(RESPONSE_S)
        for evse in self.below[circuit]:
            wire = night.wires[evse.id]
            lease_s = evse.link.lease_s + evse.link.lease_slack_s + SETTLED_S
            if (
                wire.fate
                or wire.delay_s > 2.0
                or not night.plugs[evse.id].link
                or night.now_s - wire.ill_s <= lease_s
            ):
                budget_s = max(budget_s, lease_s + evse.link.answer_s)
            if wire.over_ma or wire.disobeys or night.now_s - wire.greedy_s <= SETTLED_S:
                budget_s = max(budget_s, RESPONSE_S + SAMPLES_S)
        for node in night.site.circuits.values():
            if node.meter is not None and self._was_ill(node.meter):
                budget_s = max(budget_s, 60.0 + SETTLED_S + 20.0)  # the bus needs a minute to call it stuck
        return budget_s

    def _was_ill(self, meter: MeterId) -> bool:
        eye = self.night.eyes[meter]
        ill = eye.silent or eye.nonsense or eye.shows_ma is not None
        return ill or self.night.now_s - eye.ill_s <= 90.0

    def _could_be_lower(self, resource: Resource) -> bool:
        """Somebody who obeys is allowed more than he takes alone."""
        night = self.night
        return any(
            plug.transaction is not None and plug.allowed_ma(night.now_s) > plug.alone_ma()
            for evse in self.below[resource[0]]
            if resource[1] in evse.phases and not night.wires[evse.id].disobeys
            for plug in (night.plugs[evse.id],)
        )

    def worst(self) -> dict[Resource, int]:
        """What stations may draw from now on, on the phases their vehicles use; without a vehicle, on all of theirs."""
        night, total = self.night, dict.fromkeys(self.resources, 0)
        for evse in night.site.evses.values():
            car = night.cars.get(evse.id)
            worst_ma = night.plugs[evse.id].worst_ma(night.now_s)
            for node in night.site.path(evse.circuit):
                for phase in evse.phases if car is None else car.phases:
                    total[node.id, phase] += worst_ma
        return total

    def decided(self, before: dict[Resource, int]) -> None:
        """I2 and I3: where a decision added something, it fits."""
        night = self.night
        for resource, worst_ma in self.worst().items():
            circuit = night.site.circuits[resource[0]]
            if worst_ma <= before[resource]:
                continue
            if circuit.meter is None:
                assert circuit.assumed_load_ma is not None
                building_ma = circuit.assumed_load_ma[resource[1]]
            elif self._was_ill(circuit.meter):
                continue
            else:
                building_ma = min(self.buildings[resource])
            limit_ma = circuit.limit_ma[resource[1]]
            if worst_ma + building_ma > limit_ma:
                said = f"stations may draw {worst_ma}, others {building_ma} of {limit_ma} mA"
                self._broken("I2", f"{circuit.id} L{resource[1] + 1}: {said}")

    def honest_meters(self) -> None:
        for meter, witness in self.night.depot._state.belief.witnesses.of.items():
            if witness.verdict is not None and self.night.eyes[meter].shows_ma is None:
                self._broken("meter", f"{meter} is blamed: {witness.verdict.text}")

    # --- at the end -------------------------------------------------------------------------------------------------------

    def healed(self, decision: Decision) -> None:
        """I8."""
        night = self.night
        for evse, plug in night.plugs.items():
            if not plug.link:
                self._broken("I8", f"{evse} has no link: the night is wrong")
            alive = plug.limit_ma is not None and night.now_s < plug.limit_ends_s
            if plug.transaction is not None and not alive and self._has_room(night.site.evses[evse]):
                self._broken("I8", f"{evse} charges without a lease of ours, and there is room")
        if decision.snapshot.state != "auto":
            self._broken("I8", f"the site is {decision.snapshot.state}: {decision.snapshot.text}")
        for resource, over in self.over.items():
            if over.seconds > RESPONSE_S and self._could_be_lower(resource):
                self._broken("I8", f"{resource} is still overloaded")

    def _has_room(self, evse: Evse) -> bool:
        """For all it can draw, everywhere above it, whatever the others did of late."""
        worst = self.worst()
        return all(
            worst[node.id, phase] + max(self._others_ma(node, phase)) + evse.max_ma
            <= node.limit_ma[phase] * 95 // 100
            for node in self.night.site.path(evse.circuit)
            for phase in evse.phases
        )

    def _others_ma(self, circuit: Circuit, phase: int) -> Iterable[int]:
        if circuit.meter is None and circuit.assumed_load_ma is not None:
            return [circuit.assumed_load_ma[phase]]
        return self.buildings[circuit.id, phase]

    def alone(self) -> None:
        """I13."""
        night = self.night
        longest_s = max(e.link.lease_s + e.link.lease_slack_s + SETTLED_S for e in night.site.evses.values())
        later_s = night.now_s + longest_s
        for evse, plug in night.plugs.items():
            if plug.worst_ma(later_s) > night.site.evses[evse].fallback_ma:
                self._broken("I13", f"{evse} may still draw {plug.worst_ma(later_s)} mA")
        alone = loads(night.site, {evse: plug.allowed_ma(later_s) for evse, plug in night.plugs.items()})
        for (circuit, phase), load in alone.items():
            node = night.site.circuits[circuit]
            assert node.assumed_load_ma is not None
            if load + node.assumed_load_ma[phase] > node.limit_ma[phase]:
                self._broken("I13", f"the fallbacks do not fit {circuit}: the night is wrong")

    def _broken(self, law: str, what: str) -> None:
        raise Broken(f"{law} at {self.night.second} s: {what}")


def judged(seed: int) -> Iterator[str]:
    """Lives through the night of this seed; yields what happens in it first. Raises Broken with the whole story."""
    night, story = night_of(seed)
    yield from story
    oracle, decision = Oracle(night), None
    try:
        while night.second < BUSY_S + QUIET_S:
            night.live()
            oracle.flows()
            before = oracle.worst()
            decision = night.decide() or decision
            if night.down_until_s is None:
                oracle.decided(before)
                oracle.honest_meters()
        assert decision is not None
        oracle.healed(decision)
        oracle.alone()
    except Exception as error:
        error.add_note(f'again: make soak ARGS="--seed {seed}"\n' + "\n".join(story))
        raise
