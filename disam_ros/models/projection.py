# SPDX-License-Identifier: Apache-2.0
"""Projection of coarse descriptors to short int8 codes; the one that a model ships.

directions.safetensors   directions int8 [d, D], scales float32 [d] of their rows, quantization
                         steps float32 [d] of the codes

A model's directions are learned once on images of many places (training/directions.py). Maps built
with it refer to the file by its SHA-256: their codes can be compared, merged and extended. Without
them every map learns its own (mapping/compression.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from disam_ros.errors import ModelError
from disam_ros.files.writing import atomic_file, file_sha256
from disam_ros.models.arrays import code_products, row_products
from disam_ros.models.model_files import check_file
from disam_ros.models.similarity import unit_rows

NAME = "directions"  # of the file, and its key under sha256 in model.json
FILE = f"{NAME}.safetensors"
LEVELS = 127

Rows = NDArray[np.floating[Any]]  # descriptors [..., D]


@dataclass(frozen=True, eq=False)
class Projection:
    """directions: orthonormal rows [d, D], by decreasing variance. steps: quantization steps [d].

    Without directions, [0, D], descriptors are kept whole: d = D.

    sha256: of the model's file; empty for directions that one map has learned. scales: of the rows
    where `directions` are int8; None where they are floating-point numbers.
    """

    directions: NDArray[Any]
    steps: NDArray[np.float32]
    sha256: str = ""
    scales: NDArray[np.float32] | None = None

    @property
    def size(self) -> int:
        """Size of a code [bytes]."""
        return len(self.steps)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The directions as numbers [d, D]."""
        matrix = np.asarray(self.directions, np.float32)
        return matrix if self.scales is None else matrix * self.scales[:, None]

    @property
    def whole(self) -> bool:
        """Whether descriptors are kept as they are."""
        return len(self.directions) == 0

    def project(self, rows: Rows) -> NDArray[np.float32]:
        """Descriptors [..., D] → unit vectors float32 [..., d]; zeros stay zeros, and whole
        descriptors as they are."""
        flat = np.asarray(rows, np.float32).reshape(-1, self.directions.shape[1])
        if self.whole:
            return flat.reshape(np.shape(rows))
        return unit_rows(self._product(flat)).reshape(*np.shape(rows)[:-1], self.size)

    @cached_property
    def _product(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Descriptors [n, D] → products with the directions [n, d]."""
        if self.scales is not None:
            return code_products(self.directions, self.scales)
        matrix = self.matrix
        return lambda rows: row_products(rows, matrix)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_product"}  # not to be pickled

    def encode(self, rows: Rows) -> NDArray[np.int8]:
        """Descriptors [..., D] → codes int8 [..., d]."""
        units: NDArray[np.float32] = np.rint(self.project(rows) / self.steps)
        return units.clip(-LEVELS, LEVELS).astype(np.int8)

    def decode(self, codes: NDArray[np.int8]) -> NDArray[np.float32]:
        """Codes [..., d] → coordinates float32 [..., d]."""
        return decode(codes, self.steps)


def decode(codes: NDArray[np.int8], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes [..., d] → coordinates float32 [..., d]. steps: [d]."""
    coordinates: NDArray[np.float32] = codes.astype(np.float32) * steps
    return coordinates


def write_projection(directory: Path, projection: Projection) -> str:
    """Write the file of a model directory atomically, directions as int8. Returns its SHA-256."""
    codes, scales = projection.directions, projection.scales
    if scales is None:
        scales = (np.abs(projection.matrix).max(1) / LEVELS).clip(1e-12).astype(np.float32)
        codes = np.rint(projection.matrix / scales[:, None]).astype(np.int8)
    tensors = {NAME: codes, "scales": scales, "steps": projection.steps.astype(np.float32)}
    with atomic_file(directory / FILE, "wb") as file:
        file.write(save(tensors))
    return file_sha256(directory / FILE)


def read_projection(directory: Path, sha256: str) -> Projection:
    """Read the file of a model directory.

    Raises ModelError where it is missing, damaged (its SHA-256 differs) or malformed.
    """
    path = directory / FILE
    check_file(path, sha256)
    try:
        tensors = load_file(path)
        codes, scales, steps = (tensors[name] for name in (NAME, "scales", "steps"))
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{path} is malformed: {error}") from error
    rows = len(steps)
    right = codes.ndim == 2 and codes.dtype == np.int8 and scales.shape == steps.shape == (rows,)
    right = right and all(((x > 0) & np.isfinite(x)).all() for x in (steps, scales))
    if not (right and len(codes) == rows > 0):
        raise ModelError(
            f"{path} is malformed: expected {NAME} int8 [d, D], scales and steps [d] above 0, got "
            f"{ {name: list(value.shape) for name, value in tensors.items()} }"
        )
    return Projection(codes, steps.astype(np.float32), sha256, scales.astype(np.float32))
