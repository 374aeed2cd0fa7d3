# SPDX-License-Identifier: Apache-2.0
"""Laws of the local spacing of a map."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from disam_ros.mapping.spacing import (
    MAX_STEP,
    neighbour_steps,
    next_rows,
    spacings,
)


def along(x, y=0.0, yaw=0.0):
    """Poses [N, 7] at x."""
    poses = np.zeros((len(x), 7))
    poses[:, 0], poses[:, 1] = x, y
    poses[:, 3:] = Rotation.from_rotvec(np.outer(np.broadcast_to(yaw, len(x)), [0, 0, 1])).as_quat()
    return poses


def test_a_map_that_is_dense_in_one_part_has_the_spacing_of_each_part():
    x = np.r_[np.arange(0.0, 10.0), np.arange(12.0, 60.0, 6.0)]
    found = spacings(neighbour_steps(along(x)))
    assert found[:9] == pytest.approx(1.0) and found[11:] == pytest.approx(6.0)


def test_the_way_to_another_drive_is_no_step_of_this_one():
    both = np.vstack([along(np.arange(0.0, 12.0, 2.0)), along(np.arange(0.0, 12.0, 3.0), 40.0)])
    found = spacings(neighbour_steps(both))
    assert found[:6] == pytest.approx(2.0) and found[6:] == pytest.approx(3.0)


def test_images_farther_apart_than_anything_is_seen_count_as_far_as_that():
    assert spacings(neighbour_steps(along([0.0, 500.0, 1000.0]))) == pytest.approx(MAX_STEP)


def test_a_single_image_has_no_steps():
    assert not neighbour_steps(along([3.0])).any()


def test_steps_point_along_the_track_and_turn_with_it():
    angle = np.arange(0.0, 1.0, 0.1)
    poses = along(20 * np.sin(angle), 20 * (1 - np.cos(angle)), angle)
    steps = neighbour_steps(poses)
    moments = np.einsum("nki,nkj->nij", steps, steps) / 2
    for yaw, moment in zip(angle[1:-1], moments[1:-1], strict=True):
        ahead = np.array([np.cos(yaw), np.sin(yaw)])
        assert ahead @ moment[:2, :2] @ ahead == pytest.approx(4.0, rel=0.01)
        assert ahead @ moment[:2, 5] == pytest.approx(2.0 * 0.1, rel=0.01)
        assert np.linalg.eigvalsh(moment[:2, :2])[0] < 0.02


def test_a_stretch_leads_to_the_next_image_of_the_drive_and_to_no_other_drive():
    both = np.vstack([along(np.arange(0.0, 6.0, 2.0)), along(np.arange(0.0, 9.0, 3.0), 40.0)])
    assert next_rows(both).tolist() == [1, 2, -1, 4, 5, -1]
    assert next_rows(along([3.0])).tolist() == [-1]
    assert next_rows(along([0.0, 500.0])).tolist() == [-1, -1]
    assert next_rows(along([0.0, 0.0, 6.0, 12.0, 13.0])).tolist() == [1, 2, 3, 4, -1]
