# SPDX-License-Identifier: Apache-2.0
"""Learn the directions of a model's coarse descriptors and put them into the model directory:

`python -m training.directions --model MODELDIR --data DIR ...`

Data entries are those of training.train. Each domain's encoder describes equally many random crops
of images of its domain, half of them mirrored: a few cameras then show many places. Uncentred PCA
of all descriptors together gives the directions (disam_ros/models/projection.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from disam_ros.config import DescriptorConfig
from disam_ros.device import CPU
from disam_ros.mapping.compression import learn_projection
from disam_ros.models.added_files import add_projection
from disam_ros.models.backend import describe, select_backend
from disam_ros.models.model import Model, load_model
from training.command import exit_status
from training.data.image_store import ImageStore, random_view
from training.data.sources import find_photos
from training.engine.export import git_commit
from training.errors import TrainingError
from training.settings import CropConfig

SIZE = 1024  # directions: bytes of a coarse descriptor in a map
CROPS = 3000  # of each domain
ZOOM = 2.0  # of a crop, at most
BATCH = 16  # crops described at once
NIGHT = "night"  # domain of webcams' images by night; by day they belong to all other domains


def learn(
    model_dir: Path, data: Sequence[str], crops: int = CROPS, size: int = SIZE, seed: int = 0
) -> int:
    """Learn at most `size` directions and add them to a model directory. Returns their number.

    Raises DisamError where the model or the data do not fit.
    """
    if min(crops, size) < 1:
        raise TrainingError(f"crops and size must be at least 1, got {crops} and {size}")
    model = load_model(model_dir)
    domains = model.domain_names()
    light = {"day": [name for name in domains if name != NIGHT], "night": [NIGHT]}
    photos = [photo for photo in find_photos(data) if photo.domain in ("", *domains)]
    if not photos:
        raise TrainingError(f"no images of {', '.join(domains)} in {', '.join(data)}")
    cache = CropConfig(cache_scale=ZOOM, tile_cache_scale=ZOOM)
    store = ImageStore(photos, model.network.image_size, cache, light=light)
    rows = store.rows()
    if missing := [domain for domain in domains if domain not in rows]:
        raise TrainingError(f"no images of {', '.join(missing)} in the data: add them with --data")
    random = np.random.default_rng(seed)
    samples = [
        descriptors(model, domain, store, random.choice(rows[domain], crops), random)
        for domain in domains
    ]
    projection = learn_projection(np.concatenate(samples), size)
    provenance = {
        "data": list(data),
        "images": {domain: len(rows[domain]) for domain in domains},
        "crops": crops,
        "seed": seed,
        "commit": git_commit(),
    }
    add_projection(model_dir, projection, provenance)
    return projection.size


def descriptors(
    model: Model,
    domain: str,
    store: ImageStore,
    rows: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.float16]:
    """Describes a random crop of each of the images `rows` [N], coarse descriptors [N, D]."""
    backend = select_backend("auto", model, CPU)
    described, config = [], DescriptorConfig()
    for start in tqdm(range(0, len(rows), BATCH), desc=domain, unit="batch", leave=False):
        batch = rows[start : start + BATCH].tolist()
        crops = [random_view(store, row, (1.0, ZOOM), random).numpy() for row in batch]
        described.append(describe(backend, domain, np.stack(crops), config)[0].astype(np.float16))
    return np.concatenate(described)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="training.directions",
        description="Learn directions of coarse descriptors and put them into a model directory.",
    )
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--data", nargs="+", required=True, help="as of training.train")
    parser.add_argument("--crops", type=int, default=CROPS, help="of each domain")
    parser.add_argument("--size", type=int, default=SIZE, help="number of directions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def work() -> str:
        size = learn(options.model, options.data, options.crops, options.size, options.seed)
        return f"{size} directions written to {options.model}"

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
