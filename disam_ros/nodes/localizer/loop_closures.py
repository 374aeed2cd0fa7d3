# SPDX-License-Identifier: Apache-2.0
"""The topic ~/loop_closure: places of this drive, or of the map, met again (loop_closure.py)."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from disam_ros.config import LoopClosureConfig
from disam_ros.errors import LoopClosureError
from disam_ros.localization.answer import Answer
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.odometry import Reading
from disam_ros.localization.query import Frame, Query
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.slam.keypoints import View
from disam_ros.slam.loop_closure import LoopCloser, map_match
from disam_ros.slam.loop_hint import MAP, NAME, OWN, Hint, summary, to_values

DEPTH = 100  # messages kept for reliable subscribers that lag
NEW_DRIVES, REFUSED = "drives begun anew", "keyframes refused"
VERIFIED = "loop closures own verified by points"


class LoopClosures:
    """Finds and publishes hints; the images of each camera are a drive of their own.

    base_frame: what the hints relate.
    """

    def __init__(
        self, node: LifecycleNode, monitor: Monitor, config: LoopClosureConfig, base_frame: str
    ) -> None:
        self._node, self._monitor = node, monitor
        self._config, self._base_frame = config, base_frame
        self._closers: dict[str, LoopCloser] = {}
        self._last_ns: dict[str, int] = {}
        self._drives: dict[str, int] = {}  # number of odometry's frame
        self._blind: set[str] = set()  # cameras whose intrinsics are not known
        self._publisher = None
        if config.enabled:
            topic = "~/loop_closure"
            self._publisher = node.create_lifecycle_publisher(DiagnosticArray, topic, DEPTH)
            counts = (f"loop closures {kind}" for kind in (OWN, MAP))
            monitor.start_counts(*counts, VERIFIED, NEW_DRIVES, REFUSED)

    def reset(self) -> None:
        """Forget the drive: descriptors or the map are others from now on."""
        self._closers.clear()
        self._blind.clear()

    def destroy(self) -> None:
        """Take the publisher down."""
        if self._publisher is not None:
            self._node.destroy_lifecycle_publisher(self._publisher)

    def add(
        self,
        localizer: Localizer,
        query: Query,
        answer: Answer,
        reading: Reading | None,
        stamp: Header,
    ) -> None:
        """Add an image and its answer. reading: odometry at its stamp; without it, nothing."""
        frame, stamp_ns = query.frame, query.frame.stamp_ns
        if self._publisher is None or stamp_ns is None or reading is None:
            return
        closer = self._closer(frame.camera, stamp_ns)
        if self._drives.setdefault(frame.camera, reading.drive) != reading.drive:
            closer.lose_odometry()
            self._drives[frame.camera] = reading.drive
        odometry, fine = reading.odom_from_base, query.fine.flatten().cpu().numpy()
        match = map_match(localizer, query, answer)
        view = self._view(frame)
        try:
            hints = closer.add(stamp_ns, odometry, query.coarse, fine, view)
            hints += closer.map_hint(stamp_ns, odometry, match)
        except LoopClosureError as error:
            self._monitor.count(REFUSED)
            self._tell(f"no keyframe for loop closures: {error}")
            return
        self._monitor.fact("keyframes of this drive", sum(map(len, self._closers.values())))
        for hint in hints:
            self._monitor.count(f"loop closures {hint.kind}")
            self._monitor.count(VERIFIED, int(hint.kind == OWN and hint.relation.inliers > 0))
            self._publisher.publish(message_of(hint, frame.camera, stamp, self._base_frame))

    def _view(self, frame: Frame) -> View | None:
        """What verifies hints of the drive; None without intrinsics, which is reported once."""
        if not self._config.points:
            return None
        name, lens = frame.camera, frame.lens
        if lens is not None and lens.calibrated:
            return View(frame.image, lens)
        if name not in self._blind:
            self._blind.add(name)
            self._tell(
                f"neither camera_info nor the map tells intrinsics of camera '{name}': loop "
                f"closures of the drive are not verified by points; publish camera_info, or set "
                f"loop_closure.points to 0"
            )
        return None

    def _closer(self, camera: str, stamp_ns: int) -> LoopCloser:
        """That of a camera; a new one where the clock was set back."""
        last, self._last_ns[camera] = self._last_ns.get(camera, stamp_ns), stamp_ns
        if stamp_ns < last and self._closers.pop(camera, None) is not None:
            self._monitor.count(NEW_DRIVES)
            self._tell("stamps went backwards: the drive begins anew for loop closures")
        return self._closers.setdefault(camera, LoopCloser(self._config))

    def _tell(self, text: str) -> None:
        if self._monitor.problem("loop closure", text):
            self._node.get_logger().warning(text)


def message_of(hint: Hint, camera: str, stamp: Header, base_frame: str) -> DiagnosticArray:
    """The message of a hint (docs/slam.md). stamp: the image's header."""
    pairs = [KeyValue(key=key, value=value) for key, value in to_values(hint).items()]
    status = DiagnosticStatus(
        name=NAME,
        hardware_id=camera,
        level=DiagnosticStatus.OK,
        message=summary(hint),
        values=pairs,
    )
    return DiagnosticArray(header=Header(stamp=stamp.stamp, frame_id=base_frame), status=[status])
