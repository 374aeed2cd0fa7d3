# SPDX-License-Identifier: Apache-2.0
"""Learned local features of images: XFeat and ALIKED."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from disam_ros.features.detection import (
    DESCRIPTOR_BYTES,
    LocalFeatures,
    grey_levels,
    no_keypoints,
    original_pixels,
    resized,
    signed_bytes,
    unit,
)
from disam_ros.features.keypoints import DETECTION_SIZE, Keypoints
from disam_ros.features.learned import aliked, xfeat

WEIGHTS = {"xfeat": (xfeat.EXTRA, xfeat.FILE), "aliked": (aliked.EXTRA, aliked.FILE)}
MIN_PEAK = 0.05  # keypoint probability in XFeat's heat map
NMS_SIZE = 5  # pixels, window of XFeat's non-maximum suppression


def open_learned(name: str, device: str = "cpu") -> LocalFeatures:
    """Opens XFeat or ALIKED. Raises ConfigError where the weights are not installed, ModelError."""
    return XFeat(device) if name == "xfeat" else AlikedFeatures(device)


class XFeat:
    """XFeat at a longer side of DETECTION_SIZE pixels: each cell of 8 pixels has a descriptor, a
    keypoint and its reliability."""

    name = "xfeat"

    def __init__(self, device: str = "cpu") -> None:
        self._network, self._device = xfeat.load_xfeat(device), device

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        """Detects keypoints, see LocalFeatures."""
        grey = grey_levels(image)
        if grey is None:
            return no_keypoints(DESCRIPTOR_BYTES[self.name])
        scale = DETECTION_SIZE / max(grey.shape)
        small = resized(grey, scale).astype(np.float32)
        height, width = small.shape
        below, right = -height % xfeat.STRIDE, -width % xfeat.STRIDE
        whole = np.pad((small - small.mean()) / small.std(), ((0, below), (0, right)))
        whole = whole.astype(np.float32, copy=False)
        with torch.inference_mode():
            outputs = self._network(torch.from_numpy(whole).to(self._device)[None, None])
        cells, logits, reliability = (x[0].permute(1, 2, 0).cpu().numpy() for x in outputs)
        peaks = _peaks(logits)[:height, :width]
        y, x = np.nonzero(peaks)
        pixels = np.stack([x, y], 1).astype(np.float32)
        scores = peaks[y, x] * _sample(reliability, pixels)[:, 0]
        order = np.argsort(-scores, kind="stable")[:count]
        pixels, scores = pixels[order], scores[order]
        descriptors = signed_bytes(unit(_sample(cells, pixels)))
        return Keypoints.detected(original_pixels(pixels, scale), descriptors, scores)


class AlikedFeatures:
    """ALIKED-n16 at a longer side of at most DETECTION_SIZE pixels."""

    name = "aliked"

    def __init__(self, device: str = "cpu") -> None:
        self._network, self._device = aliked.load_aliked(device), device

    def extract(self, image: NDArray[np.uint8], count: int) -> Keypoints:
        """Detects keypoints, see LocalFeatures."""
        grey = grey_levels(image)
        if grey is None or min(grey.shape) < xfeat.CELL:
            return no_keypoints(DESCRIPTOR_BYTES[self.name])
        scale = min(1.0, DETECTION_SIZE / max(grey.shape))
        small = resized(image, scale).astype(np.float32).transpose(2, 0, 1) / np.float32(255.0)
        with torch.inference_mode():
            features, heat = self._network(torch.from_numpy(small).to(self._device)[None])
            pixels, scores = aliked.keypoints(heat, count)
            descriptors = self._network.describe(features, pixels)
        return Keypoints.detected(
            original_pixels(pixels.cpu().numpy(), scale),
            signed_bytes(descriptors.cpu().numpy()),
            scores.cpu().numpy(),
        )


def _peaks(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [h, w, 65] → keypoint probability float32 [8 h, 8 w], 0 but at its maxima."""
    cell = xfeat.CELL
    shares = np.exp(logits - logits.max(2, keepdims=True))
    shares /= shares.sum(2, keepdims=True)
    rows, columns = logits.shape[:2]
    inside = shares[..., : cell * cell].reshape(rows, columns, cell, cell)
    probabilities = inside.transpose(0, 2, 1, 3).reshape(cell * rows, cell * columns)
    largest = cv2.dilate(probabilities, np.ones((NMS_SIZE, NMS_SIZE), np.uint8))
    maxima = (probabilities == largest) & (probabilities > MIN_PEAK)
    return np.where(maxima, probabilities, np.float32(0.0))


def _sample(cells: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values float32 [K, C] of cells [h, w, C] at pixels [K, 2], bilinear between centres."""
    where = (pixels.astype(np.float64) + 0.5) / xfeat.CELL - 0.5
    x, y = np.clip(where.T, 0.0, [[cells.shape[1] - 1.0], [cells.shape[0] - 1.0]])
    left = np.minimum(x.astype(int), cells.shape[1] - 2)
    top = np.minimum(y.astype(int), cells.shape[0] - 2)
    right, down = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - right) * cells[top, left] + right * cells[top, left + 1]
    lower = (1 - right) * cells[top + 1, left] + right * cells[top + 1, left + 1]
    values: NDArray[np.float32] = ((1 - down) * upper + down * lower).astype(np.float32)
    return values
