"""Orders: no optimism. Each stage is reached by evidence, and an order ends once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.core.model import EvseId, Moment
from controller.core.orders import GIVE_UP_S, KEEP_S, NO_COMMAND_S, Evidence, Order, Orders
from controller.core.snapshot import OrderView

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EVSE = EvseId("CP1/1")


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def seen(current_ma: int | None, second: float, *, session: bool = True, grant_ma: int = 16_000) -> Evidence:
    return Evidence(session, False, current_ma, 1000.0 + second, "circuit site L1", grant_ma)


def order(kind: str, name: str = "o1", limit_ma: int | None = None) -> Order:
    return Order(name, kind, EVSE, "ann", kind, 1000.0, limit_ma)


def view(orders: Orders, name: str = "o1") -> OrderView:
    return next(view for view in orders.views() if view.id == name)


def stages(orders: Orders, name: str = "o1") -> list[str]:
    return [stage for stage, _ in view(orders, name).stages]


def test_a_limit_on_its_way() -> None:
    orders = Orders()
    orders.open(order("limit", limit_ma=10_000), at(0))
    orders.issued(EVSE, "c1", ("limit",))
    orders.tick(lambda _: seen(32_000, 0), at(1))
    assert stages(orders) == []
    orders.sent("c1", at(1))
    orders.accepted("c1", at(2))
    orders.tick(lambda _: seen(32_000, 1), at(2))
    assert stages(orders) == ["sent", "accepted"]
    orders.tick(lambda _: seen(10_000, 1), at(3))
    assert stages(orders) == ["sent", "accepted", "applied"], "a sample from before the yes proves nothing"
    orders.tick(lambda _: seen(10_000, 4), at(5))
    assert (stages(orders)[-1], view(orders).outcome) == ("measured", "done")


@pytest.mark.parametrize(
    ("kind", "evidence", "outcome"),
    [
        ("start", seen(16_000, 5), "done"),
        ("start", seen(0, 5), None),
        ("start", seen(None, 5, session=False), None),
        ("start", seen(0, 5, grant_ma=0), "done"),
        ("stop", seen(0, 5, session=False), "done"),
        ("stop", seen(0, 5), None),
        ("pause", seen(0, 5), "done"),
        ("pause", seen(16_000, 5), None),
        ("resume", seen(16_000, 5), "done"),
        ("resume", seen(0, 5), None),
    ],
)
def test_what_counts_as_done(kind: str, evidence: Evidence, outcome: str | None) -> None:
    orders = Orders()
    orders.open(order(kind), at(0))
    orders.issued(EVSE, "c1", (kind,))
    orders.accepted("c1", at(2))
    orders.tick(lambda _: evidence, at(6))
    assert view(orders).outcome == outcome


def test_refused_and_lost_end_it_with_the_reason() -> None:
    orders = Orders()
    orders.open(order("stop"), at(0))
    orders.issued(EVSE, "c1", ("stop",))
    orders.refused("c1", "Rejected", at(1))
    assert (view(orders).outcome, view(orders).reason) == ("refused", "Rejected")
    orders.open(order("stop", "o2"), at(2))
    orders.issued(EVSE, "c2", ("stop",))
    orders.lost("c2", "link closed", at(3))
    assert (view(orders, "o2").outcome, view(orders, "o2").reason) == ("failed", "no answer: link closed")


def test_what_stays_unconfirmed_fails_and_is_forgotten_later() -> None:
    orders = Orders()
    orders.open(order("resume"), at(0))
    orders.tick(lambda _: seen(0, 0), at(GIVE_UP_S))
    assert view(orders).outcome is None
    orders.tick(lambda _: seen(0, 0), at(GIVE_UP_S + 1))
    assert view(orders).outcome == "failed"
    orders.tick(lambda _: seen(0, 0), at(GIVE_UP_S + KEEP_S + 2))
    assert orders.views() == ()


def test_a_newer_order_replaces_the_older_but_a_limit_disturbs_no_start() -> None:
    orders = Orders()
    orders.open(order("start", "o1"), at(0))
    orders.open(order("limit", "o2", 10_000), at(1))
    orders.open(order("limit", "o3", 8_000), at(2))
    orders.open(order("stop", "o4"), at(3))
    outcomes = {v.id: v.outcome for v in orders.views()}
    assert outcomes == {"o1": "failed", "o2": "failed", "o3": None, "o4": None}


def test_a_refused_order_leaves_the_one_under_way_alone() -> None:
    orders = Orders()
    orders.open(order("start", "o1"), at(0))
    orders.refuse(order("stop", "o2"), at(1), "no session is running")
    assert [(v.id, v.outcome) for v in orders.views()] == [("o1", None), ("o2", "refused")]


def test_a_limit_without_a_session_waits_for_the_next() -> None:
    orders = Orders()
    orders.open(order("limit", limit_ma=8_000), at(0))
    orders.tick(lambda _: seen(None, 0, session=False), at(NO_COMMAND_S + 1))
    assert (view(orders).outcome, view(orders).reason) == ("done", "applies to the next session")


def test_a_start_of_what_runs_already_is_measured_only_once_its_limit_is_kept() -> None:
    orders = Orders()
    orders.open(order("start", limit_ma=10_000), at(0))
    orders.issued(EVSE, "c1", ("pause", "resume", "limit"))
    orders.tick(lambda each: seen(32_000, 1), at(5))
    assert stages(orders) == [], "nothing was answered yet"
    orders.accepted("c1", at(6))
    orders.tick(lambda each: seen(32_000, 7), at(7))
    orders.tick(lambda each: seen(9_900, 5.5), at(8))
    assert stages(orders) == ["sent", "accepted", "applied"], "that sample is older than the answer"
    orders.tick(lambda each: seen(9_900, 9), at(9))
    assert view(orders).outcome == "done" and stages(orders)[-1] == "measured"


def test_a_start_with_its_limit_in_it_waits_for_the_start_alone() -> None:
    orders = Orders()
    orders.open(order("start"), at(0))
    orders.issued(EVSE, "c1", ("pause", "resume", "limit"))
    orders.accepted("c1", at(1))
    assert stages(orders) == []
