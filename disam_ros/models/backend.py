# SPDX-License-Identifier: Apache-2.0
"""Inference backends of the encoders: ONNX Runtime on a CPU, torch else.

The features of both agree to the TOLERANCE of export.py, for queries and for maps; those of
`onnx-int8` less, and are compared with maps of the others. Mobile encoders need no export; those of
the paper run in ONNX Runtime from the files of `disam export`.

An exported file is `<model directory>/onnx/<domain>.onnx`: input `image` float32 [B, 3, H, W] in
[−1, 1] as image.to_tensor gives it, outputs `z_coarse` and `z_fine` [B, C, h, w], and the metadata
`format_version`, `model_identity`, `model_name`, `domain` and `input`. Beside them checksums.json
lists their SHA-256.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import BACKENDS
from disam_ros.device import CPU, is_cuda, require_torch
from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.reading import read_json, reading
from disam_ros.files.writing import file_sha256, write_json
from disam_ros.models.arrays import as_numpy, on_device, require_features
from disam_ros.models.cuda.backend import CudaBackend
from disam_ros.models.imported import ImportedConfig
from disam_ros.models.model import Model
from disam_ros.models.model_files import check_file
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_runtime.backend import Int8Backend, MobileBackend, NumpyInputs
from disam_ros.models.onnx_runtime.session import NO_RUNTIME, create_session, has_runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

EXPORT_FORMAT = 1
EXPORT_FOLDER = "onnx"  # inside a model directory
CHECKSUMS = "checksums.json"  # of the exported files, beside them
EXPORT_KINDS = {"sha256": dict[str, str]}  # of its entries
INPUT = "image"
OUTPUTS = ("z_coarse", "z_fine")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES, LARGEST_KEPT = 128 << 20, 32 << 20  # freed memory, and a block, to keep at most


class Backend(Protocol):
    """Runs both encoders of a domain, or the shared one once. Can be sent to other processes."""

    name: str

    @property
    def precision(self) -> str:
        """Of the computation: float32, half or int8."""
        ...

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        """Camera images uint8 RGB [H, W, 3] → what `encode` takes. Raises ImageError."""
        ...

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        """Images [B, 3, H, W] in [−1, 1] → coarse and fine features [B, C, h, w].

        Features are arrays of numpy on a CPU, tensors on another device. Raises ModelError for
        features that cannot be right, BlindError for images of one colour (arrays.py).
        """
        ...


class TorchBackend(NumpyInputs):
    """The model's networks on their device; on a CPU in its fastest memory format."""

    name = "torch"

    def __init__(self, model: Model, device: str) -> None:
        require_torch("backend 'torch'")
        self._model, self._device = model.to(device), device
        self._size = model.network.image_size
        if device == CPU:
            import torch

            keep_freed_memory()
            if model.network.depthwise:  # the paper's encoder is slower with it
                for encoder in (*model.coarse.values(), *model.fine.values()):
                    encoder.to(memory_format=torch.channels_last)

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        import torch

        with torch.inference_mode():
            z = self._model.encode(domain, torch.from_numpy(images).to(self._device))
        coarse, fine = (as_numpy(x) for x in z) if self._device == CPU else z
        return coarse, fine


class ImportedBackend(NumpyInputs):
    """An imported model, which ONNX Runtime runs."""

    name = "onnx"

    def __init__(self, model: Model, device: str) -> None:
        self._model, self._device = model.to(device), device
        self._size = model.network.image_size

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        coarse, fine = self._model.encode(domain, images)
        return on_device(coarse, self._device), on_device(fine, self._device)


class OnnxBackend(NumpyInputs):
    """The files of an export in ONNX Runtime on the CPU, with as many threads as torch.

    All domains are loaded at once (some 25 ms each), so that a wrong file fails at the start and
    not at dusk. Raises ConfigError without onnxruntime, ModelError for a file that is missing,
    damaged (its SHA-256 differs) or of another model.
    """

    name = "onnx"

    def __init__(self, model: Model, directory: Path) -> None:
        if find_spec("onnxruntime") is None:
            raise ConfigError(NO_RUNTIME.format(OnnxBackend.name))
        self._size = model.network.image_size
        self._directory, checksums = directory, read_checksums(directory)
        self._sessions = {
            domain: _open_domain(directory, domain, model, checksums)
            for domain in model.domain_names()
        }

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        coarse, fine = run_session(self._sessions[domain], images)
        source = str(self._directory / f"{domain}.onnx")
        return require_features(coarse, images, source), require_features(fine, images, source)


