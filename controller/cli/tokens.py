"""Commands about id tokens: who may charge. A file is read and checked whole before anything of it is sent."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from controller.cli.looks import _local, _print_json, ask, stamp, table
from ui.client import CallRefused

COLUMNS = ("token", "group", "expires", "blocked", "vehicle", "concurrent", "note")
AT_ONCE = 100  # tokens in one call: a line of the control socket is 64 kB
YES, NO = ("yes", "true", "1"), ("no", "false", "0", "")
MOST_COMPLAINTS = 20


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
    ask(options, "tokens-set", tokens=[token])
    print(f"stored: {options.token}")
    return 0


def remove(options: argparse.Namespace) -> int:
    print(f"removed: {ask(options, 'token-remove', token=options.token)['removed']}")
    return 0


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
