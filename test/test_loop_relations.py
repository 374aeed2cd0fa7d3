# SPDX-License-Identifier: Apache-2.0
"""A hint against the map carries what the sequence's estimate knows."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from disam_ros.geometry import Transform, distance
from disam_ros.localization import Estimate
from disam_ros.nodes.loop_closures import relation_to


def test_a_relation_to_a_map_image_leads_back_to_the_estimate_with_its_covariance():
    rng = np.random.default_rng(0)
    keyframe = Transform.from_xyz_rpy([10.0, 5.0, 0.0, 0.0, 0.0, np.pi / 2])
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    root = rng.standard_normal((6, 6))
    estimate = Estimate(here, root @ root.T, np.eye(6), 0.9, 1.0, None, True, inliers=40)
    found = relation_to(keyframe, estimate)
    assert distance(keyframe @ found.keyframe_from_base, here) == pytest.approx((0, 0), abs=1e-6)
    assert found.inliers == 40
    turned = keyframe.rotation @ found.covariance[:3, :3] @ keyframe.rotation.T
    assert np.allclose(turned, estimate.covariance[:3, :3])
    ahead = np.zeros((6, 6))
    ahead[1, 1] = 4.0  # the map's y is ahead of this keyframe
    along = relation_to(keyframe, Estimate(here, ahead, ahead, 0.9, 1.0, None, True))
    assert along.covariance[0, 0] == pytest.approx(4.0) and along.covariance[1, 1] < 1e-9
