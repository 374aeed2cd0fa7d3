# SPDX-License-Identifier: Apache-2.0
"""No command leaves out images without saying so."""

import re
import shutil

import pytest
from support.bags import write_images
from support.data import CAMERA, camera_pose, save_tiny_model, texture, write_dataset

from disam_ros.cli import main
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import PosedImage
from disam_ros.errors import BagError, ImageError
from disam_ros.image import encode_jpeg
from disam_ros.mapping.views import MapViews

COUNT, POSED = 20, 6
COMMANDS = {  # {w}: the folder of the inputs, {o}: the output
    "extract": "extract --bag {w}/bag --domain x --output {o}",
    "build": "build-map --bag {w}/bag --model {w}/model --domain day --keypoints 0 --output {o}",
    "extend": "map extend {w}/map --bag {w}/bag --model {w}/model --domain day --output {o}",
    "evaluate": "evaluate {w}/bag --map {w}/map --model {w}/model --output {o}",
    "calibrate": "calibrate {w}/bag --map {w}/map --model {o} --overwrite",
}


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """A bag whose poses end early, a model, and a map of the images with poses."""
    root = tmp_path_factory.mktemp("drive")
    write_images(root / "bag", [encode_jpeg(texture(number)) for number in range(COUNT)], POSED)
    save_tiny_model(root / "model")
    assert main(COMMANDS["build"].format(w=root, o=root / "map").split()) == 0
    return root


@pytest.mark.parametrize("name", COMMANDS)
def test_the_last_line_says_how_many_of_the_images_were_used(name, drive, tmp_path, capsys):
    if name == "calibrate":
        shutil.copytree(drive / "model", tmp_path / "new")
    status = main(COMMANDS[name].format(w=drive, o=tmp_path / "new").split())
    printed = capsys.readouterr()
    if status:
        assert "expected" in printed.err or ":" in printed.err
        return
    last = " ".join(printed.out.split("\n")[-3:])
    assert str(POSED) in last and str(COUNT) in last, last


def test_an_evaluation_ends_with_the_images_that_cannot_be_read(drive, tmp_path, capsys):
    images = [encode_jpeg(texture(number)) for number in range(POSED)]
    write_images(tmp_path / "bag", images[:2] + [image[:60] for image in images[2:]])
    line = f"evaluate {tmp_path}/bag --map {drive}/map --model {drive}/model"
    assert main([*line.split(), "--output", str(tmp_path / "new")]) == 0
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


# Data sets that become bags.

IMAGES = "/camera/front/image_raw"
BROKEN = {
    "empty": (lambda data: b"", "is empty \\(0 bytes\\)"),
    "cut off": (lambda data: data[:-100], "is a truncated PNG"),
    "no image": (lambda data: b"hello", "is neither JPEG, PNG nor WebP"),
}


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data", 4)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_image_does_not_get_into_a_bag_and_is_counted(data, tmp_path, caplog, fault, raw):
    change, words = BROKEN[fault]
    path = data.path(data.records[2])
    path.write_bytes(change(path.read_bytes()))
    assert dataset_to_bag(data, tmp_path / "bag", raw=raw, show_progress=False) == 3
    with BagReader(tmp_path / "bag") as bag:
        topics = bag.topics()
    assert topics[IMAGES if raw else f"{IMAGES}/compressed"].count == 3
    assert topics["/camera/front/camera_info"].count == 3
    assert str(path) in caplog.text and "1 of 4 images are left out" in caplog.text
    assert re.search(words, caplog.text)


def test_a_data_set_without_a_sound_image_makes_no_bag(data, tmp_path):
    for record in data.records:
        data.path(record).write_bytes(b"")
    with pytest.raises(BagError, match="data: none of 4 images can be read"):
        dataset_to_bag(data, tmp_path / "bag", show_progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
