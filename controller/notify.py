"""Messages to systemd (sd_notify): READY, STATUS, WATCHDOG, STOPPING. Silent where there is no NOTIFY_SOCKET.

Source: sd_notify(3): one datagram of newline-separated assignments to an AF_UNIX socket; a leading "@" means the
abstract namespace.
"""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Sends to the socket that systemd named in the environment at the time of construction."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def send(self, *assignments: str) -> None:
        """Each like "READY=1". A socket that does not answer is logged; it must not stop the depot."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.warning("systemd does not take notifications: %s", error.strerror)
