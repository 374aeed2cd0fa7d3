# SPDX-License-Identifier: Apache-2.0
"""Coarse descriptors of two real maps and their queries: the demo's town and Nordland."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmark.accuracy import nordland
from benchmark.truth import truth_of
from disam_ros import image
from disam_ros.config import DescriptorConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.demo.drives import CONDITIONS, DATA, MODEL, read_drive
from disam_ros.image import to_tensor
from disam_ros.models.model import Model, load_model
from disam_ros.models.similarity import coarse_descriptor

EXACT = DescriptorConfig(coarse_grid=256, fine_grid=256)  # features as they are

Descriptors = NDArray[np.float32]  # [N, D]


@dataclass(frozen=True)
class Place:
    """A map and queries."""

    name: str
    references: Descriptors
    queries: dict[str, Descriptors]  # by condition
    nearest: dict[str, NDArray[np.int64]]  # row of the map image that each query shows [Q]


@cache
def town_and_nordland() -> list[Place]:
    """Both maps, described once."""
    model = load_model(MODEL)
    return [_town(model), _nordland(model)]


def _town(model: Model) -> Place:
    reference = Dataset(DATA / "reference")
    positions = np.array([truth_of(record).translation for record in reference.records])
    camera = reference.info.cameras["front"].base_from_camera
    images = [image.read(reference.path(record)) for record in reference.records]
    queries: dict[str, Descriptors] = {}
    nearest: dict[str, NDArray[np.int64]] = {}
    for condition in CONDITIONS:
        drive = read_drive(DATA / condition)
        queries[condition] = _described(model, condition, drive.images)
        places = np.array([(pose @ camera).translation for pose in drive.truth])
        nearest[condition] = np.linalg.norm(positions - places[:, None], axis=2).argmin(1)
    return Place("town", _described(model, "summer_day", images), queries, nearest)


def _nordland(model: Model) -> Place:
    summer, winter = nordland.read(nordland.DATA)
    queries = {"winter": _described(model, "winter_snow", winter)}
    rows: NDArray[np.int64] = np.arange(len(summer))
    described = _described(model, "summer_day", summer)
    return Place("Nordland", described, queries, {"winter": rows})


def _described(model: Model, domain: str, images: Iterable[NDArray[np.uint8]]) -> Descriptors:
    """Coarse descriptors [N, D] of images, uint8 RGB."""
    rows = []
    for picture in tqdm(images, desc=domain, unit="img", leave=False):
        tensor = to_tensor(picture, model.network.image_size)[None]
        with torch.inference_mode():
            rows.append(coarse_descriptor(model.coarse[domain](tensor), EXACT)[0].numpy())
    return np.stack(rows)
