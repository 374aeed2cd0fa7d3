# SPDX-License-Identifier: Apache-2.0
"""The projection of coarse descriptors that a model ships.

directions.safetensors   directions int8 [d, D], scales float32 [d] of their rows, quantization
                         steps float32 [d] of the codes

A model's directions are learned once on images of many places (training/directions.py). Maps built
with it refer to the file by its SHA-256: their codes can be compared, merged and extended. Without
them every map learns its own (mapping/compression.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from disam_ros.errors import ModelError
from disam_ros.files.writing import atomic_file, file_sha256
from disam_ros.models.model_files import check_file
from disam_ros.models.similarity import LEVELS, Projection

NAME = "directions"  # of the file, and its key under sha256 in model.json
FILE = f"{NAME}.safetensors"


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
