# SPDX-License-Identifier: Apache-2.0
"""Detection and description of keypoints, with OpenCV's SIFT and ORB.

A descriptor is stored as a row of bytes and compared as a unit vector.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.features.keypoints import DETECTION_SIZE, Keypoints
from disam_ros.image import check_image

DESCRIPTOR_BYTES = {"sift": 128, "orb": 32, "xfeat": 64, "aliked": 128}
LEARNED = ("xfeat", "aliked")
MIN_CONTRAST = 2.0  # standard deviation of grey levels, below which an image has no keypoints
SIFT_CONTRAST = 0.01  # detection threshold; OpenCV's 0.04 leaves few keypoints at night
FAST_THRESHOLD = 10  # of ORB, grey levels
SIFT_SCALE = 512.0  # bytes per unit of root SIFT, whose 128 entries have unit norm
SIGNED_SCALE = 254.0  # bytes per unit of a learned descriptor, about SIGNED_ZERO
SIGNED_ZERO = 128


class LocalFeatures(Protocol):
    """A detector with its descriptor."""

    @property
    def name(self) -> str:
        """Name in the configuration."""
        ...

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        """Detects at most `count` keypoints of an image (uint8 RGB [H, W, 3]), strongest first.

        An image without texture has none. Raises ImageError.
        """
        ...


def unit_vectors(name: str, descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit vectors float32 [K, D'] of descriptors [K, D]; of ORB's bits, cosines order matches as
    the Hamming distance does."""
    if name == "orb":
        signs = 2.0 * np.unpackbits(descriptors, axis=1) - 1.0
        return (signs / 16.0).astype(np.float32)
    zero = SIGNED_ZERO if name in LEARNED else 0
    return unit(descriptors.astype(np.float32) - np.float32(zero))


def signed_bytes(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Unit vectors [K, D] → descriptors uint8 [K, D]."""
    codes = np.clip(np.rint(SIGNED_SCALE * vectors) + SIGNED_ZERO, 0, 255)
    descriptors: NDArray[np.uint8] = codes.astype(np.uint8)
    return descriptors


class Sift:
    """Root SIFT: the square roots of L1-normalized SIFT (Arandjelović and Zisserman, CVPR 2012)."""

    name = "sift"

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        create: Any = cv2.SIFT_create  # type: ignore[attr-defined]
        detector = create(count, contrastThreshold=SIFT_CONTRAST)
        keypoints = _detect(detector, image, count, DESCRIPTOR_BYTES[self.name])
        sums = keypoints.descriptors.sum(1, keepdims=True)
        shares = keypoints.descriptors / np.maximum(sums, 1e-12)
        codes = np.minimum(np.rint(SIFT_SCALE * np.sqrt(shares)), 255)
        return replace(keypoints, descriptors=codes.astype(np.uint8))


class Orb:
    """ORB: 256 bits (Rublee et al., ICCV 2011)."""

    name = "orb"

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        create: Any = cv2.ORB_create  # type: ignore[attr-defined]
        detector = create(count, fastThreshold=FAST_THRESHOLD)
        return _detect(detector, image, count, DESCRIPTOR_BYTES[self.name])


def _detect(detector: cv2.Feature2D, image: NDArray[np.uint8], count: int, size: int) -> Keypoints:
    """Keypoints of an OpenCV detector, with the descriptors that it gives."""
    grey = grey_levels(image)
    if grey is None:
        return no_keypoints(size)
    scale = min(1.0, DETECTION_SIZE / max(grey.shape))
    points, codes = detector.detectAndCompute(resized(grey, scale), None)
    if not points:
        return no_keypoints(size)
    scores = np.array([point.response for point in points], np.float32)
    order = np.argsort(-scores, kind="stable")[:count]
    pixels = np.array([points[i].pt for i in order], np.float32)
    descriptors: Any = codes[order]  # bytes of ORB, floats of SIFT
    return Keypoints.detected(original_pixels(pixels, scale), descriptors, scores[order])


def grey_levels(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Grey levels uint8 [H, W]; None for an image without texture. Raises ImageError."""
    check_image(image)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return grey if grey.std() >= MIN_CONTRAST else None


def resized(grey: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """An image [H, W] or [H, W, 3] at another scale."""
    if scale == 1.0:
        return grey
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    scale = max(scale, 1.0 / min(grey.shape[:2]))  # the shorter side of a strip remains
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method), np.uint8)


def original_pixels(pixels: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Pixels of a resized image → pixels of the image itself."""
    return ((pixels + 0.5) / scale - 0.5).astype(np.float32)


def no_keypoints(size: int) -> Keypoints:
    """The result for an image without texture. size: bytes of a descriptor."""
    return Keypoints.detected(
        np.zeros((0, 2), np.float32), np.zeros((0, size), np.uint8), np.zeros(0, np.float32)
    )


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [K, D] at unit length."""
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-12))
    return scaled
