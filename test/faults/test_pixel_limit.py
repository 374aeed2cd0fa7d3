# SPDX-License-Identifier: Apache-2.0
"""The limit of an image's size reaches everything that reads images."""

from __future__ import annotations

import sys
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support.commands import COMMANDS
from support.data import DESCRIPTOR, save_tiny_model, texture, write_dataset
from support.faults import limited_pixels, png_of

from disam_ros import image
from disam_ros.cli import command_line, main
from disam_ros.datasets.bags.image_messages import decode_depth_image, decode_image
from disam_ros.datasets.sources import open_dataset
from disam_ros.image import MEGAPIXELS, encode_jpeg, limit_megapixels, megapixels
from training.data.image_store import ImageStore
from training.data.sources import find_photos
from training.errors import TrainingError
from training.settings import CropConfig

READING = ("build-map", "extract", "to-bag", "aerial", "convert", "evaluate", "localize")


@pytest.fixture(autouse=True)
def as_before():
    yield
    limit_megapixels(MEGAPIXELS)


@pytest.mark.parametrize("name", READING)
def test_a_command_that_reads_images_has_an_option_for_the_limit(name, tmp_path):
    line = COMMANDS[name].line(tmp_path, tmp_path / "out", "--max-megapixels", "0.5")
    assert command_line().parse_args(line).max_megapixels == 0.5


def test_a_command_has_the_limit_of_its_option_or_the_default(inputs, tmp_path, caplog):
    line = COMMANDS["evaluate"].line(inputs, tmp_path / "out")
    main([*line, "--max-megapixels", "0.003"])
    assert megapixels() == 0.003
    assert "64x48 pixels, expected at most 3000" in caplog.text
    main([*line, "--overwrite"])
    assert megapixels() == MEGAPIXELS


def test_workers_of_a_cluster_have_the_limit_of_the_process_that_builds(tmp_path, monkeypatch):
    from disam_ros.mapping.ray_encoder import RayEncoder

    ray = SimpleNamespace(
        is_initialized=lambda: True,
        put=lambda value: value,
        get=lambda call: call(),
        cluster_resources=lambda: {"CPU": 1},
        remote=lambda **_: lambda function: SimpleNamespace(remote=partial(partial, function)),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    data, model = write_dataset(tmp_path / "data", 2), save_tiny_model(tmp_path / "model")
    encoder = RayEncoder(model, DESCRIPTOR, "auto")
    items = list(open_dataset(data.directory).images)
    assert not any(isinstance(row, str) for row in encoder.submit("day", items)())
    with limited_pixels(3000):
        result = encoder.submit("day", items)
    # A worker is another process, which begins with the default.
    assert all("expected at most 3000" in reason for reason in result())


# Raw messages: their sizes are checked before any memory is asked for.

RAW = {"rgb8": 3, "bgr8": 3, "mono8": 1, "8UC3": 3, "8UC4": 4, "rgb16": 6, "mono16": 2}
RAW |= {"bayer_rggb8": 1, "bayer_gbrg16": 2, "uyvy": 2, "yuyv": 2, "nv12": 1, "nv21": 1}
DEPTH = {"16UC1": 2, "32FC1": 4}
UINT = 2**32 - 1
ABSURD = {  # of an rgb8 message with 9216 bytes: height, width, step
    "all fields of ones": (UINT, UINT, UINT),
    "a step of ones": (48, 64, UINT),
    "a product that is 0 in 32 bits": (2**16, 2**16, 3 * 2**16),
    "one column of all": (9216, 1, 1),
    "rows without bytes": (48, 64, 0),
}


def raw(encoding, pixel_bytes, height=48, width=64, step=None, data=None):
    """A message whose data fit its fields unless they are given."""
    step = width * pixel_bytes if step is None else step
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    data = np.zeros(rows * step, np.uint8) if data is None else data
    fields = {"height": height, "width": width, "step": step, "is_bigendian": 0}
    return SimpleNamespace(encoding=encoding, data=data, **fields)


def readers(encoding):
    """What takes a raw message of an encoding: of bags, of nodes."""
    if encoding in DEPTH:
        return [decode_depth_image]
    try:
        from disam_ros.nodes.conversions import image_from_message
    except ImportError:  # no ROS
        return [decode_image]
    return [decode_image, image_from_message]


@pytest.fixture
def no_copies(monkeypatch):
    """Whatever would ask for memory fails."""
    for module, name in ((cv2, "cvtColor"), (np, "ascontiguousarray"), (np, "where")):
        monkeypatch.setattr(module, name, None)


@pytest.mark.parametrize("encoding", RAW | DEPTH)
def test_a_raw_image_above_the_limit_is_refused_before_any_copy(encoding, no_copies):
    message = raw(encoding, (RAW | DEPTH)[encoding])
    words = rf"raw.*image \({encoding}\) has 64x48 pixels, expected at most 3000"
    for read in readers(encoding):
        with limited_pixels(3000), pytest.raises(image.ImageError, match=words):
            read(message)


@pytest.mark.parametrize("fault", ABSURD)
def test_a_raw_image_of_an_absurd_size_is_one_line_before_any_copy(fault, no_copies):
    height, width, step = ABSURD[fault]
    message = raw("rgb8", 3, height, width, step, np.zeros(9216, np.uint8))
    for read in readers("rgb8"):
        with pytest.raises(image.ImageError) as caught:
            read(message)
        assert str(step) in str(caught.value) and "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


# Training.


def test_images_above_the_limit_are_left_out_of_training_by_name(tmp_path, caplog):
    for name, data in (
        ("small", encode_jpeg(texture(0, 32, 32))),
        ("bomb", png_of(30_000, 30_000)),
    ):
        (tmp_path / "data" / "day").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "day" / f"{name}.jpg").write_bytes(data)
    photos = find_photos([str(tmp_path / "data")])
    store = ImageStore(photos, (32, 32), CropConfig())
    assert (len(store.images), store.skipped) == (1, 1)
    assert "bomb.jpg has 30000x30000 pixels, expected at most" in caplog.text
    with limited_pixels(1000), pytest.raises(TrainingError, match="none of 2 images can be read"):
        ImageStore(photos, (32, 32), CropConfig())
    assert "small.jpg has 32x32 pixels, expected at most 1000" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["localizer", "map_builder"])
def test_a_node_takes_the_limit_when_it_is_configured(tmp_path, name):
    rclpy = pytest.importorskip("rclpy")
    from disam_ros.nodes.localizer.node import LocalizerNode
    from disam_ros.nodes.map_builder.node import MapBuilderNode

    save_tiny_model(tmp_path / "model")
    values = {"max_megapixels": 0.002, "model": tmp_path / "model"}
    if name == "localizer":
        values |= {"map": tmp_path / "none", "autostart": "false"}
    else:
        values |= {"output": tmp_path / "map", "identity_extrinsics": "true"}
    arguments = [word for key, value in values.items() for word in ("-p", f"{key}:={value}")]
    rclpy.init(args=["--ros-args", *arguments])
    try:
        node = LocalizerNode() if name == "localizer" else MapBuilderNode()
        if name == "localizer":
            node.trigger_configure()
        node.close()
        node.destroy_node()
    finally:
        rclpy.shutdown()
    with pytest.raises(image.ImageError, match="expected at most 2000"):
        image.decode(encode_jpeg(texture(0)))
