# SPDX-License-Identifier: Apache-2.0
"""Recall@1 and recall@5 on Nordland at 64×32 pixels: summer map, winter queries, offline.

Frame i is place i, an answer is right within ±1 frame. This set is for testing only: nothing of
ours is trained, tuned or chosen on it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy.drives import EVERY_IMAGE
from benchmark.accuracy.gardens_point import (
    BASE_FROM_CAMERA,
    SHIPPED,
    Recalls,
    candidates,
    chance,
    ranked_recalls,
    ranks,
)
from benchmark.peers import peer_similarities
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import Model, load_model

DATA = Path("data/nordland_64x32.npz")
STEP = 3  # one frame in three, of both rides: all of them take the models half an hour
TOLERANCE = 1  # frames
ROWS = {  # domains of map and queries
    "outdoor (summer_day, winter_snow)": ("summer_day", "winter_snow"),
    "its start (summer_day, summer_day)": ("summer_day", "summer_day"),
}


def measure(data: Path = DATA) -> dict[str, Any]:
    """Recalls by method. data: npz with `summer` and `winter`, uint8 [N, H, W]."""
    summer, winter = read(data)
    model = load_model(SHIPPED / "outdoor")
    methods: dict[str, Recalls] = {
        name: model_recalls(model, summer, winter, *domains) for name, domains in ROWS.items()
    }
    for name, (similarities,) in peer_similarities(list(summer), [list(winter)]):
        methods[name] = ranked_recalls(similarities, TOLERANCE)
    methods["chance"] = chance(len(summer), len(winter), TOLERANCE)
    return {
        "places": len(summer),
        "step": STEP,
        "models": [model.label],
        "methods": methods,
    }


def read(data: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Summer and winter, uint8 RGB [N, H, W, 3] each. Raises DatasetError."""
    if not data.is_file():
        raise DatasetError(f"{data} not found: it holds the frames of the two rides")
    with np.load(data) as file:
        summer, winter = (file[name][::STEP, ..., None] for name in ("summer", "winter"))
    return summer.repeat(3, axis=-1), winter.repeat(3, axis=-1)


def model_recalls(
    model: Model, summer: NDArray[Any], winter: NDArray[Any], map_domain: str, domain: str
) -> Recalls:
    """R@1 and R@5 of the candidates at the default settings."""
    with tempfile.TemporaryDirectory() as scratch:
        reference = source(summer, map_domain)
        place_map = build_map(reference, model, Path(scratch) / "map", EVERY_IMAGE)
        localizer = Localizer(model, place_map, LocalizerConfig())
        frames = candidates(source(winter, domain).images, domain, localizer)
    return ranks(frames, TOLERANCE)


def source(images: NDArray[Any], domain: str) -> ImageSource:
    """Images [N, H, W, 3] with image i at x = i metres."""
    height, width = images.shape[1:3]
    camera = Camera(width, height, width, width, width / 2, height / 2, (), BASE_FROM_CAMERA)
    posed = [_posed(i, picture, domain) for i, picture in enumerate(images)]
    return ImageSource(posed, DatasetInfo("nordland", {"front": camera}), "nordland", len(posed))


def _posed(i: int, picture: NDArray[Any], domain: str) -> PosedImage:
    base = Transform(np.array([i, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    record = ImageRecord(i, i, "front", domain, "", base @ BASE_FROM_CAMERA)
    return PosedImage(record, lambda: picture)
