# SPDX-License-Identifier: Apache-2.0
"""Encoders in ONNX Runtime: the files of a model directory, and imported networks; imports no
torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.errors import ConfigError, ModelError
from disam_ros.image import network_input
from disam_ros.models.added_files import onnx_file
from disam_ros.models.arrays import on_device, require_features
from disam_ros.models.model import PRECISIONS, Model
from disam_ros.models.model_files import check_file
from disam_ros.models.onnx_runtime import create_session, require_runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT = "image"
Images = NDArray[np.float32]  # [B, 3, H, W] in [−1, 1]


class NumpyInputs:
    """Backend that takes arrays of numpy; it computes in float32."""

    _size: tuple[int, int]  # height and width of the network's images [px]
    precision = PRECISIONS[0]

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Camera images uint8 RGB [H, W, 3] → [B, 3, height, width] in [−1, 1]."""
        return np.stack([network_input(image, self._size) for image in images])


class OnnxEncoder(Protocol):
    """Encoders of a domain."""

    @property
    def file(self) -> Path:
        """The ONNX file."""

    def features(self, images: Images) -> list[NDArray[np.float32]]:
        """Coarse and fine features [B, C, h, w]; one where they are the same."""


class OnnxBackend(NumpyInputs):
    """ONNX Runtime with as many threads as torch; an imported network also on CUDA.

    The checksums of all files are compared at once, so that a wrong one fails at the start and not
    at dusk; a domain's session opens with its first image (some 50 ms). Raises ConfigError without
    ONNX Runtime or the files, ModelError for one that is missing or damaged.
    """

    name = "onnx"

    def __init__(self, model: Model, device: str = CPU, precision: str = PRECISIONS[0]) -> None:
        self._size, self._device, self.precision = model.network.image_size, device, precision
        self._encoders: dict[str, OnnxEncoder]
        if is_imported(model):
            self._encoders = dict(model.to(device).coarse)
            return
        require_runtime()
        self._encoders = {d: _Encoders(f) for d, f in _checked_files(model, precision).items()}

    def encode(self, domain: str, images: Images) -> tuple[Any, Any]:
        """Coarse and fine features of images, see `Backend`."""
        encoder = self._encoders[domain]
        what = f"{encoder.file}, domain '{domain}',"
        features = [
            on_device(require_features(np.asarray(z, np.float32), images, what), self._device)
            for z in encoder.features(images)
        ]
        return features[0], features[-1]


class _Encoders:
    """The ONNX file of a domain; its session opens with the first image."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._session: InferenceSession | None = None

    def features(self, images: Images) -> list[NDArray[np.float32]]:
        if self._session is None:
            self._session = open_session(self.file)
        return list(self._session.run(None, {INPUT: images}))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}  # sessions cannot be pickled


def is_imported(model: Model) -> bool:
    """Whether the network is another project's, which only ONNX Runtime runs."""
    return model.network.encoder == "onnx"


def missing_domains(model: Model, precision: str = PRECISIONS[0]) -> list[str]:
    """Names the domains without an ONNX file."""
    return [d for d in model.domain_names() if onnx_file(d, precision) not in model.onnx]


def open_session(file: Path) -> InferenceSession:
    """Loads an ONNX file of a model directory. Raises ModelError."""
    try:
        return create_session(file, CPU)
    except Exception as error:  # onnxruntime's errors have no root of their own
        raise ModelError(
            f"{file} cannot be read: {error}; write it again: {remedy(file.parent)}"
        ) from error


def remedy(directory: Path | None, precision: str = PRECISIONS[0]) -> str:
    """The command that writes a model's ONNX files."""
    where = directory or "MODEL"
    if precision == PRECISIONS[0]:
        return f"disam export --model {where}"
    return f"python -m training.int8 --model {where} --config RECIPE"


def _checked_files(model: Model, precision: str) -> dict[str, Path]:
    """ONNX files by domain. Raises ConfigError, ModelError."""
    command = remedy(model.directory, precision)
    if model.directory is None or (missing := missing_domains(model, precision)):
        lacking = ", ".join(missing) if model.directory else "all domains: it was never saved"
        raise ConfigError(
            f"model '{model.name}' lacks ONNX files in {precision} of {lacking}; write them: "
            f"{command}; or set backend to 'torch'"
        )
    files = {}
    for domain in model.domain_names():
        name = onnx_file(domain, precision)
        files[domain] = model.directory / name
        check_file(files[domain], model.onnx[name], f"model.json; write it again: {command}")
    return files
