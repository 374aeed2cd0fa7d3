# SPDX-License-Identifier: Apache-2.0
"""Keypoints of an image: pixels, descriptors, camera and uncertain inverse depths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.errors import GeometryError

DETECTION_SIZE = 640  # pixels: larger images are shrunk to this longer side before detection


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Local features of one image, one row each.

    pixels: float32 [K, 2], x y, pixel centres at integers.
    descriptors: uint8 [K, D].
    inverse_depths, precisions: [K], inverse depth along the optical axis (1/m) and its 1/σ² (m²);
    precision 0: unknown, infinite: taken as exact.
    camera: calibrated, with images of the size that the pixels are of; None: intrinsics unknown.
    scores: float32 [K], detector responses, falling; None: not kept.
    """

    pixels: NDArray[Any]
    descriptors: NDArray[np.uint8]
    inverse_depths: NDArray[Any]
    precisions: NDArray[Any]
    camera: Camera | None = None
    scores: NDArray[np.float32] | None = None

    @classmethod
    def detected(
        cls,
        pixels: NDArray[np.float32],
        descriptors: NDArray[np.uint8],
        scores: NDArray[np.float32],
    ) -> Keypoints:
        """Makes keypoints of a detector's output: no depth is known."""
        inverse_depths, precisions = np.zeros((2, len(pixels)), np.float32)
        return cls(pixels, descriptors, inverse_depths, precisions, scores=scores)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: NDArray[Any]) -> Keypoints:
        """Copies rows, by index or mask."""
        return replace(
            self,
            pixels=self.pixels[rows],
            descriptors=self.descriptors[rows],
            inverse_depths=self.inverse_depths[rows],
            precisions=self.precisions[rows],
            scores=None if self.scores is None else self.scores[rows],
        )

    def seen_by(self, camera: Camera | None, image: NDArray[np.uint8]) -> Keypoints:
        """Adds the camera that took the image [H, W, 3], whatever image size it is given for;
        None or one without intrinsics: no camera."""
        if camera is None or not camera.calibrated:
            return replace(self, camera=None)
        return replace(self, camera=camera.resized(image.shape[1], image.shape[0]))

    @property
    def calibrated_camera(self) -> Camera:
        """The camera. Raises GeometryError without one."""
        if self.camera is None:
            raise GeometryError("keypoints of a camera without intrinsics have no bearings")
        return self.camera

    @property
    def bearings(self) -> NDArray[np.float64]:
        """Undistorted image coordinates float64 [K, 2], x y at depth 1 in the optical frame.

        Raises GeometryError without a camera.
        """
        return self.calibrated_camera.bearings(self.pixels)

    @property
    def pixel_angle(self) -> float:
        """Size of a pixel of the image as searched by the detector, in units of a bearing.

        Raises GeometryError without a camera.
        """
        camera = self.calibrated_camera
        shrunk = max(1.0, max(camera.width, camera.height) / DETECTION_SIZE)
        return shrunk / min(camera.fx, camera.fy)

    @property
    def depths(self) -> NDArray[np.float32]:
        """Depths float32 [K], metres along the optical axis; nan where unknown."""
        with np.errstate(divide="ignore"):
            depths = (1.0 / np.asarray(self.inverse_depths, np.float64)).astype(np.float32)
        return np.where(self.precisions > 0, depths, np.float32(np.nan))
