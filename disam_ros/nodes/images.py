# SPDX-License-Identifier: Apache-2.0
"""Image subscriptions: raw or compressed, with a QoS that tells when it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from disam_ros.nodes.conversions import stamp_to_ns
from disam_ros.nodes.diagnostics import Monitor


@dataclass(frozen=True)
class Frame:
    """An image as it arrived.

    number: counts the arrivals. received: seconds of time.perf_counter. stamp_ns: None where the
    stamp cannot tell the time (zero, or before that of the image before).
    """

    camera: str
    message: Image | CompressedImage
    number: int
    stamp_ns: int | None
    received: float


class StampChecker:
    """Tells stamps that cannot be the time: zero, or before the image before of that camera."""

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor
        self._last: dict[str, int] = {}

    def usable(self, camera: str, header: Header) -> int | None:
        """The stamp in nanoseconds; None, with a warning, where it tells nothing."""
        stamp_ns = stamp_to_ns(header)
        last, self._last[camera] = self._last.get(camera, 0), stamp_ns
        if stamp_ns > 0 and stamp_ns >= last:
            return stamp_ns
        self._monitor.count("stamps refused")
        text = f"images of camera '{camera}' carry no stamp; let the driver set it"
        if stamp_ns:
            text = f"stamps of camera '{camera}' go backwards; the clock jumped or a bag restarted"
        if self._monitor.problem(f"stamp of {camera}", text):
            self._node.get_logger().warning(text)
        return None


def sensor_qos(reliability: str = "best_effort") -> QoSProfile:
    """Newest message only. reliability: 'best_effort' or 'reliable'."""
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy[reliability.upper()],
    )


def subscribe(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    monitor: Monitor,
    qos: QoSProfile,
) -> Subscription:
    """Subscribe so that incompatible publishers are told and `qos_overrides` are honoured."""
    return node.create_subscription(
        kind,
        topic,
        callback,
        qos,
        event_callbacks=SubscriptionEventCallbacks(
            incompatible_qos=lambda event: _tell_mismatch(node, topic, monitor, event),
            message_lost=lambda event: _tell_loss(node, topic, monitor, event),
        ),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
    )


def subscribe_images(
    node: Node,
    camera_topic: str,
    transport: str,
    reliability: str,
    callback: Callable[[Image | CompressedImage], None],
    monitor: Monitor,
) -> Subscription:
    """Subscribe to an image topic or, with transport 'compressed', to its `/compressed`."""
    qos = sensor_qos(reliability)
    if transport == "compressed":
        topic = f"{camera_topic}/compressed"
        return subscribe(node, CompressedImage, topic, callback, monitor, qos)
    return subscribe(node, Image, camera_topic, callback, monitor, qos)


def _tell_mismatch(node: Node, topic: str, monitor: Monitor, event: Any) -> None:
    policy = qos_policy_name_from_kind(event.last_policy_kind)
    name = node.resolve_topic_name(topic)
    monitor.count("incompatible QoS events")
    advice = f"set qos_overrides.{name}.subscription.{policy.lower()} to what the publisher offers"
    if policy == "RELIABILITY":
        advice = "set the parameter reliability to best_effort or let the publisher be reliable"
    text = f"no messages from a publisher on {name}: its {policy} does not fit; {advice}"
    if monitor.problem(f"QoS of {topic}", text, hold=None):
        node.get_logger().warning(text)


def _tell_loss(node: Node, topic: str, monitor: Monitor, event: Any) -> None:
    monitor.count("messages lost", event.total_count_change)
    text = f"the middleware lost messages of {node.resolve_topic_name(topic)}"
    if monitor.problem(f"loss of {topic}", text):
        node.get_logger().warning(
            f"{text}; for large raw images set the parameter reliability to reliable, use "
            "compressed ones, or start driver and node with config/fastdds_large_images.xml"
        )
