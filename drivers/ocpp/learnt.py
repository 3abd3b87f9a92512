"""What stations were seen to need, kept over a restart: which rows of the dialects were learnt, and of which firmware.

Owns one small file of mode 0600, written as a whole and only when something changed. It is a convenience: a file that
cannot be read is one line in the log and everything is learnt anew, and whoever removes it has the stations learnt anew.
Names only are kept; what a row does is what the table says today. Must not decide what is learnt (`dialects`,
`delivery`). Another firmware, or another version of OCPP, is learnt anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from controller.core.model import StationId
from drivers.ocpp.dialects import ROWS, Manners
from drivers.ocpp.keys import replace_file

log = logging.getLogger(__name__)

FILE = "ocpp-learnt.json"
_MOST_BYTES = 1_000_000
_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Fact:
    """Of one station. `said`: vendor, model and firmware; `learnt`: names of rows."""

    channel: str
    said: tuple[str, str, str]
    learnt: tuple[str, ...]


class Learnt:
    """Bounded by the stations of the config and the rows of the table. Without a `path` nothing outlives the process."""

    def __init__(self, stations: Iterable[StationId], path: Path | None = None) -> None:
        self._stations = frozenset(stations)
        self._path = path
        self._held: dict[StationId, _Fact] = {}
        self._stored = self._content()
        self._saving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Reads what earlier runs learnt. Never raises."""
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(_MOST_BYTES))["stations"].items()
            known = {StationId(name): _read(raw) for name, raw in found if name in self._stations}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning(
                "%s cannot be read, so the ways of stations are learnt anew: %s", self._path, _short(error)
            )
            return
        self._held = known
        self._stored = self._content()

    def adopt(self, station: StationId, channel: str, manners: Manners) -> None:
        """What was learnt of the station in these words counts again; what changes from now on is kept."""
        held = self._held.get(station)
        if held is not None and held.channel == channel:
            manners.recall(held.said, held.learnt)
            log.info("%s: learnt in an earlier run: %s", station, ", ".join(manners.learnt))
        manners.changed = partial(self._note, station, channel, manners)

    async def settle(self) -> None:
        """Returns when nothing is being written any more."""
        if self._saving is not None:
            await self._saving

    def _note(self, station: StationId, channel: str, manners: Manners) -> None:
        if manners.said is not None and manners.learnt:
            self._held[station] = _Fact(channel, manners.said, manners.learnt)
        else:  # nothing, or nobody knows yet of which firmware
            self._held.pop(station, None)
        if self._path is not None and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save(self._path))

    async def _save(self, path: Path) -> None:
        while (content := self._content()) != self._stored:
            try:
                await asyncio.to_thread(replace_file, path, content)
            except OSError as error:
                log.warning("%s: what was learnt of stations is not stored: %s", path, _short(error))
                return
            self._stored = content

    def _content(self) -> bytes:
        stations = {station: asdict(self._held[station]) for station in sorted(self._held)}
        return json.dumps({"version": _VERSION, "stations": stations}, indent=1).encode()


def _read(raw: dict[str, Any]) -> _Fact:
    channel, said, learnt = raw["channel"], raw["said"], raw["learnt"]
    if not isinstance(said, list) or not isinstance(learnt, list) or len(learnt) > ROWS:
        raise ValueError("a station in it has no list of names")
    if len(said) != 3 or not all(isinstance(word, str) for word in (channel, *said, *learnt)):
        raise ValueError("a station in it has words that are none")
    return _Fact(channel, (said[0], said[1], said[2]), tuple(learnt))


def _short(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"missing {error}" if isinstance(error, KeyError) else str(error)[:200]
