"""`depot verify` on a state folder: clean where all holds, one line for everything that does not."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from nights import night
from plant import START

from controller.cli import main
from controller.core.commands import Audited, RecordSaved, SessionSaved
from controller.core.model import EvseId, each_phase
from controller.core.proof import Proof
from controller.journal import FOLDER, Journal
from controller.journal_read import blocks, files
from controller.ledger import Ledger
from controller.storage import LEDGER, Storage

A = EvseId("s0/1")


def session(id: str, counted_wh: int, until_wh: int, marks: tuple[str, ...] = ()) -> SessionSaved:
    ended = START + timedelta(hours=1)
    return SessionSaved(id, A, "t1", None, None, START, ended, counted_wh, 1_000, until_wh, "Local", marks)


def record(session: str | None, energy_wh: int, gap_wh: int | None) -> RecordSaved:
    ended = START + timedelta(hours=1)
    return RecordSaved(f"r-{session}", A, session, START, ended, energy_wh, gap_wh, None, None)


def lived(folder: Path, steps: list[list[Proof]], *entries: SessionSaved | RecordSaved) -> None:
    """Several processes, one after the other, each with its own steps."""

    async def live(mine: list[Proof]) -> None:
        storage = Storage(folder)
        await storage.open()
        try:
            ledger = Ledger(storage)
            await ledger.append((Audited(START, "depot", "started", "law", ""), *entries))
            journal = Journal(folder, "config", ledger)
            journal.open()
            for proof in mine:
                journal.observe(proof)
            journal.close()
        finally:
            await storage.close()

    for mine in steps:
        asyncio.run(live(mine))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    proofs = night(2, seconds=180)
    lived(
        tmp_path,
        [proofs[:100], proofs[100:]],
        session("s1", 5_000, 6_000),
        session("s2", 5_000, 500, ("register-reset",)),
        record("s1", 5_050, 50),
    )
    return tmp_path


Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    def run(folder: Path, *more: str) -> tuple[int, str]:
        code = main(["verify", "--storage", str(folder), *more])
        return code, "".join(capsys.readouterr())

    return run


def test_a_sound_folder_is_clean(sound: Path, verify: Verify) -> None:
    code, said = verify(sound)
    assert code == 0, said
    assert "181 steps" in said
    assert re.search(
        r"fuse    0 breaches; \d+ times the limit could be exceeded without a raise of ours", said
    )
    assert "chains  hold" in said
    assert "BROKEN" not in said
    code, said = verify(sound, "--json")
    assert code == 0
    assert json.loads(said)["clean"] is True


def test_a_breach_is_told_with_its_place_and_its_ampere_seconds(tmp_path: Path, verify: Verify) -> None:
    """The copper was thinner than the controller thought."""
    proofs = night(0, metered=False, seconds=60)
    site = proofs[0].site
    thin = replace(site.circuits[site.evses[A].circuit], limit_ma=each_phase(30_000))
    thinner = replace(site, circuits={**site.circuits, thin.id: thin})
    lived(tmp_path, [[replace(proof, site=thinner) for proof in proofs]])
    code, said = verify(tmp_path)
    assert code == 1
    assert "BREACH" in said
    assert "board L1: raised into room that was not there, " in said
    breach = next(b for b in json.loads(verify(tmp_path, "--json")[1])["breaches"] if b["law"] == "raise")
    assert breach["where"] == "board L1"
    assert 0 < breach["worst_ma"] <= 10_000
    assert breach["amp_s"] == pytest.approx(breach["worst_ma"] / 1000 * breach["lasted_s"], rel=0.6)


def cut_off_the_end(folder: Path) -> None:
    path = files(folder / FOLDER)[-1]
    with path.open("r+b") as file:
        file.truncate(next(blocks(path)).ends)


def change_a_byte(folder: Path) -> None:
    path = files(folder / FOLDER)[0]
    data = bytearray(path.read_bytes())
    at = next(blocks(path)).ends - 6
    data[at] ^= 1
    path.write_bytes(bytes(data))


def leave_a_block_out(folder: Path) -> None:
    path = files(folder / FOLDER)[0]
    first, *_ = blocks(path)
    path.write_bytes(path.read_bytes()[first.ends :])


def take_it_away(folder: Path) -> None:
    for path in files(folder / FOLDER):
        path.unlink()


def statement(text: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        with closing(sqlite3.connect(folder / LEDGER)) as db:
            db.execute(text)
            db.commit()

    return run


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (change_a_byte, "BROKEN  journal block 1 .* was changed after it was written"),
        (leave_a_block_out, "BROKEN  journal blocks 1 to 1 are missing"),
        (take_it_away, r"BROKEN  journal block \d+, the newest on .*, is missing"),
        (cut_off_the_end, r"BROKEN  journal block \d+, the newest on .*, is missing"),
        (statement("UPDATE audit SET by = 'eve' WHERE id = 1"), "BROKEN  audit row 1 .* was changed"),
        (statement("DELETE FROM audit WHERE id = 3"), "BROKEN  audit rows 3 to 3 are missing"),
        (
            statement("UPDATE sessions SET energy_wh = 4000 WHERE id = 's1'"),
            "ENERGY  session s1 at s0/1: 4.00 kWh were counted, its register moved by 5.00",
        ),
        (
            statement("UPDATE records SET gap_wh = 900"),
            "ENERGY  session s1 at s0/1: the charger's record says 5.05 kWh, ours 4.15",
        ),
    ],
)
def test_what_was_done_to_it_shows(
    sound: Path, verify: Verify, tamper: Callable[[Path], None], said: str
) -> None:
    tamper(sound)
    code, out = verify(sound)
    assert code == 1
    assert any(re.match(said, line) for line in out.splitlines()), out


def test_a_record_that_no_session_explains_is_a_note(tmp_path: Path, verify: Verify) -> None:
    lived(tmp_path, [night(0, seconds=5)], record(None, 3_000, None))
    code, said = verify(tmp_path)
    assert code == 0
    assert "note    record r-None of s0/1: 3.00 kWh that no session of ours explains" in said


def test_since_leaves_out_what_is_older(sound: Path, verify: Verify) -> None:
    code, said = verify(sound, "--since", "2099-01-01T00:00")
    assert code == 0
    assert "journal is empty: 0 steps" in said


def test_a_folder_that_is_none(tmp_path: Path, verify: Verify) -> None:
    code, said = verify(tmp_path / "nowhere")
    assert code == 1
    assert said.startswith(f"depot: {tmp_path}/nowhere/depot.db: there is none; is this the state folder")
    (tmp_path / LEDGER).write_bytes(b"no database at all" * 100)
    code, said = verify(tmp_path)
    assert code == 1
    assert "not a database" in said
