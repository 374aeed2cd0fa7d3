# SPDX-License-Identifier: Apache-2.0
"""Train a model: `python -m training.train --config RECIPE [--data DIR ...] [--resume]`.

Stages run one after the other (translation, coarse, fine). Ctrl-C writes a checkpoint and ends;
`--resume` goes on from the last checkpoint. `torchrun --nproc-per-node N -m training.train ...`
uses N GPUs or processes.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from pathlib import Path
from types import FrameType, TracebackType

import torch

from disam_ros.domain_rules import domains_named, load_rules
from disam_ros.errors import DisamError
from training import checkpoints, parallel
from training.config import ALIGNED, TRANSLATING, TrainConfig, load_config
from training.datasets import ImageStore, prefetched
from training.errors import TrainingError
from training.export import export_model, git_commit
from training.networks import Networks, create_networks
from training.reporting import LossLog, Reporter, translation_grid
from training.sampling import Batch, Sampler
from training.sources import find_photos
from training.stage import StageRun
from training.steps import descriptor_of
from training.validate import ValidationSet, load_validation, recall

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was told to stop; a checkpoint is written."""


class Training:
    """A run of a recipe in its directory. Raises DisamError where config, data or files do not fit.

    The steps of `run`: for each stage, start or restore its networks, then steps with losses
    logged, validated and checkpointed; then the model directory.
    """

    def __init__(self, config: TrainConfig, resume: bool = False) -> None:
        self.config = config
        self.processes, self.device = parallel.join(config.device)
        self.directory = Path(config.output or f"runs/{config.name}")
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.benchmark = True
        size = config.network.build().image_size
        wanted = {*config.domains, ""} if config.domains else None
        photos = [p for p in find_photos(config.data) if wanted is None or p.domain in wanted]
        store = ImageStore(photos, size, config.crops)
        found = store.rows()
        self.domains = config.domains or list(found)
        self.tags = domains_named(self.domains, load_rules(config.rules or None))
        self.sampler = Sampler(store, self.domains, config.seed, self.processes.rank)
        if any(stage.losses.on(ALIGNED) for stage in config.stages):
            self.sampler.prepare_pairs(config.aligned)
        self.images = {domain: len(found[domain]) for domain in self.domains}
        self.validation: ValidationSet | None = None
        if config.validation.data and self.processes.first:
            self.validation = load_validation(config.validation, size, config.crops, self.domains)
        self.progress = self._begin(resume)

    def run(self) -> Path:
        """Train all stages that are left. Returns the model directory."""
        with StopSignals() as stop:
            for index in range(self.progress.stage, len(self.config.stages)):
                self._run_stage(index, stop)
        target = self.directory / "model"
        if self.processes.first:
            export_model(self.config, self.tags, self.directory, self.progress, self.images)
        self.processes.wait()
        return target

    def _begin(self, resume: bool) -> checkpoints.Progress:
        newest = checkpoints.find_checkpoint(self.directory)
        if newest is None:
            if self.processes.first:
                checkpoints.forget_stages(self.directory)
            return checkpoints.Progress(began_at=git_commit())
        if not resume:
            raise TrainingError(
                f"{self.directory} holds a run already; go on with --resume, or choose another "
                f"--output"
            )
        return checkpoints.load_progress(newest, self.config, self.images, self.processes)

    def _run_stage(self, index: int, stop: StopSignals) -> None:
        stage = self.config.stages[index]
        run = StageRun(self.config, index, self._networks(index), self.device, self.processes)
        if self.progress.step:
            newest = checkpoints.find_checkpoint(self.directory)
            checkpoints.restore(newest, run, self.processes)
        first = self.progress.step
        losses = LossLog(stage.name)
        steps = range(first, stage.steps)
        batches = prefetched(lambda step: run.draw(self.sampler, step), steps, self.config.prefetch)
        shown = self.processes.first
        began = time.monotonic() - self.progress.seconds
        with Reporter(self.directory, stage.name, stage.steps, first, shown) as reporter:
            for step, batch in zip(steps, batches, strict=True):
                losses.add(step + 1, run.step(step, batch))
                self.progress.step = step + 1
                self.progress.seconds = time.monotonic() - began
                reporter.advance()
                self._look(run, batch, losses, reporter, step + 1)
                if self.processes.any(stop.asked, self.device):
                    self._checkpoint(run, losses)
                    raise Interrupted(f"stopped after step {step + 1} of stage '{stage.name}'")
        self._finish_stage(run, losses)

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
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for _, module in networks.modules():
            module.to(self.device, memory_format=layout)
            if config.compile:
                module.compile()
        return networks

    def _look(
        self, run: StageRun, batch: Batch, losses: LossLog, reporter: Reporter, step: int
    ) -> None:
        """Losses, pictures, validation and checkpoint where they are due."""
        config, last = self.config, step == run.stage.steps
        if step % config.log_every == 0 or last:
            reporter.losses(step, losses.flush(), run.learning_rate(step - 1))
        if config.grid_every and step % config.grid_every == 0 and batch.unpaired is not None:
            unpaired = run.to_device(batch).unpaired
            reporter.grid(step, translation_grid(run.networks, unpaired))
        if self.validation is not None and (step % config.validate_every == 0 or last):
            losses.flush()
            self._validate(run, reporter, step)
        if step % config.checkpoint_every == 0 and not last:
            self._checkpoint(run, losses)

    def _validate(self, run: StageRun, reporter: Reporter, step: int) -> None:
        name = run.stage.name
        describe = descriptor_of(name, self.config.descriptor)
        found = recall(run.networks.encoders, describe, self.validation, self.device)
        reporter.recall(step, found)
        self.progress.history.append({"stage": name, "step": step, **found})
        if found["mean"] > self.progress.best.get(name, -1.0):
            self.progress.best[name] = found["mean"]
            encoders = Networks(run.networks.encoders).state()
            checkpoints.save_stage(self.directory, f"{name}.best", encoders)

    def _checkpoint(self, run: StageRun, losses: LossLog) -> None:
        losses.flush()
        checkpoints.save_checkpoint(
            *(self.directory, self.config, self.images, self.progress, run, self.processes)
        )

    def _finish_stage(self, run: StageRun, losses: LossLog) -> None:
        if self.processes.first:
            checkpoints.save_stage(self.directory, run.stage.name, run.networks.state())
        self.progress.stage, self.progress.step = run.index + 1, 0
        self._checkpoint(run, losses)


class StopSignals:
    """Ctrl-C or SIGTERM asks for a clean stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def parse_arguments(arguments: list[str] | None = None) -> tuple[TrainConfig, bool]:
    """The recipe with the command line's changes, and whether to resume."""
    parser = argparse.ArgumentParser(prog="training.train", description="Train a DISAM model.")
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
        training = Training(config, resume)
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
