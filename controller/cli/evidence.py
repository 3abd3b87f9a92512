"""`depot why` and `depot verify`: what was decided and why, and whether all of it holds."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from controller.checker import Finding
from controller.cli.looks import _local, _moment, _print_json, ask
from controller.config import DEFAULT_STORAGE, load
from controller.migrations import LedgerError
from controller.verification import Books, Judged, books_of, judge
from ui.client import CallRefused

SHOWN = 20  # lines of one kind; --json has them all
LAWS = {
    "raise": "raised into room that was not there",
    "unseen": "raised without seeing",
    "grant": "granted more than there was",
    "follow": "not told to come down",
    "booked": "not in the book",
    "background": "the load that is not ours was taken too low",
    "excess": "the limit could be exceeded without a raise of ours",
    "metered": "the meter showed more than the limit",
}


def why(options: argparse.Namespace) -> int:
    zone = ask(options, "status")["site"].get("timezone")
    told = ask(options, "why", evse=options.evse, at=_moment(_past(options.at, zone), zone))
    if options.json:
        return _print_json(told)
    for line in _told(told, zone):
        print(line)
    return 0


def _past(text: str | None, zone: str | None) -> str | None:
    """05:30 is the last one."""
    if text is None or not re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", text):
        return text
    now = datetime.now(ZoneInfo(zone or "UTC"))
    hour, minute = map(int, text.split(":"))
    at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (at if at <= now else at - timedelta(days=1)).isoformat()


def _told(told: dict[str, Any], zone: str | None) -> list[str]:
    grant, limit, more = told["grant_a"], told["limit_a"], told["with_one_more_a"]
    since = f" since {_local(told['set_at'], zone)}" if told.get("set_at") else ""
    lines = [
        f"{told['evse']} at {_local(told['time'], zone)}: {grant:g} A",
        f"bound by: {told['bound_by']}{'' if limit is None else f', now {limit:g} A'}",
        f"set by: {told['set_by']}{since}",
    ]
    if more is None:
        lines.append("no ampere more would change that")
    elif more != grant:
        lines.append(f"with one ampere more there: {more:g} A, then bound by {told['next_by']}")
    else:
        lines.append(f"with one ampere more there: still {grant:g} A")
        if told["gains"]:
            lines.append(f"the ampere would go to {' and '.join(told['gains'])}")
        elif told["next_by"] == told["bound_by"]:
            lines.append("it is less than a step of this EVSE, or of its minimum")
        else:
            lines.append(f"the next limit: {told['next_by']}")
    return lines


def verify(options: argparse.Namespace) -> int:
    if options.file is not None:
        config = load(Path(options.file))
        folder, options.socket = config.storage_path, options.socket or str(config.control_socket)
    else:
        folder = Path(options.storage or DEFAULT_STORAGE)
    since = _moment(options.since, None)
    try:
        books = books_of(folder, since)
    except LedgerError as error:
        raise CallRefused("failed", str(error)) from None
    if books is None:  # a controller runs on this folder and holds it for itself
        answer = ask(options, "verify", since=since)
        if Path(answer.pop("folder")).resolve() != folder.resolve():
            text = f"{folder}: in use by a controller that does not answer on this socket; give its config, or --socket"
            raise CallRefused("failed", text)
        books = Books.of(answer)
    judged = judge(folder, since, books.anchors, _progress)
    broken = [*books.broken, *judged.broken]
    failed = bool(broken or judged.breaches or books.energy)
    if options.json:
        _print_json({"clean": not failed, **books.document(), **asdict(judged), "broken": broken})
        return int(failed)
    _show(books, judged, broken)
    return int(failed)


def _progress(day: str) -> None:
    if sys.stderr.isatty():
        print(f"\rreading {day} ...", end="\r", file=sys.stderr, flush=True)


def _show(books: Books, judged: Judged, broken: list[str]) -> None:
    for line in broken:
        print(f"BROKEN  {line}")
    for kind, found in (("BREACH", judged.breaches), ("foreign", judged.foreign)):
        for finding in found[:SHOWN]:
            print(f"{kind:6}  {_line(finding)}")
        if len(found) > SHOWN:
            print(f"{kind:6}  and {len(found) - SHOWN} more")
    for line in books.energy[:SHOWN]:
        print(f"ENERGY  {line}")
    for line in books.notes[:SHOWN]:
        print(f"note    {line}")
    for begins, ends in judged.pauses[:SHOWN]:
        print(f"note    nothing was written from {_whole(begins)} to {_whole(ends)}")
    span = "is empty" if judged.first is None else f"from {_whole(judged.first)} to {_whole(judged.last)}"
    print(f"journal {span}: {judged.steps} steps, blocks: {judged.blocks}")
    metered = sum(finding.law == "metered" for finding in judged.foreign)
    foreign = f"{len(judged.foreign) - metered} times the limit could be exceeded without a raise of ours"
    print(f"fuse    {len(judged.breaches)} breaches; {foreign}, {metered} times a meter showed it")
    print(f"chains  {'hold' if not broken else f'{len(broken)} do not hold'}: audit, egress, journal")
    print(f"energy  {len(books.energy)} sessions that do not add up")


def _whole(stamp: str | None) -> str:
    """The judge writes UTC, to the microsecond."""
    return (stamp or "").replace("T", " ").partition(".")[0].removesuffix("Z") + "Z"


def _line(finding: Finding) -> str:
    began = datetime.fromtimestamp(finding.first_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    amount = f"{finding.worst_ma / 1e3:g} A for {finding.lasted_s:.0f} s, {finding.amp_s:.0f} As"
    detail = f" ({finding.detail})" if finding.detail else ""
    return f"{began}  {finding.where}: {LAWS[finding.law]}, {amount}{detail}"
