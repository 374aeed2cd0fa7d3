# SPDX-License-Identifier: Apache-2.0
"""Poses from the satellite fixes and the odometry of a bag, where it holds none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import FIX_DEVIATION
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.pose_sources import Recording
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.smoothing import Fixes, smooth
from disam_ros.datasets.trajectories import Trajectory
from disam_ros.errors import BagError
from disam_ros.fixes import MapPlace, deviation_of, place_of
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS, PoseBuffer, Track, sort_by_stamp

logger = logging.getLogger(__name__)

LEAST_SIGMA = 0.05  # antennas are not placed better [m]
STANDS = 0.01  # speed below which a vehicle stands [m/s]


@dataclass(frozen=True)
class FixPoses:
    """Poses smoothed from fixes and odometry (`smooth`), in metres east and north."""

    gyro: bool = False  # take turns from the IMU in place of odometry's, as for skid steering
    origin: Origin | None = None  # of the map frame; None: the first fix
    max_gap: float = 0.5  # time over which odometry is continued [s]
    fix_deviation: float = FIX_DEVIATION  # of fixes whose covariance is unknown, 1 σ [m]

    @property
    def identity(self) -> str:
        """The settings."""
        return f"fix+odometry {self.gyro} {self.origin} {self.max_gap} {self.fix_deviation}"

    def read(self, recording: Recording) -> Trajectory:
        """Smooth the poses. Raises BagError where the bag lacks fixes or odometry, DatasetError
        where these do not tell a path."""
        reader, odometry = recording.reader, recording.odometry
        if odometry is None or len(odometry.stamps) < 2:
            raise BagError(f"bag {reader.path} has no odometry to smooth fixes with")
        fixes, origin, antenna = read_fixes(reader, self.origin, self.fix_deviation)
        mount = recording.tree.fixed(recording.base_frame, antenna)
        arm = np.zeros(3) if mount is None else mount.translation
        lever = Transform(arm, Transform.identity().quaternion)
        stamps, bases = sort_by_stamp(*odometry)
        track = Track(stamps, [pose @ lever for pose in bases])
        turns = read_turns(reader, track) if self.gyro else None
        smoothed = smooth(track, fixes, round(self.max_gap * NANOSECONDS), turns)
        back = lever.inverse()
        return Trajectory(smoothed.stamps, [pose @ back for pose in smoothed.poses], origin)


def read_fixes(
    reader: BagReader, origin: Origin | None = None, deviation: float = FIX_DEVIATION
) -> tuple[Fixes, Origin, str]:
    """Read the valid fixes of the topic with most of them.

    origin: of their metres; None: the first fix. deviation: of those of unknown
    covariance [m]. Returns the fixes, the origin and the frame of the antenna. Raises BagError
    where there is no fix.
    """
    topics = reader.topics_of(messages.FIX)
    rows: dict[int, tuple[float, ...]] = {}
    frame, refused = "", 0
    for _, fix in reader.messages(topics[:1] or ["/fix"]):
        place = place_of(fix)
        if place is None:
            refused += 1
            continue
        sigma = max(deviation_of(fix, deviation), LEAST_SIGMA)
        height = fix.altitude if np.isfinite(fix.altitude) else 0.0
        rows.setdefault(messages.stamp_ns(fix), (*place, height, sigma))
        frame = frame or fix.header.frame_id.lstrip("/")
    _report_refused(reader, topics, refused)
    if not rows:
        raise BagError(f"bag {reader.path}: {', '.join(topics) or '/fix'} holds no valid fix")
    stamps = np.array(sorted(rows), np.int64)
    values = np.array([rows[stamp] for stamp in stamps])
    origin = origin or Origin(*values[0, :2].tolist())
    return Fixes(stamps, origin.to_map(values[:, :2], values[:, 2]), values[:, 3]), origin, frame


def find_origin(reader: BagReader, track: PoseBuffer) -> Origin | None:
    """Register the map frame of poses to the fixes of the topic with most of them, and report it.

    The result's yaw is reported, not kept, as of the live map builder. None: there are no fixes,
    or no place follows from them.
    """
    topics = reader.topics_of(messages.FIX)[:1]
    if not topics or not len(track):
        return None
    place, refused = MapPlace(), 0
    for _, fix in reader.messages(topics):
        degrees = place_of(fix)
        pose = track.at(messages.stamp_ns(fix))
        refused += degrees is None
        if degrees is not None and pose is not None:
            variance = deviation_of(fix, FIX_DEVIATION) ** 2
            place.add(*degrees, pose.translation, variance)
    _report_refused(reader, topics, refused)
    registration, text = place.outcome()
    if registration is None:
        log = logger.warning if place.count else logger.info
        log("%s: the map gets no place on Earth: %s", reader.path, text)
        return None
    logger.info("%s: %s", reader.path, text)
    return registration.origin


def _report_refused(reader: BagReader, topics: Sequence[str], refused: int) -> None:
    """Warn of fixes that are not used."""
    if refused:
        logger.warning(
            "%s: %d of %d fixes of %s ignored: without a fix or at 0, 0",
            reader.path, refused, reader.topics()[topics[0]].count, topics[0],
        )  # fmt: skip


def read_turns(reader: BagReader, odometry: Track) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read stamps [N] [ns] and turn rates about the vertical [rad/s] of the IMU with most messages.

    The vertical is the mean acceleration's direction, however the IMU is mounted; the bias is the
    rate while the odometry stands. Raises BagError where there is no IMU.
    """
    topics = reader.topics_of(messages.IMU)
    if not topics:
        raise BagError(f"bag {reader.path} has no sensor_msgs/Imu to take turns from")
    stamps, rates, forces = [], [], []
    for _, imu in reader.messages(topics[:1]):
        rate, force = imu.angular_velocity, imu.linear_acceleration
        row = [rate.x, rate.y, rate.z, force.x, force.y, force.z]
        if np.isfinite(row).all():
            stamps.append(messages.stamp_ns(imu))
            rates.append(row[:3])
            forces.append(row[3:])
    when, first = np.unique(np.array(stamps, np.int64), return_index=True)
    up = np.mean(forces, axis=0) if forces else np.zeros(3)
    if len(when) < 2 or not 5 < np.linalg.norm(up) < 15:
        raise BagError(
            f"bag {reader.path}: {topics[0]} does not show gravity, which tells the vertical: mean "
            f"acceleration {np.round(up, 1).tolist()} m/s²"
        )
    turns = np.array(rates)[first] @ (up / np.linalg.norm(up))
    times, poses = odometry
    steps = np.linalg.norm(np.diff([pose.translation for pose in poses], axis=0), axis=1)
    after = np.searchsorted(times, when).clip(1, len(times) - 1)
    stands = steps[after - 1] < STANDS * np.diff(times)[after - 1] / NANOSECONDS
    return when, turns - (np.median(turns[stands]) if stands.any() else 0.0)
