# SPDX-License-Identifier: Apache-2.0
"""One stage of a recipe: its optimizers, what it remembers, and one step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam

from training.config import ALIGNED, TRANSLATING, StageConfig, TrainConfig
from training.memory import is_out_of_memory, out_of_memory
from training.networks import NegativeBank, Networks, State, TranslationPool
from training.parallel import Processes
from training.sampling import Aligned, Batch, Sampler, Unpaired
from training.steps import (
    Terms,
    aligned_terms,
    discriminator_terms,
    generator_terms,
    total,
    weights_at,
)

POOL_STREAM = 2**20  # tells the pool's random choices from the sampler's


class StageRun:
    """Trains the networks for one stage; `index` is its position in the recipe."""

    def __init__(
        self,
        config: TrainConfig,
        index: int,
        networks: Networks,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        self.config, self.index, self.networks, self.device = config, index, networks, device
        self.processes = processes or Processes()
        self.stage: StageConfig = config.stages[index]
        options = {"lr": config.learning_rate, "betas": (config.beta1, 0.999)}
        self.optimizers = {"generators": Adam(networks.generators(), **options)}
        if "gan" in self.stage.losses.on():
            self.optimizers["critics"] = Adam(networks.critics(), **options)
        self.pool = TranslationPool(config.pool)
        self.bank = NegativeBank(config.triplets.group - 1)
        self.precision = getattr(torch, config.precision)
        scaling = self.precision == torch.float16 and device.type == "cuda"
        self.scalers = {name: torch.amp.GradScaler(enabled=scaling) for name in self.optimizers}

    def draw(self, sampler: Sampler, step: int) -> Batch:
        """The batch of a step (from 0); the same whenever it is asked for."""
        stage, triplets = self.stage, self.config.triplets
        fresh = triplets.group - 1 if self.is_hard(step) and not triplets.cached else 0
        unpaired = aligned = None
        if stage.losses.on(TRANSLATING):
            unpaired = sampler.unpaired(self.index, step, stage.batch_size, fresh)
        if stage.losses.on(ALIGNED):
            aligned = sampler.aligned(self.index, step, stage.aligned_batch, self.config.aligned)
        return Batch(unpaired, aligned)

    def is_hard(self, step: int) -> bool:
        """Whether negatives are the hardest of a group in this step."""
        return step >= self.stage.hard_from * self.stage.steps

    def learning_rate(self, step: int) -> float:
        """Constant, then linearly towards 0, which the step after the last one would have."""
        steps = self.stage.steps
        falling = max(1.0, steps * (1.0 - self.stage.constant))
        return self.config.learning_rate * min(1.0, (steps - step) / falling)

    def step(self, step: int, batch: Batch) -> Terms:
        """Update the networks of the batch's domains. Returns the unweighted loss terms.

        Raises TrainingError, saying what would fit, when memory runs out.
        """
        try:
            return self._step(step, batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        raise out_of_memory(self)  # out here the failed step's tensors are freed

    def _step(self, step: int, batch: Batch) -> Terms:
        batch = self.to_device(batch)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(step)
        critics = self.networks.critics()
        _require_gradient(critics, False)
        terms, ways = self.losses(step, batch)
        self._update("generators", total(terms, weights_at(self.stage, step)))
        if ways is not None and "critics" in self.optimizers:
            _require_gradient(critics, True)
            seeds = [self.config.seed, self.index, step, self.processes.rank, POOL_STREAM]
            with self._autocast():
                found = discriminator_terms(
                    self.networks, ways, self.pool, np.random.default_rng(seeds)
                )
            self._update("critics", total(found, {"discriminator": self.stage.losses.gan}))
            terms |= found
        return {name: term.detach() for name, term in terms.items()}

    def losses(self, step: int, batch: Batch) -> tuple[Terms, tuple | None]:
        """All terms of the generators' step and the translations, if any."""
        terms: Terms = {}
        ways = None
        hard = self.is_hard(step)
        with self._autocast():
            if batch.unpaired is not None:
                terms, ways = generator_terms(
                    *(self.networks, batch.unpaired, self.stage, self.config.triplets),
                    *(self.bank, hard),
                )
            if batch.aligned is not None:
                terms |= aligned_terms(
                    *(self.networks, batch.aligned, self.stage, self.config.aligned),
                    *(self.config.descriptor, hard),
                )
        return terms, ways

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device in the configured memory format."""

        def move(images: Tensor) -> Tensor:
            layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
            return images.to(self.device, non_blocking=True, memory_format=layout)

        unpaired, aligned = batch.unpaired, batch.aligned
        if unpaired is not None:
            images = (unpaired.a, unpaired.b, unpaired.more_a, unpaired.more_b)
            unpaired = Unpaired(unpaired.domains, *(move(x) for x in images))
        if aligned is not None:
            different = aligned.different.to(self.device)
            aligned = Aligned(aligned.domains, move(aligned.a), move(aligned.b), different)
        return Batch(unpaired, aligned)

    def optimizer_state(self) -> State:
        """Adam's moments by parameter number, and the scalers' numbers."""
        state = {
            f"{name}/{number}/{key}": value.cpu().contiguous()
            for name, optimizer in self.optimizers.items()
            for number, values in optimizer.state_dict()["state"].items()
            for key, value in values.items()
        }
        for name, scaler in self.scalers.items():
            for key, value in scaler.state_dict().items():
                state[f"scaler/{name}/{key}"] = torch.tensor(value, dtype=torch.float64)
        return state

    def load_optimizer_state(self, state: State) -> None:
        for name, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                owner, *rest = key.split("/")
                if owner == name:
                    moments.setdefault(int(rest[0]), {})[rest[1]] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for name, scaler in self.scalers.items():
            head = f"scaler/{name}/"
            found = {k.removeprefix(head): v.item() for k, v in state.items() if k.startswith(head)}
            if found:
                found["growth_interval"] = int(found["growth_interval"])
                found["_growth_tracker"] = int(found["_growth_tracker"])
                scaler.load_state_dict(found)

    def memory_state(self) -> State:
        """Past translations and negatives of this process."""
        return {**self.pool.state(), **self.bank.state()}

    def load_memory_state(self, state: State) -> None:
        self.pool.load(state, self.device)
        self.bank.load(state, self.device)

    def _autocast(self) -> torch.autocast:
        mixed = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision if mixed else None, enabled=mixed)

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        scaler.scale(loss).backward()
        self.processes.average_gradients(optimizer.param_groups[0]["params"])
        scaler.step(optimizer)
        scaler.update()


def _require_gradient(parameters: list, needed: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(needed)
