# SPDX-License-Identifier: Apache-2.0
"""Night on webcams without true pairs: the arms of new_condition.py on real photographs.

Cameras of data/dnim/train teach. Each has images by day, which the reference's frozen encoder
knows; its images by night are used by the ceiling alone as what they are, views of the same camera.
The other arms restyle those by day; the translation and the colour transfer saw the nights of all
cameras, in no order. Judged on the two cameras of data/dnim/test, tiles of the night moved by a
quarter of a tile, by the shift-tolerant matching of run time.

`python -m benchmark.research.new_condition_webcams [SEED ...]` trains and judges; all seeds: the
section is written. Runs lie in runs/new_condition_webcams and are resumed or reused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.research.experiment import SHARE, Experiment, main, settings_of
from benchmark.research.new_condition import SEEDS, Judge, recipe_for
from benchmark.research.restyled import (
    REFERENCE,
    TRANSLATED,
    TRUE,
    restyling,
    translations,
)
from disam_ros import image
from disam_ros.errors import DatasetError
from disam_ros.files.writing import part_of
from training.data.sources import day_or_night
from training.disam.config import TrainConfig
from training.engine.validate import ValidationSet, load_validation
from training.settings import ValidationConfig

RUNS = Path("runs/new_condition_webcams")
DATA = Path("data/dnim")  # of train/ and test/, a folder of images per camera
NIGHT = "night"
IMAGES = 10  # of a camera by day, and as many by night
STEPS = 400  # of the translation
SHIFT = 0.25  # of the tiles that are judged
JUDGED = 8  # images of a camera and light that are judged, 16 tiles each


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS, data: Path = DATA
) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures as new_condition.measure."""
    recipe = recipe_for(NIGHT)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe, NIGHT, partial(night_tiles, data=data))
    results = judge.figures(arms(judge, runs, data), seeds, finished)
    return {
        **settings_of(recipe, seeds),
        "share": SHARE,
        "images": IMAGES,
        "cameras": len(cameras(data)),
        "queries": len(judge.validation.images[NIGHT]),
        "shift": SHIFT,
        "translation": webcam_translation(runs, data).read(TRANSLATED, 0),
        **results,
    }


def arms(judge: Judge, runs: Path = RUNS, data: Path = DATA) -> Experiment[TrainConfig]:
    """The trainings, whose images are written where they are missing."""
    return judge.arms("webcams", runs, lambda arm: [f"webcams:{views(arm, runs, data)}"])


def views(arm: str, runs: Path, data: Path) -> Path:
    """A folder per camera with its images by day and those that serve as the night's."""
    folder = runs / "views" / arm.replace(" ", "_")
    if folder.exists():
        return folder
    chosen, random = cameras(data), np.random.default_rng(0)
    styles = (path for _, nights in chosen.values() for path in nights)
    study = webcam_translation(runs, data)
    restyle = None if arm == TRUE else restyling(arm, styles, study, NIGHT)
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    for camera, (days, nights) in chosen.items():
        for domain, paths in ((REFERENCE, days), (NIGHT, nights if arm == TRUE else days)):
            target = part / camera / domain
            target.mkdir(parents=True)
            for k, path in enumerate(paths):
                picture = image.read(path)
                if domain == NIGHT and restyle is not None:
                    picture = restyle(picture, random)
                (target / f"{k:02}.jpg").write_bytes(image.encode_jpeg(picture))
    part.rename(folder)
    return folder


def webcam_translation(runs: Path, data: Path) -> Experiment[TrainConfig]:
    """The translation that the days and nights of all cameras teach, in no order."""

    def values() -> dict[str, Any]:
        domains = [REFERENCE, NIGHT]
        return {
            "data": [f"webcams:{views(TRUE, runs, data)}"],
            "domains": domains,
            "frozen": domains,
        }

    return translations(runs, values, STEPS)


def cameras(data: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """By camera IMAGES images by day and as many by night, evenly chosen; cameras that have fewer
    of either are left out. Raises DatasetError where none is left."""
    names = {}
    for folder in sorted(path for path in (data / "train").glob("*") if path.is_dir()):
        paths = sorted(folder.glob("*.jpg"))
        light = np.array(day_or_night([image.read(path) for path in paths]) if paths else [])
        chosen = [np.flatnonzero(light == name) for name in ("day", "night")]
        if min(map(len, chosen)) >= IMAGES:
            days, nights = (
                [paths[rows[k]] for k in np.linspace(0, len(rows) - 1, IMAGES).round().astype(int)]
                for rows in chosen
            )
            names[folder.name] = days, nights
    if not names:
        raise DatasetError(f"{data}/train: no camera with {IMAGES} images by day and by night")
    return names


def night_tiles(recipe: TrainConfig, data: Path) -> ValidationSet:
    """Tiles by night of cameras that taught nothing, and their tiles by day as the map."""
    chosen = ValidationConfig(
        data=[f"webcams:{data / 'test'}"],
        reference=REFERENCE,
        shift=SHIFT,
        webcam_images=JUDGED,
    )
    light = {"day": [REFERENCE], "night": [NIGHT]}
    size = recipe.network.build().image_size
    return load_validation(chosen, size, recipe.crops, [REFERENCE, NIGHT], light)


if __name__ == "__main__":
    sys.exit(main("new_condition_webcams"))
