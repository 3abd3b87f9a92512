"""Determinism: the same facts at the same moments make the same decisions, bit for bit, also out of a recording."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from plant import BOARD, FALLBACK_MA, LINK, MAIN, Plant, depot_site

from controller import recorder as recorder_module
from controller.checkpoint import restored, saved
from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import SetLimit
from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import SITE, Battery, EvseId, GridLimit, PerPhase, Site
from controller.recorder import Recorder, replay


class Recorded(Plant):
    """A plant whose every fact and step is recorded first, as the runtime does it."""

    def __init__(self, site: Site, capacity_bytes: int = 8_000_000) -> None:
        self.recorder = Recorder(capacity_bytes, 1, look=lambda: saved(self.depot))
        self.decisions: list[Decision] = []
        super().__init__(site)

    def tell(self, fact: ev.Event) -> Applied:
        self.recorder.fact(fact, self.now)
        return super().tell(fact)

    def step(self) -> Decision:
        self.recorder.step(self.now)
        decision = super().step()
        self.decisions.append(decision)
        return decision


def eventful_day(seed: int, seconds: int = 240, capacity_bytes: int = 8_000_000) -> Recorded:
    """Mishaps of every kind except a restart of our own (a recording is of one run)."""
    chance, plant = random.Random(seed), Recorded(depot_site(metered=True), capacity_bytes)
    plugs = list(plant.plugs.values())
    mishaps: list[Callable[[], object]] = [
        lambda: plant.begin(chance.choice(plugs)),
        lambda: plant.end(chance.choice(plugs)),
        lambda: plant.deliver(chance.choice(plugs)),
        lambda: plant.deliver(chance.choice(plugs), heard=False),
        lambda: plant.lose(chance.choice(plugs)),
        lambda: plant.refuse(chance.choice(plugs)),
        lambda: plant.link_down(chance.choice(plugs)),
        lambda: plant.link_up(chance.choice(plugs)),
        lambda: plant.reboot(chance.choice(plugs), chance.random() < 0.5),
        lambda: plant.tell(ev.LimitWished(f"o{plant.now_s}", "ann", chance.choice(plugs).evse, 10_000)),
        lambda: plant.tell(ev.PauseWished(f"p{plant.now_s}", "ann", chance.choice(plugs).evse)),
        lambda: plant.tell(ev.ResumeWished(f"r{plant.now_s}", "ann", chance.choice(plugs).evse)),
    ]
    for second in range(seconds):
        plant.now_s += 1.0
        if second % 80 == 20:
            for plug in plugs:
                plant.link_up(plug)
                plant.begin(plug)
        if chance.random() < 0.8:
            plant.measure(MAIN, PerPhase(*(chance.randrange(0, 15_000) for _ in range(3))))
        for plug in plugs:
            if chance.random() < 0.5:
                plant.deliver(plug)
        if chance.random() < 0.2:
            chance.choice(mishaps)()
        plant.step()
    return plant


@pytest.mark.parametrize("seed", range(3))
def test_a_recording_replays_to_equal_decisions(seed: int) -> None:
    plant = eventful_day(seed)
    lines = plant.recorder.dump().splitlines()
    again = list(replay(lines, lambda boot, _: Depot(plant.site, str(boot))))
    assert again == plant.decisions
    assert sum(len(decision.commands) for decision in again) > 20


@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_of_a_full_ring_replays_from_a_checkpoint(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any recorded period, also when the start of the process has long fallen out."""
    monkeypatch.setattr(recorder_module, "ANCHOR_S", 60.0)
    monkeypatch.setattr(recorder_module, "SEGMENT_BYTES", 10_000)
    plant = eventful_day(seed, 600, capacity_bytes=30_000)
    lines = plant.recorder.dump().splitlines()
    assert json.loads(lines[0])["from_start"] is False
    again = list(replay(lines, lambda boot, checkpoint: restored(checkpoint or {})))
    assert 60 < len(again) < 500
    assert again == plant.decisions[-len(again) :]
    assert sum(len(decision.commands) for decision in again) > 5


