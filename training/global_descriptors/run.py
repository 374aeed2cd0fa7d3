# SPDX-License-Identifier: Apache-2.0
"""Training of global descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disam_ros.models.model import global_model, save_model
from training.data.image_store import ImageStore
from training.engine import checkpoints
from training.engine.export import provenance
from training.engine.loop import Loop
from training.engine.networks import Networks
from training.engine.validate import Similarity, recall
from training.errors import TrainingError
from training.global_descriptors.branches import (
    branches_of,
    by_branch,
    create_branches,
    describe_rows,
    start_from,
)
from training.global_descriptors.config import DEPTH_LOSSES, GlobalTrainConfig
from training.global_descriptors.data import StageData
from training.global_descriptors.routes import Routes
from training.global_descriptors.stage import GlobalStage
from training.global_descriptors.views import DepthStore, Viewer

PREPARED = 200  # images of a branch for its cluster centres, at most


class GlobalTraining(Loop[GlobalTrainConfig]):
    """Trains one network per branch; the model's descriptors may be whitened at the end."""

    def prepare(self, store: ImageStore) -> None:
        config = self.config
        unknown = set(config.branches) - set(self.domains)
        if unknown:
            raise TrainingError(
                f"branches: no domain {', '.join(sorted(unknown))}; there are "
                f"{', '.join(self.domains)}"
            )
        self.branches = branches_of(config, self.tags)
        depths = None
        if any(stage.losses.on(DEPTH_LOSSES) for stage in config.stages):
            height, width = config.image_size
            depths = DepthStore(store.photos, (height // 2, width // 2), config.crops.cache_scale)
        self.viewer = Viewer(store, depths)
        by_domain = store.rows()
        self.rows = {d: by_domain[d] for d in self.domains if d in by_domain}
        enough = min(config.sample, sum(len(rows) for rows in self.rows.values()))
        if enough <= config.network.size:
            raise TrainingError(
                f"whitening to network.size {config.network.size} numbers needs more images than "
                f"that, got {enough} (all there are, or 'sample'): lower network.size"
            )
        routes = Routes(store.photos)
        self.data = [
            StageData(config, k, self.viewer, routes, self.tags, self.processes)
            for k in range(len(config.stages))
        ]

    def stage_run(self, index: int) -> GlobalStage:
        networks = self._networks(index)
        data = self.data[index]
        return GlobalStage(self.config, data, networks, self.branches, self.device, self.processes)

    def metric(self, run: GlobalStage) -> tuple[Mapping[str, Any], Similarity]:
        networks = run.networks.encoders
        return {d: networks[b].describe for d, b in self.branches.items()}, _products

    def start(self) -> Mapping[str, Any]:
        networks = self._networks(0).encoders
        return {d: networks[b] for d, b in self.branches.items()}

    def similarity(self) -> Similarity:
        return _products

    def export(self) -> Path:
        """Write <directory>/model from the last stage, whitened if the recipe says so."""
        config, last = self.config, self.config.stages[-1].name
        networks = create_branches(config, self.branches)
        networks.load(checkpoints.best_encoders(self.directory, last))
        self.place(networks)
        training = provenance(config, self.progress, self.images) | {"stages_used": last}
        if config.network.size:
            self._whiten(networks)
            if self.validation is not None:
                encoders = {d: networks.encoders[b] for d, b in self.branches.items()}
                recalls = recall(encoders, _products, self.validation, self.device)
                training["whitened_recall"] = recalls
        for network in networks.encoders.values():
            network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        model = global_model(
            config.network.build(),
            list(self.tags),
            self.branches,
            networks.encoders,
            name=config.name,
            training=training,
        )
        return save_model(model, self.directory / "model", half=config.half, overwrite=True)

    def _networks(self, index: int) -> Networks:
        """Makes new networks, or reads the best of the stage this one starts from."""
        config = self.config
        networks = create_branches(config, self.branches)
        start = config.start_of(config.stages[index])
        if start:
            networks.load(checkpoints.best_encoders(self.directory, start))
        elif not self.progress.step and start_from(networks, config):
            self._prepare_heads(networks)
        self.place(networks)
        return networks

    def _prepare_heads(self, networks: Networks) -> None:
        """Find cluster centres of NetVLAD in a sample of each branch's images."""
        if self.config.network.head != "netvlad":
            return
        for branch, network in by_branch(networks).items():
            domains = [d for d in self.rows if self.branches[d] == branch]
            network.prepare(self.viewer.plain(self._sample(domains, PREPARED)))

    def _sample(self, domains: list[str], count: int) -> NDArray[Any]:
        """Chooses rows of up to `count` images, spread evenly over those of the domains."""
        rows = np.concatenate([self.rows[d] for d in domains])
        result: NDArray[Any] = rows[
            np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
        ]
        return result

    def _whiten(self, networks: Networks) -> None:
        """Learn one whitening from images of all branches: they share a space of descriptors."""
        rows = self._sample(list(self.rows), self.config.sample)
        descriptors = describe_rows(
            networks, self.branches, self.viewer, rows, move=lambda images: images.to(self.device)
        )
        for network in by_branch(networks).values():
            network.learn_whitening(descriptors)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Similarity of descriptors [A, ...] and [B, ...]: inner products [A, B]."""
    return a.flatten(1) @ b.flatten(1).T
