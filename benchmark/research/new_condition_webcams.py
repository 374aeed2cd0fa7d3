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

import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.networks import load_recipe, recipe_of
from benchmark.research.learning import SHARE, seeds_parser, train_section
from benchmark.research.losses import backbone
from benchmark.research.new_condition import (
    ARMS,
    COLOUR,
    PHOTOMETRIC,
    RECIPE,
    REFERENCE,
    SEEDS,
    TRANSLATED,
    TRANSLATION,
    TRUE,
    Judge,
    judged,
)
from benchmark.research.restyled import ColourTransfer, Restyle, Translation, photometrically
from disam_ros import image
from disam_ros.errors import DatasetError
from disam_ros.files.writing import part_of, write_json
from training.data.sources import day_or_night
from training.disam.config import TrainConfig
from training.disam.run import Training
from training.engine.validate import ValidationSet, load_validation
from training.settings import ValidationConfig

RUNS = Path("runs/new_condition_webcams")
DATA = Path("data/dnim")  # of train/ and test/, a folder of images per camera
NIGHT = "night"
IMAGES = 10  # of a camera by day, and as many by night
STEPS = 400  # of the translation
SHIFT = 0.25  # of the tiles that are judged
JUDGED = 8  # images of a camera and light that are judged, 16 tiles each


def measure(runs: Path = RUNS, data: Path = DATA, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures as new_condition.measure."""
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    config_of = partial(arm_config, runs=runs, data=data)
    judge = WebcamJudge(NIGHT, data)
    results = judged("webcams", judge, config_of, seeds, ARMS)
    return {
        "steps": recipe.stages[0].steps,
        "batch": recipe.stages[0].aligned_batch,
        "size": recipe.network.image_size,
        "seeds": list(seeds),
        "share": SHARE,
        "images": IMAGES,
        "cameras": len(cameras(data)),
        "queries": judge.queries(),
        "shift": SHIFT,
        "translation": translation(runs, data)[1],
        **results,
    }


def arm_config(arm: str, seed: int, runs: Path = RUNS, data: Path = DATA) -> TrainConfig:
    """The recipe of an arm, whose images are written where they are missing."""
    values = load_recipe(RECIPE).to_json()
    values |= {
        "seed": seed,
        "domains": [REFERENCE, NIGHT],
        "data": [f"webcams:{views(arm, runs, data)}"],
        "initial": str(backbone(values["initial"])),
        "output": str(runs / f"{arm.replace(' ', '_')}-{seed}"),
    }
    return recipe_of(values)


def views(arm: str, runs: Path, data: Path) -> Path:
    """A folder per camera with its images by day and those that serve as the night's."""
    folder = runs / "views" / arm.replace(" ", "_")
    if folder.exists():
        return folder
    restyle, random = restyling(arm, runs, data), np.random.default_rng(0)
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    for camera, (days, nights) in cameras(data).items():
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


def restyling(arm: str, runs: Path, data: Path) -> Restyle | None:
    """What an arm does to an image by day; None: nothing."""
    if arm == TRUE:
        return None
    if arm == PHOTOMETRIC:
        return photometrically
    if arm == COLOUR:
        return ColourTransfer(path for _, nights in cameras(data).values() for path in nights)
    assert arm == TRANSLATED
    config, _ = translation(runs, data)
    return Translation(config, Path(config.output), REFERENCE, NIGHT)


def translation(runs: Path, data: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The translation's recipe, trained where it is not, and its steps and seconds."""
    values = load_recipe(TRANSLATION).to_json()
    (stage,) = values["stages"]
    values |= {
        "data": [f"webcams:{views(TRUE, runs, data)}"],
        "domains": [REFERENCE, NIGHT],
        "frozen": [REFERENCE, NIGHT],
        "initial": str(backbone(values["initial"])),
        "stages": [stage | {"steps": STEPS}],
        "output": str(runs / "translation"),
    }
    config = recipe_of(values)
    kept = Path(config.output) / "training.json"
    if not kept.exists():
        run = Training(config, resume=True)
        run.run()
        write_json(kept, {"steps": STEPS, "seconds": run.progress.seconds})
    return config, json.loads(kept.read_text())


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


class WebcamJudge(Judge):
    """Recall of night tiles in a map of day tiles of cameras that taught nothing."""

    def queries(self) -> int:
        """How many there are."""
        return len(self._set().images[NIGHT])

    def _set(self) -> ValidationSet:
        return self._read() if self._validation is None else self._validation

    def _read(self) -> ValidationSet:
        recipe = self._recipe
        chosen = ValidationConfig(
            data=[f"webcams:{self._data / 'test'}"],
            reference=REFERENCE,
            shift=SHIFT,
            webcam_images=JUDGED,
        )
        light = {"day": [REFERENCE], "night": [NIGHT]}
        size = recipe.network.build().image_size
        return load_validation(chosen, size, recipe.crops, [REFERENCE, NIGHT], light)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge; with all seeds write the section."""
    arguments = seeds_parser("new_condition_webcams", __doc__).parse_args(argv)
    seeds, whole = arguments.seeds, arguments.write or not arguments.seeds
    return train_section(
        "new_condition_webcams", lambda: measure(seeds=seeds or SEEDS), whole=whole
    )


if __name__ == "__main__":
    sys.exit(main())
