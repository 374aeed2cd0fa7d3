# SPDX-License-Identifier: Apache-2.0
"""How good the relations of hints of the own drive are, and what they cost (pose_graph.py)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.peers.table import markdown
from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.geometry import Transform
from disam_ros.slam.keypoints import DrivePoints, PointTrail, relate
from disam_ros.slam.loop_closure import KEYFRAME_ANGLE
from disam_ros.slam.loop_hint import Hint, Relation

if TYPE_CHECKING:
    from benchmark.pose_graph.seen import Seen

EXPECTED_95 = 12.59  # 95 % of the squares of six normal errors lie below


def accuracy(seen: Seen, hints: Sequence[Hint]) -> dict[str, float]:
    """Errors of the relations, and how they compare with what their covariances say: the normalised
    estimation error squared (NEES) is 6 on average where they are right."""
    at = dict(zip(seen.stamps_ns, seen.truth, strict=True))
    errors = np.array(
        [error(h.relation, at[h.keyframe_stamp_ns].inverse() @ at[h.stamp_ns]) for h in hints]
    )
    spread = [hint.relation.covariance for hint in hints]
    squares = np.array([e @ np.linalg.solve(s, e) for e, s in zip(errors, spread, strict=True)])
    metres = np.linalg.norm(errors[:, :3], axis=1)
    degrees = np.degrees(np.linalg.norm(errors[:, 3:], axis=1))
    sigmas = [np.sqrt(np.trace(s[:3, :3])) for s in spread]
    return {
        "error, m": float(np.median(metres)),
        "90 % below, m": float(np.percentile(metres, 90)),
        "error, °": float(np.median(degrees)),
        "90 % below, °": float(np.percentile(degrees, 90)),
        "claimed, m": float(np.median(sigmas)),
        "NEES, median": float(np.median(squares)),
        "NEES, mean": float(squares.mean()),
        f"% over {EXPECTED_95}": 100 * float((squares > EXPECTED_95).mean()),
        "inliers": float(np.median([hint.relation.inliers for hint in hints])),
    }


def error(relation: Relation, truth: Transform) -> np.ndarray:
    """Metres and rotation vector (radians) [6] in the axes of the covariance."""
    found = relation.keyframe_from_base
    turn = Rotation.from_quat(found.quaternion) * Rotation.from_quat(truth.quaternion).inv()
    return np.concatenate([found.translation - truth.translation, turn.as_rotvec()])


def relations(of_drifts: Sequence[dict[str, dict[str, float]]]) -> str:
    """The table of `accuracy`, by kind of hint; medians over the drifts."""
    rows = []
    for kind, first in of_drifts[0].items():
        cells = [np.median([drift[kind][name] for drift in of_drifts]) for name in first]
        rows.append([kind, *(f"{cell:.2f}" for cell in cells)])
    return markdown(["relation", *first], rows)


def costs(seen: Seen, odometry: Sequence[Transform], hints: Sequence[Hint]) -> str:
    """What points take on this machine, in words. hints: verified ones."""
    config = LoopClosureConfig()
    trail = PointTrail(config.points)
    selector = KeyframeSelector(config.keyframe_distance, KEYFRAME_ANGLE)
    kept: dict[int, DrivePoints] = {}
    takes, verifications = [], []
    for stamp_ns, pose, view in zip(seen.stamps_ns, odometry, seen.views, strict=True):
        if selector.keeps("", pose):
            begin = time.perf_counter()
            kept[stamp_ns] = trail.take(view, pose)
            takes.append(1e3 * (time.perf_counter() - begin))
        else:
            trail.pass_by(view, pose, config.keyframe_distance / 2)
    wide = Relation(Transform.identity(), np.diag([3.0] * 3 + [0.0076] * 3))
    for hint in hints:
        if hint.stamp_ns in kept and hint.keyframe_stamp_ns in kept:
            begin = time.perf_counter()
            relate(kept[hint.keyframe_stamp_ns], kept[hint.stamp_ns], wide)
            verifications.append(1e3 * (time.perf_counter() - begin))
    known = np.mean([np.mean(p.precision > 0) for p in kept.values() if len(p.views)])
    return (
        f"{len(takes)} keyframes, {np.median(takes):.0f} ms each (at most {max(takes):.0f}); "
        f"{100 * known:.0f} % of points with a depth; {len(verifications)} verifications, "
        f"{np.median(verifications):.0f} ms each (at most {max(verifications):.0f})"
    )
