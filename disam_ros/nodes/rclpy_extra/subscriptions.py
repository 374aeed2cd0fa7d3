# SPDX-License-Identifier: Apache-2.0
"""Subscriptions whose QoS problems are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from rclpy.node import Node
from rclpy.qos import (
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

try:
    from rclpy.event_handler import (
        QoSMessageLostInfo,
        QoSRequestedIncompatibleQoSInfo,
        SubscriptionEventCallbacks,
    )
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import (
        QoSMessageLostInfo,
        QoSRequestedIncompatibleQoSInfo,
        SubscriptionEventCallbacks,
    )

Mismatch: TypeAlias = QoSRequestedIncompatibleQoSInfo
M = TypeVar("M")
TOO_SLOW = "the machine or the network is too slow for what is sent"


def sensor_qos(reliability: str = "best_effort", depth: int = 1) -> QoSProfile:
    """QoS for the newest message only, or the last `depth`. reliability: 'best_effort' or
    'reliable'."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy[reliability.upper()],
    )


class Subscriptions:
    """Subscriptions of a node, which a user may change with `qos_overrides`.

    Incompatible publishers and lost messages are counted and reported to `monitor`.
    """

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor
        self._subscriptions: list[Subscription] = []

    def add(
        self,
        kind: type[M],
        topic: str,
        callback: Callable[[M], None],
        qos: QoSProfile,
        *,
        remedy: str = TOO_SLOW,
        overriding: QoSOverridingOptions | None = None,
        on_mismatch: Callable[[Mismatch], None] | None = None,
    ) -> Subscription:
        """Subscribe.

        remedy: what helps against lost messages; empty: they are only counted. overriding: policies
        that may be overridden; None: history, depth and reliability. on_mismatch: handles an
        incompatible publisher instead of reporting it.
        """
        callbacks = SubscriptionEventCallbacks(
            incompatible_qos=on_mismatch or (lambda event: self.report_mismatch(topic, event)),
            message_lost=lambda event: self._report_loss(topic, remedy, event),
            use_default_callbacks=False,  # types that differ: diagnostics.py
        )
        subscription = self._node.create_subscription(
            kind,
            topic,
            callback,
            qos,
            event_callbacks=callbacks,
            qos_overriding_options=overriding or QoSOverridingOptions.with_default_policies(),
        )
        self._subscriptions.append(subscription)
        return subscription

    def destroy(self) -> None:
        """Unsubscribe from all."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def loses(self, topic: str) -> bool:
        """Whether messages of a topic were lost of late."""
        return self._monitor.shows(f"loss of {topic}")

    def report_mismatch(self, topic: str, event: Mismatch) -> None:
        """Report a publisher whose QoS does not fit."""
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        name = self._node.resolve_topic_name(topic)
        setting = f"qos_overrides.{name}.subscription.{policy.lower()}"
        text = (
            f"no messages from a publisher on {name}: its {policy} does not fit; set {setting} to "
            "what the publisher offers"
        )
        self._monitor.lasting(f"QoS of {topic}", text)
        self._monitor.count("incompatible QoS events")

    def _report_loss(self, topic: str, remedy: str, event: QoSMessageLostInfo) -> None:
        self._monitor.count("messages lost", event.total_count_change)
        if remedy:
            name = self._node.resolve_topic_name(topic)
            text = f"the middleware lost messages of {name}; {remedy}"
            self._monitor.warn_once(f"loss of {topic}", text)
