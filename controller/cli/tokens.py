"""Commands about id tokens: who may charge. A file is read and checked whole before anything of it is sent."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from controller.cli.looks import _local, _print_json, ask, stamp, table
from ui.client import CallRefused

COLUMNS = ("token", "group", "expires", "blocked", "vehicle", "concurrent", "note")
LONGEST_ID = 36  # characters, by OCPP
AT_ONCE = 100  # tokens in one call: a line of the control socket is 64 kB
YES, NO = ("yes", "true", "1"), ("no", "false", "0", "")
MOST_COMPLAINTS = 20
STILL = (
    "It is still in: backups made so far (up to 12 months; remove those in the folder `backups` to be rid of it sooner,\n"
    "`depot backup` makes a new one), the flight recorder in memory (hours, or until a restart), exports made with\n"
    "--plain-tokens, and the memory of chargers (their cache of tokens). The audit never held more than its end."
)


def shown(options: argparse.Namespace) -> int:
    book = ask(options, "tokens")
    if options.json:
        return _print_json(book)
    zone = ask(options, "status")["site"].get("timezone")
    table(
        ("TOKEN", "VEHICLE", "GROUP", "EXPIRES", "", "NOTE"),
        (
            (t["token"], t["vehicle"], t["group"], _local(t["expires"], zone), _flags(t), t["note"])
            for t in book["tokens"]
        ),
    )
    behind = [each["id"] for each in book["stations"] if each["version"] != book["version"]]
    if book["tokens"] and book["stations"]:
        have = len(book["stations"]) - len(behind)
        without = f"; not yet: {', '.join(behind)}" if behind else ""
        stations = "station" if have == 1 else "stations"
        print(f"version {book['version']}, in the local list of {have} {stations}{without}")
    return 0


def add(options: argparse.Namespace) -> int:
    zone = _zone(options)
    token: dict[str, Any] = {"token": options.token}
    if not 0 < len(options.token.strip()) <= LONGEST_ID or not options.token.isprintable():
        raise CallRefused("bad-request", f"a token has 1 to {LONGEST_ID} printable characters")
    for name in ("group", "vehicle", "note"):
        if (value := getattr(options, name)) is not None:
            token[name] = value
    if options.expires is not None:
        try:
            token["expires"] = _expiry(options.expires, zone)
        except ValueError as error:
            raise CallRefused("bad-time", str(error)) from None
    if options.concurrent:
        token["concurrent"] = True
    if options.blocked or options.unblocked:
        token["blocked"] = options.blocked
    said = ask(options, "tokens-set", tokens=[token])
    if options.json:
        return _print_json(said)
    print(f"stored: {options.token}")
    return 0


def remove(options: argparse.Namespace) -> int:
    said = ask(options, "token-remove", token=options.token)
    if options.json:
        return _print_json(said)
    print(f"removed: {said['removed']}")
    return 0


def forget(options: argparse.Namespace) -> int:
    """Asks first: there is no way back."""
    if not options.yes and not _confirmed(options.token):
        raise CallRefused(
            "not-confirmed", "nothing was forgotten; it cannot be undone: type the token, or say --yes"
        )
    told = ask(options, "token-forget", token=options.token)
    if options.json:
        return _print_json(told)
    count = told["sessions"]
    if not count and not told["was_known"]:
        print(f"{options.token} was in no book and in no session; is it typed right?")
        return 0
    print(f"forgotten: {told['alias']} stands in its place in {count} session{'' if count == 1 else 's'}")
    print(STILL)
    return 0


def _confirmed(token: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"{token} becomes an alias in every session, for ever. Type the token again to go on:")
    try:
        return input("> ").strip().casefold() == token.strip().casefold()
    except EOFError:
        return False


def imported(options: argparse.Namespace) -> int:
    zone = _zone(options)
    tokens = _read(options.file, zone)
    stored = 0
    for first in range(0, len(tokens), AT_ONCE):
        try:
            stored += ask(options, "tokens-set", tokens=tokens[first : first + AT_ONCE])["stored"]
        except CallRefused as refused:
            text = f"{options.file}: {refused.text} (counted from row {first + 1}); {stored} tokens were stored before"
            raise CallRefused(refused.code, text) from None
    gone = _without(options, tokens) if options.replace else 0
    if options.json:
        return _print_json({"stored": stored, "removed": gone})
    print(f"stored: {stored} tokens" + (f", removed: {gone}" if options.replace else ""))
    return 0


def _without(options: argparse.Namespace, tokens: list[dict[str, Any]]) -> int:
    """Removes what the file does not name; tokens of the config's vehicles stay."""
    named = {token["token"].casefold() for token in tokens}
    others = [
        known["token"]
        for known in ask(options, "tokens")["tokens"]
        if known["token"].casefold() not in named and not known["configured"]
    ]
    for token in others:
        ask(options, "token-remove", token=token)
    return len(others)


