"""[storage]: how long the books keep what is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config import ConfigError, Keep, describe, load

DAY_S = 86_400.0
SITE = """
[site]
name = "Yard"
timezone = "Europe/Amsterdam"
limit = "100 A"
assumed_load = "10 A"
[storage]
"""


def written(folder: Path, lines: str) -> Path:
    path = folder / "depot.toml"
    path.write_text(SITE + lines)
    return path


def test_everything_is_kept_unless_it_is_said(tmp_path: Path) -> None:
    assert load(written(tmp_path, 'path = "state"')).keep == Keep()


def test_each_kind_has_its_time(tmp_path: Path) -> None:
    lines = 'keep_sessions = "3650 d"\nkeep_tokens = "90 d"\nkeep_alarms = "400 d"\nkeep_audit = "730 d"\n'
    config = load(written(tmp_path, lines))
    assert config.keep == Keep(3650 * DAY_S, 90 * DAY_S, 400 * DAY_S, 730 * DAY_S)
    told = "kept for: sessions 3650 d, id tokens in them 90 d, alarms 400 d, audit 730 d\n"
    assert told in describe(config)


def test_what_is_kept_for_ever_is_no_line_of_the_check(tmp_path: Path) -> None:
    assert "kept for: audit 90 d\n" in describe(load(written(tmp_path, 'keep_audit = "90 d"')))
    assert "kept for" not in describe(load(written(tmp_path, 'path = "state"')))


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('keep_sessions = "30 d"', '"30 d" is not between 400 d and 7305 d'),
        ('keep_tokens = "1 h"', "is not between 1 d and 7305 d"),
        ('keep_audit = "30 years"', "is not a duration"),
        ("keep_alarms = 30", "30"),
        ('keep_session = "400 d"', "keep_session"),
    ],
)
def test_what_cannot_be_is_said_with_its_line(tmp_path: Path, line: str, part: str) -> None:
    with pytest.raises(ConfigError) as said:
        load(written(tmp_path, line))
    assert part in str(said.value)
    assert ":8: " in str(said.value)
