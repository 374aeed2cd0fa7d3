# SPDX-License-Identifier: Apache-2.0
"""Images restyled as another condition: photometric change, colour transfer, translation.

An image and its restyled copies show one place, so they are true pairs where the condition itself
has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from disam_ros import image
from training.data.augment import photometric
from training.data.image_store import to_pixels
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.engine.checkpoints import load_stage

STRENGTH = 1.0  # of the photometric change

Restyle = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]  # uint8 RGB [H, W, 3] → same


def photometrically(picture: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Random gamma, contrast, noise and grey, as in training but stronger."""
    x = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1
    return to_pixels(photometric(x, STRENGTH, random))


class ColourTransfer:
    """Reinhard et al., Color transfer between images (2001), in CIE Lab: mean and standard
    deviation of each channel become those of a random image of the condition."""

    def __init__(self, styles: Iterable[Path]) -> None:
        self._moments = [_moments(_lab(image.read(path))) for path in styles]

    def __call__(self, picture: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        lab = _lab(picture)
        mean, deviation = _moments(lab)
        target, spread = self._moments[random.integers(len(self._moments))]
        lab = (lab - mean) / np.maximum(deviation, 1e-6) * spread + target
        rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB)
        result: NDArray[Any] = np.clip(np.rint(255 * rgb), 0, 255).astype(np.uint8)
        return result


class Translation:
    """Features of the origin's encoder, decoded by the target's decoder (stage `translation`)."""

    def __init__(self, recipe: TrainConfig, origin: str, target: str) -> None:
        """recipe: of a finished run, which lies in its `output`."""
        network = recipe.network.build()
        networks = create_networks(network, recipe.domains, True, recipe.seed)
        networks.load(load_stage(Path(recipe.output), "translation"))
        self._encoder, self._decoder = networks.encoders[origin], networks.decoders[target]
        self._size = network.image_size

    @torch.inference_mode()
    def __call__(self, picture: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        x = image.to_tensor(picture, self._size)[None]
        translated = to_pixels(self._decoder(self._encoder(x))[0])
        height, width = picture.shape[:2]
        return cv2.resize(translated, (width, height), interpolation=cv2.INTER_CUBIC)


class OneOf:
    """One of several ways, drawn for each picture."""

    def __init__(self, ways: Sequence[Restyle]) -> None:
        self._ways = ways

    def __call__(self, picture: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        return self._ways[int(random.integers(len(self._ways)))](picture, random)


def _lab(picture: NDArray[Any]) -> NDArray[Any]:
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def _moments(lab: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return lab.mean((0, 1)), lab.std((0, 1))
