"""`depot tokens` against a running depot: the book is changed, kept over a restart, and read from files whole or not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_depot import TOKENS, caller, small_depot
from typed import Said, typed

from controller.core.model import IdToken
from controller.token_calls import MOST_AT_ONCE


def said(capsys: pytest.CaptureFixture[str], live: Path, *arguments: str) -> Said:
    return typed(capsys, "tokens", *arguments, "--socket", str(live))


def book(capsys: pytest.CaptureFixture[str], live: Path) -> dict[str, dict[str, object]]:
    code, out, _ = said(capsys, live, "list", "--json")
    assert code == 0
    return {token["token"]: token for token in json.loads(out)["tokens"]}


def test_add_change_block_and_remove(capsys: pytest.CaptureFixture[str], live: Path) -> None:
    assert book(capsys, live)["04A2B3C4"]["vehicle"] == "BUS-07", "the config's vehicles are there"
    assert said(
        capsys, live, "add", "CARD1", "--group", "night", "--expires", "2027-12-31", "--note", "spare"
    ) == (0, "stored: CARD1\n", "")
    assert book(capsys, live)["CARD1"] == {
        "token": "CARD1",
        "group": "night",
        "expires": "2027-12-31T22:59:59Z",
        "blocked": False,
        "vehicle": None,
        "concurrent": False,
        "configured": False,
        "note": "spare",
    }
    said(capsys, live, "add", "card1", "--blocked", "--vehicle", "BUS-07")
    changed = book(capsys, live)["CARD1"]
    assert (changed["blocked"], changed["vehicle"], changed["group"]) == (True, "BUS-07", "night")
    said(capsys, live, "add", "CARD1", "--unblocked")
    assert book(capsys, live)["CARD1"]["blocked"] is False
    assert "CARD1" in said(capsys, live, "list")[1]
    assert said(capsys, live, "remove", "card1")[:2] == (0, "removed: CARD1\n")
    assert "CARD1" not in book(capsys, live)


@pytest.mark.parametrize(
    ("arguments", "wrong", "error"),
    [
        (("add", "x" * 37), 2, "1 to 36 printable characters"),
        (("add", "CARD", "--vehicle", "BUS-99"), 1, "no vehicle 'BUS-99'"),
        (("add", "CARD", "--expires", "soon"), 2, '"soon" is not a time'),
        (("remove", "NOBODY"), 1, "no such token"),
        (("remove", "04A2B3C4"), 1, "belongs to BUS-07 in the config"),
        (("import", "/nowhere.csv"), 1, "No such file"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], live: Path, arguments: tuple[str, ...], wrong: int, error: str
) -> None:
    code, _, err = said(capsys, live, *arguments)
    assert code == wrong
    assert error in err
    assert err.count("\n") == 1


def test_a_file_is_imported_whole(capsys: pytest.CaptureFixture[str], live: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    rows = [f"CARD{number},BUS-07,,no,2027-01-01" for number in range(MOST_AT_ONCE + 30)]
    file.write_text("\ufeffToken,vehicle,group,blocked,expires\n" + "\n".join(rows), encoding="utf-8")
    assert said(capsys, live, "import", str(file))[1] == f"stored: {MOST_AT_ONCE + 30} tokens\n"
    assert book(capsys, live)["CARD7"]["vehicle"] == "BUS-07"
    file.write_text("token,note\nCARD7,kept\n")
    assert said(capsys, live, "import", str(file), "--replace")[1] == (
        f"stored: 1 tokens, removed: {MOST_AT_ONCE + 29}\n"
    )
    kept = book(capsys, live)
    assert kept.keys() == {"CARD7", *TOKENS.values()}
    assert (kept["CARD7"]["vehicle"], kept["CARD7"]["note"]) == ("BUS-07", "kept")


def test_a_file_with_mistakes_changes_nothing_and_names_each(
    capsys: pytest.CaptureFixture[str], live: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text(
        "token,blocked,expires\nCARD1,no,\n,no,\ncard1,no,\nCARD2,perhaps,\nCARD3,no,soon\nA,no,,x\n"
    )
    before = book(capsys, live)
    code, _, err = said(capsys, live, "import", str(file))
    assert code == 1
    for line, text in (
        (3, "missing"),
        (4, "line 2 already"),
        (5, "perhaps"),
        (6, "soon"),
        (7, "more fields"),
    ):
        assert any(f"tokens.csv:{line}: " in each and text in each for each in err.splitlines()), (line, err)
    assert book(capsys, live) == before
    file.write_text("id,vehicle\nCARD1,BUS-07\n")
    assert "no column token" in said(capsys, live, "import", str(file))[2]


async def test_the_book_outlives_a_restart(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot, caller(depot.socket) as client:
        await client.call("tokens-set", tokens=[{"token": "CARD1", "group": "g"}, {"token": "CARD2"}])
        await client.call("token-remove", token="CARD2")
        version = depot.runtime.depot.tokens.version
    async with small_depot(tmp_path) as depot:
        tokens = depot.runtime.depot.tokens
        assert tokens.find("card1") == IdToken("CARD1", group="g")
        assert tokens.find("CARD2") is None
        assert tokens.version == version
    assert os.stat(tmp_path / "state" / "depot.db").st_mode & 0o077 == 0
