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

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark.networks import in_layout, load_recipe, recipe_of
from benchmark.research.companions import claimed
from benchmark.research.learning import SHARE, run_figures, seeds_parser, train_section
from benchmark.research.losses import backbone
from benchmark.research.offline_town import features
from benchmark.research.restyled import (
    ColourTransfer,
    Restyle,
    Translation,
    photometrically,
    write_restyled,
)
from disam_ros.datasets.dataset import Dataset
from disam_ros.files.writing import write_json
from training.data.places import same_place
from training.disam.config import TrainConfig
from training.disam.matching import fine_similarities
from training.disam.networks import create_networks
from training.disam.run import Training
from training.engine.networks import Networks, State
from training.engine.validate import SAME_TILE, ValidationSet, load_validation
from training.settings import ValidationConfig

RECIPE = Path("config/train_new_condition.yaml")
TRANSLATION = Path("config/train_translation.yaml")
RUNS = Path("runs/new_condition")
DATA = Path("runs")  # of the rendered towns/ and validation/
TOWNS = ("101", "102")
REFERENCE = "summer_day"
CONDITIONS = ("night", "winter_snow")
SEEDS = (0, 1, 2)

PHOTOMETRIC = "photometric"
COLOUR = "colour transfer"
TRANSLATED = "translated"
TRUE = "true pairs"
ARMS = (PHOTOMETRIC, COLOUR, TRANSLATED, TRUE)
CLAIMS = ((TRANSLATED, PHOTOMETRIC), (TRANSLATED, COLOUR), (TRUE, TRANSLATED))


def measure(
    runs: Path = RUNS,
    data: Path = DATA,
    seeds: Sequence[int] = SEEDS,
    arms: Sequence[str] = ARMS,
    conditions: Sequence[str] = CONDITIONS,
) -> dict[str, Any]:
    """Train what is missing and judge it. Returns JSON-able figures.

    conditions: recall@1 [%] of the "start" and, by arm and seed, "trained", "averaged" and
    "seconds"; "claims": what an arm gains over another. translation: its steps and seconds.
    """
    recipe = load_recipe(RECIPE)
    torch.set_num_threads(recipe.threads)
    results: dict[str, dict[str, Any]] = {}
    for condition in conditions:
        config_of = partial(arm_config, condition=condition, runs=runs, data=data)
        results[condition] = judged(condition, Judge(condition, data), config_of, seeds, arms)
    return {
        "steps": recipe.stages[0].steps,
        "batch": recipe.stages[0].aligned_batch,
        "size": recipe.network.image_size,
        "seeds": list(seeds),
        "share": SHARE,
        "translation": translation(runs, data)[1] if TRANSLATED in arms else None,
        "conditions": results,
    }


def judged(
    scene: str,
    judge: Judge,
    config_of: Callable[..., TrainConfig],
    seeds: Sequence[int],
    arms: Sequence[str],
) -> dict[str, Any]:
    """A scene's figures; config_of: the recipe of `arm` and `seed`."""
    rows: dict[str, dict[str, Any]] = {arm: {} for arm in arms}
    for seed in seeds:
        for arm in arms:
            print(f"{scene}, {arm}, seed {seed}", flush=True)
            config = config_of(arm=arm, seed=seed)
            rows[arm][str(seed)] = run_figures(config, judge.start(), judge.recall)
    start = judge.recall(judge.start())
    return {"start": start, "rows": rows, "claims": claims(rows)}


def claims(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, list[Any]]]:
    """Gain of an arm's recall over another's, by kind of weights, and what the seeds say of it."""
    return {
        f"{arm} over {other}": {
            kind: claimed(*([r[kind] for r in rows[a].values()] for a in (arm, other)))
            for kind in ("trained", "averaged")
        }
        for arm, other in CLAIMS
        if {arm, other} <= set(rows)
    }


def arm_config(arm: str, condition: str, seed: int, runs: Path, data: Path) -> TrainConfig:
    """The recipe of an arm, whose restyled drives are written where they are missing."""
    values = load_recipe(RECIPE).to_json()
    drives = restyled_drives(arm, condition, runs, data)
    pairs = zip(TOWNS, drives, strict=True)
    values |= {
        "seed": seed,
        "domains": [REFERENCE, condition],
        "data": [f"{data / 'towns' / town / REFERENCE} + {drive}" for town, drive in pairs],
        "initial": str(backbone(values["initial"])),
        "output": str(runs / f"{arm.replace(' ', '_')}-{condition}-{seed}"),
    }
    return recipe_of(values)


