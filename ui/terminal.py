"""The terminal behind standard output. Textual paints on standard error, which a service sends to the journal: the
console would stay black and the journal fill with escape sequences (`systemd/depot-ui@.service`, `depot ui 2>log`).
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class StdoutDriver(LinuxDriver):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        assert isinstance(sys.__stdout__, TextIOWrapper)
        sys.__stdout__.reconfigure(
            errors="replace"
        )  # a letter this terminal cannot show must not end the dashboard
        self._file = sys.__stdout__
