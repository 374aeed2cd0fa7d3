# SPDX-License-Identifier: Apache-2.0
"""The paper's ablation of its losses (Table VI) on the season town, without true pairs.

For every seed one translation stage (config/train_ablation.yaml), then a short training from it per
row with that row's losses, whose distances are relative to negative pairs'; and the same with one
encoder for all conditions. Runs lie in runs/ablation and are resumed or reused. Judged on the town
of seed 50, on which nothing here is chosen: the nearest map image by one metric of the whole
features, unpooled as in the paper, is the answer, except for coarse-to-fine.

`python -m benchmark.research.ablation [SEED ...]`; all seeds: the section is written. `--write`: so
it is with what is trained so far.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.networks import load_recipe, recipe_of
from benchmark.research.companions import claimed
from benchmark.research.learning import seeds_parser, train_section
from benchmark.research.offline_town import REFERENCE, Shares, Town, features
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.files.writing import write_json
from disam_ros.models.descriptor import coarse_descriptor, fine_descriptor
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.disam.run import Training
from training.engine.checkpoints import load_stage
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
    """One training: whose metric ranks it, its losses, its margin, what encoders have in common."""

    stage: str
    losses: dict[str, float]
    adaptive: bool = True
    sharing: str = "none"


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
    runs: Path = RUNS, seeds: Sequence[int] = SEEDS, finished: bool = False
) -> dict[str, Any]:
    """Train what is missing and judge every row. Returns JSON-able figures.

    finished: runs that are not trained are left out.

    rows: by name and seed the shares within each threshold by condition. training: by row and seed
    the mean recall against steps ("history"), "terms" of the losses and "seconds". claims: gain of
    the mean share within the widest threshold [points].
    """
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    judge = Judge(recipe)
    rows: dict[str, dict[str, dict[str, Any]]] = {n: {} for n in (BEFORE, STORED, *ROWS, BOTH)}
    results: dict[str, dict[str, dict[str, Any]]] = {
        "translation": {},
        **{name: {} for name in ROWS},
    }
    for seed in seeds:
        start = initial(recipe, seed)
        rows[BEFORE][str(seed)] = judge.within(start, start, "coarse")
        rows[STORED][str(seed)] = judge.within(start, start, "coarse", DescriptorConfig())
        states = {}
        for name, row in ROWS.items():
            config = row_config(recipe, name, seed, runs)
            if finished and not (Path(config.output) / TRAINING).exists():
                continue
            print(f"{name}, seed {seed}", flush=True)
            first = trained(translation(recipe, row.sharing, seed, runs))
            if row.sharing == "none":
                results["translation"][str(seed)] = first
            results[name][str(seed)] = trained(config)
            states[name] = load_stage(Path(config.output), row.stage)
            rows[name][str(seed)] = judge.kept(Path(config.output), states[name], row.stage)
        if {COARSE_ONLY, FINE_ONLY} <= set(states):
            both = states[COARSE_ONLY], states[FINE_ONLY]
            rows[BOTH][str(seed)] = judge.within(*both, "coarse-to-fine")
    return {
        "steps": STEPS,
        "translation_steps": recipe.stages[0].steps,
        "size": recipe.network.image_size,
        "width": recipe.network.width,
        "seeds": list(seeds),
        "map_images": len(judge.town.poses),
        "bound": judge.town.bound(),
        "rows": rows,
        "training": results,
        "claims": claims(rows),
    }


def claims(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, list[Any]]:
    """Gain of a row over another, and what the seeds say of it."""

    def means(name: str) -> list[float]:
        return [
            100 * float(np.mean([list(shares.values())[-1] for shares in seed.values()]))
            for seed in rows[name].values()
        ]

    return {f"{a} over {b}": claimed(means(a), means(b)) for a, b in CLAIMS}


def translation(recipe: TrainConfig, sharing: str, seed: int, runs: Path) -> TrainConfig:
    """The recipe itself with a seed and with encoders that share everything or nothing."""
    values = recipe.to_json()
    values["network"]["sharing"] = sharing
    return recipe_of(
        {**values, "seed": seed, "output": str(runs / f"translation-{sharing}-{seed}")}
    )


def row_config(recipe: TrainConfig, name: str, seed: int, runs: Path) -> TrainConfig:
    """The recipe with a row's only stage, started from the translation."""
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
    start = translation(recipe, row.sharing, seed, runs)
    values: dict[str, Any] = start.to_json()
    weights = Path(start.output) / "stages" / "translation.safetensors"
    output = runs / f"row{list(ROWS).index(name)}-{seed}"
    values |= {"initial": str(weights), "stages": [stage], "output": str(output)}
    return recipe_of({**values, "validate_every": STEPS // 3})


def trained(config: TrainConfig) -> dict[str, Any]:
    """What is kept of a run, which is trained, resumed or only read."""
    kept = Path(config.output) / TRAINING
    if not kept.exists():
        run = Training(config, resume=True)
        run.run()
        stage = config.stages[0].name
        progress = run.progress
        write_json(
            kept,
            {
                "history": [[entry["step"], entry["mean"]] for entry in progress.history],
                "terms": progress.terms[stage],
                "seconds": progress.seconds,
            },
        )
    result: dict[str, Any] = json.loads(kept.read_text())
    return result


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

    def kept(self, run: Path, state: State, stage: str) -> dict[str, Shares]:
        """Shares of a finished run's encoders by one metric, judged once."""
        if not (run / JUDGED).exists():
            write_json(run / JUDGED, self.within(state, state, stage))
        result: dict[str, Shares] = json.loads((run / JUDGED).read_text())
        return result

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
        recipe = self._recipe
        networks = create_networks(recipe.network.build(), recipe.domains, False, 0)
        networks.load(state)
        return features(networks.encoders[domain], images)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge; with all seeds write the section."""
    arguments = seeds_parser("ablation", __doc__).parse_args(argv)
    seeds, whole = arguments.seeds, arguments.write or not arguments.seeds
    chosen = seeds or SEEDS
    return train_section(
        "ablation", lambda: measure(seeds=chosen, finished=arguments.write), whole=whole
    )


if __name__ == "__main__":
    sys.exit(main())
