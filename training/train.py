# SPDX-License-Identifier: Apache-2.0
"""Train a model: `python -m training.train --config RECIPE [--data DIR ...] [--resume]`.

Stages run one after the other (translation, coarse, fine; for `method: global` descriptors,
decoder). Ctrl-C writes a checkpoint and ends; `--resume` goes on from the last checkpoint.
`torchrun --nproc-per-node N -m training.train ...` uses N GPUs or processes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from disam_ros.errors import DisamError
from disam_ros.files.printable import log_to_stderr
from disam_ros.models.export import add_onnx
from training.disam.config import TrainConfig
from training.disam.run import Training
from training.engine import parallel
from training.engine.loop import Interrupted, Loop
from training.global_descriptors.config import GlobalTrainConfig
from training.global_descriptors.run import GlobalTraining
from training.recipes import load_config
from training.settings import RunConfig

log = logging.getLogger(__name__)


def open_run(config: RunConfig, resume: bool = False) -> Loop[Any]:
    """Opens the run of a recipe by its method."""
    if isinstance(config, GlobalTrainConfig):
        return GlobalTraining(config, resume)
    assert isinstance(config, TrainConfig)
    return Training(config, resume)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training, here and of the command `disam train`."""
    parser.add_argument("--config", required=True, help="recipe, config/train_*.yaml")
    parser.add_argument("--data", nargs="+", help="replaces the recipe's data")
    parser.add_argument("--validation", nargs="*", help="replaces the recipe's validation data")
    parser.add_argument("--initial", help="weights to start from, as in the recipe")
    parser.add_argument("--output", help="run directory")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def read_recipe(options: argparse.Namespace) -> tuple[RunConfig, bool]:
    """Reads the recipe with the command line's changes, and whether to resume."""
    config = load_config(options.config)
    for key in ("data", "initial", "output", "device", "seed"):
        if getattr(options, key) is not None:
            setattr(config, key, getattr(options, key))
    if options.validation is not None:
        config.validation.data = options.validation
    return config, options.resume


def main(arguments: list[str] | None = None) -> int:
    """Train. Returns the exit status of `run`."""
    parser = argparse.ArgumentParser(prog="training.train", description="Train a model.")
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Train. Returns 0 done, 1 an error a user can act on, 128 and the signal's number."""
    log_to_stderr(logging.INFO)
    logging.getLogger("training").setLevel(logging.INFO)  # disam shows warnings of others alone
    try:
        config, resume = read_recipe(options)
        training = open_run(config, resume)
        model = training.run()
        if training.processes.first:
            add_onnx(model)
            log.info("model written to %s", model)
        return 0
    except Interrupted as stopped:
        log.info("%s; go on with --resume", stopped)
        return 128 + stopped.signum
    except KeyboardInterrupt:
        log.error("interrupted; --resume goes on from the last checkpoint, if there is one")
        return 130
    except DisamError as error:
        log.error("%s", error)
        return 1
    finally:
        parallel.leave()


if __name__ == "__main__":
    sys.exit(main())
