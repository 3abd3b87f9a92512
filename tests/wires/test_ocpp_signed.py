"""Signed meter values: from the station's socket to `depot sessions --signed`, as they came; and nothing else of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocpp_peer import now_text, peer
from test_ocpp_lost_and_late import LeapClock, asked, starts, the_box
from test_ocpp_v2 import boot, station, token

from controller import session_store
from controller.core.model import StationId
from controller.storage import LEDGER
from drivers.ocpp import signed
from drivers.ocpp.signed import LONGEST, MOST_AT_ONCE, signed_values

CP1 = StationId("CP1")
OCMF = 'OCMF|{"FV":"1.0","GI":"Ünit","PG":"T12"}|{"SD":"3045022100"}'


def in_1_6(value: str, context: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "value": value,
        "format": "SignedData",
        **({} if context is None else {"context": context}),
        **more,
    }


def entry(*samples: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"timestamp": now_text(), "sampledValue": list(samples)}]


async def kept(box: Any, transaction: str) -> list[dict[str, str]]:
    storage = box.runtime.ledger._storage
    found: list[dict[str, str]] = await storage.read(
        LEDGER, lambda db: session_store.signed(db, CP1, transaction)
    )
    return found


async def test_begin_and_end_of_1_6_are_kept_as_they_came(tmp_path: Path) -> None:
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        number = await starts(one, box)
        begin, again = in_1_6(f"{OCMF}begin", "Transaction.Begin"), in_1_6("over and over", "Sample.Periodic")
        unsaid = in_1_6("no context is Sample.Periodic")
        plain = {"value": "1020", "measurand": "Energy.Active.Import.Register"}
        meter = {"connectorId": 1, "transactionId": number, "meterValue": entry(begin, again, unsaid, plain)}
        assert await asked(one, "MeterValues", meter) == {}
        data = [*entry(in_1_6(f"{OCMF}end", "Transaction.End")), *entry(in_1_6("in the stop"))]
        stop = {
            "transactionId": number,
            "meterStop": 1050,
            "timestamp": box.clock.text(),
            "transactionData": data,
        }
        await asked(one, "StopTransaction", stop)
        row = await box.the_row()
        found = await kept(box, str(number))
        assert (row["transaction"], row["energy_wh"]) == (str(number), 50), (
            "no signed value was read as energy"
        )
        assert [
            json.loads(each["value"])["value"] for each in found if each["context"] == "Transaction.Begin"
        ] == [f"{OCMF}begin"]
        assert {json.loads(each["value"])["value"] for each in found} == {
            f"{OCMF}begin",
            f"{OCMF}end",
            "in the stop",
        }
        await asked(one, "StopTransaction", stop)
        assert await kept(box, str(number)) == found, "what is repeated counts once"


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_those_of_2_x_are_kept_whole(tmp_path: Path, version: str) -> None:
    clock = LeapClock()
    signature = {"signedMeterData": "T0NNRg==", "encodingMethod": "OCMF"}
    if version == "2.0.1":
        signature |= {"signingMethod": "ECDSA-secp256r1-SHA256", "publicKey": "MFkw"}
    async with the_box(tmp_path, clock) as box, station(box.server, version) as one:
        await boot(one)

        def event(kind: str, number: int, value: float, **more: Any) -> dict[str, Any]:
            sample = {"value": value, "signedMeterValue": signature, **more.pop("sample", {})}
            return {
                "eventType": kind, "timestamp": box.clock.text(), "triggerReason": "Authorized", "seqNo": number,
                "transactionInfo": {"transactionId": "tx-1", "chargingState": "Charging"}, "evse": {"id": 1},
                "meterValue": entry(sample), **more,
            }  # fmt: skip

        await asked(one, "TransactionEvent", event("Started", 0, 1000.0, **token("TAG1")))
        await asked(one, "TransactionEvent", event("Updated", 1, 2000.0))
        await asked(one, "TransactionEvent", event("Ended", 2, 3000.0, sample={"context": "Transaction.End"}))
        found = [json.loads(each["value"]) for each in await kept(box, "tx-1")]
    assert [each["value"] for each in found] == [1000.0, 3000.0], "what runs on and on is not kept"
    assert all(each["signedMeterValue"] == signature for each in found)


def test_what_is_no_transactions_or_too_much_is_left_out() -> None:
    good = entry(in_1_6("x", "Transaction.End"))
    assert signed_values(CP1, {"meterValue": good}) is None, "of no transaction"
    assert signed_values(CP1, {"transactionId": 7, "meterValue": entry({"value": "1"})}) is None
    assert signed_values(CP1, {"transactionId": "x" * 37, "meterValue": good}) is None
    assert (
        signed_values(CP1, {"transactionId": 7, "meterValue": entry(in_1_6("x" * LONGEST, "Other"))}) is None
    )
    many = signed_values(CP1, {"transactionId": 7, "meterValue": entry(*[in_1_6("x", "Other")] * 50)})
    assert many is not None
    assert len(many.values) == MOST_AT_ONCE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "meterValue",
                    "transactionData",
                    "sampledValue",
                    "format",
                    "context",
                    "transactionId",
                    "transactionInfo",
                ]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    payload=st.dictionaries(
        st.sampled_from(["meterValue", "transactionId", "transactionInfo", "eventType"]), JSON
    )
)
def test_no_payload_is_too_odd(payload: dict[str, Any]) -> None:
    made = signed.signed_values(CP1, payload)
    assert made is None or made.values
