"""Dialects as values: which rows fit whom, what they add up to, and the law that none of them widens a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st

from controller.core.commands import SetLimit, StartCharging
from controller.core.events import Event, FallbackRefused, FallbackStored
from controller.core.model import CircuitId, Evse, Link, Moment, PerPhase, StationId, evse_id
from drivers.errors import Misconfigured, Refused
from drivers.ocpp.delivery import Delivery
from drivers.ocpp.dialects import NONE, Dialects, Manners, Switches, read_entry, shipped
from drivers.ocpp.fitting import fit_ma
from drivers.ocpp.footing import Footing, Reserves
from drivers.ocpp.memory import Memory
from drivers.ocpp.queues import Lane
from drivers.ocpp.station import CallError, Session
from drivers.ocpp.versions import VERSIONS
from drivers.ocpp.watch import Judgement, Watch
from drivers.ocpp.words import Capabilities, Words

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LINK = Link("ocpp", lease_s=180, lease_slack_s=5, raise_gap_s=30, answer_s=10)
ROW: dict[str, Any] = {"row": 1, "name": "one", "what": "w", "source": "s", "tests": ["t"]}


def an_evse(phases: tuple[int, ...] = (0, 1, 2)) -> Evse:
    return Evse(
        evse_id("CP", 1), StationId("CP"), CircuitId("site"), 32_000, 6_000, phases, 6_000, LINK
    )  # fmt: skip


# --- the table --------------------------------------------------------------------------------------------------


def names(vendor: str, model: str = "", firmware: str = "") -> set[str]:
    return set(shipped().of_station(vendor, model, firmware))


def test_rows_are_recognised_by_what_a_station_says_of_itself() -> None:
    assert names("ABB", "TAC-W22-T-RD-MC-0", "1.8.9") == {"deadlykey", "onelevel"}
    assert names("ABB", "TAC-W22-T-RD-MC-0", "1.8.32") == {"onelevel"}
    assert names("ABB", "Terra 54") == set()
    assert names("Wall Box Chargers", "CPB1-S", "v6.6.2") == {"early", "relative", "measurands"}
    assert names("WALLBOX", "Pulsar Plus") == {"spike", "relative", "measurands"}
    assert names("FoxESS", "A7300S1") == {"oldwords"}
    assert names("EN+", "AC7000") == {"pauseends", "noping"}
    assert names("Simulated", "SIM-AC") == names("") == set()


def test_rows_are_recognised_by_configuration() -> None:
    table = shipped()
    assert set(table.of_configuration({"setcurrent": "16", "supportedfeatureprofiles": "Core"})) == {
        "keylimit"
    }
    assert (
        table.of_configuration({"setcurrent": "16", "supportedfeatureprofiles": "Core,SmartCharging"}) == {}
    )
    assert table.of_configuration({"supportedfeatureprofiles": "Core"}) == {}


def test_a_repair_of_a_maker_adds_to_that_of_the_row() -> None:
    assert shipped().of_station("Easee", "Home", "")["slowmeter"] == {"min_sample_s": 30}
    assert shipped().of_station("Mennekes", "ACU", "")["slowmeter"] == {"min_sample_s": 60}


def test_switches_add_up() -> None:
    manners = Manners()
    assert manners.switches == NONE
    manners.introduced("NEcharge", "Pro", "1")
    assert manners.switches == Switches(steps_a=(6, 8, 10, 13, 16), pause="six_amp")
    assert manners.learn("relative") and not manners.learn("relative")
    assert manners.behind("profile_kind", "pause") == ("pauseends", "relative")
    assert manners.supposing("onelevel").stack_levels == (0,)
    manners.unlearn("steps")
    manners.introduced("NEcharge", "Pro", "1")
    assert manners.switches.profile_kind == "Relative", "learnt for as long as the process lives"
    manners.introduced("NEcharge", "Pro", "2")
    assert not manners.switches.profile_kind, "another firmware may have learnt better"
    assert manners.learn("notx")
    manners.unlearn("notx")
    assert not manners.switches.tx_purpose and manners.switches.steps_a


def test_what_may_not_be_learnt_is_not() -> None:
    manners = Manners()
    assert not manners.may_learn("steps") and not manners.learn("steps")
    assert not manners.learn("nobody") and not Manners(Dialects()).learn("relative")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"repair": {"loud": True}}, "unknown loud"),
        ({"colour": 1, "handled": "x"}, "unknown colour"),
        ({"at": [{"maker": "x"}], "handled": "x"}, "unknown maker"),
        ({"repair": {"pause": "never"}}, "pause is one of"),
        ({}, "either a repair or where"),
        ({"repair": {"resume_check": True}, "handled": "x"}, "either a repair or where"),
    ],
)
def test_a_wrong_entry_is_named(more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_entry({**ROW, **more})


def test_quirks_are_counted_under_the_row() -> None:
    memory = Memory(StationId("CP"))
    memory.note_quirks(["StatusNotification errorCode enum"] * 3 + ["StatusNotification status enum"])
    assert memory.quirks["errorcode"] == 3
    memory.note_repair("no such row")
    assert "no such row" not in memory.quirks


def test_rows_are_counted_even_when_a_station_does_every_odd_thing() -> None:
    memory = Memory(StationId("CP"))
    memory.note_quirks(f"odd {number}" for number in range(1000))
    memory.note_repair("spike")
    assert len(memory.quirks) == 201 and memory.quirks["spike"] == 1


# --- what counts at its maximum ---------------------------------------------------------------------------------


def a_footing(manners: Manners) -> tuple[Footing, list[Event]]:
    told: list[Event] = []
    return Footing(Reserves(), manners, "ocpp1.6", told.append), told


def test_a_reserve_lasts_until_it_is_released() -> None:
    footing, told = a_footing(Manners())
    evse = an_evse()
    footing.reserve(evse, "why")
    assert told == [], "nothing is stored yet: it counts at its maximum anyway"
    footing.stored(evse)
    footing.release(evse)
    footing.release(evse)
    assert [type(event) for event in told] == [FallbackRefused, FallbackStored]


def test_a_dialect_that_reserves_is_never_released() -> None:
    manners = Manners()
    footing, told = a_footing(manners)
    evse = an_evse()
    footing.stored(evse)
    manners.learn("spike")
    footing.dialect_learnt([evse])
    footing.reserve(evse, "resumes")
    footing.release(evse)
    footing.stored(evse)
    assert [type(event) for event in told] == [FallbackStored, *[FallbackRefused] * 4]
    footing.refused(evse, "no")
    footing.dialect_learnt([evse])
    assert len(told) == 6, "a refused fallback counts at the maximum already"


# --- what is seen of limits -------------------------------------------------------------------------------------


def amps(value: int) -> PerPhase[int | None]:
    return PerPhase(value, None, None)


def test_a_vehicle_may_take_its_time_to_come_down() -> None:
    watch, evse = Watch(), evse_id("CP", 1)
    watch.note(evse, 16_000, 0, 180, "1")
    assert watch.judge(evse, amps(32_000), 1.0) is None, "nobody knows what it followed before"
    assert watch.judge(evse, amps(16_000), 11.0) is Judgement.FINE
    watch.note(evse, 6_000, 20, 180, "1")
    assert watch.judge(evse, amps(16_500), 25.0) is Judgement.EARLY
    assert watch.judge(evse, amps(16_500), 31.0) is Judgement.HIGH
    assert watch.judge(evse, amps(6_900), 32.0) is Judgement.FINE
    assert watch.judge(evse, PerPhase(None, None, None), 33.0) is None
    assert watch.judge(evse, amps(32_000), 201.0) is None, "its lease is over"
    assert watch.limit_ma(evse, 199.0) == 6_000 and watch.limit_ma(evse, 201.0) is None


def test_spikes_are_a_habit_after_the_third() -> None:
    watch, evse = Watch(), evse_id("CP", 1)
    watch.note(evse, 16_000, 0, 600, "1")
    seen = []
    for write in range(1, 6):
        at_s = 20.0 * write
        watch.note(evse, 16_000 - write * 1000, at_s, 600, "1")
        seen.append(watch.judge(evse, amps(31_000), at_s + 2))
        seen.append(watch.judge(evse, amps(9_000), at_s + 12))
    assert seen.count(Judgement.SPIKES) == 1 and seen.index(Judgement.SPIKES) == 5


def test_a_limit_that_is_not_applied_is_told_once() -> None:
    watch, evse = Watch(), evse_id("CP", 1)
    watch.note(evse, 16_000, 0, 600, "1")
    seen = [watch.judge(evse, amps(31_000), float(at)) for at in range(15, 60)]
    assert seen.count(Judgement.UNAPPLIED) == 1 and Judgement.SPIKES not in seen


# --- the law ----------------------------------------------------------------------------------------------------


class Wire:
    """Stands for a session: keeps what was sent, and answers as it is told, `slow_s` later."""

    def __init__(
        self, words: Words, answers: list[str], clock: Still | None = None, slow_s: float = 0.0
    ) -> None:
        self.words, self.answers = words, answers
        self.clock, self.slow_s = clock, slow_s
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def exchange(
        self, action: str, payload: dict[str, Any], lane: Lane, on_wire: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        self.words.dialect.schemas.check(action, payload)
        self.sent.append((action, payload))
        if on_wire is not None:
            on_wire()
        if self.clock is not None:
            self.clock.now_s += self.slow_s
        return {"status": self.answers.pop() if self.answers else "Accepted"}


class Still:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def now(self) -> Moment:
        return Moment(self.now_s, NOW + timedelta(seconds=self.now_s - 1000.0))

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


def drawn_ma(payload: dict[str, Any], evse: Evse, memory: Memory) -> float:
    """The most a vehicle may draw on a conductor by this profile, on the phases it uses and at the voltage there is."""
    profile = payload.get("csChargingProfiles") or payload.get("chargingProfile")
    assert profile is not None
    schedule = profile["chargingSchedule"]
    (period,) = (schedule[0] if isinstance(schedule, list) else schedule)["chargingSchedulePeriod"]
    unit = (schedule[0] if isinstance(schedule, list) else schedule)["chargingRateUnit"]
    if unit == "A":
        return float(period["limit"]) * 1000
    phases = memory.hearing.phases_used.get(evse.id, len(evse.phases))
    volts = (memory.hearing.voltage_mv or 230_000) / 1000
    return float(period["limit"]) / volts / phases * 1000


OF_LIMITS = {
    "stack_levels",
    "profile_kind",
    "tx_purpose",
    "rate_unit",
    "limit_key",
    "steps_a",
    "pause",
    "resume_check",
}
ROWS = st.sets(
    st.sampled_from(
        [
            e.name
            for e in shipped()
            if OF_LIMITS & {*e.repair, *(key for match in e.at for key in match.repair)}
        ]
    ),
    max_size=5,
)
LIMITS = st.integers(0, 40_000) | st.sampled_from([0, 5_999, 6_000, 6_050, 16_999])


@drawing(max_examples=300)
@given(
    words=st.sampled_from(VERSIONS),
    rows=ROWS,
    able=st.builds(Capabilities, max_stack_level=st.integers(0, 9), in_watts=st.booleans(), smart_charging=st.sampled_from([None, True, False])),
    phases=st.sampled_from([(0,), (1, 2), (0, 1, 2)]),
    used=st.sampled_from([None, 1, 2, 3]),
    voltage_mv=st.sampled_from([None, 195_000, 229_900, 230_000, 253_000]),
    limits=st.lists(st.tuples(LIMITS, st.booleans()), min_size=1, max_size=5),
    answers=st.lists(st.sampled_from(["Accepted", "Rejected", "NotSupported", "Unknown"]), max_size=20),
    slow_s=st.sampled_from([0.0, 0.4, 9.0]),
)  # fmt: skip
def test_no_dialect_widens_or_prolongs_a_limit(
    words: Words,
    rows: set[str],
    able: Capabilities,
    phases: tuple[int, ...],
    used: int | None,
    voltage_mv: int | None,
    limits: list[tuple[int, bool]],
    answers: list[str],
    slow_s: float,
) -> None:
    memory, evse, clock, again = Memory(StationId("CP")), an_evse(phases), Still(), list[SetLimit]()
    memory.able = able
    memory.hearing.voltage_mv = voltage_mv
    if used is not None:
        memory.hearing.phases_used[evse.id] = min(used, len(phases))
    memory.manners._learnt = {
        name: {**entry.repair, **(entry.at[0].repair if entry.at else {})}
        for name in sorted(rows)
        if (entry := shipped().named(name)) is not None
    }
    memory.manners._merge()
    transaction = "7" if words.version == "1.6" else "tx-7"
    memory.note_start(transaction, evse.id)
    wire = Wire(words, list(reversed(answers)), clock, slow_s)
    footing = Footing(memory.reserves, memory.manners, words.channel, lambda event: None)

    async def check() -> None:
        delivery = Delivery(words, cast(Session, wire), {1: evse}, memory, clock, footing, again.append)
        for number, (limit_ma, runs) in enumerate(limits):
            before_ma = delivery._watch.limit_ma(evse.id, clock.now_s)
            command = SetLimit(f"c{number}", evse.id, "ocpp", limit_ma, 180.0, transaction if runs else None)
            wire.sent.clear()
            status, refusal, until = "", "", clock.now().utc + timedelta(seconds=180)
            try:
                status = await delivery.carry(command, 1, evse, lambda: None)
            except (Refused, Misconfigured) as error:
                refusal = str(error)
            for action, payload in wire.sent:
                most_ma = limit_ma
                if "pause would end" in refusal:  # the depot is told no, and goes on counting what it had
                    assert before_ma is not None and memory.manners.switches.pause == "six_amp"
                    most_ma = min(evse.fallback_ma, before_ma)
                if action == "ChangeConfiguration":
                    assert int(payload["value"]) * 1000 <= most_ma
                elif action == "SetChargingProfile":
                    assert drawn_ma(payload, evse, memory) <= most_ma + 1e-6
                    profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
                    assert datetime.fromisoformat(profile["validTo"]) <= until
                    assert "transactionId" not in profile or runs
            accepted_ma = delivery._watch.limit_ma(evse.id, clock.now_s)
            if status == "Accepted" and memory.manners.switches.pause != "remote_stop":
                assert accepted_ma is not None and accepted_ma <= limit_ma
            delivery.say_again(evse.id)
            for repeat in again:
                assert clock.now().utc + timedelta(seconds=round(repeat.lease_s, 3)) <= until
            clock.now_s += 20.0
            assert all(repeat.limit_ma <= max(evse.fallback_ma, limit_ma) for repeat in again)
            again.clear()
        delivery.close()

    asyncio.run(check())


def test_a_yes_stays_a_yes_when_the_station_will_not_hear_it_twice() -> None:
    """The first limit after a pause is said twice; the depot must count the one that was taken."""
    words = next(each for each in VERSIONS if each.version == "1.6")
    memory, evse, clock = Memory(StationId("CP")), an_evse(), Still()
    memory.manners._learnt = {"resume": {"resume_check": True}}
    memory.manners._merge()
    memory.note_start("7", evse.id)
    answers: list[str | CallError] = [
        "Accepted",
        "Accepted",
        CallError("OccurenceConstraintViolation", "again?"),
    ]

    class Grumpy(Wire):
        async def exchange(self, *args: Any) -> dict[str, Any]:
            await super().exchange(*args)
            answer = answers.pop(0)
            if isinstance(answer, CallError):
                raise answer
            return {"status": answer}

    footing = Footing(memory.reserves, memory.manners, words.channel, lambda event: None)
    wire = Grumpy(words, [])
    delivery = Delivery(words, cast(Session, wire), {1: evse}, memory, clock, footing, lambda c: None)

    async def say(limit_ma: int) -> str:
        return await delivery.carry(
            SetLimit("c", evse.id, "ocpp", limit_ma, 180.0, "7"), 1, evse, lambda: None
        )

    assert asyncio.run(say(0)) == "Accepted"
    assert asyncio.run(say(16_000)) == "Accepted"
    assert not answers, "it was said twice"


def test_a_pause_is_remembered_over_a_new_connection() -> None:
    """Row 21: what follows it counts at the maximum until it was measured, whether the link was cut meanwhile or not."""
    words = next(each for each in VERSIONS if each.version == "1.6")
    memory, evse, clock = Memory(StationId("CP")), an_evse(), Still()
    memory.manners._learnt = {"resume": {"resume_check": True}}
    memory.manners._merge()
    memory.note_start("7", evse.id)
    told: list[Event] = []

    def connected() -> Delivery:
        footing = Footing(memory.reserves, memory.manners, words.channel, told.append)
        footing.stored(evse)
        wire = cast(Session, Wire(words, []))
        return Delivery(words, wire, {1: evse}, memory, clock, footing, lambda c: None)

    def say(delivery: Delivery, limit_ma: int) -> str:
        command = SetLimit("c", evse.id, "ocpp", limit_ma, 180.0, "7")
        return asyncio.run(delivery.carry(command, 1, evse, lambda: None))

    first = connected()
    assert (say(first, 16_000), say(first, 0)) == ("Accepted", "Accepted")
    first.close()
    second = connected()
    assert isinstance(told[-1], FallbackStored)
    assert say(second, 10_000) == "Accepted"
    assert isinstance(told[-1], FallbackRefused)
    second.transaction_ended(evse.id)
    assert isinstance(told[-1], FallbackStored)
    assert say(second, 10_000) == "Accepted"
    assert isinstance(told[-1], FallbackStored), "the next vehicle was not paused"


async def test_a_limit_that_outlives_its_transaction_is_remembered_over_a_new_connection() -> None:
    """The end of a transaction that a station tells once its link is back: the lease for any transaction is still there."""
    words = next(each for each in VERSIONS if each.version == "1.6")
    memory, evse, clock = Memory(StationId("CP")), an_evse(), Still()
    memory.manners._learnt = {"notx": {"tx_purpose": "TxDefaultProfile"}}
    memory.manners._merge()
    memory.note_start("7", evse.id)
    told, again = list[Event](), list[SetLimit]()

    def connected() -> Delivery:
        footing = Footing(memory.reserves, memory.manners, words.channel, told.append)
        footing.stored(evse)
        wire = cast(Session, Wire(words, []))
        return Delivery(words, wire, {1: evse}, memory, clock, footing, again.append)

    first = connected()
    limit = SetLimit("c", evse.id, "ocpp", 16_000, 180.0, "7")
    assert await first.carry(limit, 1, evse, lambda: None) == "Accepted"
    first.close()
    clock.now_s += 20.0
    second = connected()
    second.transaction_ended(evse.id)
    assert isinstance(told[-1], FallbackRefused), "the next vehicle would follow it"
    assert [(each.limit_ma, each.lease_s) for each in again] == [(evse.fallback_ma, 160.0)]
    second.close()


async def test_what_an_earlier_run_told_may_outlive_its_transaction_too() -> None:
    """Killed while such a lease holds: nobody knows how high it is, so the EVSE counts at its maximum until it is over or
    overwritten."""
    words = next(each for each in VERSIONS if each.version == "1.6")
    evse, clock, told, again = an_evse(), Still(), list[Event](), list[SetLimit]()
    memory = Memory(StationId("CP"), since_s=clock.now_s)
    memory.manners._learnt = {"notx": {"tx_purpose": "TxDefaultProfile"}}
    memory.manners._merge()
    footing = Footing(memory.reserves, memory.manners, words.channel, told.append)
    footing.stored(evse)
    wire = cast(Session, Wire(words, []))
    delivery = Delivery(words, wire, {1: evse}, memory, clock, footing, again.append)
    clock.now_s += 30.0
    delivery.transaction_ended(evse.id)
    assert isinstance(told[-1], FallbackRefused)
    left_s = evse.link.lease_s + evse.link.lease_slack_s - 30.0
    assert [(each.limit_ma, each.lease_s) for each in again] == [(evse.fallback_ma, left_s)]
    assert await delivery.carry(again[0], 1, evse, lambda: None) == "Accepted"
    assert isinstance(told[-1], FallbackStored)
    clock.now_s += 300.0
    delivery.transaction_ended(evse.id)
    assert isinstance(told[-1], FallbackStored), "of this run it knows"
    delivery.close()


def test_who_may_have_been_paused_by_an_earlier_run_counts_at_its_maximum_when_it_resumes() -> None:
    words = next(each for each in VERSIONS if each.version == "1.6")
    evse, clock, told = an_evse(), Still(), list[Event]()
    memory = Memory(StationId("CP"), since_s=clock.now_s)
    memory.manners._learnt = {"resume": {"resume_check": True}}
    memory.manners._merge()
    memory.note_start("7", evse.id)
    footing = Footing(memory.reserves, memory.manners, words.channel, told.append)
    footing.stored(evse)
    wire = cast(Session, Wire(words, []))
    delivery = Delivery(words, wire, {1: evse}, memory, clock, footing, lambda c: None)
    command = SetLimit("c", evse.id, "ocpp", 10_000, 180.0, "7")
    assert asyncio.run(delivery.carry(command, 1, evse, lambda: None)) == "Accepted"
    assert isinstance(told[-1], FallbackRefused)
    delivery.close()


@given(words=st.sampled_from(VERSIONS), rows=ROWS, limit_ma=st.integers(0, 40_000), in_watts=st.booleans())
def test_no_dialect_widens_the_limit_of_a_start(
    words: Words, rows: set[str], limit_ma: int, in_watts: bool
) -> None:
    memory, evse = Memory(StationId("CP")), an_evse()
    memory.able = Capabilities(in_watts=in_watts)
    memory.manners._learnt = {
        name: entry.repair for name in rows if (entry := shipped().named(name)) is not None
    }
    memory.manners._merge()
    footing = Footing(memory.reserves, memory.manners, words.channel, lambda event: None)
    delivery = Delivery(
        words, cast(Session, Wire(words, [])), {1: evse}, memory, Still(), footing, lambda c: None
    )
    command = StartCharging("c", evse.id, "ocpp", "TAG", limit_ma)
    action, payload = delivery.start(command, 1, evse)
    words.dialect.schemas.check(action, payload)
    if "chargingProfile" in payload:
        assert drawn_ma(payload, evse, memory) <= limit_ma + 1e-6


@given(limit_ma=st.integers(0, 100_000))
def test_steps_round_down(limit_ma: int) -> None:
    switches = Switches(steps_a=(6, 8, 10, 13, 16))
    cut_ma = fit_ma(limit_ma, switches)
    assert cut_ma <= limit_ma and (cut_ma == 0 or cut_ma // 1000 in switches.steps_a)
    assert cut_ma == fit_ma(cut_ma, switches)
    assert fit_ma(limit_ma, NONE) == limit_ma
