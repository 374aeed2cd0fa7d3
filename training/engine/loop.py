# SPDX-License-Identifier: Apache-2.0
"""Training loop of all methods: stages, validation, checkpoints, export.

For each stage: start or restore its networks, then steps with losses logged, validated and
checkpointed; then the model directory and report.html. Ctrl-C writes a checkpoint and ends.
"""

from __future__ import annotations

import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from disam_ros.domains.domain import domains_named, load_rules
from disam_ros.entry import heeded
from disam_ros.files.outputs import MODEL, require_output
from disam_ros.models.model import Model, load_model
from training.data import held_out
from training.data.check import check_images
from training.data.image_store import ImageStore, prefetched
from training.data.sources import Photo, find_photos
from training.engine import checkpoints, parallel
from training.engine.export import git_commit
from training.engine.guard import Guard
from training.engine.judgement import judge, log_queries
from training.engine.networks import Networks
from training.engine.report import Report, write_report
from training.engine.reporting import LossLog, Reporter
from training.engine.shares import GradientWatch
from training.engine.stage_base import StageBase
from training.engine.validate import (
    Encoder,
    Similarity,
    ValidationSet,
    load_validation,
    recall,
)
from training.errors import NotFiniteError, TrainingError
from training.settings import RunConfig

log = logging.getLogger(__name__)

PREFETCHED = 2  # batches drawn ahead of the step that trains on them


class Interrupted(Exception):
    """The run was stopped by a signal; a checkpoint is written."""

    def __init__(self, text: str, signum: int) -> None:
        super().__init__(text)
        self.signum = signum


Config = TypeVar("Config", bound=RunConfig)


