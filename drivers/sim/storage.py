"""A simulated battery with its inverter on Modbus TCP: SunSpec models 1, 713, 714 and either 704 or 124, with physics.

Owns its own register layout and its energy. It knows nothing of depots. Alone it does nothing: what it is told holds until
its timer has run out, then it rests. Written from the definitions of the models; shares no code with what reads it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from drivers.sim.modbus_tcp import ModbusTcp

_READ, _WRITE = 3, 16
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _NO_SUCH_UNIT = 1, 2, 11
_BASE = 40000
_LENGTHS = {1: 66, 704: 57, 124: 24, 713: 7, 714: 17}
_UNKNOWN = 0x8000


class SimStorage(ModbusTcp):
    """`now` tells the seconds of its clock; `follow_s`: how long a new power takes to flow. `models`: what it offers to
    write to. `deaf`: it says yes to set-points and ignores them. `deaf_to`: it never answers a write to this offset; `locked`:
    it refuses it."""

    def __init__(
        self,
        now: Callable[[], float],
        capacity_wh: float = 20_000.0,
        soc: float = 0.5,
        most_w: int = 10_000,
        models: tuple[int, ...] = (704,),
        unit: int = 1,
        port: int = 0,
        follow_s: float = 1.0,
    ) -> None:
        super().__init__(port=port)
        self.unit, self.most_w, self.follow_s = unit, most_w, follow_s
        self.capacity_wh, self.stored_wh = capacity_wh, capacity_wh * soc
        self.power_w = 0.0  # flows now, charging positive
        self.deaf = False
        self.deaf_to: int | None = None
        self.locked: int | None = None
        self.writes: list[tuple[int, int]] = []  # model and offset of each accepted write
        self._now, self._last_s = now, now()
        self._told_w, self._told_s, self._until_s = 0.0, now(), float("-inf")
        self._words: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        at = _BASE + 2
        for model in (1, *models, 713, 714):
            self._starts[model] = at
            self._words |= {at + n: 0 for n in range(_LENGTHS[model] + 2)}
            self._words |= {at: model, at + 1: _LENGTHS[model]}
            at += _LENGTHS[model] + 2
        self._words |= {_BASE: 0x5375, _BASE + 1: 0x6E53, at: 0xFFFF, at + 1: 0}
        self._put(1, 2, *struct.unpack(">16H", b"Simulated".ljust(32, b"\0")))
        self._put(704, 55, 0)
        for offset, value in (
            (2, most_w // 10),
            (18, 1),
            (25, 0xFFFE),
            *((n, _UNKNOWN) for n in (19, 20, 21)),
        ):
            self._put(124, offset, value)
        self._put(713, 7, 1, 0)
        self._put(714, 15, _UNKNOWN, _UNKNOWN, 0, 0)

    @property
    def soc(self) -> float:
        return self.stored_wh / self.capacity_wh

    def tick(self) -> None:
        """Energy moves; a set-point whose timer ran out is over."""
        now_s = self._now()
        target_w = self._told_w if now_s < self._until_s else 0.0
        full, empty = self.stored_wh >= self.capacity_wh, self.stored_wh <= 0
        if (target_w > 0 and full) or (target_w < 0 and empty):
            target_w = 0.0
        self.stored_wh += self.power_w * (now_s - self._last_s) / 3600
        self.stored_wh = min(self.capacity_wh, max(0.0, self.stored_wh))
        self._last_s = now_s
        if target_w == 0.0 or now_s - self._told_s >= self.follow_s:
            self.power_w = target_w
        self._put(713, 2, *(round(watt_hours / 10) for watt_hours in (self.capacity_wh, self.stored_wh)))
        self._put(713, 4, round(self.soc * 100))
        self._put(714, 6, round(-self.power_w) & 0xFFFF)

    async def reply(self, writer: asyncio.StreamWriter, transaction: int, unit: int, request: bytes) -> None:
        if request[0] == _WRITE and self.deaf_to is not None:
            at = int.from_bytes(request[1:3])
            if any(at == start + self.deaf_to for start in self._starts.values()):
                return
        await super().reply(writer, transaction, unit, request)

    def respond(self, unit: int, request: bytes) -> bytes:
        function = request[0]
        if unit != self.unit:
            return bytes((function | 0x80, _NO_SUCH_UNIT))
        self.tick()
        at, count = struct.unpack(">HH", request[1:5]) if len(request) >= 5 else (0, 0)
        if not count or not all(address in self._words for address in range(at, at + count)):
            return bytes((function | 0x80, _ILLEGAL_ADDRESS))
        if function == _READ:
            words = [self._words[address] for address in range(at, at + count)]
            return struct.pack(f">BB{count}H", function, 2 * count, *words)
        if function == _WRITE and len(request) == 6 + 2 * count:
            if self.locked is not None and at in (start + self.locked for start in self._starts.values()):
                return bytes((function | 0x80, _ILLEGAL_ADDRESS))
            return self._write(at, count, struct.unpack(f">{count}H", request[6:])) + request[1:5]
        return bytes((function | 0x80, _ILLEGAL_FUNCTION))

    def _write(self, at: int, count: int, words: tuple[int, ...]) -> bytes:
        model = max((start, name) for name, start in self._starts.items() if start <= at)[1]
        offset = at - self._starts[model]
        self._words |= {at + n: word for n, word in enumerate(words)}
        self.writes.append((model, offset))
        # the last write of each kind puts the rest in force
        if not self.deaf and (model, offset) in ((704, 22), (124, 5)):
            self._obey(model)
        return bytes((_WRITE,))

    def _obey(self, model: int) -> None:
        start = self._starts[model]
        words = [self._words[start + n] for n in range(_LENGTHS[model] + 2)]
        if model == 704:
            on = words[22] == 1 and words[23] == 1
            told_w = -float(struct.unpack(">i", struct.pack(">HH", *words[24:26]))[0])
            timer_s = words[31] << 16 | words[32]
        else:
            on = words[5] == 3
            out_pct, in_pct = (
                value / 100 for value in struct.unpack(">hh", struct.pack(">HH", *words[12:14]))
            )
            # both bounds: at least -out, at most in
            told_w = self.most_w * max(-out_pct, min(in_pct, 100.0)) / 100
            timer_s = words[15]
        told_w = max(-self.most_w, min(told_w, self.most_w)) if on else 0.0
        now_s = self._now()
        if told_w != self._told_w or now_s >= self._until_s:
            self._told_s = now_s
        self._told_w, self._until_s = told_w, now_s + timer_s if timer_s else float("inf")

    def _put(self, model: int, offset: int, *values: int) -> None:
        if model in self._starts:
            self._words |= {self._starts[model] + offset + n: value for n, value in enumerate(values)}
