# SPDX-License-Identifier: Apache-2.0
"""A vehicle that sends images, odometry, priors and the time, and asks for reloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from disam_ros.geometry import Transform
from disam_ros.nodes import conversions

QUEUE = 100  # messages that wait for the localizer's acknowledgement
PRIOR_SIGMA = 5.0  # [m]
Sight = tuple[Callable[[], NDArray[Any]], Transform]  # reads the image uint8 RGB; map_from_base


class Vehicle:
    """Drives a route to and fro, a step an image. frame: the map's, which odometry starts in."""

    def __init__(self, node: Node, route: Sequence[Sight], frame: str) -> None:
        self._frame, self._lap = frame, [*route, *route[-2:0:-1]]
        qos = QoSProfile(depth=QUEUE)
        self._image = node.create_publisher(Image, "image", qos)
        self._odometry = node.create_publisher(Odometry, "odom", qos)
        self._prior = node.create_publisher(PoseWithCovarianceStamped, "prior", qos)
        self._clock = node.create_publisher(Clock, "/clock", qos)
        self._reload = node.create_client(Trigger, "/localizer/reload")
        self._requests: list[Future] = []

    def connected(self) -> bool:
        """Whether the localizer hears the images."""
        return self._image.get_subscription_count() > 0

    def send(self, number: int, stamp_ns: int) -> None:
        """Publish the time, and what belongs to the image of that number."""
        read, map_from_base = self._lap[number % len(self._lap)]
        stamp = Header()
        stamp.stamp.sec, stamp.stamp.nanosec = divmod(stamp_ns, 10**9)
        self._clock.publish(Clock(clock=stamp.stamp))
        odometry = Odometry(header=conversions.header_of(stamp, "odom"), child_frame_id="base_link")
        odometry.pose.pose = conversions.transform_to_pose(map_from_base)
        self._odometry.publish(odometry)
        covariance = PRIOR_SIGMA**2 * np.eye(6)
        header = conversions.header_of(stamp, self._frame)
        self._prior.publish(conversions.pose_with_covariance(map_from_base, covariance, header))
        self._image.publish(conversions.image_to_message(read(), stamp))

    def reload(self) -> None:
        """Ask for a reload, unless one is under way."""
        if not self.reloading:
            self._requests.append(self._reload.call_async(Trigger.Request()))

    @property
    def reloading(self) -> bool:
        """Whether the last request is unanswered."""
        return bool(self._requests) and not self._requests[-1].done()

    def reloads(self) -> list[str]:
        """Reasons why answered requests failed; empty for one that succeeded."""
        answers = [request.result() for request in self._requests if request.done()]
        return ["" if answer.success else answer.message for answer in answers]
