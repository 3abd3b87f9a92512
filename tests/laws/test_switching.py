"""Phase switching: who charges on one phase, when, and that what was meant for three never lands on one, or the reverse."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from nights import Told, eventful, judged
from plant import BOARD, LINK, OnWire, Plug
from yard import MAIN, Yard, a_site, an_evse

from controller.core import decide
from controller.core import events as ev
from controller.core.allocator import Demand
from controller.core.commands import SetLimit
from controller.core.commitments import Account
from controller.core.decide import Decision
from controller.core.dispatch import Target, committed_ma, dispatch
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    PerPhase,
    Site,
    StationId,
    each_phase,
)
from controller.core.state import State
from controller.core.switching import AGAIN_S, FITS_S, SWITCHES
from controller.core.why import why
from controller.journal import compressed
from controller.journal_read import Block, rows
from controller.journal_rows import proof_of

ONE = EvseId("s0/1")  # L2 is its first conductor
SETTLE_S = LINK.settle_s
NO_VOLTS: PerPhase[int | None] = PerPhase(None, None, None)


# --- the choice -------------------------------------------------------------------------------------------------------


def a_yard(building: tuple[int, int, int], fallback_ma: int = 0) -> Yard:
    """One EVSE that can switch, wired L2 L3 L1, below 40 A."""
    evse = an_evse(0, (1, 2, 0), fallback_ma=fallback_ma, phase_switching=True)
    yard = Yard(a_site([evse], limit_ma=40_000))
    yard.building = lambda second: building
    return yard


def told(yard: Yard, seconds: int, may_be_over: bool = False) -> list[tuple[int, int, int | None]]:
    """What it was told: when, how much, on how many phases. The copper is never above its limit meanwhile."""
    found = []
    for flows in yard.run(seconds):
        assert may_be_over or max(flows) <= 40_000
        assert yard.decision is not None
        for command in yard.decision.commands:
            if isinstance(command, SetLimit):
                found.append((yard.second, command.limit_ma, command.phases))
    return found


def test_who_does_not_fit_on_three_phases_is_admitted_on_one() -> None:
    yard = a_yard((36_000, 10_000, 36_000))
    yard.plug(0)
    limits = told(yard, 120)
    assert {phases for _, limit_ma, phases in limits if limit_ma} == {1}
    assert max(yard.flows_ma()) <= 40_000
    assert yard.flows_ma()[1] > 30_000, "all that its first conductor's phase has left"
    assert yard.decision is not None
    (view,) = yard.decision.snapshot.evses
    assert view.phases_used == (1,)
    assert yard.decision.snapshot.circuits[0].committed_ma == PerPhase(0, view.commitment_ma, 0)


def test_the_floor_counts_on_all_phases_whatever_it_was_told() -> None:
    yard = a_yard((38_000, 10_000, 38_000), fallback_ma=0)
    other = an_evse(1, (0, 1, 2), fallback_ma=8_000, min_ma=8_000, phase_switching=True)
    yard = Yard(a_site([other], limit_ma=40_000))
    yard.building = lambda second: (30_000, 10_000, 30_000)
    evse = yard.plug(1)
    list(yard.run(60))
    commitments = yard.depot._state.commitments
    commitments.sent(evse, "x", 20_000, yard.now.mono_s, 1)
    commitments.accepted("x", yard.now.mono_s)
    now_s = yard.now.mono_s + SETTLE_S + 1
    state = yard.depot._state
    booked = state.switching.booked({}, commitments, now_s)
    assert committed_ma(state.grid, commitments, now_s, booked) == [20_000, 8_000, 8_000]


def test_when_three_have_fitted_for_five_minutes_it_goes_back_through_a_pause() -> None:
    yard = a_yard((36_000, 10_000, 36_000))
    yard.plug(0)
    told(yard, 60)
    yard.building = lambda second: (5_000, 10_000, 5_000)
    since = yard.second
    limits = told(yard, int(FITS_S) + 120)
    changed = next(n for n, (_, _, phases) in enumerate(limits) if phases is None)
    assert limits[changed][0] - since >= FITS_S
    assert limits[changed - 1][1:] == (0, 1), "no current, and the phases as they were"
    assert limits[changed][0] - limits[changed - 1][0] >= SETTLE_S
    assert min(yard.flows_ma()) > 20_000


def test_it_never_switches_more_often_than_every_five_minutes() -> None:
    yard = a_yard((10_000, 10_000, 10_000))
    yard.building = lambda second: (36_000 if second // 400 % 2 else 10_000, 10_000, 10_000)
    yard.plug(0)
    limits = [each for each in told(yard, 3_000, may_be_over=True) if each[1]]
    switched = [b[0] for a, b in pairwise(limits) if a[2] != b[2]]
    assert switched, "it was of use"
    assert all(b - a >= AGAIN_S - 30 for a, b in pairwise(switched))


def test_a_switch_goes_through_no_current_that_has_settled() -> None:
    """Its fallback flows on all phases from the start: that has to end first, and for certain."""
    yard = a_yard((10_000, 10_000, 10_000), fallback_ma=6_000)
    yard.plug(0)
    told(yard, 20)
    yard.depot._state.switching._switches[ONE].change(1, yard.now.mono_s)
    limits = told(yard, 2)
    assert yard.bound_by(ONE) == SWITCHES
    limits += told(yard, 60)
    assert [phases for _, _, phases in limits] == [None, *[1] * (len(limits) - 1)]
    (paused, nothing, _), (resumed, something, _) = limits[:2]
    assert (nothing, something > 0) == (0, True)
    assert resumed - paused > SETTLE_S


def test_a_vehicle_that_uses_one_phase_anyway_is_not_switched() -> None:
    yard = a_yard((10_000, 10_000, 10_000))
    yard.plug(0, 32_000, 0, 0)
    told(yard, 100)
    yard.building = lambda second: (40_000, 10_000, 40_000)
    assert {phases for _, _, phases in told(yard, 100)} == {None}
    assert yard.flows_ma()[1] > 30_000


def test_nobody_is_switched_where_no_evse_can_be() -> None:
    yard = Yard(a_site([an_evse(0, (1, 2, 0), fallback_ma=0)], limit_ma=40_000))
    yard.building = lambda second: (36_000, 10_000, 36_000)
    yard.plug(0)
    assert all(phases is None for _, _, phases in told(yard, 60))
    assert not yard.depot._state.switching


class Sunny(Yard):
    """One EVSE that lives on `sun_w`."""

    def __init__(self, sun_w: int) -> None:
        self.sun_w = sun_w
        evse = an_evse(0, (1, 2, 0), fallback_ma=0, phase_switching=True, surplus=True)
        super().__init__(a_site([evse]))

    def drawn_w(self) -> int:
        return sum(sum(each.draws_ma(0)) for each in self.vehicles.values()) * 230 // 1000

    def tell(self, fact: ev.Event) -> None:
        if isinstance(fact, ev.MeterReading):
            fact = replace(fact, power_w=self.drawn_w() - self.sun_w)
        super().tell(fact)


@pytest.mark.parametrize(("export_w", "phases"), [(3_000, 1), (6_000, None)])
def test_surplus_that_is_too_small_for_three_phases_is_taken_on_one(
    export_w: int, phases: int | None
) -> None:
    yard = Sunny(export_w)
    yard.plug(0)
    list(yard.run(200))
    assert yard.vehicles[ONE].phases == phases
    assert export_w - 3 * 230 - 50 <= yard.drawn_w() <= export_w


def test_a_surplus_that_shrinks_and_grows_is_followed_slowly() -> None:
    yard = Sunny(9_000)
    yard.plug(0)
    list(yard.run(200))
    yard.sun_w = 2_500
    assert 1 in {phases for _, limit_ma, phases in told(yard, 170, may_be_over=True) if limit_ma}
    assert 1_500 <= yard.drawn_w() <= 2_500
    yard.sun_w = 9_000
    assert {phases for *_, phases in told(yard, 240)} == {1}, "a cloud may come"
    limits = told(yard, 300)
    assert limits[-1][2] is None and yard.drawn_w() > 8_000


def test_why_explains_it_from_the_journal_as_from_the_step() -> None:
    yard = a_yard((36_000, 10_000, 36_000))
    yard.plug(0)
    told(yard, 60)
    assert yard.decision is not None
    proof = yard.decision.proof
    ((site, row),) = rows(Block(1, "", "", "", "", compressed([proof], "config")))
    back = proof_of(site, row)
    assert back.rooms.one_phase == {ONE} == proof.rooms.one_phase
    assert row["e"][ONE][10] == 1
    found = why(proof, ONE)
    assert (found.bound_by, found.kind, found.more_ma) == ("circuit site L2", "circuit", 30_000)
    assert why(back, ONE) == replace(found, at=why(back, ONE).at)


# --- a station that says yes and does not -------------------------------------------------------------------------------


def test_a_station_that_does_not_switch_counts_on_all_phases_again() -> None:
    yard = a_yard((25_000, 10_000, 36_000))
    yard.ignores_phases.add(ONE)
    yard.plug(0)
    over = [max(flows) > 40_000 for flows in yard.run(120)]
    assert any(over), "nobody can know before it is measured"
    assert sum(over) <= SETTLE_S + 8, "until it has settled, a sample and a step"
    assert not over[-60:].count(True)
    assert yard.decision is not None
    (alarm,) = [alarm for alarm in yard.decision.snapshot.alarms if alarm.kind == "phase-switching"]
    assert (alarm.source, alarm.priority) == (ONE, 3)
    assert "does not switch phases" in alarm.text
    assert yard.depot._state.switching.phases(ONE) is None


def test_it_is_trusted_anew_when_its_link_has_come_up_anew() -> None:
    yard = a_yard((25_000, 10_000, 36_000))
    yard.ignores_phases.add(ONE)
    yard.plug(0)
    list(yard.run(120))
    yard.ignores_phases.clear()
    assert {phases for *_, phases in told(yard, 330)} <= {None}, "not before"
    yard.tell(ev.LinkDown(StationId("s0"), "wire", "closed"))
    yard.tell(ev.LinkUp(StationId("s0"), "wire", "peer"))
    assert 1 in {phases for *_, phases in told(yard, 120)}


def test_a_station_that_refuses_one_phase_twice_is_not_asked_again() -> None:
    yard = a_yard((36_000, 10_000, 36_000))
    yard.plug(0)
    asked = []
    for second in range(200):
        yard.second += 1
        total: PerPhase[int | None] = PerPhase(36_000, 10_000, 36_000)
        yard.tell(ev.MeterReading(MAIN, yard.now.mono_s, total, None, each_phase(230_000)))
        for command in yard.depot.step(yard.now).commands:
            if isinstance(command, SetLimit) and command.phases:
                asked.append(second)
                yard.tell(ev.CommandRefused(command.id, "the station takes watts only"))
            elif isinstance(command, SetLimit):
                yard.tell(ev.CommandAccepted(command.id))
    assert len(asked) == 2


def test_a_station_that_cannot_pause_is_not_switched() -> None:
    yard = a_yard((10_000, 10_000, 10_000), fallback_ma=6_000)
    yard.plug(0)
    told(yard, 20)
    switch = yard.depot._state.switching._switches[ONE]
    switch.change(1, yard.now.mono_s)
    for _ in range(60):
        yard.second += 1
        yard.tell(ev.MeterReading(MAIN, yard.now.mono_s, PerPhase(20_000, 20_000, 20_000), None, NO_VOLTS))
        for command in yard.depot.step(yard.now).commands:
            if isinstance(command, SetLimit) and command.limit_ma == 0:
                yard.tell(ev.CommandRefused(command.id, "a pause would end its transaction"))
    assert switch.distrusted and switch.phases is None
    assert {phases for _, limit_ma, phases in told(yard, 60) if limit_ma} == {None}


def test_what_a_switched_vehicle_draws_tells_nothing_of_what_it_could_use() -> None:
    """Else its next three phases would count on one of them."""
    yard = a_yard((36_000, 10_000, 36_000))
    yard.plug(0)
    told(yard, 200)
    assert yard.depot._state.usage.phases(ONE, yard.now.mono_s) is None


# --- the law -------------------------------------------------------------------------------------------------------------


def a_tight_site(metered: bool) -> Site:
    """Three that can switch, on a board and at the root, where L1 and L3 have little left; and one that cannot."""
    seats: list[tuple[CircuitId, tuple[int, ...], int]] = [
        (BOARD, (1, 2, 0), 0),
        (BOARD, (0, 1, 2), 6_000),
        (SITE, (2, 0, 1), 0),
        (SITE, (1,), 6_000),
    ]
    circuits = {
        SITE: Circuit(
            SITE, None, PerPhase(45_000, 75_000, 62_000), MAIN if metered else None, PerPhase(20_000, 10_000, 30_000)
        ),
        BOARD: Circuit(BOARD, SITE, PerPhase(11_000, 40_000, 20_000)),
    }  # fmt: skip
    evses = {}
    for number, (circuit, phases, fallback_ma) in enumerate(seats):
        name, can = EvseId(f"s{number}/1"), len(phases) == 3
        evses[name] = Evse(
            name, StationId(f"s{number}"), circuit, 32_000, 6_000, phases, fallback_ma, LINK, phase_switching=can
        )  # fmt: skip
    meters = a_site([], metered=metered).meters
    return Site("tight", "UTC", 230_000, circuits, evses, meters)


class Switched(Plug):
    """On one conductor while its limit says so. What follows after a change flows wherever the old or the new one does."""

    on_one = following_on_one = False

    def is_one(self, now_s: float) -> bool:
        alive = self.limit_ma is not None and self.transaction is not None and now_s < self.limit_ends_s
        return alive and self.on_one

    def others_ma(self, now_s: float) -> int:
        """The most on the phases of its other conductors from now on."""
        alone, found = self.alone_ma(), [(self.allowed_ma(now_s), self.is_one(now_s))]
        if now_s < self.following_until_s:
            found.append((self.following_ma, self.following_on_one))
        for flying in (*self.wire, *self.stray):
            if flying.command.transaction == self.transaction and now_s < flying.ends_s:
                found.append((flying.command.limit_ma, flying.command.phases == 1))
        above = [on_one for limit_ma, on_one in found if limit_ma > alone]
        return alone if all(above) else self.worst_ma(now_s)


class Yardful(Told):
    """A plant whose stations switch."""

    switched = 0

    def __init__(self, site: Site, stored: bool = True) -> None:
        super().__init__(site, stored)
        for evse, old in self.plugs.items():
            self.plugs[evse] = Switched(old.evse, old.max_ma, old.fallback_ma, wire=old.wire)

    def _comes_down(self, plug: Plug) -> None:
        assert isinstance(plug, Switched)
        before = (plug.following_ma, plug.following_until_s)
        now_one = plug.is_one(self.now_s)
        super()._comes_down(plug)
        if (plug.following_ma, plug.following_until_s) != before:
            plug.following_on_one = now_one
        else:
            plug.following_on_one &= now_one

    def _arrive(self, plug: Plug, flying: OnWire) -> bool:
        assert isinstance(plug, Switched)
        limit_ma, was_one = plug.allowed_ma(self.now_s), plug.is_one(self.now_s)
        taken = super()._arrive(plug, flying)
        if taken:
            plug.on_one = flying.command.phases == 1
            live = limit_ma and flying.command.limit_ma and plug.on_one != was_one
            assert not live, "switched while current flows"
            self.switched += plug.on_one and flying.command.limit_ma > 0
        return taken

    def worst(self) -> dict[tuple[CircuitId, int], int]:
        """Per circuit and phase what all may draw from now on without hearing from us."""
        total = {(circuit, phase): 0 for circuit in self.site.circuits for phase in range(3)}
        for evse, plug in self.plugs.items():
            assert isinstance(plug, Switched)
            unit = self.site.evses[evse]
            for node in self.site.path(unit.circuit):
                for n, phase in enumerate(unit.phases):
                    most = plug.worst_ma(self.now_s) if n == 0 else plug.others_ma(self.now_s)
                    total[node.id, phase] += most
        return total

    def step(self) -> Decision:
        before = self.worst() if self.decision is not None else {}
        decision = super().step()
        for (circuit, phase), most in self.worst().items() if before else ():
            node = self.site.circuits[circuit]
            room = node.limit_ma[phase]
            if node.meter is None and node.assumed_load_ma is not None:
                room -= node.assumed_load_ma[phase]
            assert most <= max(room, before[circuit, phase]), (
                f"{circuit} L{phase + 1} at {self.now_s}: {most}"
            )
        return decision


@pytest.mark.parametrize("seed", range(16))
def test_whatever_happens_in_a_night_one_phase_and_three_stay_within_the_copper(seed: int) -> None:
    plant: Told | None = None
    for plant in eventful(seed, seed % 2 == 0, 300, a_tight_site(seed % 2 == 0), kind=Yardful):
        plant.step()
    assert isinstance(plant, Yardful)
    verdict = judged(plant.proofs)
    assert not verdict.breaches, verdict.breaches[0]


def test_those_nights_switch() -> None:
    assert sum(_switched(seed) for seed in range(8)) > 10


def _switched(seed: int) -> int:
    plants = []
    for plant in eventful(seed, seed % 2 == 0, 300, a_tight_site(seed % 2 == 0), kind=Yardful):
        plant.step()
        plants = [plant]
    (last,) = plants
    assert isinstance(last, Yardful)
    return last.switched


def test_the_judge_convicts_who_counts_a_limit_for_three_phases_on_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The budget of three never lands on one, or the reverse: told of one phase, the station is told nothing of it."""

    def forgets(*args: object) -> SetLimit:
        command = SetLimit(*args)  # type: ignore[arg-type]
        return replace(command, phases=None)

    monkeypatch.setattr(decide, "SetLimit", forgets)
    found = []
    for seed in (1, 3, 5):
        plant = None
        for plant in eventful(seed, False, 200, a_tight_site(False), kind=Told):
            plant.step()
        assert plant is not None
        found += judged(plant.proofs).breaches
    assert {finding.law for finding in found} & {"booked", "raise"}


