# SPDX-License-Identifier: Apache-2.0
"""Training of DISAM's own method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disam_ros.models.model import Model
from training.data.check import check_crops, check_pairs
from training.data.image_store import ImageStore
from training.disam.averaging import Average, choose_average
from training.disam.calibrating import calibrate_model
from training.disam.config import ALIGNED, TRANSLATING, TrainConfig
from training.disam.export import export_model
from training.disam.frames import check_frames
from training.disam.matching import similarity_of
from training.disam.networks import create_networks, translation_grid
from training.disam.sampling import Sampler
from training.disam.stage import StageRun
from training.engine import checkpoints
from training.engine.loop import Loop
from training.engine.networks import Networks, State
from training.engine.reporting import Reporter
from training.engine.validate import Encoder, Similarity, recall


class Training(Loop[TrainConfig]):
    """A run of DISAM's own method: encoders per domain, from translation or from true pairs."""

    def prepare(self, store: ImageStore) -> None:
        self.sampler = Sampler(store, self.domains, self.config.seed, self.processes.rank)
        if any(stage.losses.on(ALIGNED) for stage in self.config.stages):
            self.sampler.prepare_pairs(self.config.aligned, self.config.frozen)

    def check_data(self) -> list[str]:
        """Checks true pairs, too, where the recipe has losses on them."""
        faults, sampler, config = super().check_data(), self.sampler, self.config
        if sampler.pairs:
            faults += check_pairs(self.store, sampler.rows, sampler.pairs, config.frozen)
            faults += check_crops(self.store, sampler.pairs)
            networks = self._networks(0)
            faults += check_frames(
                encoders=networks.encoders,
                similarity=similarity_of("fine", config.descriptor),
                store=self.store,
                partners=sampler.pairs,
                negative_radius=config.aligned.negative_radius,
                device=self.device,
            )
        return faults

    def stage_run(self, index: int) -> StageRun:
        networks = self._networks(index)
        if self.config.compile:
            from torch._functorch import config as functorch  # here, as it loads the compiler

            functorch.donated_buffer = False  # shares of the gradient reuse the graph of a step
            for _, module in networks.modules():
                module.compile()
        return StageRun(self.config, index, networks, self.device, self.processes, self.sampler)

    def metric(self, run: StageRun) -> tuple[Mapping[str, Any], Similarity]:
        return run.networks.encoders, similarity_of(run.stage.name, self.config.descriptor)

    def export(self) -> Path:
        average = self._average if self.config.average else None
        return export_model(
            config=self.config,
            domains=self.tags,
            directory=self.directory,
            progress=self.progress,
            images=self.images,
            average=average,
        )

    def complete(self, model: Path, exported: Model) -> list[str]:
        """Calibrate the model; say how it was averaged."""
        notes = []
        if self.config.average and self.validation is not None:
            notes += [
                f"share of the trained weights in the average: {_listed(average['shares'])}"
                for average in exported.training["average"].values()
            ]
        if self.config.calibrate and self.validation is not None:
            reference = self.validation.reference
            notes.append(calibrate_model(model, self.validation_data, reference))
        return notes

    @property
    def start_is_eligible(self) -> bool:
        """Whether a stage may end with its start; an average has it as one of its sides."""
        return not self.config.average

    def kept_start(self, exported: Model) -> bool:
        averages = exported.training.get("average", {}).values()
        if averages:
            return not any(any(average["shares"].values()) for average in averages)
        return super().kept_start(exported)

    def start(self) -> Mapping[str, Encoder]:
        return self._start().encoders

    def similarity(self) -> Similarity:
        return similarity_of("fine", self.config.descriptor)

    def _start(self) -> Networks:
        """Makes the encoders as they were before any stage."""
        config = self.config
        sharing = config.network.sharing
        networks = create_networks(
            config.network.build(), self.domains, False, config.seed, 0, sharing
        )
        if config.initial:
            networks.start_from(Path(config.initial))
        self.place(networks)
        return networks

    def _average(self, stage: str, trained: State) -> Average:
        """Chooses the average of a stage's encoders with the initial ones that validates best."""
        config = self.config
        validation = self.validation
        assert validation is not None  # as `check` requires
        networks = self._start()
        similarity = similarity_of(stage, config.descriptor)

        def measure(state: State) -> dict[str, float]:
            networks.load(state)
            return recall(networks.encoders, similarity, validation, self.device)

        return choose_average(
            start={k: v.clone() for k, v in networks.state().items()},
            trained=trained,
            shares=config.average,
            domains=[domain for domain in self.domains if domain not in config.frozen],
            reference=validation.reference,
            measure=measure,
        )

    def picture(self, run: Any, batch: Any, reporter: Reporter, step: int) -> None:
        every = self.config.grid_every
        if every and step % every == 0 and batch.unpaired is not None:
            unpaired = run.to_device(batch).unpaired
            reporter.grid(step, translation_grid(run.networks, unpaired))

    def _networks(self, index: int) -> Networks:
        """Makes new networks, or reads those of the stage this one starts from."""
        config = self.config
        translating = any(stage.losses.on(TRANSLATING) for stage in config.stages)
        networks = create_networks(
            config.network.build(),
            self.domains,
            translating,
            config.seed,
            config.network.shared_blocks,
            config.network.sharing,
        )
        start = config.start_of(config.stages[index])
        if start:
            networks.load(checkpoints.load_stage(self.directory, start))
        elif config.initial:
            networks.start_from(Path(config.initial))
        for domain in config.frozen:
            networks.encoders[domain].requires_grad_(False)
        self.place(networks)
        return networks


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{domain} {share:g}" for domain, share in shares.items())
