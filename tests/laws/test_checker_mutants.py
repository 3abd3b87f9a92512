"""The judge is on trial: a sound controller is acquitted on every night, each broken one is convicted on some night.

Every mutant is the real controller with one mistake put in, of the kind peers really make (peers sections B and E); it is
caught by its journal alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from nights import Told, judged, night
from plant import MAIN, depot_site

from controller.core import allocator, decide, dispatch, share
from controller.core.background import Assumed, Background, Sight
from controller.core.commitments import Account, Commitments
from controller.core.dispatch import Target, Write
from controller.core.grid import Grid
from controller.core.model import EvseId, PerPhase, Site, each_phase

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("seed", range(24))
def test_a_sound_controller_is_acquitted(seed: int) -> None:
    judge = judged(night(seed, metered=seed % 3 > 0, stored=seed % 4 != 3))
    assert judge.breaches == []
    assert judge.steps > 290


def test_what_a_meter_saw_above_the_limit_is_told_but_blames_nobody() -> None:
    plant = Told(depot_site(metered=True))
    for second in range(40):
        plant.now_s += 1.0
        plant.measure(MAIN, PerPhase(65_000 if 20 <= second < 30 else 10_000, 10_000, 10_000))
        plant.step()
    judge = judged(plant.proofs)
    assert judge.breaches == []
    metered = [finding for finding in judge.foreign if finding.law == "metered"]
    assert [(f.where, f.worst_ma, f.lasted_s, f.amp_s) for f in metered] == [("site L1", 5_000, 9.0, 45.0)]


# --- mistakes -----------------------------------------------------------------------------------------------------


def _uses(keep: Callable[[Site, Grid, EvseId, int], bool]) -> Callable[[Patch], None]:
    """A grid in which some EVSEs do not load what they load."""

    def mutate(patch: Patch) -> None:
        sound = Grid.of

        def of(site: Site) -> Grid:
            grid = sound(site)
            uses = {e: tuple(r for r in found if keep(site, grid, e, r)) for e, found in grid.uses.items()}
            return replace(grid, uses=uses)

        patch.setattr(Grid, "of", staticmethod(of))

    return mutate


def counts_only_what_was_accepted(patch: Patch) -> None:
    def promised(self: Account, now_s: float) -> int:
        return max(self.floor_ma(), self.accepted_now_ma(now_s) or 0)

    patch.setattr(Account, "_promised", promised)


def raises_before_the_acknowledgement(patch: Patch) -> None:
    def promised(self: Account, now_s: float) -> int:
        told = self.sent[-1].limit_ma if self.sent else self.accepted_now_ma(now_s)
        return max(self.floor_ma(), told or 0)

    patch.setattr(Account, "_promised", promised)


def forgets_that_a_vehicle_needs_time_to_come_down(patch: Patch) -> None:
    patch.setattr(Account, "settle", lambda self, before_ma, after_ma, now_s, phases=None: None)


def takes_what_was_not_answered_as_not_done(patch: Patch) -> None:
    patch.setattr(Commitments, "lost", Commitments.refused)


def forgets_at_a_restart_what_it_had_allowed(patch: Patch) -> None:
    patch.setattr(Commitments, "restored", lambda self, evse, ceiling_ma, longer_s, now_s: None)


def forgets_a_lease_when_the_station_reboots(patch: Patch) -> None:
    def rebooted(self: Commitments, evse: EvseId, now_s: float) -> None:
        self.accounts[evse].accepted_ma = None

    patch.setattr(Commitments, "rebooted", rebooted)


def takes_an_unknown_fallback_for_nothing(patch: Patch) -> None:
    patch.setattr(Account, "floor_ma", lambda self: self.fallback_ma or 0)


def takes_a_silent_meter_for_no_load(patch: Patch) -> None:
    sound = Background.assumed

    def assumed(self: Background, now_s: float) -> Assumed:
        load = sound(self, now_s)
        return load if load.sight is Sight.CLEAR else Assumed(each_phase(0), each_phase(0), Sight.CLEAR)

    patch.setattr(Background, "assumed", assumed)


def takes_all_that_flows_for_its_own(patch: Patch) -> None:
    sound = Background.assumed

    def assumed(self: Background, now_s: float) -> Assumed:
        return replace(sound(self, now_s), lower_ma=each_phase(0), raise_ma=each_phase(0))

    patch.setattr(Background, "assumed", assumed)


def raises_by_the_newest_reading_alone(patch: Patch) -> None:
    """Half of what the building needs is forgotten when it comes to raising."""
    sound = Background.assumed

    def assumed(self: Background, now_s: float) -> Assumed:
        load = sound(self, now_s)
        l1, l2, l3 = (value // 2 for value in load.lower_ma)
        return replace(load, raise_ma=type(load.raise_ma)(l1, l2, l3))

    patch.setattr(Background, "assumed", assumed)


def rounds_up(patch: Patch) -> None:
    sound = allocator.allocate

    def allocate(*args: object) -> dict[EvseId, allocator.Grant]:
        grants = sound(*args)  # type: ignore[arg-type]
        return {
            evse: replace(grant, current_ma=grant.current_ma + 1000 if grant.current_ma else 0)
            for evse, grant in grants.items()
        }

    patch.setattr(share, "allocate", allocate)


def never_lowers(patch: Patch) -> None:
    sound = dispatch.dispatch

    def only_up(*args: object) -> list[Write]:
        return [write for write in sound(*args) if write.raises]  # type: ignore[arg-type]

    patch.setattr(decide, "dispatch", only_up)


def sends_twice_what_it_books(patch: Patch) -> None:
    sound = Commitments.sent

    def sent(
        self: Commitments, evse: EvseId, command: str, limit_ma: int, now_s: float, phases: int | None
    ) -> None:
        sound(self, evse, command, limit_ma // 2, now_s, phases)

    patch.setattr(Commitments, "sent", sent)


def ignores_stations_out_of_reach(patch: Patch) -> None:
    sound = Commitments.lost_sight

    def lost_sight(self: Commitments, evse: EvseId) -> None:
        sound(self, evse)
        self.accounts[evse].accepted_ma, self.accounts[evse].holds = None, []

    patch.setattr(Commitments, "lost_sight", lost_sight)


def raises_everybody_at_once_into_the_same_room(patch: Patch) -> None:
    sound = dispatch._raises

    def raises(
        grid: Grid,
        books: Commitments,
        up: Sequence[Target],
        room_ma: Sequence[int],
        now_s: float,
        *rest: object,
    ) -> list[Write]:
        writes: list[Write] = []
        for target in up:
            writes += sound(grid, books, [target], room_ma, now_s, *rest)  # type: ignore[arg-type]
        return writes

    patch.setattr(dispatch, "_raises", raises)


MUTANTS: Mapping[str, Callable[[Patch], None]] = {
    "ignores the board": _uses(lambda site, grid, evse, r: grid.resources[r][0] != "board"),
    "ignores the grid connection": _uses(lambda site, grid, evse, r: grid.resources[r][0] != "site"),
    "ignores L1": _uses(lambda site, grid, evse, r: grid.resources[r][1] != 0),
    **{
        mutate.__name__.replace("_", " "): mutate
        for mutate in (
            counts_only_what_was_accepted,
            raises_before_the_acknowledgement,
            forgets_that_a_vehicle_needs_time_to_come_down,
            takes_what_was_not_answered_as_not_done,
            forgets_at_a_restart_what_it_had_allowed,
            forgets_a_lease_when_the_station_reboots,
            takes_an_unknown_fallback_for_nothing,
            takes_a_silent_meter_for_no_load,
            takes_all_that_flows_for_its_own,
            raises_by_the_newest_reading_alone,
            rounds_up,
            never_lowers,
            sends_twice_what_it_books,
            ignores_stations_out_of_reach,
            raises_everybody_at_once_into_the_same_room,
        )
    },
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_controller_is_convicted(name: str, monkeypatch: Patch) -> None:
    MUTANTS[name](monkeypatch)
    assert any(judged(night(*each)).breaches for each in _nights())


def _nights() -> Iterable[tuple[int, bool, int, bool]]:
    """Seed, with a meter, seconds, whether stations have stored their fallback from the start."""
    return ((seed, seed % 2 == 0, 300, seed % 4 != 3) for seed in range(12))


def test_a_renewal_that_is_refused_after_the_transaction_leaves_the_time_to_come_down() -> None:
    """Found by the judge: the renewal hid that the old limit had to settle, its refusal then left nothing."""
    site = depot_site(metered=False)
    books, evse = Commitments(site), EvseId("s0/1")
    books.known(evse, 6_000)
    books.sent(evse, "a", 16_000, 100.0)
    books.accepted("a", 101.0)
    books.sent(evse, "b", 16_000, 130.0)
    books.transaction_ended(evse, 131.0)
    books.refused("b", 132.0)
    account = books.accounts[evse]
    assert [account.commitment_ma(at_s) for at_s in (132.0, 138.9, 139.1)] == [16_000, 16_000, 6_000]
