"""`depot` with its arguments, as somebody typed it: what it printed and how it ended."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from controller.cli import main


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def stages(self) -> list[str]:
        """How far an order came."""
        lines = [line for line in self.out.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
        return [line.split("  ")[1] for line in lines]


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """Wrong use is an exit code; a traceback is a defect, whatever was typed."""
    try:
        code = main(list(arguments))
    except SystemExit as wrong_use:
        assert isinstance(wrong_use.code, int)
        code = wrong_use.code
    said = Said(code, *capsys.readouterr())
    assert "Traceback" not in said.err
    return said
