# SPDX-License-Identifier: Apache-2.0
"""Depth maps of images: in datasets and in bags."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support.data import CAMERA, camera_pose, texture
from support.extraction import extracted

from disam_ros.cli import main
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.depth import nearest
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.bags.image_messages import decode_depth_image
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.datasets.depth import DEPTH_UNIT, decode_depth, encode_depth, same_view
from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import BagError, DatasetError, ImageError
from disam_ros.image import encode_jpeg

SECOND = 10**9
INFO = DatasetInfo("depths", {"front": CAMERA}, depth_unit=DEPTH_UNIT)
RECORD = ImageRecord(0, 0, "front", "day", "", None)


def depth_map(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Metres with unknown pixels and sky, rounded to steps of the unit. float32 [height, width]."""
    rng = np.random.default_rng(seed)
    depth = (rng.integers(1, 60_000, (height, width)) * DEPTH_UNIT).astype(np.float32)
    depth[:4], depth[4:6] = np.inf, np.nan
    return depth


def write(directory: Path, count: int = 3, info: DatasetInfo = INFO) -> Dataset:
    """Images with depth, but for the last one."""
    with DatasetWriter(directory, info) as writer:
        for i in range(count):
            depth = depth_map(i) if i < count - 1 else None
            jpeg = encode_jpeg(texture(i))
            writer.add(jpeg, (i + 1) * SECOND, "front", "day", camera_pose(i), depth=depth)
    return Dataset(directory)


def depth_file(dataset: Dataset) -> Path:
    return dataset.directory / "depth" / "day" / "front" / f"{SECOND}.png"


# --- Files -----------------------------------------------------------------------------------


def test_depth_is_kept_to_half_a_step_and_the_unknown_and_the_sky_stay_what_they_are():
    depth = np.array([[0.5004, 99.9, 0.0005, np.inf, np.nan, -3.0, 0.0, 200.0]], np.float32)
    got = decode_depth(encode_depth(depth), DEPTH_UNIT)
    assert got.dtype == np.float32
    assert np.abs(got[0, :2] - depth[0, :2]).max() <= DEPTH_UNIT / 2 + 1e-5
    assert got[0, 2] == np.float32(DEPTH_UNIT)  # nothing seen becomes unknown
    assert np.isinf(got[0, [3, 7]]).all() and np.isnan(got[0, 4:7]).all()


def test_a_written_depth_map_is_read_back(tmp_path):
    dataset = write(tmp_path / "set")
    for i, record in enumerate(dataset.records[:2]):
        np.testing.assert_array_equal(dataset.depth(record), depth_map(i))
    assert dataset.depth(dataset.records[2]) is None
    assert dataset.info.depth_unit == DEPTH_UNIT


def test_a_dataset_without_depth_is_written_as_ever_and_gives_none(tmp_path):
    dataset = write(tmp_path / "set", 1, DatasetInfo("plain", {"front": CAMERA}))
    assert "depth_unit" not in json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert dataset.depth(dataset.records[0]) is None
    assert not (tmp_path / "set" / "depth").exists()


def test_a_depth_map_may_be_smaller_than_its_image_but_must_show_the_same(tmp_path):
    with DatasetWriter(tmp_path / "set", INFO) as writer:
        half = depth_map(0, 24, 32)
        record = writer.add(b"x", SECOND, "front", "day", None, depth=half)
        with pytest.raises(DatasetError, match="48x48, which does not fit camera 'front' of 64x48"):
            writer.add_depth(record, depth_map(0, 48, 48))
    dataset = Dataset(tmp_path / "set")
    np.testing.assert_array_equal(dataset.depth(record), half)
    depth_file(dataset).write_bytes(encode_depth(depth_map(0, 64, 48)))
    with pytest.raises(DatasetError, match="covers the view of its image"):
        dataset.depth(record)


@pytest.mark.parametrize("size", [(640, 480), (213, 160), (107, 80), (1, 1)])
def test_rounding_a_size_to_pixels_keeps_the_view(size):
    width, height = size
    for shrunk in (2, 3, 7):
        depth = np.ones((max(round(height / shrunk), 1), max(round(width / shrunk), 1)))
        assert same_view(depth, width, height)


