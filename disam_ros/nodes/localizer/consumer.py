# SPDX-License-Identifier: Apache-2.0
"""The consumer of poses: its own pose, from the topic consumer_pose, else TF map → base; initial
poses for it, published by themselves where `initialize` says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from disam_ros.config import LocalizerConfig
from disam_ros.errors import GeometryError
from disam_ros.geometry import PoseWithCovariance, Transform, distance
from disam_ros.localization.pipeline import Localized
from disam_ros.localization.query import Answer
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.node_config import NEVER, RECOVER, LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.tf import Tf
from disam_ros.slam.agreement import AGREEING, Motion, StampedPose
from disam_ros.slam.supervisor import PATIENCE_NS, State, Supervisor, is_confident

TOPIC = "consumer_pose"
LOST = "consumer_lost"  # on ~/state
SENT = "initial poses"


class ConsumerPose(Part):
    """Keeps the newest pose of the consumer. tf: None: TF is not asked."""

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        track: OdometryTrack,
        tf: Tf | None,
        base_frame: str,
    ) -> None:
        super().__init__(node, monitor)
        self._track, self._tf = track, tf
        self._map_frame, self._base_frame = "", base_frame
        self._heard: StampedPose | None = None
        qos = QoSProfile(depth=10)
        self._subscriptions.add(PoseWithCovarianceStamped, TOPIC, self._on_pose, qos)

    def adopt(self, map_frame: str) -> None:
        """Takes the frame of a map's poses, and forgets the pose on the last one."""
        self._map_frame, self._heard = map_frame, None

    def at(self, stamp_ns: int) -> StampedPose | None:
        """The newest one, with the odometry at its own stamp. stamp_ns: when TF is asked."""
        heard = self._heard
        if heard is not None:  # it may have come before the odometry of its stamp
            return replace(heard, odometry=self._track.reading(heard.stamp_ns) or heard.odometry)
        if self._tf is None:
            return None
        try:
            pose, pose_ns = self._tf.look_up(self._map_frame, self._base_frame, stamp_ns)
        except (LookupError, GeometryError):
            return None
        return self._stamped(pose_ns, pose, np.zeros((6, 6)))

    def _stamped(
        self, stamp_ns: int, pose: Transform, covariance: NDArray[np.float64]
    ) -> StampedPose:
        consumer_pose = PoseWithCovariance(pose, covariance)
        return StampedPose(stamp_ns, consumer_pose, self._track.reading(stamp_ns))

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        frame = conversions.frame_of(message.header)
        try:
            if frame != self._map_frame:
                raise GeometryError(
                    f"its frame is '{frame}', expected '{self._map_frame}': give the consumer that "
                    "name for its map, or remap consumer_pose to another topic"
                )
            pose = conversions.pose_to_transform(message.pose.pose)
        except GeometryError as error:
            text = f"a pose on {self._node.resolve_topic_name(TOPIC)} is not used: {error}"
            self._monitor.warn_once(TOPIC, text)
            return
        self._monitor.solved(TOPIC)
        stamp_ns = conversions.stamp_to_ns(message.header)
        self._heard = self._stamped(stamp_ns, pose, conversions.covariance_of(message))


