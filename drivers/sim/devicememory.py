"""What a simulated Open Platform charger remembers through a reboot.

Owns a dict of plain JSON values that the caller may put into a file: identity, handled commands, stored schedules,
reports nobody has taken yet, counters. Reports stand in two lanes before the link, each in order: command statuses,
and events with session records. Bounded: when a lane is full its oldest entry that is no record is dropped, and a
handled command is forgotten after two days (G-07 asks for one). No I/O here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from drivers.sim.cloudcharger import CloudCharger
from drivers.sim.cloudschedule import read_schedule

log = logging.getLogger(__name__)

KEEP_HANDLED_S = 48 * 3600.0
MAX_HANDLED = 5000
MAX_REFUSED = 100
MAX_WAITING = 10_000  # thirty days of a busy connector's events and records
STATUS, EVENT, RECORD = "command-status", "events", "charging-records"

Json = dict[str, Any]


class Memory:
    def __init__(self, kept: Json) -> None:
        """`kept` may be empty (a charger from the factory) and is changed in place."""
        self.kept = kept
        self._handled: dict[str, Json] = kept.setdefault("handled", {})
        self._schedules: dict[str, Json] = kept.setdefault("schedules", {})
        self.statuses: list[Json] = kept.setdefault("statuses", [])
        self.reports: list[Json] = kept.setdefault("reports", [])

    @property
    def identity(self) -> Mapping[str, str] | None:
        identity: Mapping[str, str] | None = self.kept.get("identity")
        return identity

    def keep_identity(self, identity: Mapping[str, Any]) -> None:
        self.kept["identity"] = dict(identity)

    # --- commands -----------------------------------------------------------------------------------------

    def first_time(self, command_id: str, what: str, at: datetime) -> bool:
        """Whether this command is new; from now on it is not."""
        if command_id in self._handled:
            return False
        oldest_s = at.timestamp() - KEEP_HANDLED_S
        for old in [c for c, entry in self._handled.items() if entry["at_s"] < oldest_s]:
            del self._handled[old]
        if len(self._handled) >= MAX_HANDLED:
            del self._handled[next(iter(self._handled))]
        self._handled[command_id] = {"at_s": at.timestamp(), "what": what, "body": None}
        return True

    def knows(self, command_id: str) -> bool:
        return command_id in self._handled

    def said(self, command_id: str) -> Json | None:
        """The last status of a command as it was put into the lane."""
        body: Json | None = self._handled.get(command_id, {}).get("body")
        return body

    def say(self, body: Json, quietly: bool = False) -> None:
        """A command status: remembered, and into its lane unless `quietly`."""
        entry = self._handled.get(body["command_id"])
        if entry is not None:
            entry["body"] = body
        if not quietly:
            self._put(self.statuses, STATUS, body)

    def open_commands(self, *names: str) -> Iterator[str]:
        """Accepted commands of these kinds that have no outcome."""
        for command_id, entry in self._handled.items():
            body = entry["body"]
            if entry["what"] in names and (body is None or body["status"] == "accepted"):
                yield command_id

    # --- reports ------------------------------------------------------------------------------------------

    def report(self, path: str, body: Json) -> None:
        self._put(self.reports, path, body)

    def set_aside(self, entry: Json) -> None:
        """A report the host refuses for good: kept for a person to look at, the newest hundred."""
        refused: list[Json] = self.kept.setdefault("refused", [])
        refused.append(entry)
        del refused[:-MAX_REFUSED]

    def _put(self, lane: list[Json], path: str, body: Json) -> None:
        if len(lane) >= MAX_WAITING:
            dropped = next((n for n, entry in enumerate(lane) if entry["path"] != RECORD), 0)
            log.warning("the memory for reports is full: dropped one of %s", lane[dropped]["path"])
            del lane[dropped]
        lane.append({"path": path, "body": body})

    # --- schedules and counters ---------------------------------------------------------------------------

    def keep_schedule(self, number: int, params: Mapping[str, Any], at: datetime) -> None:
        """The command's own words: a charger that boots reads them again."""
        of_connector = self._schedules.setdefault(str(number), {})
        of_connector.pop(params["schedule_id"], None)  # the newest stands last: it switches the others off
        of_connector[params["schedule_id"]] = {"params": dict(params), "at": at.isoformat()}

    def restore(self, charger: CloudCharger) -> None:
        """Puts schedules and counters back into a charger that was just made."""
        charger.records = self.kept.get("records", 0)
        charger.firmware_version = self.kept.get("firmware", charger.firmware_version)
        for connector in charger.connectors:
            for entry in self._schedules.get(str(connector.number), {}).values():
                connector.keep(read_schedule(entry["params"]), datetime.fromisoformat(entry["at"]))
