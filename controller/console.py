"""The control socket (INTERFACE section 7): newline-delimited JSON on a Unix socket, for dashboards and commands.

Owns which call needs which role (controller.rights says who has it); the socket is open to every user of the box, and
whoever has no role is told so and hung up on. A line above 64 kB closes the connection, a slow reader is dropped, and
nothing a client does can hold up a step.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller import activation
from controller.access_book import AccessBook
from controller.calls import Refusal, refuse_untaken, takes
from controller.core import wire
from controller.core.events import (
    DepartureSet,
    DischargeWished,
    Event,
    FlexEnded,
    FlexWished,
    LimitWished,
    PauseWished,
    ResumeWished,
    ScheduleCleared,
    ScheduleSet,
    StartWished,
    StopWished,
)
from controller.core.flex import LONGEST_S
from controller.core.model import SITE, CircuitId, Departure, EvseId
from controller.core.wishes import Wished
from controller.departing import wrong_with
from controller.migrations import LedgerError
from controller.rights import DEFAULT, Peer, Rights
from controller.runtime import Runtime
from controller.schedule_file import read_schedule, schedule_document
from drivers.errors import Misconfigured

log = logging.getLogger(__name__)

__all__ = ["Args", "Console", "Peer", "Refusal"]

LINE_BYTES = 64 * 1024
CLIENTS = 64
STRANGERS, STRANGER_S = 8, 1.0  # so many without a role are told so at a time, and get so long to listen
SLOW_S = 5.0  # a reader that takes longer to make room is gone

Args = Mapping[str, Any]


class Console:
    """Serves one runtime on one socket path. `more` adds calls to its own, or replaces them: name -> (whether only
    operators may, the call)."""

    def __init__(
        self,
        runtime: Runtime,
        path: Path,
        more: Mapping[str, tuple[bool, Callable[[Args, Peer], Awaitable[Any]]]] | None = None,
        rights: Rights = DEFAULT,
    ) -> None:
        self._runtime = runtime
        self._path = path
        self._rights = rights
        self._book = AccessBook(runtime.ledger, runtime.clock)
        self._orders = 0
        self._clients: set[asyncio.Task[None]] = set()
        self._strangers: set[asyncio.Task[None]] = set()
        self._calls: dict[str, tuple[bool, Callable[[Args, Peer], Awaitable[Any]]]] = {
            "whoami": (False, self._whoami),
            "status": (False, self._status),
            "channels": (False, self._channels),
            "schedule-list": (False, self._schedule_list),
            "recording": (True, self._recording),  # holds every id token
            "start": (True, self._start),
            "stop": (True, self._stop),
            "pause": (True, self._pause),
            "resume": (True, self._resume),
            "limit": (True, self._limit),
            "discharge": (True, self._discharge),
            "flex": (True, self._flex),
            "flex-end": (True, self._flex_end),
            "schedule-set": (True, self._schedule_set),
            "schedule-clear": (True, self._schedule_clear),
            "depart": (True, self._depart),
            **(more or {}),
        }

    async def run(self) -> None:
        """Serves until cancelled. Raises Misconfigured when the socket cannot be made."""
        given = activation.inherited(self._path)
        mine = given is None  # what systemd made stays where it is when we go
        server = await (
            self._listen() if mine else asyncio.start_server(self._serve, sock=given, limit=LINE_BYTES)
        )
        try:
            # not serve_forever(): from Python 3.12 on that ends only after its last client
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in (*self._clients, *self._strangers):
                task.cancel()
            with suppress(OSError):
                if mine:
                    self._path.unlink()

    async def _listen(self) -> asyncio.Server:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_socket() and not await _answers(self._path):
                self._path.unlink()  # left behind by a process that is gone
            elif self._path.exists():
                raise OSError("in use; is another depot running? stop it, or put this one elsewhere")
            before = os.umask(0o111)
            try:
                return await asyncio.start_unix_server(self._serve, path=self._path, limit=LINE_BYTES)
            finally:
                os.umask(before)
        except OSError as error:
            why = f"{error.strerror or error}; set [control] socket"
            raise Misconfigured(f"control socket {self._path}: {why}") from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = self._rights.peer(writer.get_extra_info("socket"))
        if not peer.viewer:
            await self._turn_away(reader, writer, peer, task)
            return
        if len(self._clients) >= CLIENTS:
            text = f"{CLIENTS} clients are connected already; close one"
            writer.write(_line({"id": None, "error": {"code": "busy", "text": text}}))
            writer.close()
            return
        self._clients.add(task)
        try:
            watching: list[asyncio.Task[None]] = []
            try:
                while line := await reader.readline():
                    await self._answer(line, writer, peer, watching)
            finally:
                for watch in watching:
                    watch.cancel()
        except ValueError:
            log.warning("console: a line above %d kB, closed", LINE_BYTES // 1024)
        except (OSError, TimeoutError):
            pass  # the client is gone; there is nobody left to tell
        except asyncio.CancelledError:
            pass  # shutting down: the task ends here, on purpose
        finally:
            self._clients.discard(task)
            writer.close()

    async def _turn_away(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, task: asyncio.Task[None]
    ) -> None:
        """One line for somebody without a role, who takes no place of a client."""
        try:
            if len(self._strangers) < STRANGERS:
                self._strangers.add(task)
                self._book.refused(peer, "connect")
                text = self._rights.lacks(peer)
                writer.write(_line({"id": None, "error": {"code": "not-allowed", "text": text}}))
                with suppress(OSError, TimeoutError, ValueError):
                    async with asyncio.timeout(STRANGER_S):
                        await reader.readline()  # what is closed with a question unread loses its answer
        except asyncio.CancelledError:
            pass  # shutting down
        finally:
            self._strangers.discard(task)
            writer.close()

    async def _answer(
        self, line: bytes, writer: asyncio.StreamWriter, peer: Peer, watching: list[asyncio.Task[None]]
    ) -> None:
        number: Any = None
        try:
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                raise Refusal("bad-request", "not a line of JSON") from None
            if not isinstance(request, dict):
                raise Refusal("bad-request", "not a JSON object")
            given, name, args = request.get("id"), request.get("call"), request.get("args")
            args = {} if args is None else args
            if not isinstance(given, int | str | None) or not isinstance(args, dict):
                raise Refusal("bad-request", "id must be a whole number or text, args an object")
            number = given
            if name == "watch":
                refuse_untaken(name, self._watch, args)
                if watching:
                    raise Refusal("bad-request", "this connection watches already")
                watching.append(asyncio.create_task(self._watch(number, writer)))
                return
            if not isinstance(name, str) or name not in self._calls:
                raise Refusal(
                    "unknown-call", f"no call {name!r}; known: {', '.join(sorted(self._calls))}, watch"
                )
            commands, call = self._calls[name]
            if commands and not peer.operator:
                self._book.refused(peer, name)
                raise Refusal("not-allowed", self._rights.lacks(peer))
            refuse_untaken(name, call, args)
            self._book.asked(peer, name, args)
            await _write(writer, {"id": number, "ok": await call(args, peer)})
        except Refusal as refusal:
            await _write(writer, {"id": number, "error": {"code": refusal.code, "text": str(refusal)}})

    @takes()
    async def _watch(self, number: Any, writer: asyncio.StreamWriter) -> None:
        """One snapshot per change; while the client reads slowly, only the newest waits."""
        seen = None
        with suppress(OSError, TimeoutError):
            while True:
                seen = await self._runtime.next_snapshot(seen)
                await _write(writer, {"id": number, "ok": wire.status(seen)})
        writer.close()

    # --- looking ----------------------------------------------------------------------------------------------------

    @takes()
    async def _whoami(self, args: Args, peer: Peer) -> Any:
        """`why`: what keeps a viewer from acting, and what would end that; null for an operator."""
        role, why = ("operator", None) if peer.operator else ("viewer", self._rights.lacks(peer))
        return {"name": peer.name, "role": role, "why": why}

    @takes()
    async def _status(self, args: Args, peer: Peer) -> Any:
        return wire.status(self._runtime.snapshot or await self._runtime.next_snapshot(None))

    @takes()
    async def _channels(self, args: Args, peer: Peer) -> Any:
        return {"channels": (await self._status(args, peer))["channels"]}

    @takes("evse")
    async def _schedule_list(self, args: Args, peer: Peer) -> Any:
        depot = self._runtime.depot
        evses = [self._evse(args)] if args.get("evse") is not None else list(depot.site.evses)
        found = [
            {"evse": evse, **schedule_document(schedule), "station": depot.stored(evse).get(schedule.id)}
            for evse in evses
            for schedule in depot.schedules(evse)
        ]
        return {"schedules": found}

    @takes()
    async def _recording(self, args: Args, peer: Peer) -> Any:
        """The flight recorder as JSON lines (controller.recorder)."""
        return {"recording": self._runtime.recorder.dump().decode()}

    # --- acting -----------------------------------------------------------------------------------------------------

    @takes("evse token limit_ma energy_wh soc duration_s")
    async def _start(self, args: Args, peer: Peer) -> Any:
        return await self._order(
            StartWished(
                self._next_order(),
                peer.name,
                self._evse(args),
                token=_text(args, "token"),
                limit_ma=_whole(args, "limit_ma"),
                energy_wh=_whole(args, "energy_wh"),
                soc=_whole(args, "soc", most=100),
                duration_s=_whole(args, "duration_s"),
            )
        )

    @takes("evse")
    async def _stop(self, args: Args, peer: Peer) -> Any:
        return await self._order(StopWished(self._next_order(), peer.name, self._evse(args)))

    @takes("evse")
    async def _pause(self, args: Args, peer: Peer) -> Any:
        return await self._order(PauseWished(self._next_order(), peer.name, self._evse(args)))

    @takes("evse")
    async def _resume(self, args: Args, peer: Peer) -> Any:
        return await self._order(ResumeWished(self._next_order(), peer.name, self._evse(args)))

    @takes("evse limit_ma")
    async def _limit(self, args: Args, peer: Peer) -> Any:
        if "limit_ma" not in args:
            raise Refusal("bad-request", "limit_ma is missing (null lifts the limit)")
        return await self._order(
            LimitWished(self._next_order(), peer.name, self._evse(args), _whole(args, "limit_ma"))
        )

    @takes("evse power_w min_soc duration_s")
    async def _discharge(self, args: Args, peer: Peer) -> Any:
        power_w, duration_s = _whole(args, "power_w"), _whole(args, "duration_s")
        if not power_w or duration_s == 0:
            raise Refusal("bad-request", "a discharge needs a power above 0, and a duration above 0 if any")
        min_soc = _whole(args, "min_soc", most=100)
        evse = self._evse(args)
        return await self._order(
            DischargeWished(self._next_order(), peer.name, evse, power_w, min_soc, duration_s)
        )

    @takes("circuit percent duration_s")
    async def _flex(self, args: Args, peer: Peer) -> Any:
        circuit, percent = _text(args, "circuit") or SITE, _whole(args, "percent", most=100)
        duration_s = _whole(args, "duration_s")
        known = self._runtime.depot.site.circuits
        if circuit not in known:
            raise Refusal("unknown-circuit", f"no circuit {circuit!r}; there are {', '.join(known)}")
        if percent is None or not duration_s or duration_s > LONGEST_S:
            hours = LONGEST_S / 3600
            raise Refusal("bad-request", f"flexibility needs a percentage and a duration up to {hours:g} h")
        return await self._order(
            FlexWished(self._next_order(), peer.name, CircuitId(circuit), percent, duration_s)
        )

    @takes()
    async def _flex_end(self, args: Args, peer: Peer) -> Any:
        await self._runtime.report(FlexEnded(peer.name))
        return {}

    @takes("evse text")
    async def _schedule_set(self, args: Args, peer: Peer) -> Any:
        site = self._runtime.depot.site
        try:
            now = self._runtime.clock.now().utc
            schedule = read_schedule(_text(args, "text") or "", site.timezone, now)
        except ValueError as error:
            raise Refusal("bad-schedule", str(error)) from None
        await self._runtime.report(ScheduleSet(peer.name, self._evse(args), schedule))
        return schedule_document(schedule)

    @takes("evse schedule")
    async def _schedule_clear(self, args: Args, peer: Peer) -> Any:
        evse, name = self._evse(args), _text(args, "schedule")
        known = [schedule.id for schedule in self._runtime.depot.schedules(evse)]
        if name is not None and name not in known:
            raise Refusal(
                "unknown-schedule", f"{evse} has no schedule {name!r}; it has: {', '.join(known) or 'none'}"
            )
        await self._runtime.report(ScheduleCleared(peer.name, evse, name))
        return {"cleared": known if name is None else [name]}

    @takes("target at energy_wh soc")
    async def _depart(self, args: Args, peer: Peer) -> Any:
        departure = departure_of(self._runtime, args)
        await self._runtime.report(DepartureSet(peer.name, departure))
        return {"target": departure.target, "missing_wh": self._runtime.depot.missing_wh(departure)}

    async def _order(self, event: Wished | FlexWished) -> Any:
        await self._runtime.report(event)
        return {"order": event.order}

    def _next_order(self) -> str:
        self._orders += 1
        return f"o-{self._orders}"

    def _evse(self, args: Args) -> EvseId:
        return evse_of(self._runtime, args)


def evse_of(runtime: Runtime, args: Args) -> EvseId:
    """A station with one EVSE may be named in its place."""
    name, evses = args.get("evse"), runtime.depot.site.evses
    if isinstance(name, str) and EvseId(name) in evses:
        return EvseId(name)
    if isinstance(name, str) and EvseId(f"{name}/1") in evses and EvseId(f"{name}/2") not in evses:
        return EvseId(f"{name}/1")
    raise Refusal("unknown-evse", f"no EVSE {name!r}; `depot status` lists them")


def departure_of(runtime: Runtime, args: Args) -> Departure:
    site, target = runtime.depot.site, _text(args, "target") or ""
    if target not in site.evses and target not in site.vehicles:
        raise Refusal("unknown", f"no EVSE and no vehicle {target!r}")
    at, energy_wh, soc = _time(args, "at"), _whole(args, "energy_wh"), _whole(args, "soc", most=100)
    if at is None or (energy_wh is None) == (soc is None):
        raise Refusal("bad-request", "a departure needs a time and either energy or a state of charge")
    if (wrong := wrong_with(at, runtime.clock.now().utc, site.timezone)) is not None:
        raise Refusal("bad-request", wrong)
    return Departure(target, at, energy_wh, soc)


async def stored(runtime: Runtime, event: Event) -> None:
    """Reports what somebody said, and returns once it is in the ledger; refused where it cannot be."""
    try:
        await runtime.report(event)
    except LedgerError as error:
        raise Refusal("not-stored", str(error)) from None


async def _answers(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True  # not ours to judge, so not ours to remove
    writer.close()
    return True


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


async def _write(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    writer.write(_line(message))
    try:
        async with asyncio.timeout(SLOW_S):
            await writer.drain()
    except TimeoutError:
        log.warning("console: a client does not read, dropped")
        writer.transport.abort()  # close() would wait for it to read what is buffered
        raise


def _text(args: Args, key: str) -> str | None:
    value = args.get(key)
    if value is not None and not isinstance(value, str):
        raise Refusal("bad-request", f"{key} must be text")
    return value


def _whole(args: Args, key: str, most: int = 10**9) -> int | None:
    value = args.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise Refusal("bad-request", f"{key} must be a whole number from 0 to {most}")
    return value


def _time(args: Args, key: str) -> datetime | None:
    value = _text(args, key)
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise Refusal("bad-request", f"{key} needs a zone, like 2026-11-22T18:00:00Z")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it would lie outside the calendar
        raise Refusal("bad-request", f"{key} must be a time like 2026-11-22T18:00:00Z") from None
