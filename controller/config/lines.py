"""Where every key of a TOML text stands: `tomllib` gives values without lines, this gives the lines.

Owns the map from key path to line. Must only be shown text that `tomllib` accepted: it does not judge, it
finds. Source: TOML 1.0.0, sections Keys, Table, Inline Table. Keys of tables inside arrays are not listed;
ask for the array.
"""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str, ...]

# Deeper than any key of the config; bounds the work for a dotted key made of thousands of dots.
_DEEPEST = 8

_TOKEN = re.compile(
    r"""
    (?P<newline>\n)
  | (?P<comment>\#[^\n]*)
  | (?P<quoted>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
  | (?P<mark>[\[\]{}=,])
  | (?P<plain>[^\n\#"'\[\]{}=,]+)
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(source: str) -> dict[KeyPath, int]:
    """The line (from 1) of every header and key, and the first line of every table that is only implied."""
    scanner = _Scanner()
    for token in _TOKEN.finditer(source):
        scanner.take(token.lastgroup or "", token.group())
    return scanner.lines


class _Scanner:
    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._line = 1
        self._table: KeyPath = ()  # of the last header
        self._open: list[KeyPath | None] = []  # the inline table of every open bracket; None: inside an array
        self._key = ""  # raw text of the key being read
        self._path: KeyPath = ()  # of the last key
        self._in_key = True
        self._in_header = False

    def take(self, kind: str, text: str) -> None:
        if kind == "mark":
            self._mark(text)
        elif kind == "newline":
            self._line += 1
            if not self._open:
                self._expect_key()
        elif kind != "comment":
            self._line += text.count("\n")
            if self._in_key:
                self._key += text

    def _mark(self, mark: str) -> None:
        match mark:
            case "[" if self._in_key and not self._open:
                self._in_header = True
            case "]" if self._in_header:
                if self._in_key:  # the second "]" of an array of tables finds the key already read
                    self._table = self._record(())
                self._in_key = False
            case "=" if self._in_key:
                self._path = self._record((self._open[-1] or ()) if self._open else self._table)
                self._in_key = False
            case "[":
                self._open.append(None)
            case "{":
                self._open.append(None if None in self._open else self._path)
                self._expect_key()
            case ",":
                self._expect_key()
            case "]" | "}":
                self._open.pop()
                self._in_key = False

    def _expect_key(self) -> None:
        self._key = ""
        self._in_key = None not in self._open
        self._in_header = False

    def _record(self, prefix: KeyPath) -> KeyPath:
        path = prefix + _parts(self._key)
        path = path[:_DEEPEST]
        for length in range(1, len(path)):
            self.lines.setdefault(path[:length], self._line)
        self.lines[path] = self._line
        return path


def _parts(key: str) -> KeyPath:
    """The parts of a dotted, perhaps quoted key; tomllib itself knows best how to read them."""
    parts = []
    node: object = tomllib.loads(f"{key} = 0")
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts)
