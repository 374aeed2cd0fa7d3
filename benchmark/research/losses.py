# SPDX-License-Identifier: Apache-2.0
"""The paper's losses on true pairs, from ImageNet weights: does each add to the contrastive one?

`python -m benchmark.research.losses [SEED ...]` trains config/train_losses.yaml with each row's
losses and every seed, about 50 minutes on one core, and writes the section; `--rows` trains some
rows, the others keep their figures. Runs lie in runs/losses and are resumed or reused. Judged on
the validation data of the shipped model (docs/models.md) by the shift-tolerant matching of run
time: the weights at the end, and their average with the start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmark.networks import in_layout, load_recipe, recipe_of
from benchmark.research.companions import claimed
from benchmark.research.companions_rows import BACKBONE
from benchmark.research.learning import FIGURES, SHARE, run_figures, seeds_parser, train_section
from benchmark.research.page import PAGE
from disam_ros.errors import ConfigError
from training.disam.config import TrainConfig
from training.disam.matching import similarity_of
from training.disam.networks import create_networks
from training.engine.networks import Networks, State
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
    """One training: its losses, with λ of WEIGHTS, its margin, what encoders have in common. below:
    the row it adds to."""

    losses: tuple[str, ...]
    below: str = ""
    adaptive: bool = True
    sharing: str = "none"


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
    runs: Path = RUNS,
    data: Path = DATA,
    seeds: Sequence[int] = SEEDS,
    chosen: Sequence[str] = tuple(ROWS),
) -> dict[str, Any]:
    """Train what is missing and judge every row. Returns JSON-able figures.

    rows: by name and seed the recall "trained" and "averaged" [%], "terms" of the losses and
    "seconds". start: recall of the ImageNet weights. claims: by pair of rows and kind of weights
    the gain of the mean recall [points] and what the seeds say of it.
    """
    judge = Judge(data)
    rows: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in chosen}
    for name, seed in _in_order(seeds, runs, chosen):
        config = row_config(name, seed, runs, data)
        rows[name][str(seed)] = run_figures(config, judge.start(), judge.recall)
    recipe = load_recipe(RECIPE)
    return {
        "steps": recipe.stages[0].steps,
        "batch": recipe.stages[0].aligned_batch,
        "size": recipe.network.image_size,
        "seeds": list(seeds),
        "share": SHARE,
        "start": judge.recall(judge.start()),
        "rows": rows,
        "claims": claims(rows),
    }


def claims(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, list[Any]]]:
    """What each row gains over the one that it adds a loss to, and over the contrastive loss alone,
    for its weights and the average."""

    def means(name: str, kind: str) -> list[float]:
        return [row[kind]["mean"] for row in rows[name].values()]

    pairs = {
        (name, below): None
        for name, row in ROWS.items()
        for below in (row.below, CONTRASTIVE)
        if row.below and {name, below} <= set(rows)
    }
    return {
        f"{name} over {below}": {
            kind: claimed(means(name, kind), means(below, kind)) for kind in ("trained", "averaged")
        }
        for name, below in pairs
    }


def beside_stored(results: dict[str, Any], under: str) -> tuple[dict[str, Any], str]:
    """The stored section with the rows of `results` in place of its own, and how both were made.

    Raises ConfigError where the stored rows were trained otherwise.
    """
    stored = PAGE.stored("losses")
    was, alike = stored["results"], ("steps", "batch", "size", "seeds", "share")
    if any(was[key] != results[key] for key in alike):
        raise ConfigError("the stored rows were trained otherwise: train all of them")
    rows = was["rows"] | results["rows"]
    new = ", ".join(results["rows"])
    merged = was | {"rows": {n: rows[n] for n in ROWS if n in rows}}
    return merged | {
        "claims": claims(merged["rows"])
    }, f"{stored['measured_under']}; {new}: {under}"


def row_config(name: str, seed: int, runs: Path = RUNS, data: Path = DATA) -> TrainConfig:
    """The recipe of a row: its losses and margin, the seed, where the data lie."""
    row = ROWS[name]
    values: dict[str, Any] = load_recipe(RECIPE).to_json()
    (stage,) = values["stages"]
    values["network"]["sharing"] = row.sharing
    stage |= {"losses": {name: WEIGHTS[name] for name in row.losses}, "adaptive": row.adaptive}
    values |= {
        "seed": seed,
        "data": [_below(entry, data) for entry in values["data"]],
        "initial": str(backbone(values["initial"])),
        "output": str(runs / f"{list(ROWS).index(name)}-{seed}"),
    }
    return recipe_of(values)


def backbone(named: str) -> Path:
    """The recipe's ImageNet weights, or those of the installed package."""
    package = find_spec(BACKBONE)
    if Path(named).exists() or package is None or package.origin is None:
        return Path(named)
    return next(Path(package.origin).resolve().parent.rglob("*.pth"))


