"""Which time of day is believed: jumps, no time service, no battery, a clock older than what it has seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.timekeeper import EARLIEST, JUMP_S, NO_SERVICE, SETTLE_S, UNKEPT, Timekeeper

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


class Box:
    """A machine whose clocks are moved by hand."""

    def __init__(self, keeper: Timekeeper, wall: datetime = NOON, kept: bool | None = True) -> None:
        self.keeper, self.mono_s, self.wall, self.kept = keeper, 100.0, wall, kept
        self.ours = self.look()

    def look(self) -> datetime:
        self.ours = self.keeper.look(self.mono_s, self.wall, self.kept)
        return self.ours

    def passes(self, seconds: float) -> datetime:
        self.mono_s += seconds
        self.wall += after(seconds)
        return self.look()


def test_a_clock_that_is_kept_right_is_believed_and_followed() -> None:
    box = Box(Timekeeper())
    for _ in range(100):
        box.wall += after(0.4)  # slewed
        assert box.passes(60.0) == box.wall
    assert (box.keeper.doubt, box.keeper.advice, box.keeper.steps) == ("", "", 0)


def test_a_kept_clock_that_is_set_is_followed_in_one_step() -> None:
    box = Box(Timekeeper())
    box.wall += HOUR
    assert box.passes(1.0) == NOON + HOUR + after(1)
    assert (box.keeper.doubt, box.keeper.steps, box.keeper.step_s) == ("", 1, 3600.0)


@pytest.mark.parametrize("by", [HOUR, -HOUR, EARLIEST - NOON, after(3)])
def test_a_jump_without_a_service_is_followed_only_once_it_has_stood(by: timedelta) -> None:
    box = Box(Timekeeper(), kept=False)
    box.wall += by
    assert box.passes(1.0) == NOON + after(1), "nobody sees the jump"
    assert box.keeper.doubt.startswith(f"the clock was set {'forward' if by > after(0) else 'back'} by ")
    assert box.passes(SETTLE_S - 1) == NOON + after(SETTLE_S)
    assert box.keeper.doubt
    assert box.passes(1.0) == box.wall == NOON + after(SETTLE_S + 1) + by
    assert (box.keeper.doubt, box.keeper.steps) == ("", 1)
    assert box.keeper.step_s == by.total_seconds()


def test_a_service_that_agrees_ends_the_doubt_at_once() -> None:
    box = Box(Timekeeper(), kept=False)
    box.wall += HOUR
    box.passes(1.0)
    assert box.keeper.doubt
    box.kept = True
    assert box.passes(1.0) == box.wall
    assert (box.keeper.doubt, box.keeper.steps) == ("", 1)


def test_there_and_back_again_is_as_if_nothing_had_been() -> None:
    box = Box(Timekeeper(), kept=False)
    box.wall += HOUR
    box.passes(5.0)
    box.wall -= HOUR
    assert box.passes(5.0) == NOON + after(10)
    assert (box.keeper.doubt, box.keeper.steps) == ("", 0)


def test_a_clock_that_is_set_again_and_again_is_not_followed() -> None:
    box = Box(Timekeeper(), kept=True)
    for _ in range(3):
        box.wall += HOUR
        box.passes(30.0)
    assert "do two time services fight?" in box.keeper.doubt
    before = box.ours
    assert box.passes(60.0) == before + after(60)
    assert box.passes(SETTLE_S) == box.wall
    assert box.keeper.doubt == ""


def test_a_box_without_a_battery_waits_for_a_time_service() -> None:
    box = Box(Timekeeper(survives=False), kept=False)
    box.passes(7200.0)
    assert box.keeper.doubt == NO_SERVICE
    box.wall += after(86_400)  # the service sets it, and says so a little later
    assert box.passes(1.0) == box.wall - after(86_400)
    box.kept = True
    assert box.passes(1.0) == box.wall
    assert (box.keeper.doubt, box.keeper.advice) == ("", "")
    box.kept = False  # the network is gone: the crystal is good enough
    box.passes(86_400.0)
    assert (box.keeper.doubt, box.keeper.advice) == ("", UNKEPT)


def test_a_person_may_set_the_clock_of_a_box_without_a_battery() -> None:
    box = Box(Timekeeper(survives=False), kept=False)
    box.wall += after(86_400)
    box.passes(1.0)
    assert box.keeper.doubt
    assert box.passes(SETTLE_S) == box.wall
    assert box.keeper.doubt == ""


def test_without_a_battery_a_kernel_that_says_nothing_is_not_held_against_it() -> None:
    assert Box(Timekeeper(survives=False), kept=None).keeper.doubt == ""


@pytest.mark.parametrize("wall", [datetime(1970, 1, 1, tzinfo=UTC), EARLIEST - after(1)])
@pytest.mark.parametrize("kept", [True, False])
def test_a_year_before_this_software_is_never_believed_and_time_goes_on_from_when_it_was_last_right(
    wall: datetime, kept: bool
) -> None:
    box = Box(Timekeeper(NOON), wall, kept)
    assert box.ours == NOON
    if wall.year == 1970:
        assert box.passes(60.0) == NOON + after(60)
        assert "1970-01-01 00:01, which cannot be" in box.keeper.doubt
    box.kept, box.wall = True, NOON + HOUR
    assert box.look() == NOON + HOUR
    assert box.keeper.doubt == ""


def test_a_clock_older_than_when_it_was_last_right_is_believed_only_from_a_service() -> None:
    box = Box(Timekeeper(NOON + HOUR), NOON, kept=False)
    assert box.ours == NOON + HOUR
    assert box.keeper.doubt == "the clock says 2026-11-22 12:00, but was right at 2026-11-22 13:00 already"
    box.passes(SETTLE_S * 3)
    assert box.keeper.doubt
    box.kept = True
    assert box.passes(1.0) == box.wall
    assert box.keeper.doubt == ""


def test_a_person_may_overrule_what_was_last_right_while_we_watch() -> None:
    """Somebody had set it to 2036 once; else the box would wait ten years."""
    box = Box(Timekeeper(NOON + after(10 * 365 * 86_400)), NOON, kept=False)
    assert box.keeper.doubt
    box.wall += after(60)
    box.passes(1.0)
    assert box.passes(SETTLE_S) == box.wall
    assert box.keeper.doubt == ""


@given(
    moves=st.lists(
        st.tuples(
            st.floats(0.05, 400.0),
            st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 30.0, -30.0, 3600.0, -3600.0, 4e8, -4e8]),
            st.sampled_from([True, False, None]),
        ),
        max_size=40,
    ),
    survives=st.booleans(),
)
def test_our_time_goes_with_the_monotonic_clock_except_for_steps_that_are_told(
    moves: list[tuple[float, float, bool | None]], survives: bool
) -> None:
    box = Box(Timekeeper(NOON - HOUR, survives))
    for seconds, by_s, kept in moves:
        before, steps = box.ours, box.keeper.steps
        box.wall += after(by_s)
        box.kept = kept
        moved_s = (box.passes(seconds) - before).total_seconds() - seconds
        if box.keeper.steps == steps:
            assert abs(moved_s) <= 2 * JUMP_S
        else:
            assert box.keeper.steps == steps + 1
            assert abs(moved_s - box.keeper.step_s) < 0.01
            assert box.ours == box.wall
        if not box.keeper.doubt:
            assert box.ours == box.wall and box.wall >= EARLIEST
    box.kept = True
    if box.wall >= EARLIEST:
        box.passes(SETTLE_S)
        box.passes(1.0)
        assert (box.keeper.doubt, box.ours) == ("", box.wall), "it always ends"


def test_a_clock_behind_what_it_has_seen_is_not_believed_for_having_gone_on_since() -> None:
    """Without a battery it begins where it was last saved, and passes that time in doubt sooner or later."""
    box = Box(Timekeeper(NOON, survives=False), NOON - after(600), kept=False)
    assert "was right at" in box.keeper.doubt
    box.passes(601.0)
    assert box.keeper.doubt == NO_SERVICE
    box.kept = True
    box.wall += HOUR
    assert box.passes(1.0) == box.wall
    assert box.keeper.doubt == ""
