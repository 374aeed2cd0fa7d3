# SPDX-License-Identifier: Apache-2.0
"""Points of an image that can be found again in another, and which of two images' belong together.

SIFT and ORB are OpenCV's; XFeat is a network in an ONNX file (Potje et al., XFeat: Accelerated
Features for Lightweight Image Matching, CVPR 2024). A descriptor is a row of bytes, as maps keep
it; to be compared, each kind turns rows of bytes into unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from disam_ros.config import LOCAL_FEATURES
from disam_ros.errors import ConfigError, ModelError
from disam_ros.image import check_image

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIZES = {"sift": 128, "orb": 32, "xfeat": 64}  # bytes of a descriptor
LONGEST = 640  # pixels of an image's longer side up to which points are sought
# Distance of the best match over that of the second, at most. Between day and night the second of
# XFeat's is hardly farther than the right one: most right ones would fail this test.
RATIOS = {"sift": 0.85, "orb": 0.85, "xfeat": 1.0}
TEXTURE = 2.0  # standard deviation of grey levels below which an image shows nothing
CONTRAST = 0.01  # of SIFT; OpenCV's own 0.04 leaves few points at night
FAST_THRESHOLD = 10  # of ORB, grey levels
ROOT_SCALE = 512.0  # of root SIFT, whose 128 entries have unit norm
XFEAT_SCALE = 254.0  # of XFeat's 64 entries
CELL = 8  # pixels of a cell of XFeat's outputs
LEAST_PEAK = 0.05  # probability of a point in XFeat's map of points
PEAK_SIZE = 5  # pixels around a peak within which it is the largest


@dataclass(frozen=True)
class Keypoints:
    """points: float32 [K, 2], x y in pixels of the image, pixel centres at integers. descriptors:
    uint8 [K, D]. scores: float32 [K], falling."""

    points: np.ndarray
    descriptors: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


class LocalFeatures(Protocol):
    """name: as in the configuration."""

    name: str

    def extract(self, image: np.ndarray, count: int) -> Keypoints:
        """At most `count` points of an image (uint8 RGB [H, W, 3]), best first; none of one that
        shows nothing. Raises ImageError."""
        ...


@cache
def open_features(name: str, weights: str = "") -> LocalFeatures:
    """The local features of that name. weights: ONNX file of XFeat.

    Raises ConfigError for an unknown name, without a file or without onnxruntime, ModelError for a
    file that is none of XFeat.
    """
    if name == "xfeat":
        return XFeat(weights)
    kinds = {"sift": Sift, "orb": Orb}
    if name not in kinds:
        raise ConfigError(f"unknown local features '{name}'; known: {', '.join(LOCAL_FEATURES)}")
    return kinds[name]()


def match(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairs int64 [M, 2] of descriptors uint8 [Ka, D] and [Kb, D] that are each other's nearest.

    name: of the local features that made both. Of SIFT and ORB a pair counts where, seen from `a`,
    the nearest is clearly nearer than the second nearest (ratio test; Lowe, IJCV 2004).
    """
    if not len(a) or not len(b):
        return np.zeros((0, 2), np.int64)
    cosines = _vectors(name, a) @ _vectors(name, b).T
    rows, nearest = np.arange(len(a)), cosines.argmax(1)
    best = cosines[rows, nearest]
    mutual = cosines.argmax(0)[nearest] == rows
    if len(b) > 1:
        second = np.partition(cosines, -2, axis=1)[:, -2]
        farthest = RATIOS[name] ** 2 * (1.0 - second)  # squared distances are 2 − 2 cos
        mutual &= 1.0 - best <= farthest
    return np.stack([rows[mutual], nearest[mutual]], 1)


def _vectors(name: str, descriptors: np.ndarray) -> np.ndarray:
    """Unit vectors float32 [K, D'] of descriptors uint8 [K, D]. Of ORB's bits, cosines order pairs
    as the Hamming distance does."""
    if name == "orb":
        return (2.0 * np.unpackbits(descriptors, axis=1) - 1.0).astype(np.float32) / 16.0
    return _unit(descriptors.astype(np.float32) - (128.0 if name == "xfeat" else 0.0))


class Sift:
    """Root SIFT: the square roots of L1-normalized SIFT (Arandjelović and Zisserman, CVPR 2012)."""

    name = "sift"

    def extract(self, image: np.ndarray, count: int) -> Keypoints:
        detector = cv2.SIFT_create(count, contrastThreshold=CONTRAST)
        found = _detect(detector, image, count, SIZES[self.name])
        shares = found.descriptors / np.maximum(found.descriptors.sum(1, keepdims=True), 1e-12)
        codes = np.minimum(np.rint(ROOT_SCALE * np.sqrt(shares)), 255)
        return replace(found, descriptors=codes.astype(np.uint8))


class Orb:
    """ORB: 256 bits (Rublee et al., ICCV 2011)."""

    name = "orb"

    def extract(self, image: np.ndarray, count: int) -> Keypoints:
        detector = cv2.ORB_create(count, fastThreshold=FAST_THRESHOLD)
        return _detect(detector, image, count, SIZES[self.name])


