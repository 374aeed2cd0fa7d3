# SPDX-License-Identifier: Apache-2.0
"""A camera: lens model, intrinsics, and extrinsics, its mount on a vehicle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.camera.lenses import (
    DISTORTIONS,
    EQUIRECTANGULAR,
    PINHOLE,
    project,
    unproject,
    widest_angle,
)
from disam_ros.errors import DisamError, GeometryError
from disam_ros.files.checking import check_entries
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance

FOCAL_LENGTHS = 0.01, 1000.0  # least and largest, relative to the larger side of the image
LARGEST_SIDE = 32766  # of an image, which OpenCV can warp [px]
MAX_DISTORTION = 1e4  # largest coefficient
KINDS = {
    **dict.fromkeys(("width", "height"), int),
    **dict.fromkeys(("fx", "fy", "cx", "cy"), float),
    "distortion": list[float] | None,
    "model": str | None,
    "base_from_camera": tuple[(float,) * 7],  # type: ignore[misc]
}  # of the entries of a camera in JSON
ASPECT_TOLERANCE = 0.02  # relative, between an image and its camera_info
MOUNT_M, MOUNT_DEG = 2.0, 15.0  # largest difference of mounts on vehicles of one kind
SAME_M, SAME_DEG = 0.01, 0.5  # largest difference of mounts of one camera
UPRIGHT = 0.7  # largest vertical part of an optical axis that has a direction on the ground


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes [px] (width, height) have one shape, up to scale."""
    return math.isclose(size[0] * other[1], size[1] * other[0], rel_tol=ASPECT_TOLERANCE)


