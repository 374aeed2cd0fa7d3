# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.geometry import PoseWithCovariance, Transform, is_covariance, offset, retract
from disam_ros.image import read, to_tensor
from disam_ros.localization.pose import (
    CONFLICT,
    GAIN,
    LARGEST_SCALE,
    LEAST_SCALE,
    UPRIGHT,
    ErrorScale,
    expected_angle,
    view_angle,
    with_view_angle,
)
from disam_ros.models.model import load_model
from disam_ros.models.similarity import (
    Shifts,
    fine_descriptor,
    shifted_similarities,
    sub_cell_shifts,
)

ROOT = Path(__file__).parents[2]
WIDEST = 0.25  # share of the view
LENS = Camera(640, 480, 400.0, 400.0, 319.5, 239.5)
COVARIANCE = np.diag([0.4, 0.4, 0.1, 0.01, 0.01, 0.04]) ** 2
HERE = Transform.from_xyz_rpy([10.0, -4.0, 1.5, -np.pi / 2, 0.0, -np.pi / 2])  # looks along x


def turned_right(degrees, pose=HERE):
    """The camera turned about its y axis, which points down."""
    turn = Rotation.from_rotvec([0.0, np.radians(degrees), 0.0])
    return pose @ Transform(np.zeros(3), turn.as_quat())


