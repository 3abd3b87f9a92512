"""Reading TOML tables: which keys are known, which are missing.

Owns the collection of problems (`Findings`) and the walk over one table (`Table`). A wrong value never
stops the reading: it is noted, and the rest of the file is still checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

from controller.config.lines import KeyPath
from controller.config.types import Problem
from controller.config.values import Wrong, identifier, nearest, quoted, shown

T = TypeVar("T")
D = TypeVar("D")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Findings:
    """Every problem of one file, each with the line of its key."""

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines

    def note(self, path: KeyPath, text: str, suggestion: str) -> None:
        where = ".".join(part if _BARE_KEY.fullmatch(part) else json.dumps(part[:60]) for part in path)
        self.problems.append(Problem(self._line_of(path), where, text, suggestion))

    def _line_of(self, path: KeyPath) -> int | None:
        """The line of the key, or of the innermost table around it that stands in the file."""
        for length in range(len(path), 0, -1):
            if (line := self._lines.get(path[:length])) is not None:
                return line
        return None


class Table:
    """One table of the file; its keys are checked against `known`."""

    def __init__(
        self,
        findings: Findings,
        path: KeyPath,
        values: Mapping[str, object],
        known: str,
    ) -> None:
        self.findings = findings
        self.path = path
        self._values = values
        names = known.split()
        for key in values:
            if key not in names:
                advice = nearest(key, names, f"known here: {', '.join(names)}")
                findings.note((*path, key), "unknown key", advice)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def matches(self, key: str, form: re.Pattern[str]) -> bool:
        """There is a text of this form."""
        value = self._values.get(key)
        return isinstance(value, str) and form.fullmatch(value) is not None

    def note(self, key: str, text: str, suggestion: str) -> None:
        self.findings.note((*self.path, key), text, suggestion)

    def required(self, key: str, read: Callable[[object], T], example: str) -> T | None:
        """The value, or None with the problem noted. `example` is what the line could look like."""
        if key not in self._values:
            self.note(key, "is missing", f"write {key} = {example}")
            return None
        return self.optional(key, read, None)

    def optional(self, key: str, read: Callable[[object], T], default: D) -> T | D:
        """The value; the default when it is absent, or wrong (then noted, and the file is refused anyway)."""
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except Wrong as wrong:
            self.note(key, wrong.text, wrong.suggestion)
            return default

    def table(self, key: str, known: str) -> Table | None:
        """The table below, or None when it is absent or not a table (then noted)."""
        if key not in self._values:
            return None
        values = self._values[key]
        if not isinstance(values, dict):
            self.note(key, f"{shown(values)} is not a table", f"write it as [{'.'.join((*self.path, key))}]")
            return None
        return Table(self.findings, (*self.path, key), values, known)

    def tables(self, key: str, known: str) -> Iterator[tuple[str, Table]]:
        """The tables below [key.ID] with their ids, in file order."""
        values = self._values.get(key, {})
        if not isinstance(values, dict):
            self.note(key, f"{shown(values)} is not a table", f"write it as [{key}.ID]")
            return
        for name, below in values.items():
            path = (*self.path, key, name)
            try:
                identifier(name)
            except Wrong as wrong:
                self.findings.note(path, wrong.text, wrong.suggestion)
                continue
            if not isinstance(below, dict):
                self.findings.note(path, f"{shown(below)} is not a table", f"write it as [{key}.{name}]")
                continue
            yield name, Table(self.findings, path, below, known)

    def rows(self, key: str, known: str) -> tuple[Table, ...]:
        """The tables of the list under `key`; none when it is absent or holds something else (then noted)."""
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
            first = known.split()[0]
            self.note(
                key, f"{shown(values)} is not a list of tables", f'write it like [{{ {first} = "..." }}]'
            )
            return ()
        return tuple(Table(self.findings, (*self.path, key), row, known) for row in values)

    def names(self, key: str) -> tuple[str, ...]:
        """The ids of the tables below [key.ID], right or wrong: a reference to a wrong one is not blamed."""
        values = self._values.get(key)
        return tuple(values) if isinstance(values, dict) else ()

    def lacks(self, key: str) -> bool:
        """The key is absent, or an empty table."""
        return self._values.get(key, {}) == {}

    def refer(self, key: str, kind: str, declared: Collection[str]) -> str | None:
        """The id under `key`; noted when nothing declared bears it."""
        name = self.optional(key, identifier, None)
        if name is not None and name not in declared:
            advice = nearest(name, declared, f"add [{kind}.{name}] or name one that exists")
            self.note(key, f"{kind} {quoted(name)} does not exist", advice)
        return name
