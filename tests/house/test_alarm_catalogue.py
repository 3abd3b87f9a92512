"""Every alarm that anything can raise is in the catalogue, with its priorities and its delay; and nothing else is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from controller.core.alarm_facts import CATALOGUE, fact_of
from controller.core.alarms import LATCHED_NOTE

CORE = Path(__file__).parents[2] / "controller" / "core"


class Raised(NamedTuple):
    where: str
    kind: str
    priorities: frozenset[int]  # as far as they are written down there
    delay_s: float


def value(node: ast.expr | None, module: Any) -> Any:
    """A literal, or a constant of the module; None when it is neither."""
    if isinstance(node, ast.Constant):
        return node.value
    return getattr(module, node.id, None) if isinstance(node, ast.Name) else None


def raised_in(source: str, name: str) -> Iterator[Raised]:
    module = import_module(f"controller.core.{name}")
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Condition"):
            continue
        given = dict(zip(("kind", "source", "priority", "text", "delay_s"), node.args, strict=False))
        given |= {word.arg: word.value for word in node.keywords if word.arg}
        priority = given["priority"]
        nodes = [priority.body, priority.orelse] if isinstance(priority, ast.IfExp) else [priority]
        priorities = frozenset(found for each in nodes if isinstance(found := value(each, module), int))
        delay_s = value(given["delay_s"], module) if "delay_s" in given else 0.0
        yield Raised(f"{name}:{node.lineno}", value(given["kind"], module), priorities, delay_s)


ALL = [each for path in sorted(CORE.glob("*.py")) for each in raised_in(path.read_text(), path.stem)]


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.where)
def test_what_is_raised_is_described(each: Raised) -> None:
    assert isinstance(each.kind, str), "a kind is a literal or a constant, so that it can be looked up here"
    assert each.kind in CATALOGUE, f"{each.kind}: describe it in controller/core/alarm_facts.py"
    fact = CATALOGUE[each.kind]
    assert each.priorities <= set(fact.priorities)
    assert each.delay_s is not None and each.delay_s <= fact.on_s


def test_nothing_is_described_that_is_never_raised_or_later_than_said() -> None:
    assert {each.kind for each in ALL} == set(CATALOGUE)
    longest = {kind: max(each.delay_s for each in ALL if each.kind == kind) for kind in CATALOGUE}
    assert longest == {kind: fact.on_s for kind, fact in CATALOGUE.items()}


def test_an_alarm_that_nobody_described_is_still_one() -> None:
    assert fact_of("no-such-kind").steps and LATCHED_NOTE


def test_a_condition_without_an_entry_would_be_found() -> None:
    [found] = raised_in(
        'def f():\n    yield Condition("new", "x", 1 if y else 2, "t", CLEAR)\n', "supervisor"
    )
    assert (found.kind, found.priorities, found.delay_s) == ("new", frozenset({1, 2}), None)
