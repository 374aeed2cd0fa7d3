# SPDX-License-Identifier: Apache-2.0
"""Poses from a file in place of a topic of the bag."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from disam_ros.camera import Camera
from disam_ros.datasets.bags.poses import read_base_from_camera
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.clock_offset import Track, clock_offset, require_same_hand
from disam_ros.datasets.trajectories import Trajectory
from disam_ros.errors import BagError
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenTrajectory:
    """A trajectory for the images of a bag.

    frame: whose poses they are, one of /tf_static or a camera's name; empty: the vehicle's base.
    offset: seconds from the trajectory's clock to the bag's; None: found by the bag's odometry.
    """

    trajectory: Trajectory
    frame: str = ""
    offset: float | None = 0.0

    @property
    def identity(self) -> str:
        return f"{self.trajectory.identity} {self.frame} {self.offset}"

    def of_base(
        self,
        reader: BagReader,
        base_frame: str,
        cameras: Mapping[str, Camera],
        odometry: Track | None,
    ) -> Trajectory:
        """map_from_base on the bag's clock. Raises BagError where the bag lacks what that needs,
        DatasetError where motion does not tell the offset, or tells that the frame is wrong."""
        trajectory = self.trajectory.of_base(self._extrinsics(reader, base_frame, cameras))
        offset = self.offset
        if offset is None:
            if odometry is None:
                raise BagError(
                    f"bag {reader.path} has no odometry to find the time offset by: give "
                    f"--time-offset in seconds"
                )
            offset = clock_offset((trajectory.stamps, trajectory.poses), odometry)
            logger.info("%s: the trajectory's clock is %.3f s behind", reader.path, offset)
        found = trajectory.shifted(offset)
        if odometry is not None and len(odometry[0]) > 1:
            require_same_hand((found.stamps, found.poses), odometry)
        return found

    def _extrinsics(
        self, reader: BagReader, base_frame: str, cameras: Mapping[str, Camera]
    ) -> Transform:
        if self.frame in ("", base_frame):
            return Transform.identity()
        if self.frame in cameras:
            return cameras[self.frame].base_from_camera
        found = read_base_from_camera(reader, self.frame, base_frame)
        if found is None:
            raise BagError(
                f"bag {reader.path}: /tf_static does not lead from {base_frame} to "
                f"'{self.frame}', whose poses the trajectory has; expected a frame of it or a "
                f"camera of {', '.join(cameras)}"
            )
        return found


def require_overlap(trajectory: Trajectory, first_ns: int, last_ns: int, bag: object) -> None:
    """Raise BagError where a trajectory has no time in common with the images."""
    start, end = int(trajectory.stamps[0]), int(trajectory.stamps[-1])
    if start > last_ns or end < first_ns:
        raise BagError(
            f"the trajectory covers {start / 1e9:.3f} to {end / 1e9:.3f} s, the images of bag "
            f"{bag} {first_ns / 1e9:.3f} to {last_ns / 1e9:.3f} s: give the time offset between "
            f"their clocks, --time-offset SECONDS or auto"
        )
