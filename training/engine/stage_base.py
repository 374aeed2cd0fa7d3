# SPDX-License-Identifier: Apache-2.0
"""Base class of training stages: optimizers, learning-rate schedule, mixed precision, one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from training.engine.networks import Networks, State, Terms, total
from training.engine.parallel import Processes
from training.engine.shares import gradient_norms, gradient_shares, norm_of_gradients
from training.errors import TrainingError
from training.settings import RunConfig

Config = TypeVar("Config", bound=RunConfig)


class StageBase(ABC, Generic[Config]):
    """Trains networks for the stage number `index` of a recipe."""

    memory_settings: ClassVar[str]  # to lower where memory runs out, beside the image size
    optimizers: dict[str, Optimizer]  # by name, each of its own networks
    rate_factor: float  # of the learning rate
    gradients: dict[str, float]  # norm of each unweighted loss's gradient in the last step
    shares: dict[str, float]  # weighted share of each; both empty where they were not measured

    def __init__(
        self,
        config: Config,
        index: int,
        networks: Networks,
        device: torch.device,
        processes: Processes | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.config, self.index, self.networks, self.device = config, index, networks, device
        self.processes = processes or Processes()
        self.stage: Any = config.stages[index]
        self.precision = precision
        self.rate_factor = 1.0
        self.gradients = {}
        self.shares = {}
        self._measures = False
        self.optimizers = self.make_optimizers()
        self.rates = {n: o.param_groups[0]["lr"] for n, o in self.optimizers.items()}
        scaling = precision == torch.float16 and device.type == "cuda"
        self.scalers = {name: torch.amp.GradScaler(enabled=scaling) for name in self.optimizers}

    @abstractmethod
    def make_optimizers(self) -> dict[str, Optimizer]:
        """Makes the optimizers by name, each with the learning rate it begins with."""

    @abstractmethod
    def batch(self, step: int) -> Any:
        """Draws the batch of a step (from 0), the same whenever it is asked for."""

    @abstractmethod
    def update(self, step: int, batch: Any) -> Terms:
        """Update the networks. Returns the unweighted loss terms."""

    @abstractmethod
    def memory_state(self) -> State:
        """Returns the state of this process apart from networks and optimizers."""

    @abstractmethod
    def load_memory_state(self, state: State) -> None:
        """Restore a `memory_state`."""

    def share_of_rate(self, step: int) -> float:
        """Learning rate as a share of the first: 1, then linearly towards 0 after the last step."""
        steps = self.stage.steps
        falling = max(1.0, steps * (1.0 - self.stage.constant))
        result: float = self.rate_factor * min(1.0, (steps - step) / falling)
        return result

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of the first optimizer."""
        result: float = next(iter(self.rates.values())) * self.share_of_rate(step)
        return result

    def step(self, step: int, batch: Any) -> Terms:
        """One update. Raises TrainingError naming the settings to lower if memory runs out."""
        every = self.config.gradients_every
        self._measures = every > 0 and step % every == 0
        self.gradients, self.shares = {}, {}
        try:
            for name, optimizer in self.optimizers.items():
                optimizer.zero_grad(set_to_none=True)
                for group in optimizer.param_groups:
                    group["lr"] = self.rates[name] * self.share_of_rate(step)
            return {k: term.detach() for k, term in self.update(step, batch).items()}
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        raise TrainingError(  # out here the failed step's tensors are freed
            f"out of memory in stage '{self.stage.name}' at image_size "
            f"{list(self.config.image_size)}: lower {self.memory_settings} or network.image_size"
        )

    def descend(self, name: str, terms: Terms, weights: Mapping[str, float]) -> None:
        """One step of an optimizer down the gradient of Σ λ·term, averaged over processes."""
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        parameters = optimizer.param_groups[0]["params"]
        norms = {}
        if self._measures and len(terms) > 1:
            norms = gradient_norms(terms, parameters)
        scaler.scale(total(terms, weights)).backward()
        if self._measures and len(terms) == 1:  # its gradient is there
            (only,) = terms
            scale = scaler.get_scale() * weights[only]
            norms = {only: norm_of_gradients(parameters) / scale if scale else 0.0}
        self.gradients |= norms
        self.shares |= gradient_shares(norms, weights)
        self.processes.average_gradients(parameters)
        scaler.step(optimizer)
        scaler.update()

    def move(self, images: Tensor) -> Tensor:
        """Moves images to the device, in the configured memory format."""
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return images.to(self.device, non_blocking=True, memory_format=layout)

    def autocast(self) -> torch.autocast:
        mixed = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision if mixed else None, enabled=mixed)

    def optimizer_state(self) -> State:
        """Returns Adam's moments by parameter number, and the scalers' numbers."""
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
            state_of = {
                k.removeprefix(head): v.item() for k, v in state.items() if k.startswith(head)
            }
            if state_of:
                state_of["growth_interval"] = int(state_of["growth_interval"])
                state_of["_growth_tracker"] = int(state_of["_growth_tracker"])
                scaler.load_state_dict(state_of)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Recognizes the error of CUDA, and of the allocator on a CPU."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in words
