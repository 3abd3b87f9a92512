"""`depot plan`: tonight as text. One bar per vehicle, the site's power against its limit, prices, and what would help;
with --what-if the figures of two plans, one beside the other.

Owns the page of 80 columns; its parts are drawn by `ui.night`, the document comes from the controller (`plan_calls`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from zoneinfo import ZoneInfo

from controller.cli.looks import WIDTH, ask
from ui import night
from ui.format import Glyphs, clean, glyphs_for


def plan(options: argparse.Namespace) -> int:
    if options.what_if is not None:
        return _what_if(options)
    document = ask(options, "plan")
    if options.json:
        json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
        print()
        return 0
    glyphs = glyphs_for(os.environ, sys.stdout.encoding or "ascii")
    for line in plan_lines(document, glyphs):
        print(clean(line, glyphs))
    return 0


def _what_if(options: argparse.Namespace) -> int:
    answer = ask(options, "what-if", change=options.what_if)
    if options.json:
        figures = {name: asdict(night.Figures.of(answer[name])) for name in ("now", "then")}
        json.dump({"figures": figures} | answer, sys.stdout, indent=2, ensure_ascii=False)
        print()
        return 0
    glyphs = glyphs_for(os.environ, sys.stdout.encoding or "ascii")
    for line in what_if_lines(answer):
        print(clean(line, glyphs))
    return 0


def what_if_lines(answer: night.Document) -> list[str]:
    """Both plans in figures, and whose night would be another one."""
    now, then = answer["now"], answer["then"]
    lines = [f"what if: {text}" for text in answer["change"]] + [""] + night.compared(now, then)
    others = night.differences(now, then, ZoneInfo(then["timezone"]))
    lines += ["", *others] if others else []
    for name, document in (("now", now), ("then", then)):
        if document["why"]:
            lines.append(f"{name} planned by {document['by']}: {document['why']}")
    return [*lines, "", "nothing was changed"]


def plan_lines(document: night.Document, glyphs: Glyphs) -> list[str]:
    """The whole picture, no line longer than 80 characters."""
    zone = ZoneInfo(document["timezone"])
    lines = night.head(document, zone)
    timeline = night.Timeline.of(document, zone, glyphs)
    if timeline is not None:
        lines += ["", *night.clock_line(timeline, "VEHICLE", f"{'LEAVES':>6} {'kWh':>6} {'READY':>5}")]
        for each in document["evses"]:
            lines += night.vehicle(each, timeline, document)
        lines += ["", *night.chart(document, timeline), *night.price_line(document, timeline)]
    else:
        for each in document["evses"]:
            lines += night.plain_vehicle(each, document, zone)
    lines += night.expected(document, zone)
    if not document["evses"]:
        lines.append("no vehicle is charging")
    return [line.rstrip()[:WIDTH] for line in lines]
