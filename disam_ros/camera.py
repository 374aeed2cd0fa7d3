# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera model: intrinsics, lens distortion and extrinsics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import DisamError, GeometryError
from disam_ros.files.reading import check_entries
from disam_ros.geometry import Transform, distance

MOUNT_M, MOUNT_DEG = 2.0, 15.0  # by which mounts of vehicles of one kind may differ
FOCAL_LENGTHS = 0.01, 1000.0  # of a lens, over the larger side of its image
MAX_DISTORTION = 1e4  # of a coefficient
PINHOLES = ("", "plumb_bob", "rational_polynomial")  # models of distortion that can be undone
DISTORTIONS = (0, 4, 5, 8, 12, 14)  # numbers of OpenCV's distortion models
KINDS = {
    **dict.fromkeys(("width", "height"), int),
    **dict.fromkeys(("fx", "fy", "cx", "cy"), float),
    "distortion": list[float] | None,
    "base_from_camera": tuple[(float,) * 7],  # type: ignore[misc]
}  # of the entries of a camera in JSON

ASPECT_TOLERANCE = 0.02  # relative, between an image and its camera_info


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes [px] (width, height) are of one shape, be they scaled."""
    return math.isclose(size[0] * other[1], size[1] * other[0], rel_tol=ASPECT_TOLERANCE)


@dataclass(frozen=True)
class Camera:
    """Intrinsics [px] of an image size, and extrinsics.

    base_from_camera: pose of the optical frame (x right, y down, z forward) in the base frame.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()  # OpenCV plumb_bob order; empty: none
    base_from_camera: Transform = field(default_factory=Transform.identity)

    @property
    def calibrated(self) -> bool:
        """Whether the intrinsics are known."""
        return self.fx > 0 and self.fy > 0

    def check(self) -> None:
        """Raise GeometryError unless these are the intrinsics of a lens."""
        sizes, (low, high) = ", ".join(map(str, DISTORTIONS)), FOCAL_LENGTHS
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not np.isfinite(numbers).all():
            fault = f"expected finite intrinsics, got {numbers}"
        elif min(self.width, self.height) < 1:
            fault = f"expected the size of the image, got {self.width}x{self.height}"
        elif min(self.fx, self.fy) <= 0:
            fault = f"expected focal lengths above 0, got {self.fx:g} and {self.fy:g}"
        elif not all(low <= f / max(self.width, self.height) <= high for f in (self.fx, self.fy)):
            fault = (
                f"no lens has focal lengths of {self.fx:g} and {self.fy:g} pixels with an image of "
                f"{self.width}x{self.height}"
            )
        elif not (0 < self.cx < self.width and 0 < self.cy < self.height):
            fault = (
                f"the principal point ({self.cx:g}, {self.cy:g}) lies outside of an image of "
                f"{self.width}x{self.height} pixels"
            )
        elif len(self.distortion) not in DISTORTIONS:
            fault = f"expected {sizes} distortion coefficients, got {len(self.distortion)}"
        elif max(map(abs, self.distortion), default=0.0) > MAX_DISTORTION:
            fault = f"expected distortion coefficients up to {MAX_DISTORTION:g}"
        else:
            return
        raise GeometryError(f"{fault}; calibrate the camera")

    def check_model(self, distortion_model: str) -> None:
        """Raise GeometryError as `check`, and for a model of distortion that cannot be undone."""
        self.check()
        if distortion_model not in PINHOLES:
            known = ", ".join(name for name in PINHOLES if name)
            raise GeometryError(
                f"its distortion model '{distortion_model}' is none of {known}: rectify the images"
            )

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
        """Undistorted image coordinates float64 [K, 2] of pixels [K, 2]: x y at depth 1 in the
        optical frame (x right, y down, z forward)."""
        if not len(pixels):
            return np.zeros((0, 2))
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        distortion = np.array(self.distortion) if self.distortion else None
        found = cv2.undistortPoints(pixels.astype(np.float64)[:, None], matrix, distortion)
        return np.asarray(found.reshape(-1, 2), np.float64)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        values["distortion"] = list(self.distortion)
        pose = self.base_from_camera
        values["base_from_camera"] = [*pose.translation.tolist(), *pose.quaternion.tolist()]
        return values

    @classmethod
    def from_json(
        cls, values: Any, where: str = "camera", error: type[DisamError] = GeometryError
    ) -> Camera:
        """Inverse of `to_json`. Raises `error`, naming `where` and the key."""
        values = check_entries(values, KINDS, where, error, closed=True)
        distortion = tuple(values["distortion"] or ())
        if len(distortion) not in DISTORTIONS:
            raise error(
                f"{where}: 'distortion' expects {', '.join(map(str, DISTORTIONS))} numbers; got "
                f"{len(distortion)}"
            )
        pose = np.asarray(values["base_from_camera"], dtype=np.float64)
        try:
            transform = Transform(pose[:3], pose[3:])
        except GeometryError as fault:
            raise error(f"{where}: 'base_from_camera': {fault}") from fault
        return cls(**values | {"distortion": distortion, "base_from_camera": transform})


def cameras_from_json(values: Any, where: str, error: type[DisamError]) -> dict[str, Camera]:
    """Cameras by name. Raises `error`, naming `where`, the camera and the key."""
    return {
        name: Camera.from_json(camera, f"{where}: camera '{name}'", error)
        for name, camera in values.items()
    }


def mount_difference(camera: str, here: Transform, mapped: Transform) -> str:
    """In words, how base_from_camera differs from the map's; empty where it hardly does."""
    metres, degrees = distance(here, mapped)
    if metres <= MOUNT_M and degrees <= MOUNT_DEG:
        return ""
    return (
        f"camera '{camera}' sits {metres:.1f} m and {degrees:.0f}° from where the map's camera sat "
        "on its vehicle: if it is the same vehicle, correct its extrinsics, or build the map again"
    )


def mount(cameras: Mapping[str, Camera], name: str) -> Transform:
    """base_from_camera of the camera of that name; identity where it is not listed."""
    return cameras[name].base_from_camera if name in cameras else Transform.identity()
