"""Errors of the outside world, named by what the caller does next. Translated at the edge, never leaked raw."""

from __future__ import annotations


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