def test_every_part_of_the_core_goes_into_a_checkpoint() -> None:
    site = depot_site(metered=True)
    rich = replace(
        site,
        circuits={**site.circuits, BOARD: replace(site.circuits[BOARD], limit_w=20_000)},
        evses={id: replace(evse, surplus=id == "s0/1") for id, evse in site.evses.items()},
        peak_w=30_000,
        grid_limits=(GridLimit("dso", BOARD, 5_000, "5 kW"),),
        batteries=(Battery("b", MAIN, SITE, 5_000, 5_000),),
        max_imbalance_ma=20_000,
    )
    plant = Recorded(rich)
    for plug in plant.plugs.values():
        plant.begin(plug)
    for _ in range(30):
        plant.now_s += 1.0
        plant.measure(MAIN, PerPhase(5_000, 5_000, 5_000))
        plant.depot.step(plant.now)
    twin = restored(saved(plant.depot))
    plant.now_s += 1.0
    assert twin.step(plant.now) == plant.depot.step(plant.now)


def forged(value: object) -> dict[str, str]:
    return {"depot": base64.b64encode(zlib.compress(pickle.dumps(value))).decode()}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


class Sly:
    """Reaches for the system through a module of the core."""

    def __reduce__(self) -> tuple[object, tuple[object, str]]:
        return getattr, (Depot, "__subclasses__")


@pytest.mark.parametrize("value", [Evil(), Sly(), [1, 2], ev.LinkUp])
def test_a_forged_checkpoint_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        restored(forged(value))


@pytest.mark.parametrize("checkpoint", [{}, {"depot": "%%%"}, {"depot": "AAAA"}])
def test_a_damaged_checkpoint_is_refused(checkpoint: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        restored(checkpoint)


def test_another_story_makes_other_decisions() -> None:
    assert eventful_day(1, 60).decisions != eventful_day(2, 60).decisions


def test_when_the_controller_dies_every_station_falls_to_its_fallback() -> None:
    """I13, property 9: every limit that left the box ends by itself."""
    plant = eventful_day(4)
    limits = [c for decision in plant.decisions for c in decision.commands if isinstance(c, SetLimit)]
    assert all(limit.lease_s == LINK.lease_s for limit in limits)
    plant.now_s += LINK.lease_s + LINK.lease_slack_s + LINK.settle_s
    assert {plug.allowed_ma(plant.now_s) for plug in plant.plugs.values()} == {FALLBACK_MA}


# --- property 13: overdraw is booked -------------------------------------------------------------------------------------


def settled_plant() -> Plant:
    plant = Plant(depot_site(metered=False))
    for plug in plant.plugs.values():
        plant.begin(plug)
    for _ in range(60):
        plant.now_s += 1.0
        plant.step()
        for plug in plant.plugs.values():
            plant.deliver(plug)
    return plant


def sample(plant: Plant, evse: EvseId, current_ma: int) -> None:
    plant.tell(ev.EvseSample(evse, "wire", plant.now_s, PerPhase(current_ma, None, None)))


def test_a_vehicle_that_draws_too_much_is_booked_at_what_it_draws_until_it_has_behaved() -> None:
    plant = settled_plant()
    greedy, others = EvseId("s0/1"), (EvseId("s1/1"), EvseId("s2/1"))
    book = plant.depot._state.commitments.accounts
    allowed = plant.plugs[greedy].allowed_ma(plant.now_s)
    shares = {evse: plant.plugs[evse].allowed_ma(plant.now_s) for evse in others}
    sample(plant, greedy, allowed + 1_000)
    assert book[greedy].commitment_ma(plant.now_s) == allowed, "within the tolerance of a meter"
    sample(plant, greedy, allowed + 8_000)
    assert book[greedy].commitment_ma(plant.now_s) == allowed + 8_000
    decision = plant.step()
    assert {
        c.evse for c in decision.commands if isinstance(c, SetLimit) and c.limit_ma < shares.get(c.evse, 0)
    } == {*others}, "the neighbours on its phase make room in the same second"
    assert "overdraw" in {alarm.kind for alarm in decision.snapshot.alarms}
    for _ in range(100):
        plant.now_s += 1.0
        sample(plant, greedy, plant.plugs[greedy].allowed_ma(plant.now_s))
        plant.step()
        for plug in plant.plugs.values():
            plant.deliver(plug)
    assert plant.plugs[others[0]].allowed_ma(plant.now_s) == shares[others[0]]
