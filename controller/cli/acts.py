"""Commands that act: they hand over an order and follow it until it is measured, refused or given up."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from controller.cli.looks import _print_json, ask, socket_path, stamp, table
from controller.core.snapshot import OrderView
from ui.client import CallRefused, Client, Disconnected, NotReachable


def start(options: argparse.Namespace) -> int:
    return _order(
        options,
        "start",
        limit_ma=options.limit_ma,
        energy_wh=options.energy_wh,
        soc=options.soc,
        duration_s=options.duration_s,
        token=options.token,
    )


def stop(options: argparse.Namespace) -> int:
    return _order(options, "stop")


def pause(options: argparse.Namespace) -> int:
    return _order(options, "pause")


def resume(options: argparse.Namespace) -> int:
    return _order(options, "resume")


def limit(options: argparse.Namespace) -> int:
    return _order(options, "limit", limit_ma=options.limit_ma)


def discharge(options: argparse.Namespace) -> int:
    return _order(
        options,
        "discharge",
        power_w=options.power_w,
        min_soc=options.min_soc,
        duration_s=options.duration_s,
    )


def flex_limit(options: argparse.Namespace) -> int:
    return _flex(options, options.percent)


def flex_pause(options: argparse.Namespace) -> int:
    return _flex(options, 0)


def flex_end(options: argparse.Namespace) -> int:
    ask(options, "flex-end")
    print("flexibility ended; the site's own limits stay")
    return 0


def _flex(options: argparse.Namespace, percent: int) -> int:
    wish = {"circuit": options.circuit, "percent": percent, "duration_s": options.duration_s}
    return asyncio.run(_follow(options, "flex", options.circuit, wish))


def schedule_list(options: argparse.Namespace) -> int:
    found = ask(options, "schedule-list", evse=options.evse)["schedules"]
    if options.json:
        return _print_json(found)
    rows = []
    for one in found:
        for slot in one["time_slots"]:
            days = " ".join(slot["day_of_week"]) or "every day"
            span = f"{slot['start']}-{slot['end']}"
            state = (one["station"] or "") if one["enabled"] else "off"
            rows.append(
                (
                    one["evse"],
                    one["schedule_id"],
                    one["type"],
                    days,
                    span,
                    slot["action"],
                    slot["power_limit"],
                    state,
                )
            )
    table(("EVSE", "SCHEDULE", "TYPE", "DAYS", "TIME", "ACTION", "LIMIT", "STATION"), rows)
    return 0


def schedule_set(options: argparse.Namespace) -> int:
    try:
        with open(options.file, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CallRefused("bad-file", f"{options.file}: {reason}") from None
    try:
        stored = ask(options, "schedule-set", evse=options.evse, text=text)
    except CallRefused as refused:
        raise CallRefused(refused.code, f"{options.file}: {refused.text}") from None
    if options.json:
        return _print_json(stored)
    print(f"stored: {stored['schedule_id']} ({stored['type']}, {len(stored['time_slots'])} slots)")
    return 0


def schedule_clear(options: argparse.Namespace) -> int:
    gone = ask(options, "schedule-clear", evse=options.evse, schedule=options.schedule)
    if options.json:
        return _print_json(gone)
    print(f"removed: {', '.join(gone['cleared']) or 'nothing'}")
    return 0


def depart(options: argparse.Namespace) -> int:
    zone = ZoneInfo(ask(options, "status")["site"].get("timezone") or "UTC")
    at = _departure(options.at, zone)
    need = {"energy_wh": options.energy_wh, "soc": options.soc}
    if options.preview:
        return _preview(options, "depart", target=options.target, at=stamp(at), **need)
    said = ask(options, "depart", target=options.target, at=stamp(at), **need)
    if options.json:
        return _print_json(said)
    print(f"{options.target} departs {at.astimezone(zone):%Y-%m-%d %H:%M}")
    if options.soc is None:
        return 0
    if said["missing_wh"] is None:
        text = "how much that is nobody knows until it is here with a known battery and state of charge"
        print(f"depot: {text}; till then as much as fits (`depot soc` says one)", file=sys.stderr)
    else:
        print(f"{max(0, said['missing_wh']) / 1000:.1f} kWh are missing to {options.soc} %")
    return 0


def _departure(text: str, zone: ZoneInfo) -> datetime:
    """A clock time means the next one."""
    now = datetime.now(zone)
    try:
        if len(text) == 5 and text[2] == ":":
            at = now.replace(hour=int(text[:2]), minute=int(text[3:]), second=0, microsecond=0)
            return at if at > now else at + timedelta(days=1)
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=zone)
        stamp(at)  # some times at the edges of the calendar have no UTC
    except (ValueError, OverflowError):
        raise CallRefused("bad-time", f'"{text}" is not a time; write 05:30 or 2026-11-23T05:30') from None
    return at


def _order(options: argparse.Namespace, name: str, **args: object) -> int:
    wish = {"evse": options.evse, **args}
    if getattr(options, "preview", False):
        return _preview(options, name, **wish)
    return asyncio.run(_follow(options, name, options.evse, wish))


def _preview(options: argparse.Namespace, name: str, **args: object) -> int:
    """What the order would bring; nothing is ordered. Exit code 1 when it would be refused."""
    found = ask(options, "preview", order=name, **args)
    if getattr(options, "json", False):
        _print_json(found)
    else:
        print(*found["text"], sep="\n")
    return 1 if found["refused"] else 0


async def _follow(options: argparse.Namespace, name: str, subject: str, args: dict[str, object]) -> int:
    """Hands the order over and prints each stage as it is reached, or all of it as JSON once it is over."""
    client, shown = Client(socket_path(options)), 0
    order = (await client.call(name, **args))["order"]
    async for snapshot in client.watch():
        if isinstance(snapshot, Disconnected):
            raise NotReachable(f"{snapshot.text}; order {order} was handed over, its outcome is not known")
        view = next((view for view in snapshot.orders if view.id == order), None)
        if view is None:
            continue
        zone = ZoneInfo(snapshot.timezone)
        for stage, at in view.stages[shown:] if not options.json else ():
            print(f"{at.astimezone(zone):%H:%M:%S}  {stage}", flush=True)
        shown = len(view.stages)
        if view.outcome is not None and options.json:
            _print_json(_document(view))
        if view.outcome == "done":
            if view.reason and not options.json:
                print(view.reason)
            return 0
        if view.outcome is not None:
            print(f"depot: {name} {subject} {view.outcome}: {view.reason}", file=sys.stderr)
            return 1
    raise AssertionError("a watch never ends")


def _document(view: OrderView) -> dict[str, object]:
    stages = [{"stage": stage, "time": stamp(at)} for stage, at in view.stages]
    return {
        "order": view.id,
        "kind": view.kind,
        "subject": view.evse,
        "stages": stages,
        "outcome": view.outcome,
        "reason": view.reason,
    }
