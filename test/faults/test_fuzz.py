# SPDX-License-Identifier: Apache-2.0
"""Damaged bytes and values, drawn by hypothesis: what is read, or an error of the package."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.bags import write_drive
from support.data import texture
from support.faults import (
    HEADERS,
    jpeg_of_scans,
    limited_pixels,
    png_of,
    record_table,
    webp_of,
    write_world,
)
from support.fuzz import damaged, few, read_or_refuse

from disam_ros import image
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_messages import (
    DEPTH_ENCODINGS,
    KNOWN_ENCODINGS,
    decode_depth_image,
    decode_image,
)
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.depth import decode_depth, encode_depth
from disam_ros.datasets.sources import open_images
from disam_ros.errors import DisamError
from disam_ros.geometry import Transform
from disam_ros.image import decode, encode_jpeg
from disam_ros.localization.calibration import DEFAULT, load_calibration, save_calibration
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model

SECOND = 10**9
SMALL = cv2.cvtColor(texture(0, 9, 11), cv2.COLOR_RGB2BGR)
IMAGES = [
    encode_jpeg(texture(0, 9, 11)),
    jpeg_of_scans(12),
    png_of(5, 7),
    *(cv2.imencode(form, SMALL)[1].tobytes() for form in (".png", ".webp")),
    *(webp_of(5, 7, kind) for kind in (b"VP8X", b"VP8L", b"VP8 ")),
]
DEPTH = encode_depth(np.full((6, 8), 2.0, np.float32))

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**30])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def replaced(draw: Callable[..., Any], tree: Any) -> Any:
    """A JSON value of which one part is another or missing."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(tree)))
        rest = {k: v for k, v in tree.items() if k != key}
        return rest if not draw(st.integers(0, 4)) else rest | {key: replaced(draw, tree[key])}
    if isinstance(tree, list) and tree and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], replaced(draw, tree[at]), *tree[at + 1 :]]
    return draw(values)


@pytest.fixture(autouse=True, scope="module")
def small_images():
    with limited_pixels(10**6):
        yield


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A world whose files the tests write over and put back."""
    root = write_world(tmp_path_factory.mktemp("fuzz"))
    save_calibration(DEFAULT, root / "model")
    return root


@given(st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"]), st.binary())
@example(b"\xff\xd8", b"\xff\xc0\0\0")
@few(60)
def test_any_bytes_after_a_signature_are_refused(start, rest):
    read_or_refuse(lambda: decode(start + rest))


@given(st.data())
@few(60)
def test_a_damaged_image_is_refused_or_has_the_size_that_its_header_says(data):
    """The header that is read is the one that the decoder reads, whatever was damaged."""
    result = data.draw(damaged(data.draw(st.sampled_from(IMAGES))))
    try:
        size = image.size_of(result)
        shape = decode(result).shape[:2]
    except DisamError:
        return
    assert size == shape


@given(damaged(DEPTH), st.floats())
@few(60)
def test_damaged_depth_maps_are_decoded_or_refused(found, unit):
    read_or_refuse(lambda: decode_depth(found, unit))


sizes = st.integers(0, 9) | st.sampled_from([2**16, 2**31, 2**32 - 1])
images = st.builds(
    SimpleNamespace,
    height=sizes,
    width=sizes,
    step=sizes | st.integers(0, 100),
    encoding=st.sampled_from([*KNOWN_ENCODINGS, *DEPTH_ENCODINGS, "", "8UC3"]) | st.text(),
    is_bigendian=st.integers(0, 255),
    data=st.binary(max_size=300),
)


@given(images, st.booleans())
@few(300)
def test_messages_of_any_fields_are_converted_or_refused(message, fits):
    if fits:
        message.data = bytes(min(message.height * message.step, 10**4))
    read_or_refuse(lambda: decode_image(message))
    read_or_refuse(lambda: decode_depth_image(message))


@contextmanager
def replaced_by(path: Path, content: bytes) -> Iterator[None]:
    """A file with another content."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


JSON = HEADERS | {"model/calibration.json": lambda root: load_calibration(root / "model")}


@pytest.mark.parametrize("name", JSON)
@given(data=st.data())
@few(60)
def test_a_header_with_any_value_in_any_place_is_read_or_refused(name, sound, data):
    path = sound / name
    content = json.dumps(replaced(data.draw, json.loads(path.read_bytes())))
    with replaced_by(path, content.encode("utf-8", "surrogatepass")):
        read_or_refuse(lambda: JSON[name](sound))


ARRAYS = [f"map/{name}.npy" for name in ("poses", "cameras", "coarse", "fine", "mean", "steps")]
FILES = {
    "dataset/images.csv": lambda root: load_all(root / "dataset"),
    "map/images.csv": lambda root: list(record_table(root / "map/images.csv")),
    "model/coarse.safetensors": lambda root: load_model(root / "model"),
    **dict.fromkeys(JSON, lambda root: [read(root) for read in JSON.values()]),
    **dict.fromkeys(ARRAYS, lambda root: PlaceMap(root / "map", verify=False)),
}


def load_all(source: Path) -> None:
    for item in open_images(source, "map").images:
        read_or_refuse(item.load)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@few(25)
def test_a_damaged_file_is_read_or_refused(name, sound, data):
    path = sound / name
    with replaced_by(path, data.draw(damaged(path.read_bytes()))):
        read_or_refuse(lambda: FILES[name](sound))


@given(data=st.data())
@few(25)
def test_damaged_weights_with_a_right_checksum_are_read_or_refused(sound, data):
    """Of a header of safetensors, and of weights."""
    path, header = sound / "model/fine.safetensors", sound / "model/model.json"
    whole, values = path.read_bytes(), json.loads(header.read_text())
    content = data.draw(damaged(whole[:3000])) + whole[3000:]
    values["sha256"]["fine"] = hashlib.sha256(content).hexdigest()
    with replaced_by(path, content), replaced_by(header, json.dumps(values).encode()):
        read_or_refuse(lambda: load_model(sound / "model"))


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def drive(request, tmp_path_factory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "bag", request.param, count=3)


@given(data=st.data())
@few(15)
def test_a_damaged_bag_is_read_or_refused(drive, tmp_path, data):
    bag = tmp_path / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    shutil.copytree(drive, bag)
    file = data.draw(st.sampled_from(sorted(bag.iterdir())))
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    read_or_refuse(lambda: load_all(bag))


TOPICS = {
    "/camera/front/image_raw/compressed": messages.COMPRESSED_IMAGE,
    "/camera/front/camera_info": messages.CAMERA_INFO,
    "/odom": messages.ODOMETRY,
    "/tf_static": messages.TF,
    "/ground_truth/pose": messages.POSE,
}


@given(data=st.data())
@few(12)
def test_a_bag_with_damaged_messages_is_read_or_refused(tmp_path, data):
    shutil.rmtree(tmp_path / "bag", ignore_errors=True)
    topic = data.draw(st.sampled_from(sorted(TOPICS)))
    with BagWriter(tmp_path / "bag") as bag:
        for number in range(4):
            stamp = (number + 1) * SECOND
            bag.compressed_image("front", stamp, encode_jpeg(texture(number, 12, 16)))
            bag.ground_truth(stamp, Transform.identity())
        drawn = b"\0\1\0\0" + data.draw(st.binary(max_size=200))
        bag.write_serialized(topic, TOPICS[topic], drawn, 2 * SECOND, messages.RELIABLE_QOS)
    read_or_refuse(lambda: load_all(tmp_path / "bag"))
