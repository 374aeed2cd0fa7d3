# SPDX-License-Identifier: Apache-2.0
"""TCP connections of the page's server, whose number is bounded: silent ones make room."""

from __future__ import annotations

import asyncio
import logging
import time
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)

MOST = 64  # connections that may be open
SILENT = 5.0  # time after which one that sent nothing is closed [s]
PERIOD = 60.0  # time between two lines in the log [s]


class Connections:
    """Open connections of a server. Beyond MOST the oldest silent one is closed, or the newest."""

    def __init__(self) -> None:
        self._silent: dict[asyncio.BaseProtocol, bool] = {}  # oldest first: has none sent anything?
        self._transports: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        self._logged = -PERIOD

    def add(self, connection: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        """Takes a new connection, and closes one if there are too many."""
        self._silent[connection], self._transports[connection] = True, transport
        if len(self._silent) > MOST:
            closed = next((key for key, silent in self._silent.items() if silent), connection)
            self._transports[closed].abort()
            self.remove(closed)
            self.warn(f"more than {MOST} connections: the oldest that asked for nothing was closed")

    def heard(self, connection: asyncio.BaseProtocol) -> None:
        """Takes note that a connection sent something."""
        if connection in self._silent:
            self._silent[connection] = False

    def expire(self, connection: asyncio.BaseProtocol) -> None:
        """Closes a connection that is still silent."""
        if self._silent.get(connection):
            self._transports[connection].abort()

    def remove(self, connection: asyncio.BaseProtocol) -> None:
        """Forgets a connection that closed."""
        self._silent.pop(connection, None)
        self._transports.pop(connection, None)

    def on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handles exceptions of the event loop, such as a lack of descriptors."""
        self.warn(f"{context['message']}: {context.get('exception')}")

    def warn(self, text: str) -> None:
        """Logs a line, but at most one a minute: a scan of ports would fill a disk."""
        now = time.monotonic()
        if now - self._logged >= PERIOD:
            self._logged = now
            logger.warning("%s (at most one such line a minute)", text)


async def listen(handler: Any, host: str, port: int, **options: Any) -> Any:
    """Opens the port of a server with a bound on its connections. Returns the server.

    options: of `serve` in websockets, whose class of connections had another name before 13.
    """
    try:
        library, name = import_module("websockets.asyncio.server"), "ServerConnection"
        factory = "create_connection"
    except ModuleNotFoundError:
        library, name = import_module("websockets.legacy.server"), "WebSocketServerProtocol"
        factory = "create_protocol"
    connections = Connections()
    asyncio.get_running_loop().set_exception_handler(connections.on_fault)
    options[factory] = _counted(getattr(library, name), connections)
    return await library.serve(handler, host, port, **options)


def _counted(protocol: Any, connections: Connections) -> Any:
    """Returns a class of connections that `connections` counts."""

    class Counted(protocol):  # type: ignore[misc]  # its class depends on the library's version
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            connections.add(self, transport)
            asyncio.get_running_loop().call_later(SILENT, connections.expire, self)

        def data_received(self, data: bytes) -> None:
            connections.heard(self)
            super().data_received(data)

        def connection_lost(self, error: Exception | None) -> None:
            connections.remove(self)
            super().connection_lost(error)

    return Counted
