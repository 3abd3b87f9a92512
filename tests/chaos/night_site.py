"""A night in a depot as a person would spend it: `depot run` and simulators as processes, orders typed as commands.

Owns starting, ending and asking. What is judged is what the copper carried (`Copper`, from the files in which the
simulated chargers write their currents) and what the chargers' meters counted (`Sim.truth`), never our own view.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.sim.evse import NOTHING
from drivers.sim.load import write_amps

ROOT = Path(__file__).parents[2]
DEADLINE_S = 40.0  # for one thing to happen; on a quiet machine nothing takes a third of it
LOOK_S = 0.1
BUILDING_A = 10.0

Json = dict[str, Any]
Amps = tuple[float, float, float]


@dataclass(frozen=True)
class Said:
    """What a command printed. `stages` are those of an order, in the order they were reached."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def stages(self) -> list[str]:
        return re.findall(r"^\d\d:\d\d:\d\d  (\w+)$", self.out, re.MULTILINE)


STAGES = ["sent", "accepted", "applied", "measured"]


class Process:
    """A process whose words go to a file."""

    def __init__(self, log: Path, process: asyncio.subprocess.Process) -> None:
        self.log, self._process = log, process

    @classmethod
    async def start(cls, log: Path, module: str, *arguments: str) -> Process:
        with log.open("ab") as output:
            return cls(
                log,
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-u", "-m", module, *arguments), cwd=ROOT, stdout=output, stderr=output
                ),
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    async def until_said(self, pattern: str) -> str:
        """The first group of a line it prints."""
        deadline_s = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.said, re.MULTILINE)) is None:
            assert self._process.returncode is None and time.monotonic() < deadline_s, self.said
            await asyncio.sleep(LOOK_S / 2)
        return found[1]

    def signal(self, which: signal.Signals) -> None:
        self._process.send_signal(which)

    async def kill(self) -> None:
        """As a power cut does."""
        self._process.kill()
        await self._process.wait()

    async def end(self) -> int:
        """As systemd does; returns the exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(12):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"does not end: {self.said}") from None
        assert "Traceback" not in self.said, self.said
        code = self._process.returncode
        assert code is not None
        return code

    async def truth(self) -> Json:
        """Ends a simulator and returns its last words: per connector the Wh it delivered and fed back."""
        assert await self.end() == 0, self.said
        truth: Json = json.loads(await self.until_said(r"^truth: (.*)$"))
        return truth


class Cut:
    """A TCP proxy to `port`: a wire that can be cut. While `cut` nothing passes and nobody is let in."""

    def __init__(self, port: int = 0) -> None:
        self.target = port
        self.cut = False
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Cut:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.sever()
        await self._server.wait_closed()

    @property
    def links(self) -> int:
        return len(self._links) // 2

    def sever(self) -> None:
        for writer in self._links:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._links |= ends
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, far_writer))
                tasks.create_task(_pump(far_reader, writer))
        finally:
            self._links -= ends
            for end in ends:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@dataclass
class Copper:
    """What flows through the connection, looked at 20 times a second: the building and every charger's own word."""

    files: list[Path] = field(default_factory=list)
    highest_a: float = 0.0
    looks: int = 0

    async def watch(self) -> None:
        while True:
            amps = [BUILDING_A] * 3
            for file in self.files:
                with suppress(OSError):
                    for phase, text in enumerate(file.read_text().split(",")):
                        amps[phase] += float(text.strip().removesuffix(" A"))
            self.highest_a = max(self.highest_a, *amps)
            self.looks += 1
            await asyncio.sleep(0.05)


