# SPDX-License-Identifier: Apache-2.0
"""One encoder per domain, adapters on one trunk, or one for all: trained on webcams alone.

`python -m benchmark.research.webcam_encoders [SEED ...]` trains config/train_webcam_encoders.yaml
on the photographs of data/tilde and data/dnim/train, two minutes a run; all seeds: the section is
written. Runs lie in runs/webcam_encoders and are resumed or reused. Judged by the shift-tolerant
matching of run time, at the last step: on the two cameras of data/dnim/test, whose recall against
steps is drawn, and once on Gardens Point by night.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmark.accuracy import gardens_point
from benchmark.networks import backbone, encoders_of, load_recipe, pretrained, recipe_of
from benchmark.research.curves import draw_curves, line_of
from benchmark.research.experiment import SHARE, Experiment, main, recalls, settings_of
from training.disam.config import TrainConfig
from training.disam.matching import similarity_of
from training.engine.networks import State
from training.engine.validate import ValidationSet, load_validation, query_counts, recall
from training.settings import ValidationConfig

RECIPE = Path("config/train_webcam_encoders.yaml")
RUNS = Path("runs/webcam_encoders")
PICTURE = Path("docs/images/webcam_encoders.png")
DATA = Path("data")
SEEDS = (0, 1, 2, 3, 4)
DAY, NIGHT = "summer_day", "night"
EACH = "contrastive"
ADAPTED = "contrastive, shared trunk with adapters"
ONE = "contrastive, one encoder for all"
SHARING = {EACH: "none", ADAPTED: "trunk", ONE: "all"}  # by row, what encoders have in common
EVERY = 20  # steps from one point of a curve to the next
TILES = "night tiles"  # of DNIM's test cameras
DRIVES = {f"{day} → night_right": day for day in ("day_left", "day_right")}  # of Gardens Point
SHIFT = 0.25  # of the tiles that are judged


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS, data: Path = DATA
) -> dict[str, Any]:
    """Train what is missing and judge every row. Returns JSON-able figures.

    rows: by name and seed the recall "trained" and "averaged" [%] by column, and the "curve" of
    tiles by step. start: recall of the ImageNet weights. queries: number by column. Raises
    DatasetError without the data.
    """
    recipe = row_recipe(EACH, data)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe, data)
    study = Experiment(
        name="webcam encoders",
        root=runs,
        rows={row: f"{number}-{{seed}}" for number, row in enumerate(SHARING)},
        overlay=lambda row, seed: row_recipe(row, data),
        judge=lambda row, seed, run: recalls(run, judge.start, judge.recall),
    )
    rows, _ = study.measure(seeds, finished)
    return {
        **settings_of(recipe, seeds),
        "share": SHARE,
        "shift": SHIFT,
        "queries": judge.queries,
        "start": judge.recall(judge.start),
        "rows": rows,
    }


def draw(results: dict[str, Any], path: Path = PICTURE) -> None:
    """Recall of the trained weights on tiles against steps."""
    lines = {
        row: line_of({seed: figures["curve"] for seed, figures in by_seed.items()}, float)
        for row, by_seed in results["rows"].items()
    }
    draw_curves(path, {TILES: lines}, "recall@1 (%)")


def row_recipe(row: str, data: Path = DATA) -> TrainConfig:
    """The recipe with what the encoders of a row share, and where the data lie."""
    recipe = watched(RECIPE, data)
    recipe.network.sharing = SHARING[row]
    return recipe


def watched(path: Path, data: Path) -> TrainConfig:
    """Returns a recipe with its data in a folder, judged on tiles every few steps."""
    values: dict[str, Any] = load_recipe(path).to_json()
    values["data"] = [entry.replace(str(DATA), str(data)) for entry in values["data"]]
    values["initial"] = str(backbone(values["initial"]))
    recipe = recipe_of(values)
    recipe.webcam_day, recipe.webcam_night = [DAY], [NIGHT]  # of the tiles
    recipe.validation, recipe.validate_every = tiles(data), EVERY
    return recipe


def tiles(data: Path) -> ValidationConfig:
    """Returns the choice of DNIM's test cameras, cut into tiles."""
    return ValidationConfig(data=[f"webcams:{data / 'dnim' / 'test'}"], reference=DAY, shift=SHIFT)


class Judge:
    """Recall of weights on photographs of cameras and streets that taught nothing."""

    def __init__(self, recipe: TrainConfig, data: Path = DATA) -> None:
        self.start = pretrained(recipe)  # the encoders that every row starts from
        self._recipe, self._data = recipe, data

    @property
    def queries(self) -> dict[str, int]:
        """Number of queries by column."""
        return {name: query_counts(images)[NIGHT] for name, images in self._validations.items()}

    def recall(self, state: State) -> dict[str, float]:
        """Recall@1 [%] by column."""
        encoders = encoders_of(self._recipe, state)
        similarity = similarity_of(self._recipe.stages[0].name, self._recipe.descriptor)
        return {
            name: recall(encoders, similarity, images, torch.device("cpu"))[NIGHT]
            for name, images in self._validations.items()
        }

    @cached_property
    def _validations(self) -> dict[str, ValidationSet]:
        results = {TILES: self._load(tiles(self._data))}
        for name, day in DRIVES.items():
            with tempfile.TemporaryDirectory() as scratch:
                folders = {
                    domain: self._data / "gardens_point" / drive
                    for domain, drive in ((DAY, day), (NIGHT, "night_right"))
                }
                for domain, folder in folders.items():
                    gardens_point.aligned_dataset(folder, Path(scratch) / domain, domain)
                walk = ValidationConfig(
                    data=[scratch], reference=DAY, radius=gardens_point.TOLERANCE + 0.5
                )
                results[name] = self._load(walk)
        return results

    def _load(self, chosen: ValidationConfig) -> ValidationSet:
        recipe, light = self._recipe, {"day": [DAY], "night": [NIGHT]}
        size = recipe.network.build().image_size
        return load_validation(chosen, size, recipe.crops, recipe.domains, light)


if __name__ == "__main__":
    sys.exit(main("webcam_encoders"))
