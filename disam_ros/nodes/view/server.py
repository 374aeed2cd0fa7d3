# SPDX-License-Identifier: Apache-2.0
"""Web server of the page: its files, and a WebSocket on which news is sent."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import websockets

from disam_ros.errors import ConfigError
from disam_ros.nodes.view.connections import listen
from disam_ros.nodes.view.scene import Cursor, Scene

PERIOD = 0.1  # time between two messages to a page [s]
HEARTBEAT = 1.0  # time after which a message is sent without news [s]
CLOSING = 1.0  # time that a page has to say good-bye [s]
MOST = 32  # pages that may be open
READ = "GET, HEAD"  # methods
LIVE = "/live"  # path of the WebSocket
MAX_MESSAGE = 1024  # bytes that a page may send, which it never does
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Answer = tuple[HTTPStatus, list[tuple[str, str]], bytes]  # status, headers, body


class Server:
    """Serves a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        folder = resources.files(__package__) / "page"
        self._files = {f"/{file.name}": file.read_bytes() for file in folder.iterdir()}
        self._files["/"] = self._files["/index.html"]
        logging.getLogger("websockets").setLevel(logging.CRITICAL)  # of scans and closed tabs

    async def run(self, host: str, port: int, ready: asyncio.Future[int] | None = None) -> None:
        """Serve until cancelled. ready: gets the port. Raises ConfigError where it is taken."""
        try:
            server = await listen(
                self._live,
                host,
                port,
                process_request=self._answer,
                compression=None,
                max_size=MAX_MESSAGE,
                close_timeout=CLOSING,
            )
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} cannot be served: {error.strerror or error}; choose another --port "
                f"or --host"
            ) from error
        if ready is not None:
            ready.set_result(next(iter(server.sockets)).getsockname()[1])
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            with suppress(asyncio.TimeoutError):  # of connections that do not
                await asyncio.wait_for(server.wait_closed(), 2 * CLOSING)

    async def _live(self, page: Any, *_: Any) -> None:
        """Send news to a page, not faster than it takes them."""
        if self._scene.viewers >= MOST:
            await page.close(1013, f"{MOST} pages are open already")
            return
        self._scene.viewers += 1
        cursor, last = Cursor(), 0.0
        try:
            while True:
                now = time.monotonic()
                text, pictures = self._scene.news(cursor, now - last >= HEARTBEAT)
                if text:
                    last = now
                    await page.send(text)
                if pictures:
                    await page.send(packed(pictures))
                await asyncio.sleep(PERIOD)
        except websockets.exceptions.ConnectionClosed:
            pass
        finally:
            self._scene.viewers -= 1

    async def _answer(self, first: Any, second: Any) -> Any:
        """Answer a plain request; None: go on to a WebSocket.

        The arguments are path and headers in websockets before 13, since then the connection and
        the request; and the answer is a tuple or a Response.
        """
        old = isinstance(first, str)
        path, headers = (first, second) if old else (second.path, second.headers)
        method = "GET" if old else getattr(second, "method", "GET")  # early versions refuse others
        answer = self._page(method, path.partition("?")[0], headers)
        if answer is not None and method == "HEAD":
            answer = (*answer[:2], b"")
        return answer if old or answer is None else _response(*answer)

    def _page(self, method: str, path: str, headers: Any) -> Answer | None:
        """A file, or why there is none; None: a WebSocket may be opened."""
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if method not in ("GET", "HEAD"):
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "This page is only read: GET.", Allow=READ)
        if len(hosts) != 1 or len(origins) > 1 or host_name(hosts[0]) is None:
            return _text(HTTPStatus.BAD_REQUEST, "One Host is expected, NAME or NAME:PORT.")
        host, origin = hosts[0], next(iter(origins), None)
        if not is_own(host):
            text = f"This page is not served as {host!r}, lest other sites read it: open it by its "
            return _text(HTTPStatus.FORBIDDEN, f"{text}IP address.")
        if path == LIVE:
            if origin in (None, f"http://{host}", f"https://{host}"):
                return None
            return _text(HTTPStatus.FORBIDDEN, f"{origin} is another site.")
        if path not in self._files:
            return _text(HTTPStatus.NOT_FOUND, "There is only one page here: /")
        kind = KINDS[Path(path).suffix or ".html"]
        return HTTPStatus.OK, _headers(kind, self._files[path]), self._files[path]


def is_own(host: str) -> bool:
    """Whether a Host header is an IP address or a name of this machine.

    The page of another site that lets its own name lead here (DNS rebinding) is refused thereby.
    """
    name = host_name(host)
    machine = socket.gethostname().lower()
    if name in ("localhost", machine, f"{machine.partition('.')[0]}.local"):
        return True
    with suppress(ValueError):
        ipaddress.ip_address(name or "")
        return True
    return False


def host_name(host: str) -> str | None:
    """Return the name in a Host header in small letters; None where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        well_formed = parts.netloc == host and (parts.port is None or parts.port > 0)
    except ValueError:  # a port beyond 65535, half of a bracket
        return None
    return parts.hostname if well_formed else None


def packed(parts: list[bytes]) -> bytes:
    """Parts in one message: the length of each in four bytes, the highest first, then the part."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _text(status: HTTPStatus, text: str, **headers: str) -> Answer:
    body = f"{text}\n".encode(errors="backslashreplace")
    return status, [*_headers("text/plain; charset=utf-8", body), *headers.items()], body


def _headers(kind: str, body: bytes) -> list[tuple[str, str]]:
    length = str(len(body))
    entity = {"Content-Type": kind, "Content-Length": length, "Connection": "close"}
    return [*entity.items(), *HEADERS.items()]


def _response(status: HTTPStatus, headers: list[tuple[str, str]], body: bytes) -> Any:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    return Response(status.value, status.phrase, Headers(headers), body)
