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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.networks import in_layout, load_recipe, recipe_of
from benchmark.research.companions import claimed
from benchmark.research.learning import seeds_parser, train_section
from benchmark.research.losses import RECIPE, WEIGHTS, backbone
from benchmark.research.offline_town import REFERENCE, Town, features
from disam_ros.models.descriptor import coarse_descriptor, shifted_descriptors
from training.disam.config import TrainConfig
from training.disam.matching import fine_similarities
from training.disam.networks import create_networks
from training.disam.run import Training
from training.engine.checkpoints import load_stage
from training.engine.networks import State

RUNS = Path("runs/fine")
TOWN = RUNS / "towns" / "101"  # an image per metre
CONDITIONS = ("summer_day", "winter_snow", "night")
SEEDS = (0, 1, 2)
STEPS = {"coarse": 80, "fine": 40}
CANDIDATES = 50  # as at run time


@dataclass(frozen=True)
class Row:
    """What trains the coarse encoders on: losses, with λ of losses.WEIGHTS, and settings of true
    pairs."""

    losses: tuple[str, ...] = ("contrastive",)
    aligned: Mapping[str, Any] = field(default_factory=dict)


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


def measure(seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures.

    rows: by name and seed the shares within each threshold by condition; bound: those of the
    nearest map image. claims: what a row gains over the coarse encoders alone and for both stages,
    by condition and threshold.
    """
    judge = Judge()
    rows: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in (COARSE, BOTH, *ROWS)}
    for seed in seeds:
        coarse = trained(stage_config("coarse", Row(), seed, "coarse"))
        candidates = judge.candidates(coarse)
        for name, encoders in ((COARSE, None), (BOTH, coarse)):
            rows[name][str(seed)] = judge.within(candidates, encoders)
        for k, (name, row) in enumerate(ROWS.items()):
            print(f"{name}, seed {seed}", flush=True)
            config = stage_config(f"fine{k}", row, seed, "fine")
            rows[name][str(seed)] = judge.within(candidates, trained(config))
    return {
        "steps": STEPS,
        "batch": load_recipe(RECIPE).stages[0].aligned_batch,
        "size": load_recipe(RECIPE).network.image_size,
        "seeds": list(seeds),
        "map_images": len(judge.town.poses),
        "queries": len(judge.town.truth["night"]),
        "bound": judge.town.bound(),
        "rows": rows,
        "claims": claims(rows),
    }


def claims(
    rows: dict[str, dict[str, dict[str, Any]]],
) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Gain of each fine stage by condition and threshold [points], and what the seeds say."""

    def values(name: str, condition: str, threshold: str) -> list[float]:
        return [100 * seed[condition][threshold] for seed in rows[name].values()]

    thresholds = list(next(iter(rows[BOTH].values()))[CONDITIONS[0]])
    return {
        f"{name} over {other}": {
            condition: {
                t: claimed(values(name, condition, t), values(other, condition, t))
                for t in thresholds
            }
            for condition in CONDITIONS
        }
        for name in ROWS
        for other in (COARSE, BOTH)
    }


def stage_config(kind: str, row: Row, seed: int, stage: str) -> TrainConfig:
    """The recipe of a run: `coarse` from ImageNet weights, others from its result."""
    values: dict[str, Any] = load_recipe(RECIPE).to_json()
    coarse = RUNS / f"coarse-{seed}" / "stages" / "fine.safetensors"
    (only,) = values["stages"]
    only |= {"steps": STEPS[stage], "losses": {name: WEIGHTS[name] for name in row.losses}}
    values["aligned"] |= row.aligned
    values |= {
        "seed": seed,
        "data": [str(TOWN)],
        "domains": list(CONDITIONS),
        "initial": str(backbone(values["initial"]) if stage == "coarse" else coarse),
        "gradients_every": 0,
        "output": str(RUNS / f"{kind}-{seed}"),
    }
    return recipe_of(values)


def trained(config: TrainConfig) -> State:
    """Encoders of a run, trained or resumed where it is not finished."""
    if not (Path(config.output) / "model").exists():
        Training(config, resume=True).run()
    return load_stage(Path(config.output), "fine")


class Judge:
    """Coarse-to-fine retrieval in the validation town."""

    def __init__(self) -> None:
        self._recipe = load_recipe(RECIPE)
        torch.set_num_threads(self._recipe.threads)
        self.town = Town.read(self._recipe.network.build().image_size, CONDITIONS)

    def candidates(self, encoders: State) -> dict[str, NDArray[Any]]:
        """Map images of every query [Q, CANDIDATES] by condition, best first, also with the view
        shifted sideways, as at run time."""
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

    def within(
        self, candidates: dict[str, NDArray[Any]], encoders: State | None
    ) -> dict[str, dict[str, Any]]:
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
        networks = create_networks(self._recipe.network.build(), list(CONDITIONS), False, 0)
        networks.load(encoders)
        return features(in_layout(networks.encoders[domain]), images)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge; with all seeds write the section."""
    arguments = seeds_parser("fine_stage", __doc__).parse_args(argv)
    seeds, whole = arguments.seeds, arguments.write or not arguments.seeds
    return train_section("fine_stage", lambda: measure(seeds or SEEDS), whole=whole)


if __name__ == "__main__":
    sys.exit(main())