class Night:
    """One controller with its folder; `text` is its config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "control.sock"
        self.copper = Copper()
        self.controller: Process | None = None
        self._started: list[Process] = []

    async def run(self) -> None:
        """`depot run`, and returns when it answers."""
        config = str(self.folder / "depot.toml")
        self.controller = await Process.start(self.folder / "depot.log", "controller", "run", config)
        await self.until(lambda seen: True, "it answers")

    async def sim(self, kind: str, name: str, *arguments: str) -> Process:
        """`python -m drivers.sim KIND`; what its chargers draw is watched, and flows through the meter."""
        currents = self.folder / f"{name}.amps"
        more = ("--currents", str(currents)) if kind != "meter" else ()
        process = await Process.start(self.folder / f"{name}.log", "drivers.sim", kind, *arguments, *more)
        if more:
            self.copper.files.append(currents)
        self._started.append(process)
        return process

    async def meter(self, *watched: str) -> int:
        """The meter at the grid connection; returns its port. It sees the building and the chargers of these names."""
        files = [self.folder / f"{name}.amps" for name in watched]
        for file in files:
            write_amps(file, NOTHING)
        load = ("--load", f"{BUILDING_A} A", "--watch-chargers", *map(str, files))
        return int(await (await self.sim("meter", "meter", *load)).until_said(r"^meter: .*:(\d+)/1$"))

    async def depot(self, *arguments: str) -> Said:
        """One command as it is typed."""
        began_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller", *arguments), *("--socket", str(self.socket)),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(DEADLINE_S + 100):
            out, err = await process.communicate()
        said = Said(process.returncode or 0, out.decode(), err.decode(), time.monotonic() - began_s)
        assert "Traceback" not in said.err, said
        return said

    async def done(self, *arguments: str) -> Said:
        """A command that must succeed, and complain of nothing."""
        said = await self.depot(*arguments)
        assert (said.code, said.err) == (0, ""), (arguments, said)
        return said

    async def ordered(self, *arguments: str) -> Said:
        """An order that must come to its end: sent, accepted, applied, measured."""
        said = await self.done(*arguments)
        assert said.stages == STAGES, (arguments, said)
        return said

    async def json(self, *arguments: str) -> Any:
        return json.loads((await self.done(*arguments, "--json")).out)

    async def look(self) -> Json | None:
        """The status document, straight from the socket; None while nobody answers there."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 22)
        except OSError:
            return None
        try:
            writer.write(b'{"id": 1, "call": "status"}\n')
            line = await reader.readline()
        except OSError:
            return None
        finally:
            writer.close()
        status: Json | None = json.loads(line)["ok"] if line else None
        return status

    async def until(self, holds: Callable[[Json], object], what: str) -> Json:
        """The first status in which it holds."""
        deadline_s, seen = time.monotonic() + DEADLINE_S, None
        while True:
            if (seen := await self.look()) is not None and holds(seen):
                return seen
            assert self.controller is not None
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{what}: never; {json.dumps(seen)}\n{self.controller.said[-3000:]}")
            await asyncio.sleep(LOOK_S)

    async def until_evse(self, name: str, holds: Callable[[Json], object], what: str) -> Json:
        return evse(await self.until(lambda seen: holds(evse(seen, name)), f"{name} {what}"), name)

    async def end(self) -> None:
        """The controller ends as systemd ends it, and has nothing to complain of."""
        if self.controller is not None:
            assert await self.controller.end() == 0
            assert "ERROR" not in self.controller.said, self.controller.said

    async def close(self) -> None:
        try:
            await self.end()
        finally:
            for process in self._started:
                await process.end()

    def unharmed(self, limit_a: float) -> None:
        """The copper was watched all the time and never carried more than its fuse stands."""
        assert self.copper.looks > 100
        assert BUILDING_A < self.copper.highest_a <= limit_a


def evse(seen: Json, name: str) -> Json:
    return dict(next(each for each in seen["evses"] if each["id"] == name))


def amps(seen: Json) -> float | None:
    """The highest phase current of an EVSE, None while unknown."""
    known = [one for one in seen["measured_a"] if one is not None]
    return max(known, default=None)


def charges(seen: Json, above_a: float = 5.0) -> bool:
    return seen["state"] == "charging" and (amps(seen) or 0.0) > above_a


def purposes(*words: str) -> list[str]:
    """As options of `depot channels enable`."""
    return [part for word in words for part in ("--purpose", word)]


def is_one_line(said: Said, code: int, part: str) -> bool:
    """A refusal as a person should see it."""
    return said.code == code and said.out == "" and part in said.err and len(said.err.splitlines()) == 1


def feeds_back(seen: Json) -> bool:
    """An EVSE that was ordered to discharge with 3 kW."""
    return seen["state"] == "discharging" and (seen["power_w"] or 0) < -2500


def secret(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.touch(mode=0o600)
    file.write_text(text)


def config(meter_port: int, *lines: str, limit_a: float) -> str:
    """`lines` are what is said about channels and stations."""
    return "\n".join([
        "[site]", 'name = "Night"', 'timezone = "Europe/Amsterdam"', f'limit = "{limit_a:g} A"',
        f'assumed_load = "{BUILDING_A:g} A"', 'meter = "main"',
        "[meter.main]", 'kind = "sdm630"', f'address = "tcp://127.0.0.1:{meter_port}/1"', 'poll = "0.1 s"',
        *lines,
        "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"', "",
    ])  # fmt: skip


def consent(channel: str, *lines: str) -> list[str]:
    purposes = '"monitor", "control", "flexibility", "v2g", "diagnostics", "firmware"'
    return [
        "[open_platform]", 'mode = "sole"', 'enabled_by = "J. de Vries, 2026-11-20"', f"purposes = [{purposes}]",
        f"[open_platform.{channel}]", *lines,
    ]  # fmt: skip


@asynccontextmanager
async def night(folder: Path) -> AsyncIterator[Night]:
    made = Night(folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.close)
        watching = asyncio.create_task(made.copper.watch())
        stack.callback(watching.cancel)
        yield made
