"""The ring that keeps messages for people: the newest ones, within its bounds whatever comes."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from controller.core.frames import Frame, Frames

AT = datetime(2026, 11, 22, tzinfo=UTC)


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 8), st.integers(60, 120))
def test_it_keeps_the_newest_that_fit(sizes: list[int], most: int, most_chars: int) -> None:
    kept = Frames(most, most_chars)
    given = [Frame(AT, bool(number % 2), "x" * size) for number, size in enumerate(sizes)]
    for frame in given:
        kept.append(frame)
    found = list(kept)
    assert found == given[len(given) - len(found) :]
    assert len(kept) == len(found) <= most and sum(len(frame.text) for frame in found) <= most_chars
    if len(found) < min(most, len(given)):
        older = given[len(given) - len(found) - 1]
        whole = sum(len(frame.text) for frame in (older, *found))
        assert whole > most_chars, "one more would have had room"
