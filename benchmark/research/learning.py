# SPDX-License-Identifier: Apache-2.0
"""What the sections that train networks have in common: command line, and a run's figures."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.machine import circumstances
from benchmark.research.page import PAGE
from disam_ros.files.writing import write_json
from training.disam.averaging import interpolated
from training.disam.config import TrainConfig
from training.disam.run import Training
from training.engine.checkpoints import load_stage
from training.engine.loop import Interrupted
from training.engine.networks import State

STOPPED = 130  # exit code after Ctrl-C
SHARE = 0.5  # of the trained weights in the average with the start
FIGURES = "recall.json"  # of a finished run


def seeds_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser of the seeds to train. name: of the section, which is its module's."""
    parser = argparse.ArgumentParser(prog=f"benchmark.research.{name}", description=doc)
    parser.add_argument("seeds", nargs="*", type=int, help="default: all, and the page is written")
    parser.add_argument("--write", action="store_true", help="write the page with these seeds")
    return parser


def train_section(
    name: str,
    measure: Callable[[], dict[str, Any]],
    whole: bool,
    finish: Callable[[dict[str, Any], str], tuple[dict[str, Any], str]] | None = None,
) -> int:
    """Measure, then write the section if it is whole, else print it. Returns the exit code:
    STOPPED where it was interrupted, after which the same command goes on.

    finish: takes the results and how they were made, returns what the section shall say of both.
    """
    logging.basicConfig(level=logging.WARNING)
    try:
        results = measure()
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on")
        return STOPPED
    if not whole:
        PAGE.show(name, results)
        return 0
    under = circumstances()
    PAGE.keep(name, *((results, under) if finish is None else finish(results, under)))
    PAGE.write()
    return 0


def run_figures(
    config: TrainConfig, start: State, recall: Callable[[State], Any]
) -> dict[str, Any]:
    """Figures of a run of one stage, which is trained, resumed or only read: recall of its weights
    "trained" and "averaged" with the start, "terms" of its losses, "seconds"."""
    kept = Path(config.output) / FIGURES
    if kept.exists():
        result: dict[str, Any] = json.loads(kept.read_text())
        return result
    (stage,) = config.stages
    training = Training(config, resume=True)
    training.run()
    trained = load_stage(Path(config.output), stage.name)
    trained = {k: v for k, v in trained.items() if k.startswith("encoders/")}
    halfway = interpolated(start, trained, dict.fromkeys(config.domains, SHARE))
    results = {
        "trained": recall(trained),
        "averaged": recall(halfway),
        "terms": training.progress.terms[stage.name],
        "seconds": training.progress.seconds,
    }
    write_json(kept, results)
    return results
