# SPDX-License-Identifier: Apache-2.0
"""Odometry, and position priors: satellite fixes, propagated answers, poses with covariance."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import NavSatFix
from std_msgs.msg import Header

from disam_ros.errors import GeometryError, PriorError
from disam_ros.fixes import covariance_of, place_of
from disam_ros.localization.pipeline import Localized
from disam_ros.localization.prior import OFF_MAP, OVERRULED, USED, PositionPrior, gnss_prior
from disam_ros.localization.sequence.odometry import (
    AHEAD,
    BACK,
    JUMP,
    OdometryPrior,
    OdometryTrack,
    Reading,
)
from disam_ros.mapping.place_map import MapHeader
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.loaded import Loaded, map_origin
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import sensor_qos
from disam_ros.pose_buffer import NANOSECONDS

ODOMETRY_DEPTH = 50  # messages that may wait for the executor
FAULTS = {
    JUMP: "odometry jumped: the motion is unknown there",
    BACK: "stamps of odometry go backwards: it starts over",
    AHEAD: "a pose of odometry was stamped in the future and is left out",
}


class OdometryInput(Part):
    """Odometry over time; jumps, stamps that go backwards and silence are reported.

    frame_id: odometry's frame; empty before the first message.
    """

    def __init__(self, node: LifecycleNode, monitor: Monitor) -> None:
        super().__init__(node, monitor)
        self.track, self.frame_id = OdometryTrack(0), ""
        qos = sensor_qos(depth=ODOMETRY_DEPTH)
        self._subscriptions.add(Odometry, "odom", self._on_message, qos)

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes the limits of motion."""
        self.track.configure(config.localizer)

    def at(self, stamp_ns: int | None) -> Reading | None:
        """Odometry at a stamp; None without any near it, reported if there was some before."""
        if stamp_ns is None or not self.frame_id:
            return None
        reading = self.track.reading(stamp_ns)
        if reading is not None:
            self._monitor.solved("odom age")
        else:
            age = self.track.max_age_ns / NANOSECONDS
            text = f"odometry stopped: nothing on 'odom' within {age:g} s of the image"
            self._monitor.warn_once("odom age", text)
        return reading

    def _on_message(self, message: Odometry) -> None:
        try:
            odom_from_base = conversions.check_odometry(message)
        except GeometryError as error:
            text = f"odometry ignored: {error}"
            self._monitor.warn_once("odom", text)
            self._monitor.count("odometry refused")
            return
        self.frame_id = conversions.frame_of(message.header) or "odom"
        fault = self.track.move(conversions.stamp_to_ns(message.header), odom_from_base)
        if fault:
            self._monitor.warn_once("odom", FAULTS[fault])
            self._monitor.count("odometry faults")


class Priors(Part):
    """The prior of each image, from the configured source, and its effect.

    What cannot be used is reported and ignored. Raises ConfigError or PriorError for fixes where
    neither the map nor the configuration has a place on Earth.
    """

    def __init__(self, node: LifecycleNode, monitor: Monitor, odometry: OdometryTrack) -> None:
        super().__init__(node, monitor)
        self._track = odometry
        self._source = "none"
        self._header: MapHeader | None = None
        self._subscriptions.add(PoseWithCovarianceStamped, "prior", self._on_pose, sensor_qos())

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Goes on with other settings or another map; another source or map starts without a prior.

        Raises ConfigError or PriorError as above; then nothing has changed.
        """
        prior, header = config.localizer.prior, loaded.header
        noise = config.localizer.sequence.odometry_noise
        origin = map_origin(prior, header)
        if prior.source != self._source or header is not self._header:
            self._newest: tuple[int, PositionPrior] | None = None  # stamp [ns], of fix or topic
            self._odometry = OdometryPrior(noise, self._track)
        self._odometry.noise, self._max_age = noise, prior.max_age
        self._deviation = prior.fix_deviation
        self._origin, self._header, self._source = origin, header, prior.source
        if self._source != "none":
            effects = (USED, OVERRULED, OFF_MAP)
            self._monitor.start_counts(*(f"priors {effect}" for effect in effects))

    def at(self, stamp_ns: int | None) -> PositionPrior | None:
        """Prior at an image's stamp; None if there is none (reported in diagnostics)."""
        if self._source == "none":
            return None
        prior, fault = self._look_up(stamp_ns)
        if fault:
            self._monitor.warn_once("prior age", f"no prior: {fault}")
        else:
            self._monitor.solved("prior age")
        if prior is None:
            self._monitor.fact("prior", f"none: {fault or 'no answer yet to start from'}")
        return prior

    def answered(self, localized: Localized, header: Header) -> None:
        """Remember an answer to propagate, and report the effect of its prior."""
        answer, prior = localized.answer, localized.shot.prior
        stamp_ns = localized.shot.frame.stamp_ns
        if self._source == "odom" and stamp_ns is not None and answer.known:
            covariance = answer.covariance[:2, :2]
            self._odometry.answered(stamp_ns, answer.map_from_base, covariance)
        if prior is None:
            return
        x, y = prior.mean
        place = f"({x:.1f}, {y:.1f}) m, {prior.deviation:.1f} m (1 sigma)"
        self._monitor.fact("prior", f"{answer.prior}: {place}")
        if answer.prior == OFF_MAP:
            advice = "check its frame and origin, or the vehicle is where nothing was mapped"
            self._monitor.warn_once("prior", f"the prior is off the map and not used: {advice}")
        elif answer.prior == OVERRULED:
            text = "the prior was overruled: the image looks like another place"
            self._monitor.warn_once("prior", text)
        else:
            self._monitor.solved("prior")
        self._monitor.count(f"priors {answer.prior}")

    def on_fix(self, message: NavSatFix) -> None:
        """Takes a satellite fix."""
        place = place_of(message)
        if self._source != "fix" or place is None or self._origin is None:
            return
        try:
            prior = gnss_prior(*place, covariance_of(message, self._deviation), self._origin)
        except PriorError as error:
            self._refuse(f"fix not used as a prior: {error}")
            return
        self._take(message, prior)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        if self._source != "topic" or self._header is None:
            return
        frame, at = conversions.frame_of(message.header), message.pose.pose.position
        expected = self._header.map_frame
        if frame != expected:
            self._refuse(f"prior in frame '{frame}' ignored: expected '{expected}'")
            return
        try:
            covariance = conversions.covariance_of(message)[:2, :2]
            prior = PositionPrior(np.array([at.x, at.y, at.z]), covariance)
        except PriorError as error:
            self._refuse(f"prior ignored: {error}")
            return
        self._take(message, prior)

    def _take(self, message: NavSatFix | PoseWithCovarianceStamped, prior: PositionPrior) -> None:
        self._newest = (conversions.stamp_to_ns(message.header), prior)
        self._monitor.solved("prior message")

    def _look_up(self, stamp_ns: int | None) -> tuple[PositionPrior | None, str]:
        """The prior, and why there is none; neither while the first answer is awaited."""
        if stamp_ns is None:
            return None, "the image has no usable stamp"
        topic = "prior" if self._source == "topic" else self._source
        stale = f"nothing on '{topic}' within {self._max_age:g} s of the image"
        if self._source == "odom":
            prior = self._odometry.at(stamp_ns)
            return prior, "" if prior or self._odometry.anchor is None else stale
        if self._newest is None or abs(stamp_ns - self._newest[0]) > NANOSECONDS * self._max_age:
            return None, stale
        return self._newest[1], ""

    def _refuse(self, text: str) -> None:
        self._monitor.warn_once("prior message", text)
        self._monitor.count("priors refused")
