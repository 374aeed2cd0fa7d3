# SPDX-License-Identifier: Apache-2.0
"""The pose graph example: hints correct a drift, and wrong ones do no harm."""

import numpy as np
import pytest

from benchmark.pose_graph import example as pose_graph
from benchmark.pose_graph import own_hints
from benchmark.pose_graph.solver import solve
from disam_ros.errors import ConfigError
from disam_ros.geometry import Transform
from disam_ros.slam.loop_closure import MapMatch
from disam_ros.slam.loop_hint import MAP, OWN, Hint, Relation

LAP, RADIUS = 60, 40.0
STAMPS = list(range(2 * LAP))
RELATION = Relation(Transform.identity(), np.diag([0.25] * 3 + [0.01] * 3))


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


def hints(kind):
    place = circle if kind == MAP else lambda _: None
    return [Hint(i, i - LAP, RELATION, 0.9, kind, place(i)) for i in range(LAP, 2 * LAP, 5)]


def seen():
    matches = [MapMatch(i, pose, 0.9, 1.0) for i, pose in enumerate(TRUTH)]
    return pose_graph.Seen(STAMPS, np.empty(0), np.empty(0), matches, TRUTH)


def test_wrong_hints_are_as_many_as_said_and_all_wrong():
    given = hints(OWN) + hints(MAP)
    bad = pose_graph.wrong_hints(seen(), given, np.random.default_rng(0))
    assert len(bad) == round(pose_graph.WRONG_SHARE * len(given))
    assert all(pose_graph.is_wrong(seen(), h) for h in bad)
    assert not any(pose_graph.is_wrong(seen(), h) for h in given)


@pytest.mark.parametrize("kind", [OWN, MAP])
def test_hints_correct_a_drift_and_wrong_ones_do_no_harm(kind):
    pytest.importorskip("gtsam", reason="the extra [graph] is not installed")
    odometry, start = drifting(), TRUTH[0]

    def error(given, robust=True):
        return pose_graph.trajectory_error(TRUTH, solve(start, odometry, STAMPS, given, robust))

    good = hints(kind)
    bad = pose_graph.wrong_hints(seen(), good, np.random.default_rng(1))
    before, after = error([]), error(good)
    assert before > 5.0 and after < before / 4
    assert error([*good, *bad]) < 1.5 * after
    assert error([*good, *bad], robust=False) > 4 * after


def test_the_error_of_a_relation_is_measured_and_compared_with_what_it_claims():
    true = TRUTH[0].inverse() @ TRUTH[LAP + 1]
    off = Transform.from_xyz_rpy([*true.translation + [0.3, 0.0, 0.4], 0.0, 0.0, 0.1])
    off = Transform(off.translation, (off @ Transform(np.zeros(3), true.quaternion)).quaternion)
    spread = np.diag([0.25] * 3 + [0.01] * 3)
    given = [Hint(STAMPS[LAP + 1], STAMPS[0], Relation(off, spread, 20), 0.9)]
    found = own_hints.accuracy(seen(), given)
    assert found["error, m"] == pytest.approx(0.5)
    assert found["error, °"] == pytest.approx(np.degrees(0.1))
    assert found["NEES, mean"] == pytest.approx(0.5**2 / 0.25 + 0.1**2 / 0.01)


def test_a_relation_holds_in_the_axes_of_the_keyframe():
    """Sure across the keyframe's heading, unsure along it: only the former moves the vehicle."""
    pytest.importorskip("gtsam", reason="the extra [graph] is not installed")
    odometry = [Transform.identity(), Transform.from_xyz_rpy([1.0, 0, 0, 0, 0, np.pi / 2])]
    unsure = np.diag([1e4, 1e-6, 1.0, 1.0, 1.0, 1.0])
    claim = Relation(odometry[1] @ Transform.from_xyz_rpy([0.2, 0.3, 0, 0, 0, 0]), unsure)
    found = solve(TRUTH[0], odometry, [0, 1], [Hint(1, 0, claim, 0.9)], robust=False)
    moved = odometry[1].inverse() @ TRUTH[0].inverse() @ found[1]
    across = (odometry[1].rotation @ moved.translation)[1]
    along = (odometry[1].rotation @ moved.translation)[0]
    assert across == pytest.approx(0.2, abs=0.02) and abs(along) < 0.02


def test_without_gtsam_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gtsam", None)
    with pytest.raises(ConfigError, match=r"disam_ros\[graph\]"):
        solve(TRUTH[0], drifting(), STAMPS, [])
