"""Nights of a plant with every mishap, and their journal as the judge reads it: through its bytes and back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from plant import BOARD, MAIN, Plant, Plug, depot_site

from controller.checker import Checker
from controller.core import events as ev
from controller.core.decide import Decision
from controller.core.model import SITE, PerPhase, Site
from controller.core.proof import Proof
from controller.journal import compressed
from controller.journal_read import Block, rows


class Told(Plant):
    """A plant that keeps what every step rested on."""

    def __init__(self, site: Site, stored: bool = True) -> None:
        self.proofs: list[Proof] = []
        super().__init__(site, stored)

    def step(self) -> Decision:
        decision = super().step()
        self.proofs.append(decision.proof)
        return decision


def night(seed: int, metered: bool = True, seconds: int = 300, stored: bool = True) -> list[Proof]:
    """The proofs of all steps of a night."""
    proofs: list[Proof] = []
    for plant in eventful(seed, metered, seconds, stored=stored):
        plant.step()
        proofs = plant.proofs
    return proofs


def eventful(
    seed: int,
    metered: bool,
    seconds: int,
    site: Site | None = None,
    stored: bool = True,
    kind: type[Told] = Told,
) -> Iterator[Told]:
    """Vehicles come and go, messages are lost and late, the building moves, the meter falls silent, we restart. Hands the
    plant over when a step is due: whoever asks makes it, or leaves it out."""
    chance, plant = random.Random(seed), kind(site or depot_site(metered), stored)
    plugs = list(plant.plugs.values())
    building, silent_until_s = [8_000, 8_000, 8_000], 0.0
    for second in range(seconds):
        plant.now_s += 1.0
        if second % 75 == 20 or second == 200:
            if second == 200:
                plant.restart()
            for plug in plugs:
                plant.link_up(plug)
                plant.begin(plug)
        if second % 100 == 60:
            silent_until_s = plant.now_s + chance.choice((0, 4, 12, 70))
        building = [min(25_000, max(0, load + chance.randrange(-2_000, 2_001))) for load in building]
        if second % 60 == 40:
            building = [chance.randrange(5_000, 30_000) for _ in building]
        if metered and plant.now_s >= silent_until_s:
            plant.measure(MAIN, PerPhase(*building))
        for plug in plugs:
            if chance.random() < 0.6:
                plant.deliver(plug)
            elif chance.random() < 0.1:
                plant.lose(plug)
        if chance.random() < 0.15:
            mishap(plant, chance.choice(plugs), chance)
        yield plant


def mishap(plant: Told, plug: Plug, chance: random.Random) -> None:
    def wish(kind: Callable[..., ev.Event], *more: object) -> object:
        return plant.tell(kind(f"{kind.__name__}{plant.now_s}", "ann", plug.evse, *more))

    kinds: list[Callable[[], object]] = [
        lambda: plant.begin(plug),
        lambda: plant.end(plug),
        lambda: plant.store_fallback(plug),
        lambda: plant.deliver(plug, heard=False),
        lambda: plant.refuse(plug),
        lambda: plant.stray_arrives(plug),
        lambda: plant.link_down(plug),
        lambda: plant.link_up(plug),
        lambda: plant.reboot(plug, chance.random() < 0.5),
        lambda: wish(ev.LimitWished, 10_000),
        lambda: wish(ev.LimitWished, None),
        lambda: wish(ev.PauseWished),
        lambda: wish(ev.ResumeWished),
        lambda: plant.tell(ev.FlexWished(f"f{plant.now_s}", "grid", chance.choice((SITE, BOARD)), 40, 30.0)),
    ]
    chance.choice(kinds)()


def judged(proofs: Sequence[Proof]) -> Checker:
    """What the judge says, a minute per block."""
    judge = Checker()
    for first in range(0, len(proofs), 60):
        batch = list(proofs[first : first + 60])
        while batch:  # a restart ends a block
            same = [proof for proof in batch if proof.boot == batch[0].boot]
            judge.check(rows(Block(1, "", "", "", "", compressed(same, "config"))))
            batch = batch[len(same) :]
    return judge
