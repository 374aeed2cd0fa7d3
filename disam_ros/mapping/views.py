# SPDX-License-Identifier: Apache-2.0
"""Map images as the map's virtual cameras would have taken them (camera/views.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, Warp, virtual_camera, warp_between
from disam_ros.datasets.sources import PosedImage
from disam_ros.errors import GeometryError, ImageError, MapError

STRETCH = 0.05  # of an image's shape, by rounding its size


class MapViews:
    """Turns images of the mapping cameras into those of virtual ones, `cameras` by name.

    field_of_view: across [deg]; 0: the mapping camera's own. Raises MapError where it sees less.
    """

    def __init__(self, cameras: Mapping[str, Camera], field_of_view: float = 0.0) -> None:
        self._lenses = cameras
        self.cameras: dict[str, Camera] = {}
        for name, lens in cameras.items():
            try:
                self.cameras[name] = virtual_camera(lens, field_of_view)
            except GeometryError as error:
                raise MapError(f"camera '{name}': {error}") from error

    def of(self, item: PosedImage) -> PosedImage:
        """Turns an image, its pose and its depth into those of the virtual camera; leaves those of
        its camera as they are. An image of another shape than its camera's cannot be loaded."""
        name, pose = item.record.camera, item.record.map_from_camera
        lens, view = self._lenses.get(name), self.cameras.get(name)
        if lens is None or view is None:
            return item
        if lens.fx > 0:
            item = replace(item, load=partial(_of_shape, item.load, lens, item.record.source))
        if lens == view:
            return item
        turn = lens.base_from_camera.inverse() @ view.base_from_camera
        return replace(
            item,
            record=replace(item.record, map_from_camera=pose and pose @ turn),
            load=partial(_load, item.load, lens, view),
            depth=item.depth and partial(_depth, item.depth, lens, view),
        )


def _of_shape(load: Callable[[], NDArray[np.uint8]], lens: Camera, name: str) -> NDArray[np.uint8]:
    """Load an image. Raises ImageError where it is no scaled image of the lens: its intrinsics are
    those of another crop, as after a change of the camera's mode."""
    image = load()
    height, width = image.shape[:2]
    if abs(width * lens.height - height * lens.width) > STRETCH * height * lens.width:
        raise ImageError(
            f"image {name!r} has {width}x{height} pixels, another shape than "
            f"{lens.width}x{lens.height}, which the camera's intrinsics are of"
        )
    return image


def _load(load: Callable[[], NDArray[np.uint8]], lens: Camera, view: Camera) -> NDArray[np.uint8]:
    image = load()
    return _warp(lens, view, image.shape[1], image.shape[0]).apply(image)


def _depth(
    depth: Callable[[], NDArray[np.float32] | None], lens: Camera, view: Camera
) -> NDArray[np.float32] | None:
    values = depth()
    return None if values is None else _warp(lens, view, lens.width, lens.height).depth(values)


def _warp(lens: Camera, view: Camera, width: int, height: int) -> Warp:
    return warp_between(lens.resized(width, height), view)
