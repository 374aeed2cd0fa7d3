# SPDX-License-Identifier: Apache-2.0
"""Records the topics that are published now for some seconds, as a bag to report on."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

from rclpy.exceptions import NoTypeSupportImportedException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_topics import IMAGE_TYPES
from disam_ros.datasets.bags.poses import POSE_TYPES
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.errors import BagError
from disam_ros.nodes.rclpy_extra.process import InterruptibleExecutor
from disam_ros.nodes.rclpy_extra.starting import own_node
from disam_ros.nodes.replay.player import message_class

TYPES = {
    *(*IMAGE_TYPES, *POSE_TYPES, messages.CAMERA_INFO, messages.FIX, messages.TF, messages.STRING)
}
MOST_IMAGES = 60  # images of a topic that are kept, so that cameras at full speed fit into memory
SLICE = 0.1  # time between two looks at new topics [s]


def record(bag: Path, seconds: float) -> Path:
    """Record what a map needs of the topics that are published now. Returns the bag.

    Raises BagError where nothing is heard, ConfigError where ROS does not start.
    """
    with own_node("disam_doctor") as node, BagWriter(bag) as writer:
        executor = InterruptibleExecutor(context=node.context)
        executor.add_node(node)
        listener = _Listener(node, writer)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            listener.subscribe()
            executor.spin_once(timeout_sec=SLICE)
    if not listener.counts:
        raise BagError(
            f"nothing was heard in {seconds:g} s: are the nodes running, with this ROS_DOMAIN_ID?"
        )
    return bag


class _Listener:
    """Writes messages of all topics of TYPES to a bag, as they come."""

    def __init__(self, node: Node, writer: BagWriter) -> None:
        self.counts: Counter[str] = Counter()  # messages by topic
        self._node, self._writer = node, writer
        self._topics: set[str] = set()

    def subscribe(self) -> None:
        """Subscribe to topics that have appeared."""
        for topic, kinds in self._node.get_topic_names_and_types():
            publishers = self._node.get_publishers_info_by_topic(topic)
            if topic in self._topics or not publishers or kinds[0] not in TYPES:
                continue
            self._topics.add(topic)
            profiles = [publisher.qos_profile for publisher in publishers]
            reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
            latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
            qos = QoSProfile(
                depth=100,
                reliability=(
                    ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
                ),
                durability=(
                    DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
                ),
            )
            kind = kinds[0]

            keep = partial(self._keep, topic, kind, latched)
            try:
                self._node.create_subscription(message_class(kind), topic, keep, qos, raw=True)
            except (ImportError, AttributeError, NoTypeSupportImportedException):
                self._node.get_logger().warning(f"{topic} is not heard: {kind} is not installed")

    def _keep(self, topic: str, kind: str, latched: bool, data: bytes) -> None:
        """Write a serialized message."""
        if kind in IMAGE_TYPES and self.counts[topic] >= MOST_IMAGES:
            return
        self.counts[topic] += 1
        qos = messages.LATCHED_QOS if latched else messages.RELIABLE_QOS
        self._writer.write_serialized(topic, kind, data, time.time_ns(), qos)
