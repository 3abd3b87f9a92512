"""The table of dialects is whole: each of the 64 rows stands in it once and names tests and places that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from drivers.ocpp.dialects import ROWS, Entry, shipped

ROOT = Path(__file__).parents[2]
TABLE = list(shipped())


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def missing(entry: Entry) -> list[str]:
    """What the entry names and is not there."""
    found = []
    for test in entry.tests:
        path, _, name = test.partition("::")
        if not (ROOT / path).is_file() or name not in functions_of(path):
            found.append(test)
    found += [path for path in re.findall(r"\b[\w/]+\.py\b", entry.handled) if not (ROOT / path).is_file()]
    return found


def test_every_row_is_there_once_and_in_order() -> None:
    assert [entry.row for entry in TABLE] == list(range(1, ROWS + 1))


def test_names_are_one_word_each() -> None:
    names = [entry.name for entry in TABLE]
    assert len(set(names)) == ROWS and all(re.fullmatch(r"[a-z]+", name) for name in names)


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry.row}-{entry.name}")
def test_a_row_says_what_whence_and_who_proves_it(entry: Entry) -> None:
    assert entry.what and entry.source and entry.tests
    assert missing(entry) == []


def test_a_test_that_is_not_there_is_found() -> None:
    (test,) = TABLE[3].tests
    path, _, _ = test.partition("::")
    entry = Entry(
        4, "x", "w", "s", (f"{path}::test_no_such", "tests/no.py::test_a"), handled="drivers/no.py there"
    )
    assert missing(entry) == [f"{path}::test_no_such", "tests/no.py::test_a", "drivers/no.py"]
