# SPDX-License-Identifier: Apache-2.0
"""The pose graph example: loop closures correct a drift, and wrong ones do no harm."""

import numpy as np
import pytest

from benchmark.pose_graph import loop_closures
from benchmark.pose_graph.drive import EncodedDrive
from benchmark.pose_graph.example import trajectory_error
from benchmark.pose_graph.solver import solve
from disam_ros.errors import ConfigError
from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.slam.loop_closure_message import MAP, OWN, LoopClosure
from disam_ros.slam.map_match import MapMatch

LAP, RADIUS = 60, 40.0
STAMPS = list(range(2 * LAP))
SAME_PLACE = PoseWithCovariance(Transform.identity(), np.diag([0.25] * 3 + [0.01] * 3))


def circle(index):
    angle = 2 * np.pi * index / LAP
    x, y = RADIUS * np.sin(angle), RADIUS * (1 - np.cos(angle))
    return Transform.from_xyz_rpy([x + 5.0, y, 0.0, 0.0, 0.0, angle])


TRUTH = [circle(i) for i in STAMPS]


def drifting():
    """odom_from_base whose every step turns a little too far."""
    poses, bias = [Transform.identity()], Transform.from_xyz_rpy([0, 0, 0, 0, 0, 4e-3])
    for i in STAMPS[1:]:
        poses.append(poses[-1] @ (TRUTH[i - 1].inverse() @ TRUTH[i]) @ bias)
    return poses


def closures(kind):
    place = circle if kind == MAP else lambda _: None
    return [
        LoopClosure(i, i - LAP, SAME_PLACE, 0.9, 0, kind, place(i)) for i in range(LAP, 2 * LAP, 5)
    ]


def drive():
    matches = [MapMatch(i, pose, 0.9, 1.0) for i, pose in enumerate(TRUTH)]
    return EncodedDrive(STAMPS, np.empty(0), np.empty(0), matches, TRUTH)


def test_outliers_are_as_many_as_stated_and_all_wrong():
    good = closures(OWN) + closures(MAP)
    bad = loop_closures.outliers(drive(), good, np.random.default_rng(0))
    assert len(bad) == round(loop_closures.WRONG_SHARE * len(good))
    assert all(loop_closures.is_wrong(drive(), closure) for closure in bad)
    assert not any(loop_closures.is_wrong(drive(), closure) for closure in good)


@pytest.mark.parametrize("kind", [OWN, MAP])
def test_loop_closures_correct_a_drift_and_wrong_ones_do_no_harm(kind):
    pytest.importorskip("gtsam", reason="the extra [graph] is not installed")
    odometry, start = drifting(), TRUTH[0]

    def error(loops, robust=True):
        return trajectory_error(TRUTH, solve(start, odometry, STAMPS, loops, robust))

    good = closures(kind)
    bad = loop_closures.outliers(drive(), good, np.random.default_rng(1))
    before, after = error([]), error(good)
    assert before > 5.0 and after < before / 4
    assert error([*good, *bad]) < 1.5 * after
    assert error([*good, *bad], robust=False) > 4 * after


def test_the_error_of_a_relative_pose_is_measured_and_compared_with_its_covariance():
    true = TRUTH[0].inverse() @ TRUTH[LAP + 1]
    off = Transform.from_xyz_rpy([*true.translation + [0.3, 0.0, 0.4], 0.0, 0.0, 0.1])
    off = Transform(off.translation, (off @ Transform(np.zeros(3), true.quaternion)).quaternion)
    measured = PoseWithCovariance(off, np.diag([0.25] * 3 + [0.01] * 3))
    closure = LoopClosure(STAMPS[LAP + 1], STAMPS[0], measured, 0.9, 20)
    figures = loop_closures.accuracy(drive(), [closure])
    assert figures["error, m"] == pytest.approx(0.5)
    assert figures["error, °"] == pytest.approx(np.degrees(0.1))
    assert figures["NEES, mean"] == pytest.approx(0.5**2 / 0.25 + 0.1**2 / 0.01)


def test_a_relative_pose_holds_in_the_axes_of_the_keyframe():
    """Certain across the keyframe's heading, not along it: only the former moves the vehicle."""
    pytest.importorskip("gtsam", reason="the extra [graph] is not installed")
    odometry = [Transform.identity(), Transform.from_xyz_rpy([1.0, 0, 0, 0, 0, np.pi / 2])]
    uncertain = np.diag([1e4, 1e-6, 1.0, 1.0, 1.0, 1.0])
    claimed = odometry[1] @ Transform.from_xyz_rpy([0.2, 0.3, 0, 0, 0, 0])
    closure = LoopClosure(1, 0, PoseWithCovariance(claimed, uncertain), 0.9)
    _, last = solve(TRUTH[0], odometry, [0, 1], [closure], robust=False)
    moved = odometry[1].inverse() @ TRUTH[0].inverse() @ last
    along, across, _ = odometry[1].rotation @ moved.translation
    assert across == pytest.approx(0.2, abs=0.02) and abs(along) < 0.02


def test_without_gtsam_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gtsam", None)
    with pytest.raises(ConfigError, match=r"disam_ros\[graph\]"):
        solve(TRUTH[0], drifting(), STAMPS, [])
