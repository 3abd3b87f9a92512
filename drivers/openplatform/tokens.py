"""Who may talk to the on-site host, for how long, and how often.

Owns bearer tokens (24 h, opaque, a new one does not void an older one) and request quotas. Only digests of tokens are
kept, so nothing here can leak one, and finding a digest takes the same time however much of a guess is right. Tokens
live in memory: after a restart a client gets 2001 and asks for a new one, as it does anyway. Both tables are bounded.
Must not know what a token opens. Times are monotonic seconds of the site's clock.
Source: Open Platform REFERENCE sections 3, 5 and 6, GAPS G-22.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from drivers.openplatform.answers import EXPIRED, FORBIDDEN, TOO_MANY, UNAUTHORIZED, ApiError

TOKEN_S = 86400.0
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class Grant:
    """What a valid token says: whose it is, what it opens, and until when (monotonic)."""

    holder: str
    scopes: frozenset[str]
    expires_s: float


class Tokens:
    """At most `keep` tokens per holder; the oldest goes first and then reads as unknown. Holders are known ones (clients
    in the config, announced chargers), so the whole is bounded too."""

    def __init__(self, keep: int = 64, lifetime_s: float = TOKEN_S) -> None:
        self._keep = keep
        self._lifetime_s = lifetime_s
        self._grants: dict[bytes, Grant] = {}
        self._of: dict[str, OrderedDict[bytes, None]] = {}

    def issue(self, holder: str, scopes: frozenset[str], now_s: float) -> dict[str, object]:
        """A new token as the bare answer of both token operations."""
        token = secrets.token_urlsafe(32)
        digest = _digest(token)
        self._grants[digest] = Grant(holder, scopes, now_s + self._lifetime_s)
        mine = self._of.setdefault(holder, OrderedDict())
        mine[digest] = None
        while len(mine) > self._keep:
            oldest, _ = mine.popitem(last=False)
            del self._grants[oldest]
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(self._lifetime_s)}

    def check(self, token: str | None, now_s: float, scope: str | None = None) -> Grant:
        """Raises ApiError 2001 (none, or not ours), 2002 (expired), 2003 (`scope` not granted)."""
        grant = self._grants.get(_digest(token)) if token and len(token) <= _LONGEST else None
        if grant is None:
            raise ApiError(UNAUTHORIZED, "token not recognised")
        if now_s >= grant.expires_s:
            raise ApiError(EXPIRED, "token expired")
        if scope is not None and scope not in grant.scopes:
            raise ApiError(FORBIDDEN, f"{scope} scope needed")
        return grant

    def revoke(self, holder: str) -> None:
        """Every token of this holder is unknown from now on."""
        for digest in self._of.pop(holder, OrderedDict()):
            del self._grants[digest]


class Quota:
    """`count` requests per `per_s` seconds and key, all of them at once at most unless `burst` says less; they come
    back evenly. Remembers `keep` keys: the one idle longest goes first, and starts afresh should it return."""

    def __init__(self, count: int, per_s: float = 60.0, burst: int | None = None, keep: int = 1024) -> None:
        self._rate_per_s = count / per_s
        self._burst = float(count if burst is None else burst)
        self._keep = keep
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (left, at)

    def spend(self, key: str, now_s: float, requests: int = 1) -> None:
        """Takes one request (0: only looks whether one is left). Raises ApiError 5001 with `retry_after_seconds`, and
        then nothing is taken."""
        left, at_s = self._levels.pop(key, (self._burst, now_s))
        left = min(self._burst, left + max(0.0, now_s - at_s) * self._rate_per_s)
        enough = left >= 1.0 - 1e-9
        self._levels[key] = (left - requests if enough else left, now_s)
        if len(self._levels) > self._keep:
            self._levels.popitem(last=False)
        if not enough:
            wait_s = max(1, math.ceil((1.0 - left) / self._rate_per_s))
            raise ApiError(TOO_MANY, "quota used up", retry_after_seconds=wait_s)


def is_same_secret(given: str, known: str) -> bool:
    """In constant time, whatever the lengths."""
    return hmac.compare_digest(_digest(given), _digest(known))


def bearer(authorization: str | None) -> str | None:
    """The token of an Authorization header, None when there is none of that kind."""
    kind, _, token = (authorization or "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def _digest(words: str) -> bytes:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
