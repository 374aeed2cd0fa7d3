# SPDX-License-Identifier: Apache-2.0
"""The season town: what its drives promise to whoever maps and localizes in them."""

from __future__ import annotations

import csv
import sys
from datetime import datetime, timezone
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("moderngl", reason="moderngl is not installed")

from disam_ros.datasets.dataset import Dataset
from disam_ros.errors import ConfigError
from disam_ros.geometry import distance
from season_town import CONDITIONS, DriveConfig, RenderedDrive, RenderError, build_town
from season_town.rendering import gl
from season_town.rendering.renderer import Renderer
from season_town.sensors import gnss_fixes, wheel_odometry
from season_town.trajectory import drive_route
from season_town.writer import FIX_COLUMNS, ODOM_COLUMNS, write_drive

SMALL = {"width": 160, "height": 120, "spacing_m": 4.0, "length_m": 8.0}


@pytest.fixture(scope="module", autouse=True)
def _opengl() -> None:
    try:
        gl.create_context().release()
    except RenderError as error:
        pytest.skip(f"no OpenGL context on this machine: {error}")


@pytest.fixture(scope="module")
def summer() -> list:
    return list(RenderedDrive(DriveConfig(**SMALL, depth=True)))


def _track(seed: int = 0, **changes: object) -> object:
    values = {
        "rate_hz": 5.0,
        "spacing_m": 1.0,
        "length_m": None,
        "lateral_m": 0.6,
        "yaw_deg": 3.0,
        "speed_m_s": (4.0, 9.0),
    }
    return drive_route(build_town(1).route, seed, **{**values, **changes})


def test_same_seed_gives_same_pixels(summer):
    again = list(RenderedDrive(DriveConfig(**SMALL, depth=True)))
    for a, b in zip(summer, again, strict=True):
        assert a.stamp_ns == b.stamp_ns
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.depth, b.depth)


def test_another_drive_seed_gives_other_pixels_and_poses(summer):
    other = next(iter(RenderedDrive(DriveConfig(**SMALL, drive_seed=3))))
    assert np.abs(other.image.astype(int) - summer[0].image).mean() > 3
    assert distance(other.map_from_base, summer[0].map_from_base)[0] > 0.01


def test_frames_have_the_asked_shape_and_are_not_blank(summer):
    frame = summer[0]
    assert frame.image.shape == (120, 160, 3) and frame.image.dtype == np.uint8
    assert frame.depth.shape == (120, 160) and frame.depth.dtype == np.float32
    assert frame.image.std() > 20
    assert np.isinf(frame.depth).any() and np.nanmin(frame.depth) > 0.15


def test_two_drives_can_be_rendered_in_turns(summer):
    night_config = DriveConfig(condition="night", **SMALL)
    drives = RenderedDrive(DriveConfig(**SMALL)), RenderedDrive(night_config)
    for day, night, alone in zip(*drives, summer, strict=True):
        np.testing.assert_array_equal(day.image, alone.image)
        assert night.image.mean() < day.image.mean()


def test_length_is_known_before_rendering(summer):
    assert len(RenderedDrive(DriveConfig(**SMALL))) == len(summer) == 2


def test_depth_of_one_frame_reprojects_onto_the_next(summer):
    a, b = summer
    camera = RenderedDrive(DriveConfig(**SMALL)).camera
    v, u = np.mgrid[0:120:3, 0:160:3]
    z = a.depth[v, u].astype(np.float64)
    keep = np.isfinite(z) & (z < 40) & (z > 6)
    u, v, z = u[keep], v[keep], z[keep]
    points = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], 1)
    b_from_a = b.map_from_camera.inverse() @ a.map_from_camera
    moved = points @ b_from_a.rotation.T + b_from_a.translation
    x = np.round(moved[:, 0] / moved[:, 2] * camera.fx + camera.cx).astype(int)
    y = np.round(moved[:, 1] / moved[:, 2] * camera.fy + camera.cy).astype(int)
    inside = (moved[:, 2] > 1) & (x >= 0) & (x < 160) & (y >= 0) & (y < 120)
    seen = b.depth[y[inside], x[inside]]
    error = np.abs(seen - moved[inside, 2]) / moved[inside, 2]
    assert inside.sum() > 300
    assert np.median(error) < 0.01