def test_the_law_sees_who_forgets_that_all_phases_have_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Account.settle

    def settle(self: Account, before_ma: int, after_ma: int, now_s: float, phases: int | None = None) -> None:
        if phases is not None or after_ma != self.floor_ma():
            sound(self, before_ma, after_ma, now_s, phases)

    monkeypatch.setattr(Account, "settle", settle)
    with pytest.raises(AssertionError):
        test_whatever_happens_in_a_night_one_phase_and_three_stay_within_the_copper(2)


# --- the books ----------------------------------------------------------------------------------------------------------


def books() -> State:
    site = a_site([an_evse(0, (1, 2, 0), fallback_ma=0, phase_switching=True)], metered=False)
    state = State.new(site, "1")
    state.commitments.known(ONE, 0)
    return state


def test_as_soon_as_one_limit_as_wired_is_alive_all_of_it_counts_everywhere() -> None:
    state = books()
    commitments, account = state.commitments, state.commitments.accounts[ONE]

    def counts(now_s: float) -> list[int]:
        return committed_ma(state.grid, commitments, now_s, state.switching.booked({}, commitments, now_s))

    commitments.sent(ONE, "a", 16_000, 100.0, 1)
    assert counts(100.0) == [0, 16_000, 0]
    commitments.accepted("a", 101.0)
    assert counts(101.0) == [0, 16_000, 0]
    commitments.sent(ONE, "b", 10_000, 110.0)
    assert counts(110.0) == [16_000, 16_000, 16_000]
    commitments.lost("b", 120.0)
    assert counts(121.0) == [16_000, 16_000, 16_000], "perhaps it was carried out"
    commitments.sent(ONE, "c", 0, 125.0)
    commitments.accepted("c", 126.0)
    assert counts(126.0) == [16_000, 16_000, 16_000]
    assert counts(126.1 + SETTLE_S) == [0, 0, 0]
    commitments.sent(ONE, "d", 12_000, 140.0, 1)
    commitments.accepted("d", 141.0)
    commitments.rebooted(ONE, 145.0)
    assert counts(146.0) == [0, 12_000, 0]
    commitments.measured(ONE, 20_000, 147.0)
    assert counts(148.0) == [20_000, 20_000, 20_000], "who draws too much is not believed the phases either"
    account.overdraw_until_s = 0.0
    commitments.transaction_ended(ONE, 150.0)
    assert counts(150.1) == [0, 12_000, 0]


