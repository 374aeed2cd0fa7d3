# SPDX-License-Identifier: Apache-2.0
"""What a localization computes on a device: encoders, coarse search, fine similarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Look
from disam_ros.device import CPU, Stopwatch
from disam_ros.domains.domain import DomainChoice
from disam_ros.localization.candidates import CandidateSearch, Reranker
from disam_ros.localization.query import Frame, Query
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.arrays import as_numpy, concatenate, on_device
from disam_ros.models.backend import select_backend
from disam_ros.models.descriptor import fine_descriptor, shifted_descriptors
from disam_ros.models.model import Model
from disam_ros.models.similarity import unit_rows


@dataclass(frozen=True)
class StagesOf:
    """Makes the stages of a model and a map for a device.

    shapes: (C, h, w) of the coarse and fine descriptors. backend, model_dir: as of
    `select_backend`. Raises ConfigError, ModelError as it does.
    """

    model: Model
    map: PlaceMap
    shapes: Mapping[str, tuple[int, int, int]]
    backend: str
    model_dir: Path | None

    def __call__(self, device: str) -> Stages:
        return Stages(self, device)


class Stages:
    """The stages on one device."""

    def __init__(self, of: StagesOf, device: str) -> None:
        self._of, self._device = of, device
        self.backend = select_backend(of.backend, of.model, device, of.model_dir)
        self._mean = on_device(of.map.mean[:, None, None], device)
        self._projection = of.map.projection(of.model.projection)
        # On a CPU the projection computes; it needs less memory and time than a product of floats.
        self._directions = None if device == CPU else on_device(self._projection.matrix, device)
        self.search = CandidateSearch(of.map, device)
        self.reranker = Reranker(of.map, of.shapes["fine"], device)

    def encode(
        self,
        frames: Sequence[Frame],
        domain: DomainChoice,
        watch: Stopwatch,
        looks: Sequence[Sequence[Look]],
    ) -> list[Query]:
        """Coarse and fine descriptors of images of one domain, encoded as one batch.

        The images are as the map's cameras would have taken them. looks: those of each query.
        Raises ImageError, ModelError.
        """
        images = self.backend.prepare([frame.image for frame in frames])
        watch.lap("preprocess", self._device)
        z_coarse, z_fine = self.backend.encode(domain.name, images)
        watch.lap("encode", self._device)
        config, queries = self._of.map.header.descriptor, []
        cells = [
            {stage: self._cells(frame, stage) for stage in self._of.shapes} for frame in frames
        ]
        moved = [
            shifted_descriptors(z_coarse[k : k + 1], config, seen["coarse"])
            for k, seen in enumerate(cells)
        ]
        every = self._project(concatenate(moved))  # one product for all images
        for k, (frame, seen) in enumerate(zip(frames, cells, strict=True)):
            shifted = every[k * len(moved[k]) : (k + 1) * len(moved[k])]
            fine = fine_descriptor(z_fine[k : k + 1], config)[0].reshape(self._of.shapes["fine"])
            queries.append(
                Query(
                    frame,
                    domain,
                    shifted,
                    fine - self._mean,
                    seen["fine"],
                    looks=looks[k],
                )
            )
        watch.lap("describe", self._device)
        return queries

    def _project(self, rows: Any) -> NDArray[np.float32]:
        """Coarse descriptors [n, D] on the device → unit vectors [n, d] in the CPU's memory."""
        if self._directions is None:
            return self._projection.project(rows)
        return as_numpy(unit_rows(rows @ self._directions.T))

    def own(self, query: Query) -> Query:
        """The query, encoded again where its features are on a device that has failed."""
        if (self._device == CPU) == isinstance(query.fine, np.ndarray):
            return query
        return self.encode([query.frame], query.domain, Stopwatch(), [query.looks])[0]

    def _cells(self, frame: Frame, stage: str) -> NDArray[np.float32] | None:
        """Cells of a stage's grid that the camera sees, 1 or 0; None: all of a view."""
        rows, columns = self._of.shapes[stage][1:]
        if frame.warp is None or frame.warp.coverage == 1.0 or rows == columns == 1:
            return None
        return frame.warp.cells(rows, columns)
