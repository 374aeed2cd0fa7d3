# SPDX-License-Identifier: Apache-2.0
"""Similarities of rows of descriptors."""

from __future__ import annotations

import numpy as np


def cosine(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Descriptors [Q, D] and [M, D] → cosine similarities [Q, M]."""
    return unit(queries) @ unit(references).T


def centred_cosine(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The same after subtracting the references' mean from both."""
    mean = references.mean(0)
    return cosine(queries - mean, references - mean)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [..., D] scaled to norm 1; rows of zeros stay."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)
