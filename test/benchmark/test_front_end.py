# SPDX-License-Identifier: Apache-2.0
"""Scales of a monocular odometry."""

import numpy as np
import pytest

pytest.importorskip("season_town", reason="pip install ./season_town")

from benchmark.accuracy.kitti import DRIFT
from benchmark.pose_graph.front_end import measured, scaled
from disam_ros.geometry import Transform


def track(lengths):
    poses = [Transform.identity()]
    for length in lengths:
        poses.append(poses[-1] @ Transform(np.array([length, 0.0, 0.0]), poses[0].quaternion))
    return poses


def lengths(poses):
    points = np.array([pose.translation for pose in poses])
    return np.linalg.norm(np.diff(points, axis=0), axis=1)


def test_wheels_give_every_step_its_length_whatever_the_scale_and_its_drift():
    truth = track([2.0] * 60)
    shrinking = track(np.geomspace(7.0, 0.1, 60))
    assert lengths(measured(shrinking, truth)) == pytest.approx(2.0 * DRIFT)


def test_a_standing_odometry_stays_where_it_is():
    assert lengths(measured(track([0.0, 1.0]), track([1.0, 1.0])))[0] == 0.0


def test_the_scale_of_the_first_hundred_metres_is_kept_to_the_end():
    truth = track([2.0] * 60)
    moved = lengths(scaled(track([0.5] * 50 + [0.25] * 10), truth))
    assert moved[:50] == pytest.approx(2.0) and moved[50:] == pytest.approx(1.0)
