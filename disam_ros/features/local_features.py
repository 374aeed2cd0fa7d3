# SPDX-License-Identifier: Apache-2.0
"""Local features (SIFT, ORB, XFeat): detection, description, mutual nearest-neighbour matching.

SIFT and ORB are OpenCV's; XFeat is a network in an ONNX file (Potje et al., XFeat: Accelerated
Features for Lightweight Image Matching, CVPR 2024). A descriptor is stored as a row of bytes and
compared as a unit vector.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LOCAL_FEATURES
from disam_ros.errors import ConfigError, ModelError
from disam_ros.features.keypoints import DETECTION_SIZE, Keypoints
from disam_ros.image import check_image

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DESCRIPTOR_BYTES = {"sift": 128, "orb": 32, "xfeat": 64}
# Largest ratio of the best match's distance to the second best's. Between day and night XFeat's
# second best match is hardly farther than the right one: the ratio test would reject most of them.
MAX_RATIO = {"sift": 0.85, "orb": 0.85, "xfeat": 1.0}
MIN_CONTRAST = 2.0  # standard deviation of grey levels, below which an image has no keypoints
SIFT_CONTRAST = 0.01  # detection threshold; OpenCV's 0.04 leaves few keypoints at night
FAST_THRESHOLD = 10  # of ORB, grey levels
SIFT_SCALE = 512.0  # bytes per unit of root SIFT, whose 128 entries have unit norm
XFEAT_SCALE = 254.0  # bytes per unit of XFeat's 64 entries
CELL = 8  # pixels of a cell of XFeat's outputs
MIN_PEAK = 0.05  # keypoint probability in XFeat's heat map
NMS_SIZE = 5  # pixels, window of XFeat's non-maximum suppression


class LocalFeatures(Protocol):
    """A detector with its descriptor."""

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        """At most `count` keypoints of an image (uint8 RGB [H, W, 3]), strongest first.

        None of an image without texture. Raises ImageError.
        """
        ...


@cache
def open_features(name: str, weights: str = "") -> LocalFeatures:
    """The local features of that name. weights: ONNX file of XFeat.

    Raises ConfigError for an unknown name, or XFeat without a file or without onnxruntime,
    ModelError for a file that is not XFeat.
    """
    if name == "sift":
        return Sift()
    if name == "orb":
        return Orb()
    if name == "xfeat":
        return XFeat(weights)
    raise ConfigError(f"unknown local features '{name}'; known: {', '.join(LOCAL_FEATURES)}")


def match(name: str, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Mutual nearest neighbours: pairs of rows int64 [M, 2] of descriptors [Ka, D] and [Kb, D].

    name: the local features that made both. SIFT and ORB also pass the ratio test from `a` to `b`
    (Lowe, IJCV 2004).
    """
    if not len(a) or not len(b):
        return np.zeros((0, 2), np.int64)
    cosines = _vectors(name, a) @ _vectors(name, b).T
    rows, nearest = np.arange(len(a)), cosines.argmax(1)
    best = cosines[rows, nearest]
    mutual = cosines.argmax(0)[nearest] == rows
    if len(b) > 1:
        second = np.partition(cosines, -2, axis=1)[:, -2]
        farthest = MAX_RATIO[name] ** 2 * (1.0 - second)  # squared distances are 2 − 2 cos
        mutual &= 1.0 - best <= farthest
    return np.stack([rows[mutual], nearest[mutual]], 1)


