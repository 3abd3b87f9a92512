"""Everything the brain remembers between two calls, in one place. Holds no rule of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controller.core.belief import Belief
from controller.core.campaign import Campaigns
from controller.core.commitments import Commitments
from controller.core.demand import Desk
from controller.core.flex import Action, Flex
from controller.core.grid import Grid
from controller.core.model import CircuitId, Departure, EvseId, Ordered, Plan, Schedule, Site, StationId
from controller.core.orders import Orders
from controller.core.sessions import Sessions
from controller.core.stored import Stored
from controller.core.supervisor import Alarms
from controller.core.tokens import Lists, TokenBook


@dataclass(slots=True)
class Discharge:
    """A discharge from the wish for it to the proof that nothing flows back any more; its rules stand in `discharge`.

    schedule: the one that wants it; None = a person does. resumes: the vehicle charges on afterwards, for `token`.
    soc_s: when the vehicle last told its charge. transaction: that it is part of, where the leading channel discharges.
    The charger gets it in slices that end by themselves: `command` is the newest, `slice_until_s` when it is over.
    `over`: why it has to end; from then on a stop is repeated (`stop` is the newest) until that is confirmed.
    """

    power_w: int
    min_soc: int
    until_s: float
    schedule: str | None = None
    resumes: bool = False
    token: str | None = None
    soc_s: float | None = None
    transaction: str | None = None
    command: str | None = None
    slice_until_s: float = float("-inf")
    not_before_s: float = float("-inf")  # after a refusal
    seen: bool = False  # it was measured
    over: str | None = None
    stop: str | None = None
    stop_accepted: bool = False
    stopping_s: float | None = None  # since when


@dataclass(slots=True)
class Memory:
    """What one EVSE's decisions need from step to step. ceiling_ma: what the ledger says it may be allowed."""

    grant_ma: int = 0
    bound_by: str = ""
    ceiling_ma: int = 0
    held_until_s: float = float("-inf")  # no limits are sent until then: a proof waits for a lease to end
    start_token: str | None = None  # of a start that was ordered and has not become a transaction yet
    asked_s: float = float("-inf")  # when the last start or stop was sent
    discharge: Discharge | None = None
    waived: datetime | None = None  # the end of a discharge window that a person has put an end to
    had_session: bool = False  # since the plug went in: an autostart happens once per plug-in


@dataclass(slots=True)
class State:
    site: Site
    boot: str
    grid: Grid
    belief: Belief
    commitments: Commitments
    sessions: Sessions
    orders: Orders
    alarms: Alarms
    flex: Flex
    campaigns: Campaigns
    tokens: TokenBook
    lists: Lists
    stored: Stored
    desks: dict[EvseId, Desk]
    memory: dict[EvseId, Memory]
    schedules: dict[EvseId, dict[str, Schedule]] = field(default_factory=dict)
    departures: dict[str, Departure] = field(default_factory=dict)
    plan: Plan | None = None
    reordered: set[EvseId] = field(default_factory=set)  # whose orders changed since the last step
    saved_orders: dict[EvseId, Ordered] = field(default_factory=dict)  # what the ledger has
    saved_flex: dict[CircuitId, Action] = field(default_factory=dict)
    qualified: dict[StationId, str] = field(default_factory=dict)  # the firmware that was proven
    reviewed_s: float | None = None  # when the ceilings were last lowered
    commands: int = 0

    @classmethod
    def new(cls, site: Site, boot: str) -> State:
        grid = Grid.of(site)
        tokens = TokenBook(site)
        return cls(
            site=site,
            boot=boot,
            grid=grid,
            belief=Belief(site, grid),
            commitments=Commitments(site),
            sessions=Sessions(site, boot, tokens.vehicle_of),
            orders=Orders(),
            alarms=Alarms(boot),
            flex=Flex(),
            campaigns=Campaigns({evse.station for evse in site.evses.values()}),
            tokens=tokens,
            lists=Lists(_list_keepers(site)),
            stored=Stored(site),
            desks={evse: Desk() for evse in site.evses},
            memory={evse: Memory() for evse in site.evses},
        )

    def next_command(self) -> str:
        """A command id that no other command of this or an earlier run has."""
        self.commands += 1
        return f"c{self.boot}-{self.commands}"

    def own_token(self) -> str:
        """For a start without a driver's; some stations of OCPP 1.6 garble an id tag of more than 18 characters."""
        return f"DEPOT{self.next_command()}"[-18:]

    def judge_proof(self, station: StationId) -> None:
        """A proof holds for the firmware it was made with; a station that has not spoken yet has the one it had."""
        proof = self.qualified.get(station)
        firmware = self.belief.stations[station].firmware or proof
        for evse in self.site.evses.values():
            if evse.station == station:
                self.commitments.proven(evse.id, proof is not None and proof == firmware)

    def session_over(self, evse: EvseId, now_s: float) -> None:
        self.commitments.transaction_ended(evse, now_s)
        self.desks[evse].clear()
        self.reordered.add(evse)
        self.memory[evse].grant_ma = 0
        self.memory[evse].had_session = True


def _list_keepers(site: Site) -> dict[StationId, tuple[EvseId, str]]:
    """Only OCPP knows id tokens; any EVSE of a station leads to it."""
    return {
        evse.station: (evse.id, evse.link.channel)
        for evse in site.evses.values()
        if evse.link.channel.startswith("ocpp")
    }
