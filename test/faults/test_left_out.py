# SPDX-License-Identifier: Apache-2.0
"""No command uses fewer than half of the images without saying so in its last line."""

import shutil

import numpy as np
import pytest
from support.data import CAMERA, camera_pose, save_tiny_model, texture

from disam_ros.cli import main
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import PosedImage
from disam_ros.errors import ImageError
from disam_ros.geometry import Transform
from disam_ros.image import encode_jpeg
from disam_ros.mapping.views import MapViews

SECOND = 10**9
COUNT, POSED = 20, 6


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """A bag whose poses end early, a model, and a map of the images with poses."""
    root = tmp_path_factory.mktemp("drive")
    with BagWriter(root / "bag") as bag:
        bag.tf_static(
            SECOND, {"front": Transform.from_xyz_rpy([0, 0, 1, -np.pi / 2, 0, -np.pi / 2])}
        )
        for number in range(COUNT):
            stamp = (10 + number) * SECOND // 5
            bag.compressed_image("front", stamp, encode_jpeg(texture(number)))
            if number < POSED:
                pose = Transform.from_xyz_rpy([2.0 * number, 0, 0, 0, 0, 0])
                bag.ground_truth(stamp, pose)
    save_tiny_model(root / "model")
    assert main(["build-map", "--bag", str(root / "bag"), *options(root), *out(root / "map")]) == 0
    return root


def options(root):
    return ["--model", str(root / "model"), "--domain", "day", "--keypoints", "0"]


def out(path):
    return ["--output", str(path)]


def copy(model, new):
    """A model that a command may change."""
    return shutil.copytree(model, new)


COMMANDS = {
    "extract": lambda root, new: ["extract", "--bag", root / "bag", "--domain", "x", *out(new)],
    "build-map": lambda root, new: ["build-map", "--bag", root / "bag", *options(root), *out(new)],
    "map extend": lambda root, new: [
        "map", "extend", root / "map", "--bag", root / "bag", "--model", root / "model",
        "--domain", "day", *out(new),
    ],
    "evaluate": lambda root, new: [
        "evaluate", root / "bag", "--map", root / "map", "--model", root / "model", *out(new),
    ],
    "calibrate": lambda root, new: [
        "calibrate", root / "bag", "--map", root / "map", "--model", copy(root / "model", new),
        "--overwrite",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_last_line_says_how_many_of_the_images_were_used(name, drive, tmp_path, capsys):
    status = main([str(word) for word in COMMANDS[name](drive, tmp_path / "new")])
    printed = capsys.readouterr()
    if status:
        assert "expected" in printed.err or ":" in printed.err
        return
    last = " ".join(printed.out.split("\n")[-3:])
    assert str(POSED) in last and str(COUNT) in last, last


def test_an_evaluation_ends_with_the_images_that_cannot_be_read(drive, tmp_path, capsys):
    with BagWriter(tmp_path / "bag") as bag:
        for number in range(POSED):
            stamp, whole = (10 + number) * SECOND // 5, encode_jpeg(texture(number))
            bag.compressed_image("front", stamp, whole if number < 2 else whole[:60])
            pose = Transform.from_xyz_rpy([2.0 * number, 0, 0, 0, 0, 0])
            bag.ground_truth(stamp, pose)
    line = ["evaluate", tmp_path / "bag", "--map", drive / "map", "--model", drive / "model"]
    assert main([str(word) for word in [*line, *out(tmp_path / "new")]]) == 0
    last = " ".join(" ".join(capsys.readouterr().out.split("\n")[-3:]).split())
    assert f"{POSED - 2} of them unreadable" in last


@pytest.mark.parametrize(("size", "fits"), [((64, 48), True), ((32, 24), True), ((64, 36), False)])
def test_an_image_of_another_shape_than_its_cameras_cannot_be_loaded(size, fits):
    """Its intrinsics are those of another crop, as after a change of the camera's mode."""
    width, height = size
    record = ImageRecord(1, 1, "front", "day", "a.png", camera_pose(0))
    item = PosedImage(record, lambda: texture(0, height, width))
    view = MapViews({"front": CAMERA}).of(item)
    if fits:
        assert view.load().shape == (height, width, 3)
    else:
        with pytest.raises(ImageError, match="another shape than 64x48"):
            view.load()
