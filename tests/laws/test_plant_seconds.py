"""The one-second plant of `make bench ARGS=plant`, for some minutes: what really flows stays within what a breaker
bears, and the plant would notice if it did not.
"""

from __future__ import annotations

import pytest

from controller.core.model import EvseId
from tests.bench.plant import WAYS, run
from tests.bench.plant_world import SCENARIOS, Scenario, Seat, World

SECONDS = 420  # the first hard step comes after 300
SHORT = ("load steps", "hard steps", "everything on L1")


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.name in SHORT], ids=lambda s: s.name)
def test_the_core_keeps_the_copper(scenario: Scenario) -> None:
    found = run(("core", scenario.name, 7, SECONDS))
    assert scenario.longest_s is not None
    assert found.longest_s <= scenario.longest_s and found.trips == 0
    assert found.energy_wh > 0.5 * run(("all-knowing", scenario.name, 7, SECONDS)).energy_wh


class Reckless:
    """Everybody gets everything."""

    def __init__(self, world: World) -> None:
        self.world = world

    def moved(self, seat: Seat, came: bool) -> None:
        seat.allowed_ma = seat.evse.max_ma if came else 0

    def before(self, second: int) -> dict[EvseId, float] | None:
        return None

    def after(self, second: int) -> None:
        pass


def test_what_is_too_much_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "reckless", Reckless)
    found = run(("reckless", "calm", 7, SECONDS))
    assert found.longest_s > 100 and found.much_s > 100 and found.trips > 0 and found.worst > 1.2


def test_the_same_seed_is_the_same_world() -> None:
    assert run(("core", "everything at once", 3, 120)) == run(("core", "everything at once", 3, 120))
