"""The console's calls about what is to come: the roster, and states of charge that people read off a vehicle.

Owns how a file larger than a line of the socket comes in (pieces, held in bounded memory until the last), and that it is
taken whole or not at all. Parsing runs in a thread, beside the steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, stored
from controller.core.charge_told import STORED_PCT
from controller.core.events import RosterSet, SocTold
from controller.core.roster import RosterEntry, is_over, occasions
from controller.core.wire import instant_text
from controller.roster_file import BadRoster, Merged, merged, read_csv
from controller.roster_ics import read_ics
from controller.runtime import Runtime

MOST_CHARACTERS = 1_000_000
UPLOADS = 4  # at once; the oldest of more is given up
READERS = {".csv": read_csv, ".ics": read_ics}
PAGE = 500
LISTED = timedelta(days=7)  # of what repeats


class RosterCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._uploads: dict[tuple[str, str], list[str]] = {}
        self._one_at_a_time = asyncio.Lock()
        self.table: Mapping[str, tuple[bool, Call]] = {
            "roster": (False, self._list),
            "roster-import": (True, self._import),
            "roster-clear": (True, self._clear),
            "soc": (True, self._soc),
        }

    @takes("skip")
    async def _list(self, args: Args, peer: Peer) -> Any:
        """What is to come, in order of departure: `turns`, a page of them from number `skip` on."""
        skip = args.get("skip", 0)
        if not isinstance(skip, int) or isinstance(skip, bool) or skip < 0:
            raise Refusal("bad-request", "skip must be a whole number from 0")
        depot, now = self._runtime.depot, self._runtime.clock.now().utc
        entries = depot.agenda.entries
        turns = await asyncio.to_thread(_turns, entries, now)
        site = depot.site
        rows = [_document(turn, turn.vehicle in site.vehicles) for turn in turns[skip : skip + PAGE]]
        return {"turns": rows, "more": len(turns) > skip + PAGE, "entries": len(entries)}

    @takes("file text upload piece last replace")
    async def _import(self, args: Args, peer: Peer) -> Any:
        """`text`: a piece of the file called `file`; pieces of one `upload` come in their order, numbered by `piece`;
        the one that is `last` has it read and stored."""
        name, text, upload = args.get("file"), args.get("text"), args.get("upload")
        piece, last, replace_all = args.get("piece"), args.get("last"), args.get("replace", False)
        if not (isinstance(name, str) and isinstance(text, str) and isinstance(upload, str)):
            raise Refusal("bad-request", "file, text and upload are texts")
        if type(piece) is not int or not isinstance(last, bool) or not isinstance(replace_all, bool):
            raise Refusal("bad-request", "piece is a whole number, last and replace are true or false")
        suffix = name[-4:].casefold()
        if suffix not in READERS or len(name) > 255:
            raise Refusal("bad-request", f"{name[:60]}: a roster is a .csv or an .ics file")
        whole = self._collected((peer.name, upload), piece, text)
        if not last:
            return {"pieces": piece + 1}
        del self._uploads[peer.name, upload]
        async with self._one_at_a_time:
            site, now = self._runtime.depot.site, self._runtime.clock.now().utc
            known = self._runtime.depot.agenda.entries

            def read() -> Merged:
                return merged(name, READERS[suffix](whole, site.timezone), known, site, now, replace_all)

            try:
                taken = await asyncio.to_thread(read)
            except BadRoster as error:
                raise Refusal("bad-roster", str(error)) from None
            note = f"{name}: {taken.added} entries" + (", in place of all" if replace_all else "")
            await stored(self._runtime, RosterSet(peer.name, taken.entries, note))
        return {
            "added": taken.added,
            "replaced": taken.replaced,
            "entries": len(taken.entries),
            "notes": list(taken.notes),
        }

    def _collected(self, key: tuple[str, str], piece: int, text: str) -> str:
        if piece == 0:
            self._uploads.pop(key, None)
            self._uploads[key] = []
            while len(self._uploads) > UPLOADS:
                del self._uploads[next(iter(self._uploads))]
        pieces = self._uploads.get(key)
        if pieces is None or piece != len(pieces):
            raise Refusal("bad-request", f"piece {piece} does not follow; begin again with piece 0")
        pieces.append(text)
        if sum(map(len, pieces)) > MOST_CHARACTERS:
            del self._uploads[key]
            raise Refusal("bad-roster", f"a roster has {MOST_CHARACTERS // 1000} kB at most; split it")
        return "".join(pieces)

    @takes()
    async def _clear(self, args: Args, peer: Peer) -> Any:
        async with self._one_at_a_time:
            gone = len(self._runtime.depot.agenda.entries)
            await stored(self._runtime, RosterSet(peer.name, (), f"cleared, {gone} entries before"))
        return {"cleared": gone}

    @takes("target soc")
    async def _soc(self, args: Args, peer: Peer) -> Any:
        target, soc = args.get("target"), args.get("soc")
        if not isinstance(target, str) or type(soc) is not int or not 0 <= soc <= 100:
            raise Refusal("bad-request", "target is an EVSE or a vehicle, soc a whole number from 0 to 100")
        depot = self._runtime.depot
        site = depot.site
        if target not in site.evses and f"{target}/1" in site.evses:
            target = f"{target}/1"
        if target not in site.evses and target not in site.vehicles:
            raise Refusal("unknown", f"no EVSE and no vehicle {target!r}")
        session = depot.session(target)
        if session is None:
            raise Refusal("no-session", f"{target} does not charge now; say it once it is plugged in")
        known = None if session.vehicle is None else site.vehicles.get(session.vehicle)
        if known is None or known.battery_wh is None:
            text = f"the battery at {session.evse} is not known, so a percentage says nothing; say its need as energy:"
            raise Refusal("no-battery", f'{text} depot depart {session.evse} --at TIME --energy "30 kWh"')
        await stored(self._runtime, SocTold(peer.name, session.evse, soc))
        return {
            "evse": session.evse,
            "vehicle": known.id,
            "soc": soc,
            "battery_wh": known.battery_wh,
            "stored_pct": STORED_PCT,
        }


def _turns(entries: tuple[RosterEntry, ...], now: datetime) -> list[RosterEntry]:
    """Everything that is dated, and a week of what repeats."""
    found: list[RosterEntry] = []
    for entry in entries:
        if entry.repeat is not None:
            found += occasions(entry, now, now + LISTED)
        elif not is_over(entry, now):
            found.append(entry)
    return sorted(found, key=lambda turn: (turn.departs, turn.vehicle))


def _document(turn: RosterEntry, known: bool) -> dict[str, Any]:
    return {
        "vehicle": turn.vehicle,
        "known": known,
        "departs": instant_text(turn.departs),
        "energy_wh": turn.energy_wh,
        "soc": turn.soc,
        "arrives": None if turn.arrives is None else instant_text(turn.arrives),
        "returns": None if turn.returns is None else instant_text(turn.returns),
        "evse": turn.evse,
        "block": turn.block,
    }