def restyled_drives(arm: str, condition: str, runs: Path, data: Path) -> list[Path]:
    """Drives with poses that serve as the condition's, one for each town."""
    if arm == TRUE:
        return [data / "towns" / town / condition for town in TOWNS]
    drives = [runs / "drives" / arm.replace(" ", "_") / condition / town for town in TOWNS]
    if not all(drive.exists() for drive in drives):
        restyle = restyling(arm, condition, runs, data)
        for seed, (town, drive) in enumerate(zip(TOWNS, drives, strict=True)):
            drive.parent.mkdir(parents=True, exist_ok=True)
            write_restyled(data / "towns" / town / REFERENCE, drive, condition, restyle, seed)
    return drives


def restyling(arm: str, condition: str, runs: Path, data: Path) -> Restyle:
    """What an arm does to an image of summer_day."""
    if arm == PHOTOMETRIC:
        return photometrically
    if arm == COLOUR:
        unposed = [Dataset(data / "towns" / town / condition) for town in TOWNS]
        return ColourTransfer(d.path(r) for d in unposed for r in d.records)
    config, _ = translation(runs, data)
    return Translation(config, Path(config.output), REFERENCE, condition)


def translation(runs: Path, data: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The translation's recipe, trained where it is not, and its steps and seconds."""
    values = load_recipe(TRANSLATION).to_json()
    values |= {
        "data": [str(data / "towns" / town) for town in TOWNS],
        "initial": str(backbone(values["initial"])),
        "output": str(runs / "translation"),
    }
    config = recipe_of(values)
    kept = Path(config.output) / "training.json"
    if not kept.exists():
        run = Training(config, resume=True)
        run.run()
        steps = config.stages[0].steps
        write_json(kept, {"steps": steps, "seconds": run.progress.seconds})
    return config, json.loads(kept.read_text())


class Judge:
    """Recall of a condition's queries in the map of summer_day, by the weights of both encoders."""

    def __init__(self, condition: str, data: Path) -> None:
        self._recipe = load_recipe(RECIPE)
        self._domains = [REFERENCE, condition]
        self._data = data
        self._validation: ValidationSet | None = None

    def start(self) -> State:
        """The encoders that every arm starts from."""
        return self._networks().state()

    def recall(self, state: State) -> float:
        """Recall@1 [%] within 5 m and 10°."""
        validation = self._validation
        if validation is None:
            validation = self._validation = self._read()
            start = self._networks().encoders[REFERENCE]
            self._mapped = features(start, validation.images[REFERENCE])  # frozen
        networks = self._networks()
        networks.load(state)
        condition = self._domains[1]
        queries = features(networks.encoders[condition], validation.images[condition])
        best = fine_similarities(queries, self._mapped, self._recipe.descriptor).argmax(1)
        places = validation.places[condition], validation.places[REFERENCE][best.numpy()]
        right = same_place(*places, validation.radius, validation.angle, SAME_TILE).diagonal()
        return 100.0 * float(right.mean())

    def _read(self) -> ValidationSet:
        """The town of seed 50: all its map images, and the condition's queries."""
        recipe = self._recipe
        where = [str(self._data / "validation")]
        chosen = ValidationConfig(data=where, reference=REFERENCE, images=1000)
        size = recipe.network.build().image_size
        return load_validation(chosen, size, recipe.crops, self._domains)

    def _networks(self) -> Networks:
        networks = create_networks(self._recipe.network.build(), self._domains, False, 0)
        networks.start_from(backbone(self._recipe.initial))
        for encoder in networks.encoders.values():
            in_layout(encoder)
        return networks


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge; with all seeds write the section."""
    arguments = seeds_parser("new_condition", __doc__).parse_args(argv)
    seeds, whole = arguments.seeds, arguments.write or not arguments.seeds
    return train_section("new_condition", lambda: measure(seeds=seeds or SEEDS), whole=whole)


if __name__ == "__main__":
    sys.exit(main())
