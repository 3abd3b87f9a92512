"""Sessions as comma-separated values, for `depot sessions --csv` and for the key that saves them.

Owns the columns and what a cell may hold; files are made so that nobody else can read them and none is written over.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

COLUMNS = (
    "id", "evse", "transaction", "token", "vehicle", "started", "ended", "energy_wh", "register_start_wh",
    "register_wh", "record_wh", "gap_wh", "cost", "currency", "stop_reason", "marks",
)  # fmt: skip


def write(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([safe(_cell(row.get(column))) for column in columns] for row in rows)


def save(name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Returns where they are. Raises OSError, FileExistsError among them, and RuntimeError for a `~` that is nobody's."""
    path = Path(name).expanduser().absolute()
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
        write(file, COLUMNS, rows)
    return path


def safe(cell: str) -> str:
    """What a station or driver wrote must not be a formula where the file is opened; numbers stay numbers."""
    if cell[:1] in ("=", "@", "\t", "\r") or (cell[:1] in ("+", "-") and not _is_number(cell)):
        return f"'{cell}"
    return cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
