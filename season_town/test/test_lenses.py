# SPDX-License-Identifier: Apache-2.0
"""Rendered fisheyes and panoramas: what they see is what a pinhole sees."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from disam_ros.camera import virtual_camera, warp_between
from disam_ros.errors import ConfigError
from season_town import DriveConfig, RenderedDrive

pytest.importorskip("moderngl", reason="moderngl is not installed")
pytestmark = pytest.mark.slow

SHORT = {"town_seed": 1, "length_m": 5.0, "spacing_m": 5.0, "depth": True}
PINHOLE = {"fov_deg": 90.0, "width": 320, "height": 240}
WIDE = {
    "fisheye": {"lens": "fisheye", "fov_deg": 190.0, "width": 480, "height": 480},
    "panorama": {"lens": "equirectangular", "width": 960, "height": 480},
    "turned": {
        **{"lens": "fisheye", "fov_deg": 190.0, "width": 480, "height": 480},
        **{"mount_yaw_deg": 25.0},
    },
}


def first(**settings):
    drive = RenderedDrive(DriveConfig(**SHORT | settings))
    frames = iter(drive)
    frame = next(frames)
    frames.close()
    return drive.camera, frame


@pytest.fixture(scope="module")
def straight():
    return first(**PINHOLE)


@pytest.mark.parametrize("name", WIDE)
def test_two_lenses_see_the_same_town_inside_of_what_both_see(straight, name):
    (plain, seen), (lens, frame) = straight, first(**WIDE[name])
    view = replace(virtual_camera(plain, 60.0), base_from_camera=plain.base_from_camera)
    a, b = warp_between(plain, view), warp_between(lens, view)
    small = min(a.view.width, b.view.width), min(a.view.height, b.view.height)
    pictures = [
        cv2.cvtColor(cv2.resize(w.apply(f.image), small, interpolation=cv2.INTER_AREA), 6)
        for w, f in ((a, seen), (b, frame))
    ]
    assert a.seen.all() and b.seen.all()
    assert np.corrcoef(*[p.ravel().astype(float) for p in pictures])[0, 1] > 0.95
    depths = [
        cv2.resize(w.depth(f.depth), small, interpolation=cv2.INTER_NEAREST)
        for w, f in ((a, seen), (b, frame))
    ]
    depths = [np.where(np.isfinite(d), d, 1e3) for d in depths]
    near = depths[0] < 40
    assert near.mean() > 0.3
    assert np.median(np.abs(depths[1] - depths[0])[near] / depths[0][near]) < 0.03


def test_a_camera_sits_where_it_is_asked_to():
    camera, frame = first(**PINHOLE, mount_yaw_deg=20.0, mount_height_m=2.5)
    assert camera.base_from_camera.translation[2] == 2.5
    x, y, _ = camera.base_from_camera.rotation[:, 2]
    assert np.degrees(np.arctan2(y, x)) == pytest.approx(20.0)
    assert frame.map_from_camera.translation[2] == pytest.approx(2.5, abs=0.01)


FAULTS = {
    "lens": ({"lens": "lensbaby"}, "unknown lens"),
    "too wide": ({"fov_deg": 170.0}, "10 to 140 degrees of a pinhole"),
    "no sphere": ({"lens": "equirectangular"}, "twice as wide as high"),
    "underground": ({"mount_height_m": 0.0}, "0.0 m high"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_cameras_that_cannot_be_are_refused(name):
    settings, words = FAULTS[name]
    with pytest.raises(ConfigError, match=words):
        DriveConfig(**settings)
