# SPDX-License-Identifier: Apache-2.0
"""Faults of images, data sets, bags and arguments: what is injected, where, what must be seen."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.bags import write_images
from support.data import texture
from support.extraction import extracted
from support.faults import (
    HEADERS,
    as_nobody,
    edit_json,
    jpeg_of,
    jpeg_of_scans,
    limited_pixels,
    png_of,
    record_table,
    webp_of,
    write_world,
)

from disam_ros import image
from disam_ros.cli import main
from disam_ros.datasets.aerial.tiles import TileSet
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.depth import decode_depth
from disam_ros.datasets.records import read_records
from disam_ros.datasets.sensor_tables import FIX_COLUMNS, read_odometry, read_table
from disam_ros.datasets.sources import open_bag, open_images
from disam_ros.datasets.text_rows import text_rows
from disam_ros.errors import BagError, DatasetError, DisamError, ImageError
from disam_ros.evaluation.submission import answered_poses
from disam_ros.geometry import Transform
from disam_ros.image import decode, encode_jpeg
from disam_ros.localization.prior import PositionPrior
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model

SECOND = 10**9
INF, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def world(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "world")


# Images whose header claims more than is good: refused before any memory is asked for.

BOMBS = {
    "PNG of 30000x30000": (png_of(30_000, 30_000), "30000x30000 pixels, expected at most"),
    "PNG without pixels": (png_of(0, 5), "expected an image with pixels"),
    "JPEG of 65500x65500": (jpeg_of(65_500, 65_500), "65500x65500 pixels"),
    "JPEG without rows": (jpeg_of(64, 0), "expected an image with pixels"),
    "JPEG of 1000 scans": (jpeg_of_scans(1000), "1000 scans, expected at most 64"),
    "lossy WebP": (webp_of(16_383, 16_383, b"VP8 "), "16383x16383 pixels"),
    "lossless WebP": (webp_of(16_384, 16_384, b"VP8L"), "16384x16384 pixels"),
    "extended WebP": (webp_of(2**24, 2**24, b"VP8X"), "16777216x16777216 pixels"),
}
NO_IMAGES = {
    "nothing": (b"", "empty"),
    "text": (b"not an image", "neither JPEG, PNG nor WebP"),
    "BMP": (cv2.imencode(".bmp", texture(0))[1].tobytes(), "neither JPEG, PNG nor WebP"),
    "PNG cut in its header": (png_of(9, 9)[:20], "damaged PNG"),
    "PNG with another chunk first": (png_of(9, 9).replace(b"IHDR", b"iHDR"), "damaged PNG"),
    "PNG cut in its pixels": (png_of(640, 480)[:60], "truncated PNG"),
    "WebP cut in its header": (webp_of(9, 9, b"VP8X")[:25], "damaged WebP"),
    "WebP of an unknown kind": (webp_of(9, 9, b"VP8X").replace(b"VP8X", b"VP8?"), "damaged WebP"),
    "JPEG of two bytes": (b"\xff\xd8", "truncated JPEG"),
    "JPEG of markers without end": (b"\xff\xd8" + b"\xff\xd0" * 10**6, "truncated JPEG"),
    "JPEG of fill bytes without end": (b"\xff\xd8" + b"\xff" * 10**6, "truncated JPEG"),
    "JPEG cut in a segment": (encode_jpeg(texture(0))[:100], "truncated JPEG"),
    "JPEG cut in its pixels": (encode_jpeg(texture(0))[:-200], "truncated JPEG"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_decoded(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    data, words = BOMBS[name]
    with pytest.raises(ImageError, match=words):
        decode(data, "the image")


@pytest.mark.parametrize("name", NO_IMAGES)
def test_a_file_that_is_no_image_is_named(name, tmp_path):
    data, words = NO_IMAGES[name]
    (tmp_path / "seen.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=rf"(?s)(seen\.jpg.*{words}|{words}.*seen\.jpg)"):
        image.read(tmp_path / "seen.jpg")


def test_the_limit_can_be_set_and_the_error_says_how():
    data = encode_jpeg(texture(0))
    with limited_pixels(48 * 64):
        assert decode(data).shape == (48, 64, 3)
    words = "64x48 pixels, expected at most 3071: make it smaller, or raise max_megapixels"
    with limited_pixels(48 * 64 - 1), pytest.raises(ImageError, match=words):
        decode(data)


def test_a_bomb_is_refused_wherever_images_come_from(world, tmp_path, monkeypatch):
    """In a data set, as its depth, as a tile, as a message and in a bag."""
    monkeypatch.setattr(cv2, "imdecode", None)
    dataset, bomb = Dataset(world / "dataset"), png_of(30_000, 30_000)
    dataset.path(dataset.records[0]).write_bytes(bomb)
    (world / "tiles/tiles/0_0.jpg").write_bytes(bomb)
    compressed = messages.compressed_image(SECOND, "camera", bomb)
    bag = write_images(tmp_path / "bag", [bomb])
    for read in (
        lambda: next(iter(open_images(world / "dataset", "map").images)).load(),
        lambda: decode_depth(png_of(30_000, 30_000, bits=16, colour=0), 0.001),
        lambda: TileSet(world / "tiles").tile(0, 0),
        lambda: decode_image(compressed),
        lambda: next(iter(open_images(bag, "map").images)).load(),
    ):
        with pytest.raises((ImageError, DatasetError, BagError), match="30000x30000 pixels"):
            read()


@pytest.mark.parametrize("form", [".jpg", ".png", ".webp"])
def test_a_large_image_is_decoded_at_reduced_scale_unless_it_is_wanted_whole(form, monkeypatch):
    monkeypatch.setattr(image, "LARGE", 48 * 64 - 1)
    data = cv2.imencode(form, texture(0))[1].tobytes()
    assert decode(data).shape == (24, 32, 3)
    assert decode(data, whole=True).shape == (48, 64, 3)
    monkeypatch.setattr(image, "LARGE", 30)
    assert decode(data).shape == (6, 8, 3)


@pytest.mark.parametrize("padding", [b"\0" * 4096, b"\xff" * 4096, os.urandom(4096), b"\0" * 63])
@pytest.mark.parametrize("form", [".jpg", ".png"])
def test_a_complete_image_with_padding_is_complete(form, padding):
    data = cv2.imencode(form, texture(0))[1].tobytes()
    assert np.array_equal(decode(data + padding), decode(data))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image():
    data, thumbnail = encode_jpeg(texture(0)), encode_jpeg(texture(1, 8, 8))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    assert np.array_equal(decode(with_thumbnail), decode(data))
    with pytest.raises(ImageError, match="truncated JPEG"):
        decode(with_thumbnail[:-100])


# Files that are no files, may not be read or were edited by hand.

LISTS = {  # of text, a row a line
    "dataset/images.csv": lambda root: read_records(root / "dataset/images.csv"),
    "dataset/odom.csv": lambda root: read_odometry(root / "dataset"),
    "dataset/fix.csv": lambda root: read_table(root / "dataset/fix.csv", FIX_COLUMNS),
    "dataset/answers.csv": lambda root: answered_poses(
        root / "dataset/answers.csv", Dataset(root / "dataset"), "cmu-seasons"
    ),
    "dataset/poses.txt": lambda root: list(text_rows(root / "dataset/poses.txt")),
}
READERS = (
    LISTS
    | HEADERS
    | {
        "dataset/images/day/front/1000000000.jpg": lambda root: next(
            iter(open_images(root / "dataset", "map").images)
        ).load(),
        "dataset/depth/day/front/1000000000.png": lambda root: Dataset(root / "dataset").depth(
            Dataset(root / "dataset").records[0]
        ),
        "map/images.csv": lambda root: PlaceMap(root / "map"),
        "map/fine.npy": lambda root: PlaceMap(root / "map"),
        "model/coarse.safetensors": lambda root: load_model(root / "model"),
        "drive.mcap": lambda root: BagReader(root / "drive.mcap"),
    }
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def zeros(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 2**34)


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [pipe, endless, folder])
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_a_device_or_a_folder_in_place_of_a_file_is_an_error_that_names_it(name, put, world):
    path = world / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    put(path)
    with pytest.raises(DisamError, match=Path(name).stem):
        READERS[name](world)


@pytest.mark.parametrize("put", [zeros, no_text])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_without_text_or_without_an_end_is_refused_by_name(name, put, world):
    put(world / name)
    with pytest.raises(DatasetError, match=rf"{name}.*(line 1 has more than|expected UTF-8 text)"):
        LISTS[name](world)


FOLDERS = {Path(name).parts[0]: read for name, read in HEADERS.items()}
FOLDERS["drive"] = lambda root: BagReader(root / "drive")


@pytest.mark.parametrize("name", READERS | FOLDERS)
def test_a_file_or_folder_that_may_not_be_opened_is_named_with_the_reason(name, world):
    path = world / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.mkdir() if name in FOLDERS else path.touch()
    path.chmod(0)
    with as_nobody(world), pytest.raises(DisamError, match=rf"{path.name}.*Permission denied"):
        (READERS | FOLDERS)[name](world)


@pytest.mark.parametrize("name", HEADERS)
def test_a_file_of_another_format_names_what_makes_it_anew(name, world):
    (world / name).write_text('{"format_version": 0}')
    with pytest.raises(DisamError, match="format version 0, expected") as refusal:
        READERS[name](world)
    assert re.search("disam [a-z]+", str(refusal.value)), refusal.value


HEADER_EDITS = {  # one of each kind: all values are checked by the same code
    "dataset/dataset.json": [
        (lambda v: v.pop("cameras"), "'cameras' expects an object; it is missing"),
        (lambda v: v.update(cameras=[]), "'cameras' expects an object; got"),
        (lambda v: v.update(name=None), "'name' expects a text of up to 4096 characters; got None"),
        (lambda v: v.update(latitude=NAN), "'latitude' expects a finite"),
        (lambda v: v.update(latitude=91, longitude=0), "expects latitude and longitude in"),
        (lambda v: v.update(depth_unit=0), "depth_unit is 0.0; expected"),
        (lambda v: v.update(colour=1), "unknown name 'colour'; expected"),
    ],
    "tiles/tiles.json": [
        (lambda v: v.pop("origin"), "'origin' expects a list of 2, each a finite"),
        (lambda v: v["tiles"].append({}), "tile 1: 'column' expects a whole"),
    ],
    "map/map.json": [
        (lambda v: v["sha256"].update({"fine.npy": None}), "'sha256' expects an object of which"),
        (lambda v: v["sha256"].pop("fine.npy"), "fine.npy is damaged: its SHA-256"),
        (lambda v: v.update(images=10**30), "'images' expects a whole number"),
        (lambda v: v["descriptor"].update(fine_grid=0), "'fine_grid' expects a whole"),
        (lambda v: v.update(keypoints={"features": "sift"}), "'count' expects a whole"),
        (lambda v: v.update(camera_names="front"), "'camera_names' expects a list"),
        (lambda v: v.update(camera_names=["front"] * 2), "'camera_names' expects a name"),
        (lambda v: v.update(revision=-1), "'revision' expects a whole number from 1"),
        (lambda v: v["history"][0].update(operation=None), "'operation' expects a text"),
        (lambda v: v.update(latitude=0, longitude=181), "expects latitude and longitude in"),
    ],
}
CAMERA_EDITS = [
    (lambda v: v.pop("fx"), "'fx' expects a finite number; it is missing"),
    (lambda v: v.update(fx=INF), "'fx' expects a finite number; got inf"),
    (lambda v: v.update(fx=1e300), "no lens"),
    (lambda v: v.update(distortion=[1e300, 0, 0, 0]), "expected distortion coefficients up"),
    (lambda v: v.update(height=10**5), "expected"),
    (lambda v: v.update(width=6.5), "'width' expects a whole number; got 6.5"),
    (lambda v: v.update(distortion=[1, 2, 3]), "'distortion' expects 0, 4, 5, 8, 12, 14 numbers"),
    (lambda v: v.update(base_from_camera=[0] * 6), "'base_from_camera' expects a list of 7"),
    (lambda v: v.update(base_from_camera=[0] * 7), "'base_from_camera': expected finite metres"),
    (lambda v: v.update(colour=1), "unknown name 'colour'; expected width, height"),
]
EDITS = [(name, *edit) for name, edits in HEADER_EDITS.items() for edit in edits]
EDITS += [
    ("map/map.json", lambda v, change=change: change(v["cameras"]["front"]), rf"'front': {words}")
    for change, words in CAMERA_EDITS
]


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_a_header_edited_by_hand_is_refused_with_file_key_and_what_was_expected(number, world):
    name, change, words = EDITS[number]
    edit_json(world / name, change)
    with pytest.raises(DisamError, match=rf"(?s){Path(name).parent}.*{words}"):
        READERS[name](world)


ROW = "0,1000000000,front,day,there,images/a.jpg,0,0,0,0,0,0,1"
HEAD = "id,stamp_ns,camera,domain,source,path,tx,ty,tz,qx,qy,qz,qw"
ROWS = {
    "a negative id": (f"-1{ROW[1:]}", "line 2 is malformed"),
    "an id that is no whole number": (f"1.5{ROW[1:]}", "line 2 is malformed"),
    "no number": (ROW.replace(",0,0,0,0", ",x,0,0,0", 1), "line 2 is malformed"),
    "nan": (ROW.replace(",0,0,0,0", ",nan,0,0,0", 1), "line 2 is malformed"),
    "a stamp beyond 64 bits": (ROW.replace("1000000000", "9" * 30), "stamp_ns expects"),
    "a negative stamp": (ROW.replace("1000000000", "-1"), "stamp_ns expects"),
    "too few cells": ("0,1", "line 2 is malformed"),
    "a zero byte": (ROW.replace("a.jpg", "\0"), "malformed"),
    "a cell of 200 kB": (ROW.replace("there", "x" * 200_000), "malformed"),
    "a line of 2 MB": ("0," * 2**20, "malformed"),
    "no text": (ROW.replace("there", "\xff"), "malformed"),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("read", [read_records, lambda path: list(record_table(path))])
def test_a_row_at_fault_is_named_with_file_and_line(read, name, tmp_path):
    row, words = ROWS[name]
    (tmp_path / "images.csv").write_bytes(f"{HEAD}\n{row}\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=rf"images\.csv.*{words}"):
        read(tmp_path / "images.csv")


# Bags without camera_info: damaged images are skipped and named, wherever they stand.


DAMAGED = encode_jpeg(texture(0))[:-200]
SOUND = [encode_jpeg(texture(n)) for n in range(3)]


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("damaged", [DAMAGED, b"", b"\xff\xd8", png_of(30_000, 30_000)])
def test_a_damaged_image_of_a_bag_without_calibration_is_skipped_and_named(
    at, damaged, world, builder_config, caplog
):
    bag = write_images(world / "bag", [*SOUND[:at], damaged, *SOUND[at:]])
    model = load_model(world / "model")
    result = build_map(open_bag(bag), model, world / "new", builder_config, show_progress=False)
    assert len(result) == 3 and '"skipped": 1' in (world / "new/map.json").read_text()
    assert f"skipped: bag {bag}, /camera/front/image_raw/compressed at" in caplog.text
    counts = extracted(bag, world / "extracted", "day")
    assert (counts.kept, counts.damaged) == (3, 1)


def test_a_message_of_an_image_that_cannot_be_read_is_skipped_and_named(world, caplog):
    topic, qos = "/camera/front/image_raw/compressed", messages.SENSOR_QOS
    bag = world / "bag"
    with BagWriter(bag) as writer:
        writer.write_serialized(topic, messages.COMPRESSED_IMAGE, b"\0\1\0\0\xff", SECOND, qos)
        for number, data in enumerate(SOUND):
            writer.compressed_image("front", (number + 2) * SECOND, data)
        for number in range(5):
            writer.ground_truth((number + 1) * SECOND, Transform.identity())
    counts = extracted(bag, world / "extracted", "day")
    assert (counts.kept, counts.damaged) == (3, 1)
    assert f"bag {bag}, {topic} at {SECOND} ns" in caplog.text


def test_a_bag_without_one_sound_image_is_refused_with_bag_and_topic(tmp_path):
    bag = write_images(tmp_path / "bag", [b"", b"x"])
    with pytest.raises(BagError, match=rf"{bag} holds no colour.* /camera/front/.*no image"):
        open_bag(bag)


def test_an_unknown_weather_word_of_a_settings_file_is_an_error(world, capsys):
    (world / "settings.yaml").write_text("domain: {weather: raspberry}\n")
    options = {"map": "map", "model": "model", "config": "settings.yaml", "output": "evaluation"}
    paths = [text for name, path in options.items() for text in (f"--{name}", world / path)]
    arguments = ["evaluate", world / "dataset", *paths]
    assert main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("disam: ") and "raspberry" in error
    assert not (world / "evaluation").exists()


# Priors.


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metres", [1e6, 1e9, 1e200, INF])
def test_a_prior_stays_one_however_far_it_is_widened(metres):
    wide = PositionPrior([0.0, 0.0], np.diag([1e18, 1e-12])).widened(metres)
    assert np.isfinite(wide.covariance).all() and np.isfinite(wide.deviation)
    assert np.isfinite(wide.log_likelihood(np.zeros((1, 2)), 0.05)).all()
