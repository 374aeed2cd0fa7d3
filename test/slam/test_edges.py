# SPDX-License-Identifier: Apache-2.0
"""Loop closures as edges between a pose graph's own nodes, by the rules of rtabmap's add_link."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from disam_ros.geometry import PoseWithCovariance, Transform, retract
from disam_ros.slam.edges import TOLERANCE_NS, edge_between
from disam_ros.slam.loop_closure_message import MAP, LoopClosure

SECOND = 10**9
NODES = {k * SECOND + 10_000_000: 100 + k for k in range(60)}  # made of images 10 ms later
RELATIVE = Transform.from_xyz_rpy([0.5, -0.3, 0.1, 0.02, -0.01, 2.0])


def closure(**changes):
    root = np.random.default_rng(0).standard_normal((6, 6))
    relative = PoseWithCovariance(RELATIVE, 0.01 * (root @ root.T + np.eye(6)))
    return replace(LoopClosure(50 * SECOND, 7 * SECOND, relative, 0.8, 40), **changes)


def test_rtabmap_gets_a_link_from_the_older_node_to_the_newer_with_an_information_matrix():
    edge = edge_between(closure(), NODES)
    assert (edge.from_id, edge.to_id, edge.type) == (107, 150, 1)
    assert edge.from_to == RELATIVE
    assert edge.information.shape == (6, 6) and np.allclose(edge.information, edge.information.T)
    assert np.linalg.eigvalsh(edge.information)[0] > 0  # singular ones are refused


def test_the_information_weighs_errors_in_the_axes_of_the_newer_node():
    edge, given = edge_between(closure(), NODES), closure().keyframe_from_base
    rng = np.random.default_rng(1)
    for step in 1e-4 * rng.standard_normal((10, 6)):
        wrong = retract(RELATIVE, step)  # about the axes of the older node
        error = RELATIVE.inverse() @ wrong  # g2o's and rtabmap's
        local = np.concatenate(
            [error.translation, Rotation.from_quat(error.quaternion).as_rotvec()]
        )
        expected = step @ np.linalg.solve(given.covariance, step)
        assert local @ edge.information @ local == pytest.approx(expected, rel=1e-3)


def test_only_loop_closures_that_are_edges_of_known_scale_and_of_known_nodes_are_links():
    on_map = {"kind": MAP, "map_from_keyframe": RELATIVE}
    assert edge_between(closure(**on_map), NODES) is None
    assert edge_between(closure(metric=False), NODES) is None
    assert edge_between(closure(stamp_ns=61 * SECOND), NODES) is None  # not there yet
    assert edge_between(closure(stamp_ns=50 * SECOND + 2 * TOLERANCE_NS), NODES) is None
    assert edge_between(closure(), {}) is None
