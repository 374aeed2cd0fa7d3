# SPDX-License-Identifier: Apache-2.0
"""The topic ~/loop_closure: loop closures of this drive and with the map (slam/loop_closure.py)."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float64MultiArray, Header

from disam_ros.config import LoopClosureConfig
from disam_ros.errors import LoopClosureError
from disam_ros.localization.pipeline import Localized
from disam_ros.localization.query import Frame
from disam_ros.models.arrays import as_numpy
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.slam.keyframe_depths import View
from disam_ros.slam.loop_closure import LoopCloser
from disam_ros.slam.loop_closure_message import MAP, NAME, OWN, LoopClosure, summary, to_values
from disam_ros.slam.map_match import map_match

DEPTH = 100  # messages kept for reliable subscribers that lag
NEW_DRIVES, REFUSED = "drives started over", "keyframes refused"
VERIFIED = "loop closures own verified by keypoints"


class LoopClosures(Part):
    """Detects and publishes loop closures; the images of each camera are a drive of their own.

    base_frame: the vehicle's frame, which the relative poses are of. After an error a drive starts
    over.
    """

    title = "loop closure detection"

    def __init__(
        self, node: LifecycleNode, monitor: Monitor, config: LoopClosureConfig, base_frame: str
    ) -> None:
        super().__init__(node, monitor)
        self._config, self._base_frame = config, base_frame
        self._closers: dict[str, LoopCloser] = {}
        self._last_ns: dict[str, int] = {}
        self._loaded: Loaded | None = None
        self._blind: set[str] = set()  # cameras whose intrinsics are not known
        self._enabled = config.enabled
        if self._enabled:
            self._closures = self._publisher(DiagnosticArray, "~/loop_closure", DEPTH)
            self._times = self._publisher(Float64MultiArray, "~/loop_closure_times", DEPTH)
            counts = (f"loop closures {kind}" for kind in (OWN, MAP))
            monitor.start_counts(*counts, VERIFIED, NEW_DRIVES, REFUSED)

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Forgets the drive where the map or the model changes, and descriptors with them."""
        if loaded is not self._loaded:
            self._loaded = loaded
            self._closers.clear()
            self._blind.clear()

    def answered(self, localized: Localized, header: Header) -> None:
        """Add an image and its answer; without odometry loop closures are of the drive only, and of
        unknown scale."""
        query, answer, odometry = localized.query, localized.answer, localized.shot.odometry
        frame, stamp_ns = localized.shot.frame, localized.shot.frame.stamp_ns
        if not self._enabled or stamp_ns is None or query is None or self._loaded is None:
            return
        closer, fine = self._closer(frame.camera, stamp_ns), as_numpy(query.fine)
        try:
            closures = closer.add(stamp_ns, odometry, query.coarse, fine, self._view(frame))
            if odometry is not None:
                match = map_match(self._loaded.localizer, query, answer)
                closures += closer.add_map_match(stamp_ns, odometry, match)
        except LoopClosureError as error:
            self._warn(f"no keyframe for loop closures: {error}")
            self._monitor.count(REFUSED)
            return
        except Exception:  # it may be half-way through the keyframe
            del self._closers[frame.camera]
            raise
        self._monitor.fact("keyframes of this drive", sum(map(len, self._closers.values())))
        for closure in closures:
            self._closures.publish(message_of(closure, frame.camera, header, self._base_frame))
            if closure.kind == OWN:
                self._times.publish(times_of(closure))
            self._monitor.count(f"loop closures {closure.kind}")
            self._monitor.count(VERIFIED, int(closure.kind == OWN and closure.inliers > 0))

    def _view(self, frame: Frame) -> View | None:
        """The view that verifies loop closures of the drive; None without intrinsics, which is
        reported once."""
        if not self._config.keypoints:
            return None
        name, lens = frame.camera, frame.lens
        if lens is not None and lens.calibrated:
            return View(frame.image, lens, frame.warp)
        if name not in self._blind:
            self._blind.add(name)
            self._warn(
                f"neither camera_info nor the map has intrinsics of camera '{name}': loop "
                f"closures of the drive are not verified by keypoints; publish camera_info, or "
                f"set loop_closure.keypoints to 0"
            )
        return None

    def _closer(self, camera: str, stamp_ns: int) -> LoopCloser:
        """The detector of a camera; a new one where the clock was set back."""
        last, self._last_ns[camera] = self._last_ns.get(camera, stamp_ns), stamp_ns
        if stamp_ns < last and self._closers.pop(camera, None) is not None:
            self._warn("stamps went backwards: the drive starts over for loop closures")
            self._monitor.count(NEW_DRIVES)
        return self._closers.setdefault(camera, LoopCloser(self._config))

    def _warn(self, text: str) -> None:
        self._monitor.warn_once("loop closure", text)


def times_of(closure: LoopClosure) -> Float64MultiArray:
    """The two stamps [s], now and then, as LIO-SAM takes loops found by others."""
    return Float64MultiArray(data=[closure.stamp_ns / 1e9, closure.keyframe_stamp_ns / 1e9])


def message_of(
    closure: LoopClosure, camera: str, stamp: Header, base_frame: str
) -> DiagnosticArray:
    """The message of a loop closure (docs/slam.md). stamp: the image's header."""
    pairs = [KeyValue(key=key, value=value) for key, value in to_values(closure).items()]
    status = DiagnosticStatus(
        name=NAME,
        hardware_id=camera,
        level=DiagnosticStatus.OK,
        message=summary(closure),
        values=pairs,
    )
    return DiagnosticArray(header=Header(stamp=stamp.stamp, frame_id=base_frame), status=[status])
