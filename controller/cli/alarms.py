"""`depot alarms`: what needs a person, what it means, and what the person does about it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from textwrap import fill
from typing import Any

from controller.cli.looks import WIDTH, _local, _print_json, ask, table

PRIORITIES = {1: "critical", 2: "high", 3: "low"}
STATES = {"unack": "UNACK", "ack": "ack", "rtn-unack": "RTN"}

Json = dict[str, Any]


def listed(options: argparse.Namespace) -> int:
    found = ask(options, "alarms")
    if options.json:
        return _print_json(found if options.all else found["alarms"])
    zone = ask(options, "status")["site"].get("timezone")
    shown = [*found["alarms"], *(found["quiet"] if options.all else [])]
    if shown:
        table(("PRI", "SINCE", "STATE", "SOURCE", "WHAT", "BY", "ID"), (_row(alarm, zone) for alarm in shown))
    elif not found["quiet"]:
        print("no alarms")
    else:
        print("no alarm calls a person")
    if options.all:
        for silence in found["silenced"]:
            print(_silence(silence, zone))
    elif hidden := [alarm for alarm in found["quiet"] if alarm["state"] not in STATES]:
        print(f"{len(hidden)} more {_kinds(hidden)}: depot alarms --all")
    return 0


def _row(alarm: Json, zone: str | None) -> tuple[object, ...]:
    text = f"first: {alarm['text']}" if alarm["first"] else alarm["text"]
    note = f" ({alarm['note']})" if alarm["note"] else ""
    since = (_local(alarm["since"], zone) or "")[5:16]
    state = STATES.get(alarm["state"], alarm["state"])
    return alarm["priority"], since, state, alarm["source"], text + note, alarm["by"], alarm["id"]


def _kinds(hidden: Iterable[Json]) -> str:
    return ", ".join(sorted({alarm["state"] for alarm in hidden}))


def _silence(silence: Json, zone: str | None) -> str:
    what = f"{silence['kind']} {silence['source']}".strip()
    until = "" if silence["until"] is None else f" until {_local(silence['until'], zone)}"
    return f"{silence['state']}: {what}{until}, by {silence['by']}: {silence['reason']}"


def show(options: argparse.Namespace) -> int:
    found = ask(options, "alarm", alarm=options.alarm)
    if options.json:
        return _print_json(found)
    zone = ask(options, "status")["site"].get("timezone")
    for line in _told(found, zone):
        print(line)
    return 0


def _told(found: Json, zone: str | None) -> Iterator[str]:
    alarm, fact = found["alarm"], found["fact"]
    state = STATES.get(alarm["state"], alarm["state"])
    by = f" by {alarm['by']}" if alarm["by"] else ""
    priority = PRIORITIES[alarm["priority"]]
    yield f"{alarm['id']}  {alarm['kind']}  {priority}  {state}{by}  since {_local(alarm['since'], zone)}"
    yield f"{alarm['source']}: {alarm['text']}"
    if alarm["note"]:
        until = "" if alarm["until"] is None else f" until {_local(alarm['until'], zone)}"
        yield f"{alarm['note']}{until}"
    if alarm["first"]:
        yield "it began before the others that came with it: begin here"
    yield ""
    yield _part("cause", fact["cause"])
    yield _part("then", fact["consequence"])
    yield _part("within", _span(fact["respond_s"]))
    for number, step in enumerate(fact["steps"], start=1):
        yield _part(str(number), step)
    for member in found["alarms"]:
        yield _part("is", f"{member['source']} ({member['state']}, {member['id']}): {member['text']}")
    if found["history"] or found["acts"]:
        yield ""
    for past in found["history"]:
        over = "stands" if past["cleared"] is None else f"until {_local(past['cleared'], zone)}"
        seen = f", acknowledged by {past['acked_by']}" if past["acked_by"] else ""
        yield f"{_local(past['since'], zone)}  {past['id']}  {over}{seen}"
    for act in found["acts"]:
        yield f"{_local(act['at'], zone)}  {act['what']} by {act['by']}: {act['detail']}"


def _part(label: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=f"{label:7} ", subsequent_indent=" " * 8)


def _span(seconds: int) -> str:
    if seconds < 2 * 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 2 * 86_400 else f"{seconds // 86_400} days"


# --- acting -----------------------------------------------------------------------------------------------------


def ack(options: argparse.Namespace) -> int:
    said = ask(options, "alarm-ack", alarm=options.alarm)
    if options.json:
        return _print_json(said)
    for id in said["acked"]:
        print(f"acknowledged: {id}")
    if said["before_by"]:
        print(f"acknowledged before, by {', '.join(said['before_by'])}")
    return 0


def shelve(options: argparse.Namespace) -> int:
    said = ask(options, "alarm-shelve", alarm=options.alarm, for_s=options.for_s, reason=options.reason)
    if options.json:
        return _print_json(said)
    until = _local(said["until"], ask(options, "status")["site"].get("timezone"))
    for what in said["shelved"]:
        print(f"shelved until {until}: {what}")
    return 0


def unshelve(options: argparse.Namespace) -> int:
    said = ask(options, "alarm-unshelve", alarm=options.alarm)
    if options.json:
        return _print_json(said)
    for what in said["unshelved"]:
        print(f"calls again: {what}")
    return 0


def out_of_service(options: argparse.Namespace) -> int:
    said = ask(options, "service", source=options.source, out=True, reason=options.reason)
    if options.json:
        return _print_json(said)
    source = said["source"]
    print(f"out of service: {source}; its alarms are silent until: depot alarms in-service {source}")
    return 0


def in_service(options: argparse.Namespace) -> int:
    said = ask(options, "service", source=options.source, out=False)
    if options.json:
        return _print_json(said)
    print(f"in service: {said['source']}")
    return 0
