# SPDX-License-Identifier: Apache-2.0
"""A training stage of global descriptors: optimizers, negative mining, update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Adam, Optimizer

from training.engine.networks import Networks, State, Terms
from training.engine.parallel import Processes
from training.engine.stage_base import StageBase
from training.global_descriptors.branches import by_branch, describe_parts, describe_rows
from training.global_descriptors.config import GlobalTrainConfig
from training.global_descriptors.data import Batch, StageData
from training.global_descriptors.terms import Geometry, loss_terms
from training.global_descriptors.tuples import Memory


class GlobalStage(StageBase[GlobalTrainConfig]):
    """Trains networks by branch (`networks.encoders`), descriptors and depth separately."""

    memory_settings = "tuples.tuples, tuples.near, tuples.far, neighbourhoods.batch, depth_batch"

    def __init__(
        self,
        config: GlobalTrainConfig,
        data: StageData,
        networks: Networks,
        branches: Mapping[str, str],
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        self.data, self.branches = data, branches
        self.memory: Memory | None = None
        super().__init__(config, data.index, networks, device, processes)

    def make_optimizers(self) -> dict[str, Optimizer]:
        config, networks = self.config, by_branch(self.networks).values()
        descriptors = [p for network in networks for p in network.descriptor_parameters()]
        decoders = [p for network in networks for p in network.depth_parameters()]
        decay = config.weight_decay
        optimizers: dict[str, Optimizer] = {}
        if self.stage.name == "decoder":
            _freeze(descriptors)
        else:
            optimizers["descriptors"] = Adam(descriptors, config.learning_rate, weight_decay=decay)
        if self.stage.losses.depth:
            optimizers["decoders"] = Adam(decoders, config.depth_learning_rate, weight_decay=decay)
        else:
            _freeze(decoders)
        return optimizers

    def batch(self, step: int) -> Batch:
        """Draws the batch of a step before negative mining; see `update`."""
        return self.data.draw(step)

    def update(self, step: int, batch: Batch) -> Terms:
        terms = self.terms(self.mined(step, batch))
        weights = self.stage.losses.on()
        for name in self.optimizers:
            chosen = {k: v for k, v in terms.items() if (k == "depth") == (name == "decoders")}
            if self.processes.count > 1:
                self._fill_gradients(name)
            self.descend(name, chosen, weights)
        return terms

    def terms(self, batch: Batch) -> Terms:
        """Computes the unweighted loss terms of a batch."""
        images = self.move(batch.views.images)
        domains = self.data.domains_of(batch.rows)
        depth = batch.views.depth
        depth = None if depth is None else depth.to(self.device)
        truth = depth if self.stage.losses.hallucination else None
        parts = describe_parts(self.networks, self.branches, images, domains, truth)
        metres = self.data.tuple_metres(batch), self.data.pair_metres(batch)
        of_tuples, of_pairs = (x.to(self.device) for x in metres)
        geometry = Geometry(of_tuples, of_pairs, depth)
        return loss_terms(parts, geometry, self.stage.losses, self.config)

    def memory_state(self) -> State:
        if self.memory is None:
            return {}
        rows, descriptors = self.memory.rows, self.memory.descriptors
        return {
            "memory/rows": torch.from_numpy(rows),
            "memory/descriptors": torch.from_numpy(descriptors),
        }

    def load_memory_state(self, state: State) -> None:
        self.memory = None
        if "memory/rows" in state:
            rows, descriptors = state["memory/rows"], state["memory/descriptors"]
            self.memory = Memory(rows.numpy(), descriptors.numpy())

    def mined(self, step: int, batch: Batch) -> Batch:
        """Hard negative mining; the cache of descriptors is renewed at its interval."""
        sampler = self.data.tuples
        if sampler is None or not sampler.mined:
            return batch
        if self.memory is None or sampler.renews(step):
            rows = sampler.cache_rows(step)
            self.memory = Memory(rows, self._describe(rows))
        anchors = self._describe(batch.tuples[:, 0])
        return self.data.mine(batch, step, anchors, self.memory)

    def _describe(self, rows: NDArray[Any]) -> NDArray[Any]:
        return describe_rows(
            self.networks, self.branches, self.data.viewer, rows, self.move
        ).numpy()

    def _fill_gradients(self, name: str) -> None:
        """Give branches without images in this process gradients of 0: all average the same."""
        for parameter in self.optimizers[name].param_groups[0]["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def _freeze(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(False)
