# SPDX-License-Identifier: Apache-2.0
"""Records what a running localizer answers: poses by image stamp, and its last diagnostics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile

from disam_ros.geometry import Transform
from disam_ros.nodes import conversions

DEPTH = 1000


class AnswerRecorder:
    """Listens on its own thread between entering and leaving the context.

    poses: `map_from_base` by image stamp (ns). diagnostics: the localizer's last values by key.
    """

    def __init__(self, node_name: str = "localizer") -> None:
        self._node_name = node_name
        self.poses: dict[int, Transform] = {}
        self.diagnostics: dict[str, str] = {}

    def __enter__(self) -> AnswerRecorder:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("answer_recorder", context=self._context)
        qos = QoSProfile(depth=DEPTH)
        topic = f"/{self._node_name}/pose"
        self._node.create_subscription(PoseStamped, topic, self._on_pose, qos)
        self._node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=10)
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait_until_active(self, timeout: float) -> bool:
        """Wait until the localizer says that it is active; False after `timeout` seconds."""
        return self._wait(lambda: self.diagnostics.get("state") == "active", timeout)

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until diagnostics account for every image received; False after `timeout`."""

        def idle() -> bool:
            keys = ("places known", "places unknown", "images dropped", "images undecodable")
            done = sum(int(self.diagnostics.get(key, 0)) for key in keys)
            return done >= int(self.diagnostics.get("images received", 0)) > 0

        return self._wait(idle, timeout)

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.05)
        return False

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_pose(self, message: PoseStamped) -> None:
        stamp_ns = conversions.stamp_to_ns(message.header)
        self.poses[stamp_ns] = conversions.pose_to_transform(message.pose)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self._node_name):
                self.diagnostics = {item.key: item.value for item in status.values}
