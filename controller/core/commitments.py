"""Commitments: for every EVSE the worst current it may draw from now on without hearing from us again.

The one book that safety rests on. It never believes more than was acknowledged:
- until a station has stored its fallback it counts at its hardware maximum;
- a limit counts from the moment it is sent until its lease has certainly run out, or a later one was acknowledged;
- after an acknowledged decrease the old current counts on for the settling time of its
  link, which a vehicle may take to follow;
- a command without an answer counts as carried out *and* as not carried out.

A vehicle that feeds back frees no room here, however well it is measured. What others were raised into that room would
hold for their lease and slack (160 s to 17 min) and for as long as a decrease takes to be sent, answered and followed;
the discharge can be trusted for no time at all: a plug, a relay or the vehicle ends it without a word, within a second.
So a discharging EVSE counts at what it may draw once it charges again (its floor, or a lease not yet over), never
below; what it feeds back is only kept apart from the building's load (`belief`, `background`).

A limit for one phase (`phases` 1: the first conductor's) is trusted as any limit is. While all that may be in force above
the floor is of that kind, nothing above the floor counts on the other phases; the floor always does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from controller.core.model import Evse, EvseId, Site

OVERDRAW_MA = 1000  # a vehicle this much above its limit is booked at what it draws
OVERDRAW_PCT = 2  # what regulates a hundred amps does so in per cent
OVERDRAW_HOLD_S = 60.0
STUBBORN = 2  # limits in a row not accepted: its current is not ours to move for now


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that may still be drawn until `until_s`. `firm`: only the acknowledgement of a limit sent after
    `sent_s` can end it sooner."""

    current_ma: int
    until_s: float
    firm: bool
    sent_s: float = float("-inf")
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A limit on its way, not yet answered."""

    command: str
    limit_ma: int
    sent_s: float
    until_s: float
    phases: int | None = None


@dataclass(slots=True)
class Account:
    """The book of one EVSE. Mutated only by the methods of Commitments."""

    evse: Evse
    fallback_ma: int | None = None  # None: not proven to be stored
    accepted_ma: int | None = None
    accepted_until_s: float = 0.0
    sent: list[Sent] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    overdraw_ma: int = 0
    overdraw_until_s: float = 0.0
    wrote_s: float = float("-inf")
    refused_s: float = float("-inf")
    refusals: int = 0
    proven: bool = False  # a person saw it fall to its fallback, with this firmware
    alone: bool = True  # nothing was acknowledged since its link came up
    accepted_phases: int | None = None
    switched_s: float = float("-inf")  # when it first said yes to these
    outdated: bool = False  # its lease ends at a time of day that has been set since

    def floor_ma(self) -> int:
        """What it does alone. While it answers us a fallback that it has only promised counts too: what it makes of it
        then is measured."""
        doubtful = self.alone and not self.proven and self.evse.link.needs_proof
        return self.evse.max_ma if doubtful else self.heard_floor_ma()

    def heard_floor_ma(self) -> int:
        """What it does alone as soon as it has answered: the doubt ends then, so a limit has to fit without it."""
        return self.evse.max_ma if self.fallback_ma is None else self.fallback_ma

    def firm_ma(self, now_s: float) -> int:
        """The part of the commitment that no command of ours can lower now."""
        worst = max(self.floor_ma(), self.overdrawn_ma(now_s))
        if self.refusals >= STUBBORN:  # it keeps what it has until its lease ends: others must make room
            worst = max(worst, self.accepted_now_ma(now_s) or 0)
        for hold in self.holds:
            if hold.firm and hold.until_s > now_s:
                worst = max(worst, hold.current_ma)
        return worst

    def commitment_ma(self, now_s: float) -> int:
        return max(self._promised(now_s), self.overdrawn_ma(now_s))

    def allowed_ma(self, now_s: float) -> int:
        """The most it should draw right now: its accepted limit when that is certain, else the worst promised."""
        waiting = any(s.until_s > now_s for s in self.sent) or any(h.until_s > now_s for h in self.holds)
        if self.accepted_ma is not None and self.accepted_until_s > now_s and not waiting:
            return self.accepted_ma
        return self._promised(now_s)

    def _promised(self, now_s: float) -> int:
        worst = self.floor_ma()
        if self.accepted_ma is not None and self.accepted_until_s > now_s:
            worst = max(worst, self.accepted_ma)
        for sent in self.sent:
            if sent.until_s > now_s:
                worst = max(worst, sent.limit_ma)
        for hold in self.holds:
            if hold.until_s > now_s:
                worst = max(worst, hold.current_ma)
        return worst

    def unseen_ma(self, sampled_s: float, now_s: float) -> int | None:
        """What it may have come down to since that sample, if it was told anything that late; None: look at the sample."""
        if sampled_s >= self.wrote_s + self.evse.link.settle_s or self.overdraw_until_s > now_s:
            return None
        accepted = self.accepted_now_ma(now_s)
        told = self.heard_floor_ma() if accepted is None else accepted
        return min(told, *(sent.limit_ma for sent in self.sent)) if self.sent else told

    def accepted_now_ma(self, now_s: float) -> int | None:
        return self.accepted_ma if self.accepted_until_s > now_s else None

    def lease_left_s(self, now_s: float) -> float | None:
        """How long the accepted limit surely still holds (without the slack we budget for)."""
        if self.accepted_ma is None or self.accepted_until_s <= now_s:
            return None
        return max(0.0, self.accepted_until_s - self.evse.link.lease_slack_s - now_s)

    def settle(self, before_ma: int, after_ma: int, now_s: float, phases: int | None = None) -> None:
        """What was allowed before may still be drawn for a while."""
        if before_ma > after_ma:
            self.holds.append(Hold(before_ma, now_s + self.evse.link.settle_s, firm=False, phases=phases))

    def live(self, now_s: float) -> list[tuple[int, int | None]]:
        """Every limit that may be in force: the current, and on how many phases."""
        found = [(sent.limit_ma, sent.phases) for sent in self.sent if sent.until_s > now_s]
        found += [(hold.current_ma, hold.phases) for hold in self.holds if hold.until_s > now_s]
        if self.accepted_ma is not None and self.accepted_until_s > now_s:
            found.append((self.accepted_ma, self.accepted_phases))
        return found

    def outlasting(self, seconds: float, now_s: float) -> list[Hold]:
        """All that may be in force, for longer: what is sent from now on ends it, no answer to what was sent before."""
        found = [(sent.limit_ma, sent.until_s, sent.phases) for sent in self.sent]
        found += [(hold.current_ma, hold.until_s, hold.phases) for hold in self.holds if hold.firm]
        if self.accepted_ma is not None:
            found.append((self.accepted_ma, self.accepted_until_s, self.accepted_phases))
        return [
            Hold(current_ma, until_s + seconds, True, now_s, phases)
            for current_ma, until_s, phases in found
            if until_s > now_s
        ]

    def is_outlasted(self, now_s: float) -> bool:
        """Whether something counts for longer than any lease, because our clock was set back: only an answer ends it."""
        until_s = now_s + self.evse.link.lease_s + self.evse.link.lease_slack_s
        return any(hold.firm and hold.until_s > until_s for hold in self.holds)

    def one_phase(self, now_s: float) -> bool:
        """Whether all that may be drawn above the floor surely flows on the first conductor."""
        if not (self.accepted_phases or self.sent or self.holds):
            return False
        floor_ma = self.floor_ma()
        above = [phases for current_ma, phases in self.live(now_s) if current_ma > floor_ma]
        return bool(above) and None not in above and self.overdrawn_ma(now_s) <= floor_ma

    def distrust_phases(self) -> None:
        """It does not switch: whatever was said of one phase counts on all of them."""
        self.accepted_phases = None
        self.sent = [replace(sent, phases=None) for sent in self.sent]
        self.holds = [replace(hold, phases=None) for hold in self.holds]

    def overdrawn_ma(self, now_s: float) -> int:
        return self.overdraw_ma if self.overdraw_until_s > now_s else 0


class Commitments:
    """All accounts, and which command belongs to which."""

    def __init__(self, site: Site) -> None:
        self.accounts: dict[EvseId, Account] = {evse.id: Account(evse) for evse in site.evses.values()}
        self._owner: dict[str, EvseId] = {}

    # --- what we do -------------------------------------------------------------------------------------------

    def sent(
        self, evse: EvseId, command: str, limit_ma: int, now_s: float, phases: int | None = None
    ) -> None:
        account = self.accounts[evse]
        link = account.evse.link
        until_s = now_s + link.lease_s + link.lease_slack_s
        account.sent.append(Sent(command, limit_ma, now_s, until_s, phases))
        account.wrote_s = now_s
        account.outdated = False
        self._owner[command] = evse

    def clock_set(self, by_s: float, now_s: float) -> None:
        """Stations get their time from us: one whose clock goes back follows its lease for as much longer, unless a limit
        of the new time reaches it first."""
        for account in self.accounts.values():
            account.outdated = True
            if by_s < 0:
                account.holds += account.outlasting(-by_s, now_s)

    # --- what becomes of it -----------------------------------------------------------------------------------

    def accepted(self, command: str, now_s: float) -> EvseId | None:
        """The station follows this limit now. Everything sent before it is superseded: the wire keeps order."""
        account, entry = self._take(command)
        if account is None or entry is None:
            return None
        superseded = [(sent.limit_ma, sent.phases) for sent in account.sent if sent.sent_s <= entry.sent_s]
        superseded += [
            (hold.current_ma, hold.phases)
            for hold in account.holds
            if hold.firm and hold.sent_s <= entry.sent_s
        ]
        accepted_ma = account.accepted_now_ma(now_s)
        if not accepted_ma or entry.phases != account.accepted_phases:
            account.switched_s = now_s
        superseded.append(
            (accepted_ma, account.accepted_phases) if accepted_ma else (account.floor_ma(), None)
        )
        if account.alone:
            superseded.append((account.floor_ma(), None))
        account.sent = [sent for sent in account.sent if sent.sent_s > entry.sent_s]
        account.holds = [hold for hold in account.holds if not hold.firm or hold.sent_s > entry.sent_s]
        account.accepted_ma, account.accepted_until_s = entry.limit_ma, entry.until_s
        account.accepted_phases, account.refusals, account.alone = entry.phases, 0, False
        on_one = max((ma for ma, phases in superseded if phases is not None), default=0)
        on_all = max((ma for ma, phases in superseded if phases is None), default=0)
        account.settle(on_one, entry.limit_ma, now_s, phases=1)
        account.settle(on_all, account.floor_ma() if entry.phases else entry.limit_ma, now_s)
        return account.evse.id

    def refused(self, command: str, now_s: float) -> EvseId | None:
        account, entry = self._take(command)
        if account is None or entry is None:
            return None
        account.refused_s = now_s
        account.refusals += 1
        return account.evse.id

    def lost(self, command: str, now_s: float) -> EvseId | None:
        """Perhaps carried out, perhaps not: the new limit stays possible for its whole lease, the old one too."""
        account, entry = self._take(command)
        if account is None or entry is None:
            return None
        account.holds.append(Hold(entry.limit_ma, entry.until_s, True, entry.sent_s, entry.phases))
        if account.accepted_ma is not None and account.accepted_until_s > now_s:
            account.holds.append(
                Hold(account.accepted_ma, account.accepted_until_s, True, phases=account.accepted_phases)
            )
        account.refused_s = now_s
        account.refusals += 1
        return account.evse.id

    def replaced(self, command: str) -> EvseId | None:
        """Never left the box."""
        account, _ = self._take(command)
        return None if account is None else account.evse.id

    # --- what stations do by themselves -----------------------------------------------------------------------

    def fallback(self, evse: EvseId, limit_ma: int | None, now_s: float) -> None:
        """The station stored its fallback (None: it would not). A lower floor counts after the settling time."""
        account = self.accounts[evse]
        before_ma = account.floor_ma()
        account.fallback_ma, account.alone = limit_ma, False
        account.settle(before_ma, account.floor_ma(), now_s)

    def lost_sight(self, evse: EvseId) -> None:
        """The link is down: what it does now nobody sees."""
        self.accounts[evse].alone = True

    def proven(self, evse: EvseId, proven: bool) -> None:
        """Whether the station's present firmware was seen to fall to its fallback by itself."""
        self.accounts[evse].proven = proven

    def known(self, evse: EvseId, limit_ma: int) -> None:
        """After a restart: the station has had this fallback all along, so nothing has to settle."""
        self.accounts[evse].fallback_ma = limit_ma

    def restored(self, evse: EvseId, ceiling_ma: int, longer_s: float, now_s: float) -> None:
        """After a restart: some lease up to this ceiling may still be running, and for so much longer than it was given."""
        account = self.accounts[evse]
        link = account.evse.link
        until_s = now_s + link.lease_s + link.lease_slack_s + longer_s
        account.holds.append(Hold(ceiling_ma, until_s, firm=True))

    def rebooted(self, evse: EvseId, now_s: float) -> None:
        """Leases may be gone or not; what was accepted is no longer known, but stays possible."""
        account = self.accounts[evse]
        if account.accepted_ma is not None and account.accepted_until_s > now_s:
            account.holds.append(
                Hold(account.accepted_ma, account.accepted_until_s, True, phases=account.accepted_phases)
            )
        account.accepted_ma = account.accepted_phases = None

    def transaction_ended(self, evse: EvseId, now_s: float) -> None:
        """Where a lease dies with its transaction (OCPP TxProfile), the EVSE is at its fallback again."""
        account = self.accounts[evse]
        if not account.evse.link.lease_ends_with_transaction:
            return
        before_ma, phases = account.commitment_ma(now_s), 1 if account.one_phase(now_s) else None
        account.accepted_ma = account.accepted_phases = None
        account.holds = []
        # down to its floor: a renewal on its way would hide what has to settle, and then perhaps be refused
        account.settle(before_ma, account.floor_ma(), now_s, phases)

    def measured(self, evse: EvseId, current_ma: int, now_s: float) -> None:
        """Draws more than it may: booked at what it draws until it has behaved for a while."""
        account = self.accounts[evse]
        allowed_ma = account.allowed_ma(now_s)
        if current_ma > allowed_ma + max(OVERDRAW_MA, allowed_ma * OVERDRAW_PCT // 100):
            account.overdraw_ma = max(
                current_ma, account.overdraw_ma if account.overdraw_until_s > now_s else 0
            )
            account.overdraw_until_s = now_s + OVERDRAW_HOLD_S

    # --- sums ---------------------------------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Forget what has certainly run out."""
        for account in self.accounts.values():
            if account.holds:
                account.holds = [hold for hold in account.holds if hold.until_s > now_s]
            if account.sent:
                account.sent = [sent for sent in account.sent if sent.until_s > now_s]

    def _take(self, command: str) -> tuple[Account | None, Sent | None]:
        evse = self._owner.pop(command, None)
        if evse is None:
            return None, None
        account = self.accounts[evse]
        for index, sent in enumerate(account.sent):
            if sent.command == command:
                return account, account.sent.pop(index)
        return account, None
