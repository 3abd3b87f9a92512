"""The call behind `depot station`: who may ask, what a failure becomes, and that each question is audited as it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from small_depot import SmallDepot

from controller.ask_calls import AskCalls
from controller.console import Peer, Refusal
from controller.core.model import EvseId, StationId
from drivers.errors import DriverError, Misconfigured, Refused, Unreachable
from tests.audit_rows import audit_tail

ANNA = Peer("anna", operator=True)


class Oracle:
    """Says what it is told to say; `mute`: nothing, ever."""

    def __init__(self, failure: DriverError | None = None, mute: bool = False) -> None:
        self.failure = failure
        self.mute = mute
        self.heard = asyncio.Event()
        self.asked: list[tuple[StationId, Mapping[int, EvseId], str, Mapping[str, object]]] = []

    async def ask(
        self, station: StationId, evses: Mapping[int, EvseId], question: str, args: Mapping[str, object]
    ) -> dict[str, Any]:
        self.asked.append((station, evses, question, args))
        self.heard.set()
        if self.mute:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return {"said": "Accepted", "done": True}


def a_question(**args: object) -> dict[str, object]:
    return {"station": "B", "question": "reset", "args": args}


async def audited(depot: SmallDepot) -> tuple[str, str, str, str]:
    """Who, what, whom and how, of the newest entry."""
    [row] = await audit_tail(depot.runtime.ledger, 1)
    return row["by"], row["what"], row["subject"], row["detail"]


async def ask(calls: AskCalls, args: dict[str, object]) -> Any:
    for_operators, call = calls.table["station-ask"]
    assert for_operators
    return await call(args, ANNA)


async def test_the_station_is_named_with_its_evses_and_the_answer_is_audited(depot: SmallDepot) -> None:
    oracle = Oracle()
    calls = AskCalls(depot.runtime, oracle)
    details = {
        "token": "04A2B3C4",
        "to": "ftp://me:pw@10.0.4.2/",
        "off": True,
        "hard": False,
        "payload": {"x": "pw"},
    }
    assert await ask(calls, a_question(**details)) == {"said": "Accepted", "done": True}
    assert oracle.asked == [("B", {1: "B/1", 2: "B/2"}, "reset", details)]
    assert await audited(depot) == (
        "anna", "station-asked", "B", "reset token=…B3C4 to=ftp://***@10.0.4.2/ off: Accepted",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Unreachable("asleep"), "unreachable"),
        (Refused("no"), "refused"),
        (Misconfigured("what?"), "bad-request"),
    ],
)
async def test_a_failure_is_one_line_and_audited_too(
    depot: SmallDepot, failure: DriverError, code: str
) -> None:
    with pytest.raises(Refusal, match=f"^B: {str(failure)[:4]}") as refusal:
        await ask(AskCalls(depot.runtime, Oracle(failure)), a_question())
    assert refusal.value.code == code
    assert (await audited(depot))[-1] == f"reset: {failure.kind}: {failure}"


async def test_a_question_that_is_broken_off_is_audited_too(depot: SmallDepot) -> None:
    oracle = Oracle(mute=True)
    asking = asyncio.ensure_future(ask(AskCalls(depot.runtime, oracle), a_question()))
    await oracle.heard.wait()
    asking.cancel()
    await asyncio.wait({asking})
    assert (await audited(depot))[-1] == "reset: broken off"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"station": "Z", "question": "reset", "args": {}}, "unknown-station"),
        ({"station": "B", "question": "reset", "args": []}, "bad-request"),
        ({"station": "B", "question": 7, "args": {}}, "bad-request"),
    ],
)
async def test_bad_calls(depot: SmallDepot, args: dict[str, object], code: str) -> None:
    oracle = Oracle()
    with pytest.raises(Refusal) as refusal:
        await ask(AskCalls(depot.runtime, oracle), args)
    assert (refusal.value.code, oracle.asked) == (code, [])


async def test_a_site_without_ocpp_says_so(depot: SmallDepot) -> None:
    with pytest.raises(Refusal, match=r"no \[ocpp\]"):
        await ask(AskCalls(depot.runtime, None), a_question())
