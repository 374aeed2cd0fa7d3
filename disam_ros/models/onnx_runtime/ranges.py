# SPDX-License-Identifier: Apache-2.0
"""Ranges of a model's activations, which its encoders need to compute in 8-bit integers.

ranges.safetensors   per encoder, key `<stage file>/<domain>`: least and most of each layer's
                     output, float32 [L, 2], in the order of `int8_graph.range_names`

They are measured once on images (training/ranges.py). Features of both precisions can be compared:
the file is no part of the model's identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import ModelError
from disam_ros.models import model_files
from disam_ros.models.onnx_runtime.int8_graph import Ranges, range_names

NAME = "ranges"  # of the file, and its key under sha256 in model.json
FILE = f"{NAME}.safetensors"

StoredRanges = Mapping[str, NDArray[np.float32]]  # [L, 2] by stage file and domain


def write_ranges(directory: Path, ranges: StoredRanges) -> str:
    """Write the file of a model directory atomically. Returns its SHA-256."""
    return model_files.write_arrays(directory / FILE, ranges)


def read_ranges(directory: Path, sha256: str) -> dict[str, NDArray[np.float32]]:
    """Read the file of a model directory.

    Raises ModelError where it is missing, damaged (its SHA-256 differs) or malformed.
    """
    ranges = model_files.read_arrays(directory / FILE, sha256)
    shape = (len(range_names()), 2)
    for name, ends in ranges.items():
        sound = ends.shape == shape and ends.dtype == np.float32 and np.isfinite(ends).all()
        if not (sound and (ends[:, 0] <= ends[:, 1]).all()):
            raise ModelError(
                f"{directory / FILE} is malformed: '{name}' expects float32 {list(shape)}, least "
                f"and most of each layer, got {ends.dtype} {list(ends.shape)}; measure them again "
                f"with 'python -m training.ranges'"
            )
    return ranges


def by_layer(ends: NDArray[np.float32]) -> Ranges:
    """Ranges [L, 2] by the names of their layers."""
    return dict(zip(range_names(), ends, strict=True))
