# SPDX-License-Identifier: Apache-2.0
"""A fine stage of its own: does it place images better than the coarse encoders do?

The coarse encoders learn on true pairs of a rendered town with an image per metre, negatives from
10 m on. Then each row trains them on, with the settings of ROWS: the control as before, the others
with negatives from 0.9 m on, soft targets, SAM. Judged on the town of seed 50, a map image per
metre: 50 candidates of the coarse encoders, re-ranked by the row's with the shift-tolerant matching
of run time.

`python -m benchmark.research.fine_stage [SEED ...]` trains and judges; runs lie in runs/fine and
are resumed or reused; all seeds: the section is written.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.networks import backbone, encoders_of, load_recipe, recipe_of
from benchmark.research.experiment import Experiment, main, settings_of
from benchmark.research.losses import RECIPE, WEIGHTS
from benchmark.research.offline_town import REFERENCE, Shares, Town, features
from disam_ros.models.similarity import coarse_descriptor, shifted_descriptors
from training.disam.config import TrainConfig
from training.disam.matching import fine_similarities
from training.engine.checkpoints import load_stage
from training.engine.loop import Loop
from training.engine.networks import State

RUNS = Path("runs/fine")
TOWN = RUNS / "towns" / "101"  # an image per metre
CONDITIONS = ("summer_day", "winter_snow", "night")
SEEDS = (0, 1, 2)
STEPS = {"coarse": 80, "fine": 40}
CANDIDATES = 50  # as at run time
JUDGED = "judged.json"  # of a finished run


@dataclass(frozen=True)
class Row:
    """A training of the coarse encoders."""

    losses: tuple[str, ...] = ("contrastive",)  # with λ of losses.WEIGHTS
    aligned: Mapping[str, Any] = field(default_factory=dict)  # settings of true pairs


COARSE = "coarse alone"
BOTH = "coarse encoders for both stages"
CONTROL = "fine: trained on as before"
NEAR = "fine: negatives from 0.9 m"
SOFT = "fine: + soft targets"
SAM = "fine: + SAM of the pair"
_NEAR = {"negative_radius": 0.9, "neighbourhood": 10.0, "jitter": 0.02}
_SOFT = {**_NEAR, "soft": 1.0}
ROWS = {
    CONTROL: Row(),
    NEAR: Row(aligned=_NEAR),
    SOFT: Row(aligned=_SOFT),
    SAM: Row(("contrastive", "aligned_sam"), _SOFT),
}

Candidates = dict[str, NDArray[Any]]  # map images of every query [Q, CANDIDATES] by condition


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS
) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures.

    rows: by name and seed the shares within each threshold by condition; bound: those of the
    nearest map image.
    """
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe)
    first = coarse_stage(judge, runs)
    coarse, _ = first.measure(seeds, finished)
    fine, _ = fine_stages(judge, first).measure(seeds, finished)
    rows = {
        name: {seed: figures[name] for seed, figures in coarse.get(COARSE, {}).items()}
        for name in (COARSE, BOTH)
    }
    rows |= fine
    return {
        **settings_of(recipe, seeds),
        "steps": STEPS,
        "map_images": len(judge.town.poses),
        "queries": len(judge.town.truth["night"]),
        "bound": judge.town.bound(),
        "rows": rows,
    }


def coarse_stage(judge: Judge, runs: Path = RUNS) -> Experiment[TrainConfig]:
    """The coarse encoders, from ImageNet weights; judged alone and for both stages."""

    def judged(row: str, seed: int, run: Loop[TrainConfig]) -> dict[str, Any]:
        encoders = load_stage(run.directory, "fine")
        candidates = judge.candidates(encoders)
        return {COARSE: judge.within(candidates, None), BOTH: judge.within(candidates, encoders)}

    return Experiment(
        name="coarse stage",
        root=runs,
        rows={COARSE: "coarse-{seed}"},
        overlay=lambda row, seed: stage_recipe(Row(), STEPS["coarse"]),
        judge=judged,
        kept=JUDGED,
    )


def fine_stages(judge: Judge, coarse: Experiment[TrainConfig]) -> Experiment[TrainConfig]:
    """The rows, from the coarse encoders of their seed, whose candidates they re-rank."""

    @cache
    def candidates(seed: int) -> Candidates:
        return judge.candidates(load_stage(coarse.folder(COARSE, seed), "fine"))

    def overlay(row: str, seed: int) -> TrainConfig:
        weights = coarse.folder(COARSE, seed) / "stages" / "fine.safetensors"
        return stage_recipe(ROWS[row], STEPS["fine"], weights)

    return Experiment(
        name="fine stage",
        root=coarse.root,
        rows={name: f"fine{number}-{{seed}}" for number, name in enumerate(ROWS)},
        overlay=overlay,
        judge=lambda row, seed, run: judge.within(
            candidates(seed), load_stage(run.directory, "fine")
        ),
        kept=JUDGED,
    )


def stage_recipe(row: Row, steps: int, initial: Path | None = None) -> TrainConfig:
    """The recipe of a row. initial: weights to start from; None: ImageNet's."""
    values: dict[str, Any] = load_recipe(RECIPE).to_json()
    (only,) = values["stages"]
    only |= {"steps": steps, "losses": {name: WEIGHTS[name] for name in row.losses}}
    values["aligned"] |= row.aligned
    values |= {
        "data": [str(TOWN)],
        "domains": list(CONDITIONS),
        "initial": str(initial or backbone(values["initial"])),
        "gradients_every": 0,
    }
    return recipe_of(values)


class Judge:
    """Coarse-to-fine retrieval in the validation town."""

    def __init__(self, recipe: TrainConfig) -> None:
        self._recipe = recipe
        self.town = Town.read(recipe.network.build().image_size, CONDITIONS)

    def candidates(self, encoders: State) -> Candidates:
        """Map images of every query, best first, also with the view shifted sideways, as at run
        time."""
        config = self._recipe.descriptor
        references = coarse_descriptor(
            self._features(encoders, REFERENCE, self.town.mapped), config
        )
        candidates = {}
        for condition, images in self.town.queries.items():
            views = self._features(encoders, condition, images)
            scores = torch.stack(
                [(shifted_descriptors(z[None], config) @ references.T).amax(0) for z in views]
            )
            candidates[condition] = scores.topk(min(CANDIDATES, len(references))).indices.numpy()
        return candidates

    def within(self, candidates: Candidates, encoders: State | None) -> dict[str, Shares]:
        """Shares within each threshold by condition. encoders: that re-rank; None: none do."""
        if encoders is None:
            return {c: self.town.within(c, chosen[:, 0]) for c, chosen in candidates.items()}
        mapped, shares = self._features(encoders, REFERENCE, self.town.mapped), {}
        for condition, chosen in candidates.items():
            views = self._features(encoders, condition, self.town.queries[condition])
            scores = fine_similarities(views, mapped, self._recipe.descriptor).numpy()
            best = np.take_along_axis(scores, chosen, 1).argmax(1)
            shares[condition] = self.town.within(condition, chosen[np.arange(len(best)), best])
        return shares

    def _features(self, encoders: State, domain: str, images: Tensor) -> Tensor:
        return features(encoders_of(self._recipe, encoders)[domain], images)


if __name__ == "__main__":
    sys.exit(main("fine_stage"))
