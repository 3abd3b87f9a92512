"""Imports point inward, and names say something (DESIGN section 3, house rules 2 and 8). Read from the syntax tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("controller", "drivers", "ui")
EMPTY_WORDS = {"utils", "util", "common", "helper", "helpers", "manager", "services", "misc"}
LONGEST = 450
JUDGES = ("checker", "checker_books", "journal_read")  # of the controller: none of its code
DEFENCE = "long because"  # what the docstring of a longer file says
SHELL = (
    "audit",
    "channel_calls",
    "consent",
    "runtime",
    "ledger",
    "telemetry",
    "recorder",
    "remembered",
    "console",
    "config",
    "notify",
    "storage",
    "migrations",
    "schedule_file",
    "qualify",
    "qualify_checks",
    "qualify_scene",
    "plan_loop",
    "plan_calls",
    "outlook",
    "tariff_file",
    "proof_calls",
    "onboard_calls",
    "roster_calls",
    "roster_file",
    "roster_ics",
    "roster_store",
    "learning",
    "metrics",
    "metrics_door",
    "journal",
    "journal_rows",
    "verification",
    "evidence_calls",
    "export_calls",
    "history_calls",
    "checkpoint",
    "alarm_calls",
    "alarm_store",
    "log_calls",
    "preview_calls",
    "what_if",
    "what_if_calls",
    "frame_calls",
    "rights",
    "access_book",
    "calls",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> list[Path]:
    return sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))


def imported(source: str, module: str = "", is_package: bool = False) -> Iterator[str]:
    """Dotted names a module imports, functions and type-checking blocks included; relative ones made absolute."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def family(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "drivers" or len(parts) < 2 or parts[1] == "errors":
        return None
    return f"drivers.{parts[1]}"


def forbidden(module: str, name: str) -> str | None:
    """Why `module` may not import `name`, or None."""
    ours = within(name, *OURS)
    if within(module, "controller.core"):
        outside = name.split(".")[0] not in sys.stdlib_module_names
        impure = within(name, "asyncio", "logging", "time", "random", "os", "socket", "threading")
        if impure or (outside and not within(name, "controller.core")):
            return "the core is pure: standard library without I/O and clock, and itself"
    elif within(module, *(f"controller.{part}" for part in JUDGES)):
        outside = name.split(".")[0] not in sys.stdlib_module_names
        if outside and not within(name, *(f"controller.{part}" for part in JUDGES)):
            return "the judge shares no code with what it judges"
    elif within(module, "controller.planner"):
        if ours and not within(name, "controller.core", "controller.planner"):
            return "the planner sees the core only"
    elif family(module) is not None:
        own = family(module)
        assert own is not None
        if ours and not within(name, "controller.core", "controller.ports", "drivers.errors", own):
            return "a driver sees the core, the ports, the errors and its own family"
    elif within(module, "ui"):
        allowed = tuple(f"controller.core.{part}" for part in ("model", "units", "wire", "snapshot"))
        if ours and not within(name, *allowed, "ui"):
            return "the ui sees the snapshot only"
    elif within(module, *(f"controller.{part}" for part in SHELL)):
        wire = within(name, "drivers") and not within(name, "drivers.errors")
        return "the shell names no driver and no screen" if wire or within(name, "ui") else None
    elif within(module, "controller.ports", "controller.clock", "drivers.errors"):
        inward = not ours or within(name, "controller.core")
        return None if inward else "ports, clock and errors see the core only"
    return None


def weight(source: str) -> str | None:
    """Why a file is too long, or None."""
    lines = len(source.splitlines())
    if lines <= LONGEST or DEFENCE in (ast.get_docstring(ast.parse(source)) or ""):
        return None
    return f"{lines} lines: split it, or say in its docstring that it is {DEFENCE} ..."


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_imports_point_inward(path: Path) -> None:
    module = module_name(path)
    names = imported(path.read_text(), module, path.name == "__init__.py")
    assert [f"{name}: {why}" for name in names if (why := forbidden(module, name))] == []


def test_names_say_something() -> None:
    empty = [path for path in modules() if EMPTY_WORDS & set(path.stem.lower().split("_"))]
    folders = [
        path for path in ROOT.rglob("*") if path.name in EMPTY_WORDS and path.is_relative_to(ROOT / "tests")
    ]
    assert empty + folders == []


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_files_are_short_or_say_why_not(path: Path) -> None:
    assert weight(path.read_text()) is None


@pytest.mark.parametrize("path", [p for p in modules() if p.stat().st_size], ids=module_name)
def test_a_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


# --- the rules can fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("controller.core.depot", "import asyncio"),
        ("controller.core.depot", "from time import monotonic"),
        ("controller.core.depot", "import highspy"),
        ("controller.core.depot", "from controller import ports"),
        ("controller.core.depot", "from ..runtime import Runtime"),
        ("controller.checker", "from controller.core.units import parse_current_ma"),
        ("controller.journal_read", "from controller.core.wire import instant"),
        ("controller.planner.rules", "from controller.ledger import Ledger"),
        ("controller.planner.rules", "from drivers.errors import Refused"),
        ("drivers.ocpp.server", "from drivers.modbus import bus"),
        ("drivers.ocpp.server", "from drivers import openplatform"),
        ("drivers.ocpp.server", "from ..modbus import bus"),
        ("drivers.ocpp.server", "def late():\n    from controller.runtime import Runtime"),
        ("drivers.sim.charger", "from drivers.ocpp.v16 import words"),
        ("ui.app", "from controller.core.depot import Depot"),
        ("ui.app", "import controller.console"),
        ("controller.runtime", "from drivers.ocpp.server import OcppServer"),
        ("controller.console", "import ui.app"),
        ("controller.config.stations", "import drivers.modbus"),
        ("controller.ports", "import controller.runtime"),
    ],
)
def test_a_bad_import_is_found(module: str, statement: str) -> None:
    assert any(forbidden(module, name) for name in imported(statement, module))


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("controller.core.depot", "from dataclasses import dataclass\nfrom controller.core import events"),
        ("drivers.ocpp.server", "import websockets\nfrom drivers.errors import Refused\nfrom . import v16"),
        ("ui.app", "import textual\nfrom controller.core.model import EvseId"),
        ("controller.runtime", "from drivers.errors import Misconfigured"),
        ("controller.cli.compose", "from drivers.modbus.bus import ModbusMeters"),
        ("controller.__main__", "import ui.app"),
    ],
)
def test_a_good_import_is_left_alone(module: str, statement: str) -> None:
    assert not any(forbidden(module, name) for name in imported(statement, module))


def test_a_long_file_is_found_unless_it_says_why() -> None:
    assert weight("x = 1\n" * (LONGEST + 1))
    assert weight(f'"""One table, {DEFENCE} it is one table."""\n' + "x = 1\n" * LONGEST) is None
