"""The address of a meter: Modbus TCP, RTU frames over TCP, or a serial line, and the unit id behind it.

Owns the three spellings and nothing of the wire. Source: INTERFACE section 3; Modbus over Serial Line V1.02 section 2.5
(8 data bits; even parity is the standard's default and no parity what meters come with).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from controller.config.values import Wrong, nearest, quoted, text

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_TCP = re.compile(
    r"(?P<transport>tcp|rtu\+tcp)://(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/(?P<unit>[0-9]{1,3})"
)
_SERIAL = re.compile(r"rtu://(?P<device>/[^?\s]*[^?/\s])(?:\?(?P<settings>[^/\s]*))?/(?P<unit>[0-9]{1,3})")
_SETTINGS = ("baud", "parity", "stop")


class MeterAddress(NamedTuple):
    """`host` is the path of the device on a serial line, and `port` 0."""

    host: str
    port: int
    unit: int
    transport: str = "tcp"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    def __str__(self) -> str:
        if self.transport == "rtu":
            stop = "" if self.stop_bits == 1 else f"&stop={self.stop_bits}"
            return f"rtu://{self.host}?baud={self.baud}&parity={self.parity}{stop}/{self.unit}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}/{self.unit}"


def meter_address(value: object) -> MeterAddress:
    """ "tcp://10.0.4.20:502/1", "rtu+tcp://10.0.4.20:4001/1" or "rtu:///dev/ttyUSB0?baud=9600&parity=N/1"; the port may be
    left out (502), and so may the settings of a serial line (9600 baud, no parity, one stop bit)."""
    written = text(value)
    if written.startswith("rtu://"):
        return _serial(written)
    match = _TCP.fullmatch(written)
    if match is None:
        raise Wrong(
            f"{quoted(written)} is not a meter address",
            'write "tcp://HOST:PORT/UNIT", like "tcp://10.0.4.20:502/1", '
            '"rtu+tcp://HOST:PORT/UNIT" or "rtu:///dev/ttyUSB0?baud=9600&parity=N/1"',
        )
    port = int(match["port"] or 502)
    if not 0 < port <= 65535:
        raise Wrong(
            f"port {port} does not exist", "Modbus TCP listens on port 502 unless the device says otherwise"
        )
    if int(match["unit"]) > 255:
        raise Wrong(f"unit id {match['unit']} does not exist", "Modbus unit ids go from 0 to 255")
    return MeterAddress(match["host"].strip("[]"), port, int(match["unit"]), match["transport"])


def _serial(written: str) -> MeterAddress:
    match = _SERIAL.fullmatch(written)
    if match is None:
        raise Wrong(
            f"{quoted(written)} is not the address of a meter on a serial line",
            'write "rtu://DEVICE?baud=9600&parity=N/UNIT", like "rtu:///dev/ttyUSB0?baud=9600&parity=N/1"',
        )
    unit = int(match["unit"])
    if not 1 <= unit <= 247:
        raise Wrong(f"unit id {unit} does not exist on a serial line", "there they go from 1 to 247")
    settings = dict(parse_qsl(match["settings"] or "", keep_blank_values=True))
    for name in settings:
        if name not in _SETTINGS:
            raise Wrong(
                f"{quoted(name)} is not a setting of a serial line",
                nearest(name, _SETTINGS, "there are baud, parity and stop"),
            )
    baud, parity, stop = settings.get("baud", "9600"), settings.get("parity", "N"), settings.get("stop", "1")
    if baud not in map(str, BAUDS):
        raise Wrong(f"{quoted(baud)} is not a speed", f"there are {', '.join(map(str, BAUDS))}")
    if parity not in ("N", "E", "O"):
        raise Wrong(f"{quoted(parity)} is not a parity", "write N (none), E (even) or O (odd)")
    if stop not in ("1", "2"):
        raise Wrong(f"{quoted(stop)} is not a number of stop bits", "write 1 or 2")
    return MeterAddress(match["device"], 0, unit, "rtu", int(baud), parity, int(stop))