def test_depth_below_the_horizon_is_the_flat_ground(summer):
    frame = summer[0]
    camera = RenderedDrive(DriveConfig(**SMALL)).camera
    u, v = 80, 117
    ray = np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, 1.0])
    direction = frame.map_from_camera.rotation @ ray
    expected = -frame.map_from_camera.translation[2] / direction[2]
    assert frame.depth[v, u] == pytest.approx(expected, rel=2e-3)


def test_a_lamp_stands_where_the_town_says():
    """Hiding nothing but depth: the pole's depth appears at the projected point of the pole."""
    town = build_town(1)
    renderer = Renderer(town, CONDITIONS["summer_day"], width=160, height=120)
    hits, mount = 0, RenderedDrive(DriveConfig(**SMALL)).camera.base_from_camera
    for map_from_base in _track(lateral_m=0.0, spacing_m=25.0, length_m=300.0).poses:
        map_from_camera = map_from_base @ mount
        depth = renderer.render(map_from_camera)[1]
        for foot in (np.append(p.position, 0.0) for p in town.props if p.kind == "lamp"):
            p = map_from_camera.inverse()
            x, y, z = p.rotation @ (foot + np.array([0, 0, 1.6])) + p.translation
            u, v = (
                round(float(value))
                for value in (
                    renderer.camera.fx * x / max(z, 0.1) + renderer.camera.cx,
                    renderer.camera.fy * y / max(z, 0.1) + renderer.camera.cy,
                )
            )
            if 4 < z < 14 and 1 < u < 158:
                hits += bool(np.abs(depth[v, u - 1 : u + 2] - z).min() < 0.15)
    renderer.close()
    assert hits >= 3


def test_route_is_long_and_turns_often():
    for seed in (1, 2, 3):
        route = build_town(seed).route
        steps = np.diff(np.vstack([route, route[:1]]), axis=0)
        assert np.linalg.norm(steps, axis=1).sum() >= 550
        heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        corners = np.abs(heading[80:] - heading[:-80]) > np.radians(60)
        assert (np.diff(corners.astype(int)) == 1).sum() >= 4


