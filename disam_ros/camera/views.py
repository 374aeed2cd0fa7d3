# SPDX-License-Identifier: Apache-2.0
"""Map cameras that see what a vehicle's camera does, and warps of its images into their views.

A map image of a camera mounted at a yaw is also an image of a vehicle that stood there turned by
some angle and has the camera mounted at the yaw less that angle. Thus the rear camera of a vehicle
that drives back sees what the front camera saw when mapping. The view that images are warped into
is a map's virtual camera, or one made for a lens; a warp shows them as another camera would take
them from the same point, by a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.camera.camera import Camera, has_mount, heading_of, levelled, tilted_as
from disam_ros.camera.lenses import EQUIRECTANGULAR, PINHOLE
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform

VIEWS_DEG = (90.0, 75.0, 60.0, 45.0, 30.0)  # across, of a virtual camera: the first seen whole
ASPECT = 4 / 3  # of a virtual camera's image
WIDEST_VIEW = 1280  # largest width of a virtual camera's image [px]
WHOLE = 0.98  # share of a virtual camera's view that the mapping camera has to see
TURNED = 0.5  # share of the visible view that must remain when it is turned as the map's
SAME_DEG = 0.5  # largest angle between rays of cameras that count as the same
COLUMNS = 48  # of the grid on which a coverage is estimated
GRID = 9  # columns and rows of pixels at which cameras are compared
KEPT = 16  # number of warps kept, those last used: about 3 MB each of 640 × 480 pixels
QUARTER = np.pi / 2  # [rad]
ASIDE = np.radians(45.0)  # largest angle between headings of cameras that see the same
ALIKE_DEG = 10.0  # largest angle between rays of views that are compared with each other


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


def coverage(lens: Camera, view: Camera) -> float:
    """Share of a view that a lens sees, on a grid."""
    rows = max(1, round(COLUMNS * view.height / view.width))
    _, seen = lens.project(_rays(lens, view.resized(COLUMNS, rows)))
    return float(seen.mean())


def _rays(lens: Camera, view: Camera) -> NDArray[np.float64]:
    """Rays of the view's pixels in the lens's frame, row by row [h w, 3]."""
    x, y = np.meshgrid(np.arange(view.width), np.arange(view.height))
    rays = view.rays(np.column_stack([x.ravel(), y.ravel()]).astype(np.float64))
    turn = lens.base_from_camera.rotation.T @ view.base_from_camera.rotation
    turned: NDArray[np.float64] = rays @ turn.T
    return turned


@dataclass(frozen=True)
class ViewMatch:
    """A map camera that sees what a vehicle's camera does, the vehicle turned."""

    camera: str  # of the map
    quarters: int  # turns of the vehicle to the left against the mapping vehicle, 0 to 3
    mapped: Camera | None  # the map camera as mounted on the turned vehicle; None: unknown

    @cached_property
    def mount(self) -> Transform:
        """base_from_camera on the turned vehicle; identity where it is unknown."""
        return Transform.identity() if self.mapped is None else self.mapped.base_from_camera


def quarter_turn(quarters: int) -> Transform:
    """Rotation about the vehicle's vertical axis to the left."""
    turn = Rotation.from_euler("z", quarters * QUARTER)
    return Transform(np.zeros(3), turn.as_quat())


def matching_map_cameras(
    name: str, lens: Camera | None, mapped: Mapping[str, Camera | None]
) -> list[ViewMatch]:
    """Find the map cameras that see what a vehicle's camera does, the best first.

    lens: of the vehicle's camera `name`; None: the map's of that name. mapped: cameras of the map.
    Without both mounts the map's camera of the same name is the only one. The others must have
    views like the first one's, for an image is only warped into one.
    """
    lens = lens or mapped.get(name)
    namesake = [ViewMatch(name, 0, mapped[name])] if name in mapped else []
    heading = heading_of(lens)
    if heading is None or (namesake and heading_of(mapped[name]) is None):
        return namesake
    ranked = []
    for camera, mapping_camera in mapped.items():
        for quarters in range(4):
            turned = turned_mount(mapping_camera, quarters)
            yaw = heading_of(turned)
            if yaw is None:
                continue
            aside = abs((yaw - heading + np.pi) % (2 * np.pi) - np.pi)
            if aside <= ASIDE:
                match = ViewMatch(camera, quarters, turned)
                ranked.append((quarters != 0, camera != name, aside, match))
    ranked.sort(key=lambda item: item[:3])
    matches = [item[-1] for item in ranked]
    return [match for match in matches if _alike(matches[0].mapped, match.mapped)]


def turned_mount(camera: Camera | None, quarters: int) -> Camera | None:
    """The camera as it is mounted on a vehicle that was turned to the left and took it along."""
    if camera is None or not quarters:
        return camera
    return replace(camera, base_from_camera=quarter_turn(-quarters) @ camera.base_from_camera)


@lru_cache(maxsize=64)
def _alike(first: Camera | None, other: Camera | None) -> bool:
    """Whether the views of two cameras differ in hardly more than yaw."""
    if first is None or other is None or not (first.calibrated and other.calibrated):
        return (first is None or not first.calibrated) == (other is None or not other.calibrated)
    headings = heading_of(first), heading_of(other)
    if None in headings:
        return False
    turn = Rotation.from_euler("z", headings[0] - headings[1])  # type: ignore[operator]
    mount = Transform(np.zeros(3), turn.as_quat()) @ other.base_from_camera
    return same_view(first, replace(other, base_from_camera=mount), ALIKE_DEG)
