"""A Modbus TCP server of few lines: what every simulated device on a socket has in common.

Owns listening, the frame around a request, and hanging up. What a request means the device says. Written from the
Modbus Messaging on TCP/IP Implementation Guide V1.0b; shares no code with the reader it is meant to test, nor with the
library that reader uses.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import Counter

log = logging.getLogger(__name__)


class ModbusTcp:
    """Port 0 takes a free one; `port` tells which after `start`. A device overrides `respond`, or `reply` to misbehave."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.port = port
        self.connections = 0  # accepted since the start
        self.requests: Counter[int] = Counter()  # by unit id, answered or not
        self._host = host
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def respond(self, unit: int, request: bytes) -> bytes:
        """The answer to one request, function code first."""
        raise NotImplementedError

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken. After `stop` the same port is used again."""
        self._server = await asyncio.start_server(self._serve, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and every connection: new ones are refused from here on. Safe to call twice."""
        if self._server is not None:
            self._server.close()
        self.hang_up()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None

    def hang_up(self) -> None:
        """Drop every connection, keep listening."""
        for task, writer in self._clients.items():
            writer.close()
            task.cancel()

    async def reply(self, writer: asyncio.StreamWriter, transaction: int, unit: int, request: bytes) -> None:
        write_frame(writer, transaction, unit, self.respond(unit, request))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = writer
        self.connections += 1
        try:
            while True:
                transaction, protocol, length = struct.unpack(">HHH", await reader.readexactly(6))
                if protocol != 0 or not 2 <= length <= 254:
                    return  # not Modbus: hang up
                body = await reader.readexactly(length)
                self.requests[body[0]] += 1
                await self.reply(writer, transaction, body[0], body[1:])
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError) as error:
            log.debug("client gone: %s", error)
        except asyncio.CancelledError:
            pass  # hang_up: the stream server would log the cancellation as a failure
        finally:
            del self._clients[task]
            writer.close()


def write_frame(writer: asyncio.StreamWriter, transaction: int, unit: int, answer: bytes) -> None:
    writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
