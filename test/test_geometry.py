# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from disam_ros.errors import GeometryError
from disam_ros.geometry import (
    CONJUGATE,
    Transform,
    compose,
    distance,
    multiplied,
    publishable_covariance,
    quaternions_of,
    rotation_vectors,
    turned,
)

numbers = st.lists(st.floats(-3, 3), min_size=6, max_size=6)


@given(numbers, numbers)
def test_composition_equals_the_product_of_matrices(a, b):
    one, two = Transform.from_xyz_rpy(a), Transform.from_xyz_rpy(b)
    product = one @ two
    assert np.allclose(product.rotation, one.rotation @ two.rotation, atol=1e-9)
    expected = one.rotation @ two.translation + one.translation
    assert np.allclose(product.translation, expected, atol=1e-9)


@given(numbers, numbers)
def test_poses_composed_at_once_equal_the_composition_of_each(a, b):
    one, two = Transform.from_xyz_rpy(a), Transform.from_xyz_rpy(b)
    product = one @ two
    (row,) = compose(np.concatenate([one.translation, one.quaternion])[None], two)
    assert np.allclose(row[:3], product.translation, atol=1e-12)
    assert np.isclose(abs(row[3:] @ product.quaternion), 1.0, atol=1e-12)


@given(numbers)
def test_a_transform_times_its_inverse_is_the_identity(values):
    pose = Transform.from_xyz_rpy(values)
    metres, degrees = distance(pose @ pose.inverse(), Transform.identity())
    assert metres < 1e-9
    assert degrees < 1e-5


def test_a_transform_of_a_read_only_array_can_be_used_and_keeps_its_values():
    values = np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0])
    source = values.copy()
    source.flags.writeable = False
    pose = Transform(source[:3], source[3:])
    assert np.allclose((pose.inverse() @ pose).translation, 0)
    shared = Transform(values[:3], values[3:])
    values[:] = 9.0
    assert shared.translation.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("translation", "quaternion"),
    [
        ([0, 0, np.nan], [0, 0, 0, 1]),
        ([1e308, 0, 0], [0, 0, 0, 1]),
        ([0, 0, 0], [0, 0, 0, 0]),
        ([0, 0], [0, 0, 0, 1]),
    ],
)
def test_what_is_no_rigid_transform_is_refused(translation, quaternion):
    with pytest.raises(GeometryError):
        Transform(np.array(translation), np.array(quaternion))


def rotations(count: int = 200) -> Rotation:
    """Random rotations, half a turn and tiny ones among them."""
    vectors = np.random.default_rng(3).standard_normal((count, 3))
    vectors[:20] *= 1e-10
    vectors[20:40] *= np.pi / np.linalg.norm(vectors[20:40], axis=1, keepdims=True)
    vectors[40] = 0.0
    return Rotation.from_rotvec(vectors)


def test_quaternions_multiply_turn_and_become_rotation_vectors_as_scipys_do():
    a, b = rotations(), rotations()[::-1]
    points = np.random.default_rng(4).standard_normal((len(a), 3))
    assert np.allclose(multiplied(a.as_quat(), b.as_quat()), (a * b).as_quat(), atol=1e-14)
    assert np.allclose(turned(a.as_quat(), points), a.apply(points), atol=1e-13)
    vectors = rotation_vectors((a * b).as_quat())
    assert np.allclose(vectors, (a * b).as_rotvec(), atol=1e-13)
    for sign in (1.0, -1.0):  # both are one turn
        again = Rotation.from_quat(quaternions_of(rotation_vectors(sign * a.as_quat())))
        assert (again * a.inv()).magnitude().max() < 1e-7
    assert np.allclose(quaternions_of(points), Rotation.from_rotvec(points).as_quat(), atol=1e-14)
    assert np.array_equal(multiplied(a.as_quat(), a.as_quat() * CONJUGATE)[40], [0, 0, 0, 1])


@pytest.mark.parametrize("seed", range(40))
def test_a_published_covariance_is_positive_definite_without_negative_elements(seed):
    mixing = np.random.default_rng(seed).normal(size=(6, 3)) * [[1], [1], [1], [0.1], [0.1], [0.1]]
    covariance = mixing @ mixing.T + 1e-6 * np.eye(6)
    published = publishable_covariance(covariance)
    assert (published >= 0).all()
    assert np.linalg.eigvalsh(published)[0] > 0
    assert np.allclose(np.diag(published), np.diag(covariance))
    assert np.allclose(published, published.T)


def test_correlations_that_are_not_negative_are_published_as_they_are():
    covariance = np.diag([4.0, 9.0, 1.0, 0.1, 0.1, 0.1])
    covariance[0, 1] = covariance[1, 0] = 3.0
    assert np.allclose(publishable_covariance(covariance), covariance)


def test_correlations_shrink_where_dropping_the_negative_ones_would_spoil_it():
    block = np.array([[1, 0.8, -0.2], [0.8, 1, 0.4], [-0.2, 0.4, 1]])
    covariance = np.eye(6)
    covariance[:3, :3] = block + 0.2 * np.eye(3)
    clipped = np.clip([[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]], 0, 1)
    assert np.linalg.eigvalsh(clipped)[0] < 0
    spoiled = np.eye(6)
    spoiled[:3, :3] = clipped
    for matrix in (covariance, spoiled):
        published = publishable_covariance(matrix)
        assert np.linalg.eigvalsh(published)[0] >= 0.0099
        assert (published >= 0).all()


def test_variances_beyond_what_nav2_takes_are_limited():
    assert publishable_covariance(np.diag([1e12, 1, 1, 1, 1, 1])).max() <= 1e9 * (1 + 1e-12)


def test_a_covariance_that_is_not_finite_is_refused():
    with pytest.raises(GeometryError, match="finite"):
        publishable_covariance(np.full((6, 6), np.nan))
