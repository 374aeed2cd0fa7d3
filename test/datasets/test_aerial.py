# SPDX-License-Identifier: Apache-2.0
"""Aerial tiles, polar pictures of them, and the town from above."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.cli import main
from disam_ros.datasets.aerial.polar import (
    AerialConfig,
    along_track,
    even_angles,
    heading_of,
    pinhole_angles,
    polar_view,
    write_aerial_dataset,
)
from disam_ros.datasets.aerial.tiles import TileInfo, TileSet, TileWriter
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.errors import ConfigError, DatasetError, ImageError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance

SECOND = 10**9
SIZE, SCALE = 32, 0.5  # pixels of a tile, metres of a pixel
SIDE = SIZE * SCALE
ORIGIN = (-20.0, -10.0)
CAMERA = Camera(64, 48, 40.0, 40.0, 31.5, 23.5)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A blotchy picture without sharp edges, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).integers(60, 200, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_tiles(directory: Path, columns: int = 4, rows: int = 3, **info: object) -> np.ndarray:
    """Tiles of one picture, lossless; gives the picture, north up."""
    whole = smooth(rows * SIZE, columns * SIZE)
    with TileWriter(directory, TileInfo(SCALE, SIZE, ORIGIN, **info)) as writer:
        for row in range(rows):
            for column in range(columns):
                top = (rows - 1 - row) * SIZE
                part = whole[top : top + SIZE, column * SIZE : (column + 1) * SIZE]
                writer.add(column, row, part)
                png = cv2.imencode(".png", part[..., ::-1])[1].tobytes()
                (writer.folder / f"tiles/{column}_{row}.jpg").write_bytes(png)
    return whole


def pose(x: float, y: float, yaw: float) -> Transform:
    """map_from_camera of a level camera that looks along `yaw`."""
    return Transform.from_xyz_rpy([x, y, 1.5, 0, 0, yaw]) @ Transform.from_rotation(
        np.zeros(3), BODY_FROM_OPTICAL
    )


def write_poses(directory: Path, places: list[Transform | None], **info: object) -> Dataset:
    with DatasetWriter(directory, DatasetInfo("drive", {"front": CAMERA}, **info)) as writer:
        for i, place in enumerate(places):
            writer.add(b"never read", (i + 1) * SECOND, "front", "day", place)
    return Dataset(directory)


# --- Polar pictures --------------------------------------------------------------------------


def full_circle(tile, height=112, width=616):
    """The polar transform of SAFA: from south over west, north in the middle, and east."""
    return polar_view(tile, np.pi / 2, even_angles(2 * np.pi, width), height)


def polar_loop(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    """The formula, pixel by pixel in float64."""
    size, out = len(tile), np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            theta, radius = 2 * math.pi * j / width, size / 2 * (height - 1 - i) / height
            row = size / 2 + radius * math.cos(theta)
            column = size / 2 - radius * math.sin(theta)
            y, x = math.floor(row), math.floor(column)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (1 - abs(row - y - dy)) * (1 - abs(column - x - dx))
                at = (min(max(v, 0), size - 1) for v in (y + dy, x + dx))
                out[i, j] += weight * tile[tuple(at)]
    return out


@pytest.mark.parametrize("size", [40, 33])
def test_the_polar_transform_is_its_formula(size):
    tile = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
    got = full_circle(tile, 14, 44)
    assert got.dtype == np.uint8 and got.shape == (14, 44, 3)
    assert np.abs(got - polar_loop(tile, 14, 44)).max() <= 0.5 + 1e-6


def test_turning_the_heading_shifts_the_panorama():
    tile = smooth(50, 50)
    whole = full_circle(tile, 20, 80)
    for quarter in range(4):
        turned = polar_view(tile, np.pi / 2 + quarter * np.pi / 2, even_angles(2 * np.pi, 80), 20)
        assert np.abs(turned.astype(int) - np.roll(whole, 20 * quarter, axis=1)).max() <= 1


@pytest.mark.parametrize("yaw", [0.0, 0.7, 2.5, -1.9])
def test_what_a_pinhole_camera_sees_in_a_column_lies_in_that_column(yaw):
    place, size = pose(3.0, -2.0, yaw), 401
    for pixel in (2.0, 20.0, 31.5, 50.0, 62.0):
        ray = place.rotation @ np.array([(pixel - CAMERA.cx) / CAMERA.fx, 0.0, 1.0])
        point = 60.0 * ray[:2] / np.linalg.norm(ray[:2])  # pixels of the tile: east, north
        tile = np.zeros((size, size, 3), np.uint8)
        centre = (round((size / 2 + point[0]) * 16), round((size / 2 - point[1]) * 16))
        cv2.circle(tile, centre, 16 * 4, (255, 255, 255), -1, cv2.LINE_AA, 4)
        view = polar_view(tile, heading_of(place), pinhole_angles(CAMERA), 100)[..., 0]
        weight = view.sum(0).astype(float)
        seen = (weight * np.arange(64)).sum() / weight.sum()
        assert seen == pytest.approx(pixel, abs=0.7 if 5 < pixel < 58 else 2.0)


def test_a_tile_that_is_not_square_or_no_picture_is_refused():
    with pytest.raises(ConfigError, match="square"):
        full_circle(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ImageError):
        full_circle(np.zeros((4, 4), np.uint8))
    with pytest.raises(DatasetError, match="no heading"):
        heading_of(Transform.identity())


# --- Tiles -----------------------------------------------------------------------------------


def test_a_crop_is_the_same_wherever_the_borders_of_tiles_lie(tmp_path):
    whole = write_tiles(tmp_path)
    tiles = TileSet(tmp_path)
    assert len(tiles) == 12
    height = len(whole)
    for column, row in ((10, 10), (27, 31), (32, 64), (60, 40)):  # of the crop's upper left corner
        x = ORIGIN[0] + (column + 10) * SCALE
        y = ORIGIN[1] + (height - row - 10) * SCALE
        got = tiles.crop(x, y, 20 * SCALE)
        np.testing.assert_array_equal(got, whole[row : row + 20, column : column + 20])


def test_a_crop_between_pixels_mixes_them_by_their_shares(tmp_path):
    whole = write_tiles(tmp_path).astype(float)
    tiles, height = TileSet(tmp_path), 3 * SIZE
    for right, down in ((0.25, 0.0), (0.0, 0.4), (0.3, 0.8)):
        x = ORIGIN[0] + (30 + 10 + right) * SCALE
        y = ORIGIN[1] + (height - (30 + 10 + down)) * SCALE
        rows, columns = slice(30, 50), slice(30, 50)
        below, across = slice(31, 51), slice(31, 51)
        upper = (1 - right) * whole[rows, columns] + right * whole[rows, across]
        lower = (1 - right) * whole[below, columns] + right * whole[below, across]
        expected = (1 - down) * upper + down * lower
        assert np.abs(tiles.crop(x, y, 20 * SCALE) - expected).max() <= 0.5 + 1e-3


def test_a_crop_may_touch_the_border_of_the_pictures_but_not_cross_it(tmp_path):
    whole = write_tiles(tmp_path)
    tiles = TileSet(tmp_path)
    corner = tiles.crop(ORIGIN[0] + 5, ORIGIN[1] + 5, 10)
    np.testing.assert_array_equal(corner, whole[-20:, :20])
    assert tiles.covers(ORIGIN[0] + 5, ORIGIN[1] + 5, 10)
    assert not tiles.covers(ORIGIN[0] + 4.9, ORIGIN[1] + 5, 10)
    with pytest.raises(DatasetError, match=r"lacks the tiles \(column, row\) \(-1, 0\); add them"):
        tiles.crop(ORIGIN[0] + 4.9, ORIGIN[1] + 5, 10)
    with pytest.raises(DatasetError, match="and 6 more"):
        tiles.crop(1000, 1000, 2.5 * SIDE)
    with pytest.raises(DatasetError, match="finite"):
        tiles.crop(math.nan, 0, 10)


def test_missing_damaged_and_wrong_tiles_are_named(tmp_path):
    write_tiles(tmp_path)
    header = json.loads((tmp_path / "tiles.json").read_text())
    header["tiles"] = [t for t in header["tiles"] if (t["column"], t["row"]) != (1, 1)]
    (tmp_path / "tiles.json").write_text(json.dumps(header))
    tiles, inside = TileSet(tmp_path), (ORIGIN[0] + SIDE / 2, ORIGIN[1] + SIDE / 2)
    with pytest.raises(DatasetError, match=r"\(1, 1\)"):
        tiles.crop(ORIGIN[0] + SIDE, ORIGIN[1] + SIDE, 4.0)
    path = tmp_path / "tiles" / "0_0.jpg"
    for content, message in (
        (b"", r"tile \(0, 0\).*0_0\.jpg is empty"),
        (cv2.imencode(".png", np.zeros((8, 8, 3)))[1].tobytes(), "8x8; tiles.json says 32x32"),
    ):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            tiles.crop(*inside, 4.0)
    path.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        tiles.crop(*inside, 4.0)


# --- Datasets of polar pictures --------------------------------------------------------------


def test_each_pose_becomes_a_picture_with_its_pose_stamp_and_camera(tmp_path):
    write_tiles(tmp_path / "tiles")
    places = [pose(8.0 + i, 9.0, 0.3 * i) for i in range(4)]
    poses = write_poses(tmp_path / "poses", [*places[:3], None, places[3]], latitude=47.0)
    tiles, config = TileSet(tmp_path / "tiles"), AerialConfig(metres=20.0)
    counts = write_aerial_dataset(tiles, poses, tmp_path / "set", config)
    dataset = Dataset(tmp_path / "set")
    assert (counts.places, counts.kept, counts.off_tiles) == (4, 4, 0)
    assert dataset.domains() == ["aerial"] and dataset.info.latitude == 47.0
    assert [r.stamp_ns // SECOND for r in dataset.records] == [1, 2, 3, 5]
    assert dataset.info.cameras == {"front": CAMERA}
    for record, place in zip(dataset.records, places, strict=True):
        assert distance(record.map_from_camera, place) == pytest.approx((0, 0), abs=1e-4)
        x, y = place.translation[:2]
        tile = tiles.crop(x - SCALE / 2, y + SCALE / 2, 20.0)
        view = polar_view(tile, heading_of(place), pinhole_angles(CAMERA), 48)
        shown = image.read(dataset.path(record))
        assert np.abs(shown.astype(int) - view).mean() < 3


def test_a_wide_view_has_evenly_spaced_columns_and_the_size_of_safa(tmp_path):
    write_tiles(tmp_path / "tiles")
    poses = write_poses(tmp_path / "poses", [pose(9.0, 9.0, 0.0)])
    config = AerialConfig(metres=20.0, fov=360.0, domain="satellite")
    write_aerial_dataset(TileSet(tmp_path / "tiles"), poses, tmp_path / "set", config)
    dataset = Dataset(tmp_path / "set")
    assert image.read(dataset.path(dataset.records[0])).shape == (112, 616, 3)
    assert dataset.domains() == ["satellite"]


def test_places_off_the_tiles_are_counted_and_nothing_but_those_is_an_error(tmp_path):
    write_tiles(tmp_path / "tiles")
    poses = write_poses(tmp_path / "poses", [pose(9.0, 9.0, 0.0), pose(500.0, 9.0, 0.0)])
    tiles, config = TileSet(tmp_path / "tiles"), AerialConfig(metres=20.0)
    counts = write_aerial_dataset(tiles, poses, tmp_path / "set", config)
    assert (counts.kept, counts.off_tiles) == (1, 1)
    for name, places, info, message in (
        ("far", [pose(500.0, 9.0, 0.0)], {}, "share one map"),
        ("frame", [pose(9.0, 9.0, 0.0)], {"map_frame": "world"}, "in frame 'map'"),
        ("none", [None], {}, "no image of 'front' with a pose"),
    ):
        poses = write_poses(tmp_path / name, places, **info)
        with pytest.raises(DatasetError, match=message):
            write_aerial_dataset(tiles, poses, tmp_path / f"{name}_set", config)
    for wrong in (AerialConfig(camera="rear"), AerialConfig(pose_domain="night")):
        with pytest.raises(ConfigError, match=r"has no (camera|domain)"):
            write_aerial_dataset(tiles, poses, tmp_path / "wrong", wrong)


def test_a_track_is_sampled_evenly_and_not_across_gaps():
    corner = [pose(x, 0.0, 0.0) for x in np.arange(0, 9.1, 3)]
    corner += [pose(9.0, y, np.pi / 2) for y in (3.0, 6.0)]
    away = [pose(200.0 + x, 0.0, 0.0) for x in (0.0, 3.0)]
    stamps = np.arange(8, dtype=np.int64) * SECOND
    found = along_track(stamps, corner + away, 1.0)
    points = np.array([p.translation[:2] for _, p in found])
    assert len(found) == 16 + 4 and [s for s, _ in found] == sorted(s for s, _ in found)
    gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(np.delete(gaps, 15), 1.0, atol=1e-6)
    assert found[0][0] == 0 and found[16][1] == away[0]


# --- The town from above ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def town_camera():
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    from season_town import RenderError, build_town
    from season_town.aerial import AerialCamera, TownAerialConfig

    town = build_town(1)
    config = TownAerialConfig(tile_pixels=128, metres_per_pixel=0.5, reach_m=10.0)
    try:
        camera = AerialCamera(town, config)
    except RenderError as error:
        pytest.skip(f"no OpenGL context on this machine: {error}")
    yield town, camera
    camera.close()


@pytest.mark.slow
def test_neighbouring_photographs_show_one_ground(town_camera):
    _, camera = town_camera
    here, east, north = (camera.photograph(x, y) for x, y in ((0, 0), (32, 0), (0, 32)))
    assert here.shape == (128, 128, 3) and here.std() > 20
    for ours, theirs in ((here[:, 64:], east[:, :64]), (here[:64], north[64:])):
        assert np.abs(ours.astype(int) - theirs).mean() < 0.5


@pytest.mark.slow
def test_the_road_lies_under_the_route_and_grass_next_to_it(town_camera):
    town, camera = town_camera
    photo = camera.photograph(-32, -32).astype(int)
    colourful = photo.max(2) - photo.min(2)  # asphalt is grey, grass is green
    inside = np.abs(town.route).max(1) < 30
    columns = ((town.route[inside, 0] + 32) / 0.5).astype(int)
    rows = ((32 - town.route[inside, 1]) / 0.5).astype(int)
    assert inside.sum() > 50
    assert np.median(colourful[rows, columns]) < 12 < np.median(colourful)


@pytest.mark.slow
def test_the_commands_make_tiles_and_a_dataset_of_them(tmp_path, capsys, town_camera):
    town, _ = town_camera
    start, ahead = town.route[0], town.route[4] - town.route[0]
    yaw = math.atan2(ahead[1], ahead[0])
    write_poses(tmp_path / "poses", [pose(*start, yaw), pose(*(start + 2.5 * ahead), yaw)])
    tiles, output = str(tmp_path / "tiles"), str(tmp_path / "set")
    synth = ["synth", "--aerial", "--output", tiles, "--resolution", "0.8"]
    assert main([*synth, "--conditions", "night", "dusk"]) == 1
    assert "one condition" in capsys.readouterr().err
    assert main(synth) == 0
    aerial = ["aerial", "--tiles", tiles, "--poses", str(tmp_path / "poses"), "--output", output]
    assert main([*aerial, "--spacing", "1", "--metres", "60", "--height", "40"]) == 0
    assert "3 kept, 0 off tiles" in capsys.readouterr().out
    dataset = Dataset(output)
    assert image.read(dataset.path(dataset.records[0])).shape == (40, 64, 3)
