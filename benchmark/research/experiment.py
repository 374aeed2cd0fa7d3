# SPDX-License-Identifier: Apache-2.0
"""Experiments: trainings of rows with seeds, one file of figures for each run."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmark.machine import circumstances
from benchmark.pages import stored
from benchmark.research.page import PAGE
from disam_ros.errors import ConfigError, DisamError, ModelError
from disam_ros.files.writing import write_json
from training.disam.averaging import interpolated
from training.disam.config import TrainConfig
from training.engine.checkpoints import load_stage
from training.engine.loop import Interrupted, Loop
from training.engine.networks import State
from training.engine.validate import Encoder
from training.settings import RunConfig
from training.train import open_run

STOPPED = 130  # exit code after Ctrl-C
SHARE = 0.5  # of the trained weights in the average with the start
RECALL = "recall.json"  # what `recalls` keeps of a run
CURVE = "curve.json"  # of a run, by step: figures of the encoders at each validation

Config = TypeVar("Config", bound=RunConfig)
Rows = dict[str, dict[str, Any]]  # figures by row and seed


@dataclass(frozen=True)
class Experiment(Generic[Config]):
    """Trainings of rows with seeds.

    A run whose figures are kept is never trained again.
    """

    name: str  # printed before each row
    root: Path  # of the run directories
    rows: Mapping[str, str]  # by name: run directory in the root, with {seed}
    overlay: Callable[[str, int], Config]  # recipe of a row with a seed, but for seed and output
    judge: Callable[[str, int, Loop[Config]], dict[str, Any]]  # figures of a finished run
    kept: str = RECALL  # file of the figures in a run directory
    once: Sequence[str] = ()  # rows of the first seed alone, after its others
    # Figures of the encoders, by domain, at each validation; they make the curve of a run
    point: Callable[[Mapping[str, Encoder]], Any] | None = None

    def folder(self, row: str, seed: int) -> Path:
        """Returns the run directory."""
        return self.root / self.rows[row].format(seed=seed)

    def config(self, row: str, seed: int) -> Config:
        """Returns the recipe of a run."""
        config = self.overlay(row, seed)
        config.seed, config.output = seed, str(self.folder(row, seed))
        return config

    def figures(self, row: str, seed: int) -> dict[str, Any]:
        """Returns the figures of a run, which is trained, resumed or only read."""

        def trained() -> dict[str, Any]:
            run: Loop[Config] = open_run(self.config(row, seed), resume=True)
            run.watch = partial(self.record, run.directory)
            run.run()
            return self.judge(row, seed, run)

        return keep(self.folder(row, seed) / self.kept, trained)

    def curve(self, row: str, seed: int) -> dict[str, Any]:
        """Returns the figures of a run by step."""
        points: dict[str, Any] = json.loads((self.folder(row, seed) / CURVE).read_text())
        return points

    def record(self, folder: Path, step: int, encoders: Mapping[str, Encoder]) -> None:
        """Adds a point to the curve of a run; a step that is repeated replaces its point."""
        if self.point is not None:
            file = folder / CURVE
            points = json.loads(file.read_text()) if file.exists() else {}
            write_json(file, points | {str(step): self.point(encoders)})

    def read(self, row: str, seed: int) -> dict[str, Any] | None:
        """Returns the figures of a finished run; None: there are none yet."""
        file = self.folder(row, seed) / self.kept
        return self.figures(row, seed) if file.exists() else None

    def runs(self, seeds: Sequence[int]) -> Iterator[tuple[str, int]]:
        """Yields rows and seeds in the order in which they are trained."""
        often = [row for row in self.rows if row not in self.once]
        for seed in seeds:
            yield from ((row, seed) for row in often)
            yield from ((row, seed) for row in self.once if seed == seeds[0])

    def measure(self, seeds: Sequence[int], finished: bool = False) -> tuple[Rows, list[str]]:
        """Returns the figures of all runs, and the names of those that have none.

        finished: nothing is trained. A run whose model needs missing weights is left out. Raises
        ConfigError where no run has figures.
        """
        figures: Rows = {row: {} for row in self.rows}
        missing, runs = [], list(self.runs(seeds))
        for number, (row, seed) in enumerate(runs, 1):
            print(f"{self.name} {number}/{len(runs)}: {row}, seed {seed}", flush=True)
            try:
                result = (self.read if finished else self.figures)(row, seed)
            except ModelError as error:
                missing.append(f"{row}, seed {seed}: {error}")
                continue
            if result is None:
                missing.append(f"{row}, seed {seed}")
            else:
                figures[row][str(seed)] = result
        if not any(figures.values()):
            raise ConfigError(f"{self.root}: no run of these seeds has figures; {missing[0]}")
        return {row: by_seed for row, by_seed in figures.items() if by_seed}, missing


def keep(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what a file of JSON holds; it is made where it is missing."""
    if not file.exists():
        write_json(file, make())
    values: dict[str, Any] = json.loads(file.read_text())
    return values


def recalls(run: Loop[TrainConfig], start: State, recall: Callable[[State], Any]) -> dict[str, Any]:
    """Returns the recall of a stage's weights, "trained" and "averaged" with the start, the "curve"
    of the validations by step, and `progress_of` the run."""
    trained = load_stage(run.directory, run.config.stages[0].name)
    trained = {name: value for name, value in trained.items() if name.startswith("encoders/")}
    averaged = interpolated(start, trained, dict.fromkeys(run.config.domains, SHARE))
    curve = {str(entry["step"]): entry["mean"] for entry in run.progress.history}
    return {
        "trained": recall(trained),
        "averaged": recall(averaged),
        "curve": curve,
        **progress_of(run),
    }


def progress_of(run: Loop[TrainConfig]) -> dict[str, Any]:
    """Returns the "terms" of the first stage's losses and the "seconds" of a run."""
    terms = run.progress.terms.get(run.config.stages[0].name, {})
    return {"terms": terms, "seconds": run.progress.seconds}


def settings_of(recipe: TrainConfig, seeds: Sequence[int]) -> dict[str, Any]:
    """Returns what a section says of its recipe."""
    (stage,) = recipe.stages
    return {
        "steps": stage.steps,
        "batch": stage.aligned_batch,
        "size": recipe.network.image_size,
        "seeds": list(seeds),
    }


def main(name: str, argv: Sequence[str] | None = None) -> int:
    """Measures a section. Returns the exit code: STOPPED after Ctrl-C, 1 after an error.

    The page is written with all seeds or on request; the figures of some seeds are printed.
    """
    module = PAGE.section(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmark.research.{name}", description=module.__doc__
    )
    parser.add_argument("seeds", nargs="*", type=int, help="default: all, and the page is written")
    parser.add_argument(
        "--write", action="store_true", help="train nothing, write the page with what is trained"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    try:
        results = module.measure(arguments.seeds or module.SEEDS, arguments.write)
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on")
        return STOPPED
    except DisamError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.seeds and not arguments.write:
        PAGE.show(name, results)
        return 0
    PAGE.keep(name, stored(results), circumstances())
    if hasattr(module, "draw"):
        module.draw(stored(results))
    PAGE.write()
    return 0
