"""Dialects: what stations do otherwise than the book says, and which switches repair it. The data is `dialects.toml`.

Owns the table, how a row is recognised (what a station says of itself, its configuration, what it was seen to do) and
the switches a row sets. Pure: what the switches do is in `delivery`, `hearing`, `setup`, `profiles` and `v2_orders`. No
switch can make a limit larger than it was commanded. Source: field notes of operators, named in every row.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any

ROWS = 64
PAUSES = ("zero", "six_amp", "remote_stop")
_ENTRY_KEYS = {"row", "name", "what", "source", "at", "learn", "seen", "repair", "handled", "tests"}
_MATCH_KEYS = {"vendor", "model", "firmware", "upto", "keys", "repair"}


@dataclass(frozen=True, slots=True)
class Switches:
    """The defaults change nothing.

    stack_levels        the only ones it accepts
    profile_kind        the only kind of profile it follows ("Relative")
    tx_purpose          the purpose it takes while a transaction runs ("TxDefaultProfile")
    rate_unit           the only unit it follows ("W", "A"), whatever it says
    limit_key           the configuration key that takes whole amperes, where there are no profiles
    steps_a             the only currents it follows; below the lowest it pauses
    pause               what stands for a limit below the minimum while a transaction runs: "zero" is what was commanded;
                        "six_amp" its minimum at most, and the depot is told no; "remote_stop" the end of the transaction
    reserve             why its EVSEs have to count at their maximum, whatever it has stored
    resume_check        the first limit after a pause does nothing: it is said twice, watched, and reserved for
    ws_ping             whether it stands pings
    read_deny           configuration keys it must never be asked for
    measurands_exclude  what it must not be told to measure
    min_sample_s        the shortest interval of meter values it keeps
    version             the OCPP version it speaks well
    quiet_s             nothing is said to it for so long after its introduction
    setup_gap_s         between two questions of setup
    """

    stack_levels: tuple[int, ...] = ()
    profile_kind: str = ""
    tx_purpose: str = ""
    rate_unit: str = ""
    limit_key: str = ""
    steps_a: tuple[int, ...] = ()
    pause: str = "zero"
    reserve: str = ""
    resume_check: bool = False
    ws_ping: bool = True
    read_deny: tuple[str, ...] = ()
    measurands_exclude: tuple[str, ...] = ()
    min_sample_s: int = 0
    version: str = ""
    quiet_s: float = 0.0
    setup_gap_s: float = 0.0

    def with_these(self, repair: Mapping[str, Any]) -> Switches:
        return replace(self, **repair)


NONE = Switches()
_KINDS = {each.name: each.type for each in fields(Switches)}


@dataclass(frozen=True, slots=True)
class Match:
    """Patterns that are searched for, in any case; all of them must be found. `upto`: the newest firmware it is for.
    `keys`: configuration keys in small letters and patterns of their values."""

    vendor: str = ""
    model: str = ""
    firmware: str = ""
    upto: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    repair: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, vendor: str, model: str, firmware: str) -> bool:
        if self.keys:
            return False
        said = ((self.vendor, vendor), (self.model, model), (self.firmware, firmware))
        if not all(_found(pattern, text) for pattern, text in said):
            return False
        return not self.upto or _parts(firmware) <= _parts(self.upto)

    def fits_configuration(self, configuration: Mapping[str, str]) -> bool:
        return bool(self.keys) and all(
            name in configuration and _found(pattern, configuration[name])
            for name, pattern in self.keys.items()
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `at`: whose it is known to be; `learn`: it is also learnt from what a station does; `seen`: a pattern of the
    quirks it is counted by. `handled`: where the general code takes care of it. `tests`: who proves it."""

    row: int
    name: str
    what: str
    source: str
    tests: tuple[str, ...]
    at: tuple[Match, ...] = ()
    learn: bool = False
    seen: str = ""
    repair: Mapping[str, Any] = field(default_factory=dict)
    handled: str = ""


