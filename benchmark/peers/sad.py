# SPDX-License-Identifier: Apache-2.0
"""Sum of absolute differences of patch-normalized images (Milford & Wyeth, SeqSLAM, ICRA 2012)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

SIZE = (64, 32)  # width, height
PATCH = 8  # pixels
FLAT = 0.1  # grey levels; a single pixel one level off makes a deviation of 0.12
CHECKERS = np.float32(1 - 2 * (np.indices((PATCH, PATCH)).sum(0) % 2))  # ±1


def sad_similarity(
    map_images: Iterable[NDArray[Any]], query_images: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    """uint8 RGB images [H, W, 3] → similarities [Q, M]: less the mean absolute difference."""
    references, queries = (
        np.stack([patch_normalized(image).ravel() for image in images])
        for images in (map_images, query_images)
    )
    return -faiss.pairwise_distances(queries, references, faiss.METRIC_L1) / references.shape[1]


def patch_normalized(image: NDArray[Any]) -> NDArray[Any]:
    """uint8 RGB image [H, W, 3] → float32 [32, 64], every patch of mean 0 and deviation 1.

    A patch of one grey level becomes a checkerboard, which resembles other such patches and no
    texture. With zeros it would be nearer to every patch than two patches of different places are
    to each other (0.8 against 1.1), and an empty map image would match most queries.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    patches = small.reshape(SIZE[1] // PATCH, PATCH, SIZE[0] // PATCH, PATCH).swapaxes(1, 2)
    mean, deviation = (f(axis=(2, 3), keepdims=True) for f in (patches.mean, patches.std))
    normalized = np.where(deviation > FLAT, (patches - mean) / deviation.clip(FLAT), CHECKERS)
    return normalized.swapaxes(1, 2).reshape(small.shape)
