# SPDX-License-Identifier: Apache-2.0
"""Subscriptions whose QoS problems are reported; raw and compressed image input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import (
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from disam_ros.files.paths import FAST_DDS, LARGE_IMAGES, profile
from disam_ros.localization.image_checks import StampOrder
from disam_ros.nodes.conversions import stamp_to_ns
from disam_ros.nodes.diagnostics import IMAGES, Monitor, type_name

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ModuleNotFoundError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

LISTED = 5  # topics named in a warning


class StampChecker:
    """Reports stamps that cannot be capture times: zero, or before the camera's last one."""

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor, self._order = node, monitor, StampOrder()

    def usable(self, camera: str, header: Header) -> int | None:
        """The stamp [ns]; None, with a warning, where it cannot be the capture time."""
        stamp_ns = stamp_to_ns(header)
        usable = self._order.usable(camera, stamp_ns)
        if usable is None:
            text = f"images of camera '{camera}' carry no stamp; let the driver set it"
            if stamp_ns:
                text = (
                    f"stamps of camera '{camera}' go backwards; the clock jumped or a bag restarted"
                )
            self._monitor.warn_once(f"stamp of {camera}", text)
            self._monitor.count("stamps refused")
        return usable


def sensor_qos(reliability: str = "best_effort", depth: int = 1) -> QoSProfile:
    """QoS for the newest message only, or the last `depth`. reliability: 'best_effort' or
    'reliable'."""
    return QoSProfile(
        depth=depth,
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
    overriding: QoSOverridingOptions | None = None,
    on_mismatch: Callable[[Any], None] | None = None,
    remedy: str | None = "",
) -> Subscription:
    """Subscribe with `qos_overrides`; incompatible publishers and lost messages are reported.

    overriding: policies that may be overridden; None: history, depth and reliability.
    on_mismatch: handles an incompatible publisher instead of reporting it. remedy: of losses;
    None: they are only counted.
    """
    callbacks = SubscriptionEventCallbacks(
        incompatible_qos=on_mismatch
        or (lambda event: _report_mismatch(node, topic, monitor, event)),
        message_lost=lambda event: _report_loss(node, topic, monitor, remedy, event),
    )
    return node.create_subscription(
        kind,
        topic,
        callback,
        qos,
        event_callbacks=callbacks,
        qos_overriding_options=overriding or QoSOverridingOptions.with_default_policies(),
    )


