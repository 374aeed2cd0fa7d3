# SPDX-License-Identifier: Apache-2.0
"""Descriptor compression: uncentred PCA, then int8 scalar quantization.

The descriptors [D] of a map and its queries are projected to principal components [d] about the
origin, the model's (models/projection.py) or else the map's own, and normalized: a descriptor
unlike those that the components were learned on lies mostly outside of them, and would be found by
no query if it stayed short. Each component is quantized with its own step.

Fine descriptors are quantized without projection: shifts and activation maps need cells. The mean
of the map's features per channel is subtracted from them and from those of its queries: what all
places share tells none of them apart.

The paper's retrieval keeps coarse descriptors whole, a step for each number, and subtracts nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.mapping.rows import Rows as StoredRows
from disam_ros.models.similarity import LEVELS, Projection, unit_rows

SAMPLE_FLOATS = 2**26  # size of the sample to learn from, at most (256 MiB)
MARGIN = 1.1  # range of a code over the largest coordinate of the sample; beyond, codes saturate
NEGLIGIBLE = 1e-7  # share of the largest variance below which a component is noise
CHUNK = 256  # descriptors projected at once, at most
CHUNK_FLOATS = 2**25  # numbers of these, at most (128 MiB)

Rows = NDArray[np.floating[Any]]  # descriptors [..., D]


def model_projection(
    projection: Projection | None, shape: tuple[int, int, int]
) -> Projection | None:
    """A model's directions for a map; None where it has none of this size: a map learns its own.

    shape: (C, h, w) of a coarse descriptor.
    """
    fits = projection is not None and projection.directions.shape[1] == math.prod(shape)
    return projection if fits else None


def chunks(count: int, width: int) -> list[slice]:
    """Parts of an array [count, width] that are processed at once."""
    step = max(1, min(CHUNK, CHUNK_FLOATS // width))
    return [slice(start, start + step) for start in range(0, count, step)]


def no_projection(rows: Rows | StoredRows) -> Projection:
    """Quantization steps of descriptors [N, D] that are kept whole; no directions."""
    reach = np.zeros(rows.shape[1], np.float32)
    for chunk in chunks(*rows.shape):
        np.maximum(reach, np.abs(np.asarray(rows[chunk], np.float32)).max(0), out=reach)
    steps = (MARGIN * reach / LEVELS).clip(1e-12).astype(np.float32)
    return Projection(np.empty((0, len(steps)), np.float16), steps)


def learn_projection(rows: Rows | StoredRows, size: int) -> Projection:
    """PCA of descriptors [N, D], possibly in a file, to at most `size` components.

    Fewer where the descriptors have a lower rank. A long array is sampled at evenly spaced rows.
    """
    count = max(1, min(len(rows), SAMPLE_FLOATS // rows.shape[1]))
    chosen = np.linspace(0, len(rows) - 1, count).astype(int)
    sample = np.asarray(rows[chosen], np.float32)
    few = len(sample) <= sample.shape[1]  # then the Gram matrix is smaller than the covariance
    products = sample @ sample.T if few else sample.T @ sample
    variances, mixtures = np.linalg.eigh(products.astype(np.float64))
    order = np.argsort(-variances)[:size]
    order = order[variances[order] > NEGLIGIBLE * variances[order[0]]]
    if not len(order):
        order = np.argsort(-variances)[:1]
    directions = mixtures[:, order].T
    if few:
        directions = directions / np.sqrt(variances[order].clip(1e-30))[:, None] @ sample
    directions = directions.astype(np.float16)
    reach = np.abs(unit_rows(sample @ directions.astype(np.float32).T)).max(0)
    steps = (MARGIN * reach / LEVELS).clip(1e-12).astype(np.float32)
    return Projection(directions, steps)


def to_int8(rows: Rows) -> NDArray[np.int8]:
    """Quantize descriptors [..., D] to int8 [..., D] up to their norm; zeros stay zeros."""
    rows = np.asarray(rows, np.float32)
    scale = np.abs(rows).max(-1, keepdims=True).clip(1e-30) / LEVELS
    units: NDArray[np.float32] = np.rint(rows / scale)
    return units.astype(np.int8)


def channel_means(rows: Rows | StoredRows, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Mean [C] of fine descriptors [N, D] per channel; 0 for global descriptors, of one cell.

    shape: (C, h, w) of a descriptor. `rows` may be in a file.
    """
    if shape[1:] == (1, 1):
        return np.zeros(shape[0], np.float32)
    sums = np.zeros(rows.shape[1])
    for chunk in chunks(*rows.shape):
        sums += np.asarray(rows[chunk]).sum(0, dtype=np.float64)
    means: NDArray[np.float64] = sums.reshape(shape[0], -1).mean(1) / len(rows)
    return means.astype(np.float32)
