"""`depot doctor`: is this box fit, does the controller answer, and is everything it needs there? Each with what to do.

Owns the picture of the site as the running controller tells it; the box is `doctor_box`. Changes nothing. Exit code 1 when
something fails; warnings alone leave it 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controller.cli.doctor_box import FAIL, OK, WARN, Finding, box
from controller.cli.looks import _print_json, ask
from controller.config import Config, ConfigError, load
from ui.client import CallRefused, NotReachable

SHOWN = 5  # stations in one line


def doctor(options: argparse.Namespace) -> int:
    found = list(_findings(options))
    failed = any(each.verdict == FAIL for each in found)
    if options.json:
        _print_json({"version": 1, "fit": not failed, "findings": [asdict(each) for each in found]})
        return int(failed)
    width = max(len(each.check) for each in found)
    for each in found:
        print(f"{each.verdict:4}  {each.check.ljust(width)}  {each.text}")
        if each.todo:
            print(f"      {' ' * width}  -> {each.todo}")
    return int(failed)


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        config = load(Path(options.file))
    except ConfigError as error:
        problems = str(error).splitlines()
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        yield Finding("config", FAIL, f"{problems[0]}{more}", f"depot check {options.file}")
        return
    yield from findings(config, options)


def findings(config: Config, options: argparse.Namespace) -> Iterator[Finding]:
    """Of a config that can be read. `options.socket`: where the controller is, unless the config says it."""
    yield Finding("config", OK, str(config.path))
    yield from box(config)
    yield from _site(config, options)


def _site(config: Config, options: argparse.Namespace) -> Iterator[Finding]:
    options.socket = options.socket or str(config.control_socket)
    try:
        status = ask(options, "status")
    except (NotReachable, CallRefused) as error:
        todo = "systemctl status depot; journalctl -u depot -n 50"
        yield Finding("controller", FAIL, str(error), todo)
        return
    yield from judged(status)


def judged(status: dict[str, Any]) -> Iterator[Finding]:
    """What a status document says of controller, meters, stations, channels and alarms."""
    site = status["site"]
    verdict = {"auto": OK, "degraded": WARN, "starting": WARN}.get(site["state"], FAIL)
    todo = "" if verdict == OK else "depot alarms; the meters below"
    yield Finding("controller", verdict, f"{site['state']} {site.get('text') or ''}".rstrip(), todo)
    for meter in status["meters"]:
        good = meter["quality"] == "good"
        text = f"{meter['id']} {meter['quality']}{': ' + meter['error'] if meter.get('error') else ''}"
        yield Finding(
            "meter", OK if good else FAIL, text, "" if good else "depot meter probe ADDRESS of the config"
        )
    yield _stations(status["evses"])
    for channel in status["channels"]:
        if channel["state"] in ("down", "degraded"):
            verdict = FAIL if channel["state"] == "down" else WARN
            yield Finding("channel", verdict, f"{channel['id']}: {channel['text']}", "depot channels")
    urgent = [alarm for alarm in status["alarms"] if alarm["priority"] == 1]
    if urgent:
        yield Finding("alarms", FAIL, f"{len(urgent)} critical: {urgent[0]['text']}", "depot alarms")
    else:
        waiting = len(status["alarms"])
        yield Finding(
            "alarms", WARN if waiting else OK, f"{waiting} active", "depot alarms" if waiting else ""
        )


def _stations(evses: list[dict[str, Any]]) -> Finding:
    away = sorted({evse["station"] for evse in evses if not evse["connected"]})
    total = len({evse["station"] for evse in evses})
    if not away:
        return Finding("stations", OK, f"{total} of {total} connected")
    more = "" if len(away) <= SHOWN else f" and {len(away) - SHOWN} more"
    text = f"{total - len(away)} of {total} connected; not {', '.join(away[:SHOWN])}{more}"
    return Finding("stations", WARN, text, f"depot diagnose {away[0]}; never seen: depot onboard {away[0]}")