def test_an_array_that_is_no_depth_map_and_a_missing_unit_are_refused_when_writing(tmp_path):
    with DatasetWriter(tmp_path / "set", INFO) as writer:
        for wrong in (np.ones((48, 64, 1)), np.ones((48, 64), np.uint16), np.ones((0, 64))):
            with pytest.raises(DatasetError, match="depth"):
                writer.add_depth(RECORD, wrong)
    writer = DatasetWriter(tmp_path / "two", DatasetInfo("n", {"front": CAMERA}))
    with writer, pytest.raises(DatasetError, match="depth_unit"):
        writer.add_depth(RECORD, np.ones((48, 64)))


def test_a_damaged_depth_map_is_named(tmp_path):
    dataset = write(tmp_path / "set")
    path, record = depth_file(dataset), dataset.records[0]
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    colours = cv2.imencode(".png", texture(0))[1].tobytes()
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], bytes(flipped), colours, b"noise"):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match=f"{SECOND}.png"):
            dataset.depth(record)


# --- Messages --------------------------------------------------------------------------------


def depth_message(height, width, encoding, step, data, is_bigendian=False):
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=step,
        is_bigendian=is_bigendian,
        data=bytes(data),
    )


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 4])
def test_both_depth_encodings_give_metres(big_endian, padding):
    order = ">" if big_endian else "<"
    millimetres = np.array([[0, 1, 1500], [65535, 2000, 0]], order + "u2")
    metres = np.array([[np.nan, 0.001, 1.5], [np.inf, 2.0, -np.inf]], order + "f4")
    for encoding, values in (("16UC1", millimetres), ("32FC1", metres)):
        rows = np.pad(values.view(np.uint8), ((0, 0), (0, padding)), constant_values=7)
        got = decode_depth_image(depth_message(2, 3, encoding, rows.shape[1], rows, big_endian))
        assert got.dtype == np.float32 and got.shape == (2, 3)
        np.testing.assert_allclose(got[0, 1:], [0.001, 1.5], rtol=1e-6)
        assert np.isnan(got[[0, 1], [0, 2]]).all() and got[1, 1] == 2.0
        assert got[1, 0] == (np.inf if encoding == "32FC1" else np.float32(65.535))


def test_another_encoding_or_size_is_an_image_error():
    with pytest.raises(ImageError, match="'mono16' is no depth; expected 16UC1 or 32FC1"):
        decode_depth_image(depth_message(1, 1, "mono16", 2, bytes(2)))
    with pytest.raises(ImageError, match="a row of 4 32FC1 pixels has 16 bytes"):
        decode_depth_image(depth_message(1, 4, "32FC1", 8, bytes(8)))


# --- Bags ------------------------------------------------------------------------------------


def depth_bag(path: Path, offsets: list[float], encoding: str = "32FC1") -> Path:
    """An image a second; depth that many seconds after each, nan: none. i + 1 metres everywhere."""
    with BagWriter(path) as bag:
        bag.tf_static(SECOND, {"front": CAMERA.base_from_camera})
        for i, offset in enumerate(offsets):
            stamp = (i + 1) * SECOND
            bag.camera_info("front", stamp, CAMERA)
            bag.compressed_image("front", stamp, encode_jpeg(texture(i)))
            bag.ground_truth(stamp, camera_pose(i))
            if np.isfinite(offset):
                stamp += round(offset * SECOND)
                message = messages.depth_image(stamp, "front", np.full((48, 64), i + 1.0))
                if encoding == "16UC1":
                    message.data = np.full((48, 64), 1000 * (i + 1), "<u2").view(np.uint8).ravel()
                    message.step = 128
                message.encoding = encoding
                topic = "/camera/front/depth/image_raw"
                bag.write(topic, message, stamp, messages.SENSOR_QOS)
    return path


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_depth_survives_the_way_through_a_bag(tmp_path, storage):
    before = write(tmp_path / "before")
    dataset_to_bag(before, tmp_path / "bag", storage, show_progress=False)
    with BagReader(tmp_path / "bag") as reader:
        assert reader.topics()["/camera/front/depth/image_raw"].count == 2
    counts = extracted(tmp_path / "bag", tmp_path / "after", "day", max_pose_gap=2.0)
    after = Dataset(tmp_path / "after")
    assert (counts.kept, counts.with_depth) == (3, 2)
    for a, b in zip(after.records, before.records, strict=True):
        expected = before.depth(b)
        if expected is None:
            assert after.depth(a) is None
        else:
            np.testing.assert_array_equal(after.depth(a), expected)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_an_image_takes_the_depth_nearest_in_time_within_the_gap(tmp_path, encoding):
    bag = depth_bag(tmp_path / "bag", [0.01, -0.015, 0.3, np.nan, 0.0], encoding)
    counts = extracted(bag, tmp_path / "set", "day", max_pose_gap=2.0)
    dataset = Dataset(tmp_path / "set")
    got = [dataset.depth(record) for record in dataset.records]
    assert [None if depth is None else float(depth[0, 0]) for depth in got] == [1, 2, None, None, 5]
    assert counts.with_depth == 3 and counts.kept == counts.images == 5
    assert dataset.info.depth_unit == (0.001 if encoding == "16UC1" else DEPTH_UNIT)


