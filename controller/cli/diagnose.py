"""`depot diagnose`: what is wrong with a station, what it means and what to do.

Owns the judgement that needs the Open Platform's dictionary; the facts come over the control socket. Must not act: every
step it prints is for a person. Source: Open Platform REFERENCE sections 18 and 19.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from textwrap import fill
from typing import Any

from controller.cli.firmware import PLATFORM, passes
from controller.cli.looks import WIDTH, _local, _print_json, ask, table
from drivers.openplatform.dictionary import (
    HEARTBEAT_LOST,
    STUCK,
    UNKNOWN_SEVERITY,
    Runbook,
    faults,
    runbooks,
    runbooks_of,
)

PREPARING_S = 600.0
LAST_FAULTS = 10
MOST_WAYS = 20
_DAY = timedelta(hours=24)

Json = dict[str, Any]


def diagnose(options: argparse.Namespace) -> int:
    station = options.station.partition("/")[0]  # whoever names an EVSE means its station
    status = ask(options, "status")
    history = ask(options, "station-history", station=station)
    known = ask(options, "stations")
    status["alarms"] += status["alarms_quiet"]  # a silent one is as wrong
    found = _findings(station, status, history, known["stations"], known["gate"])
    if options.json:
        return _print_json(found)
    _show(found, status["site"].get("timezone"))
    return 0


# --- findings ---------------------------------------------------------------------------------------------------


def _findings(station: str, status: Json, history: Json, stations: Sequence[Json], gate: str) -> Json:
    """What `--json` prints: identity, link, faults, stuck and lately, all of this one station."""
    identity = next(each for each in stations if each["id"] == station)
    now = datetime.fromisoformat(status["time"])
    codes = [_code_of(alarm) for alarm in status["alarms"] if alarm["kind"] == "fault-code"]
    link = _link(identity, status, history["alarms"], now)
    found = [each for each in codes if _is_of(station, each["source"])]
    for evse in status["evses"]:
        if evse["station"] == station and evse["fault"] and evse["fault"] not in {e["code"] for e in found}:
            found.append({"code": None, "source": evse["id"], "since": None, "said": evse["fault"]})
    if _is_silent(link) and HEARTBEAT_LOST not in {each["code"] for each in found}:
        since = link["offline_since"]
        found.append({"code": HEARTBEAT_LOST, "source": station, "since": since, "said": "seen from here"})
    over = [a for a in history["alarms"] if a["kind"] in ("fault-code", "fault") and a["cleared"] is not None]
    return {
        "station": station,
        "identity": identity | {"passes_gate": passes(identity["firmware"], gate)},
        "link": link,
        "faults": [_explained(each, _elsewhere(each["code"], station, codes, stations)) for each in found],
        "stuck": [_stuck(each) for each in history["states"] if _is_stuck(each, now)],
        "lately": over[:LAST_FAULTS],
        "ways": history.get("ways", []),
    }


def _code_of(alarm: Json) -> Json:
    """An alarm about a code: its source is the EVSE or station and the code, its text the code and what was said."""
    source, _, code = alarm["source"].partition(" ")
    said = alarm["text"].removeprefix(code).strip()
    return {"code": code, "source": source, "since": alarm["since"], "said": said}


def _is_of(station: str, source: str) -> bool:
    return source == station or source.startswith(f"{station}/")


def _link(identity: Json, status: Json, history: Iterable[Json], now: datetime) -> Json:
    """`interruptions_24h`: those long enough for an alarm (30 s), counted at the EVSE that had most."""
    station, channel = identity["id"], identity["channel"]
    evses = [evse for evse in status["evses"] if evse["station"] == station]
    alarms = [alarm for alarm in status["alarms"] if _is_of(station, alarm["source"])]
    lately = [
        alarm["source"]
        for alarm in history
        if alarm["kind"] == "offline" and now - datetime.fromisoformat(alarm["since"]) <= _DAY
    ]
    return {
        "channel": channel,
        "channel_state": next((c["state"] for c in status["channels"] if c["id"] == channel), None),
        "connected": any(evse["connected"] for evse in evses),
        "ever_connected": any(identity[name] for name in ("vendor", "model", "firmware")),
        "offline_since": min((a["since"] for a in alarms if a["kind"] == "offline"), default=None),
        "interruptions_24h": max((lately.count(source) for source in lately), default=0),
        "turned_away": next((alarm["text"] for alarm in alarms if alarm["kind"] == "access"), None),
    }


def _is_silent(link: Json) -> bool:
    """A charger of the Open Platform that does not answer although its channel is on: only we can see that."""
    on = link["channel_state"] not in ("off", None)
    gone = link["ever_connected"] and not link["connected"]
    return on and gone and str(link["channel"]).startswith(PLATFORM)


def _explained(found: Json, elsewhere: Sequence[str]) -> Json:
    """With what the dictionary says; a code it does not know counts as an error and goes to support."""
    fault = faults().get(found["code"] or "")
    if fault is None:
        return found | {"title": None, "severity": UNKNOWN_SEVERITY, "also_at": elsewhere, "runbooks": []}
    return found | {
        "title": fault.title,
        "severity": fault.severity,
        "effect": fault.effect,
        "causes": list(fault.causes),
        "actions": list(fault.actions),
        "firmware": list(fault.firmware),
        "related": list(fault.related),
        "also_at": elsewhere,
        "runbooks": [_book(runbook) for runbook in runbooks_of(fault)],
    }


def _elsewhere(code: str | None, station: str, codes: Iterable[Json], stations: Sequence[Json]) -> list[str]:
    """Other stations with the same code now and the same firmware: then it is seldom the hardware."""
    builds = {each["id"]: each["firmware"] for each in stations}
    mine = builds[station]
    others = {each["source"].partition("/")[0] for each in codes if each["code"] == code}
    return sorted(other for other in others - {station} if mine is not None and builds.get(other) == mine)


def _is_stuck(state: Json, now: datetime) -> bool:
    if state["state"] != "preparing" or state["since"] is None:
        return False
    return (now - datetime.fromisoformat(state["since"])).total_seconds() > PREPARING_S


def _stuck(state: Json) -> Json:
    return {**state, "runbook": _book(runbooks()[STUCK])}


def _book(runbook: Runbook) -> Json:
    steps = [{"title": step.title, "text": step.text} for step in runbook.steps]
    return {"id": runbook.id, "title": runbook.title, "models": runbook.models, "steps": steps}


# --- showing ----------------------------------------------------------------------------------------------------


def _show(found: Json, zone: str | None) -> None:
    identity, link = found["identity"], found["link"]
    names = (identity["vendor"], identity["model"], f"firmware {identity['firmware'] or 'unknown'}")
    print("  ".join(name for name in (found["station"], *names) if name))
    print(f"link  {link['channel']}: {_link_text(link, zone)}")
    if link["turned_away"]:
        print(f"      {link['turned_away']}")
    shown: set[str] = set()
    for fault in found["faults"]:
        _show_fault(fault, shown, zone)
    for stuck in found["stuck"]:
        print(f"\n{stuck['evse']}  in preparing since {_local(stuck['since'], zone)}, longer than 10 min")
        _show_book(stuck["runbook"], shown)
    if not found["faults"] and not found["stuck"]:
        print("no fault is active")
    if found["lately"]:
        print("\nover, of the last 7 days:")
        table(
            ("SINCE", "UNTIL", "WHERE", "WHAT"),
            ((_local(a["since"], zone), _local(a["cleared"], zone), a["source"], a["text"]) for a in found["lately"]),
        )  # fmt: skip
    if found["ways"]:
        print("\nits ways, and how often since the controller started (with a row: repaired or seen to):")
        table(
            ("ROW", "NAME", "TIMES", "WHAT"),
            ((w["row"], w["name"], w["times"], w["what"]) for w in found["ways"][:MOST_WAYS]),
        )


def _link_text(link: Mapping[str, Any], zone: str | None) -> str:
    if link["connected"]:
        state = "connected"
    elif link["channel_state"] == "off":
        state = "the channel is off"
    elif not link["ever_connected"]:
        return "never connected; check its address and its serial number, model or password at the station"
    elif link["offline_since"]:
        state = f"offline since {_local(link['offline_since'], zone)}"
    else:
        state = "offline"
    number = link["interruptions_24h"]
    return f"{state}, {number or 'no'} interruption{'' if number == 1 else 's'} above 30 s in 24 h"


def _show_fault(fault: Json, shown: set[str], zone: str | None) -> None:
    since = "" if fault["since"] is None else f"  since {_local(fault['since'], zone)}"
    name = fault["title"] or "not in the dictionary"
    print(f"\n{fault['code'] or 'fault'}  {name}  {fault['severity']}  {fault['source']}{since}")
    if fault["said"]:
        _print("said", fault["said"])
    if fault["title"] is None:
        _print("next", "ask support, with the code, the firmware, the time and what it was doing")
        return
    _print("effect", fault["effect"])
    _print("likely", fault["causes"][0])
    _print("first", fault["actions"][0])
    for build in fault["firmware"]:
        _print("build", build)
    if fault["also_at"]:
        _print(
            "also", f"{', '.join(fault['also_at'])}, same code and same firmware: suspect the firmware first"
        )
    for book in fault["runbooks"]:
        _show_book(book, shown)


def _show_book(book: Json, shown: set[str]) -> None:
    """Once, whoever names it again."""
    _print("see", f"{book['title']} ({book['models']}){' above' if book['id'] in shown else ':'}")
    if book["id"] not in shown:
        shown.add(book["id"])
        for number, step in enumerate(book["steps"], start=1):
            _print(str(number), f"{step['title']}. {step['text']}")


def _print(label: str, text: str) -> None:
    print(fill(text, WIDTH, initial_indent=f"  {label:6}  ", subsequent_indent=" " * 10))
