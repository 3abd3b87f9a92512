"""The discharge law: what a vehicle feeds back is nobody's room and nobody's load, whatever is delayed, lost or silent.

A site with a meter and a constant building; one of its four vehicles can be discharged, by persons and by a schedule.
Asked of physics at every instant: were the discharge to end right now, every circuit would still carry all the others,
the vehicle's own fallback and the building.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plant import BUILDING_MA, LINK, MAIN, OnWire, Plant, Plug, depot_site, loads

from controller.core import events as ev
from controller.core.commands import Command, SetLimit, StartDischarge, StopCharging
from controller.core.discharge import FLOOR_PCT, OVERRUN_S, SLICE_S
from controller.core.model import (
    SITE,
    EvseId,
    EvseState,
    FeedBack,
    PerPhase,
    Plan,
    Site,
    Wish,
    each_phase,
    station_of,
)

V2G, CHANNEL = EvseId("s1/1"), "open-platform/onsite"
FEED_MA = 16_000
FEED_W = 11_040
FOLLOWS_S = 5.0


def v2g_site(channel: str) -> Site:
    site = depot_site(metered=True)
    unit = site.evses[V2G]
    return replace(site, evses={**site.evses, V2G: replace(unit, link=replace(LINK, channel=channel))})


@dataclass
class Feed:
    ends_s: float
    current_ma: int = FEED_MA


class V2gPlant(Plant):
    """`feed`: the vehicle of V2G gives power. `errands`: discharges and stops on their way to it, oldest first."""

    channel = CHANNEL
    feed: Feed | None = None
    silent: bool = False  # V2G says nothing of what it does

    def __init__(self) -> None:
        self.errands: list[StartDischarge | StopCharging] = []
        super().__init__(v2g_site(self.channel))

    def tell(self, fact: Any) -> Any:
        about: Any = getattr(fact, "evse", None) or getattr(fact, "station", "")
        if hasattr(fact, "channel") and station_of(V2G) in (about, station_of(about)):
            fact = replace(fact, channel=self.channel)
        return super().tell(fact)

    def _send(self, command: Command) -> None:
        if isinstance(command, StartDischarge):
            assert command.evse == V2G and command.channel == self.channel
            assert 0 < command.duration_s <= SLICE_S and command.min_soc >= FLOOR_PCT
        if command.evse == V2G and isinstance(command, StartDischarge | StopCharging):
            self.errands.append(command)
        else:
            super()._send(command)

    def errand_done(self, heard: bool, obeyed: bool = True) -> None:
        plug = self.plugs[V2G]
        if not self.errands or not plug.link:
            return
        errand = self.errands.pop(0)
        if obeyed and isinstance(errand, StopCharging):
            self.feed_ends()
            self.end(plug)
        elif obeyed and isinstance(errand, StartDischarge) and self.feed is None:
            self.end(plug)
            self.begin(plug)
            self.feed = Feed(self.now_s + errand.duration_s)
            self.say_state()
        if not heard:
            self.tell(ev.CommandLost(errand.id, "no answer"))
        elif obeyed:
            self.tell(ev.CommandAccepted(errand.id))
        else:
            self.tell(ev.CommandRefused(errand.id, "no"))

    def feed_ends(self) -> None:
        if self.feed is not None:
            self.feed = None
            self.end(self.plugs[V2G])
            self.say_state()

    def say_state(self) -> None:
        if self.plugs[V2G].link and not self.silent:
            state = EvseState.FINISHING if self.feed is None else EvseState.DISCHARGING
            self.tell(ev.StatusChanged(V2G, self.channel, state))

    def drawn_ma(self, plug: Plug) -> int:
        if plug.evse == V2G and self.feed is not None:
            return -self.feed.current_ma
        return 0 if plug.transaction is None else plug.allowed_ma(self.now_s)

    def sample(self, plug: Plug) -> None:
        if plug.link and not (self.silent and plug.evse == V2G):
            drawn = self.drawn_ma(plug)
            power_w = -FEED_W if drawn < 0 else drawn * 230 // 1000
            self.tell(ev.EvseSample(plug.evse, "wire", self.now_s, each_phase(drawn), power_w, soc=80))

    def measure_all(self) -> None:
        total = [BUILDING_MA] * 3
        for plug in self.plugs.values():
            for phase in self.site.evses[plug.evse].phases:
                total[phase] += self.drawn_ma(plug)
        self.tell(ev.MeterReading(MAIN, self.now_s, PerPhase(*total), None, each_phase(None)))


class WithinPlant(V2gPlant):
    """The leading channel discharges: a slice is a part of the transaction, and the next limit takes its place. A wire
    keeps order: a slice that has not left is withdrawn by a limit or a stop."""

    channel = "ocpp2.1"

    def _hello(self, plug: Plug) -> None:
        super()._hello(plug)
        self._offers(plug)

    def link_up(self, plug: Plug) -> None:
        super().link_up(plug)
        self._offers(plug)

    def _offers(self, plug: Plug) -> None:
        if plug.evse == V2G:
            self.tell(ev.DischargeOffered(V2G, self.channel))

    def _send(self, command: Command) -> None:
        if command.evse == V2G and isinstance(command, SetLimit | StopCharging):
            late = [errand for errand in self.errands if isinstance(errand, StartDischarge)]
            self.errands = [errand for errand in self.errands if errand not in late]
            for errand in late:
                self.tell(ev.CommandReplaced(errand.id))
        super()._send(command)

    def errand_done(self, heard: bool, obeyed: bool = True) -> None:
        plug = self.plugs[V2G]
        slices = bool(self.errands) and isinstance(self.errands[0], StartDischarge)
        if not slices or not plug.link:
            super().errand_done(heard, obeyed)
            return
        errand = self.errands.pop(0)
        taken = obeyed and plug.transaction is not None
        if taken:
            self._comes_down(plug)
            plug.limit_ma, self.feed = None, Feed(self.now_s + errand.duration_s)
            self.sample(plug)
        if not heard:
            self.tell(ev.CommandLost(errand.id, "no answer"))
        else:
            self.tell((ev.CommandAccepted if taken else _refused)(errand.id))

    def _arrive(self, plug: Plug, flying: OnWire) -> bool:
        taken = super()._arrive(plug, flying)
        if taken and plug.evse == V2G and self.feed is not None:
            self.feed_ends()
        return taken

    def end(self, plug: Plug) -> None:
        super().end(plug)
        if plug.evse == V2G:
            self.feed = None

    def feed_ends(self) -> None:
        self.feed = None
        self.sample(self.plugs[V2G])

    def say_state(self) -> None:
        if self.plugs[V2G].link and not self.silent:
            self.tell(ev.StatusChanged(V2G, self.channel, EvseState.CHARGING))


def _refused(command: str) -> ev.CommandRefused:
    return ev.CommandRefused(command, "no")


class Discharges(RuleBasedStateMachine):
    way: type[V2gPlant] = V2gPlant

    @initialize()
    def opens(self) -> None:
        self.plant = self.way()
        for plug in self.plant.plugs.values():
            self.plant.begin(plug)
        self.live(60)

    def live(self, seconds: int) -> None:
        plant = self.plant
        for _ in range(seconds):
            plant.now_s += 1.0
            if plant.feed is not None and plant.now_s >= plant.feed.ends_s:
                plant.feed_ends()
            plant.measure_all()
            for number, plug in enumerate(plant.plugs.values()):
                if (plant.now_s + number) % 5 == 0:
                    plant.sample(plug)
            self.step()
            for plug in plant.plugs.values():
                while plug.wire and plug.link:
                    plant.deliver(plug)
            self.it_fits_without_the_discharge()

    def step(self) -> None:
        plant = self.plant
        known = plant.depot._state.belief.evses[V2G].state is EvseState.DISCHARGING
        fed_back = plant.feed is not None and plant.depot._state.belief.evses[V2G].feeds_back(plant.now_s)
        decision = plant.step()
        (view,) = [view for view in decision.snapshot.evses if view.id == V2G]
        asked = any(isinstance(command, StartDischarge) for command in decision.commands)
        limits = [c.limit_ma for c in decision.commands if isinstance(c, SetLimit) and c.evse == V2G]
        order = plant.depot._state.memory[V2G].discharge
        if known or asked or fed_back:
            ends_by_limit = self.way is WithinPlant and not asked and order is not None and order.over
            assert limits in ([], [0]) if ends_by_limit else not limits
            assert not view.grant_ma
        if known and view.connected:
            assert view.state is EvseState.DISCHARGING
        assert view.commitment_ma >= plant.plugs[V2G].worst_ma(plant.now_s) >= 0

    # --- mishaps ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 120))
    def time_passes(self, seconds: int) -> None:
        self.live(seconds)

    @rule(floor=st.sampled_from([None, 10, 60]))
    def discharge_ordered(self, floor: int | None) -> None:
        self.plant.tell(ev.DischargeWished(f"d{self.plant.now_s}", "ann", V2G, FEED_W, floor, 1200.0))
        self.step()

    @rule(minutes=st.integers(0, 30))
    def schedule_wants(self, minutes: int) -> None:
        now = self.plant.now.utc
        wanted = FeedBack("v2g", FEED_W, now + timedelta(minutes=minutes), 30) if minutes else None
        wish = Wish(cap_ma=0 if minutes else None, why="schedule v2g: discharge", feed_back=wanted)
        self.plant.tell(ev.PlanReady(Plan(now, "rules", {V2G: wish})))
        self.step()

    @precondition(lambda self: self.plant.errands and self.plant.plugs[V2G].link)
    @rule(heard=st.booleans())
    def errand_arrives(self, heard: bool) -> None:
        self.plant.errand_done(heard)
        self.step()

    @precondition(lambda self: self.plant.errands and self.plant.plugs[V2G].link)
    @rule()
    def errand_is_refused(self) -> None:
        self.plant.errand_done(heard=True, obeyed=False)
        self.step()

    @precondition(lambda self: self.plant.errands and self.plant.plugs[V2G].link)
    @rule()
    def errand_is_lost(self) -> None:
        self.plant.errand_done(heard=False, obeyed=False)
        self.step()

    @precondition(lambda self: self.plant.feed is not None)
    @rule(feed_ma=st.sampled_from([2_000, 10_000, FEED_MA]))
    def vehicle_gives_less_or_more(self, feed_ma: int) -> None:
        assert self.plant.feed is not None
        self.plant.feed.current_ma = feed_ma

    @rule(minutes=st.integers(5, 20))
    def a_discharge_runs(self, minutes: int) -> None:
        """Mishaps are worth more while something flows back."""
        self.schedule_wants(minutes)
        self.errand_arrives(heard=True)
        self.live(20)

    @rule(silent=st.booleans())
    def samples_fall_silent_or_return(self, silent: bool) -> None:
        self.plant.silent = silent

    @precondition(lambda self: self.plant.feed is not None)
    @rule()
    def vehicle_ends_it(self) -> None:
        self.plant.feed_ends()

    @precondition(lambda self: self.plant.plugs[V2G].link)
    @rule()
    def link_drops(self) -> None:
        self.plant.link_down(self.plant.plugs[V2G])
        self.step()

    @precondition(lambda self: not self.plant.plugs[V2G].link)
    @rule()
    def link_returns(self) -> None:
        self.plant.link_up(self.plant.plugs[V2G])
        self.plant.say_state()
        self.step()

    @rule(word=st.sampled_from([ev.StopWished, ev.PauseWished, ev.ResumeWished, ev.StartWished]))
    def operator_says(self, word: Any) -> None:
        self.plant.tell(word(f"w{self.plant.now_s}", "ann", V2G))
        self.step()

    @rule(percent=st.sampled_from([0, 50]))
    def grid_operator_limits(self, percent: int) -> None:
        self.plant.tell(ev.FlexWished(f"f{self.plant.now_s}", "grid", SITE, percent, 20.0))
        self.step()

    @rule()
    def another_vehicle_comes(self) -> None:
        if self.plant.feed is None:
            self.plant.begin(self.plant.plugs[V2G])
            self.plant.tell(ev.StatusChanged(V2G, self.plant.channel, EvseState.CHARGING))
        self.step()

    # --- at every instant ------------------------------------------------------------------------------------------

    @invariant()
    def it_fits_without_the_discharge(self) -> None:
        if not hasattr(self, "plant"):
            return
        site, now_s = self.plant.site, self.plant.now_s
        worst = loads(site, {evse: plug.worst_ma(now_s) for evse, plug in self.plant.plugs.items()})
        for (circuit, phase), load in worst.items():
            building = BUILDING_MA if circuit == SITE else 0
            assert load + building <= site.circuits[circuit].limit_ma[phase], (circuit, phase)

    def teardown(self) -> None:
        """Whatever happened: a stop ends the discharge, and the building is known for what it is."""
        if not hasattr(self, "plant"):
            return
        plant, plug = self.plant, self.plant.plugs[V2G]
        plant.silent = False
        plant.link_up(plug)
        plant.say_state()
        plant.tell(ev.StopWished("end", "ann", V2G))
        plant.tell(ev.PlanReady(Plan(plant.now.utc, "rules", {})))
        for _ in range(int(OVERRUN_S)):
            self.live(1)
            if plant.now_s % 7 == 0:
                plant.errand_done(heard=plant.now_s % 2 == 0)
        assert plant.feed is None and plant.depot._state.memory[V2G].discharge is None
        assumed = plant.depot._state.belief.backgrounds[SITE].assumed(plant.now_s)
        assert assumed.raise_ma == each_phase(BUILDING_MA)


class DischargesWithin(Discharges):
    way = WithinPlant


TestDischargesWithin = DischargesWithin.TestCase
TestDischargesWithin.settings = settings(
    derandomize=True, max_examples=25, stateful_step_count=30, deadline=None
)
TestDischarges = Discharges.TestCase
TestDischarges.settings = settings(derandomize=True, max_examples=25, stateful_step_count=30, deadline=None)
