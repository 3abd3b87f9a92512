"""Sockets that systemd opened before it started us (socket activation): the control socket then has its owner and mode
from `depot.socket`, and the service needs no right to write where it lies.

Must not close, unlink or change them: they are systemd's. Source: sd_listen_fds(3), LISTEN_PID and LISTEN_FDS.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from drivers.errors import Misconfigured

FIRST_FD = 3  # SD_LISTEN_FDS_START
MOST_FDS = 16  # far more than depot.socket names


def inherited(path: Path) -> socket.socket | None:
    """The listening Unix socket at `path` that was handed to this process, as a descriptor of our own; None where
    nothing was handed over. Raises Misconfigured where something else was."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None  # meant for our parent, or nobody activated us
    told = os.environ.get("LISTEN_FDS", "")
    if not told.isascii() or not told.isdigit() or not 0 < int(told) <= MOST_FDS:
        raise Misconfigured(f"LISTEN_FDS={told!r} makes no sense; see depot.socket")
    found = []
    for number in range(FIRST_FD, FIRST_FD + int(told)):
        given = _listening(number)
        if given is None:
            continue
        if given.getsockname() == str(path):
            return given
        found.append(str(given.getsockname()))
        given.close()
    raise Misconfigured(
        f"control socket {path}: depot.socket listens on {', '.join(found) or 'no Unix socket'};"
        " make ListenStream= and [control] socket the same"
    )


def _listening(number: int) -> socket.socket | None:
    """A copy of this descriptor if it is a listening Unix stream socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        given = socket.socket(fileno=os.dup(number))
    except OSError:
        return None
    wanted = (given.family, given.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
    if wanted and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return given
    given.close()
    return None
