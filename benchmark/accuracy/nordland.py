# SPDX-License-Identifier: Apache-2.0
"""Nordland at 64×32 pixels: one train ride in summer as the map, in winter as the queries.

Frame i is place i, an answer is right within ±1 frame. This set is for testing only: nothing of
ours is trained, tuned or chosen on it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.accuracy.gardens_point import (
    BASE_FROM_CAMERA,
    FIRST,
    SHIPPED,
    Recalls,
    chance,
    ranked_recalls,
    recall,
    recalls_cell,
)
from benchmark.peers import peer_similarities
from benchmark.peers.table import markdown
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Candidate, Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import Model, load_model

DATA = Path("data/nordland_64x32.npz")
STEP = 3  # one frame in three, of both rides: all of them take the models half an hour
TOLERANCE = 1  # frames
DOMAINS = {"town-lite": ("summer_day", "winter_snow"), "daynight-lite": ("day", "day")}


def measure(data: Path = DATA) -> dict:
    """Recalls by method. data: npz with `summer` and `winter`, uint8 [N, H, W]."""
    summer, winter = read(data)
    loaded = {name: load_model(SHIPPED / name) for name in DOMAINS}
    methods: dict[str, Recalls] = {
        f"{name} ({', '.join(DOMAINS[name])})": model_recalls(model, summer, winter, *DOMAINS[name])
        for name, model in loaded.items()
    }
    for name, (similarities,) in peer_similarities(summer, [winter]):
        methods[name] = ranked_recalls(similarities, TOLERANCE)
    methods["chance"] = chance(len(summer), len(winter), TOLERANCE)
    return {
        "places": len(summer),
        "step": STEP,
        "models": [model.label for model in loaded.values()],
        "methods": methods,
    }


def render(results: dict) -> str:
    """The figures as a section of a page."""
    methods: dict[str, Recalls] = results["methods"]
    rows = [[name, recalls_cell(row, list(methods.values()))] for name, row in methods.items()]
    return (
        "## Nordland at 64×32 pixels, offline\n\n"
        "`python -m benchmark.accuracy nordland`: a train ride, summer map → winter queries, "
        f"{results['places']} places: one frame in {results['step']} of the file, of both rides. "
        f"R@1 / R@{FIRST}: share of queries with a right frame, within ±{TOLERANCE}, among so many "
        "answers. Images of 64×32 pixels are too coarse for anything local: ORB finds no keypoint "
        "in them, so all places are alike to it and the map's first ones are its answers. Nothing "
        "of disam_ros was tuned on this set; of the peers, flat patches of SAD are not zeros since "
        "the map's first frame, nearly empty, drew most queries here. Of models, in brackets, the "
        "domains of map and queries; default settings. Bold: the best.\n\n"
        f"{markdown(['method', 'summer → winter'], rows)}\n"
        f"Models: {'; '.join(results['models'])}.\n"
    )


def read(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Summer and winter, uint8 RGB [N, H, W, 3] each. Raises DatasetError."""
    if not data.is_file():
        raise DatasetError(f"{data} not found: it holds the frames of the two rides")
    with np.load(data) as file:
        summer, winter = (file[name][::STEP, ..., None] for name in ("summer", "winter"))
    return summer.repeat(3, axis=-1), winter.repeat(3, axis=-1)


def model_recalls(
    model: Model, summer: np.ndarray, winter: np.ndarray, map_domain: str, domain: str
) -> Recalls:
    """R@1 at the default settings and R@5 of as many candidates."""
    with tempfile.TemporaryDirectory() as scratch:
        everything = MapBuilderConfig(keyframe_distance=0.0)
        place_map = build_map(source(summer, map_domain), model, Path(scratch) / "map", everything)
        localizer = Localizer(model, place_map, LocalizerConfig(candidates=FIRST))
        several = [localizer.localize(image, domain=domain).candidates for image in winter]
    first = [[default_answer(candidates).record.id] for candidates in several]
    frames = [[c.record.id for c in candidates] for candidates in several]
    return {"R@1": recall(first, TOLERANCE), f"R@{FIRST}": recall(frames, TOLERANCE)}


def default_answer(candidates: Sequence[Candidate]) -> Candidate:
    """What the localizer answers with its default number of candidates, given more of them."""
    coarse = sorted(candidates, key=lambda c: -c.coarse_score)
    return max(coarse[: LocalizerConfig().candidates], key=lambda c: c.fine_score)


def source(images: np.ndarray, domain: str) -> ImageSource:
    """Images [N, H, W, 3] with image i at x = i metres."""
    height, width = images.shape[1:3]
    camera = Camera(width, height, width, width, width / 2, height / 2, (), BASE_FROM_CAMERA)
    posed = [_posed(i, picture, domain) for i, picture in enumerate(images)]
    return ImageSource(posed, DatasetInfo("nordland", {"front": camera}), "nordland", len(posed))


def _posed(i: int, picture: np.ndarray, domain: str) -> PosedImage:
    base = Transform(np.array([i, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    record = ImageRecord(i, i, "front", domain, "", base @ BASE_FROM_CAMERA)
    return PosedImage(record, lambda: picture)
