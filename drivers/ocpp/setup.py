"""What a station is asked after it connected or rebooted, so that its limits hold and its facts arrive.

Owns the order: first the stored fallback, on the safety lane, because until it is stored a lost link means full current;
then commands may flow; then what the station can do, what it measures, and what state it is in. Every refusal is a fact
about the station, never an error. Names no version: the words come in. Source: OCPP 1.6 sections 5.16, 5.17 and 9;
2.0.1 part 2 sections B, F06 and K01.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from controller.core.model import Evse
from controller.ports import Clock
from drivers.errors import DriverError, Nonsense, Unreachable
from drivers.ocpp.asking import Asking
from drivers.ocpp.fitting import fitted
from drivers.ocpp.footing import Footing
from drivers.ocpp.memory import Memory
from drivers.ocpp.queues import Lane
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.station import CallError, Session
from drivers.ocpp.words import Words, status_of

log = logging.getLogger(__name__)

STORM_S, CALM_BOOTS, LONGEST_HOLD_S = 60.0, 2, 60
LOOP_S, LOOP_BOOTS = 600.0, 2


class Setup:
    """`run` once per connection or boot; it may be cancelled and started again at any point."""

    def __init__(
        self,
        words: Words,
        session: Session,
        evses: Mapping[int, Evse],
        settings: OcppSettings,
        memory: Memory,
        clock: Clock,
        footing: Footing,
    ) -> None:
        self._words = words
        self._session = session
        self._evses = evses
        self._settings = settings
        self._memory = memory
        self._clock = clock
        self._footing = footing
        self._ask = Asking(session, memory, clock).ask
        self._has_offered = False  # fallbacks, on this connection

    async def run(self, ask_for_boot: bool, fallbacks_done: Callable[[], None]) -> None:
        """Returns when everything was asked, or when the session has ended."""
        waits_s = self._storm_s()
        await self._keep_quiet()
        if self._has_offered:
            await self._clock.sleep(waits_s)
        unsure = [number for number in self._evses if not await self._store_fallback(number, last_try=False)]
        fallbacks_done()
        # commands that waited ask for their turn before our next question does
        await self._clock.sleep(0.0 if self._has_offered else waits_s)
        self._has_offered = True
        if ask_for_boot:
            await self._ask(*self._words.ask_for_boot())
        in_watts = self._memory.able.in_watts
        caught = self._is_caught()
        configuration = {} if caught else await self._learn()
        if self._memory.able.in_watts != in_watts:
            unsure = list(self._evses)  # what was stored or refused in the other unit says little
        for number in unsure:
            await self._store_fallback(number, last_try=True)
        if not caught:
            await self._store_maximum()
            await self._configure(configuration)
        answers = [await self._ask(*self._words.ask_for_status(number)) for number in self._evses]
        rejected = any(answer and status_of(answer).casefold() == "rejected" for answer in answers)
        if rejected and self._memory.manners.knows("nostatus"):
            self._memory.note_repair("nostatus")
            await self._ask(*self._words.ask_for_status(0))

    async def _keep_quiet(self) -> None:
        """For stations that cannot bear a word right after their introduction (row 15): nobody gets a turn."""
        quiet_s = self._memory.manners.switches.quiet_s
        if not quiet_s:
            return
        self._memory.note_repairs("quiet_s")
        with suppress(Unreachable):
            async with self._session.turn(Lane.SAFETY):
                await self._clock.sleep(quiet_s)

    def _storm_s(self) -> float:
        """How long setup waits in a storm of introductions, which it would only feed (row 17)."""
        now_s, memory = self._clock.now().mono_s, self._memory
        lately = sum(1 for boot_s in memory.boots if now_s - boot_s < STORM_S)
        if lately <= CALM_BOOTS or not memory.manners.knows("bootstorm"):
            return 0.0
        memory.note_repair("bootstorm")
        return float(min(LONGEST_HOLD_S, 2 ** (lately - 1)))

    def _is_caught(self) -> bool:
        """Whether it boots again and again, perhaps because of what setup asks (row 14): then it is left as it is."""
        now_s, memory = self._clock.now().mono_s, self._memory
        lately = sum(1 for boot_s in memory.boots if now_s - boot_s < LOOP_S)
        if lately <= LOOP_BOOTS or not memory.manners.knows("deadlykey"):
            return False
        memory.note_repair("deadlykey")
        if lately == LOOP_BOOTS + 1:
            log.warning("%s booted %d times in 10 min; its settings stay", self._session.station, lately)
        return True

    async def _store_fallback(self, number: int, last_try: bool) -> bool:
        """False when nobody knows whether it is stored; that is reported only after the last try."""
        if self._memory.fallback_spared:
            return True
        evse, memory = self._evses[number], self._memory
        manners = memory.manners
        able, cut, _ = fitted(memory.able, evse, manners.switches, memory.hearing, manners.knows)
        order = self._words.fallback(number, cut, able)
        try:
            answer = await self._session.call(*order, Lane.SAFETY)
        except (Unreachable, Nonsense) as error:
            if last_try and not self._session.ended:
                self._refused(evse, str(error))
            return False
        except DriverError as error:
            if not last_try and isinstance(error, CallError) and error.too_early:
                return False
            self._refused(evse, str(error))
            return True
        status = status_of(answer)
        if status.casefold() == "accepted":
            self._footing.stored(evse)
        else:
            self._refused(evse, f'the station said "{status}"')
        return True

    async def _store_maximum(self) -> None:
        """Bounds the station as a whole at what the config says its EVSEs can do; once per boot. It is a belt beside the
        leases: a station that will not have it is none the worse (row 25), one that spikes at every write is spared."""
        memory = self._memory
        manners = memory.manners
        if memory.maximum_written or memory.able.smart_charging is False or manners.switches.reserve:
            return
        widest = max(self._evses.values(), key=lambda evse: len(evse.phases))
        able, cut, _ = fitted(memory.able, widest, manners.switches, memory.hearing, manners.knows)
        most_ma = sum(evse.max_ma for evse in self._evses.values())
        answer = await self._ask(*self._words.maximum(most_ma, cut, able, self._clock.now().utc))
        memory.maximum_written = answer is not None
        if answer is not None and status_of(answer).casefold() != "accepted":
            log.info("%s keeps no maximum of its own: %s", self._session.station, status_of(answer))

    def _refused(self, evse: Evse, reason: str) -> None:
        log.warning("%s does not store its fallback: %s", evse.id, reason)
        self._footing.refused(evse, reason)

    async def _learn(self) -> Mapping[str, str]:
        configuration = await self._words.read_configuration(self._ask)
        if configuration:
            self._memory.configuration = configuration
            self._memory.able = self._words.capabilities(configuration)
            if self._memory.able.discharge:
                self._footing.discharge_offered(self._evses.values())
            self._memory.manners.configured(configuration)
            if self._memory.manners.switches.reserve:
                self._footing.dialect_learnt(self._evses.values())
            self._memory.note_quirks(self._memory.able.shortcomings(len(self._evses)))
        return configuration

    async def _configure(self, configuration: Mapping[str, str]) -> None:
        memory = self._memory
        memory.measurands_written = await self._words.configure(
            self._ask, configuration, memory.able, self._settings, memory.measurands_written
        )
