# SPDX-License-Identifier: Apache-2.0
"""HOG: one gradient histogram per image, cosine similarity, no learning but the map's mean."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from benchmark.peers.cosine import centred_cosine, unit

SIZE = (128, 96)  # width, height


def hog_similarity(
    map_images: Iterable[np.ndarray], query_images: Iterable[np.ndarray]
) -> np.ndarray:
    """uint8 RGB images [H, W, 3] → similarities [Q, M]."""
    return centred_cosine(hog_descriptors(query_images), hog_descriptors(map_images))


def hog_descriptors(images: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 RGB images [H, W, 3] → unit descriptors float32 [N, D]."""
    hog = cv2.HOGDescriptor(SIZE, (16, 16), (8, 8), (8, 8), 9)
    small = (cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA) for image in images)
    rows = [hog.compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).ravel() for image in small]
    return unit(np.stack(rows))


def hog_matches(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Best reference row of each query [Q]; both are centred with the references' mean."""
    return centred_cosine(queries, references).argmax(1)
