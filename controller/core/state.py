"""Everything the brain remembers between two calls, in one place. Holds no rule of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.agenda import Agenda
from controller.core.alarms import Alarms
from controller.core.appetite import Appetites
from controller.core.battery import Batteries
from controller.core.belief import Belief
from controller.core.campaign import Campaigns
from controller.core.commitments import Commitments
from controller.core.demand import Desk
from controller.core.detective import Detective
from controller.core.flex import Action, Flex
from controller.core.grid import Grid
from controller.core.inputs import Inputs
from controller.core.model import CircuitId, Departure, EvseId, Ordered, Plan, Schedule, Site, StationId
from controller.core.noted import Note, Sketch
from controller.core.orders import Orders
from controller.core.peak import Peak
from controller.core.sessions import Sessions
from controller.core.standby_kept import Standbys
from controller.core.stored import Stored
from controller.core.supervisor import Condition
from controller.core.surplus import Surplus
from controller.core.switching import Switching
from controller.core.tariff import Tariff
from controller.core.tempo import Tempo
from controller.core.tokens import Lists, TokenBook
from controller.core.usage import Usage


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
    waived: datetime | str | None = None  # a person put an end to its discharge: the window's end, or PLAN
    had_session: bool = False  # since the plug went in: an autostart happens once per plug-in
    stop_why: str | None = None  # the session has to end, whatever people want: see `last_resort`


@dataclass(slots=True)
class LastResort:
    """over_s: since when each phase of a circuit has been above its limit. asked_s: when it last had somebody stopped."""

    over_s: dict[tuple[CircuitId, int], float] = field(default_factory=dict)
    asked_s: dict[CircuitId, float] = field(default_factory=dict)


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
    inputs: Inputs
    batteries: Batteries
    tokens: TokenBook
    lists: Lists
    stored: Stored
    standbys: Standbys
    desks: dict[EvseId, Desk]
    memory: dict[EvseId, Memory]
    schedules: dict[EvseId, dict[str, Schedule]] = field(default_factory=dict)
    departures: dict[str, Departure] = field(default_factory=dict)
    plan: Plan | None = None
    reordered: set[EvseId] = field(default_factory=set)  # whose orders changed since the last step
    saved_orders: dict[EvseId, Ordered] = field(default_factory=dict)  # what the ledger has
    saved_flex: dict[CircuitId, Action] = field(default_factory=dict)
    qualified: dict[StationId, str] = field(default_factory=dict)  # the firmware that was proven
    appetites: Appetites = field(default_factory=Appetites)
    tariff: Tariff | None = None
    foreseen: tuple[Condition, ...] = ()  # what plan and tariff warn of
    reviewed_s: float | None = None  # when the ceilings were last lowered
    commands: int = 0
    peak: Peak | None = None
    surplus: Surplus | None = None
    # what became of commands and transactions, for the proof of the next step
    heard: deque[tuple[str, str, float]] = field(default_factory=lambda: deque(maxlen=10_000))
    usage: Usage = field(init=False)
    detective: Detective = field(init=False)
    agenda: Agenda = field(init=False)
    tempo: Tempo = field(init=False)
    switching: Switching = field(init=False)
    sketches: dict[EvseId, Sketch] = field(default_factory=dict)
    charges_told: dict[EvseId, Note] = field(default_factory=dict)
    leases_outlast: datetime | None = None  # our clock was set back: leases of before may run until then
    last_resort: LastResort = field(default_factory=LastResort)

    def __post_init__(self) -> None:
        self.usage = Usage(self.grid, self.site)
        self.detective = Detective(self.site)
        self.agenda = Agenda(self.site)
        self.tempo = Tempo(self.site)
        self.switching = Switching(self.grid, self.site)

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
            alarms=Alarms(boot, site),
            flex=Flex(),
            campaigns=Campaigns({evse.station for evse in site.evses.values()}),
            inputs=Inputs(site),
            batteries=Batteries(site),
            tokens=tokens,
            lists=Lists(_list_keepers(site)),
            stored=Stored(site),
            standbys=Standbys(site),
            desks={evse: Desk() for evse in site.evses},
            memory={evse: Memory() for evse in site.evses},
            peak=Peak.of(site),
            surplus=Surplus.of(site),
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
        self.belief.evses[evse].recent.clear()  # what it drew no longer hides load of others
        self.usage.forget(evse)
        self.tempo.over(evse)
        self.switching.session_over(evse)
        self.heard.append(("ended", evse, now_s))
        self.desks[evse].clear()
        self.agenda.changed()
        self.reordered.add(evse)
        self.memory[evse].grant_ma = 0
        self.memory[evse].had_session = True
        self.memory[evse].stop_why = None


def _list_keepers(site: Site) -> dict[StationId, tuple[EvseId, str]]:
    """Only OCPP knows id tokens; any EVSE of a station leads to it."""
    return {
        evse.station: (evse.id, evse.link.channel)
        for evse in site.evses.values()
        if evse.link.channel.startswith("ocpp")
    }