def test_nearest_agrees_with_comparing_all_stamps():
    rng = np.random.default_rng(0)
    stamps = rng.permutation(rng.choice(10_000, 40, replace=False))
    records = [
        ImageRecord(i, int(s), "front", "", "", None) for i, s in enumerate(range(0, 9999, 37))
    ]
    found = {r.id: at for at, chosen in nearest(stamps, records, 60).items() for r in chosen}
    for record in records:
        gaps = np.abs(stamps - record.stamp_ns)
        if gaps.min() > 60:
            assert record.id not in found
        else:
            assert gaps[found[record.id]] == gaps.min()
    assert nearest(np.zeros(0, np.int64), records, 60) == {}


def test_depth_of_another_encoding_is_refused_before_anything_is_written(tmp_path):
    bag = depth_bag(tmp_path / "bag", [0.0, 0.0], "mono16")
    with pytest.raises(BagError, match="encoding 'mono16'; depth images are 16UC1 or 32FC1"):
        extracted(bag, tmp_path / "set", "day", max_pose_gap=2.0)
    assert not (tmp_path / "set").exists()
    assert (
        extracted(bag, tmp_path / "set", "day", max_pose_gap=2.0, depth_topics={}).with_depth == 0
    )


def test_a_depth_topic_can_be_named_and_a_wrong_name_is_an_error(tmp_path):
    bag = depth_bag(tmp_path / "bag", [0.0, 0.0])
    for topics, message in (
        ({"front": "/nowhere"}, "no topic /nowhere"),
        ({"rear": "/camera/front/depth/image_raw"}, "the cameras \\['rear'\\]"),
        ({"front": "/camera/front/camera_info"}, "read from sensor_msgs/msg/Image"),
    ):
        with pytest.raises(BagError, match=message):
            extracted(bag, tmp_path / "set", "day", max_pose_gap=2.0, depth_topics=topics)


def test_one_damaged_depth_image_costs_one_depth_map(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(3):
            stamp = (i + 1) * SECOND
            bag.compressed_image("front", stamp, encode_jpeg(texture(i)))
            bag.ground_truth(stamp, camera_pose(i))
            message = messages.depth_image(stamp, "front", np.ones((48, 64)))
            message.step += i == 1
            bag.write("/camera/front/depth/image_raw", message, stamp, messages.SENSOR_QOS)
    with caplog.at_level(logging.WARNING):
        counts = extracted(tmp_path / "bag", tmp_path / "set", "day", max_pose_gap=2.0)
    assert (counts.kept, counts.with_depth) == (3, 2)
    assert "1 damaged depth images left out" in caplog.text


def test_extract_takes_depth_topics_by_camera(tmp_path, capsys):
    bag = depth_bag(tmp_path / "bag", [0.0, 0.1])
    start = ["extract", "--bag", str(bag), "--domain", "day", "--output"]
    topic = "front=/camera/front/depth/image_raw"
    for name, arguments, depths in (
        ("plain", [], 1),
        ("none", ["--depth-topic"], 0),
        ("named", ["--depth-topic", topic, "--depth-gap", "0.2"], 2),
    ):
        main([*start, str(tmp_path / name), *arguments])
        assert f"{depths} with depth" in capsys.readouterr().out
    assert main([*start, str(tmp_path / "wrong"), "--depth-topic", "front"]) == 1
    assert "expected CAMERA=TOPIC" in capsys.readouterr().err