@dataclass(frozen=True)
class Camera:
    """Lens model, intrinsics of an image size, and extrinsics."""

    width: int  # of the image [px]
    height: int  # [px]
    fx: float  # focal length [px]; of a fisheye and a panorama [px/rad]; 0: not calibrated
    fy: float
    cx: float  # principal point [px]
    cy: float
    distortion: tuple[float, ...] = ()  # coefficients in OpenCV's order; empty: none
    base_from_camera: Transform = field(default_factory=Transform.identity)  # of the optical frame
    model: str = PINHOLE  # lens model (lenses.py)

    @classmethod
    def assumed(cls, width: int, height: int, base_from_camera: Transform) -> Camera:
        """The camera that stands for one that was never calibrated: a view of 53° across."""
        cx, cy = width / 2, height / 2
        return cls(width, height, width, width, cx, cy, base_from_camera=base_from_camera)

    @property
    def is_assumed(self) -> bool:
        """Whether the intrinsics are those of `assumed`, which no calibration gives."""
        return self == Camera.assumed(self.width, self.height, self.base_from_camera)

    @property
    def calibrated(self) -> bool:
        """Whether the intrinsics are known."""
        return self.fx > 0 and self.fy > 0

    def check(self) -> None:
        """Raise GeometryError unless these are the intrinsics of a lens."""
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not np.isfinite(numbers).all():
            fault = f"expected finite intrinsics, got {numbers}"
        elif (wrong := self._sign_fault()) or (wrong := self._range_fault()):
            fault = wrong
        elif not (0 < self.cx < self.width and 0 < self.cy < self.height):
            fault = (
                f"the principal point ({self.cx:g}, {self.cy:g}) lies outside of an image of "
                f"{self.width}x{self.height} pixels"
            )
        elif wrong := _count_fault(self.model, self.distortion):
            fault = wrong
        elif self.model == EQUIRECTANGULAR and not same_shape((self.width, self.height), (2, 1)):
            fault = (
                f"an equirectangular image is twice as wide as high, this one is of {self.width}x"
                f"{self.height}"
            )
        else:
            return
        raise GeometryError(f"{fault}; calibrate the camera")

    def _sign_fault(self) -> str:
        """The fault of the signs of size and focal lengths; empty: none."""
        if not 1 <= min(self.width, self.height) <= max(self.width, self.height) <= LARGEST_SIDE:
            return (
                f"expected the size of the image, 1 to {LARGEST_SIDE} pixels a side, got "
                f"{self.width}x{self.height}"
            )
        if min(self.fx, self.fy) <= 0:
            return f"expected focal lengths above 0, got {self.fx:g} and {self.fy:g}"
        return ""

    def _range_fault(self) -> str:
        """The fault of intrinsics that no lens has, whatever its image; empty: none."""
        low, high = FOCAL_LENGTHS
        side = max(self.width, self.height)
        if not all(low <= f / side <= high for f in (self.fx, self.fy)):
            return (
                f"no lens has focal lengths of {self.fx:g} and {self.fy:g} pixels with an image of "
                f"{self.width}x{self.height}"
            )
        if max(abs(self.cx), abs(self.cy)) > high * side:
            return f"no lens has the principal point ({self.cx:g}, {self.cy:g})"
        if max(map(abs, self.distortion), default=0.0) > MAX_DISTORTION:
            return f"expected distortion coefficients up to {MAX_DISTORTION:g}"
        return ""

    def resized(self, width: int, height: int) -> Camera:
        """The camera with intrinsics scaled to another image size [px]."""
        x, y = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=(self.cx + 0.5) * x - 0.5,
            cy=(self.cy + 0.5) * y - 0.5,
        )

    def bearings(self, pixels: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Undistort pixels [K, 2]: x y at depth 1 in the optical frame [K, 2].

        They are nan where a lens that is no pinhole looks sideways or back.
        """
        if not len(pixels):
            return np.zeros((0, 2))
        if self.model != PINHOLE:
            rays = self.rays(pixels)
            ahead = np.where(rays[:, 2:] > 0, rays[:, 2:], np.nan)
            return np.asarray(rays[:, :2] / ahead, np.float64)
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        distortion = np.array(self.distortion) if self.distortion else None
        points = cv2.undistortPoints(pixels.astype(np.float64)[:, None], matrix, distortion)
        return np.asarray(points.reshape(-1, 2), np.float64)

    def rays(self, pixels: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Rays [K, 3] of pixels [K, 2] in the optical frame: at depth 1 of a pinhole, else of unit
        length."""
        points = np.asarray(pixels, np.float64) - np.array([self.cx, self.cy])
        points /= np.array([self.fx, self.fy])
        return unproject(self.model, self.distortion, points)

    def project(
        self, rays: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Project rays [K, 3] in the optical frame: pixels [K, 2], and which the camera sees [K].

        It sees a ray inside of the image and where its lens model is one to one.
        """
        directions: NDArray[np.float64] = np.asarray(rays, np.float64)
        angles = np.arctan2(np.hypot(directions[:, 0], directions[:, 1]), directions[:, 2])
        points = project(self.model, self.distortion, directions)
        pixels = points * np.array([self.fx, self.fy]) + np.array([self.cx, self.cy])
        size = np.array([self.width, self.height])
        inside = ((pixels >= -0.5) & (pixels <= size - 0.5)).all(1)
        return pixels, inside & (angles <= widest_angle(self.model, self.distortion))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        values["distortion"] = list(self.distortion)
        pose = self.base_from_camera
        values["base_from_camera"] = [*pose.translation.tolist(), *pose.quaternion.tolist()]
        if self.model == PINHOLE:
            del values["model"]
        return values

    @classmethod
    def from_json(
        cls, values: Any, where: str = "camera", error: type[DisamError] = GeometryError
    ) -> Camera:
        """Inverse of `to_json`. Raises `error`, naming `where` and the key."""
        values = check_entries(values, KINDS, where, error, closed=True)
        distortion, model = tuple(values["distortion"] or ()), values["model"] or PINHOLE
        if model not in DISTORTIONS:
            raise error(f"{where}: 'model' expects one of {', '.join(DISTORTIONS)}; got '{model}'")
        if len(distortion) not in DISTORTIONS[model]:
            raise error(
                f"{where}: 'distortion' expects {_counts(model)} numbers; got {len(distortion)}"
            )
        pose = np.asarray(values["base_from_camera"], dtype=np.float64)
        try:
            transform = Transform(pose[:3], pose[3:])
        except GeometryError as fault:
            raise error(f"{where}: 'base_from_camera': {fault}") from fault
        lens = {"distortion": distortion, "base_from_camera": transform, "model": model}
        camera = cls(**values | lens)
        calibrated = camera if camera.fx or camera.fy else replace(camera, fx=1.0, fy=1.0)
        if wrong := calibrated._sign_fault() or (camera.calibrated and camera._range_fault()):
            raise error(f"{where}: {wrong}; write what its calibration says")
        return camera


def uncalibrated(base_from_camera: Transform | None = None) -> Camera:
    """A camera of which only the mount is known."""
    return Camera(0, 0, 0.0, 0.0, 0.0, 0.0, (), base_from_camera or Transform.identity())


def _counts(model: str) -> str:
    """Possible numbers of coefficients of a lens model, in words."""
    return ", ".join(map(str, DISTORTIONS[model]))


def _count_fault(model: str, distortion: tuple[float, ...]) -> str:
    """The fault of a number of coefficients; empty: none."""
    if len(distortion) in DISTORTIONS[model]:
        return ""
    of = "" if model == PINHOLE else f" of the {model} model"
    return f"expected {_counts(model)} distortion coefficients{of}, got {len(distortion)}"


def cameras_from_json(values: Any, where: str, error: type[DisamError]) -> dict[str, Camera]:
    """Read cameras by name. Raises `error`, naming `where`, the camera and the key."""
    return {
        name: Camera.from_json(camera, f"{where}: camera '{name}'", error)
        for name, camera in values.items()
    }


def mount_difference(camera: str, mount: Transform, mapped: Transform) -> str:
    """Describe how base_from_camera differs from the map's; empty where it hardly does."""
    metres, degrees = distance(mount, mapped)
    if metres <= MOUNT_M and degrees <= MOUNT_DEG:
        return ""
    return (
        f"camera '{camera}' sits {metres:.1f} m and {degrees:.0f}° from where the map's camera sat "
        "on its vehicle, and is warped accordingly: if it is the same vehicle, correct its "
        "extrinsics, or build the map again"
    )


def mount(cameras: Mapping[str, Camera], name: str) -> Transform:
    """base_from_camera of a camera by name; identity where it is not listed."""
    return cameras[name].base_from_camera if name in cameras else Transform.identity()


def has_mount(camera: Camera) -> bool:
    """Whether the rotation on the vehicle is known: optical axes never are a vehicle's axes."""
    return not np.array_equal(camera.base_from_camera.quaternion, Transform.identity().quaternion)


def heading_of(camera: Camera | None) -> float | None:
    """Yaw [rad] of the optical axis on the vehicle; None: unknown, or it looks up or down."""
    if camera is None or not has_mount(camera):
        return None
    x, y, up = camera.base_from_camera.rotation[:, 2]
    return None if abs(up) > UPRIGHT else float(np.arctan2(y, x))


def same_mount(camera: Camera, other: Camera) -> bool:
    """Whether two cameras are known to sit and look alike, as one camera with several lenses."""
    if not (has_mount(camera) and has_mount(other)):
        return False
    metres, degrees = distance(camera.base_from_camera, other.base_from_camera)
    return metres <= SAME_M and degrees <= SAME_DEG


def levelled(camera: Camera) -> NDArray[np.float64]:
    """A camera's rotation [3, 3] in the base frame without roll and pitch.

    They are kept where it looks up or down, or has no mount.
    """
    rotation = camera.base_from_camera.rotation
    x, y, up = rotation[:, 2]
    if not has_mount(camera) or abs(up) > UPRIGHT:
        return rotation
    level: NDArray[np.float64] = _about_vertical(np.arctan2(y, x)) @ BODY_FROM_OPTICAL
    return level


def tilted_as(camera: Camera, other: Camera) -> NDArray[np.float64]:
    """Rotation [3, 3] in the base frame with the roll and pitch of `other` and the camera's yaw."""
    rotations = [item.base_from_camera.rotation for item in (camera, other)]
    yaw, other_yaw = (np.arctan2(rotation[1, 2], rotation[0, 2]) for rotation in rotations)
    tilted: NDArray[np.float64] = _about_vertical(yaw - other_yaw) @ rotations[1]
    return tilted


def _about_vertical(angle: float) -> NDArray[np.float64]:
    """Rotation [3, 3] by an angle [rad] about the vehicle's vertical axis."""
    matrix: NDArray[np.float64] = Rotation.from_euler("z", angle).as_matrix()
    return matrix
