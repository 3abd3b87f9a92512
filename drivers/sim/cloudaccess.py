"""Who may ask the simulated platform, and how often.

Owns clients, bearer tokens (24 h of clock time, older ones stay valid) and the quotas per client id. A quota counts
the requests of the last minute of clock time; the portal does not say which kind of window it uses (G-22).
Source: Open Platform REFERENCE sections 3.1, 5, 6.
"""

from __future__ import annotations

import hmac
import math
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from drivers.sim.cloudwords import Refusal, choice, required, text

TOKEN_S = 86400
WINDOW_S = 60.0
SCOPES = ("read", "write")


@dataclass(frozen=True, slots=True)
class Quotas:
    """Requests per minute and client: reads, control calls (single and batch) and token calls."""

    queries: int = 60
    control: int = 30
    tokens: int = 10

    def of(self, kind: str) -> int:
        return {"queries": self.queries, "control": self.control, "tokens": self.tokens}[kind]


@dataclass(frozen=True, slots=True)
class Client:
    id: str
    secret: str
    scopes: tuple[str, ...]


class Access:
    def __init__(self, quotas: Quotas, random: Random) -> None:
        self.quotas = quotas
        self._random = random
        self._clients: dict[str, Client] = {}
        self._tokens: dict[str, tuple[Client, float]] = {}  # token -> its client, `mono_s` of its end
        self._asked: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def admit(self, client_id: str, secret: str, scopes: tuple[str, ...] = SCOPES) -> None:
        self._clients[client_id] = Client(client_id, secret, scopes)

    def issue(self, body: Mapping[str, Any], now_s: float) -> dict[str, Any]:
        """The bare token answer. Raises Refusal 1001, 1002, 2001, 5001."""
        client_id = required(text(body, "client_id"), "client_id")
        secret = required(text(body, "client_secret"), "client_secret")
        required(choice(body, "grant_type", ("client_credentials",)), "grant_type")
        client = self._clients.get(client_id)
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise Refusal(2001, "client not recognised")
        self.spend(client_id, "tokens", now_s)
        token = f"sim-{self._random.getrandbits(128):032x}"
        self._tokens[token] = (client, now_s + TOKEN_S)
        return {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S}

    def client(self, token: str | None, scope: str, now_s: float) -> Client:
        """Whose token this is. Raises Refusal 2001 (none or unknown), 2002 (expired), 2003 (scope missing)."""
        if token is None or token not in self._tokens:
            raise Refusal(2001, "token not recognised")
        client, _ = self._tokens[token]
        if self.is_expired(token, now_s):
            raise Refusal(2002, "token expired")
        if scope not in client.scopes:
            raise Refusal(2003, f"{scope} scope needed")
        return client

    def is_expired(self, token: str, now_s: float) -> bool:
        return now_s >= self._tokens[token][1]

    def expire_all(self) -> None:
        self._tokens = {token: (client, -math.inf) for token, (client, _) in self._tokens.items()}

    def spend(self, client_id: str, kind: str, now_s: float) -> None:
        """Counts one request. Raises Refusal 5001 with the seconds until the next would be taken."""
        asked = self._asked[client_id, kind]
        while asked and asked[0] <= now_s - WINDOW_S:
            asked.popleft()
        if len(asked) >= self.quotas.of(kind):
            wait_s = asked[0] + WINDOW_S - now_s if asked else WINDOW_S
            raise Refusal(5001, "quota used up", retry_after_seconds=math.ceil(wait_s))
        asked.append(now_s)
