# SPDX-License-Identifier: Apache-2.0
"""The paper's ablation of its losses (Table VI) on the season town, without true pairs.

A hundredth of the paper's steps: for every seed one translation stage (config/train_ablation.yaml),
then a training from it per row with that row's losses, whose distances are relative to negative
pairs'. Judged on the town of seed 50, on which nothing here is chosen: the nearest map image by one
metric of the whole features, unpooled as in the paper, is the answer, except for coarse-to-fine. At
every validation the encoders are judged by both metrics. The rule for stopping was written before
any run: a row counts only at its last step, all are trained to it, and seeds are added to both rows
of a question or to none. If no row has passed its untrained start there, the finding is "not at a
hundredth of the paper".

`python -m benchmark.research.ablation [SEED ...]` trains for seven hours a seed; all seeds: the
section is written. Runs lie in runs/ablation and are resumed or reused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.networks import encoders_of, load_recipe, recipe_of
from benchmark.research.curves import Line, draw_curves, line_of
from benchmark.research.experiment import Experiment, Rows, keep, main, progress_of
from benchmark.research.offline_town import REFERENCE, Shares, Town, features
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.models.similarity import coarse_descriptor, fine_descriptor
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.engine.checkpoints import load_stage
from training.engine.loop import Loop
from training.engine.networks import State
from training.engine.validate import Encoder

CANDIDATES = LocalizerConfig().candidates
RECIPE = Path("config/train_ablation.yaml")
RUNS = Path("runs/ablation")
PICTURE = Path("docs/images/ablation.png")
SEEDS = (0, 1)
STEPS = 6_000  # of each row, after the translation
CONDITIONS = ("autumn_rain", "winter_snow", "night")
WHOLE = DescriptorConfig(coarse_grid=256, fine_grid=256)  # more cells than any features have
TRAINING = "training.json"  # of a finished run: recall against steps, losses, seconds
JUDGED = "judged.json"  # of a finished run: shares within the thresholds
METRICS = ("coarse", "fine")
TWO_STAGES = "coarse-to-fine"

Encoders = Mapping[str, Encoder]  # by domain
Descriptors = tuple[NDArray[Any], NDArray[Any]]  # coarse and fine [N, D]

BASE: dict[str, float] = {"gan": 1, "cycle": 10}
COARSE: dict[str, float] = {**BASE, "fcl": 1}
FINE: dict[str, float] = {**COARSE, "fcl_cosine": 0.1, "sam": 1}


@dataclass(frozen=True)
class Row:
    """A training."""

    stage: str  # whose metric ranks it
    losses: dict[str, float]
    adaptive: bool = True  # margin


BEFORE, STORED = "before any training", "before any training, as maps store it"
FIRST, FCL = "translation", "+ FCL"
COARSE_ONLY, CONSTANT = "+ triplet FCL, adaptive margin", "+ triplet FCL, constant margin"
FINE_ONLY = "SAM + both triplets, adaptive"
BOTH = "coarse-to-fine of the two adaptive models"
ROWS = {
    FCL: Row("coarse", COARSE),
    COARSE_ONLY: Row("coarse", {**COARSE, "triplet_fcl": 1}),
    CONSTANT: Row("coarse", {**COARSE, "triplet_fcl": 1}, False),
    FINE_ONLY: Row("fine", {**FINE, "triplet_sam": 1, "triplet_fcl": 1}),
}


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path = RUNS
) -> dict[str, Any]:
    """Train what is missing and judge every row. Returns JSON-able figures.

    rows: by name, seed, metric and condition the shares within each threshold. curves: by row,
    seed, step and metric their means over the conditions. training: by row and seed "terms" of the
    losses and "seconds".
    """
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe)
    first = translations(recipe, runs, judge)
    start, _ = first.measure(seeds, finished)
    study = experiment(recipe, runs, judge)
    training, _ = study.measure(seeds, finished)
    curves = {FIRST: curve_of(first, FIRST, start[FIRST])}
    return {
        "steps": STEPS,
        "translation_steps": recipe.stages[0].steps,
        "size": recipe.network.image_size,
        "width": recipe.network.width,
        "seeds": list(seeds),
        "map_images": len(judge.town.poses),
        "queries": sum(len(truth) for truth in judge.town.truth.values()),
        "losses": {name: row.losses for name, row in ROWS.items()},
        "bound": judge.town.bound(),
        "chance": judge.town.chance(),
        "rows": judged(judge, study, training, recipe, seeds),
        "curves": curves | {name: curve_of(study, name, by) for name, by in training.items()},
        "training": {**start, **training},
    }


def judged(
    judge: Judge,
    study: Experiment[TrainConfig],
    training: Rows,
    recipe: TrainConfig,
    seeds: Sequence[int],
) -> Rows:
    """Shares of the start, of all finished runs, and of the two adaptive models together."""
    starts = {str(seed): encoders_of(recipe, initial(recipe, seed)) for seed in seeds}
    rows: Rows = {
        name: {seed: judge.shares(start, start, METRICS, config) for seed, start in starts.items()}
        for name, config in ((BEFORE, WHOLE), (STORED, DescriptorConfig()))
    }
    finished: dict[str, dict[str, Encoders]] = {}
    for name, by_seed in training.items():
        finished[name], rows[name] = {}, {}
        for seed in by_seed:
            folder = study.folder(name, int(seed))
            encoders = encoders_of(recipe, load_stage(folder, ROWS[name].stage))
            finished[name][seed] = encoders
            rows[name][seed] = keep(
                folder / JUDGED, partial(judge.shares, encoders, encoders, METRICS)
            )
    coarse, fine = finished.get(COARSE_ONLY, {}), finished.get(FINE_ONLY, {})
    both = {s: judge.shares(coarse[s], fine[s], (TWO_STAGES,)) for s in coarse if s in fine}
    return rows | ({BOTH: both} if both else {})


def curve_of(
    study: Experiment[TrainConfig], row: str, seeds: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Means over the conditions by seed, step, metric and threshold."""
    curves = {}
    for seed in seeds:
        curves[seed] = {
            step: {metric: mean_of(by) for metric, by in metrics.items()}
            for step, metrics in study.curve(row, int(seed)).items()
        }
    return curves


