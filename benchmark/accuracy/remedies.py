# SPDX-License-Identifier: Apache-2.0
"""What was tried against the night and the step aside, on VALIDATION data: unseen webcams.

The map is tiles of webcams by day, the queries are tiles by night that lie some share of a tile
aside, as seen from another lane. Models and settings were chosen on these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.peers.table import markdown, percent
from disam_ros.config import DescriptorConfig
from disam_ros.errors import ModelError
from disam_ros.models.descriptor import coarse_descriptor, pool
from disam_ros.models.model import load_model
from disam_ros.models.networks import NetworkConfig, build_encoder
from disam_ros.models.similarity import shifted_similarity
from training.data.places import same_place
from training.data.sources import WEBCAMS
from training.engine.networks import Networks
from training.engine.validate import SAME_TILE, ValidationSet, load_validation
from training.recipes import load_config
from training.settings import CropConfig

MODEL = Path(__file__).parents[2] / "models" / "daynight-lite"
RECIPE = Path("config/train_daynight_lite.yaml")
WEBCAM_DATA = Path("data/dnim/test")
SHIFTS = (0.0, 0.15, 0.3)  # shares of a tile
CANDIDATES = {"coarse to fine, 3": (3, 0), "10": (10, 0)}
CANDIDATES |= {
    "10, fine_shift 1": (10, 1),
    "10, fine_shift 2": (10, 2),
    "10, fine_shift 4": (10, 4),
}

Encoders = Mapping[str, nn.Module]
Describe = Callable[[Tensor], Tensor]


def measure(webcams: Path = WEBCAM_DATA) -> dict:
    """R@1 by encoders, setting and shift; empty without the webcams' images."""
    if not webcams.is_dir() or not MODEL.is_dir():
        return {}
    recipe, model = load_config(RECIPE), load_model(MODEL)
    names = model.domain_names()
    entries: dict[str, tuple[Encoders, Encoders]] = {}
    try:
        untrained = Networks({name: build_encoder(model.network) for name in names})
        untrained.start_from(Path(recipe.initial))
        entries["ImageNet weights"] = (untrained.encoders, untrained.encoders)
    except ModelError as error:
        print(f"remedies: without the row of ImageNet weights, {error}")
    entries[model.name] = (model.coarse, model.fine)
    found: dict[str, dict[str, list[float]]] = {}
    for shift in SHIFTS:
        views = views_of(webcams, names, model.network, shift)
        for label, (coarse, fine) in entries.items():
            for setting, share in recalls(coarse, fine, views).items():
                found.setdefault(f"{label}, {setting}", []).append(share)
    return {"shifts": SHIFTS, "queries": len(views.images[names[1]]), "rows": found}


def render(results: dict) -> str:
    """The figures as a section of a page."""
    shifts = [f"{100 * shift:.0f} % aside" for shift in results["shifts"]]
    columns = list(zip(*results["rows"].values(), strict=True))
    rows = [
        [name, *(percent(v, c) for v, c in zip(row, columns, strict=True))]
        for name, row in results["rows"].items()
    ]
    return (
        "## Night and a step aside, on validation data\n\n"
        f"`python -m benchmark.accuracy remedies`: R@1 of {results['queries']} night tiles of "
        "webcams that no model was trained on, against their day tiles, 16 a camera; the night "
        "tile lies a share of its width aside, the neighbour in that direction counts as right as "
        "soon as it shares more than half. The weights and the settings below were chosen here, so "
        "these figures flatter. *centred*: less the map's mean descriptor.\n\n"
        f"{markdown(['', *shifts], rows)}\n"
    )


def views_of(
    webcams: Path, names: list[str], network: NetworkConfig, shift: float
) -> ValidationSet:
    """Tiles by day (the map) and, moved, by night."""
    config = replace(load_config(RECIPE).validation, data=[f"{WEBCAMS}{webcams}"], shift=shift)
    return load_validation(config, network.image_size, CropConfig(tile_cache_scale=2.5), names)


@torch.inference_mode()
def recalls(coarse: Encoders, fine: Encoders, views: ValidationSet) -> dict[str, float]:
    """Share of queries whose best tile is right, by setting."""
    config = DescriptorConfig()
    map_domain = views.reference
    domain = next(name for name in views.images if name != map_domain)
    right = same_place(
        *(views.places[name] for name in (domain, map_domain)), views.radius, views.angle, SAME_TILE
    )
    query, reference = (
        _encoded(coarse[name], views.images[name], lambda z: coarse_descriptor(z, config))
        for name in (domain, map_domain)
    )
    similarity = query @ reference.T
    mean = reference.mean(0)
    centred = nn.functional.normalize(query - mean) @ nn.functional.normalize(reference - mean).T
    features = [
        _encoded(fine[name], views.images[name], lambda z: pool(z, config.fine_grid, False))
        for name in (domain, map_domain)
    ]
    found = {"coarse": similarity.argmax(1), "coarse, centred": centred.argmax(1)}
    for setting, (count, shift) in CANDIDATES.items():
        found[setting] = _reranked(similarity, *features, count, shift)
    return {k: float(right[np.arange(len(b)), b.numpy()].mean()) for k, b in found.items()}


def _encoded(encoder: nn.Module, images: Tensor, describe: Describe) -> Tensor:
    return torch.cat([describe(encoder(part)) for part in images.split(32)])


def _reranked(
    similarity: Tensor, query: Tensor, reference: Tensor, count: int, shift: int
) -> Tensor:
    """Best reference [Q] by the fine stage among the `count` most similar ones."""
    top = similarity.topk(count).indices
    scores = torch.stack(
        [
            shifted_similarity(z, reference[rows], shift, shift // 2)
            for z, rows in zip(query, top, strict=True)
        ]
    )
    return top.gather(1, scores.argmax(1, keepdim=True))[:, 0]
