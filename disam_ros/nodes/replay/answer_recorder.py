# SPDX-License-Identifier: Apache-2.0
"""Subscribes to a localizer and stores its outputs by image stamp."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.reader import RawMessage
from disam_ros.geometry import Transform
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.rclpy_extra.process import InterruptibleExecutor
from disam_ros.nodes.rclpy_extra.starting import own_node

DEPTH = 10_000  # messages that may wait for the executor
DIAGNOSTICS = "/diagnostics"


class AnswerRecorder:
    """Records from entering to leaving the context, while `wait` or another executor spins `node`.

    domain_id: ROS domain; None: that of the environment.
    """

    def __init__(self, node_name: str = "localizer", domain_id: int | None = None) -> None:
        self._node_name, self._domain_id = node_name, domain_id
        self.poses: dict[int, Transform] = {}  # map_from_base by image stamp [ns]
        self.covariances: dict[int, NDArray[np.float64]] = {}  # [6, 6] as published, by stamp
        self.answers: dict[int, dict[str, str]] = {}  # key-values of ~/answer by stamp
        self.outcomes: Counter[str] = Counter()  # number of images by outcome
        self.diagnostics: dict[str, str] = {}  # the node's last values by key
        self.status: DiagnosticStatus | None = None  # the node's last one
        self.messages: list[RawMessage] = []  # serialized, with the stamps of the headers
        self.last_answer = 0.0  # on the monotonic clock [s]
        self._counts: Counter[int] = Counter()
        self._client: Client | None = None

    def __enter__(self) -> AnswerRecorder:
        self._stack = ExitStack()
        self.node = self._stack.enter_context(own_node("answer_recorder", self._domain_id))
        self._executor = InterruptibleExecutor(context=self.node.context)
        self._stack.callback(self._executor.shutdown)
        name = f"/{self._node_name}"
        self._record(PoseStamped, f"{name}/pose", messages.POSE, self._on_pose)
        kind = messages.POSE_WITH_COVARIANCE
        topic = f"{name}/pose_with_covariance"
        self._record(PoseWithCovarianceStamped, topic, kind, self._on_covariance)
        kind = messages.DIAGNOSTICS
        self._record(DiagnosticArray, DIAGNOSTICS, kind, self._on_diagnostics)
        self._record(DiagnosticArray, f"{name}/answer", kind, self._on_answer)  # see Outputs
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def count(self, stamp_ns: int) -> int:
        """Returns the number of answers to images with a stamp [ns]."""
        return self._counts[stamp_ns]

    def forget(self) -> None:
        """Frees the records; counts, outcomes and diagnostics stay."""
        for records in (self.poses, self.covariances, self.answers, self.messages):
            records.clear()

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Records until a condition holds; returns False after the timeout [s]."""
        self._executor.add_node(self.node)  # a replay may have taken it
        return self._executor.spin_until(condition, timeout)

    def barrier(self) -> Callable[[], bool]:
        """Returns a check: has the localizer handled the messages that reached it before this call?

        Its executor runs the callbacks of topics before those of services.
        """
        if self._client is None:
            name = f"/{self._node_name}/get_parameters"
            self._client = self.node.create_client(GetParameters, name)
        return self._client.call_async(GetParameters.Request(names=["use_sim_time"])).done

    def localizers(self) -> int:
        """Returns the number of localizers of this name."""
        return self.node.count_publishers(f"/{self._node_name}/answer")

    def _record(
        self, message: type, topic: str, kind: str, callback: Callable[[int, Any], None]
    ) -> None:
        """Keeps the messages of a topic, and calls back with stamp [ns] and message."""

        def on_bytes(data: bytes) -> None:
            stamp_ns = messages.serialized_stamp_ns(data)
            self.messages.append(RawMessage(topic, kind, stamp_ns, data))
            callback(stamp_ns, deserialize_message(data, message))

        self.node.create_subscription(message, topic, on_bytes, QoSProfile(depth=DEPTH), raw=True)

    def _on_pose(self, stamp_ns: int, message: PoseStamped) -> None:
        self.poses[stamp_ns] = conversions.pose_to_transform(message.pose)

    def _on_covariance(self, stamp_ns: int, message: PoseWithCovarianceStamped) -> None:
        self.covariances[stamp_ns] = conversions.covariance_of(message)

    def _on_answer(self, stamp_ns: int, message: DiagnosticArray) -> None:
        values = answer_status.values_of(message)
        self.answers[stamp_ns] = values
        self.outcomes[values.get("outcome", "")] += 1
        self._counts[stamp_ns] += 1
        self.last_answer = time.monotonic()

    def _on_diagnostics(self, _: int, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.partition(":")[0] == self._node_name.strip("/"):
                self.status = status
                self.diagnostics = {item.key: item.value for item in status.values}
