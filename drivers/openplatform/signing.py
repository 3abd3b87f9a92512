"""The optional signature of a request, on top of its token.

Owns the string that is signed and how the result is written. The portal publishes neither delimiter nor encoding, so
each choice is a reading; without a delimiter two different requests can give one string, so TLS stays what protects
them. Must not keep the secret or log anything. Source: Open Platform REFERENCE section 3.3, GAPS G-05.
"""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime

from controller.core.readings import Readings

SIGNATURE = "X-Signature"


def signature_headers(
    secret: str, method: str, path: str, body: bytes, now: datetime, readings: Readings
) -> dict[str, str]:
    """The two headers of one request. `path` from the first slash with its query, exactly as on the wire; `body` the
    exact bytes, empty for a GET."""
    iso = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    timestamp = iso if readings.signature_time == "iso" else str(int(now.timestamp()))
    if not readings.signature_path_has_query:
        path = path.partition("?")[0]
    signature = sign(secret, method, path, timestamp, body, readings)
    return {SIGNATURE: signature, readings.signature_time_header: timestamp}


def sign(secret: str, method: str, path: str, timestamp: str, body: bytes, readings: Readings) -> str:
    delimiter = b"\n" if readings.signature_joined_by == "newline" else b""
    written = method.upper() if readings.signature_method == "upper" else method.lower()
    if body and readings.signature_body == "sorted":
        body = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    text = delimiter.join([written.encode(), path.encode(), timestamp.encode(), body])
    digest = hmac.digest(secret.encode(), text, "sha256")
    match readings.signature_encoding:
        case "hex":
            return digest.hex()
        case "hex-upper":
            return digest.hex().upper()
        case "base64":
            return base64.b64encode(digest).decode()
