# SPDX-License-Identifier: Apache-2.0
"""Requests that no browser sends to `disam view`, and more connections than it can take."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("websockets", reason="pip install -e '.[view]'")

from hypothesis import given, settings
from hypothesis import strategies as st

from disam_ros.entry import DESCRIPTORS
from disam_ros.nodes.view import connections
from disam_ros.nodes.view.scene import Scene
from disam_ros.nodes.view.server import Server, host_name

PATIENCE = 120.0  # seconds
GET = "GET / HTTP/1.1"
EARLY = (400, 0)  # early versions of the library refuse other methods themselves, or hang up


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server in a thread."""
    ready: Future[int] = Future()
    running = []

    async def run() -> None:
        running.extend((asyncio.get_running_loop(), asyncio.current_task()))
        with suppress(asyncio.CancelledError):
            await Server(Scene("/localizer")).run("127.0.0.1", 0, ready)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield ready.result(PATIENCE)
    finally:
        loop, task = running
        loop.call_soon_threadsafe(task.cancel)
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as port:
        yield port


def ask(port: int, *lines: str) -> tuple[int, str]:
    """Status and text of the answer to a request; status 0 where none comes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        data = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                data += part
    return int(data.split()[1]) if data else 0, data.decode()


@pytest.mark.parametrize(
    "host",
    ["[", "[::1", "]", "[x]:1", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:0", "a:b", "a/b", ""],
)
def test_a_host_that_is_malformed_is_a_bad_request(port, host):
    for path in ("/", "/live"):
        assert ask(port, f"GET {path} HTTP/1.1", f"Host: {host}")[0] == 400
    assert host_name(host) is None


def test_two_hosts_or_origins_or_none_are_a_bad_request(port):
    own = f"Host: 127.0.0.1:{port}"
    assert ask(port, GET)[0] == 400
    assert ask(port, GET, own, own)[0] == 400
    assert ask(port, GET, own, "Origin: http://a", "Origin: http://b")[0] == 400


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "//:x", "http://a:99999", "\xff", ""]
)
def test_an_origin_that_is_malformed_is_another_site(port, origin):
    own = f"Host: 127.0.0.1:{port}"
    assert ask(port, "GET /live HTTP/1.1", own, f"Origin: {origin}")[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "brew"])
@pytest.mark.parametrize("path", ["/", "/live", "/nowhere"])
def test_a_method_that_changes_something_is_refused(port, method, path):
    status, text = ask(port, f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}")
    assert status == 405 or status in EARLY
    assert status != 405 or "Allow: GET, HEAD" in text


def test_head_is_answered_without_a_body(port):
    status, text = ask(port, "HEAD / HTTP/1.1", f"Host: 127.0.0.1:{port}")
    head, _, body = text.partition("\r\n\r\n")
    assert (status, body) == (200, "") or status in EARLY
    assert status != 200 or int(head.partition("Content-Length: ")[2].split()[0])


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "get", ""]),
    st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20),
    st.dictionaries(
        st.sampled_from(["Host", "Origin", "Upgrade", "Connection", "Sec-WebSocket-Key"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    ),
)
def test_no_request_is_a_fault_of_the_server(port, method, path, headers):
    status, text = ask(
        port, f"{method} /{path} HTTP/1.1", *(f"{key}: {text}" for key, text in headers.items())
    )
    assert status < 500 and "Traceback" not in text


def silent(port: int, number: int) -> ExitStack:
    """Connections that ask for nothing."""
    stack = ExitStack()
    for _ in range(number):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
    return stack


def test_silent_connections_make_room_for_one_that_asks(monkeypatch, caplog):
    assert 2 * connections.MOST < DESCRIPTORS  # the others are for the middleware
    monkeypatch.setattr(connections, "MOST", 4)
    with serving() as port, silent(port, 150):
        assert ask(port, GET, f"Host: 127.0.0.1:{port}")[0] == 200
    assert len(caplog.records) == 1 and "connections" in caplog.text


def test_a_silent_connection_is_closed_after_some_time(monkeypatch):
    monkeypatch.setattr(connections, "SILENT", 0.05)
    with (
        serving() as port,
        socket.create_connection(("127.0.0.1", port), PATIENCE) as connection,
        suppress(ConnectionResetError),
    ):
        assert connection.recv(1) == b""


class Transport:
    """A transport that remembers whether it was closed."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("heard", "closed"), [([], 0), ([0], 1), ([0, 1], 2), ([1], 0), ([0, 1, 2], 3)]
)
def test_the_oldest_silent_connection_is_closed_and_without_one_the_newest(
    monkeypatch, heard, closed
):
    monkeypatch.setattr(connections, "MOST", 3)
    crowd, transports = connections.Connections(), [Transport() for _ in range(4)]
    protocols = [asyncio.Protocol() for _ in transports]
    for number, (protocol, transport) in enumerate(zip(protocols, transports, strict=True)):
        if number == 3:
            for index in heard:
                crowd.heard(protocols[index])
        crowd.add(protocol, transport)
    assert [transport.aborted for transport in transports].index(True) == closed
    assert sum(transport.aborted for transport in transports) == 1
    crowd.remove(protocols[(closed + 1) % 4])
    crowd.add(asyncio.Protocol(), last := Transport())
    assert not last.aborted


def test_a_lack_of_descriptors_is_a_line_a_minute(caplog):
    watched = connections.Connections()
    error = OSError(24, "Too many open files")
    for _ in range(1000):
        watched.on_fault(asyncio.new_event_loop(), {"message": "accept", "exception": error})
    assert [record.exc_info for record in caplog.records] == [None]
    assert "Too many open files" in caplog.text
