"""What `depot doctor` looks at in the box itself: clock, disk, heat, memory, network, certificates and backups.

Owns the thresholds and what to do about each. Only reads, needs no rights of its own, and asks no controller. Sources: proc(5),
sysfs, adjtimex(2), statvfs(3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from controller.clock import TIME_ERROR, kernel_state, survives_power_cuts
from controller.config import Config
from controller.core.timekeeper import EARLIEST
from controller.recovery import backups

OK, WARN, FAIL = "ok", "warn", "fail"
MB = 1_000_000
DISK_MB = (500, 100)  # free: warn below, fail below
INODES_PCT = (10, 2)
HOT_C = (75, 85)
MEMORY_MB = (150, 50)
CERTIFICATE = timedelta(days=30)
BACKUP_S = 2 * 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`todo` is empty where nothing is to be done."""

    check: str
    verdict: str
    text: str
    todo: str = ""


def box(config: Config, root: Path = Path("/")) -> Iterator[Finding]:
    """`root`: where proc and sys are."""
    yield clock(kernel_state(), datetime.now(UTC), survives_power_cuts(root))
    yield disk(config.storage_path)
    yield temperature(root / "sys/class/thermal")
    yield memory(root / "proc/meminfo")
    yield network(root / "sys/class/net", root / "proc/net/route")
    yield from certificates(config, datetime.now(UTC))
    yield backup(config.storage_path, time.time())


def _graded(value: float, bounds: tuple[float, float], low_is_bad: bool = True) -> str:
    warn, fail = bounds
    if low_is_bad:
        return FAIL if value < fail else WARN if value < warn else OK
    return FAIL if value >= fail else WARN if value >= warn else OK


def clock(state: int, now: datetime, has_rtc: bool) -> Finding:
    told = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < EARLIEST:
        return Finding("clock", FAIL, f"{told} cannot be", "set it, or connect a time service: timedatectl")
    if state == TIME_ERROR:
        todo = "install a time service (systemd-timesyncd or chrony) or let it out; without one plans and bills are wrong"
        return Finding("clock", WARN, f"{told}, nothing keeps it right", todo)
    if not has_rtc:
        todo = "fit a battery-backed clock, or accept that plans rest after a power cut until the network is there"
        return Finding("clock", WARN, f"{told}, no clock that survives a power cut", todo)
    return Finding(
        "clock", OK, told if state >= 0 else f"{told}; the kernel does not say whether it is kept right"
    )


def disk(folder: Path) -> Finding:
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        found = os.statvfs(place)
    except OSError as error:
        return Finding("disk", FAIL, f"{place}: {error.strerror}", "check the disk and its mount")
    free_mb = found.f_bavail * found.f_frsize / MB
    inodes_pct = 100 * found.f_favail / found.f_files if found.f_files else 100
    text = f"{place}: {free_mb:.0f} MB free"
    if found.f_flag & os.ST_RDONLY:
        return Finding("disk", FAIL, f"{place} is read only", "look at dmesg: a worn card turns read only")
    verdicts = (_graded(free_mb, DISK_MB), _graded(inodes_pct, INODES_PCT))
    worst = max(verdicts, key=(OK, WARN, FAIL).index)
    return Finding(
        "disk", worst, text, "" if worst == OK else "make room; journalctl --vacuum-size=100M is a start"
    )


def temperature(zones: Path) -> Finding:
    found = []
    for zone in sorted(zones.glob("thermal_zone*/temp")):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue  # a sensor that is off
    if not found:
        return Finding("temperature", OK, "this box has no sensor")
    verdict = _graded(max(found), HOT_C, low_is_bad=False)
    todo = "" if verdict == OK else "shade and air: the box slows itself down, and its storage ages"
    return Finding("temperature", verdict, f"{max(found):.0f} degrees Celsius", todo)


def memory(meminfo: Path) -> Finding:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free_mb = int(lines["MemAvailable"].split()[0]) * 1024 / MB
    except (OSError, ValueError, KeyError):
        return Finding("memory", OK, "the kernel does not say")
    verdict = _graded(free_mb, MEMORY_MB)
    todo = "" if verdict == OK else "see what takes it: ps --sort=-rss -eo rss,comm"
    return Finding("memory", verdict, f"{free_mb:.0f} MB available", todo)


def network(interfaces: Path, routes: Path) -> Finding:
    up, names = [], []
    for state in sorted(interfaces.glob("*/operstate")):
        if state.parent.name == "lo":
            continue
        names.append(state.parent.name)
        try:
            if state.read_text().strip() in ("up", "unknown"):
                up.append(state.parent.name)
        except OSError:
            continue  # taken out while we look
    if not up:
        todo = "plug in the cable; ip link shows what the box sees"
        return Finding("network", FAIL, f"no interface is up (of {', '.join(names) or 'none'})", todo)
    if not _has_way_out(routes):
        return Finding("network", WARN, f"{', '.join(up)} up, no way out of the yard",
                       "fine without internet, if something in the yard keeps the time; else: ip route")  # fmt: skip
    return Finding("network", OK, f"{', '.join(up)} up")


def _has_way_out(routes: Path) -> bool:
    try:
        rows = [line.split() for line in routes.read_text().splitlines()[1:]]
    except OSError:
        return True  # not told; nobody is alarmed by that
    return any(len(row) > 7 and row[1] == row[7] == "00000000" for row in rows)


def certificates(config: Config, now: datetime) -> Iterator[Finding]:
    for path in _certificates(config):
        try:
            ends = min(
                each.not_valid_after_utc for each in x509.load_pem_x509_certificates(path.read_bytes())
            )
        except (OSError, ValueError) as error:
            yield Finding(
                "certificate", FAIL, f"{path}: {error}", "name a certificate in PEM that can be read"
            )
            continue
        verdict = FAIL if ends <= now else WARN if ends - now < CERTIFICATE else OK
        todo = "" if verdict == OK else "issue a new one (depot ca issue server ...), then restart"
        yield Finding("certificate", verdict, f"{path.name} until {ends:%Y-%m-%d}", todo)


def _certificates(config: Config) -> Iterable[Path]:
    ocpp, platform, mqtt = config.ocpp, config.open_platform, config.mqtt
    named: list[Path | None] = []
    if ocpp is not None and ocpp.tls is not None:
        named += [ocpp.tls.cert, ocpp.tls.client_ca]
    if platform is not None and platform.onsite is not None:
        named.append(platform.onsite.tls_cert)
    if mqtt is not None:
        named += [mqtt.ca, mqtt.cert]
    return dict.fromkeys(path for path in named if path is not None)


def backup(folder: Path, now_s: float) -> Finding:
    copies = backups(folder)
    if not copies:
        return Finding(
            "backup", WARN, "there is none yet", "the controller makes them while it runs: is it running?"
        )
    age_s = now_s - max(copy.stat().st_mtime for copy in copies)
    text = f"{len(copies)} kept, the newest {max(0.0, age_s) / 3600:.0f} h old"
    if age_s > BACKUP_S:
        return Finding("backup", WARN, text, "look for disk trouble: journalctl -u depot -p warning")
    return Finding("backup", OK, text)
