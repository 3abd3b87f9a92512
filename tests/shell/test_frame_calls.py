"""Messages on the wires: out of all drivers in one order, of whom they are asked for, for operators, and as a command."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import START, SmallDepot, caller, small_depot

from controller.cli import main
from controller.core.frames import Frame, Trace
from controller.core.wire import instant_text
from controller.frame_calls import PAGE_CHARS


def frame(second: float, text: str, sent: bool = False) -> Frame:
    return Frame(START + timedelta(seconds=second), sent, text)


HEARD = [frame(1, '[2,"1","Heartbeat",{}]'), frame(4, '[2,"2","Heartbeat",{}]')]
ANSWERED = [frame(2, '[3,"1",{}]', sent=True)]
TRACES = [
    Trace("ocpp1.6", "A", HEARD),
    Trace("open-platform/cloud", "B", ANSWERED),
    Trace("modbus", "meter main", [frame(3, "00 01")]),
]


async def asked(depot: SmallDepot, **args: object) -> Any:
    async with caller(depot.socket) as client:
        return await client.call("frames", **args)


def texts(told: Any) -> list[str]:
    return [each["text"] for each in told["frames"]]


async def test_all_wires_in_one_order_but_the_polled_ones(tmp_path: Path) -> None:
    async with small_depot(tmp_path, traces=lambda: TRACES) as depot:
        told = await asked(depot)
        assert texts(told) == [HEARD[0].text, ANSWERED[0].text, HEARD[1].text]
        assert told["more"] is False
        assert told["frames"][1] == {
            "time": instant_text(ANSWERED[0].at),
            "channel": "open-platform/cloud",
            "about": "B",
            "sent": True,
            "text": ANSWERED[0].text,
        }


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ("A", 2),
        ("A/1", 2),
        ("B/1", 1),
        ("main", 1),
        ("meter main", 1),
        ("modbus", 1),
        ("ocpp1.6", 2),
    ],
)
async def test_of_one_station_meter_or_channel(tmp_path: Path, about: str, found: int) -> None:
    async with small_depot(tmp_path, traces=lambda: TRACES) as depot:
        assert len((await asked(depot, about=about))["frames"]) == found


async def test_the_last_ones_until_a_time_and_all_since_one(tmp_path: Path) -> None:
    async with small_depot(tmp_path, traces=lambda: TRACES) as depot:

        def iso(seconds: float) -> str:
            return (START + timedelta(seconds=seconds)).isoformat()

        told = await asked(depot, until=iso(3.5), last=1)
        assert texts(told) == [ANSWERED[0].text] and told["more"]
        told = await asked(depot, since=iso(2), last=1)
        assert texts(told) == [ANSWERED[0].text] and told["more"]
        assert texts(await asked(depot, since=iso(2))) == [ANSWERED[0].text, HEARD[1].text]


async def test_an_answer_stays_within_what_a_client_reads(tmp_path: Path) -> None:
    many = [frame(number, "x" * 2_000) for number in range(900)]
    async with small_depot(tmp_path, traces=lambda: [Trace("ocpp1.6", "A", many)]) as depot:
        told = await asked(depot, last=900)
        assert sum(map(len, texts(told))) <= PAGE_CHARS and told["more"]
        assert told["frames"][-1]["time"] > told["frames"][0]["time"]


async def test_a_known_station_without_frames_has_none_and_a_stranger_is_said(tmp_path: Path) -> None:
    async with small_depot(tmp_path, traces=lambda: TRACES[:1]) as depot:
        assert (await asked(depot, about="B"))["frames"] == []
        async with caller(depot.socket) as client:
            code, text = await client.refusal("frames", about="CP9")
            assert code == "unknown" and text == "no frames of 'CP9'; there are some of: A"


async def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = Trace("ocpp1.6", "A", [frame(5, "[2,\x1b[2J\r\n]")])
    async with small_depot(tmp_path, traces=lambda: [*TRACES, nasty]) as depot:

        async def run(*words: str) -> int:
            return await asyncio.to_thread(main, [*words, "--socket", str(depot.socket)])

        assert await run("log", "--frames") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].endswith(' < A ocpp1.6: [2,"1","Heartbeat",{}]')
        assert lines[1].endswith(' > B open-platform/cloud: [3,"1",{}]')
        assert lines[3].endswith(" < A ocpp1.6: [2,?[2J??]"), "what a station says cannot move the cursor"
        assert await run("log", "--frames", "--station", "main", "--json") == 0
        assert [each["text"] for each in json.loads(capsys.readouterr().out)] == ["00 01"]
        assert await run("log", "--station", "A") == 2
        assert "--station goes with --frames" in capsys.readouterr().err


async def test_following_tells_every_frame_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    growing = list(HEARD)
    async with small_depot(tmp_path, traces=lambda: [Trace("ocpp1.6", "A", growing)]) as depot:
        words = ["log", "--frames", "-f", "--for", "2.5s", "--socket", str(depot.socket)]
        running = asyncio.create_task(asyncio.to_thread(main, words))
        told = ""

        def seen(text: str) -> bool:
            nonlocal told
            told += capsys.readouterr().out
            return text in told

        await depot.until(lambda: seen('"2","Heartbeat"'))
        growing.append(frame(4, '[3,"2",{}]', sent=True))  # at the same time as the last one
        growing.append(frame(6, '[2,"3","Heartbeat",{}]'))
        await depot.until(lambda: seen('"3","Heartbeat"'))
        assert await running == 0
        told += capsys.readouterr().out
        assert [told.count(each) for each in ('"1"', '[2,"2"', '[3,"2"', '"3"')] == [1, 1, 1, 1]
