"""Demand: what each EVSE may ask for now. Session x operator x plan x what the station can do."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

from controller.core.allocator import Demand
from controller.core.commitments import Account
from controller.core.model import EvseState, Ordered, Site, Wish
from controller.core.session import REFUSED, Session
from controller.core.tempo import Pace
from controller.core.watts import vehicle_ma

NO_WISH = Wish()
BY_OPERATOR = "operator limit"
NOT_ACCEPTED = "token not accepted"
_FIRST = itemgetter(0)


@dataclass(slots=True)
class Desk:
    """What the operator ordered for one EVSE. Lives until lifted; a session's end lifts all but the limit."""

    paused: bool = False
    limit_ma: int | None = None
    stop_energy_wh: int | None = None
    stop_soc: int | None = None
    stop_after_s: float | None = None
    stop: bool = False
    manual: bool = False  # started or resumed by hand: schedules do not hold it back

    def ordered(self) -> Ordered:
        return Ordered(
            self.paused,
            self.limit_ma,
            self.stop_energy_wh,
            self.stop_soc,
            self.stop_after_s,
            self.stop,
            self.manual,
        )

    def take(self, ordered: Ordered) -> None:
        """As it was before a restart."""
        self.paused, self.limit_ma, self.manual = ordered.paused, ordered.limit_ma, ordered.manual
        self.stop_energy_wh, self.stop_soc = ordered.stop_energy_wh, ordered.stop_soc
        self.stop_after_s, self.stop = ordered.stop_after_s, ordered.stop

    def clear(self) -> None:
        self.paused = self.manual = self.stop = False
        self.stop_energy_wh = self.stop_soc = self.stop_after_s = None

    def finished(self, session: Session, now_s: float) -> str | None:
        """Why the session should end now, or None."""
        if self.stop:
            return "operator"
        if REFUSED in session.marks:
            return NOT_ACCEPTED
        if self.stop_energy_wh is not None and session.energy_wh >= self.stop_energy_wh:
            return "energy reached"
        if self.stop_soc is not None and session.soc is not None and session.soc >= self.stop_soc:
            return "state of charge reached"
        if self.stop_after_s is not None and now_s >= session.started_s + self.stop_after_s:
            return "time is up"
        return None


def demand_of(
    site: Site,
    account: Account,
    session: Session | None,
    state: EvseState | None,
    desk: Desk,
    wish: Wish,
    granted_ma: int,
    failsafe: bool,
    flex: tuple[int, str] | None,
    now_s: float,
    pace: Pace,
    phases: int | None = None,
) -> Demand:
    """The demand of an EVSE within reach. Without a session it asks for nothing, but its floor counts. phases: on which its
    vehicle was seen to draw. state: as the station has told it; until then nothing is known against a vehicle that charges."""
    evse = account.evse
    caps: list[tuple[int, str]] = [(evse.max_ma, "station maximum")]
    if session is None:
        caps.append((0, "no session"))
    else:
        if session.vehicle is not None:
            power_w = site.vehicles[session.vehicle].max_power_w
            if power_w is not None:
                most = vehicle_ma(evse, power_w, site.voltage_mv, phases)
                caps.append((most, f"vehicle {session.vehicle} maximum"))
        if wish.cap_ma is not None and not desk.manual:
            caps.append((wish.cap_ma, wish.why or "plan"))
        if failsafe:
            caps.append((evse.fallback_ma, "failsafe: meter blind"))
    if flex is not None:
        caps.append(flex)
    if desk.limit_ma is not None:
        caps.append((desk.limit_ma, BY_OPERATOR))
    if desk.paused:
        caps.append((0, "paused by operator"))
    if state in (EvseState.FAULTED, EvseState.UNAVAILABLE):
        caps.append((0, f"station {state.value}"))
    if session is not None and REFUSED in session.marks:
        caps.append((0, NOT_ACCEPTED))
    cap_ma, why = min(caps, key=_FIRST)
    return Demand(
        evse=evse.id,
        min_ma=evse.min_ma,
        cap_ma=cap_ma,
        step_ma=evse.step_ma,
        floor_ma=account.firm_ma(now_s),
        tier=wish.tier,
        rank=wish.rank,
        running=granted_ma > 0,
        cap_why=why,
        caps=tuple(caps),
        held=granted_ma > 0 and pace.held(now_s),
        after=pace.after(),
    )
