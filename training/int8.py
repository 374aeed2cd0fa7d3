# SPDX-License-Identifier: Apache-2.0
"""Quantize a model's mobile encoders to 8-bit integers, for `backend: onnx-int8`:

`python -m training.int8 --model MODELDIR --config RECIPE [--data DIR ...]`

Writes `<domain>.int8.onnx` into the model directory. ONNX Runtime quantizes statically: weights to
7 bits per output channel, whose sums fit the 16 bits of every CPU; activations between the means of
their extremes over whole images of the domain. The stem and the first block, which make most of the
error and take as long in integers, stay in floating point, as does the last sum, the features. Data
and validation are the recipe's; the recall of images in integers on a map in float32 is reported
beside that of float32.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from disam_ros.device import CPU
from disam_ros.files.writing import file_sha256
from disam_ros.models.added_files import adding_onnx
from disam_ros.models.arrays import sample_images
from disam_ros.models.backend import Backend, select_backend
from disam_ros.models.export import encoder_graph
from disam_ros.models.model import PRECISIONS, Model, load_model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_backend import INPUT
from disam_ros.models.similarity import least_similarity
from training.command import exit_status
from training.data.image_store import ImageStore
from training.data.places import WHOLE
from training.data.sources import find_photos
from training.disam.config import TrainConfig
from training.disam.matching import similarity_of
from training.engine.export import git_commit
from training.engine.validate import Encoder, load_validation, recall
from training.errors import TrainingError
from training.recipes import load_config

log = logging.getLogger(__name__)

IMAGES = 64  # of each domain
READ = 4  # times as many images are read: the light of webcams' images is known after decoding

INT8 = PRECISIONS[1]
AGREEMENT = 0.8  # least similarity of features in integers with those in float32

Images = NDArray[np.float32]
Recalls = dict[str, dict[str, float]]  # percent by precision and name


def quantize(model_dir: Path, config: TrainConfig, images: int = IMAGES) -> Recalls:
    """Adds the files of encoders in integers to a model directory.

    Returns the recall on the recipe's validation data by precision; empty without validation data.
    Raises DisamError where the model or the data do not fit.
    """
    if images < 1:
        raise TrainingError(f"images must be at least 1, got {images}")
    model = load_model(model_dir)
    assert model.directory is not None
    if not (isinstance(model.network, NetworkConfig) and model.network.is_mobile):
        raise TrainingError(f"8-bit integers are for mobile encoders, {model_dir} has others")
    exact = select_backend("onnx", model, CPU)
    store, rows = _open_store(model, config, images)
    provenance: dict[str, Any] = {
        "data": config.data,
        "images": {domain: len(chosen) for domain, chosen in rows.items()},
        "seed": config.seed,
        "commit": git_commit(),
    }
    with adding_onnx(model.directory, INT8, provenance) as path_of:
        for domain, chosen in tqdm(rows.items(), unit="domain", leave=False):
            path = path_of(domain)
            pixels = [store.crop(row, WHOLE)[None].numpy() for row in chosen]
            quantize_encoders(encoder_graph(model, domain), pixels, path)
            model.onnx = {**model.onnx, path.name: file_sha256(path)}
        integers = select_backend(f"onnx-{INT8}", model, CPU)
        for domain in rows:
            _require_agreement(domain, exact, integers, model.network.image_size)
        recalls = _validate(model, config, [exact, integers])
        validation = {"data": config.validation.data, "recall": recalls}
        provenance["validation"] = validation if recalls else None
    return recalls


def quantize_encoders(proto: ModelProto, images: list[Images], path: Path) -> None:
    """Writes the encoders of a domain in integers. images: [1, 3, H, W] each."""
    helper.set_model_props(proto, {"onnx.quant.pre_process": "onnxruntime.quant"})  # exported so
    logging.disable(logging.INFO)  # of each weight whose scale is adjusted
    quantize_static(
        proto,
        path,
        _Images(images),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_in_floating_point(proto),
        extra_options={"CalibMovingAverage": True},
    )
    logging.disable(logging.NOTSET)


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images that the ranges of activations are measured on."""

    def __init__(self, images: list[Images]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Images] | None:
        pixels = next(self._images, None)
        return None if pixels is None else {INPUT: pixels}


def _in_floating_point(proto: ModelProto) -> list[str]:
    """Names the nodes of stem and first block, with their ReLU6, and those that make features."""
    nodes, exact = proto.graph.node, set()
    outputs = {output.name for output in proto.graph.output}
    for node in nodes:
        first = any(".stem." in name or ".blocks.0." in name for name in node.input)
        if first or (node.op_type == "Clip" and node.input[0] in exact):
            exact.update(node.output)
    for node in reversed(nodes):
        if outputs & set(node.output):
            exact.update(node.output)
            outputs |= set(node.input) if node.op_type == "Identity" else set()
    return [node.name for node in nodes if exact & set(node.output)]


def _require_agreement(
    domain: str, exact: Backend, integers: Backend, size: tuple[int, int]
) -> None:
    images = sample_images(size)
    similarity = least_similarity(integers.encode(domain, images), exact.encode(domain, images))
    if not similarity >= AGREEMENT:
        raise TrainingError(
            f"domain '{domain}': features in integers and in float32 have similarity "
            f"{similarity:.4f}, expected {AGREEMENT} or more: give more images"
        )


def _open_store(
    model: Model, config: TrainConfig, images: int
) -> tuple[ImageStore, dict[str, list[int]]]:
    """Reads random images, chooses at most `images` rows of each domain. Raises TrainingError."""
    domains, random = model.domain_names(), np.random.default_rng(config.seed)
    every_photo = find_photos(config.data)
    photos = []
    for domain in ("", *domains):
        photos_of = [photo for photo in every_photo if photo.domain == domain]
        photos += [photos_of[k] for k in random.permutation(len(photos_of))[: READ * images]]
    store = ImageStore(photos, model.network.image_size, config.crops, light=config.light)
    rows = store.rows()
    if missing := [domain for domain in domains if domain not in rows]:
        raise TrainingError(f"no images of {', '.join(missing)} in {', '.join(config.data)}")
    chosen = {d: random.permutation(rows[d])[:images].tolist() for d in domains}
    return store, chosen


def _validate(model: Model, config: TrainConfig, backends: list[Backend]) -> Recalls:
    """Recall@1 [%] of both precisions with the fine similarity, the map in float32."""
    if not config.validation.data:
        log.warning("the recipe has no validation data: what the integers cost stays unknown")
        return {}
    size, domains = model.network.image_size, model.domain_names()
    validation = load_validation(config.validation, size, config.crops, domains, config.light)
    similarity = similarity_of("fine", config.descriptor)
    mapper, recalls = _encoder(backends[0], validation.reference), {}
    for backend in backends:
        encoders = {domain: _encoder(backend, domain) for domain in domains}
        values = recall(encoders, similarity, validation, torch.device(CPU), mapper=mapper)
        recalls[backend.precision] = {name: round(value, 2) for name, value in values.items()}
    return recalls


def _encoder(backend: Backend, domain: str) -> Encoder:
    """Wraps a backend as an encoder of fine features."""
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
    """Run the command. Returns its `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="training.int8",
        description="Quantize a model's mobile encoders to 8-bit integers.",
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
        recalls = quantize(options.model, config, options.images)
        if recalls:
            show(recalls)
        return f"encoders in integers written to {options.model}"

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
