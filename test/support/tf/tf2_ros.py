# SPDX-License-Identifier: Apache-2.0
"""Stands in for tf2_ros, of which there are no wheels: a buffer fed by a plain topic."""

from __future__ import annotations

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time

TOPIC = "/transforms"


class TransformException(Exception):
    pass


class Buffer:
    def __init__(self) -> None:
        self.known: dict[tuple[str, str], TransformStamped] = {}

    def lookup_transform(self, target: str, source: str, time: Time) -> TransformStamped:
        if (target, source) not in self.known:
            raise TransformException(f'"{source}" does not exist')
        return self.known[target, source]


class TransformListener:
    def __init__(self, buffer: Buffer, node: Node) -> None:
        self._buffer, self._node = buffer, node
        self._subscription = node.create_subscription(TransformStamped, TOPIC, self._on, 10)

    def unregister(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _on(self, message: TransformStamped) -> None:
        self._buffer.known[message.header.frame_id, message.child_frame_id] = message
