"""Every gap of the Open Platform's documentation is accounted for: a setting that something reads, or a reason."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from controller.config.channels import CLIENT_KEYS, CLOUD_KEYS, ONSITE_KEYS, OPEN_PLATFORM_KEYS
from controller.config.stations import OPEN_PLATFORM_LINK_KEYS
from controller.core.readings import Readings, gaps_by_setting
from drivers.openplatform.gaps import Assumption, assumptions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "drivers" / "openplatform"
ENTRIES = tomllib.loads((FOLDER / "gaps.toml").read_text(encoding="utf-8"))
SETTINGS = [each.name for each in fields(Readings)]
KEYS = {
    f"{place}.{key}"
    for place, keys in {
        "open_platform": OPEN_PLATFORM_KEYS,
        "open_platform.cloud": CLOUD_KEYS,
        "open_platform.onsite": ONSITE_KEYS,
        "open_platform.onsite.clients": CLIENT_KEYS,
        "station.open_platform": OPEN_PLATFORM_LINK_KEYS,
    }.items()
    for key in keys.split()
}
READ = {
    node.attr
    for path in FOLDER.glob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("readings")
}  # of any `readings`, in code and not in words about it


def test_all_34_are_there_in_order() -> None:
    assert list(assumptions()) == [f"G-{number:02}" for number in range(1, 35)]


@pytest.mark.parametrize("id", ENTRIES)
def test_an_entry_says_what_is_assumed_and_by_what(id: str) -> None:
    entry = ENTRIES[id]
    assert entry.keys() <= {each.name for each in fields(Assumption)} - {"id"}
    for name in ("title", "reading", "fixed", "not_offered"):
        assert isinstance(entry.get(name, ""), str) and len(entry.get(name, "")) < 260
    for name in ("settings", "keys"):
        assert name not in entry or (isinstance(entry[name], list) and entry[name])
    assert entry["title"] and entry["reading"].endswith(".")
    assert entry.keys() & {"settings", "keys", "fixed", "not_offered"}
    assert set(entry.get("keys", [])) <= KEYS


def test_every_setting_is_named_by_exactly_one_entry_and_belongs_to_it() -> None:
    named = Counter(setting for gap in assumptions().values() for setting in gap.settings)
    assert named == Counter(SETTINGS)
    gaps = gaps_by_setting()
    assert all(gaps[setting].id == gap.id for gap in assumptions().values() for setting in gap.settings)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_read_by_the_driver(setting: str) -> None:
    assert setting in READ


def test_nothing_is_read_that_is_no_setting() -> None:
    assert set(SETTINGS) >= READ
