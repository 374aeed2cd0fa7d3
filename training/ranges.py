# SPDX-License-Identifier: Apache-2.0
"""Measure the ranges of a model's activations, which `backend: onnx-int8` needs, and put them into
the model directory:

`python -m training.ranges --model MODELDIR --config RECIPE [--data DIR ...]`

Data and validation are those of the recipe that the model was trained with. A range is the mean,
over whole images of the encoder's domain, of the least and the most of a layer's output. Recall on
the validation data, of images encoded in 8-bit integers against a map encoded in float32, stands
beside that of float32.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

from disam_ros.device import CPU
from disam_ros.models.added_files import add_ranges
from disam_ros.models.backend import Backend, select_backend
from disam_ros.models.model import ENCODER_FILE, STAGES, Model, load_model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_runtime.int8_graph import range_names
from training.command import exit_status
from training.data.image_store import ImageStore
from training.data.places import Box
from training.data.sources import find_photos
from training.disam.config import TrainConfig
from training.disam.matching import similarity_of
from training.engine.export import git_commit
from training.engine.validate import Encoder, load_validation, recall
from training.errors import TrainingError
from training.recipes import load_config

log = logging.getLogger(__name__)

IMAGES = 64  # of each domain
READ = 4  # times as many images are read: the light of a webcam's is known afterwards
WHOLE = Box(0.0, 0.0, 1.0, 1.0)

Recalls = dict[str, dict[str, float]]  # percent by precision and name


def measure(model_dir: Path, config: TrainConfig, images: int = IMAGES) -> Recalls:
    """Measure the ranges and add them to a model directory. Returns the recall on the recipe's
    validation data by precision; empty without validation data.

    Raises DisamError where the model or the data do not fit.
    """
    if images < 1:
        raise TrainingError(f"images must be at least 1, got {images}")
    model = load_model(model_dir)
    if not (isinstance(model.network, NetworkConfig) and model.network.is_mobile):
        raise TrainingError(f"8-bit integers are for mobile encoders, {model_dir} has others")
    stages = {ENCODER_FILE: model.fine}
    if not model.shared:
        stages = dict(zip(STAGES, (model.coarse, model.fine), strict=True))
    store, rows = _open_store(model, config, images)
    model.ranges = {
        f"{file}/{domain}": ranges_of(encoders[domain], [store.crop(r, WHOLE) for r in chosen])
        for domain, chosen in tqdm(rows.items(), unit="domain", leave=False)
        for file, encoders in stages.items()
    }
    faults = _validate(model, config)
    provenance = {
        "data": config.data,
        "images": {domain: len(chosen) for domain, chosen in rows.items()},
        "seed": config.seed,
        "commit": git_commit(),
        "validation": {"data": config.validation.data, "recall": faults} if faults else None,
    }
    add_ranges(model_dir, model.ranges, provenance)
    return faults


def _open_store(
    model: Model, config: TrainConfig, images: int
) -> tuple[ImageStore, dict[str, list[int]]]:
    """Random images of the data, and at most `images` rows of each domain. Raises TrainingError."""
    domains, random = model.domain_names(), np.random.default_rng(config.seed)
    every_photo = find_photos(config.data)
    photos = []
    for domain in ("", *domains):
        photos_of = [photo for photo in every_photo if photo.domain == domain]
        photos += [photos_of[k] for k in random.permutation(len(photos_of))[: READ * images]]
    light = {"day": config.webcam_day, "night": config.webcam_night}
    store = ImageStore(photos, model.network.image_size, config.crops, light=light)
    rows = store.rows()
    if missing := [domain for domain in domains if domain not in rows]:
        raise TrainingError(f"no images of {', '.join(missing)} in {', '.join(config.data)}")
    chosen = {d: random.permutation(rows[d])[:images].tolist() for d in domains}
    return store, chosen


@torch.inference_mode()
def ranges_of(encoder: nn.Module, images: Sequence[Tensor]) -> NDArray[np.float32]:
    """Means over images [3, H, W] of the least and most of each layer's output, float32 [L, 2]."""
    ends: dict[str, list[tuple[float, float]]] = {name: [] for name in range_names()}
    modules = dict(encoder.named_modules())

    def note(name: str, output: Tensor) -> None:
        ends[name].append((float(output.min()), float(output.max())))

    hooks = [
        modules[name].register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name in ends
    ]
    try:
        for image in images:
            encoder(image[None])
    finally:
        for hook in hooks:
            hook.remove()
    return np.array([np.mean(pairs, 0) for pairs in ends.values()], np.float32)


def _validate(model: Model, config: TrainConfig) -> Recalls:
    """Recall of both precisions with the fine similarity, the map in float32."""
    if not config.validation.data:
        log.warning("the recipe has no validation data: what the integers cost stays unknown")
        return {}
    light = {"day": config.webcam_day, "night": config.webcam_night}
    size, domains = model.network.image_size, model.domain_names()
    validation = load_validation(config.validation, size, config.crops, domains, light)
    similarity = similarity_of("fine", config.descriptor)
    exact = select_backend("onnx", model, CPU)
    mapper = _encoder(exact, validation.reference)
    by_domain = {}
    for backend in (exact, select_backend("onnx-int8", model, CPU)):
        encoders = {domain: _encoder(backend, domain) for domain in domains}
        cpu = torch.device(CPU)
        recalls = recall(encoders, similarity, validation, cpu, mapper=mapper)
        by_domain[backend.precision] = {name: round(value, 2) for name, value in recalls.items()}
    return by_domain


def _encoder(backend: Backend, domain: str) -> Encoder:
    """Fine features by a backend."""
    return lambda images: torch.from_numpy(backend.encode(domain, images.numpy())[1])


def show(recalls: Recalls) -> None:
    """Print the recall of both precisions and its difference."""
    table = Table(title="recall@1 on validation data, percent", title_justify="left")
    for name in ("", *recalls, "difference"):
        table.add_column(name)
    exact, quantized = recalls.values()
    for name in exact:
        a, b = exact[name], quantized[name]
        table.add_row(name, f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}")
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Exit status, see `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="training.ranges",
        description="Measure ranges of activations and put them into a model directory.",
    )
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--config", required=True, help="recipe, config/train_*.yaml")
    parser.add_argument("--data", nargs="+", help="replaces the recipe's data")
    parser.add_argument("--validation", nargs="*", help="replaces the recipe's validation data")
    parser.add_argument("--images", type=int, default=IMAGES, help="of each domain")
    options = parser.parse_args(arguments)

    def work() -> str:
        config = load_config(options.config)
        if not isinstance(config, TrainConfig):
            raise TrainingError(
                f"{options.config}: 8-bit integers are for models of method 'disam'"
            )
        config.data = options.data or config.data
        if options.validation is not None:
            config.validation.data = options.validation
        faults = measure(options.model, config, options.images)
        if faults:
            show(faults)
        return f"ranges written to {options.model}"

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
