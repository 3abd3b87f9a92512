"""A file that is there to be deleted: on a full disk its room is what lets the books go on until somebody comes.

Source: field notes 1.6 (on a full disk even DELETE fails, so room must be kept beforehand) and 5.1 row 39.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

BALLAST = "ballast"
SPARE = 4  # laid only where this many times its size stays free
LOOK_S = 600.0


class Ballast:
    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / BALLAST
        self._size = size
        self._next_s = 0.0

    def keep(self, now_s: float) -> None:
        """Lays it again once there is room."""
        if self._size == 0 or now_s < self._next_s:
            return
        self._next_s = now_s + LOOK_S
        try:
            roomy = shutil.disk_usage(self._path.parent).free > (1 + SPARE) * self._size
            if roomy and not self._path.exists():
                self._lay()
        except OSError as error:
            log.warning("no ballast for a full disk: %s", error.strerror)

    def _lay(self) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, self._size)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(file)

    def throw(self, now_s: float) -> bool:
        """The disk is full: True if there was something to give."""
        try:
            self._path.unlink()
        except OSError:
            return False
        self._next_s = now_s + LOOK_S
        log.error("disk full: the ballast of %d MB has been deleted; free some space", self._size // 10**6)
        return True
