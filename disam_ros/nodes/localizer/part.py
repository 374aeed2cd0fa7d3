# SPDX-License-Identifier: Apache-2.0
"""Parts of a session of the localizer node."""

from __future__ import annotations

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from disam_ros.localization.pipeline import Localized
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import Subscriptions
from disam_ros.nodes.rclpy_extra.waiting import no_events


class Part:
    """A part of the session, such as the publishers of a topic."""

    title = "a part of the session"  # in reports of its errors

    def __init__(self, node: LifecycleNode, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor
        self._subscriptions = Subscriptions(node, monitor)
        self._publishers: list[LifecyclePublisher] = []

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Take settings that changed, or another map or model; called between two images."""

    def answered(self, localized: Localized, header: Header) -> None:
        """Take a localized image, whose poses were published. header: of the image.

        An error is reported and ends nothing else.
        """

    def destroy(self) -> None:
        """Give back topics."""
        self._subscriptions.destroy()
        while self._publishers:
            self._node.destroy_lifecycle_publisher(self._publishers.pop())

    def _publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> LifecyclePublisher:
        """A publisher that is silent while the node is inactive."""
        publisher: LifecyclePublisher = self._node.create_lifecycle_publisher(
            kind, topic, qos, event_callbacks=no_events()
        )
        self._publishers.append(publisher)
        return publisher
