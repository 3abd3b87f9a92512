"""The optional signature of a request, on top of its token.

Owns the string that is signed and how the result is written. The portal publishes neither delimiter nor encoding, so
each choice is a reading; without a delimiter two different requests can give one string, so TLS stays what protects
them. Must not keep the secret or log anything. Source: Open Platform REFERENCE section 3.3, GAPS G-05.
"""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime

from drivers.openplatform.settings import Readings

SIGNATURE, TIMESTAMP = "X-Signature", "X-Timestamp"


def signature_headers(
    secret: str, method: str, path: str, body: bytes, now: datetime, readings: Readings
) -> dict[str, str]:
    """The two headers of one request. `path` from the first slash with its query, exactly as on the wire; `body` the
    exact bytes, empty for a GET."""
    timestamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if not readings.signature_path_has_query:
        path = path.partition("?")[0]
    return {SIGNATURE: sign(secret, method, path, timestamp, body, readings), TIMESTAMP: timestamp}


def sign(secret: str, method: str, path: str, timestamp: str, body: bytes, readings: Readings) -> str:
    delimiter = b"\n" if readings.signature_joined_by == "newline" else b""
    text = delimiter.join([method.upper().encode(), path.encode(), timestamp.encode(), body])
    digest = hmac.digest(secret.encode(), text, "sha256")
    return digest.hex() if readings.signature_encoding == "hex" else base64.b64encode(digest).decode()
