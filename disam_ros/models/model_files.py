# SPDX-License-Identifier: Apache-2.0
"""Files of a model directory: checksummed reading, atomic writing.

Headers and arrays are read without torch, networks with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from disam_ros.errors import ModelError
from disam_ros.files.paths import MODEL_FILE, shipped_models
from disam_ros.files.reading import read_json, reading
from disam_ros.files.writing import atomic_file, file_sha256, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FORMAT_VERSION = 1
MAKERS = "'disam import-model', 'disam import-checkpoint' or 'python -m training.train'"
MAX_BYTES = 1 << 32  # of a file of weights
KINDS = {
    "name": str | None,
    "network": dict,
    "domains": list[dict[str, Any]],
    "training": dict | None,
    "sha256": dict[str, str],
    "branches": dict[str, str] | None,
}  # of the entries of model.json


def read_header(directory: Path) -> dict[str, Any]:
    """Read model.json. Raises ModelError where it is missing, malformed or of another version."""
    path = directory / MODEL_FILE
    with reading(path, ModelError):
        if not path.exists():
            raise ModelError(
                f"{path} not found: {directory} is not a model directory; make one with {MAKERS}, "
                f"or name a shipped one: {', '.join(shipped_models()) or 'none is installed'}"
            )
    try:
        return read_json(path, FORMAT_VERSION, ModelError, KINDS)
    except ModelError as error:
        raise ModelError(
            f"{error}; restore the file, or make the model anew with {MAKERS}"
        ) from error


def write_header(directory: Path, header: Mapping[str, Any]) -> None:
    """Write model.json atomically."""
    write_json(directory / MODEL_FILE, header)


def write_networks(path: Path, networks: Mapping[str, nn.Module], dtype: torch.dtype) -> str:
    """Write weights of several networks, keys `<name>/<parameter>`. Returns the file's SHA-256."""
    weights = {
        f"{name}/{key}": value.detach().to("cpu", dtype).contiguous()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    return _write(path, weights)


def read_networks(path: Path, sha256: str, networks: Mapping[str, nn.Module]) -> None:
    """Load the weights of several networks for inference: eval mode, no gradients.

    Raises ModelError where the file is missing, damaged (its SHA-256 differs) or does not fit.
    """
    weights = _read_weights(path, sha256)
    for name, network in networks.items():
        prefix = f"{name}/"
        state = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        _fill(network, state, f"{path}, {name}")


def read_arrays(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Arrays of a file of weights by name, without torch.

    Raises ModelError where the file is missing, damaged (its SHA-256 differs) or no safetensors.
    """
    from safetensors.numpy import load_file

    check_file(path, sha256)
    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:  # the last two: types that numpy lacks
        raise ModelError(f"{path} is not a safetensors file: {error}") from error


def write_arrays(path: Path, weights: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays atomically as a file of weights. Returns the file's SHA-256."""
    from safetensors.numpy import save

    with atomic_file(path, "wb") as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in weights.items()}))
    return file_sha256(path)


def identity(hashes: Mapping[str, str], files: Iterable[str]) -> str:
    """Model identity that a map stores: SHA-256 over the hashes of the encoders' files."""
    return hashlib.sha256("".join(hashes[name] for name in files).encode()).hexdigest()


def check_file(path: Path, sha256: str, listed: str = "model.json") -> None:
    """Raises ModelError where a file is missing, too large to be read or damaged (its SHA-256
    differs)."""
    with reading(path, ModelError):
        if not path.is_file():
            raise ModelError(f"{path} not found: the model directory is incomplete")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ModelError(
                f"{path} has {size / 2**30:.1f} GiB; expected weights of at most "
                f"{MAX_BYTES / 2**30:g} GiB: copy the model again"
            )
        if file_sha256(path) != sha256:
            raise ModelError(f"{path} is damaged: its SHA-256 differs from {listed}")


def _write(path: Path, weights: dict[str, Tensor]) -> str:
    """Write weights atomically. Returns the file's SHA-256."""
    from safetensors.torch import save

    with atomic_file(path, "wb") as file:
        file.write(save(weights))
    return file_sha256(path)


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    check_file(path, sha256)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error


def _fill(network: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{what}: weights do not fit the network: {error}") from error
    network.eval().requires_grad_(False)
