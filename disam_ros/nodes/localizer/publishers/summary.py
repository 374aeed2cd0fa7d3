# SPDX-License-Identifier: Apache-2.0
"""What a behaviour tree, a plot or an autopilot wants, as standard messages: state, probability,
distance since the last known place, and the place on Earth."""

from __future__ import annotations

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import NavSatFix, NavSatStatus
from std_msgs.msg import Float32, Header, String

from disam_ros.geodesy import Origin
from disam_ros.localization.pipeline import Localized
from disam_ros.localization.query import Answer
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.loaded import Loaded, map_origin
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

WAITING, INACTIVE = "waiting", "inactive"  # states beside the outcomes of images
DEPTH = 100


class Summary(Part):
    """Publishes the summary. The state is latched: late subscribers get the last one, too."""

    title = "the summary"

    def __init__(self, node: LifecycleNode, monitor: Monitor, base_frame: str) -> None:
        super().__init__(node, monitor)
        self._base_frame = base_frame
        self._origin: Origin | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._state = self._publisher(String, "~/state", latched)
        self._probability = self._publisher(Float32, "~/probability", DEPTH)
        self._distance = self._publisher(Float32, "~/distance_since_known", DEPTH)
        self._fix = self._publisher(NavSatFix, "~/fix", DEPTH)
        self._last_state = ""
        self._last_known: Reading | None = None

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes the map's place on Earth."""
        self._origin = map_origin(config.localizer.prior, loaded.header)

    def state(self, word: str) -> None:
        """Publish a state that changes: an outcome of an image, WAITING or INACTIVE."""
        if word != self._last_state:
            self._last_state = word
            self._state.publish(String(data=word))

    def answered(self, localized: Localized, header: Header) -> None:
        """Publish probability, distance and fix."""
        answer, odometry = localized.answer, localized.shot.odometry
        self._probability.publish(Float32(data=float(answer.probability)))
        if answer.known:
            self._last_known = odometry
            if self._origin is not None:
                header = conversions.header_of(header, self._base_frame)
                self._fix.publish(fix_message(answer, self._origin, header))
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
    return NavSatFix(
        header=header,
        status=NavSatStatus(status=NavSatStatus.STATUS_FIX),
        latitude=latitude,
        longitude=longitude,
        altitude=float("nan"),
        position_covariance=covariance.ravel(),
        position_covariance_type=NavSatFix.COVARIANCE_TYPE_KNOWN,
    )