class Loop(ABC, Generic[Config]):
    """A run of a recipe. Raises DisamError where config, data or files do not fit.

    A method fills in what its data, stages, metric and finished model are.
    """

    domains: list[str]  # in the model's order
    watch: Callable[[int, Mapping[str, Encoder]], None] | None = None  # of each validation

    def __init__(self, config: Config, resume: bool = False) -> None:
        self.config = config
        self.processes, self.device = parallel.join(config.device)
        self.directory = Path(config.output or f"runs/{config.name}")
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.benchmark = True
        size, light = config.image_size, config.light
        allowed = {*config.domains, ""} if config.domains else None
        self._require_fresh(resume)
        photos, self.validation_data = self._hold_out(
            [p for p in find_photos(config.data) if allowed is None or p.domain in allowed]
        )
        self.store = store = ImageStore(photos, size, config.crops, light=light)
        rows = store.rows()
        self.domains = config.domains or list(rows)
        self.tags = domains_named(self.domains, load_rules(config.rules or None))
        self.prepare(store)
        self.images = {domain: len(rows.get(domain, [])) for domain in self.domains}
        self.validation: ValidationSet | None = None
        if self.validation_data and self.processes.first:
            chosen = replace(config.validation, data=self.validation_data)
            by_day = {
                tag.name for tag in self.tags if tag.sun_elevation and tag.sun_elevation[0] >= 0
            }
            self.validation = load_validation(
                chosen, size, config.crops, self.domains, light, by_day
            )
            log_queries(self.validation, bool(config.validation.reference))
        self.progress = self._begin()

    @abstractmethod
    def prepare(self, store: ImageStore) -> None:
        """Create the samplers. Raises TrainingError for unusable images."""

    @abstractmethod
    def stage_run(self, index: int) -> StageBase[Config]:
        """Begin a stage with new networks, or those of the stage it starts from."""

    @abstractmethod
    def metric(self, run: Any) -> tuple[Mapping[str, Callable[[Tensor], Tensor]], Similarity]:
        """Returns the encoders by domain, and the similarity of their features."""

    @abstractmethod
    def export(self) -> Path:
        """Write the model directory from the finished stages."""

    @abstractmethod
    def start(self) -> Mapping[str, Encoder]:
        """Returns the encoders by domain as they were before any stage."""

    @abstractmethod
    def similarity(self) -> Similarity:
        """Returns the similarity that the finished model is judged by."""

    def complete(self, model: Path, exported: Model) -> list[str]:
        """Complete the finished model directory. Returns sentences for the report; none by
        default."""
        return []

    @property
    def start_is_eligible(self) -> bool:
        """Whether a stage may end with the weights that it started from."""
        return True

    def kept_start(self, exported: Model) -> bool:
        """Tells whether no weights of the training validated better than those it started from."""
        last = self.config.stages[-1]
        entries = [e for e in self.progress.history if e["stage"] == last.name]
        best = max(entries, key=lambda entry: entry["mean"], default=None)
        return best is not None and not best["step"] and not self.config.start_of(last)

    def finish(self, model: Path) -> None:
        """Complete the model directory, judge the model and write report.html."""
        exported = load_model(model)
        notes, judgement = self.complete(model, exported), None
        if self.validation is not None:
            for encoder in exported.fine.values():
                encoder.to(self.device)
            judgement = judge(
                start=self.start(),
                result=exported.fine,
                similarity=self.similarity(),
                validation=self.validation,
                device=self.device,
                kept_start=self.kept_start(exported),
            )
        report = Report(
            model=self.config.name,
            progress=self.progress,
            images=self.images,
            judgement=judgement,
            notes=notes,
        )
        log.info("report written to %s", write_report(report, self.directory / "report.html"))
        if judgement is not None:
            log.log(judgement.level, "%s", judgement.verdict)

    def check_data(self) -> list[str]:
        """Says what is wrong with the images, in sentences with a remedy."""
        return check_images(self.store)

    def picture(self, run: StageBase[Config], batch: object, reporter: Reporter, step: int) -> None:
        """Report images of a step to TensorBoard; none by default."""
        return

    def run(self) -> Path:
        """Check the data of a new run, then train all stages that are left.

        Returns the model directory.
        """
        if self.processes.first and not (self.progress.stage or self.progress.step):
            self.progress.data = self.check_data()
            for sentence in self.progress.data:
                log.warning("data: %s", sentence)
        with StopSignals() as stop:
            for index in range(self.progress.stage, len(self.config.stages)):
                self._run_stage(index, stop)
        if self.processes.first:
            self.finish(self.export())
        self.processes.wait()
        return self.directory / "model"

    def place(self, networks: Networks) -> None:
        """Move networks to the device in the recipe's memory format."""
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        for _, module in networks.modules():
            module.to(self.device)
            module.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it

    def _hold_out(self, photos: list[Photo]) -> tuple[list[Photo], list[str]]:
        """Separates photos to train on from validation data: data named, or a part of routes."""
        chosen = self.config.validation
        if chosen.data or not chosen.held_out:
            return photos, chosen.data
        kept, held = held_out.split(photos, chosen.held_out)
        if not held:
            log.warning(
                "data: no route is long enough to hold a part of it out: nothing is validated, the "
                "last weights are kept. Give drives of another route with --validation"
            )
            return photos, []
        folder = self.directory / "validation"
        if self.processes.first:
            held_out.write(held, folder)
        return kept, [str(folder)]

    def _require_fresh(self, resume: bool) -> None:
        """Raises TrainingError where another run's files would be changed."""
        if not resume and checkpoints.find_checkpoint(self.directory) is not None:
            raise TrainingError(
                f"{self.directory} holds a run already; go on with --resume, or choose another "
                f"--output"
            )

    def _begin(self) -> checkpoints.Progress:
        if self.processes.first:  # hours before it is written
            require_output(self.directory / "model", MODEL, overwrite=True)
        newest = checkpoints.find_checkpoint(self.directory)
        if newest is None:
            if self.processes.first:
                checkpoints.forget_stages(self.directory)
            return checkpoints.Progress(began_at=git_commit())
        return checkpoints.load_progress(newest, self.config, self.images, self.processes)

    def _run_stage(self, index: int, stop: StopSignals) -> None:
        stage, progress = self.config.stages[index], self.progress
        run = self.stage_run(index)
        if progress.step:
            checkpoint = checkpoints.find_checkpoint(self.directory)
            assert checkpoint is not None  # its progress was read
            checkpoints.restore(checkpoint, run, self.processes)
        run.rate_factor = progress.rate
        guard, losses = Guard(run, progress.step), LossLog(stage.name)
        shown = self.processes.first
        with Reporter(self.directory, stage.name, stage.steps, progress.step, shown) as reporter:
            if self.validation is not None and not progress.step:
                self._validate(run, reporter, 0)  # of the start
            while progress.step < stage.steps:
                try:
                    self._steps(run, losses, guard, reporter, stop)
                except NotFiniteError as error:
                    self._roll_back(run, guard, error)
                    reporter.back_to(progress.step)
        if self.config.smoke:
            self._require_gradients(stage.name)
        self._finish_stage(run)

    def _require_gradients(self, stage: str) -> None:
        """Raises TrainingError for a loss of a stage that no measurement found a gradient of."""
        terms = self.progress.terms.get(stage, {})
        dead = [n for n, e in terms.items() if e.get("measured") and not e["gradient_share"]]
        if dead:
            measured = terms[dead[0]]["measured"]
            raise TrainingError(
                f"{', '.join(dead)} of stage '{stage}' had no gradient in {measured:.0f} "
                f"measurements: the recipe does not train what it names. Choose 'triplets.form: "
                f"relative', another margin, or turn the loss off"
            )

    def _steps(
        self,
        run: StageBase[Config],
        losses: LossLog,
        guard: Guard,
        reporter: Reporter,
        stop: StopSignals,
    ) -> None:
        """Train the steps that are left.

        Raises NotFiniteError; steps after the last good one, which `guard` holds, are void then.
        """
        progress, watch = self.progress, GradientWatch(run.stage.name)
        steps = range(progress.step, run.stage.steps)
        began = time.monotonic() - progress.seconds
        with closing(prefetched(run.batch, steps, PREFETCHED)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                terms = run.step(step, batch)
                losses.add(step + 1, terms)
                progress.step = step + 1
                progress.seconds = time.monotonic() - began
                reporter.advance()
                if run.gradients and self.processes.first:
                    watch.check(step + 1, run.gradients)
                    reporter.shares(step + 1, terms, run.shares)
                    progress.note(run.stage.name, {}, run.shares)
                self._report(run, batch, losses, guard, reporter, step + 1)
                if self.config.patience and self.processes.any(
                    self._is_done(run.stage.name), self.device
                ):
                    log.info("no better recall for %d validations: done", self.config.patience)
                    progress.step = run.stage.steps
                    return
                if self.processes.any(bool(stop.asked), self.device):
                    self._settle(run, losses, guard)
                    self._checkpoint(run)
                    text = f"stopped after step {step + 1} of stage '{run.stage.name}'"
                    raise Interrupted(text, stop.asked or signal.SIGINT)

    def _report(
        self,
        run: StageBase[Config],
        batch: object,
        losses: LossLog,
        guard: Guard,
        reporter: Reporter,
        step: int,
    ) -> None:
        """Report losses and pictures, validate and save a checkpoint, at their intervals."""
        config, last = self.config, step == run.stage.steps
        logs = step % config.log_every == 0 or last
        validates = self.validation is not None and (step % config.validate_every == 0 or last)
        keeps = step % config.checkpoint_every == 0 and not last
        if logs or validates or keeps:
            means = self._settle(run, losses, guard)
            if logs:
                reporter.losses(step, means, run.learning_rate(step - 1))
        self.picture(run, batch, reporter, step)
        if validates:
            self._validate(run, reporter, step)
        if keeps:
            self._checkpoint(run)

    def _settle(self, run: StageBase[Config], losses: LossLog, guard: Guard) -> dict[str, float]:
        """Take the steps since the last call as good. Returns their mean losses.

        Raises NotFiniteError, in all processes, where a loss or weight of any is not finite.
        """
        fault, means = None, {}
        try:
            means = losses.flush()
            guard.keep(run, self.progress.step)
        except NotFiniteError as error:
            fault = error
        if self.processes.any(fault is not None, self.device):
            raise fault or NotFiniteError("a loss is not finite in another process")
        self.progress.note(run.stage.name, means, {})
        return means

    def _roll_back(self, run: StageBase[Config], guard: Guard, error: NotFiniteError) -> None:
        """Back to the last good step at half the learning rate, once a stage."""
        if self.progress.rate < 1.0:
            raise TrainingError(
                f"{error}, again at half the learning rate: stopped. The last good checkpoint is "
                f"kept; lower learning_rate or that loss's weight and start again"
            ) from error
        self.progress.step = guard.restore(run)
        self.progress.rate = run.rate_factor = 0.5
        log.warning(
            "%s: back to step %d, learning rate halved; the next time is an error",
            error,
            self.progress.step,
        )

    def _is_done(self, stage: str) -> bool:
        """Tells whether the last `patience` validations of a stage were no better than before."""
        means = [entry["mean"] for entry in self.progress.history if entry["stage"] == stage]
        patience = self.config.patience
        return patience < len(means) and max(means[-patience:]) <= max(means[:-patience])

    def _validate(self, run: StageBase[Config], reporter: Reporter, step: int) -> None:
        name = run.stage.name
        assert self.validation is not None
        encoders, similarity = self.metric(run)
        recalls = recall(encoders, similarity, self.validation, self.device)
        if self.watch is not None:
            self.watch(step, encoders)
        reporter.recall(step, recalls)
        self.progress.history.append({"stage": name, "step": step, **recalls})
        eligible = step or self.start_is_eligible
        if eligible and recalls["mean"] > self.progress.best.get(name, -1.0):
            self.progress.best[name] = recalls["mean"]
            weights = Networks(run.networks.encoders).state()
            checkpoints.save_stage(self.directory, f"{name}.best", weights)

    def _checkpoint(self, run: StageBase[Config]) -> None:
        checkpoints.save_checkpoint(
            directory=self.directory,
            config=self.config,
            images=self.images,
            progress=self.progress,
            run=run,
            processes=self.processes,
        )

    def _finish_stage(self, run: StageBase[Config]) -> None:
        if self.processes.first:
            checkpoints.save_stage(self.directory, run.stage.name, run.networks.state())
        self.progress.stage, self.progress.step, self.progress.rate = run.index + 1, 0, 1.0
        self._checkpoint(run)


class StopSignals:
    """A signal asks for a clean stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = 0  # number of the signal
        self._before: dict[int, Any] = {}  # handlers as `signal.signal` returns them

    def __enter__(self) -> StopSignals:
        for number in heeded():
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
