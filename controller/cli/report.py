"""`depot report`: a month for people, on the terminal, as a page to print, or as comma-separated values.

Owns the words and the text form; the sums are `controller.monthly`'s, the page is `controller.cli.report_page`'s.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from controller import monthly
from controller.cli.looks import _local, _print_json, ask, stamp
from controller.cli.report_page import page
from controller.cli.sessions import every, hint, kwh, money
from controller.monthly import Month, Sum
from ui.client import CallRefused
from ui.sheet import safe

BAR = 40  # characters of the fullest day
FORMS = (".html", ".txt", ".csv")
CSV = (
    "month", "by", "name", "sessions", "energy_wh", "duration_s", "cost", "currency", "unpriced", "recorded",
    "record_wh", "gap_wh", "marked",
)  # fmt: skip


def report(options: argparse.Namespace) -> int:
    out = None if options.out is None else Path(options.out)
    if out is not None and out.suffix.casefold() not in FORMS:
        raise CallRefused("bad-request", f"{out}: the name must end in {', '.join(FORMS)}")
    site = ask(options, "status")["site"]
    month = _asked(options, ZoneInfo(site.get("timezone") or "UTC"))
    if options.json:
        return _print_json({"site": site["name"], **month.document()})
    if out is None:
        print("\n".join(text(month, site["name"])))
        return 0
    made = {
        ".html": lambda: page(month, head(month, site["name"]), group_table(month), session_table(month)),
        ".txt": lambda: "\n".join(text(month, site["name"])) + "\n",
        ".csv": lambda: _csv(month),
    }[out.suffix.casefold()]()  # fmt: skip
    try:
        out.write_text(made, encoding="utf-8", newline="")
    except OSError as error:
        raise CallRefused("bad-file", f"{out}: {error.strerror}") from None
    print(f"{out}: {month.total.sessions} sessions, {kwh(month.total.energy_wh)} kWh")
    return 0


def _asked(options: argparse.Namespace, zone: ZoneInfo) -> Month:
    name = options.month or monthly.last_whole(datetime.now(UTC), zone)
    try:
        start, end = monthly.month_of(name, zone)
    except ValueError as error:
        raise CallRefused("bad-month", str(error)) from None
    rows = every(
        options,
        "sessions",
        "sessions",
        since=stamp(start),
        until=stamp(end),
        vehicle=options.vehicle,
        token=options.token,
        tokens="plain" if options.plain_tokens else "hashed",
    )
    if not rows:
        hint(options)
    return monthly.summed(name, options.by, rows, zone)


# --- words --------------------------------------------------------------------------------------------------------


def head(month: Month, site: str) -> list[str]:
    zone = month.zone.key
    first, after = (_local(stamp(at), zone) for at in (month.start, month.end))
    lines = [f"{site}: charging in {month.name}", f"From {first} to {after} ({zone}). {monthly.RULE}"]
    total = month.total
    lines.append(
        f"{total.sessions} sessions, {kwh(total.energy_wh)} kWh, {_hours(total)} h, {_cost(total) or 'no price known'}"
    )
    if 0 < total.unpriced < total.sessions:
        lines.append(f"{total.unpriced} of the sessions have no price.")
    if total.recorded:
        told = f"{kwh(total.record_wh)} kWh, {total.gap_wh / 1e3:+.2f} against ours"
        lines.append(f"The chargers' own records cover {total.recorded} sessions: {told}.")
    if total.marked:
        lines.append(f"{total.marked} sessions carry marks: something in them was inferred, as named there.")
    if (now := datetime.now(UTC)) < month.end:
        lines.append(f"The month is not over: this is what was known at {_local(stamp(now), zone)}.")
    if month.running:
        lines.append(f"{month.running} sessions of that time still run and are not counted.")
    return lines


def group_table(month: Month) -> tuple[Sequence[str], list[Sequence[str]]]:
    names = (
        "Vehicle" if month.by == "vehicle" else "Id token",
        "Sessions",
        "kWh",
        "Hours",
        "Cost",
        "Records kWh",
        "Gap kWh",
    )
    rows = [_sum_row("not known" if name is None else name, each) for name, each in month.groups.items()]
    return names, [*rows, _sum_row("Sum", month.total)]


def _sum_row(name: str, each: Sum) -> Sequence[str]:
    record = (kwh(each.record_wh), f"{each.gap_wh / 1e3:+.2f}") if each.recorded else ("-", "-")
    return (name, str(each.sessions), kwh(each.energy_wh) or "", _hours(each), _cost(each) or "-",
            *(text or "-" for text in record))  # fmt: skip


def session_table(month: Month) -> tuple[Sequence[str], list[Sequence[str]]]:
    zone = month.zone.key
    names = (
        "EVSE",
        "Vehicle",
        "Id token",
        "Started",
        "Ended",
        "kWh",
        "Register kWh",
        "Gap kWh",
        "Cost",
        "Marks",
    )
    rows: list[Sequence[str]] = [
        (r["evse"], r["vehicle"] or "-", r["token"] or "-", _local(r["started"], zone) or "", _local(r["ended"], zone) or "",
         kwh(r["energy_wh"]) or "", _register(r), "-" if r["gap_wh"] is None else f"{r['gap_wh'] / 1e3:+.2f}",
         money(r) or "-", " ".join(r["marks"]))
        for r in month.rows
    ]  # fmt: skip
    return names, rows


def _register(row: dict[str, Any]) -> str:
    start, end = (kwh(row[name]) or "?" for name in ("register_start_wh", "register_wh"))
    return "-" if (start, end) == ("?", "?") else f"{start} - {end}"


def _hours(each: Sum) -> str:
    return f"{each.seconds / 3600:.1f}"


def _cost(each: Sum) -> str:
    return ", ".join(f"{micro / 1e6:.2f} {name}".rstrip() for name, micro in sorted(each.cost_micro.items()))


# --- as text ------------------------------------------------------------------------------------------------------


def text(month: Month, site: str) -> Iterator[str]:
    """For a terminal of any kind: letters, digits and number signs only, beside names."""
    yield from head(month, site)
    yield ""
    yield from _columns(*group_table(month))
    most = max((energy_wh for _, energy_wh in month.days), default=0)
    yield ""
    yield "kWh per day, by the day of the end"
    for day, energy_wh in month.days:
        bar = "#" * (-(-energy_wh * BAR // most) if most else 0)
        yield f"{day:%a %d}  {energy_wh / 1e3:9.2f}  {bar}".rstrip()
    if month.rows:
        yield ""
        yield from _columns(*session_table(month))


def _columns(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [names, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _csv(month: Month) -> str:
    """One row per name and currency; a row without a name is of sessions nobody is known for. Marks, records and sessions
    stand in the first row of a name, so that a column adds up."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV)
    for name, each in month.groups.items():
        rest = {key: value for key, value in each.document().items() if key != "cost"}
        for number, (currency, micro) in enumerate(sorted(each.cost_micro.items()) or [("", None)]):
            row = {"month": month.name, "by": month.by, "name": safe(name or ""), "currency": currency}
            shown = rest if number == 0 else dict.fromkeys(rest, 0)
            cost = "" if micro is None else f"{micro / 1e6:.6f}"
            writer.writerow([{**row, **shown, "cost": cost}[column] for column in CSV])
    return file.getvalue()
