"""The recorder: a recording replays to the same decisions, from the start or from a checkpoint."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from controller.core.events import Event, LimitWished, MeterReading, StationBooted
from controller.core.model import MeterId, Moment, PerPhase, StationId, each_phase, evse_id
from controller.recorder import Checkpoint, Recorder, replay

START = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)


class Abacus:
    """A deterministic depot in miniature: every decision depends on everything before it, times included."""

    def __init__(self, boot: int, checkpoint: Checkpoint | None = None) -> None:
        self.state: list = checkpoint["state"] if checkpoint else [boot, 0.0, ""]

    def checkpoint(self) -> dict:
        return {"state": list(self.state)}

    def apply(self, event: Event, now: Moment) -> None:
        count, sum_s, _ = self.state
        self.state = [count * 31 % 1_000_003 + len(repr(event)), sum_s * 0.7 + now.mono_s, repr(event)]

    def step(self, now: Moment) -> tuple:
        self.state[1] += now.mono_s / 3
        return (*self.state, now)


def moment(number: int) -> Moment:
    return Moment(100 + number * 0.1, START + timedelta(seconds=number * 0.1), number % 7 != 0)


def fact(number: int) -> Event:
    if number % 3 == 0:
        return LimitWished(f"o-{number}", "änna\n", evse_id("CP1", 1), None if number % 2 else number)
    if number % 3 == 1:
        return StationBooted(StationId("CP1"), "ocpp1.6", "V", "M", f"{number}")
    return MeterReading(
        MeterId("main"), number / 7, PerPhase(number, None, -number), None, each_phase(230_000)
    )


def record(recorder: Recorder, facts: int, anchor_every: int | None = None) -> list[tuple]:
    """Runs a depot the way the runtime does; the decisions it made."""
    depot, decisions = Abacus(recorder.boot), []
    for number in range(facts):
        now = moment(number)
        if anchor_every and number % anchor_every == 0 and number:
            recorder.anchor(depot.checkpoint(), now)
        event = fact(number)
        recorder.fact(event, now)
        depot.apply(event, now)
        if number % 4 == 0:
            recorder.step(now)
            decisions.append(depot.step(now))
    return decisions


def test_a_recording_from_the_start_replays_bit_for_bit() -> None:
    recorder = Recorder(boot=7)
    decisions = record(recorder, 2000)
    assert list(replay(recorder.dump().splitlines(), Abacus)) == decisions
    assert list(replay(recorder.dump().decode().splitlines(), Abacus)) == decisions


def test_the_boot_reaches_the_depot() -> None:
    recorder = Recorder(boot=7)
    decisions = record(recorder, 10)
    lines = recorder.dump().splitlines()
    lines[0] = lines[0].replace(b'"boot":7', b'"boot":8')
    assert list(replay(lines, Abacus)) != decisions


def test_a_changed_fact_changes_the_replay() -> None:
    recorder = Recorder()
    decisions = record(recorder, 100)
    altered = recorder.dump().replace(b'"firmware":"40"', b'"firmware":"41"')
    assert list(replay(altered.splitlines(), Abacus)) != decisions


def test_checkpoints_do_not_matter_while_the_start_is_there() -> None:
    recorder = Recorder()
    decisions = record(recorder, 500, anchor_every=50)
    assert list(replay(recorder.dump().splitlines(), Abacus)) == decisions


def test_a_ring_that_overflowed_replays_from_a_checkpoint() -> None:
    recorder = Recorder(capacity_bytes=20_000, boot=3)
    decisions = record(recorder, 5000, anchor_every=200)
    dump = recorder.dump()
    assert json.loads(dump.splitlines()[0])["from_start"] is False
    again = list(replay(dump.splitlines(), Abacus))
    assert 100 < len(again) < len(decisions)
    assert again == decisions[-len(again) :]


def test_a_ring_stays_within_its_capacity() -> None:
    recorder = Recorder(capacity_bytes=30_000)
    record(recorder, 3000)
    one = len(recorder.dump())
    record(recorder, 9000)
    assert len(recorder.dump()) < 1.5 * one


def test_a_lost_start_without_a_checkpoint_is_said() -> None:
    recorder = Recorder(capacity_bytes=5_000)
    record(recorder, 3000)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        list(replay(recorder.dump().splitlines(), Abacus))


def test_nothing_recorded_replays_to_nothing() -> None:
    assert list(replay(Recorder().dump().splitlines(), Abacus)) == []


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "not a recording"),
        (["{}"], "not a line of a recording"),
        (['{"recording": 2}'], "not a recording of version 1"),
        (["hello"], "not a line of a recording: 'hello'"),
        (['{"recording": 1, "boot": 1, "from_start": true}', "[1]"], "not a line"),
        (['{"recording": 1, "boot": 1, "from_start": true}', '{"m": 1, "u": "2026-01-01"}'], "no time zone"),
        (
            ['{"recording": 1, "from_start": true}', '{"m": 1, "u": "2026-01-01T00:00:00Z", "e": {"v": 9}}'],
            "version 9",
        ),
    ],
)
def test_what_is_no_recording_is_said(lines: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(replay(lines, Abacus))
