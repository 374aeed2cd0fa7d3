# SPDX-License-Identifier: Apache-2.0
"""ROS node that hears a localizer and fills the scene."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image
from std_msgs.msg import String

from disam_ros.errors import DisamError
from disam_ros.localization.query import KNOWN
from disam_ros.nodes import conversions, match_picture
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.rclpy_extra.process import GuardedExecutor
from disam_ros.nodes.rclpy_extra.starting import require_node_name, starting
from disam_ros.nodes.rclpy_extra.waiting import steady_timer
from disam_ros.nodes.view.scene import Scene

logger = logging.getLogger(__name__)

DEPTH = 100
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PERIOD = 0.5  # time between two looks for the localizer [s]
SILENT = 3.0  # time without diagnostics after which the localizer counts as gone [s]
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]
ELLIPSE = 2.4477  # deviations around 95 % of a distribution in the plane
LATENCY = f"{answer_status.PUBLISHED}{answer_status.MILLISECONDS}"  # key of ~/answer
ANSWER = "diagnostic_msgs/msg/DiagnosticArray"  # type of ~/answer


class Listener:
    """Spins on a thread of its own until `close`. Context manager.

    What only an open page needs is subscribed to while one is open.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene, self._diagnosed = scene, -SILENT
        require_node_name(scene.node)
        with starting():
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            self._node = rclpy.create_node("disam_view", enable_rosout=False)
        self._on_demand: list[Any] = []
        self._candidates: tuple[int, list[tuple[float, float]]] = (0, [])  # stamp, positions [m]
        self._scores: tuple[int, list[float | None]] = (0, [])  # of the answer of that stamp
        self._subscribe(String, "state", lambda m: scene.set(state=m.data), LATCHED)
        self._subscribe(PoseArray, "map_poses", self._on_map, LATCHED)
        self._subscribe(DiagnosticArray, "answer", self._on_answer)
        self._subscribe(PoseWithCovarianceStamped, "pose_with_covariance", self._on_pose)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEPTH)
        steady_timer(self._node, PERIOD, self._look)
        self._executor = GuardedExecutor(logger.warning)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="disam_view", daemon=True)
        self._look()
        self._thread.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        rclpy.try_shutdown()  # ends the spinning
        self._thread.join()
        self._node.destroy_node()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], qos: Any = DEPTH
    ) -> Any:
        return self._node.create_subscription(kind, f"{self._scene.node}/{topic}", callback, qos)

    def _look(self) -> None:
        """Whether there is a localizer, and what to do if not; subscriptions of an open page."""
        scene, node = self._scene, self._node
        heard = time.monotonic() - self._diagnosed < SILENT
        present = heard or bool(node.count_publishers(f"{scene.node}/answer"))
        scene.set(found=present, hint="" if present else hint(node, scene.node))
        if scene.viewers and not self._on_demand:
            self._on_demand = [
                self._subscribe(PoseArray, "candidates", self._on_candidates, 1),
                self._subscribe(Image, "match_image", self._on_match, 1),
            ]
        elif not scene.viewers:
            for subscription in self._on_demand:
                node.destroy_subscription(subscription)
            self._on_demand = []

    def _on_map(self, message: PoseArray) -> None:
        points = [(round(p.position.x, 2), round(p.position.y, 2)) for p in message.poses]
        self._scene.set_map(conversions.frame_of(message.header), points)

    def _on_candidates(self, message: PoseArray) -> None:
        points = [(round(p.position.x, 2), round(p.position.y, 2)) for p in message.poses]
        self._candidates = conversions.stamp_to_ns(message.header), points
        self._show_candidates()

    def _show_candidates(self) -> None:
        """Show candidates [x, y, score]: None until the answer to their image is there."""
        (stamp, points), (answered, scores) = self._candidates, self._scores
        if stamp != answered or len(scores) != len(points):
            scores = [None] * len(points)
        self._scene.set(
            candidates=[(*point, score) for point, score in zip(points, scores, strict=True)]
        )

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        pose = conversions.pose_to_transform(message.pose.pose)
        covariance = conversions.covariance_of(message)
        x, y, z = pose.translation.tolist()
        yaw = Rotation.from_quat(pose.quaternion).as_euler("ZYX")[0]
        self._scene.set(
            pose={
                "x": round(x, 3),
                "y": round(y, 3),
                "z": round(z, 3),
                "yaw": round(float(yaw), 5),
                "frame": conversions.frame_of(message.header),
                "ellipse": (axes := ellipse(covariance[:2, :2])),
                "deviation": round(axes[0] / ELLIPSE, 3),
                "yaw_deviation": round(float(np.sqrt(max(covariance[5, 5], 0.0))), 5),
            }
        )
        self._scene.add_position(x, y)

    def _on_answer(self, message: DiagnosticArray) -> None:
        values = answer_status.values_of(message)
        outcome = values.get("outcome", "")
        probability = answer_status.number(values.get("probability"))
        camera = message.status[0].hardware_id if message.status else ""
        self._scene.set(answer={**values, "camera": camera})
        self._scene.add_outcome(outcome, probability, answer_status.number(values.get(LATENCY)))
        self._scores = (
            conversions.stamp_to_ns(message.header),
            answer_status.candidate_scores(values),
        )
        self._show_candidates()
        if outcome != KNOWN:
            self._scene.break_track()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._scene.node[1:]}: relocalization":
                self._diagnosed = time.monotonic()
                self._scene.set(
                    faults=faults(status), facts={pair.key: pair.value for pair in status.values}
                )

    def _on_match(self, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        try:
            shown = match_picture.panels(pixels)
        except DisamError as error:
            logger.warning("~/match_image: %s", error)
            return
        self._scene.set_pictures([cv2.imencode(".jpg", p, JPEG)[1].tobytes() for p in shown])


def ellipse(covariance: NDArray[np.float64]) -> list[float]:
    """Half axes [m], the longer first, and direction of it [rad] of the ellipse that holds 95 %.

    covariance: [2, 2] of x and y [m²].
    """
    variances, axes = np.linalg.eigh(covariance)
    minor, major = ELLIPSE * np.sqrt(variances.clip(0.0))
    angle = np.arctan2(axes[1, 1], axes[0, 1])
    return [round(float(value), 4) for value in (major, minor, angle)]


def faults(status: DiagnosticStatus) -> str:
    """What a status deviates in, in words; empty for a sound node."""
    if status.level == DiagnosticStatus.OK:
        return ""
    return str(status.message.partition(": ")[2] or status.message)


def hint(node: Node, name: str) -> str:
    """What to do where no localizer of this name is found."""
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    missing = f"No localizer called {name} is found in ROS domain {domain}."
    topics = {topic for topic, kinds in node.get_topic_names_and_types() if ANSWER in kinds}
    others = sorted(topic.removesuffix("/answer") for topic in topics if topic.endswith("/answer"))
    if others := [other for other in others if node.count_publishers(f"{other}/answer")]:
        return f"{missing} There is {', '.join(others)}: disam view --node {others[0]}"
    return f"{missing} Start one: ros2 launch disam_ros relocalization.launch.py map:=MAP"
