# SPDX-License-Identifier: Apache-2.0
"""Batches of a stage: tuples, pairs of a neighbourhood, images for depth alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disam_ros.domains.domain import Domain
from training.engine.parallel import Processes
from training.errors import TrainingError
from training.global_descriptors.config import (
    DEPTH_LOSSES,
    PAIR_LOSSES,
    TUPLE_LOSSES,
    GlobalTrainConfig,
)
from training.global_descriptors.neighbourhoods import NeighbourhoodSampler
from training.global_descriptors.routes import Routes
from training.global_descriptors.tuples import Memory, TupleSampler
from training.global_descriptors.views import Viewer, Views, require_depth

VIEWS, MINED, DEPTH = 2**25, 2**26, 2**27  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """Images of a step, one after the other: T tuples, B queries, their B partners, the rest."""

    rows: NDArray[Any]  # of the image store, int [K]
    views: Views  # K crops
    flip: bool  # whether all are mirrored
    tuples: NDArray[Any]  # rows by tuple, int [T, S]; empty without tuples
    pairs: int  # B


class StageData:
    """Draws the batches of a stage. Raises TrainingError for data that does not serve it."""

    def __init__(
        self,
        config: GlobalTrainConfig,
        index: int,
        viewer: Viewer,
        routes: Routes,
        domains: Sequence[Domain],
        processes: Processes,
    ) -> None:
        self.config, self.index, self.viewer, self.routes = config, index, viewer, routes
        self.processes, self.stage = processes, config.stages[index]
        rows = viewer.store.rows()
        chosen = self.stage.domains or [domain.name for domain in domains]
        if lacking := [name for name in chosen if name not in rows]:
            raise TrainingError(
                f"stage '{self.stage.name}' wants images of {', '.join(lacking)}; there are "
                f"{', '.join(f'{len(r)} of {d}' for d, r in rows.items())}"
            )
        self.rows = np.sort(np.concatenate([rows[name] for name in chosen]))
        seed = (config.seed, index)
        self.tuples: TupleSampler | None = None
        self.pairs: NeighbourhoodSampler | None = None
        if self.stage.losses.on(TUPLE_LOSSES):
            self.tuples = TupleSampler(
                routes, self.rows, config.tuples, seed, processes.rank, processes.count
            )
        if self.stage.losses.on(PAIR_LOSSES):
            sides = self._sides({d.name: d for d in domains if d.name in chosen}, rows)
            self.pairs = NeighbourhoodSampler(
                routes, *sides, config.neighbourhoods, seed, processes.rank
            )
        if self.stage.losses.on(DEPTH_LOSSES):
            self.with_depth = require_depth(self.rows, viewer.depths, ", ".join(chosen))

    def domains_of(self, rows: NDArray[Any]) -> list[str]:
        return [self.viewer.store.photos[row].domain for row in rows.tolist()]

    def draw(self, step: int) -> Batch:
        """Draws the batch of a step, the same whenever asked for; all far images are random."""
        random = self._random(step, VIEWS)
        tuples: NDArray[Any] = np.zeros((0, 0), dtype=int)
        parts: list[NDArray[Any]] = []
        pairs = 0
        if self.tuples is not None:
            tuples = self.tuples.draw(step)
            parts.append(tuples.flatten())
        if self.pairs is not None:
            queries, partners = self.pairs.draw(step)
            pairs = len(queries)
            parts += [queries, partners]
        if self.stage.depth_batch:
            count = self.stage.depth_batch
            few = count > len(self.with_depth)
            parts.append(self._random(step, DEPTH).choice(self.with_depth, count, replace=few))
        rows = np.concatenate(parts)
        flip = bool(random.random() < 0.5)
        return Batch(rows, self.viewer.augmented(rows, random, flip), flip, tuples, pairs)

    def mine(self, batch: Batch, step: int, descriptors: NDArray[Any], memory: Memory) -> Batch:
        """Hard negative mining: far images replaced by the memory's most similar to their anchor.

        descriptors: those of the anchors [T, D].
        """
        assert self.tuples is not None, "mined without tuples"
        tuples = self.tuples.mine(batch.tuples, descriptors, memory)
        places = np.flatnonzero(tuples.flatten() != batch.tuples.flatten())
        if not len(places):
            return batch
        rows = batch.rows.copy()
        rows[places] = tuples.flatten()[places]
        views = self.viewer.augmented(rows[places], self._random(step, MINED), batch.flip)
        images = batch.views.images.clone()
        images[places] = views.images
        depth = batch.views.depth
        if depth is not None and views.depth is not None:
            depth = depth.clone()
            depth[places] = views.depth
        return replace(batch, rows=rows, views=Views(images, depth), tuples=tuples)

    def tuple_metres(self, batch: Batch) -> Tensor:
        """Measures the distances [T, S, S] within tuples [m]."""
        return torch.from_numpy(self.routes.metres(batch.tuples, batch.tuples)).float()

    def pair_metres(self, batch: Batch) -> Tensor:
        """Measures the distances [B, B] from queries to partners [m]."""
        begin = batch.tuples.size
        queries, partners = (batch.rows[begin + k * batch.pairs :][: batch.pairs] for k in (0, 1))
        return torch.from_numpy(self.routes.metres(queries, partners)).float()

    def _sides(
        self, domains: dict[str, Domain], rows: dict[str, list[int]]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Chooses rows of queries and of references; all on both sides without a map's domain."""
        named = self.config.neighbourhoods.references
        side = [d for d in named or domains if named or domains[d].view == "aerial"]
        if unknown := set(side) - set(domains):
            raise TrainingError(
                f"neighbourhoods.references: no images of {', '.join(sorted(unknown))}; there are "
                f"{', '.join(domains)}"
            )
        if not side:
            return self.rows, self.rows
        queries = [row for d in domains if d not in side for row in rows[d]]
        if not queries:
            raise TrainingError(f"all domains ({', '.join(side)}) are the map's: no queries")
        return np.sort(queries), np.sort([row for d in side for row in rows[d]])

    def _random(self, step: int, stream: int) -> np.random.Generator:
        seeds = [self.config.seed, self.index, step, stream + self.processes.rank]
        return np.random.default_rng(seeds)