def moved_right(metres, pose=HERE):
    return pose @ Transform(np.array([metres, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))


@pytest.mark.parametrize("yaw", [-8.0, -4.0, 3.0, 6.0])
def test_the_features_of_a_turned_view_are_shifted_by_its_angle(yaw):
    """Photographs of the shipped drive, turned by their homography; the shipped encoder."""
    data = Dataset(ROOT / "demo/data/reference")
    lens = data.info.cameras["front"]
    matrix = np.array([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]])
    turn = Rotation.from_rotvec([0.0, np.radians(yaw), 0.0]).as_matrix()  # here from turned
    homography = matrix @ turn.T @ np.linalg.inv(matrix)
    inner = slice(lens.height // 6, -(lens.height // 6)), slice(lens.width // 6, -(lens.width // 6))
    model, config = load_model(ROOT / "models/outdoor"), DescriptorConfig(fine_grid=16)
    angles = []
    for record in data.records[:300:50]:
        image = read(data.path(record))
        turned = cv2.warpPerspective(image, homography, image.shape[1::-1])
        features = []
        for pixels in (turned[inner], image[inner]):
            tensor = to_tensor(np.ascontiguousarray(pixels), model.network.image_size)[None]
            z = model.fine["summer_day"](tensor)
            features.append(fine_descriptor(z, config).reshape(1, z.shape[1], -1, 16).detach())
        shifts = Shifts.of_grid(*features[0].shape[-2:])
        similarities = shifted_similarities(*features, shifts)[0].numpy()
        share = sub_cell_shifts(similarities, shifts)[0, 0] / features[0].shape[-1]
        height, width = image[inner].shape[:2]
        seen = Camera(width, height, lens.fx, lens.fy, width / 2, height / 2)
        angles.append(view_angle(float(share), WIDEST, seen, seen))
    assert np.degrees(np.median(angles)) == pytest.approx(-yaw, abs=0.9)


def test_a_view_farther_right_or_turned_right_shows_the_scene_farther_left():
    assert expected_angle(HERE, HERE) == pytest.approx(0.0, abs=1e-12)
    assert expected_angle(turned_right(5.0), HERE) == pytest.approx(-GAIN * np.radians(5.0))
    assert expected_angle(moved_right(1.0), HERE) < 0.0 < expected_angle(moved_right(-1.0), HERE)
    assert view_angle(-0.1, WIDEST, LENS, LENS) < 0.0 < view_angle(0.1, WIDEST, LENS, LENS)


def test_the_angle_is_that_of_the_middle_column_for_any_lens():
    wide = Camera(800, 600, 300.0, 300.0, 420.0, 300.0)
    result = view_angle(0.05, WIDEST, wide, LENS)
    here = np.arctan((0.55 * 800 - 420.0) / 300.0)
    assert result == pytest.approx(here - np.arctan((320.0 - 319.5) / 400.0))


@pytest.mark.parametrize("columns", [9, 16, 18, 23])
def test_a_shift_at_the_end_of_its_range_is_no_measurement_for_any_grid(columns):
    shifts = Shifts.of_grid(12, columns)
    each = np.arange(2.0 * shifts.columns + 1, dtype=np.float32)
    rising = np.tile(each, (2 * shifts.rows + 1, 1)).reshape(1, -1)  # best at the end
    widest = shifts.columns / columns
    for similarities, sign in ((rising, 1), (rising[:, ::-1], -1)):
        share = float(sub_cell_shifts(similarities, shifts)[0, 0] / columns)
        assert sign * share > 0 and view_angle(share, widest, LENS, LENS) is None
    inside = sub_cell_shifts(-np.abs(rising - rising.mean() - 1), shifts)[0, 0] / columns
    assert view_angle(float(inside), widest, LENS, LENS) is not None


def test_a_descriptor_without_cells_measures_no_angle():
    widest = Shifts.of_grid(1, 1).columns / 1
    assert view_angle(0.0, widest, LENS, LENS) is None


def test_cameras_without_intrinsics_measure_no_angle():
    unknown = Camera(640, 480, 0.0, 0.0, 0.0, 0.0)
    assert view_angle(0.1, WIDEST, unknown, LENS) is None
    assert view_angle(0.1, WIDEST, LENS, None) is None


def test_a_measured_turn_corrects_the_yaw_and_makes_it_surer():
    truth = turned_right(6.0)
    angle = expected_angle(truth, HERE)
    stiff = np.diag([1e-6, 1e-6, 0.1, 0.01, 0.01, np.radians(5.0)]) ** 2  # of position
    result, _ = with_view_angle(PoseWithCovariance(HERE, stiff), HERE, angle, np.radians(0.2))
    assert np.degrees(np.abs(offset(truth, result.pose)[3:])).max() < 0.2
    assert is_covariance(result.covariance) and result.covariance[5, 5] < stiff[5, 5] / 10


def test_a_view_that_moves_down_corrects_the_pitch():
    up = HERE @ Transform.from_xyz_rpy([0.0, 0.0, 0.0, np.radians(2.0), 0.0, 0.0])
    assert view_angle(0.05, WIDEST, LENS, LENS, UPRIGHT) > 0.0
    angle = expected_angle(up, HERE, UPRIGHT)
    assert angle > 0.0 and expected_angle(moved_right(1.0), HERE, UPRIGHT) == pytest.approx(0.0)
    stiff = np.diag([0.1, 0.1, 1e-6, *np.radians([2.0] * 3)]) ** 2
    pose = PoseWithCovariance(HERE, stiff)
    result, _ = with_view_angle(pose, HERE, angle, np.radians(0.1), axis=UPRIGHT)
    assert np.degrees(np.abs(offset(up, result.pose)[3:])).max() < 0.1


def test_where_the_heading_is_sure_the_angle_is_an_offset_to_the_side():
    truth = moved_right(0.5)
    stiff = np.diag([0.5, 0.5, 0.1, 1e-4, 1e-4, 1e-4]) ** 2
    angle = expected_angle(truth, HERE)
    result, _ = with_view_angle(PoseWithCovariance(HERE, stiff), HERE, angle, np.radians(0.1))
    assert np.linalg.norm(offset(truth, result.pose)[:3]) < 0.05


def test_in_a_bend_the_angle_tells_the_progress_along_the_track():
    metres, turn = 3.0, np.radians(-9.0)  # from one map image to the next, to the right
    step = np.array([metres, 0.0, 0.0, 0.0, 0.0, turn])
    covariance = COVARIANCE / 100 + np.outer(step, step) / 12
    truth = turned_right(4.5, Transform(HERE.translation + [1.5, 0.0, 0.0], HERE.quaternion))
    angle = expected_angle(truth, HERE)
    result, _ = with_view_angle(PoseWithCovariance(HERE, covariance), HERE, angle, np.radians(0.3))
    assert np.abs(offset(truth, result.pose)[0]) < 0.3
    assert result.covariance[0, 0] < covariance[0, 0] / 4


def test_an_angle_corrects_nothing_of_errors_that_are_not_its_own():
    metres, turn = 3.0, np.radians(-9.0)
    step = np.array([metres, 0.0, 0.0, 0.0, 0.0, turn])
    others = np.outer(step, step) / 12
    truth = turned_right(4.5, Transform(HERE.translation + [1.5, 0.0, 0.0], HERE.quaternion))
    pose, angle = PoseWithCovariance(HERE, COVARIANCE / 100), expected_angle(truth, HERE)
    result, _ = with_view_angle(pose, HERE, angle, np.radians(0.3), others)
    assert is_covariance(result.covariance) and abs(offset(result.pose, HERE)[0]) < 0.05
    without, _ = with_view_angle(pose, HERE, 0.0, np.radians(0.3))
    assert without.covariance[5, 5] < result.covariance[5, 5] < pose.covariance[5, 5]


def test_an_angle_that_contradicts_the_pose_is_left_out():
    sure = PoseWithCovariance(HERE, COVARIANCE * 1e-2)
    same, distance = with_view_angle(sure, HERE, np.radians(12.0), np.radians(1.0))
    assert same is sure and distance > CONFLICT


def test_normalized_innovations_are_one_in_the_mean_where_covariances_are_true():
    rng, noise, pose = (
        np.random.default_rng(3),
        np.radians(1.0),
        PoseWithCovariance(HERE, COVARIANCE),
    )
    distances = []
    for _ in range(2000):
        truth = retract(HERE, rng.multivariate_normal(np.zeros(6), COVARIANCE))
        angle = expected_angle(truth, HERE) + rng.normal(0.0, noise)
        distances.append(with_view_angle(pose, HERE, angle, noise)[1])
    assert np.mean(distances) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 3.0])
def test_a_drive_shows_how_large_its_errors_are(ratio):
    """Innovations of that variance over the calibrated one."""
    rng, scale, values = np.random.default_rng(4), ErrorScale(), []
    for square in ratio * rng.normal(0.0, 1.0, 2000) ** 2:
        scale.add(square / scale.value, 1.0)
        values.append(scale.value)
    assert np.mean(values[100:]) == pytest.approx(ratio, rel=0.25)


def test_errors_are_those_calibrated_until_a_drive_shows_others():
    scale = ErrorScale()
    assert scale.value == 1.0
    for _ in range(1000):
        scale.add(0.0, 0.0)  # of an image that is no new evidence
    assert scale.value == 1.0
    for _ in range(1000):
        scale.add(0.0, 1.0)
    assert scale.value == LEAST_SCALE
    for _ in range(1000):
        scale.add(1e6, 1.0)  # one contradiction counts no more than CONFLICT
    assert scale.value == LARGEST_SCALE
