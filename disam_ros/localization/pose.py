# SPDX-License-Identifier: Apache-2.0
"""The pose at a place: along the track by its neighbouring images, across it by the view's shift.

Along: an answer lies between two neighbouring images of a drive, on a smooth curve through their
poses, a cubic Hermite spline through four, its tangents those of parabolas through three (Catmull
and Rom 1974, at uneven distances). On KITTI odometry 00 with an image every 6.2 m, the true poses
between the images are 0.018 m aside of it and turned by 0.27° (root mean square), from the chords
0.066 m and 0.69° (benchmark/accuracy/kitti.py). How far the spline leaves the chord tells how far
the road may leave the spline; the share, BEND, was chosen on that drive. On KITTI (all frames
between map images 3 and 6 m apart; validation data) fine similarity falls with the distance like
exp(−d / 1.5 m), and the share of the stretch that lies behind the vehicle is the logistic function
of the difference of both ends' similarities over 0.2, at either spacing: TEMPERATURE
(models/similarity.py) over BETWEEN_TEMPER.

Across (not in the papers): the shift at which two feature maps resemble each other most
(models/similarity.py) is an angle between the views. A camera that is turned by yaw to the right of
the map image's, and x metres to its right, sees the map image's scene farther left, by

    angle = −GAIN (yaw + x / DEPTH)

This is one measurement of a Kalman filter: the covariance of the pose decides how much of the angle
is turn and how much is offset. In a bend, where neighbouring map images are turned against each
other, that is turn and, by their correlation, progress along the track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

from disam_ros.camera import Camera
from disam_ros.geometry import (
    PoseWithCovariance,
    Transform,
    multiplied,
    offsets,
    quaternions_of,
    retract,
    rotation_vectors,
)
from disam_ros.mapping.spacing import next_rows

METRES_PER_RADIAN = 5.0  # displacement equivalent to a rotation where poses are compared [m/rad]
UNEVEN = 3.0  # largest ratio of the lengths of neighbouring stretches that shape each other
BEND = 0.5  # standard deviation of a pose on the curve, as a share of its distance from the chord
MIN_LENGTH = 1e-3  # of a stretch that has a direction [m]
MAX_TURN = 1.0  # of a stretch that has a curvature [rad]
BETWEEN_TEMPER = 0.25  # exponent of the weights of both ends in where the pose lies between them
STRETCH = 15  # images whose unevenness is averaged
BLOCK = 256  # images whose unevenness is computed at once, when one of them is asked for
BETWEEN = 0.1  # least share of the variance halfway that a pose at an end has
DEPTH = 15.0  # of what a road's views show, its harmonic mean [m]
AXES = SIDEWAYS, UPRIGHT = 0, 1  # of an angle
# 1 for a turn alone; less sideways in bends, where what lies ahead also comes nearer, and upright,
# where a shift is a fraction of a cell and the best one is drawn to a whole one.
GAIN, UPRIGHT_GAIN = 0.9, 0.55
RELATIVE = 0.1  # standard deviation in proportion to the angle
EXACT = 1e-6  # shares of the view that differ by less are equal
CONFLICT = 10.8  # chi-squared quantile 0.999 of one degree of freedom
ASSUMED = 4.0  # innovations that the calibration counts as
MEMORY = 30.0  # of a drive's last innovations, about, its errors are estimated by
LEAST_SCALE, LARGEST_SCALE = 0.03, 4.0  # of variances


@dataclass(frozen=True, eq=False)
class Points:
    """Poses map_from_base on the curve, [M, 7] tx ty tz qx qy qz qw. slopes: their derivatives by
    the share of the stretch [M, 6]; bends: their offsets from the chord [M, 6]."""

    poses: NDArray[np.float64]
    slopes: NDArray[np.float64]
    bends: NDArray[np.float64]

    def pose(self, index: int) -> Transform:
        return Transform(self.poses[index, :3], self.poses[index, 3:])


@dataclass(frozen=True, eq=False)
class Between:
    """A pose between two neighbouring map images.

    pose: mean, by their probabilities, of the poses on stretches of road, as far as they are near
    to the likeliest one. row: the likelier end of that; ends: both. spread: covariance [6, 6] of
    these poses, and of what lies beyond the end of a drive. share_near: probability of those near
    to the pose. bend: second moment [6, 6] of its distance from the chord between both ends. steps:
    [6, 6] second moment of the step from one end to the other, less the nearer it is to one of
    them; spacing: the step's length [m].
    """

    pose: Transform
    row: int
    ends: list[int]
    spread: NDArray[np.float64]
    share_near: float
    bend: NDArray[np.float64]
    steps: NDArray[np.float64]
    spacing: float


class Curve:
    """poses: map_from_base of the map images in map order, [N, 7] tx ty tz qx qy qz qw. copies: of
    equal length that they consist of, of which each is a map.

    next, before: rows of the neighbours of each image on its drive, −1 for none: int64 [N].
    """

    def __init__(self, poses: NDArray[np.float64], copies: int = 1) -> None:
        self._poses = poses
        parts = [next_rows(part) for part in np.split(poses, copies)]
        self.next = np.concatenate(
            [np.where(p < 0, -1, p + k * len(p)) for k, p in enumerate(parts)]
        )
        self.before = np.full_like(self.next, -1)
        self.before[self.next[self.next >= 0]] = np.flatnonzero(self.next >= 0)
        self._uneven: dict[int, NDArray[np.float64]] = {}  # by block

    def points(self, starts: ArrayLike, ends: ArrayLike, shares: ArrayLike) -> Points:
        """On stretches between two neighbours each, all [M].

        shares: 0…1 of the stretch that lies behind the vehicle. ends: the start where there is
        none.
        """
        starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
        share = np.asarray(shares, np.float64)[:, None]
        first = self._poses[starts]
        whole = offsets(self._poses[ends], first)
        leaves = self._tangents(-self._to(self.before[starts], first), whole, self.before[starts])
        arrives = self._to(self.next[ends], first) - whole
        arrives = self._tangents(arrives, whole, self.next[ends]) - whole
        leaves, left = leaves - whole, 1.0 - share
        steps = share * whole + share * left * (left * leaves - share * arrives)
        turning = left * (left - 2.0 * share) * leaves - share * (2.0 * left - share) * arrives
        moves = (starts != ends)[:, None]
        steps, slopes = moves * steps, moves * (whole + turning)
        poses, chords = _retracted(first, steps), _retracted(first, moves * share * whole)
        return Points(poses, slopes, offsets(poses, chords))

    def between(
        self,
        rows: NDArray[np.int64],
        logs: NDArray[np.float64],
        details: NDArray[np.float64],
        radius: float,
    ) -> Between:
        """Estimates where the vehicle is between map images `rows` [n], ascending.

        logs: log-weights [n] in the choice of the stretch; details: those [n] in where on it the
        vehicle is. radius: within which stretches are of one place [m].
        """
        starts, ends = self._stretches(rows)
        scores = logs[starts] + logs[ends]
        order = np.argsort(-scores, kind="stable")
        starts, ends, weights = starts[order], ends[order], softmax(scores[order])
        shares = expit(BETWEEN_TEMPER * (details[ends] - details[starts]))
        points = self.points(rows[starts], rows[ends], np.where(starts == ends, 0.0, shares))
        around = offsets(points.poses, points.poses[:1])
        close = weights * (np.linalg.norm(around[:, :3], axis=1) <= radius)
        mean = close @ around / close.sum()  # neighbouring images err in different ways
        pose, around = retract(points.pose(0), mean), around - mean
        spread = (weights[:, None] * around).T @ around
        step, bend, share = points.slopes[0], points.bends[0], float(shares[0])
        halfway = max(BETWEEN, 4.0 * share * (1.0 - share))
        nearest = rows[[starts[0], ends[0]]].tolist()
        uneven = halfway * np.mean([self._unevenness(row) for row in nearest], axis=0)
        row = int(rows[max(starts[0], ends[0], key=logs.__getitem__)])
        if min(self.next[row], self.before[row]) < 0:
            spread += np.outer(step, step) / 12  # beyond the end of a drive by up to half a step
        near = np.linalg.norm(around[:, :3], axis=1) <= radius
        return Between(
            pose=pose,
            row=row,
            ends=[int(rows[starts[0]]), int(rows[ends[0]])],
            spread=spread,
            share_near=float(weights[near].sum()),
            bend=BEND**2 * bend[:, None] * bend + np.diag(uneven),
            steps=halfway * step[:, None] * step,
            spacing=float(np.linalg.norm(step[:3])),
        )

    def _unevenness(self, row: int) -> NDArray[np.float64]:
        """Variances [6] of a pose halfway to the next map image by what the road does there in
        height, roll and pitch: a quarter of those by which images leave the middle of both
        neighbours, averaged over STRETCH."""
        block = row // BLOCK
        if block not in self._uneven:
            self._uneven[block] = self._unevenness_of(block)
        uneven: NDArray[np.float64] = self._uneven[block][row % BLOCK]
        return uneven

    def _unevenness_of(self, block: int) -> NDArray[np.float64]:
        """`_unevenness` of the images of a block [BLOCK, 6]."""
        first_row, around = block * BLOCK, STRETCH // 2
        window = np.arange(first_row - around, first_row + BLOCK + around)
        rows = window[(window >= 0) & (window < len(self.next))]
        inner = rows[(self.next[rows] >= 0) & (self.before[rows] >= 0)]
        middle = self._poses[inner]
        first, last = self._poses[self.before[inner]], self._poses[self.next[inner]]
        gone, left = (_lengths(offsets(middle, end))[:, None] for end in (first, last))
        away = offsets(middle, first) - gone / (gone + left).clip(1e-9) * offsets(last, first)
        squares, counts = np.zeros((2, len(window), 6))
        tilts = np.square(away[:, 3:5]).mean(1, keepdims=True)
        at = inner - window[0]
        squares[at, 2:3], squares[at, 3:5], counts[at] = away[:, 2:3] ** 2, tilts, 1.0
        sums, numbers = (
            sliding_window_view(table, STRETCH, axis=0).sum(-1) for table in (squares, counts)
        )
        uneven: NDArray[np.float64] = sums / numbers.clip(1.0) / 4.0
        return uneven

    def _stretches(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both ends [m], as indices of `rows`, of the stretches between them; a map image that has
        no neighbours is a stretch of its own."""
        at = dict(zip(rows.tolist(), range(len(rows)), strict=True))
        alone = (self.next[rows] < 0) & (self.before[rows] < 0)
        pairs = [
            (start, start if alone[start] else at[int(self.next[row])])
            for row, start in at.items()
            if alone[start] or int(self.next[row]) in at
        ]
        starts, ends = np.array(pairs, np.int64).T
        return starts, ends

    def _to(self, rows: NDArray[np.int64], first: NDArray[np.float64]) -> NDArray[np.float64]:
        """Offsets [M, 6] of map images, any for rows −1, from the first poses [M, 7]."""
        return offsets(self._poses[rows], first)

    def _tangents(
        self, others: NDArray[np.float64], wholes: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Derivatives [M, 6] by the share of stretches, at the end that each has in common with
        another one; along the stretch where there is none, or where both do not shape each other.

        others, wholes: both stretches from end to end [M, 6]; rows: of the other's far end, or −1.
        """
        other, length = _lengths(others), _lengths(wholes)
        shorter, longer = np.minimum(other, length), np.maximum(other, length)
        turn = np.linalg.norm(np.stack([wholes[:, 3:], others[:, 3:]]), axis=2).max(0)
        shaped = (rows >= 0) & (longer <= UNEVEN * shorter)
        shaped &= (length >= MIN_LENGTH) & (turn <= MAX_TURN)
        near, far = length[shaped, None], other[shaped, None]
        tangents = wholes.copy()
        tangents[shaped] = (wholes[shaped] * far / near + others[shaped] * near / far) * (
            near / (near + far)
        )
        return tangents


def _retracted(poses: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """`retract` of many poses [M, 7] at once."""
    turns = multiplied(quaternions_of(steps[:, 3:]), poses[:, 3:])
    return np.hstack([poses[:, :3] + steps[:, :3], turns])


def _lengths(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths [M] of steps [M, 6] in metres; turns count METRES_PER_RADIAN."""
    turns = METRES_PER_RADIAN * np.linalg.norm(steps[:, 3:], axis=1)
    lengths: NDArray[np.float64] = np.hypot(np.linalg.norm(steps[:, :3], axis=1), turns)
    return lengths


def view_angle(
    shift: float,
    widest: float,
    camera: Camera | None,
    known: Camera | None,
    axis: int = SIDEWAYS,
) -> float | None:
    """Angle [rad] by which a view's middle has moved to the right of a known one's, or down.

    shift: as share of the view (Candidate.shift); widest: the largest that was compared, 0 for a
    descriptor without cells. camera, known: of the query and the map image. None where one has no
    intrinsics, and for the widest shift: the best one may lie beyond.
    """
    if camera is None or known is None or not (camera.calibrated and known.calibrated):
        return None
    if abs(shift) >= widest - EXACT:
        return None
    moved, middle = (
        np.arctan((share * size - centre) / focal)
        for share, (size, centre, focal) in (
            (0.5 + shift, _lens(camera, axis)),
            (0.5, _lens(known, axis)),
        )
    )
    return float(moved - middle)


def _lens(camera: Camera, axis: int) -> tuple[float, float, float]:
    """Size of the image, its centre and the focal length along an axis [px]."""
    if axis == SIDEWAYS:
        return camera.width, camera.cx, camera.fx
    return camera.height, camera.cy, camera.fy


def expected_angle(
    map_from_camera: Transform, map_from_known: Transform, axis: int = SIDEWAYS
) -> float:
    """Angle [rad] between the views of two cameras by their poses."""
    relative = map_from_known.inverse() @ map_from_camera
    turn = rotation_vectors(relative.quaternion)
    return float(_row(np.eye(3), axis) @ np.concatenate([relative.translation, turn]))


def _row(axes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Derivatives [6] of an angle by the pose's error. axes: of the camera, its columns [3, 3]."""
    right, down = axes[:, 0], axes[:, 1]
    if axis == SIDEWAYS:
        return -GAIN * np.concatenate([right / DEPTH, down])
    return UPRIGHT_GAIN * np.concatenate([-down / DEPTH, right])


def with_view_angle(
    map_from_camera: PoseWithCovariance,
    map_from_known: Transform,
    angle: float,
    deviation: float,
    others: NDArray[np.float64] | None = None,
    axis: int = SIDEWAYS,
) -> tuple[PoseWithCovariance, float]:
    """A camera's pose after the measurement of its angle [rad] to a map image's view, and the
    normalized innovation squared, about 1 where the covariance is true.

    deviation: standard deviation of the angle [rad]. others: covariance [6, 6] of further errors of
    the pose, which are noise of the measurement and stay as they are (Schmidt's filter); None:
    there are none. A measurement that contradicts the pose is left out: another lane, or another
    place.
    """
    pose, covariance = map_from_camera.pose, map_from_camera.covariance
    innovation = angle - expected_angle(pose, map_from_known, axis)
    row = _row(map_from_known.rotation, axis)
    noise = deviation**2 + (RELATIVE * angle) ** 2
    noise += 0.0 if others is None else float(row @ others @ row)
    variance = float(row @ covariance @ row) + noise
    distance = float(innovation**2 / variance)
    if distance > CONFLICT:
        return map_from_camera, distance
    return map_from_camera.updated(row, innovation, noise), distance


class ErrorScale:
    """Estimates how large the errors that view angles show are over a drive, by its innovations.

    A drive in the lane of the map errs less than the calibration says, one beside it more: the mean
    of the normalized innovations squared is the ratio of the variances (adaptive estimation: Mehra,
    On the identification of variances and adaptive Kalman filtering, IEEE TAC 1970).
    """

    def __init__(self) -> None:
        self._count = self._sum = ASSUMED

    @property
    def value(self) -> float:
        """Variances over those of the calibration."""
        return float(np.clip(self._sum / self._count, LEAST_SCALE, LARGEST_SCALE))

    def add(self, distance: float, share: float) -> None:
        """Take an innovation. distance: its normalized square by the variances of `value`; share:
        of the image that is independent of earlier ones, 0…1."""
        kept = 1.0 - share / MEMORY
        self._count = kept * self._count + share
        self._sum = kept * self._sum + share * self.value * min(distance, CONFLICT)
