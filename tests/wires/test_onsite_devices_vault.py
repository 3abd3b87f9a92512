"""What the on-site host keeps: written whole, read back, known again; a broken file is never thrown away."""

from __future__ import annotations

import asyncio
import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from drivers.errors import Misconfigured
from drivers.openplatform.vault import Vault, VaultFull

TODAY = date(2026, 6, 2)


async def opened(path: Path, today: date = TODAY) -> Vault:
    vault = Vault(path)
    await vault.open(today)
    return vault


async def test_everything_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "vault.json"
    first = await opened(path)
    secret = first.enrol("TP-1", "T", "M", "260420.0107")
    first.remember("CP1", {"1": {"plugged": True}})
    first.keep_schedule("CP1/1", {"schedule_id": "nights"})
    await first.commit()
    second = await opened(path)
    assert second.has_secret("TP-1", secret) and not second.has_secret("TP-1", secret + "x")
    assert not second.has_secret("TP-2", secret) and not second.has_secret("TP-2", "")
    assert second.memory("CP1") == {"1": {"plugged": True}} and second.memory("CP2") == {}
    assert second.schedule("CP1/1") == {"schedule_id": "nights"}
    assert second.device_id("TP-1") == first.device_id("TP-1") != second.device_id("TP-2")
    assert secret not in path.read_text() and path.stat().st_mode & 0o077 == 0


async def test_records_are_known_for_thirty_days(tmp_path: Path) -> None:
    path = tmp_path / "vault.json"
    vault = await opened(path)
    await vault.keep_record("TP-1", "old", TODAY)
    await vault.keep_record("TP-1", "new", TODAY + timedelta(days=20))
    later = await opened(path, TODAY + timedelta(days=31))
    assert later.has_record("TP-1", "new") and not later.has_record("TP-1", "old")
    assert not later.has_record("TP-2", "new")
    assert len((tmp_path / "vault.json.records").read_text().splitlines()) == 1


@pytest.mark.parametrize("cut", range(1, 24, 4))
async def test_a_torn_line_costs_that_record_only(tmp_path: Path, cut: int) -> None:
    path, journal = tmp_path / "vault.json", tmp_path / "vault.json.records"
    vault = await opened(path)
    await vault.keep_record("TP-1", "a", TODAY)
    await vault.keep_record("TP-1", "b", TODAY)
    os.truncate(journal, journal.stat().st_size - cut)
    after = await opened(path)
    assert after.has_record("TP-1", "a")
    await after.keep_record("TP-1", "c", TODAY)
    assert (await opened(path)).has_record("TP-1", "c")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "key": 5}'])
async def test_a_broken_file_stays_where_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vault.json"
    path.write_text(text)
    with pytest.raises(Misconfigured, match="cannot be read"):
        await opened(path)
    assert path.read_text() == text


async def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "vault.json"
    vault = await opened(path)
    before = path.read_text()
    (tmp_path / "vault.json.new").mkdir()
    vault.enrol("TP-1", "T", "M", "1")
    with pytest.raises(VaultFull):
        await vault.commit()
    assert path.read_text() == before
    (tmp_path / "vault.json.new").rmdir()
    await vault.commit()
    assert (await opened(path)).identity("TP-1") is not None


async def test_many_changes_at_once_end_with_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "vault.json"
    vault = await opened(path)

    async def change(number: int) -> None:
        vault.remember(f"CP{number}", {"n": number})
        await vault.commit()

    await asyncio.gather(*(change(number) for number in range(50)))
    after = await opened(path)
    assert [after.memory(f"CP{number}") for number in range(50)] == [{"n": number} for number in range(50)]
