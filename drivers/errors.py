"""Errors of the outside world, named by what the caller does next. Translated at the edge, never leaked raw."""

from __future__ import annotations

import errno


class DriverError(Exception):
    """Base: `str(error)` is one line for people that says what and where."""

    kind = "error"


class Unreachable(DriverError):
    """Nobody answered (refused, timed out, reset). Try again later; what we know is getting old."""

    kind = "unreachable"


class Refused(DriverError):
    """The peer understood and said no. Trying the same again is pointless until something changes."""

    kind = "refused"


class Nonsense(DriverError):
    """The peer answered something that cannot be true. Drop it, count it, keep asking."""

    kind = "nonsense"


class Misconfigured(DriverError):
    """Our own settings do not fit the peer. A person must act."""

    kind = "misconfigured"


class WrongUse(Misconfigured):
    """What was typed is wrong by itself, whatever the peer and the settings are."""


def deaf(error: OSError, key: str) -> str:
    """Why an address cannot be listened on, and what to do. `key`: where the config names it."""
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return (
            f"{reason}; is another depot running? Stop what has it (`ss -ltnp` tells), or set another {key}"
        )
    return f"{reason}; set another {key}"
