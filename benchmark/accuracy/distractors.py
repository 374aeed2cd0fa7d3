# SPDX-License-Identifier: Apache-2.0
"""Gardens Point's map among thousands of images of other places: what the coarse stage keeps.

The shortlist decides what the fine stage can find, and in a large map the coarse stage makes it.
Compared are the coarse search with one descriptor of the view, with those of the view shifted
sideways (as shipped), and the fine similarity with all map images, which no shortlist can exceed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy import gardens_point, nordland
from benchmark.accuracy.drives import EVERY_IMAGE
from benchmark.single_images import describe
from disam_ros import image
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model

OTHERS = ("kitti", "webcams", "dnim", "tilde")  # folders of data/ with images of other places
FAR = 1e5  # metres from Gardens Point to the first, and the next ones GAP apart
GAP = 100.0
SHORTLIST = LocalizerConfig().candidates
EVERY = 4  # query for which all map images are compared
MAP, QUERIES = "day_left", ("day_right", "night_right")


def measure() -> dict[str, Any]:
    """Recalls by pair of drives and search, in 0…1."""
    directory = gardens_point.SHIPPED / "outdoor"
    model = load_model(directory)
    config = LocalizerConfig(device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        place_map = build_map(_source(), model, Path(scratch) / "map", EVERY_IMAGE)
        localizer = Localizer(model, place_map, config)
        pairs = {}
        for name in QUERIES:
            config.domain.override = gardens_point.domain_of(model, name)
            files = gardens_point.files_of(gardens_point.DATA / name)
            pairs[f"{MAP} → {name}"] = _recalls(localizer, files)
        return {"model": model.label, "images": len(place_map), "pairs": pairs}


def _recalls(localizer: Localizer, files: list[Path]) -> dict[str, float]:
    """R@1 and R@SHORTLIST of both coarse searches, R@1 after each and of all map images."""
    hits: dict[str, list[bool]] = {}

    def count(what: str, rows: NDArray[Any], place: int) -> None:
        right = np.abs(rows - place) <= gardens_point.TOLERANCE  # rows of the place: its frames
        hits.setdefault(what, []).append(bool(right.any()))

    everything = np.arange(len(localizer.map))
    for place, file in enumerate(files):
        query = describe(localizer, Frame(image.read(file), localizer.map.main_camera()))
        middle = len(query.shifted) // 2
        alone = replace(query, shifted=query.shifted[middle : middle + 1])
        for kind, searched in (("one", alone), ("shifted", query)):
            shortlist = localizer.search(searched, localizer.config)
            count(f"{kind}: R@1", shortlist.rows[:1], place)
            count(f"{kind}: R@{SHORTLIST}", shortlist.rows, place)
            best = localizer.rerank(query, shortlist).rows[0]
            count(f"{kind}: fine R@1", np.array([best]), place)
        if place % EVERY == 0:
            best = int(localizer.fine_scores(query, everything).argmax())
            count("all: fine R@1", np.array([best]), place)
    return {what: float(np.mean(outcomes)) for what, outcomes in hits.items()}


def _source() -> ImageSource:
    """Gardens Point's frames, in order, then all others. Raises DatasetError without them."""
    reads = [partial(image.read, file) for file in gardens_point.files_of(gardens_point.DATA / MAP)]
    places = len(reads)
    reads += [partial(image.read, file) for file in _others()]
    summer, _ = nordland.read(nordland.DATA)
    reads += [partial(lambda picture: picture, picture) for picture in summer]
    posed = []
    for number, read in enumerate(reads):
        x = float(number) if number < places else FAR + GAP * number
        pose = Transform(np.array([x, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
        record = ImageRecord(
            number, number, "front", "summer_day", "", pose @ gardens_point.BASE_FROM_CAMERA
        )
        posed.append(PosedImage(record, read))
    camera = gardens_point.camera_of(posed[0].load().shape)
    return gardens_point.without_intrinsics(
        ImageSource(posed, DatasetInfo("distractors", {"front": camera}), "distractors", len(posed))
    )


def _others() -> Iterator[Path]:
    for folder in OTHERS:
        for path in sorted((gardens_point.DATA.parent / folder).rglob("*")):
            if path.suffix in (".jpg", ".png"):
                yield path
