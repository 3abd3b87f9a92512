"""The console's calls about alarms: the list, one of them with what to do, and what people may do about them.

Owns how an id a person typed is found (an alarm, or an incident: then each of its alarms) and what is refused before
anything is reported; what becomes of alarms is `core.alarms`'. Must not be reachable from anywhere but the control socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from controller import alarm_store
from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _whole, stored
from controller.core.alarm_facts import fact_of
from controller.core.alarm_shelf import MOST, MOST_SHELF_S, Hush
from controller.core.alarms import Alarm, Alarms
from controller.core.events import AlarmAcked, AlarmShelved, AlarmUnshelved, ServiceChanged
from controller.core.snapshot import AlarmView
from controller.core.wire import instant_text, to_plain
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage

LONGEST_REASON = 200
ACTS = timedelta(days=30)
Json = Mapping[str, Any]
LIST = "`depot alarms --all` lists them"


class AlarmCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call). `look_up`: what a driver's dictionary
    says about a fault code (title, effect, causes, actions, runbook)."""

    def __init__(
        self, runtime: Runtime, storage: Storage, look_up: Callable[[str], Json | None] = lambda code: None
    ) -> None:
        self._runtime = runtime
        self._storage = storage
        self._look_up = look_up
        self.table: Mapping[str, tuple[bool, Call]] = {
            "alarms": (False, self._list),
            "alarm": (False, self._show),
            "alarm-ack": (True, self._ack),
            "alarm-shelve": (True, self._shelve),
            "alarm-unshelve": (True, self._unshelve),
            "service": (True, self._service),
        }

    @property
    def _alarms(self) -> Alarms:
        return self._runtime.depot.alarms

    @takes()
    async def _list(self, args: Args, peer: Peer) -> Any:
        """`alarms`: what calls a person, incidents as one; `quiet`: the rest; `silenced`: by whom, why, until when."""
        calling, quiet = self._alarms.views()
        return {
            "alarms": [to_plain(view) for view in calling],
            "quiet": [to_plain(view) for view in quiet],
            "silenced": [_silence(hush) for hush in self._alarms.hushes.all()],
        }

    @takes("alarm")
    async def _show(self, args: Args, peer: Peer) -> Any:
        """One alarm, or an incident: with its `fact`, its `members`' views, its `history` and what people did."""
        found, view = self._named(args)
        first = found[0]
        code = self._look_up(first.source.rpartition(" ")[2])
        fact, since = _explained(first.kind, code), self._runtime.clock.now().utc - ACTS
        try:
            history, acts = await self._storage.read(
                LEDGER,
                lambda db: (
                    alarm_store.history(db, first.kind, first.source),
                    alarm_store.acts(db, first.source, alarm_store.text_of(since)),
                ),
            )
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        ids = {alarm.id for alarm in found}
        single = [each for views in self._alarms.views() for each in views if each.id in ids]
        members = [to_plain(each) for each in single if view.members]
        return {
            "alarm": to_plain(view),
            "fact": fact,
            "code": code,
            "alarms": members,
            "history": history,
            "acts": acts,
        }

    @takes("alarm")
    async def _ack(self, args: Args, peer: Peer) -> Any:
        """`acked`: their ids; those that somebody has already are left to them."""
        found, _ = self._named(args)
        fresh = [alarm.id for alarm in found if alarm.acked_by is None]
        for id in fresh:
            await stored(self._runtime, AlarmAcked(peer.name, id))
        others = sorted({alarm.acked_by for alarm in found if alarm.id not in fresh and alarm.acked_by})
        return {"acked": fresh, "before_by": others}

    @takes("alarm for_s reason")
    async def _shelve(self, args: Args, peer: Peer) -> Any:
        found, _ = self._named(args)
        for_s, reason = _whole(args, "for_s"), _reason(args)
        if not for_s or for_s > MOST_SHELF_S:
            hours = MOST_SHELF_S / 3600
            text = f"a shelf has an end, {hours:g} h at most; for longer: depot alarms out-of-service SOURCE"
            raise Refusal("bad-request", text)
        self._room(len(found))
        keys = [alarm.key for alarm in found]
        for kind, source in keys:
            await stored(self._runtime, AlarmShelved(peer.name, kind, source, float(for_s), reason))
        until = instant_text(self._runtime.clock.now().utc + timedelta(seconds=for_s))
        return {"shelved": [f"{kind} {source}" for kind, source in keys], "until": until}

    @takes("alarm")
    async def _unshelve(self, args: Args, peer: Peer) -> Any:
        """`alarm`: an id, or the source of alarms that are shelved though nothing is wrong now."""
        name = _text(args, "alarm") or ""
        keys = {alarm.key for alarm in self._alarms.named(name)}
        shelves = [hush for hush in self._alarms.hushes.all() if hush.kind]
        found = [hush for hush in shelves if (hush.kind, hush.source) in keys or hush.source == name]
        if not found:
            raise Refusal("unknown-alarm", f"nothing is shelved as {name!r}; {LIST}")
        for hush in found:
            await stored(self._runtime, AlarmUnshelved(peer.name, hush.kind, hush.source))
        return {"unshelved": [f"{hush.kind} {hush.source}" for hush in found]}

    @takes("source out reason")
    async def _service(self, args: Args, peer: Peer) -> Any:
        """`source` out of service (`out`), with a reason, or in service again."""
        source, out = _text(args, "source") or "", args.get("out")
        if not isinstance(out, bool):
            raise Refusal("bad-request", "out must be true or false")
        if not out:
            if self._alarms.hushes.get(("", source)) is None:
                raise Refusal("unknown-source", f"{source!r} is not out of service; {LIST}")
            await stored(self._runtime, ServiceChanged(peer.name, source, False, _text(args, "reason") or ""))
            return {"source": source}
        raised = {view.source for views in self._alarms.views() for view in views}
        if source not in raised and not self._alarms.places.known(source):
            text = f"nothing is called {source!r}; name a station, EVSE, circuit, meter, channel or what an alarm names"
            raise Refusal("unknown-source", text)
        reason = _reason(args)
        self._room(1)
        await stored(self._runtime, ServiceChanged(peer.name, source, True, reason))
        return {"source": source}

    def _named(self, args: Args) -> tuple[tuple[Alarm, ...], AlarmView]:
        """Its alarms, and how it is shown."""
        name = _text(args, "alarm") or ""
        found = self._alarms.named(name) if name else ()
        views = [view for each in self._alarms.views() for view in each]
        view = next((view for view in views if view.id == name), None)
        if not found or view is None:
            raise Refusal("unknown-alarm", f"no alarm {name!r} now; {LIST}")
        return found, view

    def _room(self, count: int) -> None:
        if len(self._alarms.hushes.all()) + count > MOST:
            raise Refusal("too-many", f"{MOST} sources are silenced already; see depot alarms --all")


def _explained(kind: str, code: Json | None) -> dict[str, Any]:
    """The catalogue's words; where there is a dictionary entry for the code, those."""
    fact = asdict(fact_of(kind))
    if code is None:
        return fact
    likely = "; ".join(code["causes"][:2])
    cause = f"{code['code']}, {code['title']}. Likely: {likely}"
    return fact | {"cause": cause, "consequence": code["effect"], "steps": code["runbook"] or code["actions"]}


def _reason(args: Args) -> str:
    reason = " ".join((_text(args, "reason") or "").split())
    if not reason or len(reason) > LONGEST_REASON:
        raise Refusal(
            "bad-request", f"whoever silences an alarm says why, in at most {LONGEST_REASON} characters"
        )
    return reason


def _silence(hush: Hush) -> dict[str, Any]:
    state = "shelved" if hush.kind else "out-of-service"
    times = {
        "since": instant_text(hush.since),
        "until": None if hush.until is None else instant_text(hush.until),
    }
    return {
        "state": state,
        "kind": hush.kind,
        "source": hush.source,
        "by": hush.by,
        "reason": hush.reason,
        **times,
    }