class ImageInput:
    """A subscription to an image topic or, with transport 'compressed', to its `/compressed`.

    It begins reliable, so that large images arrive whole, and turns to best effort when a publisher
    offers no more, unless the user overrides the reliability with `qos_overrides`.
    """

    def __init__(
        self,
        node: Node,
        camera_topic: str,
        transport: str,
        callback: Callable[[Image | CompressedImage], None],
        monitor: Monitor,
    ) -> None:
        compressed = transport == "compressed"
        self._node, self._monitor, self._callback = node, monitor, callback
        self._kind = CompressedImage if compressed else Image
        self._topic = f"{camera_topic}/compressed" if compressed else camera_topic
        self._remedy = "" if compressed else _remedy_of_large_images()
        self._fallback: Timer | None = None
        self._subscription = self._subscribe(
            "reliable",
            QoSOverridingOptions.with_default_policies(),
            None if self._is_overridden() else self._plan_fallback,
        )

    def publisher_count(self) -> int:
        """Number of matched publishers."""
        return self._subscription.get_publisher_count()

    def describe(self) -> str:
        """The topic and its type."""
        return f"{self._node.resolve_topic_name(self._topic)} ({type_name(self._kind)})"

    def advice(self) -> str:
        """Why no images come, by what is published here, and what to do."""
        node, name = self._node, self._node.resolve_topic_name(self._topic)
        kinds = {info.topic_type for info in node.get_publishers_info_by_topic(name)}
        if kinds:
            if type_name(self._kind) in kinds and self._monitor.shows(_loss(self._topic)):
                return f"all are lost on the way; {self._remedy}"
            if type_name(self._kind) in kinds:
                return f"the publisher of {name} sends nothing: check the camera"
            return f"{name} is published as {', '.join(sorted(kinds))}: remap {self._topic}"
        others = _published_images(node)
        compressed = self._kind is CompressedImage
        other = name.removesuffix("/compressed") if compressed else f"{name}/compressed"
        if other in others:
            transport = "raw" if compressed else "compressed"
            return f"it is not published, but {other} is: set image_transport to {transport}"
        if others:
            return f"it is not published; remap {self._topic}, images are on {', '.join(others)}"
        return "no images are published at all: start the camera, check ROS_DOMAIN_ID"

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._fallback is not None:
            self._node.destroy_timer(self._fallback)
        self._node.destroy_subscription(self._subscription)

    def _is_overridden(self) -> bool:
        """Whether the user set the reliability of this very subscription."""
        name = self._node.resolve_topic_name(self._topic)
        return f"qos_overrides.{name}.subscription.reliability" in self._node._parameter_overrides

    def _subscribe(
        self,
        reliability: str,
        overriding: QoSOverridingOptions,
        on_mismatch: Callable[[Any], None] | None = None,
    ) -> Subscription:
        return subscribe(
            self._node,
            self._kind,
            self._topic,
            self._callback,
            self._monitor,
            sensor_qos(reliability),
            overriding,
            on_mismatch,
            self._remedy,
        )

    def _plan_fallback(self, event: Any) -> None:
        if qos_policy_name_from_kind(event.last_policy_kind) != "RELIABILITY":
            _report_mismatch(self._node, self._topic, self._monitor, event)
        elif self._fallback is None:  # in a timer: the event still needs the subscription
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._fallback = self._node.create_timer(0.0, self._fall_back, clock=steady)

    def _fall_back(self) -> None:
        self._fallback.cancel()
        self._node.destroy_subscription(self._subscription)
        others = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))
        self._subscription = self._subscribe("best_effort", others)
        name = self._node.resolve_topic_name(self._topic)
        self._node.get_logger().info(f"{name} is offered as best effort: subscribing that way")


def _published_images(node: Node) -> list[str]:
    """Topics with a publisher of images, raw or compressed, sorted, at most LISTED."""
    offered = node.get_topic_names_and_types()
    names = [name for name, kinds in offered if not set(IMAGES).isdisjoint(kinds)]
    own = f"{node.get_fully_qualified_name()}/"
    return sorted(n for n in names if not n.startswith(own) and node.count_publishers(n))[:LISTED]


def _report_mismatch(node: Node, topic: str, monitor: Monitor, event: Any) -> None:
    policy = qos_policy_name_from_kind(event.last_policy_kind)
    name = node.resolve_topic_name(topic)
    advice = f"set qos_overrides.{name}.subscription.{policy.lower()} to what the publisher offers"
    text = f"no messages from a publisher on {name}: its {policy} does not fit; {advice}"
    monitor.warn_once(f"QoS of {topic}", text, hold=None)
    monitor.count("incompatible QoS events")


def _loss(topic: str) -> str:
    """Key of the problem that messages of a topic are lost."""
    return f"loss of {topic}"


def _report_loss(node: Node, topic: str, monitor: Monitor, remedy: str | None, event: Any) -> None:
    monitor.count("messages lost", event.total_count_change)
    if remedy is None:
        return
    text = (
        f"the middleware lost messages of {node.resolve_topic_name(topic)}; "
        f"{remedy or 'the machine or the network is too slow for what is sent'}"
    )
    monitor.warn_once(_loss(topic), text)


def _remedy_of_large_images() -> str:
    """Who publishes them decides: of best-effort images beyond its shared memory fragments are
    overwritten before they are read."""
    remedy = "set image_transport to compressed, or let the driver publish them reliably"
    if get_rmw_implementation_identifier() in FAST_DDS:
        for variable, path in list(profile(LARGE_IMAGES).items())[:1]:
            remedy += f", or start the driver (not this node) with {variable}={path}"
    return remedy
