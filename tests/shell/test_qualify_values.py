"""The judgements of a proof that need no station: which three limits, and whether the energy of a cut fits."""

from __future__ import annotations

import pytest

from controller.core.model import SITE, Evse, EvseId, Link, StationId
from controller.qualify_checks import Marks, energy_fits, marks_of
from controller.qualify_scene import Failed, Sample, amps

LINK = Link("ocpp", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
STEADY = [Sample(second, 14_000, 9_660, 10_000) for second in (0.0, 5.0)]


def evse(fallback_ma: int = 6_000, max_ma: int = 32_000, step_ma: int = 1_000) -> Evse:
    return Evse(
        EvseId("A/1"), StationId("A"), SITE, max_ma, 6_000, (0, 1, 2), fallback_ma, LINK, step_ma=step_ma
    )


@pytest.mark.parametrize(
    ("station", "room_ma", "marks"),
    [
        (evse(), 32_000, Marks(6_000, 10_000, 14_000)),
        (evse(), 12_500, Marks(6_000, 9_000, 12_000)),
        (evse(), 11_900, None),
        (evse(fallback_ma=0), 32_000, Marks(6_000, 10_000, 14_000)),
        (evse(fallback_ma=16_000), 32_000, Marks(6_000, 13_000, 20_000)),
        (evse(fallback_ma=16_000), 19_000, None),
        (evse(max_ma=10_000), 32_000, None),
        (evse(step_ma=3_000), 32_000, Marks(6_000, 12_000, 18_000)),
        (evse(fallback_ma=32_000), 32_000, None),
    ],
)
def test_three_limits_that_a_meter_tells_apart(station: Evse, room_ma: int, marks: Marks | None) -> None:
    assert marks_of(station, room_ma) == marks


def cut(drawn_wh: int, register_wh: int | None = 10_000) -> str:
    """90 s of lease still, 30 s of slack, and 120 s at the fallback, of which seven parts in fourteen are allowed."""
    after = Sample(240.0, 6_000, 4_140, None if register_wh is None else register_wh + drawn_wh)
    return energy_fits(STEADY, Sample(0.0, 14_000, 9_660, register_wh), after, 120.0, 0.5)


def test_the_energy_of_a_cut_shows_whether_it_fell() -> None:
    honest_wh = round((9_660 * 90 + 4_140 * 150) / 3600)
    latest_wh = round((9_660 * 120 + 4_140 * 120) / 3600)
    assert f"took {honest_wh} Wh in 240 s alone" in cut(honest_wh)
    assert cut(latest_wh)
    with pytest.raises(
        Failed, match=r"took 644 Wh in 240 s alone; its lease and fallback make \d+ Wh at most"
    ):
        cut(round(9_660 * 240 / 3600))


def test_without_a_register_nothing_is_judged() -> None:
    assert cut(0, register_wh=None) == ""
    assert cut(-5) == "", "it began again"
    assert energy_fits([], STEADY[0], STEADY[1], 0.0, 0.5) == ""


def test_amps_are_short() -> None:
    assert [amps(6_000), amps(31_200), amps(None)] == ["6 A", "31.2 A", "? A"]