class Consumer(Part):
    """Publishes ~/initial_pose: on request, and with `initialize` by itself.

    tf: None where TF is not asked for the consumer's pose.
    """

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        config: LocalizerNodeConfig,
        track: OdometryTrack,
        tf: Tf | None,
    ) -> None:
        super().__init__(node, monitor)
        self._mode = config.initialize
        self._initial_pose = self._publisher(PoseWithCovarianceStamped, "~/initial_pose", 1)
        self._supervisor: Supervisor | None = None
        self._loaded: Loaded | None = None
        if self._mode == NEVER:
            return
        if config.publish_tf:
            tf = None  # it is our own
        self._pose = ConsumerPose(node, monitor, track, tf, config.base_frame)
        self._supervisor = self._begin(config.localizer)
        self._reported = State.WAITING
        monitor.start_counts(SENT)

    @property
    def lost(self) -> bool:
        """Whether confident answers contradict the consumer."""
        return self._supervisor is not None and self._supervisor.lost

    def destroy(self) -> None:
        """Give back topics."""
        super().destroy()
        if self._supervisor is not None:
            self._pose.destroy()

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes settings that changed. The consumer's pose on another map says nothing."""
        if self._supervisor is None:
            return
        self._supervisor.limits = limits_of(config.localizer)
        if loaded is not self._loaded:
            self._loaded = loaded
            self._pose.adopt(loaded.header.map_frame)
            started, self._supervisor = self._supervisor.started, self._begin(config.localizer)
            self._supervisor.started = started

    def supervise(
        self,
        localized: Localized,
        message: PoseWithCovarianceStamped | None,
        config: LocalizerConfig,
    ) -> None:
        """Take an answer and publish it where an initial pose is due. message: None: unknown."""
        supervisor, answer, shot = self._supervisor, localized.answer, localized.shot
        if supervisor is None:
            return
        stamp_ns = shot.frame.stamp_ns
        if message is None or stamp_ns is None or not self._confident(answer, config):
            supervisor.unsure()
            return
        now, theirs = StampedPose(stamp_ns, answer.pose, shot.odometry), self._pose.at(stamp_ns)
        due = supervisor.answered(now, theirs)
        self._report(supervisor, now, theirs)
        if due and self._is_heard():
            self.start(message, stamp_ns)

    def start(self, message: PoseWithCovarianceStamped, stamp_ns: int | None) -> None:
        """Publish an initial pose, once: a consumer restarts with each message."""
        self._initial_pose.publish(message)
        if self._supervisor is None or stamp_ns is None:
            return
        self._supervisor.sent(stamp_ns)
        self._monitor.count(SENT)
        at = message.pose.pose.position
        topic = self._initial_pose.topic_name
        self._node.get_logger().info(f"initial pose on {topic}: x {at.x:.1f} m, y {at.y:.1f} m")

    def _begin(self, config: LocalizerConfig) -> Supervisor:
        return Supervisor(self._mode == RECOVER, limits_of(config))

    def _confident(self, answer: Answer, config: LocalizerConfig) -> bool:
        if config.min_probability == 0.0 and not answer.inliers:
            text = (
                f"initialize is '{self._mode}', but every place counts as known: only places "
                "verified by keypoints are taken; set localizer.min_probability above 0"
            )
            self._warn("initialize", text)
            return False
        return is_confident(answer)

    def _is_heard(self) -> bool:
        """Whether somebody takes initial poses; reported if not."""
        if self._initial_pose.get_subscription_count():
            self._monitor.solved("initial pose")
            return True
        text = (
            f"an initial pose is due, but nothing subscribes to {self._initial_pose.topic_name}: "
            "start the consumer, or remap ~/initial_pose to its initialpose"
        )
        self._warn("initial pose", text)
        return False

    def _report(self, supervisor: Supervisor, now: StampedPose, theirs: StampedPose | None) -> None:
        state = supervisor.state
        self._monitor.fact("consumer", state.value)
        if theirs is not None:
            moved = theirs.at(now, supervisor.limits)
            metres, degrees = distance(now.pose.pose, moved.pose)
            self._monitor.fact("consumer off by", f"{metres:.2f} m, {degrees:.1f}°")
        if state is self._reported:
            return
        self._reported = state
        if remedy := self._remedy(state):
            self._warn("consumer", remedy)
        elif state is State.AGREES:
            self._monitor.solved("consumer")

    def _remedy(self, state: State) -> str:
        """A line about a state that needs somebody; empty for others."""
        theirs = self._node.resolve_topic_name(TOPIC)
        if state is State.MUTE:
            return (
                f"the consumer got an initial pose and published none for {PATIENCE_NS / 1e9:g} s: "
                f"remap consumer_pose (now {theirs}) to its pose, or install tf2_ros for TF; "
                "until then it is not known whether it is lost"
            )
        if state is State.DEAF:
            return (
                f"{LOST}: the consumer contradicts {AGREEING} answers although it got an initial "
                "pose: check that its map has the frame and origin of ours, and that it takes "
                "initial poses (slam_toolbox: mode localization)"
            )
        if state is State.LOST:
            then = "it gets an initial pose"
            if self._mode != RECOVER:
                then = "call ~/relocalize, or set initialize to recover"
            return f"{LOST}: the consumer contradicts {AGREEING} answers in a row: {then}"
        return ""

    def _warn(self, key: str, text: str) -> None:
        self._monitor.lasting(key, text)


def limits_of(config: LocalizerConfig) -> Motion:
    """The limits of motion by a localizer's settings."""
    return Motion(config.sequence.odometry_noise, config.max_speed)
