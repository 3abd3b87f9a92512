"""`depot watch`: one line per change that matters, never redrawn: for logs, slow lines and screen readers.

Owns what counts as a change between two pictures. Amps that go up and down do not: the line that sums up tells the power.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from controller.cli.looks import ask, socket_path
from controller.core.snapshot import AlarmView, EvseView, Snapshot
from ui.client import Client, Disconnected

MARKS = {1: "!!", 2: "!", 3: "~"}


class Change(NamedTuple):
    kind: str  # site, channel, meter, evse, alarm, order, firmware, grid-limit or link
    source: str
    text: str


def watch(options: argparse.Namespace) -> int:
    zone = ask(options, "status")["site"].get("timezone")  # says at once when nobody is there
    with suppress(TimeoutError, KeyboardInterrupt):
        asyncio.run(_watch(options, ZoneInfo(zone or "UTC")))
    return 0


async def _watch(options: argparse.Namespace, zone: ZoneInfo) -> None:
    shown: Snapshot | None = None
    lost, next_s, loop = False, float("-inf"), asyncio.get_running_loop()
    printer = _Printer(zone, options.json)
    async with asyncio.timeout(options.duration_s):
        async for seen in Client(socket_path(options)).watch():
            if isinstance(seen, Disconnected):
                if not lost:
                    printer.line(datetime.now(zone), Change("link", "controller", f"lost: {seen.text}"))
                lost = True
                continue
            if lost:
                printer.line(seen.time, Change("link", "controller", "back"))
            lost = False
            if loop.time() < next_s:
                continue
            next_s = loop.time() + (options.every_s or 0)
            if shown is None or options.every_s:
                printer.line(seen.time, summary(seen))
            for change in opening(seen) if shown is None else changes(shown, seen):
                printer.line(seen.time, change)
            shown = seen


class _Printer:
    def __init__(self, zone: ZoneInfo, as_json: bool) -> None:
        self._zone = zone
        self._json = as_json
        self._day = ""

    def line(self, at: datetime, change: Change) -> None:
        local = at.astimezone(self._zone)
        if self._json:
            print(json.dumps({"time": local.isoformat(), **change._asdict()}, ensure_ascii=False), flush=True)
            return
        day = f"{local:%Y-%m-%d}"
        if day != self._day:
            self._day = day
            print(day)
        print(f"{local:%H:%M:%S}  {change.kind}  {change.source}  {change.text}".rstrip(), flush=True)


# --- what changed -----------------------------------------------------------------------------------------------


def summary(seen: Snapshot) -> Change:
    connected = sum(evse.connected for evse in seen.evses)
    powers = [evse.power_w for evse in seen.evses if evse.power_w is not None]
    running = sum(evse.session is not None for evse in seen.evses)
    alarms = ", ".join(
        f"{MARKS[priority]} {count}"
        for priority in MARKS
        if (count := sum(alarm.priority == priority for alarm in seen.alarms))
    )
    text = f"{seen.state}, {connected} of {len(seen.evses)} connected, {running} sessions, {sum(powers) / 1e3:.1f} kW"
    return Change("site", seen.site, f"{text}, alarms {alarms or 'none'}")


def opening(seen: Snapshot) -> Iterator[Change]:
    """What somebody who begins to look must know."""
    for alarm in seen.alarms:
        yield Change("alarm", alarm.source, _alarm(alarm))


def changes(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    if (before.state, before.text) != (after.state, after.text):
        yield Change("site", after.site, f"{after.state}: {after.text}" if after.text else after.state)
    yield from _alarms(before, after)
    channels = {channel.id: channel for channel in before.channels}
    for channel in after.channels:
        old = channels.get(channel.id)
        if old is None or (old.state, old.text) != (channel.state, channel.text):
            yield Change(
                "channel", channel.id, f"{channel.state}: {channel.text}" if channel.text else channel.state
            )
    meters = {meter.id: meter for meter in before.meters}
    for meter in after.meters:
        known = meters.get(meter.id)
        if known is None or known.quality is not meter.quality:
            yield Change("meter", meter.id, meter.quality.value)
    evses = {evse.id: evse for evse in before.evses}
    for evse in after.evses:
        if (was := evses.get(evse.id)) is not None:
            yield from _evse(was, evse)
    limits = {limit.id: limit for limit in before.grid_limits}
    for limit in after.grid_limits:
        earlier = limits.get(limit.id)
        if earlier is None or (earlier.signal, earlier.holds) != (limit.signal, limit.holds):
            yield Change("grid-limit", limit.id, f"{limit.signal}, {limit.holds or 'holds nothing'}")
    yield from _orders(before, after)
    yield from _firmware(before, after)


def _alarms(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    old = {alarm.id: alarm for alarm in before.alarms}
    new = {alarm.id: alarm for alarm in after.alarms}
    quiet = {alarm.id: alarm for alarm in after.alarms_quiet}
    for id, alarm in new.items():
        was = old.get(id)
        if was is None or (was.state, was.priority, was.members) != (
            alarm.state,
            alarm.priority,
            alarm.members,
        ):
            yield Change("alarm", alarm.source, _alarm(alarm))
    for id, alarm in old.items():
        if id not in new:
            hidden = quiet.get(id)
            yield Change("alarm", alarm.source, f"{id} {hidden.state if hidden else 'over'}: {alarm.text}")


def _alarm(alarm: AlarmView) -> str:
    by = f" by {alarm.by}" if alarm.by else ""
    return f"{MARKS.get(alarm.priority, '?')} {alarm.id} {alarm.state}{by}: {alarm.text}"


def _evse(was: EvseView, evse: EvseView) -> Iterator[Change]:
    if was.session is not None and (evse.session is None or evse.session.id != was.session.id):
        who = was.session.vehicle or was.session.token or "unknown"
        yield Change("evse", evse.id, f"session over: {who}, {was.session.energy_wh / 1e3:.2f} kWh")
    if evse.session is not None and (was.session is None or was.session.id != evse.session.id):
        yield Change(
            "evse", evse.id, f"session began: {evse.session.vehicle or evse.session.token or 'unknown'}"
        )
    if (was.state, was.fault) != (evse.state, evse.fault):
        yield Change("evse", evse.id, f"{evse.state.value}: {evse.fault}" if evse.fault else evse.state.value)
    if was.paused != evse.paused:
        yield Change("evse", evse.id, "paused by an operator" if evse.paused else "no longer paused")


def _orders(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    old = {order.id: order for order in before.orders}
    for order in after.orders:
        was = old.get(order.id)
        for stage, _ in order.stages[len(was.stages) if was else 0 :]:
            yield Change("order", order.evse, f"{order.text} by {order.by}: {stage}")
        if order.outcome is not None and (was is None or was.outcome is None):
            yield Change(
                "order",
                order.evse,
                f"{order.text} by {order.by}: {order.outcome} {order.reason or ''}".rstrip(),
            )


def _firmware(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    if after.campaign is None:
        return
    old = {} if before.campaign is None else {row.station: row.state for row in before.campaign.stations}
    for row in after.campaign.stations:
        if old.get(row.station) != row.state:
            yield Change("firmware", row.station, f"{after.campaign.version} {row.state} {row.text}".rstrip())
