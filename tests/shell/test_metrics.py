"""/metrics, /healthz, /readyz over a real socket: what stands on the page, who is let in, and what it costs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from small_depot import A1, DEADLINE_S, SmallDepot

from controller import metrics, metrics_door
from controller.core.events import EvseSample, TransactionEnded
from controller.core.model import StationId, each_phase
from controller.histogram import Histogram
from controller.metrics import CALL_S, LAG_S, STEP_S, Delivered, Inside, page
from controller.metrics_door import CLIENTS, MetricsDoor
from drivers.errors import Misconfigured

KINDS = ("counter", "gauge", "histogram")
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\})? (-?[0-9.e+]+|\+Inf)')
RULES = Path(__file__).parents[2] / "systemd" / "depot-alerts.yml"


@asynccontextmanager
async def served(depot: SmallDepot) -> AsyncIterator[MetricsDoor]:
    queues = {"open-platform/cloud": 2}
    door = MetricsDoor(("127.0.0.1", 0), depot.runtime, depot.storage, lambda: {"A": 3}, lambda: queues)
    task = asyncio.create_task(door.run())
    try:
        await depot.until(lambda: door.port)
        await depot.clock.advance(2.0)  # a step that it sees
        yield door
    finally:
        task.cancel()
        await asyncio.wait({task})


async def get(door: MetricsDoor, path: str, raw: bytes | None = None) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            writer.write(raw or f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = (await reader.read()).decode()
    finally:
        writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return (int(head.split(" ")[1]) if head else 0), body


def samples(text: str) -> dict[str, float]:
    """By name with labels; every line of the page must be one, or a comment."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        key = line.rpartition(" ")[0]
        assert key not in found, f"twice: {key}"
        found[key] = float(match[3])
    return found


async def test_the_page_says_what_the_depot_looks_like(depot: SmallDepot) -> None:
    await depot.begin(A1)
    await depot.runtime.report(
        EvseSample(A1, "wire", depot.clock.now().mono_s, each_phase(10_000), power_w=6_900, register_wh=100)
    )
    async with served(depot) as door:
        status, text = await get(door, "/metrics")
    found = samples(text)
    assert status == 200
    assert found['depot_circuit_current_amperes{circuit="site",phase="L1",kind="limit"}'] == 60
    assert found[f'depot_charger_state{{evse="{A1}",state="charging"}}'] == 1
    assert found[f'depot_charger_current_amperes{{evse="{A1}",phase="L2"}}'] == 10
    assert found[f'depot_charger_power_watts{{evse="{A1}"}}'] == 6_900
    assert found['depot_state{state="starting"}'] + found['depot_state{state="auto"}'] <= 1
    assert sum(value for key, value in found.items() if key.startswith("depot_state")) == 1
    assert found['depot_ocpp_quirk_total{station="A"}'] == 3
    assert found["depot_control_cycle_seconds_count"] >= 1
    assert found["process_resident_memory_bytes"] > 10_000_000
    assert "04A2B3C4" not in text and "B3C4" not in text, "not even a part of an id token"


async def test_what_is_unknown_is_not_there(depot: SmallDepot) -> None:
    async with served(depot) as door:
        found = samples((await get(door, "/metrics"))[1])
    assert not [key for key in found if key.startswith("depot_charger_power_watts")]
    assert not [key for key in found if 'kind="measured"' in key]


async def test_energy_only_grows_and_a_new_session_goes_on_from_there(depot: SmallDepot) -> None:
    async def drawn(register_wh: int) -> None:
        await depot.clock.advance(4.0)
        at_s = depot.clock.now().mono_s
        await depot.runtime.report(EvseSample(A1, "wire", at_s, each_phase(10_000), register_wh=register_wh))
        await depot.clock.advance(2.0)

    key = f'depot_session_energy_wh_total{{evse="{A1}"}}'
    async with served(depot) as door:

        async def shown() -> float:
            return samples((await get(door, "/metrics"))[1])[key]

        await depot.begin(A1, "t1")
        await drawn(110)
        assert await shown() == 10
        ended = TransactionEnded(StationId("A"), A1, "t1", "Local", 115, depot.clock.now().utc)
        await depot.runtime.report(ended)
        await depot.clock.advance(2.0)
        assert await shown() >= 10
        before = await shown()
        await depot.begin(A1, "t2")
        await drawn(108)
        assert await shown() == before + 8


