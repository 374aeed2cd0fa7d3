# SPDX-License-Identifier: Apache-2.0
"""Warps: images of one camera as another would take them from the same point, by a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.camera.camera import Camera
from disam_ros.camera.lenses import EQUIRECTANGULAR
from disam_ros.geometry import Transform

KEPT = 16  # number of warps kept, those last used: about 3 MB each of 640 × 480 pixels


@dataclass(frozen=True, eq=False)
class Warp:
    """A warp of images of a lens into a view from the same point."""

    lens: Camera  # at the size at which the table reads its images
    view: Camera  # mounted where the lens is
    # Pixels of the view that the lens sees [h, w]; the others mirror pixels inside of the edge.
    seen: NDArray[np.bool_] = field(repr=False)
    _table: tuple[NDArray[Any], NDArray[Any]] = field(repr=False)

    @cached_property
    def coverage(self) -> float:
        """Share of the view that the lens sees."""
        return float(self.seen.mean())

    @property
    def lens_from_view(self) -> Transform:
        """The view's pose in the lens's frame: a turn."""
        return self.lens.base_from_camera.inverse() @ self.view.base_from_camera

    def cells(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Grid over the view: 1 for a cell of which the lens sees more than half, else 0."""
        shares = cv2.resize(
            self.seen.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
        )
        return np.asarray(shares > 0.5, np.float32)

    def shows(self, pixels: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Whether the lens sees pixels [K, 2] of the view [K]."""
        x, y = np.rint(pixels).astype(int).T
        rows, columns = y.clip(0, self.view.height - 1), x.clip(0, self.view.width - 1)
        return np.asarray(self.seen[rows, columns], np.bool_)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Warp an image [H, W, 3] into the view [h, w, 3]."""
        size = self.lens.width, self.lens.height
        if image.shape[1::-1] != size:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        panorama = self.lens.model == EQUIRECTANGULAR
        border = cv2.BORDER_WRAP if panorama else cv2.BORDER_REPLICATE
        warped = cv2.remap(image, *self._table, cv2.INTER_LINEAR, borderMode=border)
        return np.asarray(warped, np.uint8)

    def depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Warp a depth map [H, W] along the lens's axis into one along the view's [h, w].

        It is nan where the depth is unknown or not seen.
        """
        rays = _rays(self.lens, self.view)
        pixels, _ = self.lens.project(rays)
        limits = np.array(depth.shape[::-1])
        scale = limits / [self.lens.width, self.lens.height]
        x, y = np.clip(np.rint((pixels + 0.5) * scale - 0.5), 0, limits - 1).astype(int).T
        along = np.where(rays[:, 2] > 0, rays[:, 2], np.nan)
        warped = (depth[y, x] / along).reshape(self.seen.shape)
        return np.where(self.seen, warped, np.nan).astype(np.float32)


@lru_cache(maxsize=KEPT)
def warp_between(lens: Camera, view: Camera) -> Warp:
    """Make the warp of a lens's images, of its size, into a view.

    view: intrinsics, and as base_from_camera its rotation on the lens's vehicle. The result has
    fewer pixels where the lens has fewer for an angle, and no more than `view`.
    """
    finer = lens.fx / view.fx
    if finer < 1.0:
        size = max(1, round(view.width * finer)), max(1, round(view.height * finer))
        view = view.resized(*size)
    elif finer >= 2.0:  # else pixels would be left out
        lens = lens.resized(lens.width // int(finer), lens.height // int(finer))
    mounted = Transform(lens.base_from_camera.translation, view.base_from_camera.quaternion)
    view = replace(view, base_from_camera=mounted)
    pixels, seen = lens.project(_rays(lens, view))
    shape = view.height, view.width
    if lens.model != EQUIRECTANGULAR:  # inside of the image OpenCV is twice as fast
        last = np.array([lens.width, lens.height]) - 1.0
        around = np.mod(pixels, np.maximum(2 * last, 1.0))
        pixels = np.where(seen[:, None], pixels, np.minimum(around, 2 * last - around))
    x, y = pixels.astype(np.float32).T.reshape(2, *shape)
    return Warp(lens, view, seen.reshape(shape), cv2.convertMaps(x, y, cv2.CV_16SC2))


def coverage(lens: Camera, view: Camera, columns: int = 48) -> float:
    """Share of a view that a lens sees, on a grid of so many columns."""
    rows = max(1, round(columns * view.height / view.width))
    _, seen = lens.project(_rays(lens, view.resized(columns, rows)))
    return float(seen.mean())


def _rays(lens: Camera, view: Camera) -> NDArray[np.float64]:
    """Rays of the view's pixels in the lens's frame, row by row [h w, 3]."""
    x, y = np.meshgrid(np.arange(view.width), np.arange(view.height))
    rays = view.rays(np.column_stack([x.ravel(), y.ravel()]).astype(np.float64))
    turn = lens.base_from_camera.rotation.T @ view.base_from_camera.rotation
    turned: NDArray[np.float64] = rays @ turn.T
    return turned
