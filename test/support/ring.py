# SPDX-License-Identifier: Apache-2.0
"""A robot with odometry that drives around a circle."""

from __future__ import annotations

from typing import Any

import numpy as np

from disam_ros.geometry import Transform
from support.data import texture
from support.messages import image_message, odometry_message, values
from support.robot import Robot

LAP = 12  # map images around a circle of 38 m
RADIUS = 6.0  # m
MAP_FROM_ODOM = Transform.from_xyz_rpy([100.0, -50.0, 0.0, 0.0, 0.0, 1.0])


def ring(index: int) -> Transform:
    """`map_from_base` of the index-th place of the circle."""
    angle = 2 * np.pi * index / LAP
    x, y = RADIUS * np.sin(angle), -RADIUS * np.cos(angle)
    return Transform.from_xyz_rpy([x, y, 0.0, 0.0, 0.0, angle])


class RingRobot(Robot):
    """Its odometry is in a frame of its own."""

    def drive(self, index: int, *arguments: Any, **options: Any) -> dict[str, str]:
        """The key-values of the answer to `image_at`, one second after the last."""
        before = len(self.answers)  # a stamp may come again
        sent = self.image_at(index, *arguments, **options)
        return values(self.of_image(self.answers, sent, before).status[0])

    def image_at(
        self,
        index: int,
        image: np.ndarray | None = None,
        odom_from_base: Transform | None = None,
        odometry: bool = True,
    ) -> Any:
        """Send odometry and the image of a place; returns the image's message.

        image: by default the map's. odom_from_base: by default that of the place.
        """
        if odometry:
            moved = odom_from_base or MAP_FROM_ODOM.inverse() @ ring(index)
            self.deliver("odom", odometry_message(moved))
        return self.send(image_message(texture(index % LAP) if image is None else image))
