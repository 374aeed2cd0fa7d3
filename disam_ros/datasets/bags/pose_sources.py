# SPDX-License-Identifier: Apache-2.0
"""Sources of the poses of a bag's images: a topic, a file, or fixes and odometry (fixes.py)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.poses import PoseSearch, read_poses
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.tf import TfTree
from disam_ros.datasets.bags.video import packet_of
from disam_ros.datasets.clock_offset import clock_offset, require_same_hand
from disam_ros.datasets.trajectories.trajectory import Trajectory, clock_hint, span_text
from disam_ros.errors import BagError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import Track, sort_by_stamp

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """An open bag, its cameras and odometry, from which poses are read."""

    reader: BagReader
    tree: TfTree
    map_frame: str
    base_frame: str
    image_topics: Mapping[str, str]  # by camera
    cameras: Mapping[str, Camera]
    odometry_topic: str  # empty: there is none
    odometry: Track | None  # odom_from_base as recorded; None: there is none
    max_gap_ns: int  # longest time between poses across which is interpolated
    assumed_mounts: Collection[str] = ()  # cameras whose extrinsics nobody knows

    @property
    def search(self) -> PoseSearch:
        """What a search for poses needs."""
        odometry = None
        if self.odometry is not None:
            odometry = self.odometry_topic, sort_by_stamp(*self.odometry)
        return PoseSearch(
            self.reader,
            self.tree,
            self.map_frame,
            self.base_frame,
            self.span(),
            odometry,
            self.max_gap_ns,
        )

    def span(self) -> tuple[int, int]:
        """Stamps [ns] of the first image and, as the log times go on, of the last."""
        reader = self.reader
        first = next(iter(reader.raw([*self.image_topics.values()])), None)
        if first is None:
            return reader.start_ns, reader.end_ns
        try:
            message = reader.decode(first)
            packet = packet_of(message)
            start_ns = messages.stamp_ns(message) if packet is None else packet.stamp_ns
        except BagError:
            start_ns = first.stamp_ns
        return start_ns, start_ns + reader.end_ns - first.stamp_ns


class PoseSource(Protocol):
    """A source of the vehicle's poses in a recording."""

    @property
    def identity(self) -> str:
        """A text that differs where the poses do."""

    def read(self, recording: Recording) -> Trajectory:
        """Read map_from_base on the clock of the images. Raises BagError or DatasetError."""


@dataclass(frozen=True)
class TopicPoses:
    """Poses of a topic of the bag (`read_poses`)."""

    topic: str = ""  # empty: the best one recorded
    required: bool = True  # False: poses that are absent or in another frame count as unknown

    @property
    def identity(self) -> str:
        """The topic."""
        return self.topic

    def read(self, recording: Recording) -> Trajectory:
        """Read the poses. Raises BagError where they are required, and for a topic that is not."""
        reader = recording.reader
        try:
            track = read_poses(recording.search, self.topic, any_frame=self.required)
            if self.required:
                require_overlap(track.stamps, recording)
        except BagError as error:
            if self.required or (self.topic and self.topic not in reader.topics()):
                raise
            return Trajectory.unknown(str(error))
        return Trajectory(*track)


@dataclass(frozen=True)
class FilePoses:
    """Poses of a file (`read_trajectory`)."""

    trajectory: Trajectory
    frame: str = ""  # whose poses they are: a frame of /tf_static or a camera; empty: the base
    offset: float | None = 0.0  # from their clock to the bag's [s]; None: found by odometry

    @property
    def identity(self) -> str:
        """The file's poses, their frame and offset."""
        return f"{self.trajectory.identity} {self.frame} {self.offset}"

    def read(self, recording: Recording) -> Trajectory:
        """Bring the poses to the base and the bag's clock.

        Raises BagError where the bag lacks what that needs or has no time in common with them,
        DatasetError where motion does not tell the offset, or tells that the frame is wrong.
        """
        assumed = self.frame in recording.assumed_mounts
        trajectory = self.trajectory.for_base(self._mount(recording), assumed)
        offset, odometry = self.offset, recording.odometry
        if offset is None:
            if odometry is None:
                raise BagError(
                    f"bag {recording.reader.path} has no odometry to find the time offset by: give "
                    f"--time-offset in seconds"
                )
            offset = clock_offset(trajectory.track, odometry)
            logger.info(
                "%s: the trajectory's clock is %.3f s behind", recording.reader.path, offset
            )
        trajectory = trajectory.shifted(offset)
        if odometry is not None and len(odometry.stamps) > 1:
            require_same_hand(trajectory.track, odometry)
        require_overlap(trajectory.stamps, recording, from_file=True)
        return trajectory

    def _mount(self, recording: Recording) -> Transform:
        """base_from_body of the body whose poses they are. Raises BagError."""
        base, cameras = recording.base_frame, recording.cameras
        if self.frame in ("", base):
            return Transform.identity()
        if self.frame in cameras:
            return cameras[self.frame].base_from_camera
        mount = recording.tree.fixed(base, self.frame)
        if mount is None:
            raise BagError(
                f"bag {recording.reader.path}: TF does not lead from {base} to "
                f"'{self.frame}', whose poses the trajectory has; expected a frame of it or a "
                f"camera of {', '.join(cameras)}"
            )
        return mount


def require_overlap(
    stamps: NDArray[np.int64], recording: Recording, from_file: bool = False
) -> None:
    """Raise BagError where poses have no time in common with the images, with both spans."""
    first_ns, last_ns = recording.span()
    if len(stamps) and stamps[0] <= last_ns and stamps[-1] >= first_ns:
        return
    images = span_text([first_ns, last_ns])
    poses = span_text(stamps) if len(stamps) else "no time"
    remedy = (
        "give the time offset between their clocks, --time-offset SECONDS or auto"
        if from_file
        else "they are of different clocks; --stamps recorded takes the times of recording for both"
    )
    source = "the trajectory covers" if from_file else "the poses cover"
    raise BagError(
        f"{source} {poses}, the images of bag {recording.reader.path} {images}"
        f"{clock_hint(stamps, first_ns)}: {remedy}"
    )
