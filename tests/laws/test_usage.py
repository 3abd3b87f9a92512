"""A vehicle that surely uses fewer phases leaves the others to the rest; the first doubt takes that back at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yard import Yard, a_site, an_evse

from controller.core import events as ev
from controller.core.model import EvseId, PerPhase
from controller.core.snapshot import CircuitView, EvseView

LIMIT_MA = 40_000
WIDE, BESIDE = EvseId("s0/1"), EvseId("s1/1")  # three phases (rotated); one phase, L3


def a_yard() -> Yard:
    yard = Yard(a_site([an_evse(0, (1, 2, 0)), an_evse(1, (2,))], limit_ma=LIMIT_MA))
    yard.plug(0, 32_000, 0, 0)
    yard.plug(1)
    return yard


def learnt() -> Yard:
    yard = a_yard()
    list(yard.run(120))
    assert view(yard).phases_used == (1,)
    return yard


def view(yard: Yard) -> EvseView:
    assert yard.decision is not None
    return next(view for view in yard.decision.snapshot.evses if view.id == WIDE)


def circuit(yard: Yard) -> CircuitView:
    assert yard.decision is not None
    return yard.decision.snapshot.circuits[0]


def test_what_it_does_not_use_goes_to_others_after_a_minute() -> None:
    yard = a_yard()
    list(yard.run(45))
    assert view(yard).phases_used is None
    early = yard.grants_ma()
    assert (early[WIDE] or 0) + (early[BESIDE] or 0) <= LIMIT_MA
    list(yard.run(75))
    assert view(yard).phases_used == (1,)
    assert yard.grants_ma() == {WIDE: 32_000, BESIDE: 32_000}
    assert max(yard.flows_ma()) == 32_000
    assert circuit(yard).committed_ma == PerPhase(6_000, 32_000, 38_000), "its fallback counts everywhere"


def test_current_on_another_phase_takes_it_back_at_once() -> None:
    yard = learnt()
    yard.vehicles[WIDE].cap_ma = (
        32_000,
        32_000,
        0,
    )  # its second conductor hangs on L3, where the other one is
    above = [max(flows) > LIMIT_MA for flows in yard.run(30)]
    assert any(above), "nobody can know before it is measured"
    assert sum(above) <= 6, "a sample interval and a step"
    assert view(yard).phases_used is None
    grants = yard.grants_ma()
    assert (grants[WIDE] or 0) + (grants[BESIDE] or 0) <= LIMIT_MA


def test_the_end_of_the_transaction_takes_it_back() -> None:
    yard = learnt()
    yard.unplug(0)
    yard.plug(0, 32_000, 32_000, 32_000)
    list(yard.run(1))
    assert view(yard).phases_used is None
    assert all(max(flows) <= LIMIT_MA for flows in yard.run(120))


@pytest.mark.parametrize("how", ["link", "silence"])
def test_out_of_sight_it_counts_everywhere(how: str) -> None:
    yard = learnt()
    if how == "link":
        yard.tell(ev.LinkDown(yard.site.evses[WIDE].station, "wire", "closed"))
    yard.silent.add(WIDE)
    list(yard.run(1 if how == "link" else 31))
    assert view(yard).phases_used is None
    l1, l2, l3 = circuit(yard).committed_ma
    assert l1 == l2 > 6_000 and l3 > l2


def test_a_pause_does_not_forget_and_a_ripple_does_not_contradict() -> None:
    yard = learnt()
    yard.vehicles[WIDE].cap_ma = (0, 900, 900)
    list(yard.run(60))
    assert view(yard).phases_used == (1,)


@pytest.mark.parametrize("rest", [None, 600, 5_000])
def test_nothing_is_learnt_of_what_is_unclear(rest: int | None) -> None:
    """A conductor that is not reported, one that carries a little, one that carries as well."""
    yard = a_yard()
    for second in range(0, 120, 5):
        list(yard.run(1))
        at_s = yard.now.mono_s + second / 1e3
        yard.tell(ev.EvseSample(WIDE, "wire", at_s, PerPhase(20_000, rest, rest)))
    assert view(yard).phases_used is None


def test_an_interval_without_samples_begins_the_minute_anew() -> None:
    yard = a_yard()
    list(yard.run(50))
    yard.silent.add(WIDE)
    list(yard.run(40))
    yard.silent.clear()
    list(yard.run(50))
    assert view(yard).phases_used is None


CONDUCTORS = [(1, 1, 1), (1, 0, 0), (0, 1, 0), (1, 1, 0)]
ROTATIONS = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(ROTATIONS), min_size=2, max_size=4),
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(CONDUCTORS), st.booleans()), min_size=3, max_size=8
    ),
)
def test_whatever_vehicles_do_the_copper_is_above_its_limit_for_seconds_only(
    rotations: list[tuple[int, ...]], moves: list[tuple[int, tuple[int, ...], bool]]
) -> None:
    """They come, go and change the phases they use in the middle of a transaction."""
    yard = Yard(a_site([an_evse(n, phases) for n, phases in enumerate(rotations)], limit_ma=LIMIT_MA))
    learnt = False
    for number, used, leaves in moves:
        evse, caps = EvseId(f"s{number % len(rotations)}/1"), tuple(32_000 * each for each in used)
        if evse not in yard.vehicles:
            yard.plug(number % len(rotations), *caps)
        elif leaves:
            yard.unplug(number % len(rotations))
        else:
            yard.vehicles[evse].cap_ma = caps
        run = 0
        for flows in yard.run(90):
            run = run + 1 if max(flows) > LIMIT_MA else 0
            assert run <= 6, "a sample interval and a step"
            assert yard.decision is not None
            learnt |= any(view.phases_used is not None for view in yard.decision.snapshot.evses)
    if all(used == (1, 1, 1) for _, used, _ in moves):
        assert not learnt
