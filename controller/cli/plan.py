"""`depot plan`: tonight as text. One bar per vehicle, the site's power against its limit, prices, and what would help.

Owns the page of 80 columns; its parts are drawn by `ui.night`, the document comes from the controller (`plan_calls`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from zoneinfo import ZoneInfo

from controller.cli.looks import ask
from ui import night
from ui.format import Glyphs, clean, glyphs_for

WIDTH = 80


def plan(options: argparse.Namespace) -> int:
    document = ask(options, "plan")
    if options.json:
        json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
        print()
        return 0
    glyphs = glyphs_for(os.environ, sys.stdout.encoding or "ascii")
    for line in plan_lines(document, glyphs):
        print(clean(line, glyphs))
    return 0


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
