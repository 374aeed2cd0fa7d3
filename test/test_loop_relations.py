# SPDX-License-Identifier: Apache-2.0
"""A hint against the map carries what the sequence's estimate knows."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from disam_ros.geometry import Transform, distance
from disam_ros.localization import Estimate, Localization
from disam_ros.nodes.loop_closures import relation_to

MOUNT = Transform.from_xyz_rpy([0.8, 0.0, 1.5, -np.pi / 2, 0.0, -np.pi / 2])


def estimated(map_from_base, covariance, inliers=0):
    """A localization that knows no more than its estimate."""
    known = (0.9, 1.0, None, True, MOUNT, inliers)
    estimate = Estimate(map_from_base, covariance, covariance, *known)
    return Localization("front", None, [], True, 1.0, {}, None, None, "", estimate)


def test_a_camera_mounted_elsewhere_puts_the_vehicle_where_its_own_mount_says():
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    own = Transform.from_xyz_rpy([-1.0, 0.3, 2.0, -np.pi / 2, 0.0, -np.pi / 2 + 0.4])
    found = estimated(here, np.eye(6))
    assert distance(found.map_from_base(MOUNT), here) == pytest.approx((0, 0), abs=1e-6)
    seen = found.map_from_base(own) @ own
    assert distance(seen, here @ MOUNT) == pytest.approx((0, 0), abs=1e-5)


def test_a_relation_to_a_map_image_leads_back_to_the_estimate_with_its_covariance():
    rng = np.random.default_rng(0)
    keyframe = Transform.from_xyz_rpy([10.0, 5.0, 0.0, 0.0, 0.0, np.pi / 2])
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    root = rng.standard_normal((6, 6))
    estimate = estimated(here, root @ root.T, inliers=40).estimate
    found = relation_to(keyframe, estimated(here, root @ root.T, inliers=40), MOUNT)
    assert distance(keyframe @ found.keyframe_from_base, here) == pytest.approx((0, 0), abs=1e-6)
    assert found.inliers == 40
    turned = keyframe.rotation @ found.covariance[:3, :3] @ keyframe.rotation.T
    assert np.allclose(turned, estimate.covariance[:3, :3])
    ahead = np.zeros((6, 6))
    ahead[1, 1] = 4.0  # the map's y is ahead of this keyframe
    along = relation_to(keyframe, estimated(here, ahead), MOUNT)
    assert along.covariance[0, 0] == pytest.approx(4.0) and along.covariance[1, 1] < 1e-9
