"""The commitments law: whatever is delayed, lost, refused, forgotten or repeated, the stations left alone stay below
every circuit on every phase (scheduling reference, properties 8 to 10 and 12 to 14; field notes I2, I3, I8, I13).

Two machines throw the same mishaps at a depot. In the first the building is constant, so the strong law can be asked
of physics at every instant. In the second a meter sees a building that moves and falls silent, so the law is asked of
what the depot could have known.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from plant import BOARD, BUILDING_MA, LINK, MAIN, Plant, Plug, depot_site, loads

from controller.core import events as ev
from controller.core.background import Assumed, Sight
from controller.core.commands import SetLimit
from controller.core.commitments import Account
from controller.core.decide import Decision
from controller.core.model import SITE, CircuitId, EvseId, PerPhase
from controller.core.share import METER_MARGIN_PCT

machine_settings = settings(derandomize=True, max_examples=40, stateful_step_count=50, deadline=None)
SEAT = st.sampled_from([EvseId(f"s{n}/1") for n in range(4)])


class Mishaps(RuleBasedStateMachine):
    """Everything that happens on a site, in any order. Subclasses say what time passing means."""

    plant: Plant

    def live(self, seconds: int) -> None:
        """Time passes, second by second."""
        raise NotImplementedError

    def open_for_business(self) -> None:
        """Mishaps are worth more on a busy site: four vehicles, each with a share of its own."""
        for plug in self.plant.plugs.values():
            self.plant.begin(plug)
        for _ in range(25):
            self.live(1)
            self.all_limits_arrive()

    def plug(self, evse: EvseId) -> Plug:
        return self.plant.plugs[evse]

    def step(self) -> Decision:
        """One decision, and what holds for every decision."""
        plant = self.plant
        before = {evse: self.having_ma(evse) for evse in plant.plugs}
        booked = {evse: a.commitment_ma(plant.now_s) for evse, a in self.accounts().items()}
        wrote_s = {evse: account.wrote_s for evse, account in self.accounts().items()}
        decision = plant.step()
        assumed = self.assumed()
        after = {evse: a.commitment_ma(plant.now_s) for evse, a in self.accounts().items()}
        raised = [
            c.evse for c in decision.commands if isinstance(c, SetLimit) and c.limit_ma > before[c.evse]
        ]
        assert {evse for evse in after if after[evse] > booked[evse]} <= set(raised)
        self.check_raises(raised, after, assumed)
        for evse in raised:  # property 12, as far as built: raises keep their distance
            assert plant.now_s >= wrote_s[evse] + LINK.raise_gap_s
        return decision

    def accounts(self) -> dict[EvseId, Account]:
        return self.plant.depot._state.commitments.accounts

    def having_ma(self, evse: EvseId) -> int:
        """What it was last told and may still follow, or does alone."""
        account = self.accounts()[evse]
        told = account.sent[-1].limit_ma if account.sent else account.accepted_now_ma(self.plant.now_s)
        return max(account.floor_ma(), told or 0)

    def assumed(self) -> Assumed | None:
        tracks = self.plant.depot._state.belief.backgrounds
        return tracks[SITE].assumed(self.plant.now_s) if SITE in tracks else None

    def check_raises(self, raised: list[EvseId], committed: dict[EvseId, int], seen: Assumed | None) -> None:
        """I3 and property 8: nothing is added to the book where it does not fit."""
        sums = loads(self.plant.site, committed)
        for evse in raised:
            for circuit in self.plant.site.path(self.plant.site.evses[evse].circuit):
                for phase in self.plant.site.evses[evse].phases:
                    room = circuit.limit_ma[phase]
                    if circuit.id == SITE and seen is not None:
                        room -= room * METER_MARGIN_PCT // 100 + max(0, seen.raise_ma[phase])
                    elif circuit.id == SITE:
                        room -= BUILDING_MA
                    assert sums[circuit.id, phase] <= room, f"{evse} raised above {circuit.id}"

    # --- mishaps ---------------------------------------------------------------------------------------------------

    @rule(evse=SEAT)
    def vehicle_comes(self, evse: EvseId) -> None:
        self.plant.begin(self.plug(evse))
        self.step()

    @rule(evse=SEAT)
    def vehicle_goes(self, evse: EvseId) -> None:
        self.plant.end(self.plug(evse))
        self.step()

    @rule(evse=SEAT)
    def limit_arrives(self, evse: EvseId) -> None:
        self.plant.deliver(self.plug(evse))
        self.step()

    @rule()
    def all_limits_arrive(self) -> None:
        for plug in self.plant.plugs.values():
            while plug.wire and plug.link:
                self.plant.deliver(plug)
        self.step()

    @rule(evse=SEAT)
    def answer_is_lost(self, evse: EvseId) -> None:
        self.plant.deliver(self.plug(evse), heard=False)

    @rule(evse=SEAT)
    def limit_is_lost(self, evse: EvseId) -> None:
        self.plant.lose(self.plug(evse))
        self.step()

    @rule(evse=SEAT)
    def lost_limit_arrives_after_all(self, evse: EvseId) -> None:
        self.plant.stray_arrives(self.plug(evse))

    @rule(evse=SEAT)
    def limit_is_refused(self, evse: EvseId) -> None:
        self.plant.refuse(self.plug(evse))
        self.step()

    @rule(evse=SEAT)
    def link_drops(self, evse: EvseId) -> None:
        self.plant.link_down(self.plug(evse))
        self.step()

    @rule(evse=SEAT)
    def link_returns(self, evse: EvseId) -> None:
        self.plant.link_up(self.plug(evse))
        self.step()

    @rule(evse=SEAT, keeps_lease=st.booleans())
    def station_reboots(self, evse: EvseId, keeps_lease: bool) -> None:
        self.plant.reboot(self.plug(evse), keeps_lease)
        self.step()

    @rule(by_s=st.sampled_from([15.0, 200.0, 7200.0]))
    def our_clock_is_set_back(self, by_s: float) -> None:
        self.plant.clock_back(by_s)

    @rule(evse=SEAT, clockless=st.booleans())
    def clock_is_lost_or_found(self, evse: EvseId, clockless: bool) -> None:
        self.plug(evse).clockless = clockless

    @rule()
    def controller_restarts(self) -> None:
        self.plant.restart()

    @rule(evse=SEAT, limit_ma=st.sampled_from([None, 0, 6_000, 10_000, 20_000]))
    def operator_limits(self, evse: EvseId, limit_ma: int | None) -> None:
        self.plant.tell(ev.LimitWished(f"o{self.plant.now_s}", "ann", evse, limit_ma))
        self.acts_at_once(evse, self.step())

    @rule(evse=SEAT)
    def operator_pauses(self, evse: EvseId) -> None:
        self.plant.tell(ev.PauseWished(f"p{self.plant.now_s}", "ann", evse))
        self.acts_at_once(evse, self.step())

    @rule(evse=SEAT)
    def operator_resumes(self, evse: EvseId) -> None:
        self.plant.tell(ev.ResumeWished(f"r{self.plant.now_s}", "ann", evse))
        self.step()

    @rule(circuit=st.sampled_from([SITE, BOARD]), percent=st.sampled_from([0, 20, 50]))
    def grid_operator_limits(self, circuit: CircuitId, percent: int) -> None:
        self.plant.tell(ev.FlexWished(f"f{self.plant.now_s}", "grid", circuit, percent, 20.0))
        decision = self.step()
        for view in decision.snapshot.evses:
            below = circuit in {node.id for node in self.plant.site.path(view.circuit)}
            free = not self.accounts()[view.id].refusals and view.connected and view.session is not None
            if below and free and view.commanded_ma is not None:
                assert view.commanded_ma <= 32_000 * percent // 100

    def acts_at_once(self, evse: EvseId, decision: Decision) -> None:
        """Property 14: a lower limit is on the wire in the same step, unless the station just refused one."""
        view = next(view for view in decision.snapshot.evses if view.id == evse)
        account = self.accounts()[evse]
        if view.session is None or not view.connected or account.refusals:
            return
        most = 0 if view.paused else view.operator_limit_ma
        if most is not None and view.commanded_ma is not None:
            assert view.commanded_ma <= most

    # --- at every instant ------------------------------------------------------------------------------------------------

    @invariant()
    def the_book_is_never_below_the_truth(self) -> None:
        for evse, account in self.accounts().items():
            plug = self.plug(evse)
            assert account.commitment_ma(self.plant.now_s) >= plug.worst_ma(self.plant.now_s), evse


class ConstantBuilding(Mishaps):
    """The building takes its 10 A; so what stations may draw on their own has to fit at every instant."""

    @initialize()
    def opens(self) -> None:
        self.plant = Plant(depot_site(metered=False))
        self.open_for_business()

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.plant.now_s += 1.0
            self.step()
            self.no_circuit_is_above_its_limit()
            self.the_book_is_never_below_the_truth()

    @invariant()
    def no_circuit_is_above_its_limit(self) -> None:
        now_s = self.plant.now_s
        worst = loads(self.plant.site, {e: plug.worst_ma(now_s) for e, plug in self.plant.plugs.items()})
        for (circuit, phase), load in worst.items():
            building = BUILDING_MA if circuit == SITE else 0
            assert load + building <= self.plant.site.circuits[circuit].limit_ma[phase], (circuit, phase)

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.live(seconds)

    def teardown(self) -> None:
        """I8: when the mishaps end, every vehicle is under control again and the room is used."""
        if not hasattr(self, "plant"):
            return
        self.plant.tell(ev.FlexEnded("grid"))
        for plug in self.plant.plugs.values():
            plug.clockless = False
            self.plant.link_up(plug)
            self.plant.tell(ev.LimitWished(f"end{plug.evse}", "ann", plug.evse, None))
            self.plant.begin(plug)
            self.plant.tell(ev.ResumeWished(f"go{plug.evse}", "ann", plug.evse))
        for _ in range(160):
            self.plant.now_s += 1.0
            self.all_limits_arrive()
            self.the_book_is_never_below_the_truth()
            self.no_circuit_is_above_its_limit()
        shares = {e: plug.allowed_ma(self.plant.now_s) for e, plug in self.plant.plugs.items()}
        sums = loads(self.plant.site, shares)
        assert sums[BOARD, 0] > 40_000 - 3_000, "three share the board's L1"
        assert all(share >= 6_000 for share in shares.values())


class MovingBuilding(Mishaps):
    """A meter sees the building. It moves, and the meter falls silent."""

    @initialize()
    def opens(self) -> None:
        self.plant = Plant(depot_site(metered=True))
        self.building_ma = PerPhase(5_000, 5_000, 5_000)
        self.silent = False
        self.live(12)
        self.open_for_business()

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.plant.now_s += 1.0
            if not self.silent:
                self.plant.measure(MAIN, self.building_ma)
            self.step()
            self.the_book_is_never_below_the_truth()

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.live(seconds)

    @rule(levels=st.tuples(*[st.integers(-10, 45)] * 3))
    def building_moves(self, levels: tuple[int, int, int]) -> None:
        self.building_ma = PerPhase(*(level * 1000 for level in levels))

    @rule(silent=st.booleans())
    def meter_falls_silent_or_returns(self, silent: bool) -> None:
        self.silent = silent

    def check_raises(self, raised: list[EvseId], committed: dict[EvseId, int], seen: Assumed | None) -> None:
        super().check_raises(raised, committed, seen)
        assert seen is not None
        if seen.sight is not Sight.CLEAR:  # property 10
            assert raised == []

    def step(self) -> Decision:
        """Property 10: while the meter is late, nobody is sent more than it has, or than it would take alone."""
        having = {evse: self.having_ma(evse) for evse in self.plant.plugs}
        decision = super().step()
        seen = self.assumed()
        assert seen is not None
        if seen.sight is not Sight.CLEAR:
            for command in decision.commands:
                if isinstance(command, SetLimit):
                    assert command.limit_ma <= having[command.evse]
        return decision


TestConstantBuilding = ConstantBuilding.TestCase
TestConstantBuilding.settings = machine_settings
TestMovingBuilding = MovingBuilding.TestCase
TestMovingBuilding.settings = machine_settings