def test_towns_of_other_seeds_differ_and_the_same_seed_repeats():
    first, again, other = (build_town(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.route, again.route)
    assert [h.seed for h in first.houses] == [h.seed for h in again.houses]
    assert first.houses[0].seed != other.houses[0].seed


def test_lateral_offset_speed_and_yaw_stay_within_their_amplitudes():
    track = _track(seed=4)
    assert track.twist[:, 0].min() > 3.5 and track.twist[:, 0].max() < 9.6
    centre = _track(seed=4, lateral_m=0.0, yaw_deg=0.0)
    pairs = list(zip(track.poses, centre.poses, strict=True))
    assert 0.2 < max(distance(a, b)[0] for a, b in pairs) <= 0.601
    assert max(distance(a, b)[1] for a, b in pairs) < 10


def test_rate_spaces_frames_in_time_and_spacing_in_distance():
    np.testing.assert_allclose(np.diff(_track(spacing_m=None).time), 0.2)
    poses = _track(lateral_m=0.0, spacing_m=1.0).poses
    gaps = [distance(a, b)[0] for a, b in pairwise(poses)]
    np.testing.assert_allclose(gaps, 1.0, atol=0.02)


def test_odometry_is_locally_accurate_but_drifts():
    track = _track(seed=5)
    odometry = wheel_odometry(track, 5)
    true = [track.poses[0].inverse() @ pose for pose in track.poses]
    for i in range(0, len(true) - 5, 25):
        step = true[i].inverse() @ true[i + 5]
        measured = odometry[i].inverse() @ odometry[i + 5]
        metres, degrees = distance(step, measured)
        assert metres < 0.35 and degrees < 2.0
    final = [distance(t, o)[0] for t, o in zip(true, odometry, strict=True)]
    assert 1.0 < max(final) < 0.12 * len(true)


def test_twist_integrates_to_the_driven_distance():
    track = _track(seed=2, spacing_m=None, rate_hz=20.0)
    points = np.array([pose.translation for pose in track.poses])
    driven = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert np.sum(track.twist[:-1, 0] * np.diff(track.time)) == pytest.approx(driven, rel=0.01)


def test_gnss_is_a_few_metres_off_and_changes_slowly():
    track = _track(seed=6)
    fixes = gnss_fixes(track, 6)
    north = (fixes[:, 0] - 51.05) * 111_250.0
    east = (fixes[:, 1] - 13.74) * 70_100.0
    points = np.array([pose.translation for pose in track.poses])
    error = np.stack([east, north], 1) - points[:, :2]
    assert 0.5 < np.sqrt((error**2).sum(1).mean()) < 7.0
    assert np.abs(np.diff(error, axis=0)).mean() < 1.0


def test_conditions_look_different_at_one_place():
    images = {
        name: next(iter(RenderedDrive(DriveConfig(condition=name, **SMALL)))).image.astype(float)
        for name in ("summer_day", "winter_snow", "autumn_rain", "night")
    }
    assert images["night"].mean() < 0.6 * images["summer_day"].mean()
    assert images["winter_snow"][90:].mean() > 1.2 * images["autumn_rain"][90:].mean()
    names = list(images)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert np.abs(images[a] - images[b]).mean() > 15, (a, b)


def test_condition_times_are_utc():
    start = datetime.fromtimestamp(CONDITIONS["summer_day"].start_ns // 10**9, timezone.utc)
    assert start == datetime(2025, 7, 14, 11, 0, tzinfo=timezone.utc)


def test_written_drive_reads_back_with_odometry_and_fixes(tmp_path):
    config = DriveConfig(condition="night", **SMALL)
    count = write_drive(config, tmp_path / "drive")
    dataset = Dataset(tmp_path / "drive")
    assert len(dataset) == count == 2 and dataset.domains() == ["night"]
    assert dataset.info.latitude == 51.05
    camera = dataset.info.cameras["front"]
    assert (camera.width, camera.height) == (160, 120)
    frame = next(iter(RenderedDrive(config)))
    record = dataset.records[0]
    assert record.stamp_ns == frame.stamp_ns
    assert distance(record.map_from_camera, frame.map_from_camera)[0] < 1e-6
    for name, columns in (("odom.csv", ODOM_COLUMNS), ("fix.csv", FIX_COLUMNS)):
        with (tmp_path / "drive" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == columns
        assert [int(row["stamp_ns"]) for row in rows] == [r.stamp_ns for r in dataset.records]


def test_a_drive_written_with_depth_keeps_it_and_shows_the_same(tmp_path, summer):
    write_drive(DriveConfig(**SMALL, depth=True), tmp_path / "drive")
    write_drive(DriveConfig(**SMALL), tmp_path / "plain")
    dataset, plain = Dataset(tmp_path / "drive"), Dataset(tmp_path / "plain")
    for record, frame in zip(dataset.records, summer, strict=True):
        depth, known = dataset.depth(record), frame.depth < 131
        assert np.abs(depth[known] - frame.depth[known]).max() <= dataset.info.depth_unit / 2 + 1e-4
        assert np.isinf(depth[~known]).all()
        assert dataset.path(record).read_bytes() == plain.path(record).read_bytes()
    assert plain.depth(plain.records[0]) is None


def test_missing_opengl_names_the_packages_to_install(monkeypatch):
    import moderngl

    def fail(**_: object) -> None:
        raise Exception("libEGL.so not loaded")

    monkeypatch.setattr(moderngl, "create_context", fail)
    with pytest.raises(RenderError, match=r"libegl1 and libgl1-mesa-dri"):
        gl.create_context()


def test_missing_moderngl_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(RenderError, match=r"pip install .moderngl"):
        gl.create_context()


def test_unknown_condition_lists_the_known_ones():
    with pytest.raises(ConfigError, match="summer_day, winter_snow"):
        DriveConfig(condition="monsoon")
