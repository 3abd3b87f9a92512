"""The console's calls about proofs: begin one, follow it, end it, and what was proven so far.

Owns the one proof that may run at a time and its life: whoever began it has to keep asking how it goes; when nobody asks
any more, it ends and everything is lifted. Must not be reachable from anywhere but the control socket.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _whole
from controller.core.model import Evse, StationId, number_of
from controller.core.wire import instant_text
from controller.migrations import LedgerError
from controller.qualify import Outcome, Progress, prepare, qualify
from controller.qualify_checks import CHECKS
from controller.qualify_scene import Hindered, Prover
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage

log = logging.getLogger(__name__)

LOST_S = 15.0  # without a question: the command that follows asks every second
NEWS_S = 1.0  # how long an answer waits for something new


@dataclass(slots=True)
class _Run:
    name: str
    by: str
    progress: Progress
    task: asyncio.Task[None] | None = None
    patience: asyncio.TimerHandle | None = None
    why: str = ""  # it was ended from outside


class ProofCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call). `run` belongs beside it: with its end the
    proof under way ends too. Without a `prover` there are no stations that could be proven."""

    def __init__(self, runtime: Runtime, storage: Storage, prover: Prover | None) -> None:
        self._runtime = runtime
        self._storage = storage
        self._prover = prover
        self._run: _Run | None = None
        self._runs = 0
        self.table: Mapping[str, tuple[bool, Call]] = {
            "qualify": (True, self._qualify),
            "qualify-follow": (True, self._follow),
            "qualify-stop": (True, self._stop),
            "qualifications": (False, self._qualifications),
        }

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self._end("the controller stops")

    @takes("station evse skip quick dry")
    async def _qualify(self, args: Args, peer: Peer) -> Any:
        """Begins a proof; with `dry` only says what it would do and how long that takes."""
        evse = self._evse(args)
        if self._prover is None or not evse.link.channel.startswith("ocpp"):
            text = f"{evse.station} is led over {evse.link.channel}: only stations on OCPP are proven"
            raise Refusal("refused", text)
        if (running := self._running()) is not None:
            text = f"{running.by} proves {running.progress.evse.id} right now; one at a time"
            raise Refusal("busy", text)
        skipped = args.get("skip") or []
        if not isinstance(skipped, list) or any(check not in CHECKS for check in skipped):
            raise Refusal("bad-request", f"skip must list some of {', '.join(CHECKS)}")
        if set(skipped) >= set(CHECKS):
            raise Refusal("bad-request", "with every check skipped nothing is left")
        try:
            progress = prepare(self._runtime, evse, skipped, args.get("quick") is True)
        except Hindered as hindered:
            raise Refusal("not-ready", str(hindered)) from None
        told = {
            "evse": evse.id,
            "seconds": round(progress.seconds()),
            "checks": progress.checks,
            "limits_ma": [progress.marks.low_ma, progress.marks.middle_ma, progress.marks.top_ma],
        }
        if args.get("dry") is True:
            return told
        self._runs += 1
        run = _Run(f"p-{self._runs}", peer.name, progress)
        self._run = run
        run.task = asyncio.create_task(self._work(run, self._prover))
        self._wait_for_follower(run)
        return {"run": run.name, **told}

    async def _work(self, run: _Run, prover: Prover) -> None:
        try:
            await qualify(self._runtime, prover, run.progress, run.by)
        except Exception:
            log.exception("the proof of %s failed", run.progress.evse.id)
            run.why = "an error in the controller; see its log"
        finally:
            if run.patience is not None:
                run.patience.cancel()
            run.progress.news.set()

    def _wait_for_follower(self, run: _Run) -> None:
        """Somebody asked; if nobody does so for a while, the proof ends."""

        def lost() -> None:
            if run.task is not None and not run.task.done():
                run.why = "nobody followed it any more"
                run.task.cancel()

        if run.patience is not None:
            run.patience.cancel()
        run.patience = asyncio.get_running_loop().call_later(LOST_S, lost)

    @takes("run seen")
    async def _follow(self, args: Args, peer: Peer) -> Any:
        """What is new after the first `seen` lines, waiting a moment for it."""
        run, seen = self._of(args), _whole(args, "seen") or 0
        if not _is_over(run):
            self._wait_for_follower(run)
        if len(run.progress.lines) <= seen and not _is_over(run):
            run.progress.news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(NEWS_S):
                    await run.progress.news.wait()
        progress = run.progress
        check = next((each for each in progress.checks if each not in progress.done), None)
        return {
            "lines": [
                {"at": instant_text(line.at.replace(microsecond=0)), "check": line.check}
                | {"text": line.text, "passed": line.passed}
                for line in progress.lines[seen:]
            ],
            "check": check,
            "seconds": round(progress.seconds()),
            "left_s": round(progress.left_s(self._runtime.clock.now().mono_s)),
            "outcome": _outcome(run) if _is_over(run) else None,
        }

    @takes("run")
    async def _stop(self, args: Args, peer: Peer) -> Any:
        run = self._of(args)
        await self._end(f"ended by {peer.name}")
        return {"outcome": _outcome(run)}

    @takes()
    async def _qualifications(self, args: Args, peer: Peer) -> Any:
        """Every station: the firmware it runs, whether that is proven, and what each proof found, newest first."""
        depot = self._runtime.depot

        def work(db: sqlite3.Connection) -> list[dict[str, Any]]:
            names = ("station", "firmware", "at", "by", "passed", "findings")
            rows = db.execute(f"SELECT {', '.join(names)} FROM qualifications ORDER BY at DESC")
            return [dict(zip(names, row, strict=True)) for row in rows]

        try:
            rows = await self._storage.read(LEDGER, work)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        proofs: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            proof = row | {"passed": bool(row["passed"]), "findings": json.loads(row["findings"])}
            proofs.setdefault(proof.pop("station"), []).append(proof)
        links = {evse.station: evse.link for evse in depot.site.evses.values()}
        return {
            "stations": [
                {
                    "id": station,
                    "channel": link.channel,
                    "needs_proof": link.needs_proof,
                    "firmware": depot.firmware(station) or None,
                    "proven": _is_proven(depot.firmware(station), depot.proven_firmware(station)),
                    "proofs": proofs.get(station, []),
                }
                for station, link in links.items()
            ]
        }

    async def _end(self, why: str) -> None:
        run = self._running()
        if run is not None and run.task is not None:
            run.why = why
            run.task.cancel()
            await asyncio.wait({run.task})

    def _running(self) -> _Run | None:
        return self._run if self._run is not None and not _is_over(self._run) else None

    def _of(self, args: Args) -> _Run:
        if self._run is None or self._run.name != _text(args, "run"):
            raise Refusal("unknown-run", "no such proof; the controller was restarted, or a later one began")
        return self._run

    def _evse(self, args: Args) -> Evse:
        """The one that is named, else the first with a session, else the first."""
        station, number = StationId(_text(args, "station") or ""), _whole(args, "evse")
        own = [evse for evse in self._runtime.depot.site.evses.values() if evse.station == station]
        if not own:
            raise Refusal("unknown-station", f"no station {station!r}; `depot qualify --list` shows them")
        if number is not None:
            for evse in own:
                if number_of(evse.id) == number:
                    return evse
            raise Refusal("unknown-evse", f"{station} has no EVSE {number}")
        snapshot = self._runtime.snapshot
        busy = {view.id for view in snapshot.evses if view.session is not None} if snapshot else set()
        return next((evse for evse in own if evse.id in busy), own[0])


def _is_over(run: _Run) -> bool:
    return run.task is not None and run.task.done()


def _is_proven(firmware: str, proven: str | None) -> bool:
    return proven is not None and proven == firmware


def _outcome(run: _Run) -> dict[str, Any]:
    outcome = run.progress.outcome or Outcome(False, False, (), "it did not begin")
    return asdict(outcome) | {"hindered": run.why or outcome.hindered}
