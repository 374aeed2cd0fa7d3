# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CameraInfo → camera.

K and D describe raw images, P rectified ones; all are in pixels of the full resolution. The images
are the region `roi` of it, if that has a size, divided by `binning_x` and `binning_y`
(sensor_msgs/CameraInfo, image_geometry). `roi.do_rectify` only says that the region is of the raw
image: it does not make images rectified ones. Tx and Ty in P shift the second camera of a
stereo pair, and are no intrinsics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from disam_ros.camera.camera import Camera, same_shape, uncalibrated
from disam_ros.camera.lenses import DISTORTION_MODELS, EQUIRECTANGULAR, FISHEYE, PINHOLE
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform

RECTIFIED = "image_rect"  # begins a part of the names of rectified topics (image_proc)
OFF_MIDDLE, FAR_OFF = 0.2, 0.3  # of a principal point, in sides: doubted, and refused
SAME_SHARE = 0.05  # of the sides, between positions that hint at K of another resolution
NARROW_DEG, WIDE_DEG = 5.0, {PINHOLE: 160.0, FISHEYE: 300.0}  # views across that are doubted
ASPECT = 1.25  # ratio of focal lengths beyond which they are doubted


@dataclass(frozen=True)
class _Window:
    """The part of the full resolution that images show."""

    x: int  # left edge [px]
    y: int  # upper edge [px]
    width: int  # [px]
    height: int  # [px]
    binning: tuple[int, int]  # pixels of the full resolution in one of the images, x and y

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images [px]."""
        return self.width // self.binning[0], self.height // self.binning[1]


def is_rectified(topic: str) -> bool:
    """Whether images of a topic are rectified, by the convention of image_proc: image_rect…."""
    return any(part.startswith(RECTIFIED) for part in topic.split("/"))


def camera_of_info(
    info: Any,
    base_from_camera: Transform | None = None,
    *,
    rectified: bool = False,
    size: tuple[int, int] | None = None,
) -> Camera:
    """Convert a sensor_msgs/CameraInfo, unchecked; fx = fy = 0 where it is not calibrated.

    rectified: the images are, so that P is read, else K and D. size: width and height [px] of the
    images; the camera has theirs, or one of their shape; None: the size that the info says.
    Raises GeometryError for an unknown distortion model, for a region beyond the sensor, for a
    principal point that no lens has, and where images of this size cannot be the described ones.
    """
    mounted = base_from_camera or Transform.identity()
    window = _window(info, size)
    name, (width, height) = str(info.distortion_model), window.size
    if DISTORTION_MODELS.get(name) == EQUIRECTANGULAR:  # its size says all
        focal, cx, cy = width / (2 * math.pi), (width - 1) / 2, (height - 1) / 2
        return Camera(width, height, focal, focal, cx, cy, (), mounted, EQUIRECTANGULAR)
    full = _full_camera(info, rectified)
    if full.calibrated:
        _check_middle(full)
    x, y = window.binning
    return replace(
        full,
        width=width,
        height=height,
        fx=full.fx / x,
        fy=full.fy / y,
        cx=(full.cx - window.x) / x,
        cy=(full.cy - window.y) / y,
        base_from_camera=mounted,
    )


def info_doubts(
    info: Any, *, rectified: bool = False, size: tuple[int, int] | None = None
) -> list[str]:
    """What is odd about a CameraInfo that `camera_of_info` converts, with the likely cause."""
    window, declared = _window(info, size), _window(info, None)
    doubts = []
    if window != declared:
        left_out = "roi" if window.binning == declared.binning else "binning"
        doubts.append(
            f"the images have {_by(window.size)} pixels, by its roi and binning they would have "
            f"{_by(declared.size)}: its {left_out} is not applied, as the driver seems to fill it "
            "in wrongly"
        )
    if DISTORTION_MODELS.get(str(info.distortion_model)) == EQUIRECTANGULAR:
        return doubts
    full = _full_camera(info, rectified)
    if not full.calibrated or min(full.width, full.height) < 1:
        return doubts
    shares = full.cx / full.width, full.cy / full.height
    if max(abs(share - 0.5) for share in shares) > OFF_MIDDLE:
        doubts.append(
            f"its principal point ({full.cx:g}, {full.cy:g}) is far off the middle of "
            f"{_by((full.width, full.height))} pixels: it may be of a crop whose roi is missing"
        )
    across, widest = _degrees_across(full), WIDE_DEG[full.model]
    if not NARROW_DEG <= across <= widest:
        doubts.append(
            f"its field of view of {across:.3g}° is not between {NARROW_DEG:g}° and {widest:g}°: "
            "its focal length may be in other units, or of another resolution"
        )
    if not 1 / ASPECT <= full.fx / full.fy <= ASPECT:
        doubts.append(
            f"its focal lengths differ, {full.fx:g} and {full.fy:g}: its images may have been "
            "scaled in one direction"
        )
    return doubts


def size_fault(info: Any, size: tuple[int, int]) -> str:
    """Why images of a size [px] (width, height) are not those of a CameraInfo; empty: they are."""
    try:
        _window(info, size)
    except GeometryError as error:
        return str(error)
    return ""


def vehicle_camera(
    info: Any | None,
    map_camera: Camera | None,
    base_from_camera: Transform,
    *,
    rectified: bool = False,
    size: tuple[int, int] | None = None,
) -> Camera:
    """The vehicle's camera with the intrinsics of its sensor_msgs/CameraInfo, else with the map's.

    It is not calibrated where neither is, or where its CameraInfo cannot be used. rectified, size:
    see `camera_of_info`.
    """
    camera = map_camera or uncalibrated()
    if info is not None and is_calibrated(info):
        try:
            camera = camera_of_info(info, rectified=rectified, size=size)
            camera.check()
        except GeometryError:
            camera = uncalibrated()
    return replace(camera, base_from_camera=base_from_camera)


def is_calibrated(info: Any) -> bool:
    """Whether a CameraInfo holds intrinsics: K or P, or a model that needs none."""
    focal = max(min(info.k[0], info.k[4]), min(info.p[0], info.p[5]))
    return bool(focal > 0) or info.distortion_model == EQUIRECTANGULAR


def _full_camera(info: Any, rectified: bool) -> Camera:
    """The camera of the full resolution, of raw or rectified images. Raises GeometryError."""
    width, height = int(info.width), int(info.height)
    if rectified and min(info.p[0], info.p[5]) > 0:
        fx, fy, cx, cy = (float(info.p[index]) for index in (0, 5, 2, 6))
        return Camera(width, height, fx, fy, cx, cy)
    name = str(info.distortion_model)
    if name not in DISTORTION_MODELS:
        names = ", ".join(name for name in DISTORTION_MODELS if name)
        raise GeometryError(f"its distortion model '{name}' is none of {names}: rectify the images")
    fx, fy, cx, cy = (float(info.k[index]) for index in (0, 4, 2, 5))
    model, distortion = DISTORTION_MODELS[name], tuple(float(value) for value in info.d)
    if model == PINHOLE and not any(distortion):
        distortion = ()
    if rectified and (distortion or model != PINHOLE):
        raise GeometryError(
            "its P is zero, which describes rectified images, and its D is of raw ones: calibrate "
            "the camera, or take the raw images"
        )
    return Camera(width, height, fx, fy, cx, cy, distortion, model=model)


def _window(info: Any, size: tuple[int, int] | None) -> _Window:
    """The part of the sensor that images of a size show; None: what the info says.

    A region or binning that the images contradict is not applied. Raises GeometryError where
    nothing explains the size.
    """
    region, full = info.roi, (int(info.width), int(info.height))
    binning = max(int(info.binning_x), 1), max(int(info.binning_y), 1)
    x, y, width, height = (
        int(v) for v in (region.x_offset, region.y_offset, region.width, region.height)
    )
    if (x or y) and not (width and height):
        raise GeometryError(
            f"its roi begins at ({x}, {y}) and has no size: fill in its width and height"
        )
    if x + width > full[0] or y + height > full[1]:
        raise GeometryError(
            f"its roi of {_by((width, height))} pixels at ({x}, {y}) lies beyond {_by(full)}, its "
            "width and height, which are those of the full resolution"
        )
    part = (x, y, width, height) if width and height else (0, 0, *full)
    declared = _Window(*part, binning)
    if size is None:
        return declared
    whole = _Window(0, 0, *full, binning)
    windows = declared, whole, replace(declared, binning=(1, 1)), replace(whole, binning=(1, 1))
    for window in windows:
        if all(abs(a - b) <= 1 for a, b in zip(window.size, size, strict=True)):
            return window
    for window in windows:
        if same_shape(window.size, size):
            return window
    raise GeometryError(_size_cause(declared.size, size))


def _size_cause(declared: tuple[int, int], size: tuple[int, int]) -> str:
    """Say what may have happened to images of another shape than the declared one."""
    cause = "they may be another camera's, or of another mode of the driver"
    if same_shape(declared, size[::-1]):
        cause = "they are turned by 90°"
    elif size[0] <= declared[0] and size[1] <= declared[1]:
        cause = "they may be a crop, whose place its roi has to say"
    return (
        f"it is of {_by(declared)} pixels, the images have {_by(size)}, another shape: {cause}; "
        "publish, or record, that of these images"
    )


def _check_middle(camera: Camera) -> None:
    """Raise GeometryError for a principal point that hints at intrinsics of other images."""
    if min(camera.width, camera.height) < 1:
        return
    across, down = camera.cx / camera.width, camera.cy / camera.height
    off = abs(across - 0.5), abs(down - 0.5)
    scaled = min(off) > OFF_MIDDLE and min(across, down) > 0 and abs(across - down) < SAME_SHARE
    if not (scaled or FAR_OFF < max(off) < 0.5):  # `Camera.check` refuses what lies outside
        return
    cause = "calibrate the camera"
    if scaled:
        other = round(2 * camera.cx), round(2 * camera.cy)
        cause = f"it seems to be of images of about {_by(other)}, by binning or scaling"
    raise GeometryError(
        f"the principal point ({camera.cx:g}, {camera.cy:g}) is far off the middle of an image of "
        f"{_by((camera.width, camera.height))} pixels: {cause}"
    )


def _degrees_across(camera: Camera) -> float:
    """Field of view across [deg] without distortion."""
    sides = [camera.cx + 0.5, camera.width - 0.5 - camera.cx]
    if camera.model == FISHEYE:
        return math.degrees(sum(sides) / camera.fx)
    return math.degrees(sum(math.atan2(side, camera.fx) for side in sides))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
