"""Words of the house: quantities carry their unit in the name, and unknown numbers are integers or None, not floats."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUANTITIES = (
    "current",
    "voltage",
    "power",
    "energy",
    "limit",
    "lease",
    "commitment",
    "grant",
    "load",
    "room",
)
UNITS = {"ma", "mv", "w", "wh", "s", "min", "pct"}
INTEGERS = {"ma", "mv", "w", "wh", "pct"}
NUMBERS = {"int", "float"}


def is_dataclass_node(node: ast.ClassDef) -> bool:
    """Named tuples are their likes."""
    kinds = " ".join(ast.unparse(each) for each in (*node.decorator_list, *node.bases))
    return "dataclass" in kinds or "NamedTuple" in kinds


def complaints(source: str) -> list[str]:
    """What is wrong with the dataclass fields of a module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or not is_dataclass_node(node):
            continue
        for field in node.body:
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            name, words = field.target.id, field.target.id.split("_")
            kinds = {part.id for part in ast.walk(field.annotation) if isinstance(part, ast.Name)}
            if not kinds & NUMBERS:
                continue
            if any(word in QUANTITIES for word in words) and words[-1] not in UNITS:
                found.append(f"{node.name}.{name}: a quantity without its unit")
            if words[-1] in INTEGERS and "float" in kinds:
                found.append(f"{node.name}.{name}: a float where the house counts in whole mA, mV, W, Wh, %")
            if words[-1] in {"a", "v", "kw", "kwh", "amps", "volts"}:
                found.append(f"{node.name}.{name}: amps, volts and kW live only at the edges")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "controller" / "core").glob("*.py")), ids=lambda p: p.stem)
def test_core_fields_carry_their_units(path: Path) -> None:
    assert complaints(path.read_text()) == []


@pytest.mark.parametrize(
    "field",
    [
        "limit: int",
        "limit_ma: float",
        "limit_a: int",
        "power: int | None",
        "current: PerPhase[int | None]",
        "max_kw: float",
    ],
)
def test_a_bad_field_is_found(field: str) -> None:
    source = f"@dataclass(frozen=True, slots=True)\nclass Thing:\n    {field}\n"
    assert complaints(source)


@pytest.mark.parametrize("field", ["limit_ma: int", "lease_s: float", "limit: Limit", "power_w: int | None"])
def test_a_good_field_is_left_alone(field: str) -> None:
    assert complaints(f"@dataclass\nclass Thing:\n    {field}\n") == []