def _zone(options: argparse.Namespace) -> ZoneInfo:
    return ZoneInfo(ask(options, "status")["site"].get("timezone") or "UTC")


def _read(path: str, zone: ZoneInfo) -> list[dict[str, Any]]:
    """Raises CallRefused with every mistake of the file, each with its line."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names = [name.strip().casefold() for name in rows.fieldnames or ()]
            if "token" not in names or (unknown := [name for name in names if name not in COLUMNS]):
                found = ", ".join(unknown) if "token" in names else "no column token"
                raise CallRefused("bad-file", f"{path}:1: {found}; columns are {', '.join(COLUMNS)}")
            rows.fieldnames = names
            return _checked(path, [(rows.line_num, row) for row in rows], zone)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a CSV file in UTF-8"
        raise CallRefused("bad-file", f"{path}: {reason}") from None


def _checked(path: str, rows: list[tuple[int, dict[str, Any]]], zone: ZoneInfo) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    wrong: list[str] = []
    for line, row in rows:
        if None in row:
            wrong.append(f"{path}:{line}: more fields than columns")
            continue
        token = (row["token"] or "").strip()
        if (before := seen.setdefault(token.casefold(), line)) != line:
            wrong.append(f"{path}:{line}: {token} stands in line {before} already")
        try:
            tokens.append({"token": token, **dict(_fields(row, zone))})
        except ValueError as error:
            wrong.append(f"{path}:{line}: {error}")
    if wrong:
        more = [f"... and {len(wrong) - MOST_COMPLAINTS} more"] if len(wrong) > MOST_COMPLAINTS else []
        raise CallRefused("bad-file", "\n".join([*wrong[:MOST_COMPLAINTS], *more]))
    if not tokens:
        raise CallRefused("bad-file", f"{path}: no token in it")
    return tokens


def _fields(row: dict[str, Any], zone: ZoneInfo) -> Iterator[tuple[str, Any]]:
    """Raises ValueError. A column that is there and empty takes the value away."""
    if not (row["token"] or "").strip():
        raise ValueError("the token is missing")
    for name in COLUMNS[1:]:
        if name not in row:
            continue
        text = (row[name] or "").strip()
        if name in ("blocked", "concurrent"):
            if text.casefold() not in (*YES, *NO):
                raise ValueError(f'{name}: "{text}" is neither yes nor no')
            yield name, text.casefold() in YES
        elif name == "expires":
            yield name, _expiry(text, zone) if text else None
        elif name == "note":
            yield name, text
        else:
            yield name, text or None


def _expiry(text: str, zone: ZoneInfo) -> str:
    """A date means its end on site."""
    try:
        at = datetime.fromisoformat(text)
        if len(text) == 10:
            at = datetime.combine(at.date(), time(23, 59, 59))
        at = at if at.tzinfo else at.replace(tzinfo=zone)
        return stamp(at.astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError(f'"{text}" is not a time; write 2027-12-31 or 2027-12-31T18:00') from None


def _flags(token: dict[str, Any]) -> str:
    told = (("blocked", "blocked"), ("concurrent", "concurrent"), ("configured", "from the config"))
    return ", ".join(text for name, text in told if token[name])
