"""Commands about what is to come: the roster, and a state of charge that somebody read off a vehicle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from controller.cli.looks import _local, _print_json, ask, table
from ui.client import CallRefused

PIECE = 8000  # characters: at most 48 kB as JSON, below the 64 kB of a line
MOST_BYTES = 1_000_000


def imported(options: argparse.Namespace) -> int:
    path = Path(options.file)
    text, upload, said = _read(path), uuid4().hex, {}
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)] or [""]
    for number, piece in enumerate(pieces):
        said = ask(
            options,
            "roster-import",
            file=path.name,
            upload=upload,
            piece=number,
            text=piece,
            last=number == len(pieces) - 1,
            replace=options.replace,
        )
    for note in said["notes"]:
        print(f"depot: {note}", file=sys.stderr)
    before = f" ({said['replaced']} of before replaced)" if said["replaced"] else ""
    print(f"imported: {said['added']} entries{before}; the roster has {said['entries']} now")
    return 0


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise CallRefused("bad-file", f"{path}: a roster has {MOST_BYTES // 1000} kB at most; split it")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise CallRefused("bad-file", f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CallRefused("bad-file", f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    except ValueError:  # a null byte in its name
        raise CallRefused("bad-file", f"{str(path)!r} is not the name of a file") from None


def shown(options: argparse.Namespace) -> int:
    turns: list[dict[str, Any]] = []
    more = True
    while more:
        page = ask(options, "roster", skip=len(turns))
        turns += page["turns"]
        more = page["more"]
    if options.json:
        return _print_json(turns)
    zone = ask(options, "status")["site"].get("timezone")
    table(
        ("VEHICLE", "ARRIVES", "DEPARTS", "NEEDS", "RETURNS", "EVSE", "BLOCK", "KNOWN"),
        (
            (t["vehicle"], _minute(t["arrives"], zone), _minute(t["departs"], zone), _need(t),
             _minute(t["returns"], zone), t["evse"], t["block"], "yes" if t["known"] else "no")
            for t in turns
        ),
    )  # fmt: skip
    return 0


def cleared(options: argparse.Namespace) -> int:
    print(f"cleared: {ask(options, 'roster-clear')['cleared']} entries")
    return 0


def soc(options: argparse.Namespace) -> int:
    said = ask(options, "soc", target=options.target, soc=options.soc)
    if options.json:
        return _print_json(said)
    print(f"{said['vehicle']} at {said['evse']}: {said['soc']} % of {said['battery_wh'] / 1000:g} kWh")
    return 0


def _minute(stamp: str | None, zone: str | None) -> str | None:
    local = _local(stamp, zone)
    return None if local is None else local[:16]


def _need(turn: dict[str, Any]) -> str:
    if turn["energy_wh"] is not None:
        return f"{turn['energy_wh'] / 1000:g} kWh"
    return "full" if turn["soc"] is None else f"{turn['soc']} %"
