# SPDX-License-Identifier: Apache-2.0
"""What a behaviour tree, a plot or an autopilot wants, as standard messages: state, probability,
distance since the last known place, and the place on Earth."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import NavSatFix, NavSatStatus
from std_msgs.msg import Float32, Header, String

from disam_ros.geodesy import Origin
from disam_ros.localization.answer import Answer
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.nodes import conversions

WAITING, INACTIVE = "waiting", "inactive"  # states beside the outcomes of images
DEPTH = 100


class Summary:
    """Publishes it. base_frame: the vehicle's. origin: of the map; None: its place is unknown.

    The state is latched: who subscribes later gets the last one.
    """

    def __init__(self, node: LifecycleNode, base_frame: str, origin: Origin | None) -> None:
        self._node, self._base_frame, self.origin = node, base_frame, origin
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._state = node.create_lifecycle_publisher(String, "~/state", latched)
        self._probability = node.create_lifecycle_publisher(Float32, "~/probability", DEPTH)
        self._distance = node.create_lifecycle_publisher(Float32, "~/distance_since_known", DEPTH)
        self._fix = node.create_lifecycle_publisher(NavSatFix, "~/fix", DEPTH)
        self._last_state = ""
        self._last_known: Reading | None = None

    def destroy(self) -> None:
        """Take the publishers down."""
        for publisher in (self._state, self._probability, self._distance, self._fix):
            self._node.destroy_lifecycle_publisher(publisher)

    def state(self, word: str) -> None:
        """An outcome of an image, WAITING or INACTIVE; published where it changes."""
        if word != self._last_state:
            self._last_state = word
            self._state.publish(String(data=word))

    def answered(self, answer: Answer, odometry: Reading | None, stamp: Header) -> None:
        """Probability, distance and fix. odometry: at the image's stamp. stamp: its header."""
        self._probability.publish(Float32(data=float(answer.probability)))
        if answer.known:
            self._last_known = odometry
            if self.origin is not None:
                header = conversions.header_of(stamp, self._base_frame)
                self._fix.publish(fix_message(answer, self.origin, header))
        last = self._last_known
        if odometry is not None and last is not None and odometry.drive == last.drive:
            self._distance.publish(Float32(data=odometry.travelled - last.travelled))


def fix_message(answer: Answer, origin: Origin, header: Header) -> NavSatFix:
    """The position of an answer as a fix. Its altitude is unknown: maps have no geodetic heights.

    Its covariance is about east, north and up [m²].
    """
    latitude, longitude = origin.to_geodetic(answer.map_from_base.translation)
    turn = np.eye(3)
    turn[:2, :2] = origin.enu_from_map
    covariance = turn @ answer.covariance[:3, :3] @ turn.T
    fields: dict[str, Any] = {
        "latitude": latitude,
        "longitude": longitude,
        "altitude": float("nan"),
        "position_covariance": covariance.ravel(),
        "position_covariance_type": NavSatFix.COVARIANCE_TYPE_KNOWN,
    }
    return NavSatFix(header=header, status=NavSatStatus(status=NavSatStatus.STATUS_FIX), **fields)
