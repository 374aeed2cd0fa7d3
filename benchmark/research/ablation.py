# SPDX-License-Identifier: Apache-2.0
"""The paper's ablation of its losses (Table VI) on the season town, without true pairs.

For every seed one translation stage (config/train_ablation.yaml), then a short training from it per
row with that row's losses, whose distances are relative to negative pairs'; and the same with one
encoder for all conditions. Runs lie in runs/ablation and are resumed or reused. Judged on the town
of seed 50, on which nothing here is chosen: the nearest map image by one metric of the whole
features, unpooled as in the paper, is the answer, except for coarse-to-fine.

`python -m benchmark.research.ablation [SEED ...]`; all seeds: the section is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.networks import encoders_of, load_recipe, recipe_of
from benchmark.research.experiment import Experiment, Rows, compared, keep, main, progress_of
from benchmark.research.offline_town import REFERENCE, Shares, Town, features
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.models.descriptor import coarse_descriptor, fine_descriptor
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.engine.checkpoints import load_stage
from training.engine.loop import Loop
from training.engine.networks import State

CANDIDATES = LocalizerConfig().candidates
RECIPE = Path("config/train_ablation.yaml")
RUNS = Path("runs/ablation")
SEEDS = (0, 1, 2)
STEPS = 150  # of each row, after the translation
CONDITIONS = ("autumn_rain", "winter_snow", "night")
WHOLE = DescriptorConfig(coarse_grid=256, fine_grid=256)  # more cells than any features have
TRAINING = "training.json"  # of a finished run: recall against steps, losses, seconds
JUDGED = "judged.json"  # of a finished run: shares within the thresholds

BASE: dict[str, float] = {"gan": 1, "cycle": 10}
COARSE: dict[str, float] = {**BASE, "fcl": 1}
FINE: dict[str, float] = {**COARSE, "fcl_cosine": 1, "sam": 1}


@dataclass(frozen=True)
class Row:
    """A training."""

    stage: str  # whose metric ranks it
    losses: dict[str, float]
    adaptive: bool = True  # margin
    sharing: str = "none"  # what encoders have in common


BEFORE, STORED = "before any training", "before any training, as maps store it"
ONLY, FCL = "translation only", "+ FCL"
COARSE_ONLY, FINE_ONLY = "+ triplet FCL, adaptive margin", "SAM + both triplets, adaptive"
BOTH = "coarse-to-fine of the two adaptive models"
SHARED = "one encoder for all, + FCL"
ROWS = {
    ONLY: Row("coarse", BASE),
    FCL: Row("coarse", COARSE),
    "+ triplet FCL, constant margin": Row("coarse", {**COARSE, "triplet_fcl": 1}, False),
    COARSE_ONLY: Row("coarse", {**COARSE, "triplet_fcl": 1}),
    "SAM, no triplet": Row("fine", FINE),
    "SAM + triplet SAM, constant margin": Row("fine", {**FINE, "triplet_sam": 1}, False),
    "SAM + triplet SAM, adaptive margin": Row("fine", {**FINE, "triplet_sam": 1}),
    FINE_ONLY: Row("fine", {**FINE, "triplet_sam": 1, "triplet_fcl": 1}),
    SHARED: Row("coarse", COARSE, sharing="all"),
}
CLAIMS = tuple((name, ONLY) for name in ROWS if name != ONLY) + (
    (COARSE_ONLY, "+ triplet FCL, constant margin"),
    ("SAM + triplet SAM, adaptive margin", "SAM + triplet SAM, constant margin"),
    (BOTH, COARSE_ONLY),
    (FCL, BEFORE),
    (SHARED, FCL),
)


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS
) -> dict[str, Any]:
    """Train what is missing and judge every row. Returns JSON-able figures.

    rows: by name and seed the shares within each threshold by condition. training: by row and seed
    the mean recall against steps ("history"), "terms" of the losses and "seconds". claims: gain of
    the mean share within the widest threshold [points].
    """
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe)
    start, _ = translations(recipe, runs).measure(seeds, finished)
    study = experiment(recipe, runs)
    training, _ = study.measure(seeds, finished)
    rows = judged(judge, study, training, recipe, seeds)
    return {
        "steps": STEPS,
        "translation_steps": recipe.stages[0].steps,
        "size": recipe.network.image_size,
        "width": recipe.network.width,
        "seeds": list(seeds),
        "map_images": len(judge.town.poses),
        "bound": judge.town.bound(),
        "rows": rows,
        "training": {"translation": start.get("none", {}), **training},
        "claims": claims(rows),
    }


def judged(
    judge: Judge,
    study: Experiment[TrainConfig],
    training: Rows,
    recipe: TrainConfig,
    seeds: Sequence[int],
) -> Rows:
    """Shares of the start, of all finished runs, and of the two adaptive models together."""
    starts = {str(seed): initial(recipe, seed) for seed in seeds}
    rows: Rows = {
        name: {seed: judge.within(s, s, "coarse", config) for seed, s in starts.items()}
        for name, config in ((BEFORE, WHOLE), (STORED, DescriptorConfig()))
    }
    states: dict[str, dict[str, State]] = {}
    for name, by_seed in training.items():
        stage, states[name], rows[name] = ROWS[name].stage, {}, {}
        for seed in by_seed:
            folder = study.folder(name, int(seed))
            state = states[name][seed] = load_stage(folder, stage)
            rows[name][seed] = keep(folder / JUDGED, partial(judge.within, state, state, stage))
    coarse, fine = states.get(COARSE_ONLY, {}), states.get(FINE_ONLY, {})
    both = {s: judge.within(coarse[s], fine[s], "coarse-to-fine") for s in coarse if s in fine}
    return rows | ({BOTH: both} if both else {})


def claims(rows: Rows) -> dict[str, Any]:
    """Gain of a row's mean share within the widest threshold [points], and what the seeds say."""
    return compared(
        rows,
        CLAIMS,
        lambda shares: 100 * float(np.mean([list(by.values())[-1] for by in shares.values()])),
    )