def test_after_a_restart_nobody_knows_how_it_charges_and_it_pauses_once() -> None:
    state = books()
    state.commitments.restored(ONE, 16_000, 0.0, 100.0)
    state.commitments.known(ONE, 6_000)
    demand = Demand(ONE, 6_000, 32_000, 1_000, 6_000, running=True)
    running = {ONE: object()}

    def asked(now_s: float) -> int:
        return state.switching.paced([demand], state.commitments, running, now_s)[0].cap_ma

    assert asked(100.0) == 0
    state.commitments.sent(ONE, "a", 0, 100.0)
    state.commitments.accepted("a", 101.0)
    assert asked(101.0 + SETTLE_S) == 32_000
    assert asked(500.0) == 32_000, "known by now, whatever becomes of the lease"


@pytest.mark.parametrize(("first", "then"), [(None, 1), (1, None)])
def test_nobody_rises_on_other_phases_while_a_limit_for_the_first_is_alive(
    first: int | None, then: int | None
) -> None:
    state = books()
    commitments = state.commitments
    commitments.sent(ONE, "a", 8_000, 100.0, first)
    commitments.accepted("a", 101.0)
    uses = state.switching._switches[ONE].first if then else None
    target = Target(ONE, 16_000, True, (0, 0.0), then, uses)
    room = [200_000] * 3
    assert dispatch(state.grid, commitments, [target], room, 120.0) == []
    (renewal,) = dispatch(state.grid, commitments, [target], room, 101.0 + LINK.lease_s * 0.75)
    assert (renewal.limit_ma, renewal.phases) == (8_000, first)
    (lower,) = dispatch(state.grid, commitments, [target._replace(grant_ma=6_000)], room, 120.0)
    assert (lower.limit_ma, lower.phases) == (6_000, first), "a decrease changes no phases"
