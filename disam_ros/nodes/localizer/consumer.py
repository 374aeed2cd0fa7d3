# SPDX-License-Identifier: Apache-2.0
"""Initial poses for the consumer, published by themselves where `initialize` says so."""

from __future__ import annotations

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode

from disam_ros import geometry
from disam_ros.config import LocalizerConfig
from disam_ros.localization.query import Answer
from disam_ros.localization.sequence.odometry import OdometryTrack, Reading
from disam_ros.node_config import NEVER, RECOVER, LocalizerNodeConfig
from disam_ros.nodes.localizer.consumer_pose import TOPIC, ConsumerPose
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.tf import Tf
from disam_ros.slam.agreement import AGREEING, Motion, StampedPose
from disam_ros.slam.supervisor import (
    PATIENCE_NS,
    State,
    Supervisor,
    is_confident,
)

LOST = "consumer_lost"  # on ~/state
SENT = "initial poses"


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
        answer: Answer,
        message: PoseWithCovarianceStamped | None,
        stamp_ns: int | None,
        odometry: Reading | None,
        config: LocalizerConfig,
    ) -> None:
        """Take an answer and publish it where an initial pose is due. message: None: unknown."""
        supervisor = self._supervisor
        if supervisor is None:
            return
        if message is None or stamp_ns is None or not self._confident(answer, config):
            supervisor.unsure()
            return
        now, theirs = StampedPose(stamp_ns, answer.pose, odometry), self._pose.at(stamp_ns)
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
            metres, degrees = geometry.distance(now.pose.pose, moved.pose)
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
        self._monitor.warn_once(key, text, hold=None)


def limits_of(config: LocalizerConfig) -> Motion:
    """The limits of motion by a localizer's settings."""
    return Motion(config.sequence.odometry_noise, config.max_speed)
