# SPDX-License-Identifier: Apache-2.0
"""A new condition without poses: does the paper's translation teach it better than simpler means?

On photographs. Each camera of data/dnim/train has images by day, which the frozen encoder of
summer_day knows; its images by night teach the ceiling alone as what they are, views of the same
camera. In the other arms the night's encoder learns from the images by day, restyled as night
(config/train_new_condition.yaml); colour transfer and translation saw the nights of all cameras, in
no order. A translation is trained for each seed (config/train_translation.yaml: the paper's
networks). Judged as webcam_encoders.py does, on photographs of cameras and streets that taught
nothing.

`python -m benchmark.research.new_condition [SEED ...]` trains and judges, an hour and a half a
seed; all seeds: the section is written. Runs lie in runs/new_condition and are resumed or reused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.networks import load_recipe, recipe_of
from benchmark.research import webcam_encoders
from benchmark.research.experiment import SHARE, Experiment, main, recalls, settings_of
from benchmark.research.restyled import (
    ColourTransfer,
    OneOf,
    Restyle,
    Translation,
    photometrically,
)
from benchmark.research.webcam_encoders import DAY, NIGHT, SHIFT, Judge, watched
from disam_ros import image
from disam_ros.errors import DatasetError
from disam_ros.files.writing import part_of
from training.data.sources import day_or_night
from training.disam.config import TrainConfig
from training.engine.loop import Loop

RECIPE = Path("config/train_new_condition.yaml")
TRANSLATION = Path("config/train_translation.yaml")
RUNS = Path("runs/new_condition")
PICTURE = Path("docs/images/new_condition.png")
DATA = Path("data")
SEEDS = (0, 1, 2)
IMAGES = 10  # of a camera by day, and as many by night
STYLES = 4  # restyled copies of an image, of which a step draws one

PHOTOMETRIC = "photometric"
COLOUR = "colour transfer"
TRANSLATED = "translated"
BOTH = "colour transfer and translated"
TRUE = "true pairs"
ARMS = (PHOTOMETRIC, COLOUR, TRANSLATED, BOTH, TRUE)


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS, data: Path = DATA
) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures.

    rows: by arm and seed the recall "trained" and "averaged" [%] by column, "seconds" and the
    "curve" of tiles by step. start: recall of the ImageNet weights. queries: number by column.
    translation: its steps and, by seed, seconds. Raises DatasetError without the data.
    """
    recipe = arm_recipe([], data)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe, data)
    translators, _ = translations(runs, data).measure(seeds, finished)
    rows, _ = arms(judge, runs, data).measure(seeds, finished)
    return {
        **settings_of(recipe, seeds),
        "share": SHARE,
        "shift": SHIFT,
        "images": IMAGES,
        "styles": STYLES,
        "cameras": len(cameras(data)),
        "queries": judge.queries,
        "translation": {
            "steps": load_recipe(TRANSLATION).stages[0].steps,
            "seconds": {seed: run["seconds"] for seed, run in translators[TRANSLATED].items()},
        },
        "start": judge.recall(judge.start),
        "rows": rows,
    }


def arm_recipe(images: list[str], data: Path = DATA) -> TrainConfig:
    """The recipe that teaches the night from images. data: to judge it by."""
    recipe = watched(RECIPE, data)
    recipe.data = images
    return recipe


def arms(judge: Judge, runs: Path = RUNS, data: Path = DATA) -> Experiment[TrainConfig]:
    """The trainings of all arms, whose images are written where they are missing."""
    return Experiment(
        name="a new condition",
        root=runs,
        rows={arm: f"{arm.replace(' ', '_')}-{{seed}}" for arm in ARMS},
        overlay=lambda arm, seed: arm_recipe([f"webcams:{views(arm, seed, runs, data)}"], data),
        judge=lambda arm, seed, run: recalls(run, judge.start, judge.recall),
    )


def views(arm: str, seed: int, runs: Path, data: Path) -> Path:
    """A folder per camera with its images by day and those that serve as the night's."""
    folder = runs / "views" / f"{arm.replace(' ', '_')}-{seed}"
    if folder.exists():
        return folder
    chosen, random = cameras(data), np.random.default_rng(seed)
    styles = [path for _, nights in chosen.values() for path in nights]
    restyle = None if arm == TRUE else restyling(arm, seed, styles, runs, data)
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    for camera, (days, nights) in chosen.items():
        by_day, by_night = (part / camera / domain for domain in (DAY, NIGHT))
        pictures = [image.read(path) for path in days]
        _write(by_day, pictures)
        if restyle is None:
            _write(by_night, [image.read(path) for path in nights])
        else:
            _write(by_night, [restyle(picture, random) for picture in pictures * STYLES])
    part.rename(folder)
    return folder


def _write(folder: Path, pictures: Sequence[NDArray[Any]]) -> None:
    folder.mkdir(parents=True)
    for k, picture in enumerate(pictures):
        (folder / f"{k:02}.jpg").write_bytes(image.encode_jpeg(picture))


def restyling(arm: str, seed: int, styles: Sequence[Path], runs: Path, data: Path) -> Restyle:
    """Returns what an arm does to an image by day. styles: images by night."""
    ways: dict[str, Restyle] = {}
    if arm == PHOTOMETRIC:
        ways[arm] = photometrically
    if arm in (COLOUR, BOTH):
        ways[COLOUR] = ColourTransfer(styles)
    if arm in (TRANSLATED, BOTH):
        study = translations(runs, data)
        study.figures(TRANSLATED, seed)
        ways[TRANSLATED] = Translation(study.config(TRANSLATED, seed), DAY, NIGHT)
    return OneOf(list(ways.values()))


def translations(runs: Path = RUNS, data: Path = DATA) -> Experiment[TrainConfig]:
    """The trainings of the translation, from the nights and days of all cameras in no order."""

    def overlay(row: str, seed: int) -> TrainConfig:
        values = load_recipe(TRANSLATION).to_json()
        return recipe_of(values | {"data": [f"webcams:{data / 'dnim' / 'train'}"]})

    def spent(row: str, seed: int, run: Loop[TrainConfig]) -> dict[str, Any]:
        return {"seconds": run.progress.seconds}

    rows = {TRANSLATED: "translation-{seed}"}
    return Experiment("translation", runs, rows, overlay, spent, "training.json")


def cameras(data: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """By camera IMAGES images by day and as many by night, evenly chosen; cameras that have fewer
    of either are left out. Raises DatasetError where none is left."""
    folder, names = data / "dnim" / "train", {}
    for camera in sorted(path for path in folder.glob("*") if path.is_dir()):
        paths = sorted(camera.glob("*.jpg"))
        light = np.array(day_or_night([image.read(path) for path in paths]) if paths else [])
        chosen = [np.flatnonzero(light == name) for name in ("day", "night")]
        if min(map(len, chosen)) >= IMAGES:
            days, nights = (
                [paths[rows[k]] for k in np.linspace(0, len(rows) - 1, IMAGES).round().astype(int)]
                for rows in chosen
            )
            names[camera.name] = days, nights
    if not names:
        raise DatasetError(f"{folder}: no camera with {IMAGES} images by day and by night")
    return names


def draw(results: dict[str, Any], path: Path = PICTURE) -> None:
    """Recall of the trained weights on tiles against steps."""
    webcam_encoders.draw(results, path)


if __name__ == "__main__":
    sys.exit(main("new_condition"))
