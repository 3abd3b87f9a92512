"""Everything the brain remembers between two calls, in one place. Holds no rule of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.core.belief import Belief
from controller.core.commitments import Commitments
from controller.core.demand import Desk
from controller.core.flex import Flex
from controller.core.grid import Grid
from controller.core.model import Departure, EvseId, Plan, Schedule, Site
from controller.core.orders import Orders
from controller.core.sessions import Sessions
from controller.core.supervisor import Alarms


@dataclass(frozen=True, slots=True)
class Discharge:
    """An ordered discharge. `command` is None until it was sent."""

    power_w: int
    min_soc: int
    until_s: float
    command: str | None = None


@dataclass(slots=True)
class Memory:
    """What one EVSE's decisions need from step to step. ceiling_ma: what the ledger says it may be allowed."""

    grant_ma: int = 0
    bound_by: str = ""
    ceiling_ma: int = 0
    start_token: str | None = None  # of a start that was ordered and has not become a transaction yet
    asked_s: float = float("-inf")  # when the last start or stop was sent
    discharge: Discharge | None = None
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
    desks: dict[EvseId, Desk]
    memory: dict[EvseId, Memory]
    schedules: dict[EvseId, dict[str, Schedule]] = field(default_factory=dict)
    departures: dict[str, Departure] = field(default_factory=dict)
    plan: Plan | None = None
    reviewed_s: float | None = None  # when the ceilings were last lowered
    commands: int = 0

    @classmethod
    def new(cls, site: Site, boot: str) -> State:
        grid = Grid.of(site)
        return cls(
            site=site,
            boot=boot,
            grid=grid,
            belief=Belief(site, grid),
            commitments=Commitments(site),
            sessions=Sessions(site, boot),
            orders=Orders(),
            alarms=Alarms(boot),
            flex=Flex(),
            desks={evse: Desk() for evse in site.evses},
            memory={evse: Memory() for evse in site.evses},
        )

    def next_command(self) -> str:
        """A command id that no other command of this or an earlier run has."""
        self.commands += 1
        return f"c{self.boot}-{self.commands}"

    def session_over(self, evse: EvseId, now_s: float) -> None:
        self.commitments.transaction_ended(evse, now_s)
        self.desks[evse].clear()
        self.memory[evse].grant_ma = 0
        self.memory[evse].discharge = None
        self.memory[evse].had_session = True