async def test_a_session_that_ran_before_our_start_is_not_counted_twice(depot: SmallDepot) -> None:
    await depot.begin(A1)
    await depot.clock.advance(2.0)
    assert depot.runtime.snapshot is not None
    snapshot, delivered = depot.runtime.snapshot, Delivered()
    for energy_wh in (9_000, 9_100):
        evses = [
            evse._replace(
                session=None if evse.session is None else evse.session._replace(energy_wh=energy_wh)
            )
            for evse in snapshot.evses
        ]
        delivered.observe(replace(snapshot, evses=tuple(evses)))
    assert {sample.value for sample in delivered.samples()} == {0, 100}


async def test_ready_is_only_who_decides_and_can_write(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(depot) as door:
        assert depot.runtime.snapshot is not None and depot.runtime.snapshot.state not in (
            "starting",
            "failsafe",
        )
        assert await get(door, "/readyz") == (200, "ready\n")
        assert await get(door, "/healthz") == (200, "ok\n")
        depot.runtime.witnesses.remove(door.observe)
        await depot.clock.advance(metrics_door.FRESH_S + 1)
        assert await get(door, "/readyz") == (503, "not ready\n"), "an old decision is none"
        depot.runtime.witnesses.append(door.observe)
        await depot.clock.advance(2.0)
        assert (await get(door, "/readyz"))[0] == 200
        monkeypatch.setattr(metrics_door, "FRESH_S", -1.0)
        assert (await get(door, "/readyz"))[0] == 503


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", 200),
        (b"A" * 20_000, 0),
    ],
)
async def test_what_a_stranger_gets(depot: SmallDepot, raw: bytes, status: int) -> None:
    async with served(depot) as door:
        try:
            assert (await get(door, "", raw))[0] == status
        except ConnectionError:
            assert status == 0
        assert (await get(door, "/healthz"))[0] == 200


async def test_a_crowd_is_sent_away_and_sleepers_are_cut(
    depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_door, "PATIENCE_S", 0.3)
    async with served(depot) as door:
        sleepers = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(CLIENTS)]
        await depot.until(lambda: len(door._clients) == CLIENTS)
        with pytest.raises(ConnectionError):
            await get(door, "/healthz")
        async with asyncio.timeout(DEADLINE_S):
            for reader, _ in sleepers:
                with suppress(ConnectionError):
                    assert await reader.read() == b""
        for _, writer in sleepers:
            writer.close()
        await depot.until(lambda: not door._clients)
        assert (await get(door, "/healthz"))[0] == 200


async def test_a_port_that_is_taken_is_one_line(depot: SmallDepot) -> None:
    async with served(depot) as door:
        other = MetricsDoor(("127.0.0.1", door.port), depot.runtime, depot.storage, dict)
        with pytest.raises(Misconfigured, match=f"metrics cannot listen on 127.0.0.1:{door.port}"):
            await other.run()


async def test_the_page_of_a_large_depot_is_cheap(depot: SmallDepot) -> None:
    snapshot = depot.runtime.snapshot
    assert snapshot is not None
    many = tuple(snapshot.evses[0]._replace(id=f"E{n}/1") for n in range(200))  # type: ignore[arg-type]
    large = replace(snapshot, evses=many)
    inside = Inside("0", True, 0.0, False, {})
    delivered = Delivered()
    delivered.observe(large)
    took = []
    for _ in range(5):
        began_s = time.perf_counter()
        text = page(large, delivered, inside, Histogram(STEP_S), Histogram(LAG_S))
        took.append(time.perf_counter() - began_s)
    assert min(took) < 0.05
    assert len(text.splitlines()) < 20 * len(many) + 200


def test_names_cannot_break_a_line() -> None:
    assert metrics._escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


