# SPDX-License-Identifier: Apache-2.0
"""Laws of warping: the same rays, the same picture, what both see and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.lenses import AHEAD, CAMERAS, SPHERE, fisheye, picture_of, pinhole, rays_of, turned

from disam_ros.camera import (
    EQUIRECTANGULAR,
    Camera,
    coverage,
    same_view,
    virtual_camera,
    warp_between,
    warp_into,
)
from disam_ros.errors import GeometryError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform

LENSES = {
    "60° pinhole": pinhole(60),
    "90° pinhole": pinhole(90),
    "120° pinhole": pinhole(120),
    "fisheye": fisheye(),
    "bent": replace(CAMERAS["plumb_bob"], base_from_camera=AHEAD),
    "panorama": replace(CAMERAS["panorama"], base_from_camera=turned(yaw=70.0)),
}


@pytest.mark.parametrize("name", LENSES)
def test_any_lens_gives_the_picture_that_the_virtual_camera_would_take(name):
    lens, mapped = LENSES[name], pinhole(80)
    warp = warp_into(lens, mapped, (lens.width, lens.height))
    found, expected = warp.apply(picture_of(lens)), picture_of(warp.view)
    wrong = np.abs(found.astype(int) - expected.astype(int)).max(2)
    assert wrong[warp.seen].max() <= 6  # of 255: bilinear in the smaller of the two
    assert warp.coverage > 0.4


@pytest.mark.parametrize("name", LENSES)
def test_the_mask_is_what_both_cameras_see(name):
    lens, mapped = LENSES[name], pinhole(100, mount=turned(yaw=20.0, pitch=5.0))
    warp = warp_between(lens, mapped)
    rays = rays_of(warp.view).reshape(-1, 3) @ lens.base_from_camera.rotation
    _, seen = lens.project(rays)
    assert np.array_equal(warp.seen.ravel(), seen)


def test_the_view_of_the_same_camera_is_not_warped():
    lens = pinhole(80)
    assert warp_into(lens, lens, (320, 240)) is None
    assert warp_into(lens, lens, (640, 480)) is None  # the same of another size
    higher = replace(lens, base_from_camera=turned(height=2.5))
    assert warp_into(higher, lens, (320, 240)) is None  # the table turns, it does not move
    assert warp_into(replace(lens, fx=lens.fx * 1.003), lens, (320, 240)) is None
    assert warp_into(replace(lens, fx=lens.fx * 1.03), lens, (320, 240)) is not None


def test_a_warp_into_the_same_camera_is_the_identity():
    lens = LENSES["bent"]
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    warp = warp_between(lens, lens)
    assert np.array_equal(warp.apply(picture), picture)
    assert warp.seen.all()


angles = st.floats(-25.0, 25.0)


@given(roll=angles, pitch=angles, yaw=angles, name=st.sampled_from(sorted(LENSES)))
def test_a_points_bearing_agrees_through_both_cameras(roll, pitch, yaw, name):
    """A far point, its pixel in the lens, and that of the virtual camera: one direction."""
    lens = replace(LENSES[name], base_from_camera=turned(roll, pitch, yaw))
    warp = warp_into(lens, pinhole(80), (lens.width, lens.height))
    if warp is None:
        return
    points = np.random.default_rng(4).uniform(-1.0, 1.0, (50, 3)) @ np.diag([1e6, 8e5, 5e5])
    here = points @ lens.base_from_camera.rotation
    there = points @ warp.view.base_from_camera.rotation
    (raw, seen), (pixels, inside) = lens.project(here), warp.view.project(there)
    both = seen & inside
    rays = [
        camera.rays(found[both]) @ camera.base_from_camera.rotation.T
        for camera, found in ((lens, raw), (warp.view, pixels))
    ]
    unit = [found / np.linalg.norm(found, axis=1, keepdims=True) for found in rays]
    assert np.allclose(unit[0], unit[1], atol=1e-7)


@pytest.mark.parametrize("lens", [pinhole(100), fisheye()], ids=["pinhole", "fisheye"])
def test_levelling_undoes_a_known_roll_and_pitch(lens):
    tilted = replace(lens, base_from_camera=turned(roll=12.0, pitch=-8.0))
    mapped = pinhole(70)
    size = lens.width, lens.height
    level, undone = warp_into(lens, mapped, size), warp_into(tilted, mapped, size)
    assert np.allclose(undone.view.base_from_camera.rotation, BODY_FROM_OPTICAL)
    both = level.seen & undone.seen
    pictures = [
        warp.apply(picture_of(camera)).astype(int)
        for warp, camera in ((level, lens), (undone, tilted))
    ]
    assert both.mean() > 0.8
    assert np.abs(pictures[0] - pictures[1])[both].max() <= 6


def test_a_turned_camera_is_turned_back_while_enough_is_left_and_levelled_else():
    mapped = pinhole(90)
    turned_by = {}
    for yaw in (20.0, 90.0):
        lens = pinhole(90, mount=turned(yaw=yaw, pitch=10.0))
        rotation = warp_into(lens, mapped, (320, 240)).view.base_from_camera.rotation
        turned_by[yaw] = np.degrees(np.arctan2(rotation[1, 2], rotation[0, 2]))
        assert abs(rotation[2, 2]) < 1e-9  # level
    assert turned_by == pytest.approx({20.0: 0.0, 90.0: 90.0}, abs=1e-9)


def test_without_mounts_nothing_is_turned():
    unknown = Transform.identity()
    warp = warp_into(pinhole(120, mount=unknown), pinhole(80), (320, 240))
    assert warp.view.base_from_camera == unknown
    warp = warp_into(pinhole(120, mount=turned(yaw=9.0)), pinhole(80, mount=unknown), (320, 240))
    assert np.allclose(warp.view.base_from_camera.rotation, turned(yaw=9.0).rotation)


def test_cameras_without_intrinsics_are_compared_as_they_are():
    lens, none = pinhole(60), Camera(320, 240, 0.0, 0.0, 0.0, 0.0)
    assumed = Camera.assumed(320, 240, AHEAD)
    for here, there in ((None, lens), (none, lens), (lens, None), (lens, none)):
        assert warp_into(here, there, (320, 240)) is None
    assert warp_into(lens, assumed, (320, 240)) is None
    assert warp_into(assumed, lens, (320, 240)) is None


def test_a_fisheye_becomes_a_pinhole_even_for_a_map_without_intrinsics():
    warp = warp_into(fisheye(), None, (480, 480))
    assert warp.view.model == "pinhole" and warp.seen.all()


def test_a_virtual_camera_is_level_and_seen_whole():
    lens = fisheye(mount=turned(roll=5.0, pitch=20.0, yaw=30.0))
    view = virtual_camera(lens)
    assert coverage(lens, view) >= 0.98
    assert np.allclose(view.base_from_camera.rotation, turned(yaw=30.0).rotation, atol=1e-9)
    assert np.degrees(2 * np.arctan(view.width / 2 / view.fx)) == pytest.approx(90.0)
    assert virtual_camera(pinhole(70)) == pinhole(70)
    narrow = virtual_camera(pinhole(100), 60.0)
    assert np.degrees(2 * np.arctan(narrow.width / 2 / narrow.fx)) == pytest.approx(60.0)
    with pytest.raises(GeometryError, match="a virtual camera has to be seen whole"):
        virtual_camera(pinhole(60), 90.0)


def test_the_warp_has_the_resolution_of_the_coarser_camera():
    coarse, fine = pinhole(90, 160, 120), pinhole(90, 1280, 960)
    tilted = pinhole(90, 320, 240, turned(roll=3.0))
    assert warp_into(tilted, coarse, (320, 240)).view.width == 160
    assert warp_into(tilted, fine, (320, 240)).view.width == 320
    warp = warp_into(pinhole(90, 1280, 960, turned(roll=3.0)), coarse, (1280, 960))
    assert warp.lens.width == 160  # averaged first, or pixels would be left out


def test_depths_are_along_the_axis_of_the_view():
    lens = pinhole(100, mount=turned(yaw=15.0))
    warp = warp_between(lens, pinhole(60))
    rays = rays_of(lens)
    wall = 10.0 / rays[..., 0]  # 10 m ahead of the base frame: along the ray
    axis = lens.base_from_camera.rotation[:, 2]
    found = warp.depth((wall * (rays @ axis)).astype(np.float32))
    assert np.allclose(found[warp.seen], 10.0, rtol=0.01)
    assert np.isnan(found[~warp.seen]).all()


def test_the_seam_of_a_panorama_is_not_seen():
    lens = Camera(640, 320, SPHERE, SPHERE, 319.5, 159.5, (), turned(yaw=180.0), EQUIRECTANGULAR)
    warp = warp_between(lens, pinhole(60))
    wrong = np.abs(warp.apply(picture_of(lens)).astype(int) - picture_of(warp.view).astype(int))
    assert warp.seen.all() and wrong.max() <= 6


def test_same_views_are_recognised_by_their_rays():
    assert same_view(CAMERAS["plumb_bob"], CAMERAS["plumb_bob"].resized(320, 240))
    assert not same_view(CAMERAS["plumb_bob"], CAMERAS["pinhole"])
