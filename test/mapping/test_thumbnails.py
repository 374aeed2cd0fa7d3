# SPDX-License-Identifier: Apache-2.0
"""Thumbnails of map images: they fit, they show the image, and a map does without them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.data import detailed, texture

from disam_ros.cli import main
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ImageError, MapError
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.thumbnails import BYTES, FILE, ThumbnailMaker, picture


def built(dataset, model, output, config) -> PlaceMap:
    return build_map(open_dataset(dataset.directory), model, output, config, show_progress=False)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("pixels", [noise(1200, 1600), noise(5, 3000), noise(1, 1), detailed(0)])
def test_every_image_fits_in_its_row_with_its_shape(pixels):
    row = ThumbnailMaker().row(None, pixels)
    assert row.shape == (BYTES,) and row.dtype == np.uint8
    height, width = picture(row, "it").shape[:2]
    assert 1 <= max(height, width) <= 256
    scale = max(height, width) / max(pixels.shape)
    assert abs(height - scale * pixels.shape[0]) <= 1 and abs(width - scale * pixels.shape[1]) <= 1


def test_a_small_image_keeps_its_size_and_its_pixels():
    found = picture(ThumbnailMaker().row(None, texture(3)), "it")
    assert found.shape == texture(3).shape
    assert np.abs(found.astype(int) - texture(3)).mean() < 5


def test_a_map_shows_each_of_its_images(dataset, model, tmp_path, builder_config):
    place_map = built(dataset, model, tmp_path / "map", builder_config)
    for row in range(len(place_map)):
        gaps = [
            np.abs(place_map.thumbnail(row).astype(int) - texture(k)).mean()
            for k in range(len(place_map))
        ]
        assert np.argmin(gaps) == row
    assert (tmp_path / "map" / FILE).stat().st_size == 128 + len(place_map) * BYTES


def test_a_map_without_them_opens_and_shows_nothing(dataset, model, tmp_path, builder_config):
    without = replace(builder_config, thumbnails=False)
    place_map = built(dataset, model, tmp_path / "map", without)
    assert not (tmp_path / "map" / FILE).exists()
    assert "thumbnails" not in json.loads((tmp_path / "map" / "map.json").read_text())
    assert place_map.thumbnail(0) is None


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "of another map": lambda path: np.save(path, np.zeros((3, BYTES), np.uint8)),
    "of another kind": lambda path: np.save(path, np.zeros((12, BYTES))),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_a_damaged_file_is_reported_and_left_out(
    dataset, model, tmp_path, builder_config, fault, caplog, capsys
):
    built(dataset, model, tmp_path / "map", builder_config)
    DAMAGE[fault](tmp_path / "map" / FILE)
    place_map = PlaceMap(tmp_path / "map")
    assert place_map.thumbnail(0) is None
    assert f"map/{FILE} is" in caplog.text and "used without its thumbnails" in caplog.text
    assert main(["map", "check", str(tmp_path / "map")]) == 1  # which is asked to verify all files
    assert FILE in capsys.readouterr().err


def test_a_damaged_picture_is_an_error_that_names_it(dataset, model, tmp_path, builder_config):
    built(dataset, model, tmp_path / "map", builder_config)
    path = tmp_path / "map" / FILE
    data = bytearray(path.read_bytes())
    data[128 + 2 * BYTES : 128 + 3 * BYTES] = bytes(BYTES)
    path.write_bytes(data)
    place_map = PlaceMap(tmp_path / "map")
    with pytest.raises(ImageError, match=rf"{FILE}, image 2, is empty"):
        place_map.thumbnail(2)
    assert place_map.thumbnail(1) is not None
    with pytest.raises(MapError, match=rf"{FILE} is damaged: its SHA-256"):
        PlaceMap(tmp_path / "map", verify=True)


def test_thumbnails_that_are_changed_in_use_do_not_stop_the_map(
    dataset, model, tmp_path, builder_config
):
    place_map = built(dataset, model, tmp_path / "map", builder_config)
    path = tmp_path / "map" / FILE
    path.write_bytes(path.read_bytes() + b"x")
    for file in place_map.read_later:
        file.check()
    with pytest.raises(MapError, match="was changed while in use"):
        place_map.thumbnail(0)
