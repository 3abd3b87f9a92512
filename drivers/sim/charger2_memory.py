"""What a simulated OCPP 2.x station remembers through a reboot.

Owns no behaviour but forgetting what ends with a transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drivers.sim.cards import Cards, Reservation
from drivers.sim.certificates import Certificates
from drivers.sim.charger2_evse import EventRecord
from drivers.sim.charger2_variables import Place, Variables
from drivers.sim.merge import TX, Profile
from drivers.sim.outbox import Json

RECORDS = 1000


@dataclass(slots=True)
class Monitor:
    """A VariableMonitoringType. `last`: the value it spoke about last; `alarmed`: beyond the threshold now."""

    id: int
    place: Place
    kind: str
    value: float
    severity: int
    transaction: bool = False
    last: str | None = None
    alarmed: bool = False
    due_s: float = 0.0


@dataclass(slots=True)
class Memory:
    """`inoperative`: EVSEs switched off, 0 is the station. `networks`: connection profiles by slot. `unsaid`: what
    it has to say once it is accepted again. `records`: transaction events nobody has answered, oldest first."""

    variables: Variables
    firmware: str
    boot_reason: str = "PowerUp"
    profiles: tuple[Profile, ...] = ()
    inoperative: set[int] = field(default_factory=set)
    cards: Cards = field(default_factory=Cards)
    reservations: dict[int, Reservation] = field(default_factory=dict)
    certificates: Certificates = field(default_factory=Certificates)
    networks: dict[int, Json] = field(default_factory=dict)
    monitors: dict[int, Monitor] = field(default_factory=dict)
    quietest: int = 9  # monitors with a severity number above this say nothing
    messages: dict[int, Json] = field(default_factory=dict)
    records: list[EventRecord] = field(default_factory=list)
    unsaid: list[tuple[str, Json]] = field(default_factory=list)

    def keep(self, record: EventRecord, shuffled: bool = False) -> None:
        """When there is no room left, values measured on the way go first (E04). The first may be under way."""
        self.records.insert(len(self.records) - (shuffled and len(self.records) > 1), record)
        if len(self.records) > RECORDS:
            spare = (one for one in self.records[1:] if one.payload["eventType"] == "Updated")
            self.records.remove(next(spare, self.records[1]))

    def forget_transaction(self, evse: int) -> None:
        """A TxProfile dies with its transaction."""
        self.profiles = tuple(one for one in self.profiles if one.purpose != TX or one.connector != evse)
