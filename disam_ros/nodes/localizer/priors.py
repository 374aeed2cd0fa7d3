# SPDX-License-Identifier: Apache-2.0
"""What topics tell of the place before an image: fixes, odometry, poses with covariance."""

from __future__ import annotations

import math

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from disam_ros.config import PriorConfig
from disam_ros.errors import ConfigError, PriorError
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.localization.odometry import OdometryTrack
from disam_ros.localization.odometry_prior import OdometryPrior
from disam_ros.localization.prior import OFF_MAP, OVERRULED, USED, PositionPrior, gnss_prior
from disam_ros.localization.result import Localization
from disam_ros.mapping.place_map import MapHeader
from disam_ros.nodes import conversions
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.subscriptions import sensor_qos, subscribe

NS = 1_000_000_000


class Priors:
    """The prior of each image, from the source that is configured, and what became of it.

    What cannot be used is told and ignored. Raises ConfigError or PriorError where fixes are to be
    used and nothing tells where the map lies on Earth.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        config: PriorConfig,
        header: MapHeader,
        odometry: OdometryTrack,
    ) -> None:
        self._node, self._monitor, self._track = node, monitor, odometry
        self._source, self._header = "none", None
        self.adopt(config, header)
        kind, qos = PoseWithCovarianceStamped, sensor_qos()
        self._subscription = subscribe(node, kind, "prior", self._on_pose, monitor, qos)

    def adopt(self, config: PriorConfig, header: MapHeader) -> None:
        """Go on with other settings or another map; of another source or map nothing is known yet.

        Raises ConfigError or PriorError as above; then nothing has changed.
        """
        origin = map_origin(config, header) if config.source == "fix" else None
        if config.source != self._source or header is not self._header:
            self._newest: tuple[int, PositionPrior] | None = None  # stamp (ns), of fix or topic
            self._odometry = OdometryPrior(config.odometry_growth, self._track)
        self._odometry.growth, self._max_age = config.odometry_growth, config.max_age
        self._origin, self._header, self._source = origin, header, config.source
        if self._source != "none":
            effects = (USED, OVERRULED, OFF_MAP)
            self._monitor.start_counts(*(f"priors {effect}" for effect in effects))

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def at(self, stamp_ns: int | None) -> PositionPrior | None:
        """The prior of an image with this stamp; None where there is none, which is told."""
        if self._source == "none":
            return None
        found, fault = self._look_up(stamp_ns)
        if fault:
            self._tell("prior age", f"no prior: {fault}")
        else:
            self._monitor.solved("prior age")
        if found is None:
            self._monitor.fact("prior", f"none: {fault or 'no answer yet to start from'}")
        return found

    def answered(
        self,
        stamp_ns: int | None,
        found: Localization,
        prior: PositionPrior | None,
        base_from_camera: Transform,
    ) -> None:
        """Take note of an answer, and tell what the prior did to it."""
        if self._source == "odom" and stamp_ns is not None and found.known:
            map_from_base = found.map_from_base(base_from_camera)
            covariance = found.covariance(base_from_camera)[:2, :2]
            self._odometry.answered(stamp_ns, map_from_base, covariance)
        if prior is None:
            return
        self._monitor.count(f"priors {found.prior}")
        x, y = prior.mean
        place = f"({x:.1f}, {y:.1f}) m, {prior.deviation:.1f} m (1 sigma)"
        self._monitor.fact("prior", f"{found.prior}: {place}")
        if found.prior == OFF_MAP:
            advice = "check its frame and origin, or the vehicle is where nothing was mapped"
            self._tell("prior", f"the prior is off the map and not used: {advice}")
        elif found.prior == OVERRULED:
            self._tell("prior", "the prior was overruled: the image looks like another place")
        else:
            self._monitor.solved("prior")

    def on_fix(self, message: NavSatFix) -> None:
        """A satellite fix."""
        place = conversions.place_of(message)
        if self._source != "fix" or place is None:
            return
        try:
            prior = gnss_prior(*place, conversions.fix_covariance(message), self._origin)
        except PriorError as error:
            self._refuse(f"fix not used as a prior: {error}")
            return
        self._take(message, prior)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        if self._source != "topic":
            return
        frame, at = message.header.frame_id, message.pose.pose.position
        expected = self._header.map_frame
        if frame != expected:
            self._refuse(f"prior in frame '{frame}' ignored: expected '{expected}'")
            return
        try:
            covariance = conversions.covariance_of(message)[:2, :2]
            prior = PositionPrior([at.x, at.y, at.z], covariance)
        except PriorError as error:
            self._refuse(f"prior ignored: {error}")
            return
        self._take(message, prior)

    def _take(self, message: NavSatFix | PoseWithCovarianceStamped, prior: PositionPrior) -> None:
        self._newest = (conversions.stamp_to_ns(message.header), prior)
        self._monitor.solved("prior message")

    def _look_up(self, stamp_ns: int | None) -> tuple[PositionPrior | None, str]:
        """The prior and what hinders it; neither while the first answer is awaited."""
        if stamp_ns is None:
            return None, "the image's stamp tells no time"
        topic = "prior" if self._source == "topic" else self._source
        stale = f"nothing on '{topic}' within {self._max_age:g} s of the image"
        if self._source == "odom":
            found = self._odometry.at(stamp_ns)
            return found, "" if found or not self._odometry.anchored else stale
        if self._newest is None or abs(stamp_ns - self._newest[0]) > NS * self._max_age:
            return None, stale
        return self._newest[1], ""

    def _refuse(self, text: str) -> None:
        self._monitor.count("priors refused")
        self._tell("prior message", text)

    def _tell(self, key: str, text: str) -> None:
        if self._monitor.problem(key, text):
            self._node.get_logger().warning(text)


def map_origin(config: PriorConfig, header: MapHeader) -> Origin:
    """Where the map lies on Earth: as configured, else as the map says. Raises ConfigError."""
    places = (
        (config.origin_latitude, config.origin_longitude),
        (header.latitude, header.longitude),
    )
    for latitude, longitude in places:
        known = [v is not None and not math.isnan(v) for v in (latitude, longitude)]
        if all(known):
            return Origin(latitude, longitude, config.origin_yaw)
        if any(known):
            raise ConfigError(
                "the origin of the map for fixes expects latitude and longitude, got only one: set "
                "localizer.prior.origin_latitude and localizer.prior.origin_longitude"
            )
    raise ConfigError(
        "localizer.prior.source is 'fix', but the map does not tell where on Earth it lies: set "
        "localizer.prior.origin_latitude and localizer.prior.origin_longitude"
    )
