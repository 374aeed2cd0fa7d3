# SPDX-License-Identifier: Apache-2.0
"""Files of a model directory: checksummed reading, atomic writing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from disam_ros.errors import ModelError
from disam_ros.files.paths import MODEL_FILE, shipped_models
from disam_ros.files.reading import read_json, reading
from disam_ros.files.writing import atomic_file, file_sha256, write_json

FORMAT_VERSION = 1
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
                f"{path} not found: {directory} is not a model directory; make one with "
                f"'disam import-model', 'disam import-checkpoint' or training/train.py, or name a "
                f"shipped one: {', '.join(shipped_models()) or 'none is installed'}"
            )
    return read_json(path, FORMAT_VERSION, ModelError, KINDS)


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
    """Load the weights of several networks. Raises ModelError as `read_network`."""
    weights = _read_weights(path, sha256)
    for name, network in networks.items():
        prefix = f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        _fill(network, own, f"{path}, {name}")


def write_network(path: Path, network: nn.Module) -> str:
    """Write the weights of one network atomically. Returns the file's SHA-256."""
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    return _write(path, weights)


def read_network(path: Path, sha256: str, network: nn.Module) -> None:
    """Load the weights of a network for inference: eval mode, no gradients.

    Raises ModelError where the file is missing, damaged (its SHA-256 differs) or does not fit.
    """
    _fill(network, _read_weights(path, sha256), str(path))


def identity(hashes: Mapping[str, str], files: Iterable[str]) -> str:
    """Model identity that a map stores: SHA-256 over the hashes of the encoders' files."""
    return hashlib.sha256("".join(hashes[name] for name in files).encode()).hexdigest()


def check_file(path: Path, sha256: str, listed: str = "model.json") -> None:
    """Raises ModelError where a file is missing or damaged (its SHA-256 differs)."""
    with reading(path, ModelError):
        if not path.is_file():
            raise ModelError(f"{path} not found: the model directory is incomplete")
        if file_sha256(path) != sha256:
            raise ModelError(f"{path} is damaged: its SHA-256 differs from {listed}")


def _write(path: Path, weights: dict[str, Tensor]) -> str:
    """Write weights atomically. Returns the file's SHA-256."""
    with atomic_file(path, "wb") as file:
        file.write(save(weights))
    return file_sha256(path)


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
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
