"""`depot qualify`: has a station prove on site that it does what the depot relies on, and shows what was proven.

Owns what a person sees meanwhile: every line as it comes, how far it is, and the countdown. Ctrl-C ends the proof and lifts
everything it did. Must not judge: the controller does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from textwrap import fill
from typing import Any
from zoneinfo import ZoneInfo

from controller.cli.looks import WIDTH, _local, _print_json, ask, socket_path, table
from ui.client import CallRefused, Client, NotReachable

BAR = 24
STOPPED = 1

Json = dict[str, Any]


def qualify(options: argparse.Namespace) -> int:
    if options.list:
        return _list(options)
    if options.station is None:
        raise CallRefused("bad-request", "name a station, or ask for --list")
    return asyncio.run(_qualify(options))


# --- one proof ----------------------------------------------------------------------------------------------------


async def _qualify(options: argparse.Namespace) -> int:
    client = Client(socket_path(options))
    args = {"station": options.station, "evse": options.number, "skip": options.skip, "quick": options.quick}
    zone = ZoneInfo((await client.call("status"))["site"].get("timezone") or "UTC")
    tell = _teller(sys.stderr if options.json else sys.stdout)
    told = await client.call("qualify", **args, dry=True)
    limits = ", ".join(f"{each / 1e3:g} A" for each in told["limits_ma"])
    minutes = max(1, round(told["seconds"] / 60))
    tell(f"{told['evse']}: {', '.join(told['checks'])}; limits of {limits}; about {minutes} min")
    tell("leave the vehicle plugged in; Ctrl-C ends the proof and lifts everything")
    if "reboot" in told["checks"]:
        tell("the station restarts on the way: it may ask for the card again")
    run = (await client.call("qualify", **args))["run"]
    lines: list[Json] = []
    try:
        outcome = await _follow(client, run, lines, lambda line: tell(_said(line, zone)), tell)
    except (asyncio.CancelledError, NotReachable):
        with suppress(NotReachable, CallRefused):
            # the loop is about to end with Ctrl-C: this one call is still made
            await asyncio.shield(client.call("qualify-stop", run=run))
        tell("ended: limits, holds and cuts are lifted")
        raise
    tell("")
    if options.json:
        return _print_json({"evse": told["evse"], "lines": lines, **outcome}) or _code(outcome)
    for finding in outcome["findings"]:
        print(fill(finding, WIDTH, subsequent_indent="    "))
    print(_verdict(told["evse"], outcome))
    return _code(outcome)


async def _follow(
    client: Client, run: str, lines: list[Json], said: Callable[[Json], None], tell: Callable[..., None]
) -> Json:
    while True:
        news = await client.call("qualify-follow", run=run, seen=len(lines))
        for line in news["lines"]:
            said(line)
        lines += news["lines"]
        if news["outcome"] is not None:
            return dict(news["outcome"])
        tell(_bar(news), passing=True)


def _code(outcome: Json) -> int:
    return 0 if outcome["passed"] else STOPPED


def _verdict(evse: str, outcome: Json) -> str:
    if outcome["passed"]:
        return f"{evse}: proven; out of reach it counts at its fallback from now on"
    kept = "stored as not proven" if outcome["stored"] else "nothing is stored"
    why = f" ({outcome['hindered']})" if outcome["hindered"] else ""
    return f"{evse}: NOT proven{why}; {kept}"


def _said(line: Json, zone: ZoneInfo) -> str:
    mark = {True: "ok   ", False: "FAIL ", None: "     "}[line["passed"]]
    time = (_local(line["at"], zone.key) or "")[11:]
    return f"{time}  {mark}{line['check']:<7} {line['text']}"


def _bar(news: Json) -> str:
    done = 1 - min(1.0, news["left_s"] / max(1, news["seconds"]))
    filled = int(done * BAR)
    left_s = int(news["left_s"])
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {done:4.0%}  {left_s // 60}:{left_s % 60:02} left  {news['check'] or ''}"


def _teller(out: Any) -> Callable[..., None]:
    """Prints lines; a passing one is overwritten by the next, and shown on a terminal only."""
    width = 0

    def tell(text: str, passing: bool = False) -> None:
        nonlocal width
        if passing and not out.isatty():
            return
        start = "\r" + " " * width + "\r" if width else ""
        width = len(text) if passing else 0
        if text or start:
            print(start + text, end="" if passing or not text else "\n", file=out, flush=True)

    return tell


# --- what is proven -------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    stations = ask(options, "qualifications")["stations"]
    found = [each | {"missing": _missing(each)} for each in stations if options.station in (None, each["id"])]
    if not found:
        raise CallRefused(
            "unknown-station", f"no station {options.station!r}; `depot qualify --list` shows all"
        )
    if options.json:
        return _print_json({"stations": found})
    zone = ask(options, "status")["site"].get("timezone")
    rows = []
    for each in found:
        proof = next((p for p in each["proofs"] if p["firmware"] == each["firmware"]), None)
        when = None if proof is None else _local(proof["at"], zone)
        by = None if proof is None else proof["by"]
        rows.append(
            (each["id"], each["firmware"], "yes" if each["proven"] else "no", when, by, each["missing"])
        )
    table(("STATION", "FIRMWARE", "PROVEN", "WHEN", "BY", "MISSING"), rows)
    if options.station is not None:
        for proof in found[0]["proofs"]:
            word = "passed" if proof["passed"] else "not passed"
            print(
                f"\nfirmware {proof['firmware'] or '-'}, {_local(proof['at'], zone)} by {proof['by']}: {word}"
            )
            for finding in proof["findings"]:
                print(fill(finding, WIDTH, initial_indent="  ", subsequent_indent="      "))
    return 0


def _missing(station: Json) -> str | None:
    """What keeps it from being trusted, in words; None when nothing does."""
    if not station["channel"].startswith("ocpp"):
        return "nothing: its channel needs no proof"
    if station["proven"]:
        return None
    if station["firmware"] is None and station["proofs"]:
        return "it has not told its firmware since the start"
    latest = next((p for p in station["proofs"] if p["firmware"] == station["firmware"]), None)
    if latest is not None:
        wrong = [finding for finding in latest["findings"] if ": FAILED" in finding]
        undone = [f for f in latest["findings"] if f.endswith(": skipped") or ": not done" in f]
        return "; ".join(wrong or undone) or "the proof did not pass"
    if any(proof["passed"] for proof in station["proofs"]):
        return f"proven with firmware {next(p['firmware'] for p in station['proofs'] if p['passed'])} only"
    return f"never proven: depot qualify {station['id']}"
