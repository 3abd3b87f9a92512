"""`depot why` tells the truth: the limit it names is raised by one ampere in a twin of the depot, and the twin decides."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import pytest
from nights import Told, eventful
from plant import BOARD, depot_site

from controller.core import events as ev
from controller.core import share
from controller.core.allocator import Quota
from controller.core.bounds import Bound
from controller.core.depot import Depot
from controller.core.grid import Grid
from controller.core.model import SITE, CircuitId, EvseId, PerPhase, Site, each_phase
from controller.core.proof import Proof
from controller.core.why import MORE_MA, Why, why
from controller.journal import compressed
from controller.journal_read import Block, rows
from controller.journal_rows import proof_of


def wider(site: Site, circuit: CircuitId) -> Site:
    node = site.circuits[circuit]
    l1, l2, l3 = (limit + MORE_MA for limit in node.limit_ma)
    return replace(site, circuits={**site.circuits, circuit: replace(node, limit_ma=PerPhase(l1, l2, l3))})


def raise_circuit(twin: Depot, circuit: CircuitId) -> None:
    """As if the config had said one ampere more all along."""
    state = twin._state
    state.site = twin.site = wider(state.site, circuit)
    state.grid = Grid.of(state.site)
    state.belief._site, state.belief._grid = state.site, state.grid
    for id, track in state.belief.backgrounds.items():
        track._circuit = state.site.circuits[id]


def moments(seed: int, metered: bool) -> Iterator[tuple[Depot, Told]]:
    """The depot as it was before a step, and the plant after it, every few seconds of a night."""
    for plant in eventful(seed, metered, 200):
        if plant.now_s % 5 == 0:
            yield copy.deepcopy(plant.depot), plant


@pytest.mark.parametrize("seed", range(4))
def test_one_ampere_more_on_the_circuit_that_bound_it_brings_what_was_said(seed: int) -> None:
    met = Counter[str]()
    for before, plant in moments(seed, metered=seed % 2 == 0):
        decision = copy.deepcopy(before).step(plant.now)
        for evse in plant.site.evses:
            told = why(decision.proof, evse)
            met[told.kind] += 1
            if told.kind != "circuit":
                continue
            twin = copy.deepcopy(before)
            raise_circuit(twin, SITE if told.set_by.endswith("[site]") else BOARD)
            twin.step(plant.now)
            memory = twin._state.memory[evse]
            assert (memory.grant_ma, memory.bound_by) == (told.more_ma, told.next_by), told
            met["helps" if told.more_ma != told.grant_ma else "next"] += 1
    assert met["circuit"] > 10
    assert met["helps"] > 3
    assert met["next"] > 3


@pytest.mark.parametrize("seed", range(2))
def test_one_ampere_more_from_the_operator_brings_what_was_said(seed: int) -> None:
    met = 0
    for before, plant in moments(seed, metered=False):
        before.apply(ev.LimitWished("a", "ann", EvseId("s3/1"), 9_000 + 1_000 * (seed + 1)), plant.now)
        decision = copy.deepcopy(before).step(plant.now)
        told = why(decision.proof, EvseId("s3/1"))
        if told.bound_by != "operator limit":
            continue
        met += 1
        before.apply(ev.LimitWished("b", "ann", EvseId("s3/1"), 9_000 + 1_000 * (seed + 2)), plant.now)
        before.step(plant.now)
        assert told.kind == "cap"
        assert told.limit_ma == 9_000 + 1_000 * (seed + 1)
        assert told.more_ma == before._state.memory[EvseId("s3/1")].grant_ma
    assert met > 3


def test_one_ampere_more_of_a_limit_beside_the_copper_brings_what_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bound on the board, and a quota over the vehicles that load one phase only."""
    bound = Bound(BOARD, each_phase(29_500), each_phase(28_500), "grid operator")
    quota = Quota(frozenset({EvseId("s0/1"), EvseId("s2/1")}), 13_500, "imbalance L1")
    met = Counter[str]()
    for before, plant in chain(*(moments(seed, metered=False) for seed in range(3))):
        for at_bound, at_quota, named in ((bound, quota, "imbalance L1"), (bound, None, "grid operator")):
            _hold(monkeypatch, at_bound, at_quota)
            decision = copy.deepcopy(before).step(plant.now)
            for evse in plant.site.evses:
                told = why(decision.proof, evse)
                if told.bound_by != named or told.kind == "none":
                    continue
                if at_quota is None:
                    low, high = (each_phase(ma[0] + MORE_MA) for ma in (bound.lower_ma, bound.raise_ma))
                    _hold(monkeypatch, replace(bound, lower_ma=low, raise_ma=high), None)
                else:
                    _hold(monkeypatch, bound, replace(quota, room_ma=quota.room_ma + MORE_MA))
                twin = copy.deepcopy(before)
                twin.step(plant.now)
                memory = twin._state.memory[evse]
                assert (memory.grant_ma, memory.bound_by) == (told.more_ma, told.next_by), told
                met[named] += 1
                _hold(monkeypatch, at_bound, at_quota)
        monkeypatch.undo()
    assert met["grid operator"] > 2
    assert met["imbalance L1"] > 2


def _hold(patch: pytest.MonkeyPatch, bound: Bound, quota: Quota | None) -> None:
    quotas = () if quota is None else (quota,)
    patch.setattr(share, "bounds", lambda state, assumed, now: (bound,))
    patch.setattr(share, "imbalance", lambda *args: (quotas, quotas))


def last_of(site: Site, seconds: int = 40) -> Proof:
    plant = Told(site)
    for plug in plant.plugs.values():
        plant.begin(plug)
    for _ in range(seconds):
        plant.now_s += 1.0
        plant.step()
        for plug in plant.plugs.values():
            plant.deliver(plug)
    return plant.proofs[-1]


def test_it_names_the_circuit_its_owner_and_what_comes_next() -> None:
    """On the board's L1 three share 40 A; an ampere more reaches one of them, the others must wait for theirs."""
    proof = last_of(depot_site(metered=False, limit_ma=90_000))
    told = [why(proof, EvseId(f"s{n}/1")) for n in range(3)]
    assert {each.bound_by for each in told} == {"circuit board L1"}
    assert {each.set_by for each in told} == {"the config: limit of [circuit.board]"}
    assert {each.limit_ma for each in told} == {40_000}
    winners = [each for each in told if each.more_ma == each.grant_ma + MORE_MA]
    assert len(winners) == 1
    assert {each.gains for each in told if each not in winners} == {(winners[0].evse,)}


def test_without_a_session_no_ampere_helps() -> None:
    proof = Told(depot_site(metered=False)).proofs[-1]
    told = why(proof, EvseId("s0/1"))
    assert told == Why(EvseId("s0/1"), proof.at.utc, 0, "no session", "none", "nobody: no session runs")


def test_the_journal_answers_like_the_running_depot() -> None:
    site = depot_site(metered=True)
    site = replace(
        site, circuits={**site.circuits, BOARD: replace(site.circuits[BOARD], limit_ma=each_phase(27_500))}
    )
    proofs = []
    for plant in eventful(3, True, 120, site):
        plant.step()
        proofs.append(plant.proofs[-1])
    written = rows(Block(1, "", "", "", "", compressed(proofs, "config")))
    for proof, (site_row, row) in zip(proofs, written, strict=True):
        again = proof_of(site_row, row)
        assert [why(again, evse) for evse in site.evses] == [why(proof, evse) for evse in site.evses]
