"""Cases of the compliance suite as steps on the wire: what the station says and hears, what the suite has us say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ocpp_peer import Depot, Peer, fresh, now_text
from octt_bench import Suite, suite_and_station

from drivers.ocpp.settings import OcppSettings

Json = dict[str, Any]
ACCEPTED: Json = {"status": "Accepted"}


@dataclass(frozen=True)
class Says:
    """The station sends a call; the reply holds at least `hears`, or is the error `error`."""

    action: str
    payload: Json = field(default_factory=dict)
    hears: Json = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Told:
    """The suite has us send a call; the station gets exactly that, and the suite what the station answers."""

    action: str
    payload: Json = field(default_factory=dict)
    answers: Json = field(default_factory=lambda: ACCEPTED)


Step = Says | Told


def kebab(action: str) -> str:
    return "".join(f"-{sign.lower()}" if sign.isupper() else sign for sign in action).removeprefix("-")


async def play(
    version: str, steps: Sequence[Step], facts: Sequence[type] = (), config: OcppSettings | None = None
) -> None:
    """`facts`: kinds of events that must have reached the depot in this order, with others in between."""
    async with suite_and_station(version, config) as (suite, station, depot):
        del depot.events[:]
        await act(version, steps, suite, station)
        assert has_in_order(depot, facts), depot.events


async def act(version: str, steps: Sequence[Step], suite: Suite, station: Peer) -> None:
    for step in steps:
        match step:
            case Says(action, payload, hears, error):
                reply = await station.ask(action, fresh(payload))
                if error:
                    assert (reply[0], reply[2]) == (4, error), (step, reply)
                else:
                    assert reply[0] == 3 and holds(reply[2], hears), (step, reply)
            case Told(action, payload, answers):
                station.answers[action] = answers
                before = sum(name == action for name, _ in station.calls)
                way = kebab(action) if version == "1.6" else f"call/{action}"
                assert await suite.ask(f"{version}/CP1/{way}", payload) == answers, step
                got = [each for name, each in station.calls if name == action]
                assert payload in got[before:], step


def holds(whole: object, part: object) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and holds(whole[key], value) for key, value in part.items()
        )
    return whole == part


def has_in_order(depot: Depot, facts: Sequence[type]) -> bool:
    events = iter(depot.events)
    return all(any(isinstance(event, kind) for event in events) for kind in facts)


# --- what stations of 1.6 say ---------------------------------------------------------------------------------


def status16(word: str, connector: int = 1, error: str = "NoError") -> Says:
    return Says("StatusNotification", {"connectorId": connector, "status": word, "errorCode": error}, {})


def authorize16(tag: str = "TAG-001") -> Says:
    return Says("Authorize", {"idTag": tag}, {"idTagInfo": ACCEPTED})


def start16(number: int = 1001, offset_s: float = 0, **more: Any) -> Says:
    payload = {"connectorId": 1, "idTag": "TAG-001", "meterStart": 0, "timestamp": now_text(offset_s), **more}
    return Says("StartTransaction", payload, {"transactionId": number, "idTagInfo": ACCEPTED})


def stop16(reason: str | None = None, number: int = 1001, offset_s: float = 0) -> Says:
    payload: Json = {"transactionId": number, "meterStop": 100, "timestamp": now_text(offset_s)}
    return Says("StopTransaction", payload | ({"reason": reason} if reason else {}), {})


BOOT16 = Says("BootNotification", {"chargePointVendor": "ACME", "chargePointModel": "Wall 22"}, ACCEPTED)


# --- what stations of 2.0.1 say -------------------------------------------------------------------------------


def boot2(reason: str = "PowerUp") -> Says:
    about = {"vendorName": "ACME", "model": "Two"}
    return Says("BootNotification", {"reason": reason, "chargingStation": about}, ACCEPTED)


def status2(word: str, evse: int = 1, connector: int = 1) -> Says:
    payload = {"timestamp": now_text(), "connectorStatus": word, "evseId": evse, "connectorId": connector}
    return Says("StatusNotification", payload, {})


def token2(text: str = "100000C01") -> Json:
    return {"idToken": {"idToken": text, "type": "ISO14443"}}


def authorize2(text: str = "100000C01") -> Says:
    return Says("Authorize", token2(text), {"idTokenInfo": ACCEPTED})


def event2(
    kind: str,
    seq: int,
    trigger: str,
    state: str | None = None,
    token: bool = False,
    hears: Json | None = None,
    offset_s: float = 0,
    **info: Any,
) -> Says:
    """A TransactionEvent of transaction `tx-1` on EVSE 1; `info` goes into transactionInfo, but meterValue and offline."""
    payload: Json = {
        "eventType": kind, "timestamp": now_text(offset_s), "triggerReason": trigger, "seqNo": seq,
        "transactionInfo": {"transactionId": "tx-1"}, "evse": {"id": 1, "connectorId": 1},
    }  # fmt: skip
    for name in ("meterValue", "offline", "reservationId"):
        if name in info:
            payload[name] = info.pop(name)
    payload["transactionInfo"] |= info | ({"chargingState": state} if state else {})
    expected = {} if hears is None else hears
    if token:
        payload |= token2()
        expected = expected or {"idTokenInfo": ACCEPTED}
    return Says("TransactionEvent", payload, expected)


def values2(context: str, **more: Any) -> list[Json]:
    sample = {"value": 1000.0, "context": context, "measurand": "Energy.Active.Import.Register", **more}
    return [{"timestamp": now_text(), "sampledValue": [sample]}]
