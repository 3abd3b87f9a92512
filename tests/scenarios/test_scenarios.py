"""Every timeline in this folder, and the runner itself: an expectation that is not met must be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from timeline import play

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_timeline(path: Path) -> None:
    play(path)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('reserves = { VAN1 = "32 A" }', 'reserves = { VAN1 = "31 A" }', AssertionError),
        ('sends = ["VAN1 limit 32 A"]', "sends = []", AssertionError),
        ('"VAN1 connects"', '"VAN1 conects"', ValueError),
    ],
)
def test_a_wrong_timeline_is_seen(tmp_path: Path, old: str, new: str, error: type[Exception]) -> None:
    text = (FOLDER / "dead-link.toml").read_text()
    assert old in text
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace(old, new))
    with pytest.raises(error):
        play(wrong)