class XFeat:
    """A network that gives cells of 8 pixels a descriptor, a point and its reliability.

    weights: ONNX file; input float32 [1, 1, H, W], grey levels of zero mean and unit variance;
    outputs descriptors [1, H/8, W/8, 64], points [1, H/8, W/8, 65] (one of the cell's 64 pixels or
    none, logits) and reliability [1, 1, H/8, W/8]. H and W are fixed: an image is scaled to fit,
    the rest of the input is grey.
    """

    name = "xfeat"

    def __init__(self, weights: str) -> None:
        self._session = _open_xfeat(weights)
        self._input = self._session.get_inputs()[0].name
        self._shape = self._session.get_inputs()[0].shape[2:]

    def extract(self, image: np.ndarray, count: int) -> Keypoints:
        grey = _grey(image)
        if grey is None:
            return _nothing(SIZES[self.name])
        scale = min(self._shape[0] / grey.shape[0], self._shape[1] / grey.shape[1])
        small = _resized(grey, scale).astype(np.float32)[: self._shape[0], : self._shape[1]]
        whole = np.zeros((1, 1, *self._shape), np.float32)
        whole[0, 0, : small.shape[0], : small.shape[1]] = (small - small.mean()) / small.std()
        cells, logits, reliability = self._session.run(None, {self._input: whole})
        peaks = _peaks(logits[0])[: small.shape[0], : small.shape[1]]
        y, x = np.nonzero(peaks)
        points = np.stack([x, y], 1).astype(np.float32)
        scores = peaks[y, x] * _sample(reliability[0, 0][..., None], points)[:, 0]
        order = np.argsort(-scores, kind="stable")[:count]
        points, scores = points[order], scores[order]
        codes = np.rint(XFEAT_SCALE * _unit(_sample(cells[0], points))) + 128.0
        return Keypoints(_original(points, scale), np.clip(codes, 0, 255).astype(np.uint8), scores)


def _open_xfeat(weights: str) -> InferenceSession:
    if not weights:
        raise ConfigError("local features 'xfeat' need the setting 'xfeat': its ONNX file")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"local features 'xfeat' need onnxruntime ({error}): pip install 'disam_ros[onnx]', or "
            f"choose sift or orb"
        ) from error
    if not Path(weights).is_file():
        raise ConfigError(f"xfeat: {weights} not found; expected an ONNX file of XFeat")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cv2.getNumThreads()
    try:
        session = onnxruntime.InferenceSession(weights, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no root of their own
        raise ModelError(f"{weights} is no ONNX file that can be run: {error}") from error
    shapes = [value.shape for value in (*session.get_inputs(), *session.get_outputs())]
    height, width = shapes[0][-2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    rows, columns = (height // CELL, width // CELL) if fixed else (0, 0)
    expected = [[1, 1, height, width], [1, rows, columns, 64], [1, rows, columns, 65]]
    if not fixed or shapes != [*expected, [1, 1, rows, columns]]:
        raise ModelError(f"{weights} is none of XFeat of a fixed size: its shapes are {shapes}")
    return session


def _peaks(logits: np.ndarray) -> np.ndarray:
    """Logits [h, w, 65] → probability of a point float32 [8 h, 8 w], 0 but at its maxima."""
    shares = np.exp(logits - logits.max(2, keepdims=True))
    shares /= shares.sum(2, keepdims=True)
    rows, columns = logits.shape[:2]
    inside = shares[..., : CELL * CELL].reshape(rows, columns, CELL, CELL)
    chances = inside.transpose(0, 2, 1, 3).reshape(CELL * rows, CELL * columns)
    largest = cv2.dilate(chances, np.ones((PEAK_SIZE, PEAK_SIZE), np.uint8))
    return np.where((chances == largest) & (chances > LEAST_PEAK), chances, 0.0)


def _sample(cells: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values float32 [K, C] of cells [h, w, C] at pixels [K, 2], bilinear between centres."""
    where = (points.astype(np.float64) + 0.5) / CELL - 0.5
    x, y = np.clip(where.T, 0.0, [[cells.shape[1] - 1.0], [cells.shape[0] - 1.0]])
    left, top = (
        np.minimum(x.astype(int), cells.shape[1] - 2),
        np.minimum(y.astype(int), cells.shape[0] - 2),
    )
    right, down = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - right) * cells[top, left] + right * cells[top, left + 1]
    lower = (1 - right) * cells[top + 1, left] + right * cells[top + 1, left + 1]
    return ((1 - down) * upper + down * lower).astype(np.float32)


def _detect(detector: cv2.Feature2D, image: np.ndarray, count: int, size: int) -> Keypoints:
    """What a detector of OpenCV finds; descriptors as it gives them."""
    grey = _grey(image)
    if grey is None:
        return _nothing(size)
    scale = min(1.0, LONGEST / max(grey.shape))
    found, descriptors = detector.detectAndCompute(_resized(grey, scale), None)
    if not found:
        return _nothing(size)
    scores = np.array([point.response for point in found], np.float32)
    order = np.argsort(-scores, kind="stable")[:count]
    points = np.array([found[i].pt for i in order], np.float32)
    return Keypoints(_original(points, scale), descriptors[order], scores[order])


def _grey(image: np.ndarray) -> np.ndarray | None:
    """Grey levels uint8 [H, W]; None for an image that shows nothing. Raises ImageError."""
    check_image(image)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey if grey.std() >= TEXTURE else None


def _resized(grey: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1.0:
        return grey
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method)


def _original(points: np.ndarray, scale: float) -> np.ndarray:
    """Pixels of a resized image → pixels of the image itself."""
    return ((points + 0.5) / scale - 0.5).astype(np.float32)


def _nothing(size: int) -> Keypoints:
    return Keypoints(
        np.zeros((0, 2), np.float32), np.zeros((0, size), np.uint8), np.zeros(0, np.float32)
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
