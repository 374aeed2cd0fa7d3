# SPDX-License-Identifier: Apache-2.0
"""Baselines: chance, the nearest map image (upper bound) and HOG descriptors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from disam_ros.evaluation.metrics import DEFAULTS, Criteria, Metrics, mean, score
from disam_ros.geometry import Transform

Image = NDArray[np.uint8]  # RGB [H, W, 3]
Floats = NDArray[np.floating[Any]]


def chance(
    truth: Sequence[Transform], references: Sequence[Transform], criteria: Criteria = DEFAULTS
) -> Metrics:
    """Average metrics of answering with a random map image."""
    trials = [score([pose] * len(references), references, criteria) for pose in truth]

    def average(shares: str) -> dict[str, float]:
        keys = getattr(trials[0], shares)
        return {key: mean([getattr(m, shares)[key] for m in trials]) for key in keys}

    def median(error: str) -> float:
        return float(np.median([getattr(m, error) for m in trials]))

    return Metrics(
        queries=len(truth),
        answered=1.0,
        judged=len(truth),
        within=average("within"),
        recall=average("recall"),
        accuracy=average("accuracy"),
        median_error_m=median("median_error_m"),
        median_error_deg=median("median_error_deg"),
        p90_error_m=median("p90_error_m"),
        p90_error_deg=median("p90_error_deg"),
    )


def nearest(
    truth: Sequence[Transform | None], references: Sequence[Transform]
) -> list[Transform | None]:
    """Returns the reference nearest to each true position; None where that is unknown."""
    tree = cKDTree(np.stack([pose.translation for pose in references]))
    return [
        None if pose is None else references[int(tree.query(pose.translation)[1])] for pose in truth
    ]


def upper_bound(
    truth: Sequence[Transform | None],
    references: Sequence[Transform],
    criteria: Criteria = DEFAULTS,
) -> Metrics:
    """Metrics of answering with the nearest map image: the upper bound of pure retrieval."""
    return score(truth, nearest(truth, references), criteria)


SIZE = (128, 96)  # width and height of the images of HOG [px]


def hog_similarity(map_images: Iterable[Image], query_images: Iterable[Image]) -> Floats:
    """Similarities [Q, M] of HOG descriptors of images."""
    return centred_cosine(hog_descriptors(query_images), hog_descriptors(map_images))


def hog_descriptors(images: Iterable[Image]) -> Floats:
    """Unit HOG descriptors float32 [N, D] of images."""
    hog = cv2.HOGDescriptor(SIZE, (16, 16), (8, 8), (8, 8), 9)
    small = (cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA) for image in images)
    greys = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in small)
    return unit(np.stack([np.asarray(hog.compute(grey), np.float32).ravel() for grey in greys]))


def hog_matches(queries: Floats, references: Floats) -> NDArray[np.int64]:
    """Best reference row of each query [Q]; both are centred with the references' mean."""
    rows: NDArray[np.int64] = centred_cosine(queries, references).argmax(1)
    return rows


def cosine(queries: Floats, references: Floats) -> Floats:
    """Cosine similarities [Q, M] of descriptors [Q, D] and [M, D]."""
    similarities: Floats = unit(queries) @ unit(references).T
    return similarities


def centred_cosine(queries: Floats, references: Floats) -> Floats:
    """Cosine similarities [Q, M] after subtracting the references' mean from both."""
    centre = references.mean(0)
    return cosine(queries - centre, references - centre)


def unit(rows: Floats) -> Floats:
    """Scales rows [..., D] to norm 1; rows of zeros stay."""
    scaled: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)
    return scaled
