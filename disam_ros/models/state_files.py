# SPDX-License-Identifier: Apache-2.0
"""Files of PyTorch with weights, of which none is believed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from disam_ros.errors import ModelError
from disam_ros.files.reading import reading, require_regular

SPARE = 2**20  # bytes that tensors may have beyond those of the file, such as of shared ones


def read_state(path: Path | str, advice: str = "") -> dict[str, Tensor]:
    """Tensors by name of a state dictionary; other values are left out.

    Runs no code of the file, and takes no more memory than the file has bytes. advice: ends the
    message. Raises ModelError.
    """
    path = Path(path)
    with reading(path, ModelError):
        require_regular(path, ModelError)
        most = path.stat().st_size + SPARE
    try:
        _require_stored(path, most)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the library raises whatever damaged bytes lead to
        text = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"{path} is not a plain weight file: {text:.300}{advice}") from error
    if not isinstance(weights, Mapping):
        kind = type(weights).__name__
        raise ModelError(f"{path}: expected a dictionary of weights, got {kind}{advice}")
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if any(not isinstance(name, str) for name in tensors):
        raise ModelError(f"{path}: expected weights with names{advice}")
    if sum(value.numel() * value.element_size() for value in tensors.values()) > most:
        raise ModelError(f"{path} is malformed: its weights are larger than the file{advice}")
    return tensors


def _require_stored(path: Path, most: int) -> None:
    """Raise ValueError for an archive that grows when it is read: PyTorch packs nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise ValueError("it is packed, and larger than the file")
