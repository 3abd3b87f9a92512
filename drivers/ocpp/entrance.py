"""The ports stations connect to: ws, and wss beside it when there is a certificate. One door, one porch for both.

Owns the listening sockets from `open` to `closed`. Must not decide who comes in, nor touch a connection that is through.
Source: OCPP-J 1.6 section 3.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

from drivers.errors import Misconfigured, deaf
from drivers.ocpp.door import Door
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.tls import Certificates, Listener, Porch


class Entrance:
    """`port` and `tls_port` are the real ones once `open` has returned; `options` are for `websockets.serve`."""

    def __init__(
        self,
        settings: OcppSettings,
        door: Door,
        certificates: Certificates | None,
        welcome: Callable[[ServerConnection], Awaitable[None]],
        options: dict[str, Any],
    ) -> None:
        self.port = settings.listen_port
        self.tls_port: int | None = None
        self._settings = settings
        self._door = door
        self._certificates = certificates
        self._welcome = welcome
        self._options = options
        self._porch = Porch()
        self._open: list[tuple[Server, Listener]] = []

    async def open(self) -> None:
        """Raises Misconfigured when a port cannot be had; then none is open."""
        try:
            self.port = await self._listen(None, self._settings.listen_host, self._settings.listen_port)
            if self._settings.tls is not None:
                tls = self._settings.tls
                self.tls_port = await self._listen(self._certificates, tls.host, tls.port)
        except Misconfigured:
            self.stop_listening()
            await self.closed()
            raise

    def stop_listening(self) -> None:
        """Nobody else comes in. Connections that are through are left to their owners: the library would wait for ever
        for a stalled peer."""
        for server, _ in self._open:
            server.close(close_connections=False)
        self._porch.close()

    async def closed(self) -> None:
        for server, listener in self._open:
            await listener.close()
            await server.wait_closed()
        self._open.clear()

    async def _listen(self, certificates: Certificates | None, host: str, port: int) -> int:
        listener = Listener(self._porch, certificates, self._door.may_enter, self._tell)
        try:
            server = await serve(
                self._welcome,
                host,
                port,
                process_request=self._door,
                create_connection=listener.connection,  # type: ignore[arg-type]
                **self._options,
            )
        except OSError as error:
            key = "[ocpp] listen" if certificates is None else "[ocpp] tls_listen"
            raise Misconfigured(f"OCPP cannot listen on {host}:{port}: {deaf(error, key)}") from None
        self._open.append((server, listener))
        found: int = server.sockets[0].getsockname()[1]
        return found

    def _tell(self, address: str, reason: str) -> None:
        """Of strangers who got no further than the handshake."""
        self._door.note_failure(address)
        self._door.turn_away(address, address, reason)
