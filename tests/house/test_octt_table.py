"""`tests/ocpp_cases.toml` tells the truth: every case is there once, and what is called covered has its tests."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CASES: list[dict[str, Any]] = tomllib.loads((ROOT / "tests/ocpp_cases.toml").read_text(encoding="utf-8"))[
    "case"
]
CASE_ID = re.compile(r"\bTC_(?:[A-P]_\d{2}|\d{3}(?:_\d)?)\b")
COVERED = [case for case in CASES if case["status"] == "covered"]
BLOCKS = "A14 B22 C16 D6 E27 F15 G10 H9 I2 J9 K32 L19 M18 N30 O21 P2"


@cache
def carried(file: str) -> dict[str, frozenset[str]]:
    """The case ids that every test of a file carries: in its docstring, its decorators, or the table these name."""
    source = (ROOT / file).read_text(encoding="utf-8")
    tree = ast.parse(source)
    tables: dict[str, frozenset[str]] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and node.value:
            tables[target.id] = _ids(ast.unparse(node.value))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = " ".join(ast.unparse(each) for each in node.decorator_list)
            ids = _ids(f"{ast.get_docstring(node)} {decorators}")
            for name in re.findall(r"\w+", decorators):
                ids |= tables.get(name, frozenset())
            found[node.name] = ids
    return found


def _ids(text: str) -> frozenset[str]:
    return frozenset(CASE_ID.findall(text))


def flaws(case: dict[str, Any]) -> list[str]:
    """What is wrong with one row."""
    found = []
    known = {
        "version",
        "id",
        "name",
        "mandatory",
        "status",
        "tests" if case["status"] == "covered" else "why",
    }
    if set(case) - {"mandatory"} != known - {"mandatory"}:
        found.append(f"keys {sorted(case)}")
    if case["status"] not in ("covered", "not covered", "not applicable"):
        found.append(f"status {case['status']}")
    for test in case.get("tests", ()):
        file, _, name = test.partition("::")
        if not (ROOT / file).is_file() or name not in carried(file):
            found.append(f"no test {test}")
        elif not name.startswith("test_") or case["id"] not in carried(file)[name]:
            found.append(f"{test} does not carry the case")
    if case["status"] == "covered" and not case.get("tests"):
        found.append("covered by nothing")
    if case["status"] != "covered" and len(case.get("why", "")) < 20:
        found.append("no reason")
    return found


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_row_tells_the_truth(case: dict[str, Any]) -> None:
    assert flaws(case) == []


def test_every_case_is_there_once() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert Counter(case["version"] for case in CASES) == {"1.6": 77, "2.0.1": 252}
    assert sum(case.get("mandatory", False) for case in CASES) == 147
    blocks = Counter(case["id"][3] for case in CASES if case["version"] == "2.0.1")
    assert " ".join(f"{block}{count}" for block, count in sorted(blocks.items())) == BLOCKS


def test_no_test_carries_a_case_that_the_table_does_not_give_it() -> None:
    given = {(test, case["id"]) for case in CASES for test in case.get("tests", ())}
    for path in (ROOT / "tests").rglob("test_*.py"):
        file = str(path.relative_to(ROOT))
        if "house" in path.parts or "TC_" not in path.read_text(encoding="utf-8"):
            continue
        for name, ids in carried(file).items():
            if name.startswith("test_"):
                assert {(f"{file}::{name}", each) for each in ids} <= given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tests": []}, "covered by nothing"),
        ({"tests": ["tests/wires/nowhere.py::test_x"]}, "no test"),
        ({"tests": ["tests/wires/test_octt_16_core.py::test_gone"]}, "no test"),
        ({"id": "TC_999"}, "does not carry the case"),
        ({"status": "not covered", "why": "too short"}, "no reason"),
        ({"status": "done"}, "status done"),
    ],
)
def test_a_false_row_is_found(change: dict[str, Any], said: str) -> None:
    assert any(said in flaw for flaw in flaws({**COVERED[0], **change}))
