# SPDX-License-Identifier: Apache-2.0
"""`disam view`: listener and server in one process."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from disam_ros.entry import heeded
from disam_ros.nodes.view.listener import Listener
from disam_ros.nodes.view.recording import Recording
from disam_ros.nodes.view.scene import Scene
from disam_ros.nodes.view.server import Server


def view(
    node: str = "/localizer", host: str = "127.0.0.1", port: int = 8087, record: str = ""
) -> None:
    """Serve the page until interrupted. node: the localizer's name with the namespace.

    record: GIF to write at the end. Raises ConfigError where the address cannot be served.
    """
    scene = Scene("/" + node.strip("/"))
    recording = Recording(scene, Path(record)) if record else None
    server = Server(scene)
    with Listener(scene), suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, scene.node, host, port, recording))
    if recording is not None:
        count = recording.write()
        print(f"{count} frames → {record}" if count else f"no picture came, no {record}")


async def _serve(
    server: Server, node: str, host: str, port: int, recording: Recording | None
) -> None:
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(server.run(host, port, ready))
    if recording is not None:
        taking = asyncio.ensure_future(recording.run())
        running.add_done_callback(lambda _: taking.cancel())
    with _signals_cancel(running), suppress(asyncio.CancelledError):
        await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            print(f"{node} is shown on http://{_shown(host)}:{ready.result()}/ until Ctrl-C")
            if not _is_loopback(host):
                print("Everybody who reaches this machine can open it.")
            sys.stdout.flush()
        await running


@contextmanager
def _signals_cancel(task: asyncio.Future[None]) -> Iterator[None]:
    """Signals cancel the task: KeyboardInterrupt would break off whatever the event loop does at
    that moment, and leave a connection that never closes."""
    loop = asyncio.get_running_loop()
    before = {signum: signal.getsignal(signum) for signum in heeded()}
    for signum in before:
        loop.add_signal_handler(signum, task.cancel)
    try:
        yield
    finally:
        for signum, handler in before.items():
            loop.remove_signal_handler(signum)
            signal.signal(signum, handler)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
