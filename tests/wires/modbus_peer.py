"""A second Modbus device, written from the specification alone: plain registers behind TCP, RTU over TCP or a serial line.

Knows no meter: it answers whatever registers it was given, refuses what it has not, and can misbehave on the wire.
"""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


def crc16(data: bytes) -> bytes:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


@dataclass
class Peer:
    """`units`: raw words by unit id and (function code, address)."""

    units: Mapping[int, Mapping[tuple[int, int], int]]
    rtu: bool = False
    most: int = 125  # longer reads are refused with `refusal`
    refusal: int = 2
    bad_crc: int = 0  # so many answers with a wrong checksum
    cut: int = 0  # so many answers that end in the middle
    noise: bytes = b""  # comes before each answer
    slow_s: float = 0.0
    wrong_transaction: int = 0
    one_client: bool = False
    port: int = 0
    asked: list[tuple[int, int, int, int]] = field(
        default_factory=list
    )  # unit, function code, address, count
    clients: Counter[str] = field(default_factory=Counter)  # "now", "most", "ever", "turned away"
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.clients["ever"] += 1
        if self.one_client and self.clients["now"]:
            self.clients["turned away"] += 1
            writer.close()
            self._tasks.discard(task)
            return
        self.clients["now"] += 1
        self.clients["most"] = max(self.clients["most"], self.clients["now"])
        try:
            while True:
                await self._serve_rtu(reader, writer) if self.rtu else await self._serve_tcp(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self.clients["now"] -= 1
            self._tasks.discard(task)
            writer.close()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(7)
        request = await reader.readexactly(int.from_bytes(head[4:6]) - 1)
        answer = await self._answer(head[6], request)
        if answer is None:
            return
        transaction = head[:2]
        if self.wrong_transaction:
            self.wrong_transaction -= 1
            transaction = (int.from_bytes(transaction) ^ 0x5555).to_bytes(2)
        frame = transaction + b"\0\0" + (len(answer) + 1).to_bytes(2) + head[6:7] + answer
        writer.write(self._spoilt(frame))
        await writer.drain()

    async def _serve_rtu(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frame = await reader.readexactly(8)
        writer.write(await self.rtu_answer(frame))
        await writer.drain()

    async def rtu_answer(self, frame: bytes) -> bytes:
        if crc16(frame[:6]) != frame[6:]:
            return b""
        answer = await self._answer(frame[0], frame[1:6])
        if answer is None:
            return b""
        whole = frame[:1] + answer
        check = crc16(whole)
        if self.bad_crc:
            self.bad_crc -= 1
            check = bytes(byte ^ 0xFF for byte in check)
        return self._spoilt(whole + check)

    def _spoilt(self, frame: bytes) -> bytes:
        if self.cut:
            self.cut -= 1
            return self.noise + frame[: len(frame) // 2]
        return self.noise + frame

    async def _answer(self, unit: int, request: bytes) -> bytes | None:
        function, address, count = request[0], int.from_bytes(request[1:3]), int.from_bytes(request[3:5])
        self.asked.append((unit, function, address, count))
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        registers = self.units.get(unit)
        if registers is None:
            return (
                None if self.rtu else bytes((function | 0x80, 11))
            )  # a gateway says so, a line stays silent
        if function not in (3, 4):
            return bytes((function | 0x80, 1))
        if count > self.most:
            return bytes((function | 0x80, self.refusal))
        wanted = [registers.get((function, at)) for at in range(address, address + count)]
        if None in wanted:
            return bytes((function | 0x80, 2))
        data = b"".join(word.to_bytes(2) for word in wanted if word is not None)
        return bytes((function, len(data))) + data


class SerialPeer:
    """The same device at the other end of a serial line: a pair of pseudo-terminals."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._here, self._there = pty.openpty()
        tty.setraw(self._here)
        tty.setraw(self._there)
        self.device = os.ttyname(self._there)
        self._task: asyncio.Task[None] | None = None
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def start(self) -> None:
        os.set_blocking(self._here, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._here, lambda: self._heard.put_nowait(os.read(self._here, 256)))
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        assert self._task is not None
        asyncio.get_running_loop().remove_reader(self._here)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        os.close(self._here)
        os.close(self._there)

    async def _serve(self) -> None:
        frame = b""
        while True:
            frame += await self._heard.get()
            while len(frame) >= 8:
                os.write(self._here, await self._peer.rtu_answer(frame[:8]))
                frame = frame[8:]
