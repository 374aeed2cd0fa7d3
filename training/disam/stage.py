# SPDX-License-Identifier: Apache-2.0
"""A training stage of DISAM: optimizers, translation pool, negative bank, update."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.optim import Adam, Optimizer

from training.disam.config import ALIGNED, TRANSLATING, TrainConfig
from training.disam.networks import NegativeBank, TranslationPool
from training.disam.pairs import aligned_terms
from training.disam.sampling import Aligned, Batch, Sampler, Unpaired
from training.disam.scales import Scales
from training.disam.steps import discriminator_terms, generator_terms, weights_at
from training.engine.networks import Networks, State, Terms
from training.engine.parallel import Processes
from training.engine.stage_base import StageBase

POOL = 50  # past translations of each domain that discriminators are shown
POOL_STREAM = 2**20  # random stream of the pool, apart from the sampler's


class StageRun(StageBase[TrainConfig]):
    """Trains the networks for one stage; `index` is its position in the recipe."""

    memory_settings = "batch_size, aligned_batch, network.width"

    def __init__(
        self,
        config: TrainConfig,
        index: int,
        networks: Networks,
        device: torch.device,
        processes: Processes | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        precision = getattr(torch, config.precision)
        super().__init__(config, index, networks, device, processes, precision)
        self.sampler = sampler
        self.pool = TranslationPool(POOL)
        self.bank = NegativeBank(config.triplets.group - 1)
        self.scales = Scales(self.processes.mean)

    def make_optimizers(self) -> dict[str, Optimizer]:
        rate, betas = self.config.learning_rate, (self.config.beta1, 0.999)
        optimizers: dict[str, Optimizer] = {
            "generators": Adam(self.networks.generators(), rate, betas)
        }
        if "gan" in self.stage.losses.on():
            optimizers["critics"] = Adam(self.networks.critics(), rate, betas)
        return optimizers

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0), deterministic."""
        stage, triplets = self.stage, self.config.triplets
        assert self.sampler is not None
        fresh = triplets.group - 1 if self.is_hard(step) and not triplets.cached else 0
        unpaired = aligned = None
        if stage.losses.on(TRANSLATING):
            unpaired = self.sampler.unpaired(self.index, step, stage.batch_size, fresh)
        if stage.losses.on(ALIGNED):
            pairs = self.config.aligned
            aligned = self.sampler.aligned(self.index, step, stage.aligned_batch, pairs)
        return Batch(unpaired, aligned)

    def is_hard(self, step: int) -> bool:
        """Tells whether negatives are the hardest of a group in this step."""
        result: bool = step >= self.stage.hard_from * self.stage.steps
        return result

    def update(self, step: int, batch: Batch) -> Terms:
        """Update the networks of the batch's domains. Returns the unweighted loss terms."""
        batch = self.to_device(batch)
        critics = self.networks.critics()
        _require_gradient(critics, False)
        terms, ways = self.losses(step, batch)
        self.descend("generators", terms, weights_at(self.stage, step))
        if ways is not None and "critics" in self.optimizers:
            _require_gradient(critics, True)
            seeds = [self.config.seed, self.index, step, self.processes.rank, POOL_STREAM]
            with self.autocast():
                terms_of = discriminator_terms(
                    self.networks, ways, self.pool, np.random.default_rng(seeds)
                )
            self.descend("critics", terms_of, {"discriminator": self.stage.losses.gan})
            terms |= terms_of
        return terms

    def losses(self, step: int, batch: Batch) -> tuple[Terms, tuple[Any, ...] | None]:
        """Computes all terms of the generators' step and the translations, if any."""
        terms: Terms = {}
        ways = None
        hard = self.is_hard(step)
        with self.autocast():
            if batch.unpaired is not None:
                terms, ways = generator_terms(
                    networks=self.networks,
                    batch=batch.unpaired,
                    stage=self.stage,
                    triplets=self.config.triplets,
                    bank=self.bank,
                    hard=hard,
                    scales=self.scales,
                )
            if batch.aligned is not None:
                terms |= aligned_terms(
                    networks=self.networks,
                    batch=batch.aligned,
                    stage=self.stage,
                    config=self.config.aligned,
                    descriptor=self.config.descriptor,
                )
        return terms, ways

    def to_device(self, batch: Batch) -> Batch:
        """Moves a batch to the device in the configured memory format."""
        unpaired, aligned = batch.unpaired, batch.aligned
        if unpaired is not None:
            images = (unpaired.a, unpaired.b, unpaired.more_a, unpaired.more_b)
            unpaired = Unpaired(unpaired.domains, *(self.move(x) for x in images))
        if aligned is not None:
            pair = self.move(aligned.a), self.move(aligned.b)
            aligned = Aligned(aligned.domains, *pair, aligned.different.to(self.device))
        return Batch(unpaired, aligned)

    def memory_state(self) -> State:
        """Returns past translations and negatives of this process, and the scales of distances."""
        return {**self.pool.state(), **self.bank.state(), **self.scales.state()}

    def load_memory_state(self, state: State) -> None:
        self.pool.load(state, self.device)
        self.bank.load(state, self.device)
        self.scales.load(state, self.device)


def _require_gradient(parameters: list[Any], needed: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(needed)
