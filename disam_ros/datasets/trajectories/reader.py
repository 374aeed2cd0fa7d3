# SPDX-License-Identifier: Apache-2.0
"""Poses of a drive from a file, as SLAM systems, evo and GNSS post-processing write them.

TUM      lines `timestamp tx ty tz qx qy qz qw`, seconds, or nanoseconds as ORB-SLAM3 writes them
         for EuRoC; a ninth field is rtabmap's id
KITTI    lines of a matrix [3, 4] by rows; seconds are the lines of times.txt beside the file
EuRoC    `#timestamp…` header, then `timestamp,x,y,z,qw,qx,qy,qz…`, nanoseconds
table    comma-separated with a header: `stamp_ns` or seconds (`timestamp`, `time`), `latitude`,
         `longitude` and, where known, `altitude` and `heading` [deg] clockwise from north
RTKLIB   a solution (.pos) in latitude and longitude or x y z, of any time system
"""

from __future__ import annotations

from pathlib import Path

from disam_ros.datasets.trajectories.geodetic import read_table
from disam_ros.datasets.trajectories.rtklib import read_solution
from disam_ros.datasets.trajectories.text import EXPECTED, read_euroc, read_rows
from disam_ros.datasets.trajectories.trajectory import Trajectory
from disam_ros.errors import DatasetError
from disam_ros.files.reading import read_lines
from disam_ros.geodesy import Origin
from disam_ros.pose_buffer import sort_by_stamp


def read_trajectory(path: Path | str, origin: Origin | None = None) -> Trajectory:
    """Read a file in one of the formats above, recognized by its first lines.

    origin: of the map frame of a file of latitude and longitude; None: its first row. Without a
    heading, the vehicle faces where it drives. Raises DatasetError.
    """
    path, place = Path(path), None
    _require_no_dump(path)
    first = next((line for line in read_lines(path, DatasetError) if line.strip()), "")
    if first.startswith("%"):
        stamps, poses, place = read_solution(path, origin)
    elif "," not in first:
        stamps, poses = read_rows(path)
    elif first.lstrip().startswith("#"):
        stamps, poses = read_euroc(path)
    else:
        stamps, poses, place = read_table(path, origin)
    if len(set(stamps)) < 2:
        raise DatasetError(f"{path} holds {len(set(stamps))} poses; expected {EXPECTED}")
    return Trajectory(*sort_by_stamp(stamps, poses), place)


def _require_no_dump(path: Path) -> None:
    """Raise DatasetError for the folder that GLIM dumps, which holds a file per frame."""
    if (path / "traj_lidar.txt").is_file():
        raise DatasetError(
            f"{path} is a dump of GLIM: give {path / 'traj_lidar.txt'} and, with "
            f"--trajectory-frame, the LiDAR's frame of /tf_static; or traj_imu.txt and the IMU's"
        )
