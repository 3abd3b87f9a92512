"""What a vehicle was measured to take: only what it left of its own accord counts."""

from __future__ import annotations

from test_sessions import EVSE, SITE_, at, started

from controller.core.appetite import Appetites
from controller.core.session import Session
from controller.core.sessions import Sessions


def session(transaction: str = "1") -> Session:
    sessions = Sessions(SITE_, transaction)
    sessions.start(started(transaction), at(0))
    return sessions.running[EVSE]


def told(
    appetites: Appetites, one: Session, limit_ma: int, drawn_ma: int, since_s: int, until_s: int
) -> None:
    for second in range(since_s, until_s, 10):
        appetites.sample(one, limit_ma, drawn_ma, float(second))


def test_a_vehicle_bound_by_its_limit_says_nothing() -> None:
    appetites, one = Appetites(), session()
    told(appetites, one, 16_000, 15_200, 0, 300)
    assert appetites.most_ma(one) is None


def test_what_it_leaves_for_half_a_minute_is_what_it_takes() -> None:
    appetites, one = Appetites(), session()
    told(appetites, one, 16_000, 10_000, 0, 30)
    assert appetites.most_ma(one) is None
    told(appetites, one, 16_000, 10_000, 30, 50)
    assert appetites.most_ma(one) == 10_000
    told(appetites, one, 10_000, 9_900, 50, 300)
    assert appetites.most_ma(one) == 10_000, "a lower limit does not make it smaller"
    told(appetites, one, 16_000, 13_000, 300, 310)
    assert appetites.most_ma(one) is None, "it takes more than was thought"


def test_a_ramp_after_a_raise_is_no_appetite() -> None:
    appetites, one = Appetites(), session()
    for second in range(120):
        appetites.sample(one, 6_000 + 1_000 * (second // 10), 6_000, float(second))
    assert appetites.most_ma(one) is None


def test_a_vehicle_that_takes_nothing_and_one_that_may_not() -> None:
    appetites, one = Appetites(), session()
    told(appetites, one, 0, 0, 0, 300)
    assert appetites.most_ma(one) is None
    told(appetites, one, 6_000, 100, 300, 400)
    assert appetites.most_ma(one) == 0
    told(appetites, one, 6_000, 5_900, 400, 410)
    assert appetites.most_ma(one) is None


def test_it_falls_with_the_vehicle_and_ends_with_the_session() -> None:
    appetites, one = Appetites(), session()
    told(appetites, one, 16_000, 10_000, 0, 60)
    told(appetites, one, 16_000, 4_000, 60, 160)
    assert appetites.most_ma(one) == 4_000
    assert appetites.most_ma(session("2")) is None
    appetites.sample(None, 16_000, 1, 200.0)
    appetites.sample(one, None, 1, 200.0)
    appetites.sample(one, 16_000, None, 200.0)
    assert appetites.most_ma(one) == 4_000
