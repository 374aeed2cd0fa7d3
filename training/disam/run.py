# SPDX-License-Identifier: Apache-2.0
"""Training of DISAM's own method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from training.data.image_store import ImageStore
from training.disam.config import ALIGNED, TRANSLATING
from training.disam.export import export_model
from training.disam.networks import create_networks, translation_grid
from training.disam.sampling import Batch, Sampler
from training.disam.stage import StageRun
from training.disam.steps import descriptor_of
from training.engine import checkpoints
from training.engine.loop import Loop
from training.engine.networks import Networks
from training.engine.reporting import Reporter


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
