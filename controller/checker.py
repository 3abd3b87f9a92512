"""The judge: re-computes from the journal alone whether the fuse was safe, step by step, and whose fault it was if not.

Standard library only and no code of the controller, so that its mistakes are not repeated here; small enough to be read in
one sitting. Rows come as plain values (words: controller.journal_read). It believes the journal's facts: readings, answers
of stations, what was sent and for how many phases, which phases a vehicle uses. It does not believe its sums.

The laws, each kept at every step on every circuit and phase:
  raise       after a raise, what all EVSEs may draw + the load that is not ours <= limit (- margin of the meter), unless
              the new limit is at or below what the station does alone
  unseen      no raise above that while a meter on the way to the grid is silent for more than 3 s
  grant       grants and what nobody can lower now fit in what is left; where even the latter does not, nobody gets more
  follow      whoever has more than its grant is told so within 3 s (unless it refuses)
  booked      a limit that was sent counts until it is refused, its lease is over or a later one is followed
  background  the load that is not ours is at least the meter minus all that ours may draw; unknown is the worst, not 0
Excess without a breach is what only foreign load explains, or a station that did what it was not told (`foreign`: what
could flow, "excess", and what a meter really saw above the limit, "metered").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.checker_books import LATE_S, Books

SILENT_S = 3.0
BLIND_S = 60.0
FOLLOW_S = 3.0
LATELY_S = 25.0  # what ours may have drawn when a reading was taken, as far back as samples are looked at
SAMPLE_MA, SAMPLE_PCT = 1000, 2  # an EVSE may draw this much above its limit before it is booked
STUBBORN = 2  # limits refused in a row: it keeps what it has
MOST = 1000  # findings of one kind that are kept
NAMES = ("L1", "L2", "L3")

Place = tuple[str, int]  # circuit and phase
Broken = Iterator[tuple[str, str, int, str]]  # law, where, by how much, what happened


@dataclass(slots=True)
class Finding:
    """`worst_ma`: the highest excess; amp_s: its sum over time. Times: UTC in ms since 1970."""

    law: str
    where: str
    first_ms: int
    last_ms: int
    lasted_s: float = 0.0
    worst_ma: int = 0
    amp_s: float = 0.0
    detail: str = ""


@dataclass(slots=True)
class _Weight:
    """What one EVSE counts for until `until_s`, unless its row changes: the worst it may draw; what nobody can lower now,
    or its grant if that is more (`need`)."""

    of: tuple[Any, ...]
    until_s: float
    worst_ma: int
    wide_ma: int  # of that, on phases that a switch of phases leaves
    firm_ma: int
    total: Mapping[Place, int]
    need: Mapping[Place, int]


@dataclass(slots=True)
class Checker:
    """`see` the rows in order; `breaches` and `foreign` then hold what was found."""

    breaches: list[Finding] = field(default_factory=list)
    foreign: list[Finding] = field(default_factory=list)
    steps: int = 0
    _site: Any = None
    _before: tuple[str | None, float, float] = (
        None,
        0.0,
        0.0,
    )  # boot, mono and mono minus wall of the last step
    _paths: dict[str, list[str]] = field(default_factory=dict)
    _weights: dict[str, _Weight] = field(default_factory=dict)
    _total: dict[Place, int] = field(default_factory=dict)
    _need: dict[Place, int] = field(default_factory=dict)
    _lately: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _above: dict[str, float] = field(default_factory=dict)  # since when an EVSE has more than its grant
    _books: Books = field(default_factory=Books)
    _open: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def check(self, rows: Iterable[tuple[Any, Any]]) -> Checker:
        for site, row in rows:
            self.see(site, row)
        return self

    def see(self, site: Any, row: Any) -> None:
        t, (boot, last_t, _) = row["t"], self._before
        if site is not self._site:
            self._enter(site, row)
        gap_s = t - last_t if boot == site["boot"] else 0.0
        self.steps += 1
        for evse in row["e"]:
            self._weigh(row, evse, t)
        broken: dict[tuple[str, str], tuple[int, str]] = {}
        for law in (self._booked, self._raises, self._unseen, self._grants, self._follow, self._background):
            broken |= {(name, where): (ma, detail) for name, where, ma, detail in law(row, t)}
        self._note(broken, self.breaches, row, gap_s)
        blamed = {where for _, where in broken}
        over = {
            (law, where): (ma, "")
            for law, where, ma, _ in self._excess(row, t)
            if law == "metered" or where not in blamed
        }
        self._note(over, self.foreign, row, gap_s)
        self._open = {key: known for key, known in self._open.items() if key in broken or key in over}
        self._before = (site["boot"], t, t - row["u"] / 1000)

    # --- the world ------------------------------------------------------------------------------------------------

    def _enter(self, site: Any, row: Any) -> None:
        """A new block brings the site again; perhaps another one, or another process."""
        self._site, circuits, (boot, _, clock) = site, site["circuits"], self._before
        self._paths = {}
        for name, evse in site["evses"].items():
            path, at = [], evse["circuit"]
            while at is not None:
                path.append(at)
                at = circuits[at]["parent"]
            self._paths[name] = path
        self._weights, self._total = {}, {(c, p): 0 for c in circuits for p in range(3)}
        self._need = dict(self._total)
        if boot is not None and boot != site["boot"]:
            self._lately, self._above, self._open = {}, {}, {}
            shift = row["t"] - row["u"] / 1000 - clock
            self._books.restarted(shift if abs(shift) > BLIND_S else 0.0, row["x"])

    def _weigh(self, row: Any, evse: str, t: float) -> None:
        """Brings the sums up to date; what has not changed weighs the same until a part of it ends."""
        account, asks, used = row["e"][evse], evse in row["d"], row["p"].get(evse)
        switched = evse in row.get("s", ())
        of, was = (account, asks, used, row["g"][evse][0] if asks else 0, switched), self._weights.get(evse)
        if was is not None and t < was.until_s and was.of[0] is account and was.of[1:] == of[1:]:
            return
        fallback, alone, proven, accepted, until, sent, holds, overdraw, over_until, refusals = account[:10]
        known = self._site["evses"][evse]
        first = known["phases"][:1]
        doubtful = known["link"]["needs_proof"] and alone and not proven
        floor = known["max"] if fallback is None or doubtful else fallback
        parts = [(s[1], s[3], False, s[4:]) for s in sent] + [(h[0], h[1], h[2], h[4:]) for h in holds]
        parts += [(overdraw, over_until or 0.0, True, [])]
        parts += [(accepted or 0, until or 0.0, refusals >= STUBBORN, account[10:])]
        alive = [part for part in parts if part[1] > t]
        worst = max([floor, *(part[0] for part in alive)])
        on_one = worst > floor and all(phases == [1] for ma, _, _, phases in alive if ma > floor)
        firm = max([floor, *(part[0] for part in alive if part[2])]) if asks else worst
        total = self._spread(evse, first if on_one else used, floor, worst)
        need = self._spread(evse, first if switched else used, firm, max(firm, of[3]))
        for sums, new, old in ((self._total, total, was and was.total), (self._need, need, was and was.need)):
            for place, ma in new.items():
                sums[place] += ma - (old[place] if old else 0)
        if was is not None:
            lately = [(at, ma) for at, ma in self._lately.get(evse, []) if at > t]
            self._lately[evse] = [*lately, (t + LATELY_S, was.worst_ma)]
        ends = min((part[1] for part in alive), default=float("inf"))
        self._weights[evse] = _Weight(of, ends, worst, floor if on_one else worst, firm, total, need)

    def _spread(self, evse: str, used: Any, alone: int, worst: int) -> Mapping[Place, int]:
        """On which circuits and phases it counts: above what it does alone only where its vehicle takes current, or where
        its station lets it."""
        phases = self._site["evses"][evse]["phases"]
        counts = {p: worst if used is None or p in used else min(worst, alone) for p in phases}
        return {(c, p): ma for c in self._paths[evse] for p, ma in counts.items()}

    def _room(self, row: Any, place: Place, raising: bool) -> int:
        """What all EVSEs below may take together."""
        (name, phase), circuit = place, self._site["circuits"][place[0]]
        limit, load = circuit["limit"][phase], row["c"].get(name)
        if load is None:
            room = limit - (0 if circuit["assumed"] is None else circuit["assumed"][phase])
        else:
            foreign = max(load[phase], load[3 + phase]) if raising else load[phase]
            room = limit - limit * self._site["margin_pct"] // 100 - max(0, foreign)
        return int(min([room, *(b[2 if raising else 1][phase] for b in row["b"] if b[0] == name)]))

    # --- the laws -------------------------------------------------------------------------------------------------

    def _above_alone(self, row: Any, t: float) -> Iterator[tuple[str, int, list[int]]]:
        """The raises that need room. More phases are one."""
        for evse, name, limit, _, *phases in row["w"]:
            account = row["e"][evse]
            others = [(sent[1], sent[4:]) for sent in account[5] if sent[0] != name]
            accepted = account[3] if account[3] is not None and account[4] > t else 0
            alone = self._site["evses"][evse]["max"] if account[0] is None else account[0]
            before, on = others[-1] if others else (accepted, account[10:])
            if limit > alone and (limit > before or (on and not phases)):
                yield evse, limit, phases

    def _raises(self, row: Any, t: float) -> Broken:
        watched = {
            where: "" for law, where in self._open if law == "raise"
        }  # a breach lasts until it fits again
        for evse, limit, phases in self._above_alone(row, t):
            wired = self._site["evses"][evse]["phases"]
            used = wired[:1] if phases else row["p"].get(evse) or wired
            told = f"{evse} raised to {limit / 1e3:g} A"
            watched |= {f"{c} {NAMES[p]}": told for c in self._paths[evse] for p in used}
        for place in self._total if watched else ():
            where = f"{place[0]} {NAMES[place[1]]}"
            if where in watched and (over := self._total[place] - self._room(row, place, True)) > 0:
                yield "raise", where, over, watched[where]

    def _unseen(self, row: Any, t: float) -> Broken:
        for evse, limit, _ in self._above_alone(row, t):
            for circuit in self._paths[evse]:
                reading = row["m"].get(circuit)
                if reading is not None and (reading[3] is None or t - reading[3] > SILENT_S + LATE_S):
                    yield "unseen", evse, limit, f"raised while the meter of {circuit} was silent"

    def _grants(self, row: Any, t: float) -> Broken:
        for place, need in self._need.items():
            if need and (over := need - self._room(row, place, False)) > 0:
                for evse, weight in self._weights.items():
                    if weight.need.get(place, 0) > weight.firm_ma:
                        yield "grant", f"{place[0]} {NAMES[place[1]]}", over, f"{evse} among them"
                        break

    def _follow(self, row: Any, t: float) -> Broken:
        for evse, (grant, _, takes, _) in row["g"].items():
            account = row["e"][evse]
            has = account[3] if account[3] is not None and account[4] > t else 0
            if not takes or has <= grant or account[5] or account[9]:
                self._above.pop(evse, None)
            elif t - self._above.setdefault(evse, t) > FOLLOW_S:
                yield "follow", evse, has - grant, "was not lowered"

    def _booked(self, row: Any, t: float) -> Broken:
        for evse, name in self._books.fold(self._site, row, t):
            yield "booked", evse, 0, f"{name} was sent and is not in the book"
        for evse, most, wide in self._books.most_ma(t):
            weight = self._weights.get(evse)
            if weight is not None and (over := max(most - weight.worst_ma, wide - weight.wide_ma)) > 0:
                yield "booked", evse, over, "may follow a limit that is not in the book"

    def _background(self, row: Any, t: float) -> Broken:
        for name, load in row["c"].items():
            circuit, reading = self._site["circuits"][name], row["m"].get(name) or [None] * 4
            age = float("inf") if reading[3] is None else t - reading[3]
            for phase in range(3):
                taken, least = min(load[phase], load[3 + phase]), None
                if age > BLIND_S + LATE_S and (circuit["assumed"] is not None or reading[3] is None):
                    least = (circuit["assumed"] or circuit["limit"])[phase]
                elif (
                    age <= SILENT_S
                    and None not in reading
                    and taken < reading[phase] - self._total[name, phase]
                ):
                    least = reading[phase] - self._lately_ma((name, phase), t)
                if least is not None and taken < least:
                    yield "background", f"{name} {NAMES[phase]}", least - taken, "taken for less than it is"

    def _lately_ma(self, place: Place, t: float) -> int:
        """The most that ours may have drawn there when the newest reading was taken."""
        return sum(
            max([weight.worst_ma, *(ma for at, ma in self._lately.get(evse, ()) if at > t)])
            + max(SAMPLE_MA, weight.worst_ma * SAMPLE_PCT // 100)
            for evse, weight in self._weights.items()
            if place in weight.total
        )

    def _excess(self, row: Any, t: float) -> Broken:
        for (name, phase), ours in self._total.items():
            circuit, load = self._site["circuits"][name], row["c"].get(name)
            foreign = load[phase] if load is not None else (circuit["assumed"] or (0, 0, 0))[phase]
            if ours and (over := ours + max(0, foreign) - circuit["limit"][phase]) > 0:
                yield "excess", f"{name} {NAMES[phase]}", over, ""
            reading = row["m"].get(name) or [None]
            fresh = None not in reading and t - reading[3] <= SILENT_S
            if fresh and (over := reading[phase] - circuit["limit"][phase]) > 0:
                yield "metered", f"{name} {NAMES[phase]}", over, ""

    def _note(
        self,
        found: Mapping[tuple[str, str], tuple[int, str]],
        into: list[Finding],
        row: Any,
        gap_s: float,
    ) -> None:
        """Begins what is new and goes on with what lasts."""
        for (law, where), (ma, detail) in found.items():
            known = self._open.get((law, where))
            if known is None:
                known = self._open[law, where] = Finding(law, where, row["u"], row["u"], detail=detail)
                if len(into) < MOST:
                    into.append(known)
            else:
                known.lasted_s += gap_s
                known.amp_s += ma / 1000 * gap_s
            known.last_ms, known.worst_ma = row["u"], max(known.worst_ma, ma)
