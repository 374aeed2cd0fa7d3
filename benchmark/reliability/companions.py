# SPDX-License-Identifier: Apache-2.0
"""What runs beside the localizer in a soak: a live map of the same drive, and an open web page."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import Trigger
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from disam_ros.errors import DisamError
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.replay.answer_recorder import AnswerRecorder
from disam_ros.nodes.replay.child import child_process

BUILDER, PAGE = "map builder", "page"  # names of the processes
HOST = "127.0.0.1"
PATIENCE = 600.0  # time for the map to be completed [s]
RETRY = 0.5  # time between two attempts to open the page [s]
BUILT = "images in map"  # key of the map builder's diagnostics
PARAMETERS = {
    "image_transport": "raw",
    "pose_source": "odom",
    "identity_extrinsics": "true",
    "use_tf": "false",
    "use_sim_time": "true",
}


class Reader:
    """Keeps the page open on a thread of its own, as a browser does, and counts its messages."""

    def __init__(self, port: int) -> None:
        self.messages = 0
        self._url, self._open = f"ws://{HOST}:{port}/live", True
        self._thread = threading.Thread(target=self._read, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Closes the page."""
        self._open = False
        self._thread.join()

    def _read(self) -> None:
        while self._open:
            with (
                suppress(OSError, WebSocketException, TimeoutError),
                connect(self._url, max_size=None, compression=None) as page,
            ):
                while self._open:
                    page.recv(timeout=10 * RETRY)
                    self.messages += 1
            time.sleep(RETRY)


class Companions:
    """Processes beside the localizer. processes: by name. map_dir: the live map."""

    def __init__(
        self, node: Node, processes: dict[str, subprocess.Popen[bytes]], port: int, map_dir: Path
    ) -> None:
        self.processes, self._map_dir = processes, map_dir
        self.facts: dict[str, str] = {}  # the map builder's last diagnostics
        self._finish: Client = node.create_client(Trigger, "/map_builder/finish")
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.page = Reader(port)

    def connected(self) -> bool:
        """Returns whether the map builder and the page have started."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise DisamError(f"the {name} ended with status {process.returncode}")
        return bool(self.facts) and self.page.messages > 0

    def finish(self, recorder: AnswerRecorder) -> list[str]:
        """Completes the live map and opens it. Returns what must not be."""
        answer = self._finish.call_async(Trigger.Request())
        if not recorder.wait(answer.done, PATIENCE):
            return [f"the live map was not complete within {PATIENCE:g} s"]
        if not answer.result().success:
            return [f"the live map: {answer.result().message}"]
        expected = int(self.facts.get(BUILT, 0))
        count = len(PlaceMap(self._map_dir))
        return [] if count >= expected else [f"the live map lost {expected - count} images"]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith("map_builder:"):
                self.facts = {item.key: item.value for item in status.values}


@contextmanager
def companions(
    node: Node, model_dir: Path, map_dir: Path, domain_id: int | None
) -> Iterator[Companions]:
    """Runs a map builder that writes `map_dir`, `disam view` and an open page of it."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    with socket.socket() as chosen:
        chosen.bind((HOST, 0))
        port = chosen.getsockname()[1]
    environment = {} if domain_id is None else {"ROS_DOMAIN_ID": str(domain_id)}
    arguments = ["--ros-args", "--log-level", "warn"]
    for name, value in {"output": map_dir, "model": model_dir, **PARAMETERS}.items():
        arguments += ["-p", f"{name}:={value}"]
    view = ["view", "--port", str(port)]
    with ExitStack() as stack:
        processes = {
            BUILDER: stack.enter_context(child_process("map_builder_node", arguments, environment)),
            PAGE: stack.enter_context(child_process("disam", view, environment)),
        }
        beside = Companions(node, processes, port, map_dir)
        stack.callback(beside.page.close)
        yield beside
