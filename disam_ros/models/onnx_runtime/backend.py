# SPDX-License-Identifier: Apache-2.0
"""Mobile encoders in ONNX Runtime on the CPU, in float32 or 8-bit integers; imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.errors import ConfigError
from disam_ros.image import network_input
from disam_ros.models.arrays import as_numpy, require_features, sample_images
from disam_ros.models.mobile_graph import INPUT, Weights, to_onnx
from disam_ros.models.model import ENCODER_FILE, STAGES, Model
from disam_ros.models.model_files import StoredEncoders
from disam_ros.models.onnx_runtime.int8_graph import to_int8_onnx
from disam_ros.models.onnx_runtime.ranges import by_layer
from disam_ros.models.onnx_runtime.session import create_session, require_runtime
from disam_ros.models.similarity import least_similarity

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import nn

logger = logging.getLogger(__name__)

AGREEMENT = 0.9  # least similarity of features in 8-bit integers with those in float32


class NumpyInputs:
    """A backend that takes arrays of numpy; it computes in float32."""

    _size: tuple[int, int]  # height and width of the network's images [px]

    @property
    def precision(self) -> str:
        return "float32"

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack([network_input(image, self._size) for image in images])


class MobileBackend(NumpyInputs):
    """Mobile encoders in ONNX Runtime on the CPU, from the model's weights: no torch, no export.

    A domain's session opens with its first image (some 30 ms). Raises ConfigError without the
    packages.
    """

    name = "onnx"

    def __init__(self, model: Model) -> None:
        require_runtime(self.name)
        self._size = model.network.image_size
        stages = (model.coarse,) if model.shared else (model.coarse, model.fine)
        self._weights = {
            domain: {
                name: _weights(stage, domain) for name, stage in zip(STAGES, stages, strict=False)
            }
            for domain in model.domain_names()
        }
        self._files = model.files.get(STAGES[0], model.name)
        self._sessions: dict[str, InferenceSession] = {}

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        if domain not in self._sessions:
            self._sessions[domain] = self._open(domain)
        found = self._run(self._sessions[domain], domain, images)
        what = f"{self._files}, domain '{domain}',"
        features = [require_features(np.asarray(z, np.float32), images, what) for z in found]
        return features[0], features[-1]

    def _open(self, domain: str) -> InferenceSession:
        return create_session(to_onnx(self._weights[domain]), CPU)

    def _run(
        self, session: InferenceSession, domain: str, images: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        """Features by stage."""
        return list(session.run(list(self._weights[domain]), {INPUT: images}))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sessions": {}}  # sessions cannot be pickled


class Int8Backend(MobileBackend):
    """Mobile encoders in 8-bit integers, with the ranges of activations that the model has.

    Features of a domain are compared with float32's when its session opens (some 0.1 s). Where
    they differ too much, all domains go on in float32. Raises ConfigError without ranges.
    """

    name = "onnx-int8"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        files = (ENCODER_FILE,) if model.shared else STAGES
        missing = [
            f"{file}/{domain}"
            for file in files
            for domain in self._weights
            if f"{file}/{domain}" not in model.ranges
        ]
        if missing:
            raise ConfigError(
                f"backend '{self.name}' needs the ranges of the encoders' activations, which model "
                f"'{model.name}' lacks ({', '.join(missing)}): measure them with 'python -m "
                f"training.ranges --model MODELDIR --config RECIPE', or set backend to 'onnx'"
            )
        self._ranges = {
            domain: {
                name: by_layer(model.ranges[f"{file}/{domain}"])
                for name, file in zip(STAGES, files, strict=False)
            }
            for domain in self._weights
        }
        self._int8 = True

    @property
    def precision(self) -> str:
        return "int8" if self._int8 else "float32"

    def _open(self, domain: str) -> InferenceSession:
        exact = super()._open(domain)
        if not self._int8:
            return exact
        weights, ranges = self._weights[domain], self._ranges[domain]
        session = create_session(
            to_int8_onnx({name: (weights[name], ranges[name]) for name in weights}), CPU
        )
        images = sample_images(self._size)
        found = least_similarity(*(self._run(s, domain, images) for s in (session, exact)))
        if found >= AGREEMENT:
            return session
        logger.warning(
            "the encoders go on in float32, not in 8-bit integers: domain '%s' has features of "
            "similarity %.4f with float32's",
            domain,
            found,
        )
        self._int8 = False
        self._sessions.clear()
        return exact


def _weights(stage: Mapping[str, nn.Module], domain: str) -> Weights:
    """Arrays of an encoder's weights."""
    if isinstance(stage, StoredEncoders):
        return stage.weights[domain]
    return {k: as_numpy(value) for k, value in stage[domain].state_dict().items()}
