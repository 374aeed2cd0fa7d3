# SPDX-License-Identifier: Apache-2.0
"""The paper's ablation of its losses (Table VI) on the season town.

Twice: with the paper's encoder, untrained at first, and with the mobile one from ImageNet weights.
One translation stage (config/train_ablation*.yaml), then one short training from it per row with
that row's losses. Runs lie in runs/ablation and are resumed or reused. Scored on the demo's town,
on which nothing is trained or chosen; the nearest map image by one metric alone is the answer,
except for coarse-to-fine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.accuracy.page import PAGE
from benchmark.performance.ranking import coarse_to_fine, describe_all
from demo.drives import CONDITIONS, DATA, MODEL, read_drive
from disam_ros import image
from disam_ros.config import DescriptorConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.domains.domain import Domain
from disam_ros.domains.rules import domains_named, load_rules
from disam_ros.evaluation import score
from disam_ros.models.model import Model, load_model
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.disam.run import Training
from training.recipes import load_config, parse_config

RECIPES = {
    "the paper's encoder": Path("config/train_ablation.yaml"),
    "the mobile encoder from ImageNet weights": Path("config/train_ablation_mobile.yaml"),
}
RUNS = Path("runs/ablation")
STEPS = 400  # of each row, after the translation
BASE = {"gan": 1, "cycle": 10}
COARSE = {**BASE, "fcl": 0.1}
FINE = {**COARSE, "fcl_cosine": 0.1, "sam": 1000}


@dataclass(frozen=True)
class Row:
    """One training: whose metric ranks it, its losses, its margin."""

    stage: str
    losses: dict[str, float]
    adaptive: bool = True


ROWS = {
    "translation only": Row("coarse", BASE),
    "+ FCL": Row("coarse", COARSE),
    "+ triplet FCL, constant margin": Row("coarse", {**COARSE, "triplet_fcl": 1}, False),
    "+ triplet FCL, adaptive margin": Row("coarse", {**COARSE, "triplet_fcl": 1}),
    "SAM, no triplet": Row("fine", FINE),
    "SAM + triplet SAM, constant margin": Row("fine", {**FINE, "triplet_sam": 1}, False),
    "SAM + triplet SAM, adaptive margin": Row("fine", {**FINE, "triplet_sam": 1}),
    "SAM + both triplets, adaptive": Row("fine", {**FINE, "triplet_sam": 1, "triplet_fcl": 1}),
}
COARSE_ONLY, FINE_ONLY = "+ triplet FCL, adaptive margin", "SAM + both triplets, adaptive"


def measure(runs: Path = RUNS) -> dict:
    """Train what is missing and score every row. Returns JSON-able figures."""
    town = UnseenTown()
    shipped = load_model(MODEL)
    stages = ("coarse", "fine", "coarse-to-fine")
    return {
        "steps": STEPS,
        "tables": {title: table(load_config(path), runs, town) for title, path in RECIPES.items()},
        "shipped": shipped.label,
        "shipped_rows": {f"{shipped.name}, {s}": town.figures(shipped, s) for s in stages},
    }


def table(recipe: TrainConfig, runs: Path, town: UnseenTown) -> dict:
    """All rows of one recipe."""
    start = trained(recipe, runs / recipe.name)
    tags = domains_named(recipe.domains, load_rules(None))
    entries = {"before any training, coarse": (initial_model(recipe, tags), "coarse")}
    models = {}
    for k, (name, row) in enumerate(ROWS.items()):
        run = trained(row_config(recipe, row, start), runs / f"{recipe.name}-row{k}")
        models[name] = load_model(run)
        entries[name] = (models[name], row.stage)
    both = replace(models[COARSE_ONLY], fine=models[FINE_ONLY].fine)
    entries["coarse-to-fine of the two adaptive models"] = (both, "coarse-to-fine")
    return {
        "translation_steps": recipe.stages[0].steps,
        "seed": recipe.seed,
        "rows": {name: town.figures(*entry) for name, entry in entries.items()},
    }


def initial_model(recipe: TrainConfig, domains: list[Domain]) -> Model:
    """The networks that the translation starts from."""
    names = [domain.name for domain in domains]
    networks = create_networks(recipe.network.build(), names, False, recipe.seed)
    if recipe.initial:
        networks.start_from(Path(recipe.initial))
    return Model(recipe.network.build(), domains, networks.encoders, networks.encoders)


def row_config(recipe: TrainConfig, row: Row, start: Path) -> TrainConfig:
    """The recipe with this row's only stage, started from the translation."""
    stage = {
        "name": row.stage,
        "steps": STEPS,
        "hard_from": 0.33,  # as in the paper's schedule
        "adaptive": row.adaptive,
        "losses": row.losses,
    }
    weights = start.parent / "stages" / "translation.safetensors"
    return parse_config({**recipe.to_json(), "initial": str(weights), "stages": [stage]})


def trained(config: TrainConfig, directory: Path) -> Path:
    """The model directory of a run, trained or resumed where it is not finished."""
    model = directory / "model"
    if not model.exists():
        config.output = str(directory)
        Training(config, resume=True).run()
    return model


class UnseenTown:
    """The demo's drives and how well a model places their images."""

    def __init__(self) -> None:
        reference = Dataset(DATA / "reference")
        base_from_camera = reference.info.cameras["front"].base_from_camera
        self.poses = [record.map_from_camera for record in reference.records]
        self.images = [image.read(reference.path(record)) for record in reference.records]
        self.drives = {condition: read_drive(DATA / condition) for condition in CONDITIONS}
        self.truth = {
            condition: [pose @ base_from_camera for pose in drive.truth]
            for condition, drive in self.drives.items()
        }

    def figures(self, model: Model, stage: str) -> dict[str, dict]:
        """Metrics by condition. stage: the metric that ranks, coarse, fine or coarse-to-fine."""
        described = [DescriptorConfig()]
        (references,) = describe_all(model, "summer_day", self.images, described)
        found = {}
        for condition, drive in self.drives.items():
            (queries,) = describe_all(model, condition, drive.images, described)
            best = ranked(queries, references, stage)
            answers = [self.poses[row] for row in best]
            found[condition] = score(self.truth[condition], answers).to_json()
        return found


Descriptors = tuple[np.ndarray, np.ndarray]  # coarse and fine [N, D]


def ranked(queries: Descriptors, references: Descriptors, stage: str) -> np.ndarray:
    """Best reference row of each query [Q] by one metric, or by coarse-to-fine."""
    if stage == "coarse-to-fine":
        return coarse_to_fine(queries, references)
    part = ("coarse", "fine").index(stage)
    query, reference = (table[part].astype(np.float32) for table in (queries, references))
    return (query @ reference.T).argmax(1)


if __name__ == "__main__":
    PAGE.show("ablation", measure())
