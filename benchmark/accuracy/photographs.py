# SPDX-License-Identifier: Apache-2.0
"""What the choice of the encoder is worth on photographs: every encoder on every pair of drives.

Offline, maps by the summer_day encoder, queries by each encoder, with our matching throughout. The
summer_day encoder keeps the ImageNet weights of the start, so its row is "ImageNet start, our
matching"; encoders of equal weights share a row. DNIM's cameras chose the weights that ship, the
other drives are for testing only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmark.accuracy import gardens_point, nordland
from benchmark.accuracy.drives import EVERY_IMAGE
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import DatasetError
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import Model, load_model
from training.disam.matching import similarity_of
from training.engine.validate import load_validation, query_counts, recall
from training.settings import CropConfig, ValidationConfig

MAPPED, NIGHT = "summer_day", "night"
WEBCAMS = Path("data/dnim/test")
SHIFTS = (0.0, 0.25)  # sideways, of a webcam's query from its tile of the map, in tiles

Column = tuple[str, int, dict[str, float]]  # name, queries, recall@1 by row, 0…1


def measure() -> dict[str, Any]:
    """Recall@1 by pair of drives and encoder of the queries. Drives that are missing are left
    out."""
    model = load_model(gardens_point.SHIPPED / "outdoor")
    columns = {}
    for part in (town_of_photographs, train_rides, webcams):
        try:
            for name, queries, recalls in part(model):
                columns[name] = {"queries": queries, "recalls": recalls}
        except DatasetError as error:
            print(f"photographs: left out, {error}")
    return {"model": model.label, "columns": columns} if columns else {}


def rows(model: Model) -> dict[str, str]:
    """Returns by the names of encoders with equal weights the first of them."""
    names: dict[str, list[str]] = {}
    for domain in sorted(model.domain_names(), key=lambda name: name != MAPPED):
        first = next((d for d in names if _equal(model, d, domain)), domain)
        names.setdefault(first, []).append(domain)
    return {" = ".join(domains): first for first, domains in names.items()}


def _equal(model: Model, domain: str, other: str) -> bool:
    weights, others = (model.fine[name].state_dict() for name in (domain, other))
    return all(torch.equal(value, others[key]) for key, value in weights.items())


def town_of_photographs(model: Model) -> Iterator[Column]:
    """Yields Gardens Point's pairs of drives, right within ±2 frames."""
    for map_drive, query_drives in gardens_point.QUERIES.items():
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            folders = {d: gardens_point.DATA / d for d in (map_drive, *query_drives)}
            datasets = {
                d: gardens_point.aligned_dataset(folder, root / d, MAPPED)
                for d, folder in folders.items()
            }
            source = open_dataset(datasets[map_drive].directory)
            source = gardens_point.without_intrinsics(source)
            place_map = build_map(source, model, root / "map", EVERY_IMAGE, show_progress=False)
            localizer = Localizer(model, place_map, LocalizerConfig())
            for name in query_drives:
                images = open_dataset(datasets[name].directory).images
                recalls = {
                    row: gardens_point.ranks(gardens_point.candidates(images, domain, localizer))[
                        "R@1"
                    ]
                    for row, domain in rows(model).items()
                }
                count = len(datasets[name].records)
                yield f"Gardens Point, {map_drive} → {name}", count, recalls


def train_rides(model: Model) -> Iterator[Column]:
    """Yields Nordland, right within ±1 frame."""
    summer, winter = nordland.read(nordland.DATA)
    recalls = {
        row: nordland.model_recalls(model, summer, winter, MAPPED, domain)["R@1"]
        for row, domain in rows(model).items()
    }
    yield "Nordland, summer → winter", len(winter), recalls


def webcams(model: Model) -> Iterator[Column]:
    """Yields night tiles of DNIM's test cameras in a map of their day tiles."""
    if not WEBCAMS.is_dir():
        raise DatasetError(f"{WEBCAMS} not found: it holds a folder for each camera")
    light = {"day": [MAPPED], "night": [NIGHT]}
    similarity = similarity_of("fine", DescriptorConfig())
    for shift in SHIFTS:
        chosen = ValidationConfig(data=[f"webcams:{WEBCAMS}"], reference=MAPPED, shift=shift)
        size = model.network.image_size
        validation = load_validation(chosen, size, CropConfig(), [MAPPED, NIGHT], light)
        recalls = {}
        for row, domain in rows(model).items():
            encoders = {MAPPED: model.fine[MAPPED], NIGHT: model.fine[domain]}
            percent = recall(encoders, similarity, validation, torch.device("cpu"))
            recalls[row] = percent[NIGHT] / 100
        place = f"moved by {shift:g} of a tile" if shift else "in place"
        yield f"DNIM, day → night, {place}", query_counts(validation)[NIGHT], recalls
