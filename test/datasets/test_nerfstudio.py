# SPDX-License-Identifier: Apache-2.0
"""transforms.json of nerfstudio and instant-ngp, hand-made, and what is refused."""

import json
import logging

import numpy as np
import pytest
from PIL import Image
from support.data import texture

from disam_ros.camera import EQUIRECTANGULAR, FISHEYE
from disam_ros.cli import main
from disam_ros.datasets.dataset import Dataset
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance
from disam_ros.image import read_size

COUNT = 8
LENS = {"fl_x": 50.5, "fl_y": 51.5, "cx": 32.5, "cy": 24.0, "w": 64, "h": 48}
BENT = {"k1": 0.1, "k2": -0.02, "p1": 0.003, "p2": -0.004}


def pose(index):
    """world_from_camera of the optical frame, on a bend; z up."""
    base = Transform.from_xyz_rpy([3 * index, 0.1 * index**2, 0, 0, 0, 0.06 * index])
    return base @ Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


def matrix(index, scale=1.0):
    """transform_matrix: with the axes right, up and back of the camera as columns."""
    rotation, at = pose(index).rotation, pose(index).translation / scale
    columns = [rotation[:, 0], -rotation[:, 1], -rotation[:, 2], at]
    return [*np.stack(columns, 1).tolist(), [0, 0, 0, 1]]


def capture(root, head=LENS, frame_of=lambda k: {}, scale=1.0, size=(64, 48)):
    (root / "images").mkdir(parents=True)
    frames = []
    for k in range(COUNT):
        name, frame = f"images/frame_{k:05d}.png", frame_of(k)
        shape = frame.get("w", size[0]), frame.get("h", size[1])
        Image.fromarray(texture(k)).resize(shape).save(root / name)
        frames.append({"file_path": name, "transform_matrix": matrix(k, scale), **frame})
    (root / "transforms.json").write_text(json.dumps({**head, "frames": frames}))
    return root


def convert(root, *options):
    line = ["convert", "nerfstudio", "--input", root, "--domain", "day", "--output"]
    return main([str(word) for word in [*line, root.parent / "out", *options]])


def converted(root, *options):
    assert convert(root, *(options or ("--scale", 1))) == 0
    return Dataset(root.parent / "out")


def only_camera(dataset):
    (camera,) = dataset.info.cameras.values()
    return camera


def test_frames_have_the_poses_of_their_optical_frames_in_metres(tmp_path):
    dataset = converted(capture(tmp_path / "in", scale=2.5), "--scale", 2.5)
    assert len(dataset) == COUNT
    for k, record in enumerate(dataset.records):
        assert distance(record.map_from_camera, pose(k)) == pytest.approx((0, 0), abs=1e-3)
    lens = only_camera(dataset)
    assert (lens.width, lens.height, lens.fx, lens.fy) == (64, 48, 50.5, 51.5)
    assert (lens.cx, lens.cy) == (32.0, 23.5)  # ours has centres of pixels at 0
    assert lens.distortion == ()


