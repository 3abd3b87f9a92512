"""The help of every command fits a terminal of 80 columns and ends with an example that can be copied."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from controller.cli import arguments


def each(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from each(below)


COMMANDS = {made.prog: made for made in each(arguments.parser())}


@pytest.mark.parametrize("prog", COMMANDS)
def test_help(prog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = COMMANDS[prog].format_help()
    assert max(map(len, told.splitlines())) <= 80
    if any(isinstance(action, argparse._SubParsersAction) for action in COMMANDS[prog]._actions):
        return
    _, begins, example = told.partition("\nExample: ")
    assert begins, "no example"
    words = shlex.split(example.replace("\\\n", " ").partition(" > ")[0])  # as a shell takes the lines
    assert words[0] == "depot" and "\n" not in example.replace("\\\n", "").strip()
    arguments.parser().parse_args(words[1:])


def test_help_loads_neither_the_config_nor_the_words_of_the_depot() -> None:
    """It takes 0.15 s of processor; with them three times that, and every wrong use too."""
    script = (
        "import sys\nfrom controller.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr
    loaded = set(told.split())
    assert "controller.cli" in loaded
    assert not loaded & {"controller.config", "controller.core.wire", "controller.core.events", "textual"}
