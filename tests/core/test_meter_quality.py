"""The quality that travels with a meter's values, and its health as `depot status --json` shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.belief import Belief
from controller.core.commitments import Commitments
from controller.core.events import MeterFailed, MeterReading
from controller.core.grid import Grid
from controller.core.model import (
    MeterId,
    PerPhase,
    Quality,
    each_phase,
)
from controller.core.view import _meters
from controller.core.wire import event_from_dict, event_to_dict
from tests.small_site import MAIN, a_site

SITE_ = a_site(limit_a=100, metered=True)
READING = MeterReading(MAIN, 10.0, PerPhase(1000, 2000, 3000), 1380, each_phase(230_000), latency_ms=42)


@pytest.fixture
def belief() -> Belief:
    made = Belief(SITE_, Grid.of(SITE_))
    made.meter_reading(READING, Commitments(SITE_))
    return made


@pytest.mark.parametrize(
    ("kind", "quality"),
    [
        ("unreachable", Quality.STALE),
        ("refused", Quality.STALE),
        ("nonsense", Quality.BAD),
        ("stuck", Quality.STUCK),
    ],
)
def test_an_old_value_says_why_there_is_no_newer_one(belief: Belief, kind: str, quality: Quality) -> None:
    belief.meter_failed(MeterFailed(MAIN, kind, "why"))
    assert belief.quality(MAIN, 14.0) is Quality.GOOD  # not old yet
    assert belief.quality(MAIN, 16.0) is quality
    belief.meter_reading(replace(READING, taken_s=16.5), Commitments(SITE_))
    assert belief.quality(MAIN, 17.0) is Quality.GOOD
    assert belief.quality(MAIN, 30.0) is Quality.STALE


def test_age_errors_and_latency_are_shown(belief: Belief) -> None:
    for _ in range(3):
        belief.meter_failed(MeterFailed(MAIN, "unreachable", "no answer"))
    [shown] = _meters(SITE_, belief, 12.0)
    assert (shown.age_s, shown.errors, shown.latency_ms, shown.error) == (2.0, 3, 42, "no answer")
    belief.meter_failed(MeterFailed(MeterId("unknown"), "unreachable", "no answer"))


def test_a_reading_from_before_latency_was_noted_is_still_read() -> None:
    document = event_to_dict(READING)
    del document["latency_ms"]
    assert event_from_dict(document) == replace(READING, latency_ms=None)
