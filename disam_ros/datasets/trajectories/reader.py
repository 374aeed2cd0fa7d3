# SPDX-License-Identifier: Apache-2.0
"""Poses of a drive from a file, as SLAM systems, evo and GNSS post-processing write them.

header   a line of names, as a comment or not, says which columns are time, position and
         quaternion, in any order and with any others: EuRoC, OpenVINS, messages as tables
TUM      lines `timestamp tx ty tz qx qy qz qw`; further fields are not read but rtabmap's id
EuRoC    without header: `timestamp,x,y,z,qw,qx,qy,qz…` with commas and nanoseconds; VINS-Fusion
KITTI    lines of a matrix [3, 4] by rows; seconds are the lines of times.txt beside the file
table    comma-separated with a header: a time, `latitude`, `longitude` and, where known, `altitude`
         and `heading` [deg] clockwise from north
RTKLIB   a solution (.pos) in latitude and longitude or x y z, of any time system

Times are of the unit that the header names, else seconds, and where these would be too many the
unit that makes them dates; or ISO 8601.
"""

from __future__ import annotations

import logging
from pathlib import Path

from disam_ros.datasets.trajectories.columns import columns_of, is_header
from disam_ros.datasets.trajectories.geodetic import read_table
from disam_ros.datasets.trajectories.rtklib import read_solution
from disam_ros.datasets.trajectories.text import EXPECTED, read_rows
from disam_ros.datasets.trajectories.trajectory import Trajectory
from disam_ros.errors import DatasetError
from disam_ros.files.reading import parsing, read_lines
from disam_ros.geodesy import Origin
from disam_ros.plausibility import without_strays
from disam_ros.pose_buffer import sort_by_stamp

logger = logging.getLogger(__name__)


def read_trajectory(path: Path | str, origin: Origin | None = None) -> Trajectory:
    """Read a file in one of the formats above, recognized by its first lines.

    origin: of the map frame of a file of latitude and longitude; None: its first row. Without a
    heading, the vehicle faces where it drives. Raises DatasetError.
    """
    with parsing(Path(path), DatasetError):
        return _read(Path(path), origin)


def _read(path: Path, origin: Origin | None) -> Trajectory:
    place = None
    _require_no_dump(path)
    first = next((line for line in read_lines(path, DatasetError) if line.strip()), "")
    if columns_of(first) is not None or first.lstrip().startswith("#") or not is_header(first):
        stamps, poses = read_rows(path)
    elif first.startswith("%"):
        stamps, poses, place = read_solution(path, origin)
    else:
        stamps, poses, place = read_table(path, origin)
    if len(set(stamps)) < 2:
        raise DatasetError(f"{path} holds {len(set(stamps))} poses; expected {EXPECTED}")
    track, text = without_strays(sort_by_stamp(stamps, poses))
    if text:
        logger.warning("%s: %s", path, text)
    return Trajectory(*track, place)


def _require_no_dump(path: Path) -> None:
    """Raise DatasetError for the folder that GLIM dumps, which holds a file per frame."""
    if (path / "traj_lidar.txt").is_file():
        raise DatasetError(
            f"{path} is a dump of GLIM: give {path / 'traj_lidar.txt'} and, with "
            f"--trajectory-frame, the LiDAR's frame of /tf_static; or traj_imu.txt and the IMU's"
        )
