"""The system clock as a port: monotonic seconds, UTC, and whether UTC can be believed.

Owns reading the clocks of the machine and what the kernel says of them; `core.timekeeper` judges, `clock_watch` tells.
Sources: adjtimex(2), proc(5), sysfs; candm.h of chrony 4 (protocol version 6, TRACKING), checked against Debian's chronyd 4.3.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from controller.core.model import Moment
from controller.core.timekeeper import EARLIEST, JUMP_S, Timekeeper

STAMP = "clock"  # in the state folder: its time is when the clock was last right, its text the monotonic clock then
TIME_ERROR = 5  # of adjtimex: nothing keeps the clock right
APART_S = 0.1  # two clocks read at one moment
CHRONY_PORT = 323
ASK_S = 16.0
BELIEVED_S = 4 * ASK_S  # so long an answer counts
REQUEST, REPLY, VERSION, TRACKING, TRACKED = 1, 2, 6, 33, 5
QUESTION = struct.Struct("!BBxxHHI92x")  # version, kind, command, attempt, number; as long as its answer
ANSWER = struct.Struct("!BBxxHHH6xI8x24xHH48x")  # ... command, reply, status, number, stratum, leap
UNSYNCHRONISED = 3  # as leap


class SystemClock:
    """`speed` > 1 makes simulated sites run faster than the wall; 1 everywhere else."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed {speed} must be above 0")
        self.speed = speed
        self._mono_start = time.monotonic()
        self._utc_start = datetime.now(UTC)

    def now(self) -> Moment:
        mono_s = time.monotonic()
        utc = datetime.now(UTC)
        if self.speed != 1.0:
            elapsed_s = (mono_s - self._mono_start) * self.speed
            mono_s = self._mono_start + elapsed_s
            utc = self._utc_start + timedelta(seconds=elapsed_s)
        return Moment(mono_s, utc, utc >= EARLIEST)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class KeptClock(SystemClock):
    """That of a controller: its UTC is the one that `keeper` believes."""

    def __init__(self, keeper: Timekeeper) -> None:
        super().__init__()
        self.keeper = keeper

    def now(self) -> Moment:
        mono_s, utc = read()
        utc = self.keeper.look(mono_s, utc, kept())
        return Moment(mono_s, utc, not self.keeper.doubt)


def read() -> tuple[float, datetime]:
    """Both clocks at one moment: a process that is held up between the two readings reads again."""
    while True:
        mono_s, utc = time.monotonic(), datetime.now(UTC)
        if time.monotonic() - mono_s < APART_S:
            return mono_s, utc


class Chrony:
    """Asks chronyd whether it keeps the clock right: a datagram to its command port on loopback, which everybody may ask. Never
    waits: an answer is taken at the next look."""

    def __init__(self, port: int = CHRONY_PORT) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._asked_s = self._told_s = float("-inf")
        self._number = 0
        self._kept: bool | None = None

    def kept(self, mono_s: float) -> bool | None:
        """What it said lately; None: nothing."""
        try:
            self._hear(mono_s)
            if mono_s - self._asked_s >= ASK_S:
                self._asked_s = mono_s
                self._ask()
        except OSError:  # nobody there
            self._kept = None
        if mono_s - self._told_s > BELIEVED_S:
            self._kept = None
        return self._kept

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.connect(("127.0.0.1", self._port))
        self._number += 1
        self._socket.send(QUESTION.pack(VERSION, REQUEST, TRACKING, 0, self._number))

    def _hear(self, mono_s: float) -> None:
        if self._socket is None:
            return
        with suppress(BlockingIOError):
            while True:
                said = self._socket.recv(512)
                if len(said) != ANSWER.size:
                    continue
                version, kind, command, reply, status, number, _, leap = ANSWER.unpack(said)
                expected = (VERSION, REPLY, TRACKING, TRACKED, 0, self._number)
                if (version, kind, command, reply, status, number) == expected:
                    self._told_s, self._kept = mono_s, leap != UNSYNCHRONISED


def kept(root: Path = Path("/")) -> bool | None:
    """Whether the kernel says that something keeps its clock right. Under `ProtectClock=` of our unit it may not be asked: then
    what chronyd answers, or systemd-timesyncd leaves once it was answered. None: nobody says."""
    state = kernel_state()
    if state >= 0:
        return state != TIME_ERROR
    told = _chrony().kept(time.monotonic()) if (root / "run/chrony").is_dir() else None
    if told is not None:
        return told
    place = root / "run/systemd/timesync"
    return (place / "synchronized").exists() if place.is_dir() else None


def kernel_state() -> int:
    """Of adjtimex; below 0 where it is not told."""
    ask = _adjtimex()
    return -1 if ask is None else int(ask(ctypes.create_string_buffer(512)))


@cache
def _chrony() -> Chrony:
    return Chrony()


@cache
def _adjtimex() -> Callable[[ctypes.Array[ctypes.c_char]], int] | None:
    try:
        found: Callable[[ctypes.Array[ctypes.c_char]], int] = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    return found


def survives_power_cuts(root: Path = Path("/")) -> bool:
    """A clock with a battery, or that of the host of a virtual machine."""
    if (root / "dev/rtc0").exists() or (root / "sys/class/rtc/rtc0").exists():
        return True
    try:
        told = (root / "proc/cpuinfo").read_text()
    except OSError:
        return False
    return "hypervisor" in told or (root / "proc/device-tree/hypervisor").exists()


def kept_clock(folder: Path) -> KeptClock:
    """`folder`: the state of the controller, where `stamp` leaves when the clock was last right."""
    try:
        path = folder / STAMP
        right_s = path.stat().st_mtime
        mono_s, utc = read()
        # both clocks went on alike since then: the machine has not been started anew, and nobody set the clock
        went_on = abs((utc.timestamp() - right_s) - (mono_s - float(path.read_text()))) <= JUMP_S
        last_right = datetime.fromtimestamp(right_s, UTC)
    except (OSError, ValueError, OverflowError):
        return KeptClock(Timekeeper(None, survives_power_cuts()))
    return KeptClock(Timekeeper(last_right, went_on or survives_power_cuts()))


def stamp(folder: Path, now: Moment) -> None:
    """Leaves that the clock is right now. Raises OSError."""
    path = folder / STAMP
    path.touch(mode=0o600)
    path.write_text(f"{now.mono_s:.3f}\n")
    os.utime(path, (now.utc.timestamp(), now.utc.timestamp()))