def _vectors(name: str, descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit vectors float32 [K, D'] of descriptors [K, D]; of ORB's bits, cosines order matches as
    the Hamming distance does."""
    if name == "orb":
        signs = 2.0 * np.unpackbits(descriptors, axis=1) - 1.0
        return (signs / 16.0).astype(np.float32)
    return _unit(descriptors.astype(np.float32) - np.float32(128 if name == "xfeat" else 0))


class Sift:
    """Root SIFT: the square roots of L1-normalized SIFT (Arandjelović and Zisserman, CVPR 2012)."""

    name = "sift"

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        create: Any = cv2.SIFT_create  # type: ignore[attr-defined]
        detector = create(count, contrastThreshold=SIFT_CONTRAST)
        found = _detect(detector, image, count, DESCRIPTOR_BYTES[self.name])
        shares = found.descriptors / np.maximum(found.descriptors.sum(1, keepdims=True), 1e-12)
        codes = np.minimum(np.rint(SIFT_SCALE * np.sqrt(shares)), 255)
        return replace(found, descriptors=codes.astype(np.uint8))


class Orb:
    """ORB: 256 bits (Rublee et al., ICCV 2011)."""

    name = "orb"

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        create: Any = cv2.ORB_create  # type: ignore[attr-defined]
        detector = create(count, fastThreshold=FAST_THRESHOLD)
        return _detect(detector, image, count, DESCRIPTOR_BYTES[self.name])


class XFeat:
    """A network that gives each cell of 8 pixels a descriptor, a keypoint and its reliability.

    weights: ONNX file; input float32 [1, 1, H, W], grey levels of zero mean and unit variance;
    outputs descriptors [1, H/8, W/8, 64], keypoints [1, H/8, W/8, 65] (one of the cell's 64 pixels
    or none, logits) and reliability [1, 1, H/8, W/8]. H and W are fixed: an image is scaled to fit,
    the rest of the input is grey.
    """

    name = "xfeat"

    def __init__(self, weights: str) -> None:
        self._session = _open_xfeat(weights)
        self._input = self._session.get_inputs()[0].name
        self._shape = self._session.get_inputs()[0].shape[2:]

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        grey = _grey(image)
        if grey is None:
            return _nothing(DESCRIPTOR_BYTES[self.name])
        scale = min(self._shape[0] / grey.shape[0], self._shape[1] / grey.shape[1])
        small = _resized(grey, scale).astype(np.float32)[: self._shape[0], : self._shape[1]]
        whole = np.zeros((1, 1, *self._shape), np.float32)
        whole[0, 0, : small.shape[0], : small.shape[1]] = (small - small.mean()) / small.std()
        cells, logits, reliability = self._session.run(None, {self._input: whole})
        peaks = _peaks(logits[0])[: small.shape[0], : small.shape[1]]
        y, x = np.nonzero(peaks)
        pixels = np.stack([x, y], 1).astype(np.float32)
        scores = peaks[y, x] * _sample(reliability[0, 0][..., None], pixels)[:, 0]
        order = np.argsort(-scores, kind="stable")[:count]
        pixels, scores = pixels[order], scores[order]
        codes = np.rint(XFEAT_SCALE * _unit(_sample(cells[0], pixels))) + 128.0
        descriptors = np.clip(codes, 0, 255).astype(np.uint8)
        return Keypoints.detected(_original(pixels, scale), descriptors, scores)


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


def _peaks(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [h, w, 65] → keypoint probability float32 [8 h, 8 w], 0 but at its maxima."""
    shares = np.exp(logits - logits.max(2, keepdims=True))
    shares /= shares.sum(2, keepdims=True)
    rows, columns = logits.shape[:2]
    inside = shares[..., : CELL * CELL].reshape(rows, columns, CELL, CELL)
    probabilities = inside.transpose(0, 2, 1, 3).reshape(CELL * rows, CELL * columns)
    largest = cv2.dilate(probabilities, np.ones((NMS_SIZE, NMS_SIZE), np.uint8))
    maxima = (probabilities == largest) & (probabilities > MIN_PEAK)
    return np.where(maxima, probabilities, np.float32(0.0))


def _sample(cells: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values float32 [K, C] of cells [h, w, C] at pixels [K, 2], bilinear between centres."""
    where = (pixels.astype(np.float64) + 0.5) / CELL - 0.5
    x, y = np.clip(where.T, 0.0, [[cells.shape[1] - 1.0], [cells.shape[0] - 1.0]])
    left = np.minimum(x.astype(int), cells.shape[1] - 2)
    top = np.minimum(y.astype(int), cells.shape[0] - 2)
    right, down = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - right) * cells[top, left] + right * cells[top, left + 1]
    lower = (1 - right) * cells[top + 1, left] + right * cells[top + 1, left + 1]
    values: NDArray[np.float32] = ((1 - down) * upper + down * lower).astype(np.float32)
    return values


def _detect(detector: cv2.Feature2D, image: NDArray[np.uint8], count: int, size: int) -> Keypoints:
    """Keypoints of an OpenCV detector, with the descriptors that it gives."""
    grey = _grey(image)
    if grey is None:
        return _nothing(size)
    scale = min(1.0, DETECTION_SIZE / max(grey.shape))
    found, codes = detector.detectAndCompute(_resized(grey, scale), None)
    if not found:
        return _nothing(size)
    scores = np.array([keypoint.response for keypoint in found], np.float32)
    order = np.argsort(-scores, kind="stable")[:count]
    pixels = np.array([found[i].pt for i in order], np.float32)
    descriptors: Any = codes[order]  # bytes of ORB, floats of SIFT
    return Keypoints.detected(_original(pixels, scale), descriptors, scores[order])


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Grey levels uint8 [H, W]; None for an image without texture. Raises ImageError."""
    check_image(image)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return grey if grey.std() >= MIN_CONTRAST else None


def _resized(grey: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1.0:
        return grey
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method), np.uint8)


def _original(pixels: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Pixels of a resized image → pixels of the image itself."""
    return ((pixels + 0.5) / scale - 0.5).astype(np.float32)


def _nothing(size: int) -> Keypoints:
    return Keypoints.detected(
        np.zeros((0, 2), np.float32), np.zeros((0, size), np.uint8), np.zeros(0, np.float32)
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-12))
    return scaled
