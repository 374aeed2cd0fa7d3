# SPDX-License-Identifier: Apache-2.0
"""Images restyled as another condition: photometric change, colour transfer, translation.

Poses stay those of the source, so that both make true pairs where the condition itself has none.
The arms of the experiments on a new condition, and what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.networks import backbone, load_recipe, recipe_of
from benchmark.research.experiment import Experiment
from disam_ros import image
from disam_ros.datasets.dataset import Dataset, DatasetWriter
from training.data.augment import photometric
from training.data.image_store import to_pixels
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.engine.checkpoints import load_stage
from training.engine.loop import Loop

STRENGTH = 1.0  # of the photometric change

PHOTOMETRIC = "photometric"
COLOUR = "colour transfer"
TRANSLATED = "translated"
TRUE = "true pairs"
ARMS = (PHOTOMETRIC, COLOUR, TRANSLATED, TRUE)
TRANSLATION = Path("config/train_translation.yaml")
REFERENCE = "summer_day"

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

    def __init__(self, recipe: TrainConfig, run: Path, origin: str, target: str) -> None:
        network = recipe.network.build()
        networks = create_networks(network, recipe.domains, True, recipe.seed)
        networks.load(load_stage(run, "translation"))
        self._encoder, self._decoder = networks.encoders[origin], networks.decoders[target]
        self._size = network.image_size

    @torch.inference_mode()
    def __call__(self, picture: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        x = image.to_tensor(picture, self._size)[None]
        translated = to_pixels(self._decoder(self._encoder(x))[0])
        height, width = picture.shape[:2]
        return cv2.resize(translated, (width, height), interpolation=cv2.INTER_CUBIC)


def restyling(
    arm: str, styles: Iterable[Path], study: Experiment[TrainConfig], condition: str
) -> Restyle:
    """Returns what an arm does to an image of the reference. styles: images of the condition."""
    if arm == PHOTOMETRIC:
        return photometrically
    if arm == COLOUR:
        return ColourTransfer(styles)
    study.figures(TRANSLATED, 0)
    config = study.config(TRANSLATED, 0)
    return Translation(config, Path(config.output), REFERENCE, condition)


def translations(
    runs: Path, values: Callable[[], dict[str, Any]], steps: int | None = None
) -> Experiment[TrainConfig]:
    """Returns the training of the translation. values: what changes in its recipe."""

    def overlay(row: str, seed: int) -> TrainConfig:
        recipe = load_recipe(TRANSLATION).to_json()
        (stage,) = recipe["stages"]
        stage |= {} if steps is None else {"steps": steps}
        return recipe_of(recipe | {"initial": str(backbone(recipe["initial"]))} | values())

    def spent(row: str, seed: int, run: Loop[TrainConfig]) -> dict[str, Any]:
        return {"steps": run.config.stages[0].steps, "seconds": run.progress.seconds}

    return Experiment(
        "translation", runs, {TRANSLATED: "translation"}, overlay, spent, "training.json"
    )


def write_restyled(source: Path, target: Path, domain: str, restyle: Restyle, seed: int) -> None:
    """Write the dataset `source` as `domain`, each image restyled, unless it is there."""
    if target.exists():
        return
    dataset, random = Dataset(source), np.random.default_rng(seed)
    with DatasetWriter(target, replace(dataset.info, depth_unit=None)) as writer:
        for record in dataset.records:
            picture = restyle(image.read(dataset.path(record)), random)
            jpeg, pose = image.encode_jpeg(picture), record.map_from_camera
            writer.add(jpeg, record.stamp_ns, record.camera, domain, pose)


def _lab(picture: NDArray[Any]) -> NDArray[Any]:
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def _moments(lab: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return lab.mean((0, 1)), lab.std((0, 1))