def select_backend(name: str, model: Model, device: str, model_dir: Path | None = None) -> Backend:
    """The backend of a name.

    auto: onnx on a CPU where onnxruntime is installed and the encoders are mobile ones, or the
    model directory has an exported file for each domain; else torch. An imported model is run by
    ONNX Runtime whatever the name. Raises ConfigError where the chosen one cannot run, ModelError
    for invalid files.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend '{name}' is unknown; use {', '.join(BACKENDS)}")
    network = model.network
    if isinstance(network, ImportedConfig):
        return ImportedBackend(model, device)
    mobile = isinstance(network, NetworkConfig) and network.is_mobile
    exported = model_dir / EXPORT_FOLDER if model_dir else None
    if name == "auto":
        ready = device == CPU and (has_runtime() if mobile else _ready(exported, model))
        name = "onnx" if ready else "torch"
    if name == "torch":
        return CudaBackend(model, device) if is_cuda(device) else TorchBackend(model, device)
    if device != CPU:
        raise ConfigError(f"backend '{name}' runs on the CPU, not on {device}: set device to 'cpu'")
    if mobile:
        return Int8Backend(model) if name == Int8Backend.name else MobileBackend(model)
    if name == Int8Backend.name:
        raise ConfigError(
            f"backend '{name}' runs mobile encoders, model '{model.name}' has others: set backend "
            f"to 'onnx', after 'disam export'"
        )
    if exported is None:
        raise ConfigError("backend 'onnx' needs a model directory: open it with Localizer.open")
    logger.info("ONNX Runtime runs the encoders, from %s", exported)
    return OnnxBackend(model, exported)


def keep_freed_memory() -> None:
    """Raise malloc's trim and mmap thresholds: up to 128 MiB of freed memory stay in the process.

    Else glibc returns each layer's output, some MB, to the kernel and page faults on the next one
    take a third of the mobile encoders' time. Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def write_checksums(directory: Path) -> None:
    """List the SHA-256 of the exported files."""
    sha256 = {path.name: file_sha256(path) for path in sorted(directory.glob("*.onnx"))}
    write_json(directory / CHECKSUMS, {"format_version": EXPORT_FORMAT, "sha256": sha256})


def read_checksums(directory: Path) -> dict[str, str]:
    """SHA-256 of the exported files by name. Raises ModelError."""
    path = directory / CHECKSUMS
    with reading(path, ModelError):
        if not path.exists():
            raise ModelError(
                f"{path} not found: the encoders were never exported, or by an earlier version; "
                f"remove {directory} and run 'disam export --model {directory.parent}'"
            )
    sha256: dict[str, str] = read_json(path, EXPORT_FORMAT, ModelError, EXPORT_KINDS)["sha256"]
    return sha256


def open_session(path: Path) -> InferenceSession:
    """Load an exported file. Raises ConfigError without onnxruntime, ModelError."""
    if find_spec("onnxruntime") is not None and not path.is_file():
        raise ModelError(f"{path} not found: run 'disam export --model {path.parent.parent}'")
    try:
        return create_session(path, CPU)
    except ImportError as error:
        raise ConfigError(NO_RUNTIME.format(OnnxBackend.name)) from error
    except Exception as error:  # onnxruntime's errors have no root of their own
        raise ModelError(
            f"{path} cannot be read: {error}; remove it and run 'disam export' again"
        ) from error


def run_session(
    session: InferenceSession, images: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images [B, 3, H, W] in [−1, 1] → coarse and fine features [B, C, h, w]."""
    coarse, fine = session.run(list(OUTPUTS), {INPUT: images})
    return coarse, fine


def _ready(directory: Path | None, model: Model) -> bool:
    """Whether the exported files can be used; logs why not if there are any."""
    if directory is None or not directory.is_dir():
        return False
    names = model.domain_names()
    files = [CHECKSUMS, *(f"{name}.onnx" for name in names)]
    missing = [name.removesuffix(".onnx") for name in files if not (directory / name).is_file()]
    if missing:
        logger.warning("%s lacks %s: torch runs the encoders", directory, ", ".join(missing))
        return False
    if find_spec("onnxruntime") is None:
        logger.warning("%s needs the package onnxruntime: torch runs the encoders", directory)
        return False
    return True


def _open_domain(
    directory: Path, domain: str, model: Model, checksums: dict[str, str]
) -> InferenceSession:
    path = directory / f"{domain}.onnx"
    if path.is_file():
        check_file(path, checksums.get(path.name, ""), f"{CHECKSUMS}; run 'disam export' again")
    session = open_session(path)
    found = session.get_modelmeta().custom_metadata_map
    expected = {
        "format_version": str(EXPORT_FORMAT),
        "model_identity": model.identity,
        "domain": domain,
    }
    for key, value in expected.items():
        if found.get(key) != value:
            raise ModelError(
                f"{path} has {key} '{found.get(key)}', expected '{value}': remove {directory} and "
                f"run 'disam export --model {directory.parent}'"
            )
    return session
