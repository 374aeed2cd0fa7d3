# SPDX-License-Identifier: Apache-2.0
"""Baselines: chance, the nearest map image (upper bound) and HOG descriptors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from scipy.spatial import cKDTree

from disam_ros.evaluation.metrics import DEFAULTS, Criteria, Metrics, mean, score
from disam_ros.geometry import Transform


def chance(
    truth: Sequence[Transform], references: Sequence[Transform], criteria: Criteria = DEFAULTS
) -> Metrics:
    """Average metrics of answering with a random map image."""
    every = [score([pose] * len(references), references, criteria) for pose in truth]

    def average(of: str) -> dict[str, float]:
        return {key: mean([getattr(m, of)[key] for m in every]) for key in getattr(every[0], of)}

    def median(of: str) -> float:
        return float(np.median([getattr(m, of) for m in every]))

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
    """The reference nearest to each true position; None where that is unknown."""
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


def cosine(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Descriptors [Q, D] and [M, D] → cosine similarities [Q, M]."""
    return unit(queries) @ unit(references).T


def centred_cosine(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Cosine similarities [Q, M] after subtracting the references' mean from both."""
    mean = references.mean(0)
    return cosine(queries - mean, references - mean)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [..., D] scaled to norm 1; rows of zeros stay."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)
