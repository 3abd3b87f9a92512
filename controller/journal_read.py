"""The journal as files: what a block looks like, how blocks hang together, and their rows as plain values.

Standard library alone, and nothing of ours: whoever judges the controller by its journal (controller.checker) must not
rest on the controller's own code. Must not write.

One file per day (UTC), one block per minute or so, appended only:
    a line of JSON: n (number), prev, hash, first, last (times), bytes; then that many bytes of xz; then a line feed
`hash` is the SHA-256 over prev, n, first, last and the bytes, so that a changed, removed or cut-off block shows.
Inside, JSON lines: the site, then one row per step. The first row is whole; the next ones hold what changed:
    t mono_s   u utc in ms   x false: the clock was not trusted
    c {circuit: [background to lower by L1 L2 L3, to raise by L1 L2 L3, sight]}   m {circuit: [L1, L2, L3, taken_s]}
    r {resource: [room to lower by, to raise by, out of reach]}   b, q: bounds and quotas beside the circuits' limits
    e {evse: [fallback, alone, proven, accepted, until, sent, holds, overdraw, until, refusals]}
    d {evse: what it asks for}   g {evse: [grant, bound by, takes limits, grant before]}
    p {evse: phases its vehicle uses}   s: EVSEs that are granted their first conductor alone
    w: limits that were sent in this step   h: what became of earlier ones since the last step
A limit (in w, e and its sent and holds) for one phase ends with a 1.
Currents in mA. A key whose value is null inside such a table is gone.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
VERSION = 1
SUFFIX = ".journal"
TABLES = ("c", "m", "r", "e", "d", "g")
ONCE = ("w", "h")  # of this step alone
META_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    previous: str
    hash: str
    first: str
    last: str
    data: bytes
    begins: int = 0  # where it lies in its file
    ends: int = 0

    @property
    def genuine(self) -> bool:
        return self.hash == block_hash(self.previous, self.number, self.first, self.last, self.data)

    def lines(self) -> Iterator[Row]:
        """The site, then the rows as they were written. Raises ValueError."""
        try:
            text = lzma.decompress(self.data)
        except lzma.LZMAError as error:
            raise ValueError(f"block {self.number}: {error}") from None
        for line in text.splitlines():
            yield json.loads(line)


def block_hash(previous: str, number: int, first: str, last: str, data: bytes) -> str:
    return hashlib.sha256(f"{previous} {number} {first} {last} ".encode() + data).hexdigest()


def files(folder: Path) -> list[Path]:
    """Oldest first: they are named by their first block and its day."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())


def blocks(path: Path) -> Iterator[Block]:
    """The whole blocks of one file; a last one that was cut off while it was written is left out. Raises ValueError where
    the file is not a journal, OSError."""
    with path.open("rb") as file:
        at = 0
        while line := file.readline(META_BYTES):
            try:
                meta = json.loads(line)
                number, size = int(meta["n"]), int(meta["bytes"])
                names = (meta["prev"], meta["hash"], meta["first"], meta["last"])
            except (ValueError, KeyError, TypeError):
                if not line.endswith(b"\n"):
                    return
                raise ValueError(f"{path.name}: no block at byte {at}") from None
            data = file.read(size)
            if len(data) < size or file.read(1) != b"\n":
                return
            yield Block(number, *names, data, at, file.tell())
            at = file.tell()


def rows(block: Block) -> Iterator[tuple[Row, Row]]:
    """The site and a whole row, step by step. A row is changed by the next one: keep nothing of it. Raises ValueError."""
    lines = block.lines()
    site = next(lines, None)
    if site is None or site.get("journal") != VERSION:
        raise ValueError(f"block {block.number}: not of version {VERSION}")
    row: Row = {name: {} for name in TABLES}
    for change in lines:
        for name in ONCE:
            row[name] = ()
        for name, value in change.items():
            if name not in TABLES:
                row[name] = value
                continue
            table = row[name]
            for key, item in value.items():
                if item is None:
                    table.pop(key, None)
                else:
                    table[key] = item
        yield site, row