def translations(recipe: TrainConfig, runs: Path = RUNS) -> Experiment[TrainConfig]:
    """The recipe itself, with encoders that share everything or nothing."""

    def overlay(sharing: str, seed: int) -> TrainConfig:
        values = recipe.to_json()
        values["network"]["sharing"] = sharing
        return recipe_of(values)

    rows = {sharing: f"translation-{sharing}-{{seed}}" for sharing in ("none", "all")}
    return Experiment("ablation, translation", runs, rows, overlay, trained, TRAINING)


def experiment(recipe: TrainConfig, runs: Path = RUNS) -> Experiment[TrainConfig]:
    """The recipe with a row's only stage, started from the translation."""

    def overlay(name: str, seed: int) -> TrainConfig:
        row = ROWS[name]
        stage = {
            "name": row.stage,
            "steps": STEPS,
            "hard_from": 0.33,  # as in the paper's schedule
            "constant": 0.0,  # likewise: the rate falls at once, and λ is already half
            "ramp": 0.33,
            "ramp_from": 0.5,
            "adaptive": row.adaptive,
            "losses": row.losses,
        }
        start = translations(recipe, runs).config(row.sharing, seed)
        weights = Path(start.output) / "stages" / "translation.safetensors"
        values: dict[str, Any] = {"initial": str(weights), "stages": [stage]}
        return recipe_of({**start.to_json(), **values, "validate_every": STEPS // 3})

    rows = {name: f"row{number}-{{seed}}" for number, name in enumerate(ROWS)}
    return Experiment("ablation", runs, rows, overlay, trained, TRAINING)


def trained(row: str, seed: int, run: Loop[TrainConfig]) -> dict[str, Any]:
    """Recall against steps, terms and seconds of a run."""
    history = [[entry["step"], entry["mean"]] for entry in run.progress.history]
    return {"history": history, **progress_of(run)}


def initial(recipe: TrainConfig, seed: int) -> State:
    """The encoders that the translation starts from."""
    return create_networks(recipe.network.build(), recipe.domains, False, seed).state()


class Judge:
    """Nearest map image in the validation town by whole features."""

    def __init__(self, recipe: TrainConfig) -> None:
        self._recipe = recipe
        self.town = Town.read(recipe.network.build().image_size, CONDITIONS)

    def within(
        self, coarse: State, fine: State, stage: str, config: DescriptorConfig = WHOLE
    ) -> dict[str, Shares]:
        """Shares by condition. coarse, fine: encoders of either. stage: the metric that ranks,
        coarse, fine or coarse-to-fine."""
        references = self._described(coarse, fine, REFERENCE, stage, config)
        shares = {}
        for condition in CONDITIONS:
            queries = self._described(coarse, fine, condition, stage, config)
            shares[condition] = self.town.within(condition, ranked(queries, references, stage))
        return shares

    def _described(
        self, coarse: State, fine: State, domain: str, stage: str, config: DescriptorConfig
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Coarse and fine descriptors [N, D]; of a metric that does not rank none, [0]."""
        town = self.town
        images = town.mapped if domain == REFERENCE else town.queries[domain]
        nothing = np.zeros(0, dtype=np.float32)
        first = second = nothing
        if stage.startswith("coarse"):
            first = coarse_descriptor(self._features(coarse, domain, images), config).numpy()
        if stage.endswith("fine"):
            second = fine_descriptor(self._features(fine, domain, images), config).numpy()
        return first, second

    def _features(self, state: State, domain: str, images: torch.Tensor) -> torch.Tensor:
        return features(encoders_of(self._recipe, state)[domain], images)


Descriptors = tuple[NDArray[Any], NDArray[Any]]  # coarse and fine [N, D]


def ranked(queries: Descriptors, references: Descriptors, stage: str) -> NDArray[Any]:
    """Best reference row of each query [Q] by one metric, or by coarse-to-fine."""
    if stage == "coarse-to-fine":
        return coarse_to_fine(queries, references)
    part = ("coarse", "fine").index(stage)
    best: NDArray[Any] = (queries[part] @ references[part].T).argmax(1)
    return best


def coarse_to_fine(queries: Descriptors, references: Descriptors) -> NDArray[Any]:
    """Best reference row of each query: CANDIDATES by coarse similarity, the best by fine.

    queries, references: coarse and fine descriptors [Q, D] and [N, D].
    """
    coarse = queries[0].astype(np.float32) @ references[0].astype(np.float32).T
    top = np.argsort(-coarse, axis=1)[:, :CANDIDATES]
    fine = [
        references[1][rows].astype(np.float32) @ query
        for rows, query in zip(top, queries[1].astype(np.float32), strict=True)
    ]
    result: NDArray[Any] = top[np.arange(len(top)), np.argmax(fine, axis=1)]
    return result


if __name__ == "__main__":
    sys.exit(main("ablation"))
