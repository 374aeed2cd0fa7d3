# SPDX-License-Identifier: Apache-2.0
"""A new condition without poses: does the paper's translation teach it better than simpler means?

The map's condition is summer_day, whose encoder keeps its ImageNet weights; there are drives of the
new condition, but nobody knows where their images were taken. So its encoder learns from summer's
images restyled as the new condition, which should have the map's features of their place
(config/train_new_condition.yaml). Arms: what restyles them. Ceiling: true pairs, as if poses were
known. The translation is learned by config/train_translation.yaml from the same images.

`python -m benchmark.research.new_condition [SEED ...]` trains and judges; runs lie in
runs/new_condition and are resumed or reused; all seeds: the section is written. Judged on the town
of seed 50, by the shift-tolerant matching of run time; webcams by night: new_condition_webcams.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.networks import backbone, encoders_of, load_recipe, pretrained, recipe_of
from benchmark.research.experiment import SHARE, Experiment, main, recalls, settings_of
from benchmark.research.offline_town import features
from benchmark.research.restyled import (
    ARMS,
    REFERENCE,
    TRANSLATED,
    TRUE,
    restyling,
    translations,
    write_restyled,
)
from disam_ros.datasets.dataset import Dataset
from training.data.places import same_place
from training.disam.config import TrainConfig
from training.disam.matching import fine_similarities
from training.engine.networks import State
from training.engine.validate import SAME_TILE, ValidationSet, load_validation
from training.settings import ValidationConfig

RECIPE = Path("config/train_new_condition.yaml")
RUNS = Path("runs/new_condition")
DATA = Path("runs")  # of the rendered towns/ and validation/
TOWNS = ("101", "102")
CONDITIONS = ("night", "winter_snow")
SEEDS = (0, 1, 2)


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS, data: Path = DATA
) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures.

    conditions: recall@1 [%] of the "start" and, by arm and seed, "trained", "averaged" and
    "seconds". translation: its steps and seconds.
    """
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    results = {}
    for condition in CONDITIONS:
        judge = Judge(recipe_for(condition), condition, partial(town_queries, data=data))
        study = arms(judge, condition, runs, data)
        results[condition] = judge.figures(study, seeds, finished)
    return {
        **settings_of(recipe, seeds),
        "share": SHARE,
        "translation": town_translation(runs, data).read(TRANSLATED, 0),
        "conditions": results,
    }


def recipe_for(condition: str, **changes: Any) -> TrainConfig:
    """The recipe that teaches a condition."""
    values = load_recipe(RECIPE).to_json()
    domains = [REFERENCE, condition]
    values |= {"domains": domains, "initial": str(backbone(values["initial"])), **changes}
    return recipe_of(values)


def arms(
    judge: Judge, condition: str, runs: Path = RUNS, data: Path = DATA
) -> Experiment[TrainConfig]:
    """The trainings of a condition."""
    of_arm = partial(drives, condition=condition, runs=runs, data=data)
    return judge.arms(condition, runs, of_arm, f"-{condition}")


def drives(arm: str, condition: str, runs: Path, data: Path) -> list[str]:
    """Entries of the data that teach a condition, whose drives are written where they are
    missing."""
    pairs = zip(TOWNS, restyled_drives(arm, condition, runs, data), strict=True)
    return [f"{data / 'towns' / town / REFERENCE} + {drive}" for town, drive in pairs]


def restyled_drives(arm: str, condition: str, runs: Path, data: Path) -> list[Path]:
    """Drives with poses that serve as the condition's, one for each town."""
    if arm == TRUE:
        return [data / "towns" / town / condition for town in TOWNS]
    drives = [runs / "drives" / arm.replace(" ", "_") / condition / town for town in TOWNS]
    if not all(drive.exists() for drive in drives):
        unposed = [Dataset(data / "towns" / town / condition) for town in TOWNS]
        styles = (drive.path(record) for drive in unposed for record in drive.records)
        restyle = restyling(arm, styles, town_translation(runs, data), condition)
        for seed, (town, drive) in enumerate(zip(TOWNS, drives, strict=True)):
            drive.parent.mkdir(parents=True, exist_ok=True)
            write_restyled(data / "towns" / town / REFERENCE, drive, condition, restyle, seed)
    return drives


def town_translation(runs: Path, data: Path) -> Experiment[TrainConfig]:
    """The translation that the towns teach."""
    return translations(runs, lambda: {"data": [str(data / "towns" / town) for town in TOWNS]})


def town_queries(recipe: TrainConfig, data: Path) -> ValidationSet:
    """The town of seed 50: all its map images, and the condition's queries."""
    chosen = ValidationConfig(data=[str(data / "validation")], reference=REFERENCE, images=1000)
    size = recipe.network.build().image_size
    return load_validation(chosen, size, recipe.crops, recipe.domains)


class Judge:
    """Recall of a condition's queries in the map of the reference, by the weights of both encoders.

    read: the validation data for a recipe, read once.
    """

    def __init__(
        self, recipe: TrainConfig, condition: str, read: Callable[[TrainConfig], ValidationSet]
    ) -> None:
        self._recipe, self._condition, self._read = recipe, condition, read

    @cached_property
    def start(self) -> State:
        """The encoders that every arm starts from."""
        return pretrained(self._recipe)

    @cached_property
    def validation(self) -> ValidationSet:
        return self._read(self._recipe)

    @cached_property
    def _mapped(self) -> Tensor:
        """Features of the map's images by the frozen encoder."""
        encoder = encoders_of(self._recipe, self.start)[REFERENCE]
        return features(encoder, self.validation.images[REFERENCE])

    def arms(
        self, name: str, root: Path, data: Callable[[str], list[str]], suffix: str = ""
    ) -> Experiment[TrainConfig]:
        """The trainings of all arms. data: an arm's; suffix: of the run directories' names."""
        return Experiment(
            name=name,
            root=root,
            rows={arm: f"{arm.replace(' ', '_')}{suffix}-{{seed}}" for arm in ARMS},
            overlay=lambda arm, seed: recipe_for(self._condition, data=data(arm)),
            judge=lambda arm, seed, run: recalls(run, self.start, self.recall),
        )

    def figures(
        self, study: Experiment[TrainConfig], seeds: Sequence[int], finished: bool
    ) -> dict[str, Any]:
        """Recall of the start and of all arms."""
        rows, _ = study.measure(seeds, finished)
        return {"start": self.recall(self.start), "rows": rows}

    def recall(self, state: State) -> float:
        """Recall@1 [%] within 5 m and 10°."""
        validation, condition = self.validation, self._condition
        encoder = encoders_of(self._recipe, state)[condition]
        queries = features(encoder, validation.images[condition])
        best = fine_similarities(queries, self._mapped, self._recipe.descriptor).argmax(1)
        places = validation.places[condition], validation.places[REFERENCE][best.numpy()]
        right = same_place(*places, validation.radius, validation.angle, SAME_TILE).diagonal()
        return 100.0 * float(right.mean())


if __name__ == "__main__":
    sys.exit(main("new_condition"))
