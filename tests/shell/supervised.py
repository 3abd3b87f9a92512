"""A `systemctl` for tests: starts what `current` points to as systemd would (Type=notify), and stops it with SIGTERM.

`systemctl start|stop|restart UNIT...`; the folder in $SUPERVISED holds its pid. Run as a program, under that name.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

STOP_S = 10.0


def start(folder: Path) -> int:
    """0 once it has said READY; 1 when it ended before. Waits for ever: the caller has the clock."""
    address = folder / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(address))
        heard.settimeout(0.05)
        depot = Path(os.environ["DEPOT_OPT"]) / "current" / "venv" / "bin" / "depot"
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [depot, "run", os.environ["DEPOT_CONFIG"]],
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
            )
        (folder / "pid").write_text(str(process.pid))
        while process.poll() is None:
            with suppress(TimeoutError):
                if heard.recv(4096).startswith(b"READY=1"):
                    return 0
    return 1


def alive(pid: int) -> bool:
    """A process that ended but has no parent to ask is gone too."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def stop(folder: Path) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S
        while alive(pid):
            if time.monotonic() > deadline_s:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    (folder / "pid").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop}[sys.argv[1]](Path(os.environ["SUPERVISED"])))
