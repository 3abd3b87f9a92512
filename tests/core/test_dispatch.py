"""Dispatch and the book: decrease first, raise into room that exists, renew, retry later and later."""

from __future__ import annotations

import pytest

from controller.core.commitments import STUBBORN, Commitments
from controller.core.dispatch import RETRY_MAX_S, RETRY_S, Target, Write, dispatch, silent
from controller.core.grid import Grid
from controller.core.model import EvseId, Link
from tests.small_site import a_site, an_evse

LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
ONE, TWO = EvseId("CP1/1"), EvseId("CP2/1")


SITE_ = a_site(an_evse(ONE, LINK, phases=(0,)), an_evse(TWO, LINK, phases=(0,)))
GRID = Grid.of(SITE_)


def fresh() -> Commitments:
    """Both have stored 6 A long ago."""
    book = Commitments(SITE_)
    for evse in SITE_.evses:
        book.fallback(evse, 6_000, -1000.0)
    return book


def have(book: Commitments, evse: EvseId, limit_ma: int, at_s: float = 0.0) -> None:
    book.sent(evse, f"{evse}@{at_s}", limit_ma, at_s)
    book.accepted(f"{evse}@{at_s}", at_s)


def told(
    book: Commitments, at_s: float, room_a: int = 40, may_rise: bool = True, **grants_a: int
) -> list[Write]:
    names = {"one": ONE, "two": TWO}
    targets = [Target(names[name], grant * 1000, may_rise, (0, 0.0)) for name, grant in grants_a.items()]
    return dispatch(GRID, book, targets, [room_a * 1000] * len(GRID.resources), at_s)


def test_decreases_go_first_and_the_largest_of_them() -> None:
    book = fresh()
    have(book, ONE, 12_000)
    have(book, TWO, 32_000)
    assert told(book, 11, one=10, two=8) == [Write(TWO, 8_000, False), Write(ONE, 10_000, False)]


def test_a_raise_waits_for_the_yes_and_for_the_vehicle() -> None:
    book = fresh()
    have(book, ONE, 32_000)
    (down,) = told(book, 20, one=16, two=24)
    assert down == Write(ONE, 16_000, False)
    book.sent(ONE, "c", 16_000, 20)
    assert told(book, 25, one=16, two=24) == []
    book.accepted("c", 26)
    assert told(book, 33, one=16, two=24) == []
    assert told(book, 34, one=16, two=24) == [Write(TWO, 24_000, True)]


def test_two_raises_in_one_step_share_the_room() -> None:
    assert told(fresh(), 20, room_a=40, one=32, two=32) == [Write(ONE, 32_000, True)]


def test_what_is_booked_anyway_is_no_room() -> None:
    """An old 32 A that runs out in a moment does not pay for 32 A that stay."""
    book = fresh()
    have(book, ONE, 32_000)
    have(book, TWO, 20_000)
    book.rebooted(ONE, 5)
    assert told(book, 20, room_a=50, one=24) == []
    assert told(book, 20, room_a=50, one=6) == [Write(ONE, 6_000, False)]
    assert told(book, 20, room_a=52, one=24) == [Write(ONE, 24_000, True)]


def test_a_lease_is_renewed_at_half_life_also_while_a_raise_is_not_possible() -> None:
    for words in ({"may_rise": False}, {"room_a": 12}):
        book = fresh()
        have(book, ONE, 10_000)
        assert told(book, 29, one=16, **words) == []
        assert told(book, 30, one=16, **words) == [Write(ONE, 10_000, False)]
    assert told(book, 30, one=10) == [Write(ONE, 10_000, False)]


def test_raises_keep_their_distance() -> None:
    book = fresh()
    have(book, ONE, 10_000)
    assert told(book, 9.9, one=16) == []
    assert told(book, 10, one=16) == [Write(ONE, 16_000, True)]
    assert told(book, 1, one=8) == [Write(ONE, 8_000, False)]


def test_refusals_are_tried_again_later_and_later() -> None:
    book, now_s, pauses = fresh(), 0.0, []
    for number in range(6):
        book.sent(ONE, str(number), 0, now_s)
        book.refused(str(number), now_s)
        refused_s = now_s
        while not told(book, now_s, one=0):
            now_s += 1.0
        pauses.append(now_s - refused_s)
    assert pauses == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S, RETRY_MAX_S, RETRY_MAX_S]


def test_a_stubborn_station_keeps_what_it_has_in_the_book_of_the_others() -> None:
    book = fresh()
    have(book, ONE, 32_000)
    firm = []
    for number in range(STUBBORN):
        book.sent(ONE, str(number), 6_000, 1.0)
        book.refused(str(number), 1.0)
        firm.append(book.accounts[ONE].firm_ma(1.0))
    assert firm == [6_000, 32_000]
    assert book.accounts[ONE].firm_ma(70.0) == 6_000, "its lease has run out"


def test_no_answer_keeps_old_and_new_until_a_later_yes() -> None:
    book = fresh()
    have(book, ONE, 16_000)
    book.sent(ONE, "raise", 32_000, 10)
    book.lost("raise", 22)
    book.sent(ONE, "lower", 8_000, 30)
    account = book.accounts[ONE]
    assert account.commitment_ma(30) == 32_000
    book.accepted("lower", 31)
    assert (account.commitment_ma(38), account.commitment_ma(39)) == (32_000, 8_000)
    assert account.commitment_ma(101) == 6_000


@pytest.mark.parametrize(("at_s", "wanted"), [(24.0, []), (24.1, ["c"])])
def test_a_driver_that_never_answers_counts_as_a_lost_command(at_s: float, wanted: list[str]) -> None:
    book = fresh()
    book.sent(ONE, "c", 16_000, 0)
    assert silent(book.accounts, at_s) == wanted


def test_a_command_is_answered_once() -> None:
    book = fresh()
    book.sent(ONE, "c", 16_000, 0)
    assert book.accepted("c", 1) == ONE
    assert [book.accepted("c", 2), book.lost("c", 2), book.refused("nobody's", 2)] == [None, None, None]
    assert book.accounts[ONE].commitment_ma(2) == 16_000


def test_unproven_counts_at_its_maximum() -> None:
    book = Commitments(SITE_)
    assert book.accounts[ONE].commitment_ma(0) == 32_000
    book.fallback(ONE, 6_000, 0)
    assert (book.accounts[ONE].commitment_ma(7), book.accounts[ONE].commitment_ma(8)) == (32_000, 6_000)
    book.fallback(ONE, None, 20)
    assert book.accounts[ONE].commitment_ma(20) == 32_000
