"""What an operator has a station asked, carried out: plain words in, the station's answer in plain words out.

Owns the table of questions and the waiting for answers that come in parts. Must not decide what may be asked by hand:
that is `guard`. Satisfies `controller.ask_calls.Asker`. Source: INTERFACE section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from controller.core.model import EvseId, StationId, evse_id
from controller.ports import Clock
from drivers.errors import Misconfigured, Unreachable
from drivers.ocpp import plain, plain_device
from drivers.ocpp.frames import Payload
from drivers.ocpp.parts import QUIET_S
from drivers.ocpp.plain import Asked, Question, Row
from drivers.ocpp.server import OcppServer

QUESTIONS: Final[Mapping[str, Callable[[Asked], Question]]] = {
    "available": plain.available,
    "cache-clear": plain.clear_cache,
    "call": plain.call,
    "cost": plain_device.cost,
    "customer": plain_device.customer,
    "logs": plain.logs,
    "message-clear": plain_device.message_clear,
    "message-list": plain_device.message_list,
    "message-set": plain_device.message_set,
    "monitors-clear": plain_device.monitors_clear,
    "monitors-list": plain_device.monitors_list,
    "monitors-set": plain_device.monitors_set,
    "profiles": plain_device.profiles,
    "report": plain_device.report,
    "reserve": plain.reserve,
    "reset": plain.reset,
    "transfer": plain.transfer,
    "trigger": plain.trigger,
    "unlock": plain.unlock,
    "unreserve": plain.unreserve,
    "variables-get": plain_device.variables_get,
    "variables-set": plain_device.variables_set,
}


class Inquiries:
    """`quiet_s`: so long no part of a report comes before it counts as ended."""

    def __init__(self, server: OcppServer, clock: Clock, quiet_s: float = QUIET_S) -> None:
        self._server = server
        self._clock = clock
        self._quiet_s = quiet_s

    async def ask(
        self, station: StationId, evses: Mapping[int, EvseId], question: str, args: Mapping[str, object]
    ) -> dict[str, Any]:
        """`action` and `said` as the standard calls them, `done`: that was a yes; `rows` for people; `complete`: False
        where a report broke off; `answer`: the payload of the last answer. Raises DriverError."""
        version = self._server.version(station)
        if version is None:
            raise Unreachable("it is not connected")
        if question not in QUESTIONS:
            raise Misconfigured(f"there is no question {question!r}")
        asked = Asked(
            version,
            args,
            evses,
            self._clock.now().utc,
            lambda number: self._server.running_on(evse_id(station, number)),
        )
        made = QUESTIONS[question](asked)
        answers, rows, complete = await self._put(station, made)
        said, done = made.judge(answers)
        return {
            "station": station,
            "version": version,
            "action": made.orders[0].action,
            "said": said,
            "done": done and complete,
            "rows": rows,
            "complete": complete,
            "answer": answers[-1],
        }

    async def _put(self, station: StationId, made: Question) -> tuple[list[Payload], list[Row], bool]:
        if made.number is None:
            answers = [await self._server.request(station, *order) for order in made.orders]
            return answers, made.rows(answers), True
        [order] = made.orders
        with self._server.reports(station).expect(order.action, made.number) as report:
            answer = await self._server.request(station, *order)
            said, done = made.judge([answer])
            if not done or said.casefold().startswith(("emptyresultset", "noprofiles", "unknown")):
                return [answer], [], True  # nothing will follow
            complete = await report.wait(self._quiet_s)
            return [answer], made.told(report.rows), complete
