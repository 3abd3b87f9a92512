"""The dashboard as a process in a real terminal: what it writes, and how it leaves."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
import termios
from pathlib import Path

import pytest
from textual import events

from ui.terminal import KeyParser

from .screen_text import until

_RUN = "import sys; from ui.app import run_dashboard; sys.exit(run_dashboard(sys.argv[1]))"
_BRIGHT_OR_DIM = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:2|9[0-7]|10[0-7]|38|48)(?:;[0-9]+)*m")


@pytest.mark.parametrize("leave", [b"q", b"\x03", signal.SIGTERM, signal.SIGHUP])
async def test_on_a_linux_console(tmp_path: Path, leave: bytes | signal.Signals) -> None:
    """No controller: it says so; eight colours, no mouse; and the terminal is as before when it is gone."""
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        environ = {**os.environ, "TERM": "linux", "LANG": "C.UTF-8", "COLUMNS": "80", "LINES": "24"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _RUN, str(tmp_path / "absent"), stdin=theirs, stdout=theirs, stderr=theirs,
            env=environ,
        )  # fmt: skip
        written = bytearray()
        asyncio.get_running_loop().add_reader(ours, lambda: written.extend(os.read(ours, 65536)))
        try:
            await until(lambda: b"no controller, no such file" in written, 15)
            if isinstance(leave, bytes):
                os.write(ours, leave)
            else:
                process.send_signal(leave)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
            await until(lambda: b"\x1b[?1049l" in written)
        finally:
            asyncio.get_running_loop().remove_reader(ours)
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert b"\x1b[?25h" in written and b"Traceback" not in written
        assert b"?1000h" not in written and b"?1003h" not in written
        assert _BRIGHT_OR_DIM.search(bytes(written)) is None
        assert termios.tcgetattr(theirs)[:4] == before[:4]
    finally:
        os.close(ours)
        os.close(theirs)


def keys(*pieces: str) -> list[str]:
    parser = KeyParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    parser._timeout_time = 0.0 if parser._timeout_time is not None else None
    found += parser.tick()
    return [event.key for event in found if isinstance(event, events.Key)]


@pytest.mark.parametrize(
    "typed, read",
    [
        (("\x1b3",), ["escape", "3"]),
        (("\x1b", "3"), ["escape", "3"]),
        (("\x1b/", "x"), ["escape", "slash", "x"]),
        (
            ("stop\x1b\r",),
            ["s", "t", "o", "p", "escape", "enter"],
        ),  # cancelled, then Enter on whatever is there
        (("7f\x1b2\x1b\x1b1",), ["7", "f", "escape", "2", "escape", "escape", "1"]),
        (("\x1b[A", "\x1b", "[B", "\x1b[6~\x1bOP"), ["up", "down", "pagedown", "f1"]),
        (("x\x1b",), ["x", "escape"]),
    ],
)
def test_a_key_right_behind_an_escape_is_a_key(typed: tuple[str, ...], read: list[str]) -> None:
    """Over a slow link, or through tmux, both arrive at once: no key of ours is pressed with Alt."""
    assert keys(*typed) == read
