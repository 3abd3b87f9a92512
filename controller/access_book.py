"""What the control socket itself writes into the audit: who was refused, and calls that leave no other row behind.

Owns how often a refusal is worth a row. What an order did is audited by the core, under the same name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from controller.core.commands import Audited
from controller.ledger import Ledger
from controller.ports import Clock
from controller.rights import Peer

log = logging.getLogger(__name__)

REFUSED_EVERY_S = (
    60.0  # the same user at the same forbidden call: somebody who insists must not fill the books
)
REFUSED_MOST = 256
# operators' calls that leave no row behind by what they do
AUDITED_HERE = frozenset(("recording", "qualify", "qualify-stop", "channel-sites", "channel-energy"))


class AccessBook:
    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._refused_s: dict[tuple[str, str], float] = {}

    def asked(self, peer: Peer, call: str, args: Mapping[str, Any]) -> None:
        if call in AUDITED_HERE:
            named = (args[key] for key in ("evse", "station", "channel") if isinstance(args.get(key), str))
            self._write(peer, call, next(named, "")[:64])

    def refused(self, peer: Peer, call: str) -> None:
        now_s = self._clock.now().mono_s
        self._refused_s = {
            key: at_s for key, at_s in self._refused_s.items() if now_s - at_s < REFUSED_EVERY_S
        }
        if (peer.name, call) not in self._refused_s and len(self._refused_s) < REFUSED_MOST:
            self._refused_s[peer.name, call] = now_s
            self._write(peer, "not-allowed", call)

    def _write(self, peer: Peer, what: str, subject: str) -> None:
        row = Audited(self._clock.now().utc, peer.name, what, subject, "")
        self._ledger.append((row,)).add_done_callback(_stored)


def _stored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.error("console: a row of the audit is lost: %s", error)