HEADS = {
    "opencv": ({**LENS, **BENT, "camera_model": "OPENCV"}, (0.1, -0.02, 0.003, -0.004)),
    "five": ({**LENS, **BENT, "k3": 0.5}, (0.1, -0.02, 0.003, -0.004, 0.5)),
    "fisheye": (
        {**LENS, "k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4, "camera_model": "OPENCV_FISHEYE"},
        (0.1, 0.2, 0.3, 0.4),
    ),
    "fisheye of instant-ngp": ({**LENS, "k1": 0.1, "is_fisheye": True}, (0.1, 0.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("name", HEADS)
def test_distortion_is_in_the_order_of_its_lens(tmp_path, name):
    head, distortion = HEADS[name]
    lens = only_camera(converted(capture(tmp_path / "in", head)))
    assert lens.distortion == distortion and (lens.model == FISHEYE) == ("fisheye" in name)


def test_an_angle_gives_the_focal_length_and_the_image_its_size(tmp_path):
    lens = only_camera(converted(capture(tmp_path / "in", {"camera_angle_x": np.pi / 2})))
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx((32, 32, 31.5, 23.5))


def test_images_may_be_smaller_than_the_file_says(tmp_path):
    lens = only_camera(converted(capture(tmp_path / "in", size=(32, 24))))
    assert (lens.width, lens.height, lens.fx) == (32, 24, 25.25)


def test_panoramas_are_taken(tmp_path):
    head = {"camera_model": "EQUIRECTANGULAR", "w": 96, "h": 48}
    lens = only_camera(converted(capture(tmp_path / "in", head, size=(96, 48))))
    assert lens.model == EQUIRECTANGULAR and lens.fx == pytest.approx(96 / (2 * np.pi))


def adjusted(k):
    """A camera of its own, whose images may be a pixel or two larger."""
    lens = {"fl_x": 250 + 0.1 * k, "fl_y": 250, "cx": 160.5, "cy": 120.5}
    return lens | {"w": 320 + k % 2, "h": 240 + k % 3}


def test_intrinsics_of_a_frame_count_and_like_ones_are_one_camera(tmp_path):
    dataset = converted(capture(tmp_path / "in", {}, adjusted))
    lens = only_camera(dataset)
    assert lens.fx == pytest.approx(250.35, rel=3e-3)
    for record in dataset.records:
        assert read_size(dataset.path(record)) == (lens.height, lens.width)
    two = capture(
        tmp_path / "two" / "in", LENS, lambda k: {"fl_x": 90, "fl_y": 90} if k < 2 else {}
    )
    dataset = converted(two)
    assert [record.camera for record in dataset.records[:3]] == ["camera2", "camera2", "camera1"]


def test_missing_images_are_left_out_and_counted(tmp_path, caplog, capsys):
    root = capture(tmp_path / "in")
    for k in (1, 4):
        (root / f"images/frame_{k:05d}.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(converted(root)) == COUNT - 2
    line, _ = (text for text in caplog.messages if "left out" in text)
    assert "2 of 8 images" in line and "frame_00001.png" in line
    assert "8 images: 6 kept, 0 damaged, 2 missing" in capsys.readouterr().out.splitlines()[-1]


def test_names_without_suffix_and_the_file_itself_are_read(tmp_path):
    root = capture(tmp_path / "in", frame_of=lambda k: {"file_path": f"./images/frame_{k:05d}"})
    (root / "transforms.json").rename(root / "transforms_train.json")
    assert len(converted(root / "transforms_train.json")) == COUNT


def rotated_twice(k):
    rows = np.array(matrix(k))
    rows[:3, :3] *= 2
    return {"transform_matrix": rows.tolist()}


FAULTS = {
    "no lens": ({"w": 64, "h": 48}, lambda k: {}, "expected fl_x"),
    "lens": ({**LENS, "camera_model": "ORTHOPHOTO"}, lambda k: {}, "ORTHOPHOTO is not supported"),
    "k4": ({**LENS, "k4": 0.5}, lambda k: {}, "k4 of a perspective camera"),
    "shape": ({**LENS, "h": 64}, lambda k: {}, "w and h are 64 and 64, of another shape"),
    "no rotation": (LENS, rotated_twice, "expected a rotation matrix"),
    "rows": (LENS, lambda k: {"transform_matrix": [[1.0]]}, "transform_matrix of 4x4 numbers"),
    "no path": (LENS, lambda k: {"file_path": None}, "frame 0: 'file_path' expects a text"),
    "all missing": (LENS, lambda k: {"file_path": "away.jpg"}, "away.jpg not found"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_read_is_one_line_and_writes_nothing(tmp_path, capsys, name):
    head, frame_of, words = FAULTS[name]
    assert convert(capture(tmp_path / "in", head, frame_of), "--scale", 1) == 1
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_capture_without_metres_and_a_folder_without_the_file_are_refused(tmp_path, capsys):
    root = capture(tmp_path / "in")
    assert convert(root) == 1
    assert "give --scale METRES per unit" in capsys.readouterr().err
    (root / "transforms.json").rename(root / "transforms_test.json")
    assert convert(root, "--scale", 1) == 1
    assert "name one of transforms_test.json as --input" in capsys.readouterr().err
