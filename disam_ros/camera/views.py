# SPDX-License-Identifier: Apache-2.0
"""Views that images are warped into: a map's virtual camera, or one made for a lens."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera.camera import Camera
from disam_ros.camera.lenses import PINHOLE
from disam_ros.camera.mounts import has_mount, levelled, tilted_as
from disam_ros.camera.warp import KEPT, Warp, coverage, warp_between
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform

VIEWS_DEG = (90.0, 75.0, 60.0, 45.0, 30.0)  # across, of a virtual camera: the first seen whole
ASPECT = 4 / 3  # of a virtual camera's image
WIDEST_VIEW = 1280  # largest width of a virtual camera's image [px]
WHOLE = 0.98  # share of a virtual camera's view that the mapping camera has to see
TURNED = 0.5  # share of the visible view that must remain when it is turned as the map's
SAME_DEG = 0.5  # largest angle between rays of cameras that count as the same
GRID = 9  # columns and rows of pixels at which cameras are compared


def virtual_camera(lens: Camera, field_of_view: float = 0.0) -> Camera:
    """Choose a map's camera for images of a lens: a pinhole without distortion, level if it can be.

    field_of_view: across [deg]; 0: the lens itself where it is a pinhole, else the widest of
    VIEWS_DEG that the lens sees. Raises GeometryError where it does not see that much.
    """
    if not lens.calibrated or lens.is_assumed or (lens.model == PINHOLE and not field_of_view):
        return lens
    for degrees in (field_of_view,) if field_of_view else VIEWS_DEG:
        for rotation in (levelled(lens), lens.base_from_camera.rotation):
            view = _turned(_pinhole(lens, degrees), lens, rotation)
            if coverage(lens, view) >= WHOLE:
                return view
    raise GeometryError(
        f"the camera sees {100 * coverage(lens, view):.0f} % of a view of {degrees:g}° across, and "
        "a virtual camera has to be seen whole: set a smaller field_of_view"
    )


@lru_cache(maxsize=KEPT)
def warp_into(lens: Camera | None, mapped: Camera | None, size: tuple[int, int]) -> Warp | None:
    """Warp of a lens's images of a size (width, height) into a map camera's.

    None where images are compared as they are: where either has no intrinsics, and where both see
    the same. Where both mounts are known the view is turned as the map camera's; with its roll and
    pitch alone where too little would be left to see; else not at all. The images of a lens that is
    no pinhole become at least those of some pinhole.
    """
    if lens is None or not lens.calibrated or lens.is_assumed:
        return None
    lens = lens.resized(*size)
    if mapped is None or not mapped.calibrated or mapped.is_assumed:
        try:
            return None if lens.model == PINHOLE else warp_between(lens, virtual_camera(lens))
        except GeometryError:
            return None
    view = _view(lens, mapped)
    return None if same_view(lens, view) else warp_between(lens, view)


def same_view(lens: Camera, view: Camera, degrees: float = SAME_DEG) -> bool:
    """Whether pixels at the same place of both images show the same, within so many degrees."""
    grid = np.stack(np.meshgrid(*[np.linspace(0.0, 1.0, GRID)] * 2), -1).reshape(-1, 2)
    directions = []
    for camera in (lens, view):
        rays = camera.rays(grid * [camera.width, camera.height] - 0.5)
        rays = rays @ camera.base_from_camera.rotation.T
        directions.append(rays / np.linalg.norm(rays, axis=1, keepdims=True))
    between = np.linalg.norm(directions[0] - directions[1], axis=1).max()
    return bool(between < np.radians(degrees))


def _view(lens: Camera, mapped: Camera) -> Camera:
    """The map's camera as it is turned on the lens's vehicle."""
    unturned = _turned(mapped, lens, lens.base_from_camera.rotation)
    if not (has_mount(lens) and has_mount(mapped)):
        return unturned
    least = TURNED * coverage(lens, unturned)
    for rotation in (mapped.base_from_camera.rotation, tilted_as(lens, mapped)):
        view = _turned(mapped, lens, rotation)
        if coverage(lens, view) >= least:
            return view
    return unturned


def _pinhole(lens: Camera, degrees: float) -> Camera:
    """A pinhole of so many degrees across with the resolution of a lens's middle."""
    across = 2 * np.tan(np.radians(degrees) / 2)
    width = min(round(lens.fx * across), WIDEST_VIEW)
    height = round(width * lens.height / lens.width if lens.model == PINHOLE else width / ASPECT)
    focal = width / across
    return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def _turned(camera: Camera, lens: Camera, rotation: NDArray[np.float64]) -> Camera:
    """The camera at the place of a lens, with a rotation [3, 3] in the base frame."""
    mount = Transform.from_rotation(lens.base_from_camera.translation, rotation)
    return replace(camera, base_from_camera=mount)
