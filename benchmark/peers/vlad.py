# SPDX-License-Identifier: Apache-2.0
"""RootSIFT-VLAD, of DenseVLAD's kind (Torii et al., CVPR 2015), with the map's own vocabulary.

As there: upright SIFT on a dense grid at four scales, RootSIFT (Arandjelović & Zisserman, CVPR
2012), VLAD with intra-normalization (the same, CVPR 2013). Not as there: half a patch from one
patch to the next instead of two pixels, 64 words instead of 128, no PCA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from disam_ros.evaluation.baselines import cosine, unit

LONGEST = 640  # pixels; larger images are shrunk to it
PATCHES = (16, 24, 32, 40)  # sides in pixels
SIZE_OF_PATCH = 1 / 6  # a cv2 keypoint of this size times a patch's side has that patch
WORDS = 64
LEARNING_IMAGES = 100  # map images the vocabulary is learned from, evenly spaced
LEARNING_PATCHES = 1000  # of each of them, drawn at random
SEED = 0


def vlad_similarity(
    map_images: Sequence[NDArray[Any]], query_images: Sequence[NDArray[Any]]
) -> NDArray[Any]:
    """uint8 RGB images [H, W, 3] → similarities [Q, M]."""
    words = vocabulary(map_images)
    references, queries = (
        np.stack([vlad(root_sift(image), words) for image in images])
        for images in (map_images, query_images)
    )
    return cosine(queries, references)


def vocabulary(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Words float32 [WORDS, 128]: k-means centres of the images' patches."""
    rng = np.random.default_rng(SEED)
    chosen = np.linspace(0, len(images) - 1, min(LEARNING_IMAGES, len(images))).astype(int)
    patches = [rng.permutation(root_sift(images[i]))[:LEARNING_PATCHES] for i in chosen]
    points = np.concatenate(patches)
    kmeans = faiss.Kmeans(points.shape[1], WORDS, seed=SEED, max_points_per_centroid=len(points))
    kmeans.train(points)
    assert kmeans.centroids is not None  # it is trained
    return kmeans.centroids


def root_sift(image: NDArray[Any]) -> NDArray[Any]:
    """uint8 RGB image [H, W, 3] → RootSIFT of its patches, unit rows float32 [P, 128].

    Patches without any gradient are left out.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = LONGEST / max(gray.shape)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, rows = cv2.SIFT.create().compute(gray, grid(*gray.shape))
    rows = rows[rows.any(1)]
    result: NDArray[Any] = np.sqrt(rows / rows.sum(1, keepdims=True))
    return result


def grid(height: int, width: int) -> list[cv2.KeyPoint]:
    """Upright patches that lie inside the image, half a patch from one to the next."""
    return [
        cv2.KeyPoint(float(x), float(y), SIZE_OF_PATCH * patch, 0.0)
        for patch in PATCHES
        for y in range(patch // 2, height - patch // 2 + 1, patch // 2)
        for x in range(patch // 2, width - patch // 2 + 1, patch // 2)
    ]


def vlad(patches: NDArray[Any], words: NDArray[Any]) -> NDArray[Any]:
    """Patches [P, D], words [K, D] → sums of residuals by word, each normalized, float32 [K·D]."""
    nearest = (patches @ words.T - 0.5 * (words**2).sum(1)).argmax(1)
    belongs = np.eye(len(words), dtype=np.float32)[nearest]  # [P, K]
    residuals = belongs.T @ patches - belongs.sum(0)[:, None] * words
    return unit(residuals).ravel()
