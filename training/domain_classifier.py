# SPDX-License-Identifier: Apache-2.0
"""Train a model's domain classifier and put it into the model directory:

`python -m training.domain_classifier --model MODELDIR --data DIR ... [--validation DIR ...]`

Data entries are those of training.train. Crops, flips and random brightness, contrast and gamma
keep the classifier from relying on exposure alone; every domain is drawn equally often.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from disam_ros import image
from disam_ros.domains.classifier import (
    CHANNELS,
    INPUT_SIZE,
    KERNEL,
    Confusion,
    DomainClassifier,
    accuracy,
    confusion,
)
from disam_ros.models.added_files import add_classifier
from disam_ros.models.model import load_model
from training.command import exit_status
from training.data.augment import photometric
from training.data.image_store import ImageStore, random_view
from training.data.sources import find_photos
from training.engine.export import git_commit
from training.errors import TrainingError
from training.settings import CropConfig

log = logging.getLogger(__name__)

STEPS = 1500
BATCH = 48
LEARNING_RATE = 2e-3
ZOOM = (1.0, 1.6)  # least and most zoom of a crop
CROPS = CropConfig(cache_scale=ZOOM[1], tile_cache_scale=ZOOM[1])
PHOTOMETRIC = 0.4  # gamma and contrast vary by up to e^0.4 = 1.5 either way
BRIGHTNESS = 0.3  # most that is added or taken away, of the range [−1, 1]


def train(
    model: Path, data: Sequence[str], validation: Sequence[str], steps: int = STEPS, seed: int = 0
) -> Confusion:
    """Train a classifier of the model's domains and add it to the directory.

    Returns the confusion of the validation images; empty without validation data.
    Raises DisamError where the model, the data or the settings do not fit.
    """
    if steps < 1:
        raise TrainingError(f"steps must be at least 1, got {steps}")
    domains = load_model(model).domain_names()
    store = open_store(data, domains)
    rows = store.rows()
    if missing := [domain for domain in domains if domain not in rows]:
        raise TrainingError(
            f"no images of {', '.join(missing)} in the data, found {_counts(store)}; the "
            f"classifier needs images of all domains of the model: add them with --data"
        )
    held_out = open_store(validation, domains) if validation else None
    if held_out is None:
        log.warning("no validation data (--validation): the accuracy stays unknown")
    began = time.monotonic()
    classifier = fit(store, domains, steps, seed)
    provenance = {
        "data": list(data),
        "images": {domain: len(rows[domain]) for domain in domains},
        "steps": steps,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "commit": git_commit(),
        "validation": None,
    }
    table: Confusion = {}
    if held_out is not None:
        table = confusion(classifier, samples(held_out, domains))
        provenance["validation"] = {
            "data": list(validation),
            "accuracy": round(accuracy(table), 4),
            "confusion": table,
        }
    add_classifier(model, classifier, provenance)
    return table


def open_store(entries: Sequence[str], domains: Sequence[str]) -> ImageStore:
    """Reads the images of these domains. Raises TrainingError where there are none.

    Webcams' images by day count as summer_day where the model has no domain for all days.
    """
    photos = [p for p in find_photos(entries) if p.domain in ("", *domains)]
    light = {"day": ["day" if "day" in domains else "summer_day"]}
    store = ImageStore(photos, INPUT_SIZE, CROPS, light=light) if photos else None
    if store is None or not set(domains) & set(store.rows()):
        counts = _counts(store) if store else "other domains only"
        raise TrainingError(
            f"no images of {', '.join(domains)} in {', '.join(entries)}: found {counts}"
        )
    return store


def samples(store: ImageStore, domains: Sequence[str]) -> Iterator[tuple[NDArray[Any], str]]:
    """Yields whole images of these domains as a camera gives them, and their domains."""
    return ((image.read(p.path), p.domain) for p in store.photos if p.domain in domains)


def fit(store: ImageStore, domains: Sequence[str], steps: int, seed: int) -> DomainClassifier:
    """Trains a classifier on the images, reproducible from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(len(domains))
    rows = store.rows()
    rows_by_label = [rows[domain] for domain in domains]
    random = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pause = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(range(steps), desc="domain classifier", mininterval=pause) as bar:
        for _ in bar:
            images, labels = draw_batch(store, rows_by_label, random)
            loss = functional.cross_entropy(network(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix({"loss": f"{loss.item():.3f}"}, refresh=False)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return DomainClassifier(tuple(domains), weights)


class Network(nn.Module):
    """The classifier in torch: images [B, 3, 48, 64] in [−1, 1] → logits [B, D]."""

    def __init__(self, domains: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, out in pairwise((3, *CHANNELS)):
            layers += [nn.Conv2d(channels, out, KERNEL, stride=2, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1], domains)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


def draw_batch(
    store: ImageStore, rows_by_label: Sequence[Sequence[int]], random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draws augmented crops [B, 3, 48, 64] in [−1, 1] and labels [B], all equally often."""
    labels = np.resize(random.permutation(len(rows_by_label)), BATCH)
    images = []
    for label in labels.tolist():
        view = random_view(store, int(random.choice(rows_by_label[label])), ZOOM, random)
        bright = photometric(view, PHOTOMETRIC, random) + random.uniform(-BRIGHTNESS, BRIGHTNESS)
        images.append(bright.clamp(-1, 1))
    return torch.stack(images), torch.from_numpy(labels)


def _counts(store: ImageStore) -> str:
    return ", ".join(f"{len(rows)} of {domain}" for domain, rows in store.rows().items())


def show(table: Confusion) -> None:
    """Print accuracy and confusion in percent of each true domain."""
    images = sum(sum(row.values()) for row in table.values())
    title = f"validation: {100 * accuracy(table):.1f} % of {images} images are named right"
    result = Table(title=title, title_justify="left")
    for name in ("true \\ named, percent", "images", *next(iter(table.values()))):
        result.add_column(name)
    for domain, row in table.items():
        count = sum(row.values())
        result.add_row(domain, str(count), *(f"{100 * n / count:.1f}" for n in row.values()))
    Console().print(result)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="training.domain_classifier",
        description="Train a domain classifier and put it into a model directory.",
    )
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--data", nargs="+", required=True, help="as of training.train")
    parser.add_argument("--validation", nargs="*", default=[], help="the same, never trained on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def work() -> str:
        table = train(options.model, options.data, options.validation, options.steps, options.seed)
        if table:
            show(table)
        return f"domain classifier written to {options.model}"

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
