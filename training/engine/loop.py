# SPDX-License-Identifier: Apache-2.0
"""Training loop of all methods: stages, validation, checkpoints, export.

For each stage: start or restore its networks, then steps with losses logged, validated and
checkpointed; then the model directory. Ctrl-C writes a checkpoint and ends.
"""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import Tensor

from disam_ros.domains.rules import domains_named, load_rules
from training.data.image_store import ImageStore, prefetched
from training.data.sources import find_photos
from training.engine import checkpoints, parallel
from training.engine.export import git_commit
from training.engine.networks import Networks
from training.engine.reporting import LossLog, Reporter
from training.engine.stage_base import StageBase
from training.engine.validate import Similarity, ValidationSet, load_validation, recall
from training.errors import TrainingError
from training.settings import RunConfig


class Interrupted(Exception):
    """The run was stopped by a signal; a checkpoint is written."""


class Loop(ABC):
    """A run of a recipe. Raises DisamError where config, data or files do not fit.

    A method fills in what its data, stages, metric and finished model are.
    """

    domains: list[str]  # in the model's order

    def __init__(self, config: RunConfig, resume: bool = False) -> None:
        self.config = config
        self.processes, self.device = parallel.join(config.device)
        self.directory = Path(config.output or f"runs/{config.name}")
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.benchmark = True
        size = self.image_size()
        wanted = {*config.domains, ""} if config.domains else None
        photos = [p for p in find_photos(config.data) if wanted is None or p.domain in wanted]
        light = {"day": config.webcam_day, "night": config.webcam_night}
        store = ImageStore(photos, size, config.crops, light=light)
        found = store.rows()
        self.domains = config.domains or list(found)
        self.tags = domains_named(self.domains, load_rules(config.rules or None))
        self.prepare(store)
        self.images = {domain: len(found.get(domain, [])) for domain in self.domains}
        self.validation: ValidationSet | None = None
        if config.validation.data and self.processes.first:
            self.validation = load_validation(
                config.validation, size, config.crops, self.domains, light
            )
        self.progress = self._begin(resume)

    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Height and width of the networks' images in pixels."""

    @abstractmethod
    def prepare(self, store: ImageStore) -> None:
        """Create the samplers. Raises TrainingError for unusable images."""

    @abstractmethod
    def stage_run(self, index: int) -> StageBase:
        """A stage with its networks: new ones, or those of the stage it starts from."""

    @abstractmethod
    def metric(self, run: StageBase) -> tuple[Mapping[str, Callable[[Tensor], Tensor]], Similarity]:
        """Encoders by domain, and the similarity of their features."""

    @abstractmethod
    def export(self) -> Path:
        """Write the model directory from the finished stages."""

    def picture(self, run: StageBase, batch: object, reporter: Reporter, step: int) -> None:
        """Report images of a step to TensorBoard; none by default."""
        return

    def run(self) -> Path:
        """Train all stages that are left. Returns the model directory."""
        with StopSignals() as stop:
            for index in range(self.progress.stage, len(self.config.stages)):
                self._run_stage(index, stop)
        if self.processes.first:
            self.export()
        self.processes.wait()
        return self.directory / "model"

    def place(self, networks: Networks) -> None:
        """Move networks to the device in the recipe's memory format."""
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        for _, module in networks.modules():
            module.to(self.device, memory_format=layout)

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
        run = self.stage_run(index)
        if self.progress.step:
            newest = checkpoints.find_checkpoint(self.directory)
            checkpoints.restore(newest, run, self.processes)
        first = self.progress.step
        losses = LossLog(stage.name)
        steps = range(first, stage.steps)
        batches = prefetched(run.batch, steps, self.config.prefetch)
        shown = self.processes.first
        began = time.monotonic() - self.progress.seconds
        with Reporter(self.directory, stage.name, stage.steps, first, shown) as reporter:
            if self.validation is not None and not first:
                self._validate(run, reporter, 0)  # of the start
            for step, batch in zip(steps, batches, strict=True):
                losses.add(step + 1, run.step(step, batch))
                self.progress.step = step + 1
                self.progress.seconds = time.monotonic() - began
                reporter.advance()
                self._report(run, batch, losses, reporter, step + 1)
                if self.processes.any(stop.asked, self.device):
                    self._checkpoint(run, losses)
                    raise Interrupted(f"stopped after step {step + 1} of stage '{stage.name}'")
        self._finish_stage(run, losses)

    def _report(
        self, run: StageBase, batch: object, losses: LossLog, reporter: Reporter, step: int
    ) -> None:
        """Losses, pictures, validation and checkpoint at their intervals."""
        config, last = self.config, step == run.stage.steps
        if step % config.log_every == 0 or last:
            reporter.losses(step, losses.flush(), run.learning_rate(step - 1))
        self.picture(run, batch, reporter, step)
        if self.validation is not None and (step % config.validate_every == 0 or last):
            losses.flush()
            self._validate(run, reporter, step)
        if step % config.checkpoint_every == 0 and not last:
            self._checkpoint(run, losses)

    def _validate(self, run: StageBase, reporter: Reporter, step: int) -> None:
        name = run.stage.name
        found = recall(*self.metric(run), self.validation, self.device)
        reporter.recall(step, found)
        self.progress.history.append({"stage": name, "step": step, **found})
        if step and found["mean"] > self.progress.best.get(name, -1.0):
            self.progress.best[name] = found["mean"]
            encoders = Networks(run.networks.encoders).state()
            checkpoints.save_stage(self.directory, f"{name}.best", encoders)

    def _checkpoint(self, run: StageBase, losses: LossLog) -> None:
        losses.flush()
        checkpoints.save_checkpoint(
            directory=self.directory,
            config=self.config,
            images=self.images,
            progress=self.progress,
            run=run,
            processes=self.processes,
        )

    def _finish_stage(self, run: StageBase, losses: LossLog) -> None:
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
