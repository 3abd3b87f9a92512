"""What the event loop itself cannot do, in a line where its own words would fill the journal.

Owns one case: no file handle is left for those who knock. asyncio tells that a hundred times a second, with a traceback each.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import Any

log = logging.getLogger(__name__)

AGAIN_S = 60.0
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Mishaps:
    """`heard` is for `set_exception_handler`."""

    def __init__(self) -> None:
        self._told_s = float("-inf")

    def heard(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ValueError) and "_start_serving" in str(context.get("handle")):
            return  # asyncio would accept again after its pause, and the server was closed meanwhile
        if not isinstance(error, OSError) or error.errno not in _SHORT or "accept" not in context["message"]:
            loop.default_exception_handler(context)
            return
        if time.monotonic() - self._told_s < AGAIN_S:
            return
        self._told_s = time.monotonic()
        log.error(
            "new connections wait: %s; who is connected goes on (LimitNOFILE in depot.service)",
            error.strerror,
        )
