# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera: intrinsics, distortion and mount."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import cv2
import numpy as np

from disam_ros.geometry import Transform


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `base_from_camera` maps the optical frame to the vehicle's base frame."""

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
        """Whether its intrinsics are known."""
        return self.fx > 0 and self.fy > 0

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with images of another size."""
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

    def bearings(self, pixels: np.ndarray) -> np.ndarray:
        """Undistorted image coordinates float64 [K, 2] of pixels [K, 2]: x y at depth 1 in the
        optical frame (x right, y down, z forward)."""
        if not len(pixels):
            return np.zeros((0, 2))
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        distortion = np.array(self.distortion) if self.distortion else None
        found = cv2.undistortPoints(pixels.astype(np.float64)[:, None], matrix, distortion)
        return found.reshape(-1, 2)

    def to_json(self) -> dict:
        values = asdict(self)
        values["distortion"] = list(self.distortion)
        pose = self.base_from_camera
        values["base_from_camera"] = [*pose.translation.tolist(), *pose.quaternion.tolist()]
        return values

    @classmethod
    def from_json(cls, values: dict) -> Camera:
        pose = np.asarray(values["base_from_camera"], dtype=np.float64)
        rest = {k: v for k, v in values.items() if k not in ("base_from_camera", "distortion")}
        return cls(
            **rest,
            distortion=tuple(values.get("distortion", ())),
            base_from_camera=Transform(pose[:3], pose[3:]),
        )