class Judge:
    """The validation data, read once, and recall of weights on them."""

    def __init__(self, data: Path = DATA) -> None:
        self.recipe = row_config(CONTRASTIVE, 0, data=data)
        torch.set_num_threads(self.recipe.threads)
        self._data = data
        self._validation: ValidationSet | None = None

    def start(self) -> State:
        """The encoders that every row starts from."""
        return self._networks().state()

    def recall(self, state: State) -> dict[str, float]:
        """Recall@1 [%] by domain and kind of views, and their mean."""
        networks = self._networks()
        networks.load(state)
        for encoder in networks.encoders.values():
            in_layout(encoder)
        similarity = similarity_of(STAGE, self.recipe.descriptor)
        return recall(networks.encoders, similarity, self.validation(), torch.device("cpu"))

    def validation(self) -> ValidationSet:
        if self._validation is None:
            recipe = self.recipe
            chosen = ValidationConfig(
                data=[str(self._data / "validation"), "webcams:data/dnim/test"],
                reference="summer_day",
                shift=0.25,
                images=150,
            )
            light = {"day": recipe.webcam_day, "night": recipe.webcam_night}
            size = recipe.network.build().image_size
            self._validation = load_validation(chosen, size, recipe.crops, recipe.domains, light)
        return self._validation

    def _networks(self) -> Networks:
        recipe = self.recipe
        networks = create_networks(recipe.network.build(), recipe.domains, False, 0)
        networks.start_from(Path(recipe.initial))
        return networks


def _in_order(seeds: Sequence[int], runs: Path, rows: Sequence[str]) -> Iterator[tuple[str, int]]:
    """All these rows of a seed, then of the next; says how far it is and how long it will take."""
    todo = [(name, seed) for seed in seeds for name in rows]
    began, done = time.monotonic(), 0
    for number, (name, seed) in enumerate(todo):
        is_trained = (Path(row_config(name, seed, runs).output) / FIGURES).exists()
        left = "" if not done else f", {_left(began, done, len(todo) - number):.0f} min left"
        print(f"{number + 1}/{len(todo)}: {name}, seed {seed}{left}", flush=True)
        yield name, seed
        done += not is_trained


def _left(began: float, done: int, more: int) -> float:
    return (time.monotonic() - began) / done * more / 60


def _below(entry: str, data: Path) -> str:
    return str(data / entry.removeprefix("runs/")) if entry.startswith("runs/") else entry


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge; with all seeds write the section."""
    parser = seeds_parser("losses", __doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"of the trainings ({RUNS})")
    parser.add_argument("--data", type=Path, default=DATA, help=f"rendered drives ({DATA})")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args(argv)
    return train_section(
        "losses",
        lambda: measure(arguments.runs, arguments.data, arguments.seeds or SEEDS, arguments.rows),
        whole=arguments.write or not arguments.seeds,
        finish=beside_stored if len(arguments.rows) < len(ROWS) else None,
    )


if __name__ == "__main__":
    sys.exit(main())