def mean_of(shares: Mapping[str, Shares]) -> Shares:
    """Mean over the conditions by threshold."""
    first = next(iter(shares.values()))
    return {name: round(float(np.mean([by[name] for by in shares.values()])), 4) for name in first}


def translations(recipe: TrainConfig, runs: Path, judge: Judge) -> Experiment[TrainConfig]:
    """The recipe itself."""

    def overlay(row: str, seed: int) -> TrainConfig:
        return recipe_of(recipe.to_json())

    rows = {FIRST: f"{FIRST}-{{seed}}"}
    return Experiment("ablation", runs, rows, overlay, trained, TRAINING, point=judge.point)


def experiment(recipe: TrainConfig, runs: Path, judge: Judge) -> Experiment[TrainConfig]:
    """The recipe with a row's only stage, started from the translation."""
    first = translations(recipe, runs, judge)

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
        start = first.config(FIRST, seed)
        weights = Path(start.output) / "stages" / "translation.safetensors"
        return recipe_of({**start.to_json(), "initial": str(weights), "stages": [stage]})

    rows = {name: f"row{number}-{{seed}}" for number, name in enumerate(ROWS)}
    return Experiment("ablation", runs, rows, overlay, trained, TRAINING, point=judge.point)


def trained(row: str, seed: int, run: Loop[TrainConfig]) -> dict[str, Any]:
    """Terms and seconds of a run."""
    return progress_of(run)


def initial(recipe: TrainConfig, seed: int) -> State:
    """The encoders that the translation starts from."""
    return create_networks(recipe.network.build(), recipe.domains, False, seed).state()


class Judge:
    """Nearest map image in the validation town by whole features."""

    def __init__(self, recipe: TrainConfig) -> None:
        self._size = recipe.network.build().image_size

    @cached_property
    def town(self) -> Town:
        return Town.read(self._size, CONDITIONS)

    def point(self, encoders: Encoders) -> dict[str, dict[str, Shares]]:
        """Shares of one model by metric and condition."""
        return self.shares(encoders, encoders, METRICS)

    def shares(
        self,
        coarse: Encoders,
        fine: Encoders,
        stages: Sequence[str],
        config: DescriptorConfig = WHOLE,
    ) -> dict[str, dict[str, Shares]]:
        """Shares by stage and condition. stages: the metrics that rank, coarse, fine or
        coarse-to-fine."""
        town = self.town
        references = _described(coarse, fine, REFERENCE, town.mapped, config)
        shares: dict[str, dict[str, Shares]] = {stage: {} for stage in stages}
        for condition, images in town.queries.items():
            queries = _described(coarse, fine, condition, images, config)
            for stage in stages:
                best = ranked(queries, references, stage)
                shares[stage][condition] = town.within(condition, best)
        return shares


def _described(
    coarse: Encoders, fine: Encoders, domain: str, images: torch.Tensor, config: DescriptorConfig
) -> Descriptors:
    first = features(coarse[domain], images)
    second = first if fine is coarse else features(fine[domain], images)
    return coarse_descriptor(first, config).numpy(), fine_descriptor(second, config).numpy()


def ranked(queries: Descriptors, references: Descriptors, stage: str) -> NDArray[Any]:
    """Best reference row of each query [Q] by one metric, or by coarse-to-fine."""
    if stage == TWO_STAGES:
        return coarse_to_fine(queries, references)
    part = METRICS.index(stage)
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


def draw(results: dict[str, Any], path: Path = PICTURE) -> None:
    """Shares within the widest threshold against steps: of the translation, of the rows from it."""
    widest = list(results["bound"][CONDITIONS[0]])[-1]

    def line(row: str, metric: str) -> Line:
        return line_of(results["curves"][row], lambda point: 100 * point[metric][widest])

    rows = [name for name in results["curves"] if name != FIRST]
    panels = {FIRST: {metric: line(FIRST, metric) for metric in METRICS}}
    for metric in METRICS:
        panels[f"rows, ranked by {metric}"] = {row: line(row, metric) for row in rows}
    draw_curves(path, panels, f"within {widest} (%)")


if __name__ == "__main__":
    sys.exit(main("ablation"))
