# SPDX-License-Identifier: Apache-2.0
"""Publishers of the localizer; all messages carry the IMAGE's stamp and the map's frame."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from disam_ros.geometry import Transform, compose
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Localized
from disam_ros.localization.query import Answer
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.conversions import candidate_markers
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.match_picture import overlay_heat
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

DEPTH = 100  # messages kept for reliable subscribers that lag
LARGE_DEPTH = 5  # of those that are large


class Outputs(Part):
    """Publishes answers. map_frame: frame of all poses. base_frame: the vehicle's."""

    title = "the candidates"

    def __init__(self, node: LifecycleNode, monitor: Monitor, base_frame: str) -> None:
        super().__init__(node, monitor)
        self.map_frame = ""
        self._base_frame, publisher = base_frame, self._publisher
        self._pose = publisher(PoseStamped, "~/pose", DEPTH)
        self._pose_with_covariance = publisher(
            PoseWithCovarianceStamped, "~/pose_with_covariance", DEPTH
        )
        self._global_pose = publisher(PoseWithCovarianceStamped, "~/global_pose", DEPTH)
        self._candidates = publisher(PoseArray, "~/candidates", DEPTH)
        self._markers = publisher(MarkerArray, "~/markers", LARGE_DEPTH)
        self._answer = publisher(DiagnosticArray, "~/answer", DEPTH)

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes the map's frame."""
        self.map_frame = loaded.header.map_frame

    def publish(self, answer: Answer, stamp: Header) -> PoseWithCovarianceStamped | None:
        """Publish the poses of a known place; returns the one in the map's frame.

        stamp: the image's header.
        """
        if not answer.known:
            return None
        header = conversions.header_of(stamp, self.map_frame)
        pose = conversions.pose_with_covariance(answer.map_from_base, answer.covariance, header)
        self._pose.publish(PoseStamped(header=header, pose=pose.pose.pose))
        self._pose_with_covariance.publish(pose)
        # Its frame_id names the frame ON THE ROBOT.
        on_robot = conversions.header_of(stamp, self._base_frame)
        self._global_pose.publish(PoseWithCovarianceStamped(header=on_robot, pose=pose.pose))
        return pose

    def answered(self, localized: Localized, header: Header) -> None:
        """Publish candidates and markers to those who subscribe."""
        answer, header = localized.answer, conversions.header_of(header, self.map_frame)
        markers = bool(self._markers.get_subscription_count())
        if not markers and not self._candidates.get_subscription_count():
            return
        cameras = [candidate.map_from_camera for candidate in answer.candidates]
        rows = np.array([[*pose.translation, *pose.quaternion] for pose in cameras])
        rows = compose(rows, answer.base_from_camera.inverse())
        poses = [Transform(row[:3], row[3:]) for row in rows]
        self._candidates.publish(conversions.pose_array(poses, header))
        if markers:
            scores = [candidate.fine_score for candidate in answer.candidates]
            self._markers.publish(candidate_markers(poses, scores, answer.known, header))

    def answer(self, status: DiagnosticStatus, stamp: Header) -> None:
        """Publish the outcome of an image, as its last message. stamp: the image's header."""
        header = conversions.header_of(stamp, self.map_frame)
        self._answer.publish(DiagnosticArray(header=header, status=[status]))

    def listener_count(self) -> int:
        """Number of subscribers of ~/answer."""
        return self._answer.get_subscription_count()


class ActivationMaps(Part):
    """Publishes images with heat over them, which is computed only if somebody listens."""

    title = "the activation map"

    def __init__(self, node: LifecycleNode, monitor: Monitor) -> None:
        super().__init__(node, monitor)
        self._localizer: Localizer | None = None
        self._image = self._publisher(Image, "~/activation_map", LARGE_DEPTH)

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Take another map or model."""
        self._localizer = loaded.localizer if loaded.localizer.has_activation_maps else None

    def answered(self, localized: Localized, header: Header) -> None:
        """Publish an image, in the camera's frame."""
        localizer, query = self._localizer, localized.query
        if localizer and query and self._image.get_subscription_count():
            heat = localizer.activation_map(query, localized.answer.record)
            picture = overlay_heat(query.frame.image, heat)
            self._image.publish(conversions.image_to_message(picture, header))
