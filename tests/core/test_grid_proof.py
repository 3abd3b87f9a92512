"""The judge of the journal agrees: what the grid and batteries ask for never costs a fuse, and grants keep every bound."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import test_battery
import test_inputs
import test_peak_depot
from test_battery import START

from controller.cli import main
from controller.core import events as ev
from controller.core.commands import Audited
from controller.core.depot import Depot
from controller.core.model import SITE, GridLimit, Moment, Plan
from controller.core.proof import Proof
from controller.journal import Journal
from controller.ledger import Ledger
from controller.storage import Storage


@dataclass
class Watched:
    """A depot whose every step is kept."""

    depot: Depot
    proofs: list[Proof] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.depot, name)

    def step(self, now: Moment) -> object:
        decision = self.depot.step(now)
        self.proofs.append(decision.proof)
        return decision


def judged(folder: Path, proofs: list[Proof]) -> int:
    async def live() -> None:
        storage = Storage(folder)
        await storage.open()
        try:
            ledger = Ledger(storage)
            await ledger.append((Audited(START, "depot", "started", "grid", ""),))
            journal = Journal(folder, "config", ledger)
            journal.open()
            for proof in proofs:
                journal.observe(proof)
            journal.close()
        finally:
            await storage.close()

    asyncio.run(live())
    return main(["verify", "--storage", str(folder)])


def a_peak() -> Watched:
    house = test_peak_depot.House(30_000)
    house.depot = watched = Watched(house.depot)  # type: ignore[assignment]
    house.plug()
    for second in range(1, 1000):
        house.building_ma = 5_000 if second % 300 < 200 else 18_000
        house.second(second)
    return watched


def a_contact() -> Watched:
    house = test_inputs.House()
    house.depot = watched = Watched(house.depot)  # type: ignore[assignment]
    house.run(1, 40, closed=False)
    house.run(41, 80, closed=True)
    house.run(81, 200, closed=None)
    house.run(201, 300, closed=False)
    return watched


def a_battery() -> Watched:
    house = test_battery.House(
        load_w=20_000, peak_w=33_000, delay_s=3, grid_limits=(GridLimit("dso", SITE, 12_000, "12 kW"),)
    )
    house.depot = watched = Watched(house.depot)  # type: ignore[assignment]
    house.plug()
    house.run(1, 120)
    house.depot.apply(ev.InputRead("dso", 1120.5, False), test_battery.at(120.5))
    for second in range(121, 700):
        house.depot.apply(ev.InputRead("dso", 1000.0 + second, second % 300 > 200), test_battery.at(second))
        house.load_w = (20_000, 36_000, -15_000)[second // 100 % 3]
        if second == 400:
            house.depot.apply(
                ev.PlanReady(Plan(START, "rules", {}, battery_w=9_000)), test_battery.at(second)
            )
        house.run(second, second)
    return watched


@pytest.mark.parametrize("story", [a_peak, a_contact, a_battery])
def test_no_step_broke_a_law(story: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(story)
    watched = story()
    assert len(watched.proofs) > 250
    assert judged(tmp_path, watched.proofs) == 0, capsys.readouterr().out
    assert "0 breaches" in capsys.readouterr().out
