"""A charger that hangs on the Open Platform instead of OCPP: what it does with orders, and what it does alone.

Owns sessions, the stored schedules, running limits and flexibility actions and the limit that follows from them;
drives the physics (`SimEvse`) and leaves its reports in `outbox` for whoever carries them: `clouddelivery` to the
hosted platform, `device` to an on-site host. Knows no HTTP.

How it decides (readings of Open Platform REFERENCE 8-11 and GAPS, chosen to move less energy):
- charging limit = the lowest of hardware, flexibility and base. Base is the slot of the enabled schedule that is
  active now (idle and discharge slots: 0; no power_limit: hardware; target_soc reached: 0), else the `charge_power`
  of the start, else hardware. So a one-off schedule lies over a low start power, and the charger falls back to that
  when the slot lapses, with or without a link (G-11, G-34).
- a limit of one connector (`set_power_limit` in kW, G-08) lies over the start's `charge_power` in the same way, for
  its duration and by the charger's own clock; with a slot active too the lower of both holds. 0 pauses, and a 0 that
  arrives during a discharge ends it.
- kW become amps over the wired phases, whatever the vehicle uses. Below the minimum current charging pauses.
- flexibility is a percentage of `rated_kw`, shared by the connectors in session; one action per target, a newer one
  replaces it, the lowest of all targets wins, it ends by the charger's own clock (G-12). A pause ends discharges.
- one enabled schedule per connector: another one that is stored enabled switches the former off. Schedules survive
  `reboot`, sessions and flexibility do not (G-11).
- a schedule limits and pauses, it does not start: only with `schedule_starts` does a charge slot start a plugged
  vehicle, unless somebody stopped it since it was plugged in (G-11 leaves this open).
- a session without flow keeps reading `charging` at 0 kW; with `paused_status="idle"` it reads as G-17's mapping of
  the suspended states.
- a start is refused while another session runs (G-13); a discharge ends a charging session and replaces it. Its
  floor is never below 20 %, and it ends when the link has been down for 15 minutes (G-14, G-34).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.core.model import Moment, Schedule
from drivers.sim.cloudconnector import Connector, Progress, Record
from drivers.sim.cloudwords import (
    DischargeOrder,
    FlexibilityOrder,
    LimitOrder,
    StartOrder,
    StopOrder,
)
from drivers.sim.evse import SimEvse

LONELY_DISCHARGE_S = 15 * 60  # G-34


@dataclass(frozen=True, slots=True)
class Order:
    """What the platform hands to a charger; `connector_id` None means the whole charger."""

    id: str
    connector_id: int | None
    what: StartOrder | StopOrder | DischargeOrder | Schedule | LimitOrder | FlexibilityOrder


@dataclass(frozen=True, slots=True)
class Flexibility:
    percent: int
    pause: bool
    ends_s: float


@dataclass
class CloudCharger:
    """`rated_kw` is the power flexibility percentages refer to. `step` and `handle` are called by whoever carries
    the orders. `records` counts the session records ever made, so that no id comes twice."""

    device_id: str
    sn: str
    model: str
    firmware_version: str
    evses: list[SimEvse]
    rated_kw: float
    site_id: str = "st-sim-01"
    paused_status: str = "charging"
    schedule_starts: bool = False
    records: int = 0
    outbox: list[Progress | Record] = field(default_factory=list, init=False)
    flexibility: dict[str, Flexibility] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.connectors = [Connector(self, n, evse) for n, evse in enumerate(self.evses, start=1)]
        self.link_lost_s: float | None = None  # `mono_s`
        self._seen: tuple[str, ...] = ()

    def handle(self, order: Order, now: Moment) -> None:
        """Carries out one order; the outcome of a command goes to `outbox`."""
        for connector in (c for c in self.connectors if c.number == order.connector_id):
            refusal = connector.why_not(order.what)
            if refusal is not None:
                self.outbox.append(Progress(order.id, "rejected", {"reason": refusal}))
                return
            self.outbox.append(Progress(order.id, "accepted"))
            match order.what:
                case StartOrder() as start:
                    connector.start(order.id, start, now)
                case DischargeOrder() as discharge:
                    connector.discharge(order.id, discharge, now)
                case LimitOrder() as limit:
                    connector.cap(order.id, limit, now)
                case Schedule() as plan:
                    connector.keep(plan, now.utc)
                    self.outbox.append(Progress(order.id, "completed"))
                case StopOrder(reason):
                    connector.stop(reason, now)
                    self.outbox.append(Progress(order.id, "completed"))
        if isinstance(order.what, FlexibilityOrder):
            action = Flexibility(order.what.percent, order.what.pause, now.mono_s + order.what.duration_s)
            self.flexibility |= dict.fromkeys(order.what.targets, action)

    def step(self, now: Moment) -> bool:
        """One look at everything; returns whether a connector's status changed."""
        before = self._seen
        for target in [t for t, action in self.flexibility.items() if now.mono_s >= action.ends_s]:
            del self.flexibility[target]
        running = sum(connector.session is not None for connector in self.connectors)
        share_kw: float | None = None
        if self.flexibility and running:
            percent = min(action.percent for action in self.flexibility.values())
            share_kw = self.rated_kw * percent / 100 / running
        for connector in self.connectors:
            connector.step(now, share_kw)
        self._seen = tuple(connector.status for connector in self.connectors)
        return self._seen != before

    def reboot(self, now: Moment) -> None:
        """Power was gone for a moment: sessions, limits and flexibility are lost, schedules stay."""
        for connector in self.connectors:
            connector.end_session("reboot", now)
            connector.limit = None
        self.flexibility.clear()

    def lonely(self, now: Moment) -> bool:
        """Whether nobody has been in reach for so long that a discharge must not go on (G-34)."""
        return self.link_lost_s is not None and now.mono_s - self.link_lost_s >= LONELY_DISCHARGE_S

    @property
    def active(self) -> bool:
        return any(connector.session is not None for connector in self.connectors)

    def next_record_id(self) -> str:
        self.records += 1
        return f"rec_{self.device_id}_{self.records}"