def test_a_histogram_counts_from_below() -> None:
    made = Histogram((0.1, 1.0))
    for seconds in (0.1, 0.5, 5.0):
        made.add(seconds)
    found = samples(
        "\n".join(metrics._histograms("h", "text", {(): made, (("file", "a.db"),): Histogram((2.5,))}))
    )
    assert found == {
        'h_bucket{le="0.1"}': 1, 'h_bucket{le="1"}': 2, 'h_bucket{le="+Inf"}': 3, "h_sum": 5.6, "h_count": 3,
        'h_bucket{file="a.db",le="2.5"}': 0, 'h_bucket{file="a.db",le="+Inf"}': 0, 'h_sum{file="a.db"}': 0,
        'h_count{file="a.db"}': 0,
    }  # fmt: skip
    assert metrics._histograms("h", "text", {}) == []


async def test_it_says_how_long_answers_and_commits_take_and_what_waits(depot: SmallDepot) -> None:
    async with served(depot) as door:
        before = samples((await get(door, "/metrics"))[1])
        assert not [key for key in before if key.startswith("depot_ocpp_call_seconds")], "none was answered"
        for seconds in (0.03, 0.2, 40.0):
            door.answered("SetChargingProfile", seconds)
        door.answered("Reset", 0.1)
        await depot.begin(A1)
        await depot.clock.advance(2.0)
        found = samples((await get(door, "/metrics"))[1])
    name = 'depot_ocpp_call_seconds_bucket{action="SetChargingProfile",le='
    assert [found[f'{name}"{bound}"}}'] for bound in ("0.05", "0.25", "30", "+Inf")] == [1, 2, 2, 3]
    assert found['depot_ocpp_call_seconds_sum{action="SetChargingProfile"}'] == pytest.approx(40.23)
    assert found['depot_ocpp_call_seconds_count{action="Reset"}'] == 1
    assert found['depot_cloud_queue{channel="open-platform/cloud"}'] == 2
    commits = 'depot_db_commit_seconds_count{file="depot.db"}'
    assert found[commits] > before[commits] >= 1
    assert found['depot_db_commit_seconds_sum{file="depot.db"}'] > 0


async def test_the_page_is_as_the_format_wants_it(depot: SmallDepot) -> None:
    """One HELP and one TYPE before the lines of a family, which stand together; a histogram only grows towards +Inf."""
    async with served(depot) as door:
        door.answered("Reset", 0.1)
        text = (await get(door, "/metrics"))[1]
    kinds: dict[str, str] = {}
    last, buckets = "", [0.0]
    for line in text.splitlines():
        match line.split(" ", 3):
            case ["#", "HELP", name, about]:
                assert name not in kinds and about.endswith(".")
                last = name
            case ["#", "TYPE", name, kind]:
                assert name == last and kind in KINDS
                kinds[name] = kind
            case _:
                name = line.partition("{")[0].partition(" ")[0]
                part = re.fullmatch(rf"{last}(_bucket|_sum|_count)?", name)
                assert part is not None and (part[1] is None) == (kinds[last] != "histogram"), line
                value = float(line.rpartition(" ")[2])
                if part[1] == "_bucket":
                    buckets = [value] if 'le="0.' in line and value < buckets[-1] else [*buckets, value]
                    assert buckets == sorted(buckets), line
                elif part[1] == "_count":
                    assert value == buckets[-1], line
                    buckets = [0.0]
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }
    assert all(name.endswith(("_seconds", "_total")) for name, kind in kinds.items() if kind == "histogram")


async def test_a_name_for_each_kind_of_call_costs_little(depot: SmallDepot) -> None:
    assert depot.runtime.snapshot is not None
    calls = {f"Action{number}": Histogram(CALL_S) for number in range(60)}
    inside = Inside("0", True, 0.0, False, {}, calls=calls)
    text = page(depot.runtime.snapshot, Delivered(), inside, Histogram(STEP_S), Histogram(LAG_S))
    assert text.count("depot_ocpp_call_seconds_bucket") == 60 * (len(CALL_S) + 1)


def test_the_alert_rules_name_metrics_that_exist() -> None:
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    rules = RULES.read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:depot|process)_[a-z_]+)\b(?=[{\[ )]|$)", rules, flags=re.M))
    assert len(named) > 8
    missing = {
        name
        for name in named
        if f'"{name}"' not in source and f'"{name.removesuffix("_bucket")}"' not in source
    }
    assert missing == set()
