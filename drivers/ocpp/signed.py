"""Signed meter values in a request of a station -> what is kept of them, as they came.

Owns which are kept: whatever does not come over and over while a vehicle charges (contexts Sample.Periodic and
Sample.Clock), for what the law on metering asks for is the begin, the end and a change of tariff. Pure; checks no signature
and reads no value. Source: OCPP 1.6 section 7.42 (`format` SignedData, the value is the signed text), 2.0.1 part 2
SampledValueType (`signedMeterValue`); OCMF and other forms are the business of who checks them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from controller.core.events import MeterSigned
from controller.core.model import StationId
from controller.core.signed import SignedValue
from drivers.ocpp.frames import Payload

MOST_AT_ONCE: Final = 16
LONGEST: Final = 16_384  # characters; longer ones are no signature of a meter
LONGEST_STAMP: Final = 40
LONGEST_TRANSACTION: Final = 36
_OVER_AND_OVER: Final = ("sample.periodic", "sample.clock")


def signed_values(station: StationId, payload: Payload) -> MeterSigned | None:
    """None where there is none, or no transaction they would belong to."""
    transaction = _transaction(payload)
    if transaction is None:
        return None
    kind = payload.get("eventType")
    edge = isinstance(kind, str) and kind.strip().casefold() in ("started", "ended")
    found = [
        *_in(payload.get("transactionData"), unsaid=True),  # OCPP 1.6: in the stop
        *_in(payload.get("meterValue"), unsaid=edge),
    ]
    return MeterSigned(station, transaction, tuple(found[:MOST_AT_ONCE])) if found else None


def _transaction(payload: Payload) -> str | None:
    info = payload.get("transactionInfo")
    told = info.get("transactionId") if isinstance(info, dict) else payload.get("transactionId")
    if isinstance(told, bool) or not isinstance(told, int | str):
        return None
    text = str(told).strip()
    return text if 0 < len(text) <= LONGEST_TRANSACTION else None


def _in(entries: object, unsaid: bool) -> Iterator[SignedValue]:
    """`unsaid`: with those that name no context, which stands for Sample.Periodic where nothing begins or ends."""
    for entry in _dicts(entries):
        stamp = entry.get("timestamp")
        at = stamp[:LONGEST_STAMP] if isinstance(stamp, str) else ""
        for sample in _dicts(entry.get("sampledValue")):
            context = sample.get("context")
            word = context.strip() if isinstance(context, str) else ""
            dull = word.casefold() in _OVER_AND_OVER if word else not unsaid
            if dull or not _is_signed(sample):
                continue
            text = json.dumps(sample, ensure_ascii=False, separators=(",", ":"))
            if len(text) <= LONGEST:
                yield SignedValue(at, word[:LONGEST_STAMP], text)


def _is_signed(sample: Mapping[str, Any]) -> bool:
    form = sample.get("format")
    in_1_6 = isinstance(form, str) and form.strip().casefold() == "signeddata"
    return in_1_6 or isinstance(sample.get("signedMeterValue"), dict)


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            yield item
