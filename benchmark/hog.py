# SPDX-License-Identifier: Apache-2.0
"""HOG baseline: one gradient histogram per image, cosine similarity, no learning."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

SIZE = (128, 96)  # width, height


def hog_descriptors(images: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 RGB images [H, W, 3] → unit descriptors float32 [N, D]."""
    hog = cv2.HOGDescriptor(SIZE, (16, 16), (8, 8), (8, 8), 9)
    small = (cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA) for image in images)
    rows = [hog.compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).ravel() for image in small]
    return _unit(np.stack(rows))


def hog_matches(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Best reference row of each query [Q]; both are centred with the references' mean."""
    mean = references.mean(0)
    return (_unit(queries - mean) @ _unit(references - mean).T).argmax(1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