class Dialects:
    """The table. An empty one repairs nothing, learns nothing and counts nothing."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def named(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def of_station(self, vendor: str, model: str, firmware: str) -> dict[str, Mapping[str, Any]]:
        """Name -> repair of every row that is known of such a station."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self:
            match = next((each for each in entry.at if each.fits(vendor, model, firmware)), None)
            if match is not None:
                found[entry.name] = {**entry.repair, **match.repair}
        return found

    def of_configuration(self, configuration: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self:
            match = next((each for each in entry.at if each.fits_configuration(configuration)), None)
            if match is not None:
                found[entry.name] = {**entry.repair, **match.repair}
        return found

    def telling_keys(self) -> tuple[str, ...]:
        """Configuration keys that tell dialects apart, as they are written."""
        wanted = {match.repair.get("limit_key") or entry.repair.get("limit_key")
                  for entry in self for match in entry.at if match.keys}  # fmt: skip
        return tuple(sorted(str(key) for key in wanted if key))

    def counted_by(self, quirk: str) -> tuple[str, ...]:
        return tuple(entry.name for entry in self if entry.seen and re.search(entry.seen, quirk))


def _nothing() -> None:
    pass


class Manners:
    """What is known of one station: rows that fit it, and rows it was seen to need. Lives as long as the process; what was
    learnt is kept beyond it by `learnt`.

    pinned: the version it is to speak from its next connection on. changed: is called when any of it may be another.
    """

    def __init__(self, table: Dialects | None = None, pinned: str = "") -> None:
        self.table = table if table is not None else shipped()
        self.pinned = pinned
        self.switches = NONE
        self.changed: Callable[[], None] = _nothing
        self._introduced: Mapping[str, Mapping[str, Any]] = {}
        self._configured: Mapping[str, Mapping[str, Any]] = {}
        self._learnt: dict[str, Mapping[str, Any]] = {}
        self._said: tuple[str, str, str] | None = None
        self._counted: dict[str, tuple[str, ...]] = {}

    @property
    def said(self) -> tuple[str, str, str] | None:
        """Its vendor, model and firmware, as it introduced itself."""
        return self._said

    @property
    def learnt(self) -> tuple[str, ...]:
        return tuple(self._learnt)

    def recall(self, said: tuple[str, str, str], learnt: Iterable[str]) -> None:
        """As it was in an earlier run; it counts until the station introduces itself as another."""
        self.introduced(*said)
        for name in learnt:
            self.learn(name)

    def introduced(self, vendor: str, model: str, firmware: str) -> None:
        """Another firmware has to be learnt anew."""
        said = (vendor, model, firmware)
        if said == self._said:
            return
        if self._said is not None:
            self._learnt.clear()
        self._said = said
        self._introduced = self.table.of_station(vendor, model, firmware)
        self._merge()

    def configured(self, configuration: Mapping[str, str]) -> None:
        self._configured = self.table.of_configuration(configuration)
        self._merge()

    def knows(self, name: str) -> bool:
        """Whether the table has this row: then what it describes is looked for at every station."""
        return self.table.named(name) is not None

    def may_learn(self, name: str) -> bool:
        entry = self.table.named(name)
        return entry is not None and entry.learn and name not in self._active()

    def learn(self, name: str) -> bool:
        """Whether that is new."""
        entry = self.table.named(name)
        if entry is None or not entry.learn or name in self._active():
            return False
        self._learnt[name] = entry.repair
        self._merge()
        return True

    def unlearn(self, name: str) -> None:
        """What it seemed to need did not help."""
        if self._learnt.pop(name, None) is not None:
            self._merge()

    def supposing(self, name: str) -> Switches:
        """The switches as they would be with this row."""
        entry = self.table.named(name)
        return self.switches if entry is None else self.switches.with_these(entry.repair)

    def behind(self, *switches: str) -> tuple[str, ...]:
        """The rows that set one of these switches here."""
        return tuple(name for name, repair in self._active().items() if any(s in repair for s in switches))

    def counted_by(self, quirk: str) -> tuple[str, ...]:
        """The rows a quirk is counted under. For quirks of a bounded book: what was found once is kept."""
        found = self._counted.get(quirk)
        if found is None:
            found = self._counted[quirk] = self.table.counted_by(quirk)
        return found

    def _active(self) -> dict[str, Mapping[str, Any]]:
        return {**self._introduced, **self._configured, **self._learnt}

    def _merge(self) -> None:
        switches = NONE
        for repair in self._active().values():
            for name, value in repair.items():
                before = getattr(switches, name)
                if isinstance(value, tuple) and before and name not in ("stack_levels", "steps_a"):
                    value = (*before, *value)
                elif name in ("min_sample_s", "quiet_s", "setup_gap_s"):
                    value = max(before, value)
                switches = replace(switches, **{name: value})
        self.switches = switches
        self.changed()


@cache
def shipped() -> Dialects:
    """The table of this program. Raises ValueError where it is not one: then the build is broken."""
    text = (files("drivers.ocpp") / "dialects.toml").read_text(encoding="utf-8")
    return Dialects(read_entry(raw) for raw in tomllib.loads(text)["dialect"])


def read_entry(raw: Mapping[str, Any]) -> Entry:
    """One [[dialect]]. Raises ValueError naming what is wrong."""
    where = f"dialect {raw.get('row')} {raw.get('name')}"
    _only(where, raw, _ENTRY_KEYS)
    matches = []
    for each in raw.get("at", ()):
        _only(where, each, _MATCH_KEYS)
        for pattern in (each.get("vendor"), each.get("model"), each.get("firmware"), raw.get("seen")):
            re.compile(pattern or "")
        matches.append(Match(**{**each, "repair": _repair(where, each.get("repair", {}))}))
    repair = _repair(where, raw.get("repair", {}))
    has_repair = bool(repair or any(match.repair for match in matches) or raw.get("learn"))
    if has_repair == bool(raw.get("handled")):
        raise ValueError(f"{where}: either a repair or where it is handled")
    known = {name: raw[name] for name in ("row", "name", "what", "source")}
    more = {name: raw[name] for name in ("learn", "seen", "handled") if name in raw}
    return Entry(**known, **more, tests=tuple(raw["tests"]), at=tuple(matches), repair=repair)


def _repair(where: str, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    _only(where, raw, set(_KINDS))
    if raw.get("pause", "zero") not in PAUSES:
        raise ValueError(f"{where}: pause is one of {', '.join(PAUSES)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}


def _only(where: str, raw: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}")


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _parts(firmware: str) -> tuple[int, ...]:
    """Numbers of a version, so that 1.8.9 is older than 1.8.21; without any it is older than all."""
    return tuple(int(part) for part in re.findall(r"\d{1,9}", firmware))
