"""The terminal behind standard output and standard input, where Textual's own driver does not fit.

Textual paints on standard error, which a service sends to the journal: the console would stay black and the journal fill
with escape sequences (`systemd/depot-ui@.service`, `depot ui 2>log`). It takes Escape and a key that arrive together (a slow
link, tmux) for one key with Alt, or drops the Escape; and one byte that is not UTF-8 ends it.
"""

from __future__ import annotations

import os
import re
import select
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

ESC = "\x1b"
LOOK_S = 0.05  # an Escape that nothing follows is seen after this and Textual's own wait
_KEY_AFTER_ESCAPE = re.compile(
    rf"(?<={ESC})(?=[^{ESC}\[O])"
)  # "[" and "O" begin what a terminal says of arrows


class KeyParser(XTermParser):
    """No key here is pressed with Alt: what follows an Escape and begins no sequence is a key of its own."""

    _ended_with = ""

    def feed(self, data: str) -> Iterable[Message]:
        for piece in _KEY_AFTER_ESCAPE.split(data):
            if (
                self._ended_with == ESC
                and _KEY_AFTER_ESCAPE.search(ESC + piece)
                and self._timeout_time is not None
            ):
                self._timeout_time = 0.0  # nothing more of it will come
                yield from self.tick()
            self._ended_with = piece[-1:]
            yield from super().feed(piece)


class StdoutDriver(LinuxDriver):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        assert isinstance(sys.__stdout__, TextIOWrapper)
        sys.__stdout__.reconfigure(
            errors="replace"
        )  # a letter this terminal cannot show must not end the dashboard
        self._file = sys.__stdout__

    def run_input_thread(self) -> None:
        """Reads keys until the dashboard ends, or ends it when the terminal is gone."""
        parser, decode = KeyParser(self._debug), getincrementaldecoder("utf-8")("replace").decode
        while not self.exit_event.is_set():
            events = list(parser.tick())
            if select.select([self.fileno], [], [], LOOK_S)[0]:
                try:
                    read = os.read(self.fileno, 4096)
                except OSError:
                    read = b""
                if not read:
                    self._app.call_later(self._app.exit)
                    return
                if text := decode(read):
                    events += parser.feed(text)
            for event in events:
                self.process_message(event)
