"""The dashboard in a real terminal that is treated badly: tiny, not UTF-8, slow, without colour, gone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from controller.core import wire

from . import depot_values as values
from .screen_text import until
from .test_client import Send, serving

_RUN = "import sys; from ui.app import run_dashboard; sys.exit(run_dashboard(sys.argv[1]))"
DEADLINE_S = 20
_COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*[349][0-7]m")


class Terminal:
    """One end of a pty: what the dashboard wrote, and keys and sizes for it."""

    def __init__(self, ours: int, process: asyncio.subprocess.Process) -> None:
        self.ours, self.process, self.written = ours, process, bytearray()
        self.read_on()

    def read_on(self) -> None:
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def stop_reading(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)

    def _read(self) -> None:
        try:
            self.written.extend(os.read(self.ours, 65536))
        except OSError:  # the other end is gone
            self.stop_reading()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    async def shows(self, text: bytes) -> None:
        self.written.clear()
        await until(lambda: text in self.written, DEADLINE_S)

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()


@asynccontextmanager
async def dashboard(
    socket: Path, environ: Mapping[str, str] | None = None, stderr: IO[bytes] | None = None
) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "LC_ALL")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RUN, str(socket), stdin=theirs, stdout=theirs, stderr=stderr or theirs,
        env={**kept, "TERM": "linux", "LANG": "C.UTF-8", **(environ or {})},
    )  # fmt: skip
    os.close(theirs)
    terminal = Terminal(ours, process)
    try:
        yield terminal
    finally:
        terminal.stop_reading()
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
    assert b"Traceback" not in terminal.written


async def depot(request: dict[str, Any], send: Send) -> None:
    """Shows the same abnormal night for ever."""
    if request["call"] == "watch":
        while True:
            await send({"id": request["id"], "ok": wire.status(values.abnormal())})
            await asyncio.sleep(0.2)
    await send({"id": request["id"], "error": {"code": "unknown-call", "text": "no such call"}})


async def test_resized_to_nothing_and_back(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", depot), dashboard(tmp_path / "s") as terminal:
        await until(lambda: b"OVERVIEW" in terminal.written, DEADLINE_S)
        for columns, rows in ((1, 1), (2, 1), (300, 2), (1, 100)):
            terminal.resize(columns, rows)
            await asyncio.sleep(0.05)  # so that not only the last size is seen; nothing is expected of it
        terminal.resize(80, 24)
        await terminal.shows(b"OVERVIEW")
        os.write(terminal.ours, b"5")
        await until(lambda: b"ALARMS" in terminal.written, DEADLINE_S)
        os.write(terminal.ours, b"q")
        assert await terminal.ended() == 0


@pytest.mark.parametrize(
    "environ",
    [{"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"DEPOT_ASCII": "1"}],
    ids=["locale", "asked"],
)
async def test_a_terminal_without_utf8_gets_ascii(tmp_path: Path, environ: dict[str, str]) -> None:
    async with serving(tmp_path / "s", depot), dashboard(tmp_path / "s", environ) as terminal:
        await until(lambda: b"OVERVIEW" in terminal.written and b"####" in terminal.written, DEADLINE_S)
        assert terminal.written.isascii()
        os.write(terminal.ours, "/é€\r".encode())  # what it can send, though perhaps not show
        await until(lambda: b"nothing matches" in terminal.written, DEADLINE_S)
        os.write(terminal.ours, b"q")
        assert await terminal.ended() == 0


async def test_a_byte_that_is_no_letter_and_keys_in_one_burst_do_what_they_say(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", depot), dashboard(tmp_path / "s") as terminal:
        await until(lambda: b"OVERVIEW" in terminal.written, DEADLINE_S)
        os.write(terminal.ours, b"\xe9")  # from a terminal that is not UTF-8
        os.write(terminal.ours, b"7f\x1b3")
        await terminal.shows(b"SESSIONS")
        os.write(terminal.ours, b"q")
        assert await terminal.ended() == 0


async def test_without_colour_priorities_are_marks(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "s", depot),
        dashboard(tmp_path / "s", {"TERM": "vt100", "NO_COLOR": "1"}) as terminal,
    ):
        await until(lambda: b"OFFLINE" in terminal.written, DEADLINE_S)
        assert b"\x1b[1;7m!!\x1b[0m" in terminal.written and b"\x1b[1m! \x1b[0m" in terminal.written
        assert _COLOUR.search(terminal.written) is None


async def test_a_reader_that_stops_for_a_while_loses_nothing_but_time(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", depot), dashboard(tmp_path / "s") as terminal:
        await until(lambda: b"OVERVIEW" in terminal.written, DEADLINE_S)
        terminal.stop_reading()
        for key in b"7654321" * 20:  # every one repaints the whole screen into a pipe nobody empties
            os.write(terminal.ours, bytes([key]))
        terminal.written.clear()
        terminal.read_on()
        os.write(terminal.ours, b"3")
        await until(lambda: b"SESSIONS" in terminal.written, DEADLINE_S)
        os.write(terminal.ours, b"q")
        assert await terminal.ended() == 0


async def test_it_paints_on_standard_output_and_errors_stay_apart(tmp_path: Path) -> None:
    """As a service on tty1: standard error is the journal's."""
    with (tmp_path / "journal").open("wb") as journal:
        async with serving(tmp_path / "s", depot), dashboard(tmp_path / "s", stderr=journal) as terminal:
            await until(lambda: b"OFFLINE" in terminal.written, DEADLINE_S)
            os.write(terminal.ours, b"q")
            assert await terminal.ended() == 0
    assert (tmp_path / "journal").read_bytes() == b""


async def test_a_terminal_that_is_gone_ends_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", depot), dashboard(tmp_path / "s") as terminal:
        await until(lambda: b"OVERVIEW" in terminal.written, DEADLINE_S)
        terminal.process.send_signal(signal.SIGHUP)
        assert await terminal.ended() == 0
        await until(lambda: b"\x1b[?1049l" in terminal.written, DEADLINE_S)


async def test_the_controller_comes_back_as_another_one(tmp_path: Path) -> None:
    """Gone, then of another version, then right again: the last picture stays, marked old, and each is said."""

    async def newer(request: dict[str, Any], send: Send) -> None:
        await send({"id": request["id"], "ok": {"version": 99}})

    gone = asyncio.Event()

    async def mortal(request: dict[str, Any], send: Send) -> None:
        await send({"id": request["id"], "ok": wire.status(values.abnormal())})
        await gone.wait()
        raise ConnectionAbortedError

    async with dashboard(tmp_path / "s") as terminal:
        async with serving(tmp_path / "s", mortal):
            await until(lambda: b"OFFLINE" in terminal.written, DEADLINE_S)
            gone.set()
        (tmp_path / "s").unlink(missing_ok=True)
        await terminal.shows(b"NOT CONNECTED")
        async with serving(tmp_path / "s", newer):
            await terminal.shows(b"version 99")
        (tmp_path / "s").unlink(missing_ok=True)
        async with serving(tmp_path / "s", depot):
            await terminal.shows(b"CP002/1")
