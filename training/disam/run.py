# SPDX-License-Identifier: Apache-2.0
"""Training of DISAM's own method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.data.image_store import ImageStore
from training.disam.averaging import Average, choose_average
from training.disam.config import ALIGNED, TRANSLATING
from training.disam.export import export_model
from training.disam.matching import Similarity, similarity_of
from training.disam.networks import create_networks, translation_grid
from training.disam.sampling import Batch, Sampler
from training.disam.stage import StageRun
from training.engine import checkpoints
from training.engine.loop import Loop
from training.engine.networks import Networks, State
from training.engine.reporting import Reporter
from training.engine.validate import recall


class Training(Loop):
    """A run of DISAM's own method: encoders per domain, from translation or from true pairs."""

    def image_size(self) -> tuple[int, int]:
        return self.config.network.build().image_size

    def prepare(self, store: ImageStore) -> None:
        self.sampler = Sampler(store, self.domains, self.config.seed, self.processes.rank)
        if any(stage.losses.on(ALIGNED) for stage in self.config.stages):
            self.sampler.prepare_pairs(self.config.aligned, self.config.frozen)

    def stage_run(self, index: int) -> StageRun:
        networks = self._networks(index)
        return StageRun(self.config, index, networks, self.device, self.processes, self.sampler)

    def metric(self, run: StageRun) -> tuple[Mapping, Similarity]:
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

    def _average(self, stage: str, trained: State) -> Average:
        """The average of a stage's encoders with the initial ones that validates best."""
        config = self.config
        assert self.validation is not None  # as `check` requires
        networks = create_networks(config.network.build(), self.domains, False, config.seed)
        networks.start_from(Path(config.initial))
        self.place(networks)
        similarity = similarity_of(stage, config.descriptor)

        def measure(state: State) -> dict[str, float]:
            networks.load(state)
            return recall(networks.encoders, similarity, self.validation, self.device)

        return choose_average(
            start={k: v.clone() for k, v in networks.state().items()},
            trained=trained,
            shares=config.average,
            domains=[domain for domain in self.domains if domain not in config.frozen],
            reference=self.validation.reference,
            measure=measure,
        )

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
        for domain in config.frozen:
            networks.encoders[domain].requires_grad_(False)
        self.place(networks)
        if config.compile:
            for _, module in networks.modules():
                module.compile()
        return networks
