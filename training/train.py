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
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from disam_ros.errors import DisamError
from training import checkpoints, parallel
from training.config import ALIGNED, TRANSLATING, load_config
from training.datasets import ImageStore
from training.export import export_model
from training.global_descriptors.config import GlobalTrainConfig
from training.global_descriptors.run import GlobalTraining
from training.loop import Interrupted, Loop
from training.networks import Networks, create_networks
from training.reporting import Reporter, translation_grid
from training.sampling import Batch, Sampler
from training.settings import RunConfig
from training.stage import StageRun
from training.steps import descriptor_of

log = logging.getLogger(__name__)


class Training(Loop):
    """A run of DISAM's own method: encoders per domain, from translation or from true pairs."""

    def image_size(self) -> tuple[int, int]:
        return self.config.network.build().image_size

    def prepare(self, store: ImageStore) -> None:
        self.sampler = Sampler(store, self.domains, self.config.seed, self.processes.rank)
        if any(stage.losses.on(ALIGNED) for stage in self.config.stages):
            self.sampler.prepare_pairs(self.config.aligned)

    def stage_run(self, index: int) -> StageRun:
        networks = self._networks(index)
        return StageRun(self.config, index, networks, self.device, self.processes, self.sampler)

    def metric(self, run: StageRun) -> tuple[Mapping, Callable[[Tensor], Tensor]]:
        return run.networks.encoders, descriptor_of(run.stage.name, self.config.descriptor)

    def export(self) -> Path:
        return export_model(self.config, self.tags, self.directory, self.progress, self.images)

    def picture(self, run: StageRun, batch: Batch, reporter: Reporter, step: int) -> None:
        every = self.config.grid_every
        if every and step % every == 0 and batch.unpaired is not None:
            unpaired = run.to_device(batch).unpaired
            reporter.grid(step, translation_grid(run.networks, unpaired))

    def _networks(self, index: int) -> Networks:
        """New networks, or those of the stage this one starts from."""
        config = self.config
        translating = any(stage.losses.on(TRANSLATING) for stage in config.stages)
        networks = create_networks(config.network.build(), self.domains, translating, config.seed)
        start = config.start_of(config.stages[index])
        if start:
            networks.load(checkpoints.load_stage(self.directory, start))
        elif config.initial:
            networks.start_from(Path(config.initial))
        self.place(networks)
        if config.compile:
            for _, module in networks.modules():
                module.compile()
        return networks


def open_run(config: RunConfig, resume: bool = False) -> Loop:
    """The run of a recipe by its method."""
    kind = GlobalTraining if isinstance(config, GlobalTrainConfig) else Training
    return kind(config, resume)


def parse_arguments(arguments: list[str] | None = None) -> tuple[RunConfig, bool]:
    """The recipe with the command line's changes, and whether to resume."""
    parser = argparse.ArgumentParser(prog="training.train", description="Train a model.")
    parser.add_argument("--config", required=True, help="recipe, config/train_*.yaml")
    parser.add_argument("--data", nargs="+", help="replaces the recipe's data")
    parser.add_argument("--validation", nargs="*", help="replaces the recipe's validation data")
    parser.add_argument("--initial", help="weights to start from, as in the recipe")
    parser.add_argument("--output", help="run directory")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    given = parser.parse_args(arguments)
    config = load_config(given.config)
    for key in ("data", "initial", "output", "device", "seed"):
        if getattr(given, key) is not None:
            setattr(config, key, getattr(given, key))
    if given.validation is not None:
        config.validation.data = given.validation
    return config, given.resume


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 an error a user can act on, 130 stopped with a checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        config, resume = parse_arguments(arguments)
        training = open_run(config, resume)
        model = training.run()
        if training.processes.first:
            log.info("model written to %s", model)
        return 0
    except Interrupted as stopped:
        log.info("%s; go on with --resume", stopped)
        return 130
    except DisamError as error:
        log.error("%s", error)
        return 1
    finally:
        parallel.leave()


if __name__ == "__main__":
    sys.exit(main())
