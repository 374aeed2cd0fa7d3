# SPDX-License-Identifier: Apache-2.0
"""Loop closures of a drive: detection, injected outliers, accuracy and cost."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmark.pose_graph.drive import EncodedDrive
from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.features.keypoints import Keypoints
from disam_ros.geometry import PoseWithCovariance, Transform, offset
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.slam.keyframe_depths import KeyframeDepths
from disam_ros.slam.loop_closure import KEYFRAME_ANGLE, LoopCloser
from disam_ros.slam.loop_closure_message import MAP, LoopClosure
from disam_ros.slam.loop_verification import verify_loop

WRONG_SHARE = 0.3  # outliers injected, as a share of the detected loop closures
WRONG_DISTANCE = 30.0  # metres at least between the places of an outlier
RIGHT_DISTANCE = 5.0  # metres within which a loop closure is right
EXPECTED_95 = 12.59  # 95 % of the squares of six normal errors lie below


def detect(
    drive: EncodedDrive,
    odometry: Sequence[Transform | None],
    verified: bool,
    config: LoopClosureConfig = LoopClosureConfig(),
    consistent_keyframes: int | None = None,
) -> list[LoopClosure]:
    """The loop closures of the whole drive; verified: those of the drive with itself are.

    odometry: None: there is none at that image.
    """
    closer, closures = LoopCloser(config, consistent_keyframes), []
    for i, (stamp_ns, pose) in enumerate(zip(drive.stamps_ns, odometry, strict=True)):
        view = drive.views[i] if verified else None
        reading = None if pose is None else Reading(pose, 0.0, 0)
        closures += closer.add(stamp_ns, reading, drive.coarse[i], drive.fine[i], view)
        if reading is not None:
            closures += closer.add_map_match(stamp_ns, reading, drive.matches[i])
    return closures


def outliers(
    drive: EncodedDrive, closures: Sequence[LoopClosure], rng: np.random.Generator
) -> list[LoopClosure]:
    """Loop closures that claim two distant places to be one, as certain as the right ones."""
    bad: list[LoopClosure] = []
    while len(bad) < round(WRONG_SHARE * len(closures)):
        like, (then, now) = closures[len(bad)], sorted(rng.integers(len(drive.truth), size=2))
        covariance = like.keyframe_from_base.covariance
        closure = LoopClosure(
            stamp_ns=drive.stamps_ns[now],
            keyframe_stamp_ns=drive.stamps_ns[then],
            keyframe_from_base=PoseWithCovariance(Transform.identity(), covariance),
            score=like.score,
            kind=like.kind,
            map_from_keyframe=drive.matches[then].map_from_base if like.kind == MAP else None,
        )
        if _gap(drive, closure) > WRONG_DISTANCE:
            bad.append(closure)
    return bad


def is_wrong(drive: EncodedDrive, closure: LoopClosure) -> bool:
    """Whether the vehicle was elsewhere."""
    return _gap(drive, closure) > RIGHT_DISTANCE


def accuracy(drive: EncodedDrive, closures: Sequence[LoopClosure]) -> dict[str, float]:
    """Errors of the relative poses, and their normalized estimation errors squared (NEES): 6 on
    average where the covariances are right."""
    at = dict(zip(drive.stamps_ns, drive.truth, strict=True))
    estimates = [closure.keyframe_from_base for closure in closures]
    errors = np.array(
        [
            offset(at[c.keyframe_stamp_ns].inverse() @ at[c.stamp_ns], c.keyframe_from_base.pose)
            for c in closures
        ]
    )
    squares = np.array(
        [e @ np.linalg.solve(f.covariance, e) for e, f in zip(errors, estimates, strict=True)]
    )
    metres = np.linalg.norm(errors[:, :3], axis=1)
    degrees = np.degrees(np.linalg.norm(errors[:, 3:], axis=1))
    sigmas = [np.sqrt(np.trace(f.covariance[:3, :3])) for f in estimates]
    return {
        "error, m": float(np.median(metres)),
        "90 % below, m": float(np.percentile(metres, 90)),
        "error, °": float(np.median(degrees)),
        "90 % below, °": float(np.percentile(degrees, 90)),
        "claimed, m": float(np.median(sigmas)),
        "NEES, median": float(np.median(squares)),
        "NEES, mean": float(squares.mean()),
        f"% over {EXPECTED_95}": 100 * float((squares > EXPECTED_95).mean()),
        "inliers": float(np.median([closure.inliers for closure in closures])),
    }


def costs(
    drive: EncodedDrive, odometry: Sequence[Transform], closures: Sequence[LoopClosure]
) -> str:
    """Time of extraction and verification on this machine, in words. closures: verified ones."""
    config = LoopClosureConfig()
    depths = KeyframeDepths(config.keypoints)
    selector = KeyframeSelector(config.keyframe_distance, KEYFRAME_ANGLE)
    kept: dict[int, Keypoints] = {}
    extractions, verifications = [], []
    for stamp_ns, pose, view in zip(drive.stamps_ns, odometry, drive.views, strict=True):
        reading = Reading(pose, 0.0, 0)
        if selector.keeps("", pose):
            begin = time.perf_counter()
            kept[stamp_ns] = depths.add(view, reading)
            extractions.append(1e3 * (time.perf_counter() - begin))
        else:
            depths.observe(view, reading, config.keyframe_distance / 2)
    unverified = PoseWithCovariance(Transform.identity(), np.diag([3.0] * 3 + [0.0076] * 3))
    for closure in closures:
        if closure.stamp_ns in kept and closure.keyframe_stamp_ns in kept:
            begin = time.perf_counter()
            verify_loop(kept[closure.keyframe_stamp_ns], kept[closure.stamp_ns], unverified)
            verifications.append(1e3 * (time.perf_counter() - begin))
    with_depth = np.mean([np.mean(k.precisions > 0) for k in kept.values() if len(k)])
    return (
        f"{len(extractions)} keyframes, {np.median(extractions):.0f} ms each (at most "
        f"{max(extractions):.0f}); {100 * with_depth:.0f} % of keypoints with a depth; "
        f"{len(verifications)} verifications, {np.median(verifications):.0f} ms each (at most "
        f"{max(verifications):.0f})"
    )


def _gap(drive: EncodedDrive, closure: LoopClosure) -> float:
    """Metres between where the loop closure puts the vehicle and where it is."""
    at = dict(zip(drive.stamps_ns, drive.truth, strict=True))
    keyframe = closure.map_from_keyframe or at[closure.keyframe_stamp_ns]
    claimed = keyframe @ closure.keyframe_from_base.pose
    return float(np.linalg.norm(claimed.translation - at[closure.stamp_ns].translation))
