"""The journal on disk: a chain of blocks that survives what happens to boxes, and shows what was done to it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from nights import night
from plant import depot_site

from controller import journal as journal_module
from controller.core.commands import Audited, Entry
from controller.core.proof import Proof
from controller.journal import Journal
from controller.journal_read import Block, blocks, files, rows


class Noted:
    """The ledger, as far as the journal knows it."""

    def __init__(self) -> None:
        self.rows: list[Audited] = []

    def append(self, entries: Sequence[Entry]) -> None:
        self.rows += [entry for entry in entries if isinstance(entry, Audited)]


@pytest.fixture(scope="module")
def proofs() -> list[Proof]:
    """Minutes in which the commitments always fit."""
    return [replace(proof, short=False, site=depot_site(True)) for proof in night(1, seconds=200)]


def written(folder: Path, proofs: Sequence[Proof], noted: Noted | None = None) -> list[Block]:
    """A process that sees these steps and ends."""
    site = proofs[0].site
    journal = Journal(folder, "config", noted or Noted())
    journal.open()
    for proof in proofs:
        journal.observe(replace(proof, site=site))
    journal.close()
    return kept(folder)


def kept(folder: Path) -> list[Block]:
    return [block for path in files(folder / journal_module.FOLDER) for block in blocks(path)]


def file_of(folder: Path) -> Path:
    return files(folder / journal_module.FOLDER)[-1]


def test_every_step_is_there_a_minute_to_a_block(tmp_path: Path, proofs: list[Proof]) -> None:
    found = written(tmp_path, proofs)
    assert [block.number for block in found] == [1, 2, 3, 4]
    assert all(block.genuine for block in found)
    assert [block.previous for block in found[1:]] == [block.hash for block in found[:-1]]
    steps = [row["t"] for block in found for _, row in rows(block)]
    assert steps == [proof.at.mono_s for proof in proofs]


def test_the_chain_goes_on_after_a_restart(tmp_path: Path, proofs: list[Proof]) -> None:
    first = written(tmp_path, proofs[:90])
    both = written(tmp_path, proofs[90:])
    assert [block.number for block in both] == list(range(1, len(both) + 1))
    assert both[len(first)].previous == first[-1].hash
    assert len(files(tmp_path / journal_module.FOLDER)) == 1


def test_a_block_that_was_cut_off_in_the_middle_is_written_over(tmp_path: Path, proofs: list[Proof]) -> None:
    whole = written(tmp_path, proofs[:90])
    with file_of(tmp_path).open("ab") as file:
        file.write(b'{"n":3,"prev":"x","hash":"y","first":"","last":"","bytes":5000}\nhalf of it')
    assert kept(tmp_path) == whole
    again = written(tmp_path, proofs[90:])
    assert again[: len(whole)] == whole
    assert again[len(whole)].previous == whole[-1].hash


def test_a_block_ends_when_commitments_begin_not_to_fit(tmp_path: Path, proofs: list[Proof]) -> None:
    """A main fuse that trips takes our own power away."""
    found = written(tmp_path, [replace(p, short=20 <= n < 30) for n, p in enumerate(proofs[:50])])
    assert [block.last for block in found] == [text(proofs[20]), text(proofs[49])]


def text(proof: Proof) -> str:
    return proof.at.utc.isoformat().replace("+00:00", "Z")


def test_a_day_is_a_file_and_the_audit_names_its_first_block(tmp_path: Path, proofs: list[Proof]) -> None:
    noted, day = Noted(), timedelta(days=1)
    for number in range(20):
        moved = [replace(p, at=p.at._replace(utc=p.at.utc + number * day)) for p in proofs[:3]]
        written(tmp_path, moved, noted)
    assert len(files(tmp_path / journal_module.FOLDER)) == journal_module.KEEP_FILES
    found = kept(tmp_path)
    assert [block.number for block in found] == list(range(6, 21))
    assert len(noted.rows) == 20
    assert (noted.rows[-1].what, noted.rows[-1].subject, noted.rows[-1].detail) == (
        "journal",
        "block 19",
        found[-2].hash,
    )


def test_a_full_disk_costs_blocks_and_one_line(
    tmp_path: Path, proofs: list[Proof], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sound, full = os.write, [False]

    def write(file: int, data: bytes) -> int:
        if full[0]:
            sound(file, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sound(file, data)

    monkeypatch.setattr(os, "write", write)
    journal = Journal(tmp_path, "config", Noted())
    journal.open()
    for n, part in enumerate((proofs[:60], proofs[60:120], proofs[120:180], proofs[180:200])):
        full[0] = n in (1, 2)
        for proof in part:
            journal.observe(replace(proof, site=proofs[0].site))
        journal.flush()
        journal._thread.submit(lambda: None).result()  # what was handed over is written
    journal.close()
    found = kept(tmp_path)
    assert [block.number for block in found] == [1, 2]
    assert found[1].previous == found[0].hash
    assert next(row["t"] for _, row in rows(found[1])) == proofs[180].at.mono_s
    assert caplog.text.count("No space left on device; the proof") == 1
    assert caplog.text.count("written again") == 1


def test_a_disk_that_hangs_holds_nobody_up(
    tmp_path: Path, proofs: list[Proof], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate, sound = threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (gate.wait(10), sound(file))[1])
    journal = Journal(tmp_path, "config", Noted())
    journal.open()
    for proof in proofs[:20]:
        journal.observe(replace(proof, site=proofs[0].site))
        journal.flush()
    gate.set()
    journal.close()
    assert len(kept(tmp_path)) == journal_module.WAITING
    assert caplog.text.count("the disk is too slow") == 1


def test_a_file_that_is_no_journal_is_left_alone(
    tmp_path: Path, proofs: list[Proof], caplog: pytest.LogCaptureFixture
) -> None:
    whole = written(tmp_path, proofs[:60])
    with file_of(tmp_path).open("ab") as file:
        file.write(b"something else\n")
    with pytest.raises(ValueError, match="no block at byte"):
        written(tmp_path, proofs[60:70])
    assert len(files(tmp_path / journal_module.FOLDER)) == 2
    last = list(blocks(file_of(tmp_path)))
    assert last[0].previous == whole[-1].hash
    assert "no block at byte" in caplog.text
