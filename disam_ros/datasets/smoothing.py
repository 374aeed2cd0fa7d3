# SPDX-License-Identifier: Apache-2.0
"""Smoothing: the most probable path of a vehicle by all its odometry and satellite fixes at once.

A pose graph (Dellaert and Kaess, Factor Graphs for Robot Perception, 2017), solved by GTSAM, the
extra `graph`: odometry between neighbouring poses, fixes with a robust loss. Errors of fixes last
for seconds (multipath, atmosphere), so the fixes of a while count as one together.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from disam_ros.errors import DatasetError, DisamError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS, Track

logger = logging.getLogger(__name__)

INSTALL = "pip install 'disam_ros[graph]' (GTSAM)"
ODOMETRY_NOISE = 0.05  # ahead and sideways [m/√m]
ODOMETRY_FLOOR = 0.02 * 0.05  # least deviation of a step [m]
CLIMB_NOISE = 0.1  # upward: planar odometry knows no slopes [m/√m]
TURN_NOISE = np.radians(0.5), np.radians(0.1)  # of yaw [rad/√m], [rad/√s]
GYRO_NOISE = np.radians(0.05)  # of yaw by a gyroscope [rad/√s]
TILT_NOISE = np.radians(0.2)  # of roll and pitch [rad/√m]
ANGLE_FLOOR = 1e-4  # least deviation of a rotation [rad]
CORRELATED = 10.0  # time over which the error of a fix lasts [s]
OUTLIER = 2.0  # standard deviations beyond which a fix counts less and less (Cauchy)
REJECTED = 3.0  # standard deviations beyond which a fix does not fit the path
WINDOW = 30.0  # way on both sides over which odometry is first aligned with fixes [m]
EXTENT = 10.0  # least extent of fixes that tell a heading [m]
SCALES = 1.1  # scale of odometry beyond which fixes and odometry are of different drives
LOOSENESS = 1.0, 3.0, 10.0  # factors of odometry's deviations that are tried
ENOUGH = 0.95  # share of the fixes that have to fit
FASTEST = 60.0  # speed beyond which odometry was reset [m/s]
ALONE = 100.0  # way from the next fix that fits up to which odometry alone is followed [m]


@dataclass(frozen=True)
class Fixes:
    """Satellite fixes in a map."""

    stamps: NDArray[np.int64]  # [N] [ns], increasing
    positions: NDArray[np.float64]  # [N, 3] [m]
    sigmas: NDArray[np.float64]  # standard deviation in x and in y [N] [m]; twice that up


def smooth(
    odometry: Track,
    fixes: Fixes,
    max_gap_ns: int,
    turns: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None,
) -> Track:
    """Find map_from_body of a vehicle, the body where the fixes are measured.

    odometry: odom_from_body, with z up. max_gap_ns: longest gap across which odometry is continued;
    each piece is smoothed alone, those without fixes that tell a heading are left out. turns:
    stamps [ns] and turn rates about the vertical [rad/s], in place of the odometry's turns. Raises
    DatasetError where GTSAM is missing or nothing remains.
    """
    gtsam = import_gtsam("smoothing of fixes", DatasetError)
    stamps, poses = odometry
    gaps = np.diff(stamps)
    jumps = np.linalg.norm(np.diff([pose.translation for pose in poses], axis=0), axis=1)
    cuts = np.flatnonzero((gaps > max_gap_ns) | (jumps > FASTEST * gaps / NANOSECONDS)) + 1
    pieces: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    smoothed: list[Transform] = []
    used = total = 0
    for rows in np.split(np.arange(len(stamps)), cuts):
        inside = (fixes.stamps >= stamps[rows[0]]) & (fixes.stamps <= stamps[rows[-1]])
        piece = Fixes(fixes.stamps[inside], fixes.positions[inside], fixes.sigmas[inside])
        path = _piece(stamps[rows], [poses[row] for row in rows], piece, turns)
        begins = None if path is None else path.begin()
        if path is None or begins is None:
            logger.warning(
                "%.1f s of odometry with %d fixes tell no heading and are left out",
                (stamps[rows[-1]] - stamps[rows[0]]) / NANOSECONDS,
                int(inside.sum()),
            )
            continue
        path, solved, fits = _solve(gtsam, path, begins)
        used, total = used + int(fits.sum()), total + len(fits)
        kept = path.near(fits)
        pieces.append(path.stamps[kept])
        smoothed += [solved[row] for row in np.flatnonzero(kept)]
    if not smoothed:
        raise DatasetError(
            f"odometry and {len(fixes.stamps)} fixes give no poses: expected both at the same time "
            f"over {EXTENT:g} m or more"
        )
    logger.info("smoothed %d poses; %d of %d fixes fit", len(smoothed), used, total)
    return Track(np.concatenate(pieces), smoothed)


@dataclass(frozen=True)
class _Path:
    """A piece of odometry with a node at each of its stamps and of the fixes'."""

    stamps: NDArray[np.int64]  # of the nodes [K] [ns]
    poses: list[Transform]  # odom_from_node [K]
    steps: list[Transform]  # node_from_next [K-1]
    sigmas: NDArray[np.float64]  # standard deviations of the steps [K-1, 6], rotation first
    rows: NDArray[np.int64]  # nodes of the fixes
    fixes: Fixes
    travelled: NDArray[np.float64]  # way up to each node [K] [m]

    def begin(self) -> list[Transform] | None:
        """Initial map_from_body: odometry aligned window by window with its fixes."""
        points = np.stack([pose.translation for pose in self.poses])
        centers = WINDOW / 3 * np.unique(np.round(self.travelled / (WINDOW / 3)))
        at, turns, moves = [], [], []
        for center in centers:
            near = np.abs(self.travelled[self.rows] - center) <= WINDOW
            sources = points[self.rows[near], :2]
            if near.sum() < 3 or np.ptp(sources, axis=0).max() < EXTENT:
                continue
            targets = self.fixes.positions[near, :2]
            reach = 3 * float(np.median(self.fixes.sigmas[near]))
            similarity, _ = cv2.estimateAffinePartial2D(
                sources, targets, method=cv2.RANSAC, ransacReprojThreshold=reach
            )
            if similarity is None or not 0.5 < np.hypot(*similarity[:, 0]) < 2.0:
                continue
            middle = points[np.searchsorted(self.travelled, center).clip(max=len(points) - 1), :2]
            at.append(center)
            turns.append(np.arctan2(similarity[1, 0], similarity[0, 0]))
            moves.append(similarity @ [*middle, 1.0])
        if not at:
            return None
        yaws = np.interp(self.travelled, at, np.unwrap(turns))
        # From the nearest window's centre on, along the turned odometry.
        nearest = np.abs(self.travelled[:, None] - np.array(at)).argmin(1)
        bases = points[np.searchsorted(self.travelled, at).clip(max=len(points) - 1)][nearest]
        around = Rotation.from_euler("z", yaws[:, None])
        places = around.apply(points - bases)
        places[:, :2] += np.stack(moves)[nearest]
        places[:, 2] = np.median(self.fixes.positions[:, 2])
        attitudes = around * Rotation.from_quat(np.stack([p.quaternion for p in self.poses]))
        return [Transform(p, q) for p, q in zip(places, attitudes.as_quat(), strict=True)]

    def rescaled(self, solved: list[Transform]) -> _Path:
        """Return the path with the scale of its odometry, which worn tyres change.

        It is the scale of the steps, turned as in a solution, aligned with all fixes.
        """
        turns = Rotation.from_quat(np.stack([pose.quaternion for pose in solved[:-1]]))
        moves = turns.apply(np.stack([step.translation for step in self.steps]))[:, :2]
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])[self.rows]
        similarity, _ = cv2.estimateAffinePartial2D(
            points,
            self.fixes.positions[:, :2].copy(),
            method=cv2.RANSAC,
            ransacReprojThreshold=3 * float(np.median(self.fixes.sigmas)),
        )
        scale = 1.0 if similarity is None else float(np.hypot(*similarity[:, 0]))
        if np.ptp(points, axis=0).max() < WINDOW or not 1 / SCALES < scale < SCALES:
            return self
        steps = [Transform(step.translation * scale, step.quaternion) for step in self.steps]
        return replace(self, steps=steps)

    def fits(self, solved: list[Transform]) -> NDArray[np.bool_]:
        """Which fixes are on the path [N]."""
        points = np.stack([solved[row].translation[:2] for row in self.rows])
        away = np.linalg.norm(points - self.fixes.positions[:, :2], axis=1)
        return np.asarray(away <= REJECTED * self.fixes.sigmas, np.bool_)

    def near(self, fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which nodes have a fix that fits not far along the way [K]."""
        ways = self.travelled[self.rows[fits]]
        if not len(ways):
            return np.zeros(len(self.stamps), bool)
        after = np.searchsorted(ways, self.travelled).clip(max=len(ways) - 1)
        before = (after - 1).clip(min=0)
        away = np.minimum(
            np.abs(self.travelled - ways[after]), np.abs(self.travelled - ways[before])
        )
        return np.asarray(away <= ALONE, np.bool_)


def _piece(
    stamps: NDArray[np.int64],
    poses: list[Transform],
    fixes: Fixes,
    turns: tuple[NDArray[np.int64], NDArray[np.float64]] | None,
) -> _Path | None:
    """The path through odometry without gaps; None where it has no way or no fixes."""
    if len(stamps) < 2 or len(fixes.stamps) < 3:
        return None
    nodes = np.union1d(stamps, fixes.stamps)
    seconds, at = (stamps - stamps[0]) / NANOSECONDS, (nodes - stamps[0]) / NANOSECONDS
    points = np.stack(
        [
            np.interp(at, seconds, column)
            for column in np.stack([pose.translation for pose in poses]).T
        ],
        axis=1,
    )
    attitudes = Slerp(seconds, Rotation.from_quat(np.stack([pose.quaternion for pose in poses])))(
        at
    )
    steps = attitudes[:-1].inv().apply(np.diff(points, axis=0))
    rotations = attitudes[:-1].inv() * attitudes[1:]
    if turns is not None:
        yaws = _integrated(turns, nodes) - rotations.as_euler("ZYX")[:, 0]
        rotations = Rotation.from_euler("z", yaws[:, None]) * rotations
        total = [attitudes[0]]
        for rotation in rotations:
            total.append(total[-1] * rotation)
        attitudes = Rotation.concatenate(total)
        points = np.concatenate(
            [points[:1], points[:1] + np.cumsum(attitudes[:-1].apply(steps), 0)]
        )
    metres, times = np.linalg.norm(steps, axis=1), np.diff(at)
    turn = (
        GYRO_NOISE * np.sqrt(times)
        if turns is not None
        else np.hypot(TURN_NOISE[0] * np.sqrt(metres), TURN_NOISE[1] * np.sqrt(times))
    )
    sigmas = np.stack(
        [
            TILT_NOISE * np.sqrt(metres),
            TILT_NOISE * np.sqrt(metres),
            turn,
            ODOMETRY_NOISE * np.sqrt(metres),
            ODOMETRY_NOISE * np.sqrt(metres),
            CLIMB_NOISE * np.sqrt(metres),
        ],
        axis=1,
    )
    least = [*[ANGLE_FLOOR] * 3, *[ODOMETRY_FLOOR] * 3]
    return _Path(
        nodes,
        [Transform(p, q) for p, q in zip(points, attitudes.as_quat(), strict=True)],
        [Transform(p, q) for p, q in zip(steps, rotations.as_quat(), strict=True)],
        np.maximum(sigmas, least),
        np.searchsorted(nodes, fixes.stamps),
        fixes,
        np.concatenate([[0.0], np.cumsum(metres)]),
    )


def _integrated(
    turns: tuple[NDArray[np.int64], NDArray[np.float64]], nodes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Integrate turn rates between nodes [rad]."""
    seconds = (turns[0] - turns[0][0]) / NANOSECONDS
    steps = np.diff(seconds) * (turns[1][1:] + turns[1][:-1]) / 2
    angles = np.concatenate([[0.0], np.cumsum(steps)])
    return np.diff(np.interp((nodes - turns[0][0]) / NANOSECONDS, seconds, angles))


def _solve(
    gtsam: Any, path: _Path, begin: list[Transform]
) -> tuple[_Path, list[Transform], NDArray[np.bool_]]:
    """Solve a path: itself with its odometry's scale, map_from_body of its nodes, fixes that fit.

    Odometry is taken to be as accurate as lets nearly all fixes fit: wheels on a road and skid
    steering differ by an order of magnitude.
    """
    tried = []
    for looseness in LOOSENESS:
        looser = replace(path, sigmas=path.sigmas * looseness)
        looser = looser.rescaled(_optimize(gtsam, looser, begin))
        solved = _optimize(gtsam, looser, begin)
        tried.append((looser, solved, path.fits(solved)))
        if tried[-1][2].mean() > ENOUGH:
            return tried[-1]
    best = max(fits.mean() for *_, fits in tried)
    return next(solution for solution in tried if solution[2].mean() > best - (1 - ENOUGH))


def _optimize(gtsam: Any, path: _Path, begin: list[Transform]) -> list[Transform]:
    """Optimize the pose graph: map_from_body of the path's nodes."""
    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    for row, pose in enumerate(begin):
        values.insert(row, pose3(gtsam, pose))
    # Odometry has z up: roll and pitch are known, the fixes tell all else.
    loose = gtsam.noiseModel.Diagonal.Sigmas(np.array([0.02, 0.02, 1e3, 1e6, 1e6, 1e6]))
    graph.add(gtsam.PriorFactorPose3(0, pose3(gtsam, begin[0]), loose))
    for row, (step, sigmas) in enumerate(zip(path.steps, path.sigmas, strict=True)):
        noise = gtsam.noiseModel.Diagonal.Sigmas(sigmas)
        graph.add(gtsam.BetweenFactorPose3(row, row + 1, pose3(gtsam, step), noise))
    spacing = float(np.median(np.diff(path.fixes.stamps))) / NANOSECONDS
    wider = np.sqrt(max(1.0, CORRELATED / max(spacing, 1e-3)))
    loss = gtsam.noiseModel.mEstimator.Cauchy.Create(OUTLIER / wider)
    for row, place, sigma in zip(path.rows, path.fixes.positions, path.fixes.sigmas, strict=True):
        noise = gtsam.noiseModel.Diagonal.Sigmas(sigma * wider * np.array([1.0, 1.0, 2.0]))
        robust = gtsam.noiseModel.Robust.Create(loss, noise)
        graph.add(gtsam.GPSFactor(int(row), place, robust))
    solved = gtsam.LevenbergMarquardtOptimizer(graph, values).optimize()
    poses = [solved.atPose3(row) for row in range(len(begin))]
    return [Transform.from_rotation(pose.translation(), pose.rotation().matrix()) for pose in poses]


def pose3(gtsam: Any, pose: Transform) -> Any:
    """A pose as GTSAM's."""
    return gtsam.Pose3(gtsam.Rot3(pose.rotation), pose.translation)


def import_gtsam(what: str, fault: type[DisamError]) -> Any:
    """Import GTSAM. Raises `fault` with the command that installs it, for what needs it."""
    try:
        import gtsam
    except ImportError as error:
        raise fault(f"{what} needs GTSAM ({error}): {INSTALL}") from error
    numbers = [metadata.version(name).split(".")[:2] for name in ("gtsam", "numpy")]
    ours, arrays = ((int(major), int(minor)) for major, minor in numbers)
    if ours < (4, 3) and arrays >= (2, 0):  # where it ends the process
        raise fault(
            "GTSAM 4.2 crashes with NumPy 2: take Python 3.11 or newer and GTSAM 4.3, or pip "
            "install 'numpy<2'"
        )
    return gtsam
