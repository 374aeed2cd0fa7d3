# SPDX-License-Identifier: Apache-2.0
"""The paper's losses on true pairs, from ImageNet weights: does each add to the contrastive one?

`python -m benchmark.research.losses [SEED ...]` trains config/train_losses.yaml with each row's
losses and every seed, about 50 minutes on one core, and writes the section. Runs lie in runs/losses
and are resumed or reused. Judged on the validation data of docs/research/shipped_model.md by the
shift-tolerant matching of run time: the weights at the end, and their average with the start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmark.networks import backbone, encoders_of, load_recipe, pretrained, recipe_of
from benchmark.research.experiment import (
    SHARE,
    Experiment,
    main,
    recalls,
    settings_of,
)
from training.disam.config import TrainConfig
from training.disam.matching import similarity_of
from training.engine.networks import State
from training.engine.validate import ValidationSet, load_validation, recall
from training.settings import ValidationConfig

RECIPE = Path("config/train_losses.yaml")
RUNS = Path("runs/losses")
DATA = Path("runs")  # of the rendered towns/ and validation/
SEEDS = (0, 1, 2)
STAGE = "fine"


# λ, chosen before any row was trained: each loss begins with a fifth to a half of the gradient of
# the contrastive one, so that none is drowned and none drowns the others.
WEIGHTS = {
    "contrastive": 1.0,
    "aligned_fcl": 1.0,
    "aligned_triplet": 5.0,
    "aligned_sam": 0.2,
    "aligned_triplet_sam": 0.2,
}


@dataclass(frozen=True)
class Row:
    """A training."""

    losses: tuple[str, ...]  # with λ of WEIGHTS
    below: str = ""  # the row it adds to
    adaptive: bool = True  # margin
    sharing: str = "none"  # what encoders have in common


CONTRASTIVE = "contrastive"
FCL = "+ FCL"
CONSTANT = "+ triplet, constant margin"
ADAPTIVE = "+ triplet, adaptive margin"
SAM = "+ SAM of the pair"
TRIPLET_SAM = "+ triplet SAM, mutual maps"
ADAPTED = "contrastive, shared trunk with adapters"
ONE = "contrastive, one encoder for all"
_FCL = ("contrastive", "aligned_fcl")
_TRIPLET = (*_FCL, "aligned_triplet")
ROWS = {
    CONTRASTIVE: Row(("contrastive",)),
    FCL: Row(_FCL, CONTRASTIVE),
    CONSTANT: Row(_TRIPLET, FCL, adaptive=False),
    ADAPTIVE: Row(_TRIPLET, FCL),
    SAM: Row((*_TRIPLET, "aligned_sam"), ADAPTIVE),
    TRIPLET_SAM: Row((*_TRIPLET, "aligned_sam", "aligned_triplet_sam"), SAM),
    ADAPTED: Row(("contrastive",), CONTRASTIVE, sharing="trunk"),
    ONE: Row(("contrastive",), CONTRASTIVE, sharing="all"),
}


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS, data: Path = DATA
) -> dict[str, Any]:
    """Train what is missing and judge every row. Returns JSON-able figures.

    rows: by name and seed the recall "trained" and "averaged" [%], "terms" of the losses and
    "seconds". start: recall of the ImageNet weights.
    """
    recipe = row_recipe(CONTRASTIVE, data)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe, data)
    study = experiment("losses", ROWS, row_recipe, judge, runs, data)
    rows, _ = study.measure(seeds, finished)
    return {
        **settings_of(recipe, seeds),
        "share": SHARE,
        "start": judge.recall(judge.start),
        "rows": rows,
    }


def experiment(
    name: str,
    rows: Iterable[str],
    recipe: Callable[[str, Path], TrainConfig],
    judge: Judge,
    runs: Path,
    data: Path,
) -> Experiment[TrainConfig]:
    """The trainings of all rows, by a row's recipe on the data."""
    return Experiment(
        name=name,
        root=runs,
        rows={row: f"{number}-{{seed}}" for number, row in enumerate(rows)},
        overlay=lambda row, _: recipe(row, data),
        judge=lambda row, seed, run: recalls(run, judge.start, judge.recall),
    )


def row_recipe(name: str, data: Path = DATA) -> TrainConfig:
    """The recipe with a row's losses, margin and sharing, and where the data lie."""
    row = ROWS[name]
    values: dict[str, Any] = load_recipe(RECIPE).to_json()
    (stage,) = values["stages"]
    values["network"]["sharing"] = row.sharing
    stage |= {"losses": {name: WEIGHTS[name] for name in row.losses}, "adaptive": row.adaptive}
    values |= {
        "data": [_below(entry, data) for entry in values["data"]],
        "initial": str(backbone(values["initial"])),
    }
    return recipe_of(values)


def _below(entry: str, data: Path) -> str:
    return str(data / entry.removeprefix("runs/")) if entry.startswith("runs/") else entry


class Judge:
    """Recall of weights on the validation data of the shipped model."""

    def __init__(self, recipe: TrainConfig, data: Path = DATA) -> None:
        self.start = pretrained(recipe)  # the encoders that every row starts from
        self._recipe, self._data = recipe, data

    def recall(self, state: State) -> dict[str, float]:
        """Recall@1 [%] by domain and kind of views, and their mean."""
        encoders = encoders_of(self._recipe, state)
        similarity = similarity_of(STAGE, self._recipe.descriptor)
        return recall(encoders, similarity, self._validation, torch.device("cpu"))

    @cached_property
    def _validation(self) -> ValidationSet:
        recipe = self._recipe
        chosen = ValidationConfig(
            data=[str(self._data / "validation"), "webcams:data/dnim/test"],
            reference="summer_day",
            shift=0.25,
            images=150,
        )
        light = {"day": recipe.webcam_day, "night": recipe.webcam_night}
        size = recipe.network.build().image_size
        return load_validation(chosen, size, recipe.crops, recipe.domains, light)


if __name__ == "__main__":
    sys.exit(main("losses"))
