# SPDX-License-Identifier: Apache-2.0
"""Posed images → map: choose keyframes, encode, write. Progress is shown and survives a kill."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from disam_ros import image
from disam_ros.checkpoint import Model
from disam_ros.config import MapBuilderConfig
from disam_ros.dataset import DatasetInfo, ImageRecord
from disam_ros.descriptor import describe, descriptor_shapes
from disam_ros.domain import DomainChooser
from disam_ros.errors import ImageError, MapError
from disam_ros.index import FLAT, write_cells
from disam_ros.keyframes import KeyframeSelector
from disam_ros.map_writer import MapWriter
from disam_ros.place_map import MapHeader, PlaceMap
from disam_ros.sources import ImageSource, PosedImage

logger = logging.getLogger(__name__)


def build_map(
    source: ImageSource,
    model: Model,
    output: Path | str,
    config: MapBuilderConfig,
    device: torch.device | str = "cpu",
    show_progress: bool = True,
) -> PlaceMap:
    """Build a map, or finish one that was killed.

    Images without a pose or unreadable ones are left out and counted in map.json.
    Raises MapError (output exists, disk full, nothing usable, unknown domain).
    """
    bar = {"total": source.total, "desc": "map", "unit": "img", "disable": not show_progress}
    with MapBuilder(source.info, model, output, config, device, source.identity) as builder:
        for item in tqdm(source.images, **bar):
            builder.add(item)
        return builder.finish()


def write_indices(place_map: PlaceMap) -> list[Path]:
    """Write the index of every camera with so many images that it is worth one; returns them."""
    written = []
    for camera in place_map.cameras():
        rows = place_map.rows_of(camera)
        if len(rows) > FLAT:
            write_cells(place_map.index_path(camera), place_map.coarse[rows], place_map.projection)
            written.append(place_map.index_path(camera))
    return written


class MapBuilder:
    """Takes posed images one by one and writes a map. Use as a context manager.

    live: images come from a sensor, so a resumed build continues with new ones instead of being
    given the old ones again.
    """

    def __init__(
        self,
        info: DatasetInfo,
        model: Model,
        output: Path | str,
        config: MapBuilderConfig,
        device: torch.device | str = "cpu",
        source: str = "",
        live: bool = False,
    ) -> None:
        if not model.identity:
            raise MapError("the model was never saved: a map needs a model directory to refer to")
        self._model, self._config, self._device = model.to(device), config, device
        self._domains = DomainChooser(model.domains)
        self._info = info
        header = MapHeader(
            model_identity=model.identity,
            model_name=model.name,
            map_frame=info.map_frame,
            cameras=info.cameras,
            descriptor=config.descriptor,
            latitude=info.latitude,
            longitude=info.longitude,
        )
        shapes = descriptor_shapes(model.network, config.descriptor)
        dimensions = {stage: int(np.prod(shape)) for stage, shape in shapes.items()}
        source = json.dumps([source or info.name, asdict(config)], sort_keys=True)
        self._writer = MapWriter(
            output, header, dimensions, hashlib.sha256(source.encode()).hexdigest()
        )
        self._seen = self._writer.position if live else 0
        self._skipped = self._writer.skipped
        self._keyframes = KeyframeSelector(config.keyframe_distance, config.keyframe_angle)
        self._batch: list[tuple[ImageRecord, torch.Tensor]] = []
        self._since_commit = 0

    def __enter__(self) -> MapBuilder:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    @property
    def count(self) -> int:
        """Images in the map so far."""
        return self._writer.count + len(self._batch)

    def add(self, item: PosedImage) -> bool:
        """Offer an image; True if it was kept as a keyframe."""
        self._seen += 1
        resumed = self._seen <= self._writer.position  # was dealt with before the kill
        pose = item.record.map_from_camera
        if pose is None:
            self._skipped += not resumed
            return False
        if not self._keyframes.keeps(item.record.camera, pose) or resumed:
            return False
        try:
            tensor = image.to_tensor(item.load(), self._model.network.image_size)
        except ImageError as error:
            logger.warning("left out of the map: %s", error)
            self._skipped += 1
            return False
        record = replace(item.record, domain=self._domain_of(item.record))
        if self._batch and self._batch[-1][0].domain != record.domain:
            self._encode_batch()
        self._batch.append((record, tensor))
        if len(self._batch) >= self._config.batch_size:
            self._encode_batch()
        if self._since_commit >= self._config.checkpoint_every:
            self.commit()
        return True

    def commit(self) -> None:
        """Encode what waits and make it survive a kill."""
        self._encode_batch()
        self._writer.commit(self._seen, self._skipped)
        self._since_commit = 0

    def finish(self) -> PlaceMap:
        """Write the rest and open the finished map."""
        self.commit()
        if not self._writer.count:
            raise MapError(
                f"none of {self._seen} images could be used ({self._skipped} without a pose or "
                f"unreadable): a map needs at least one; see the warnings above"
            )
        place_map = PlaceMap(self._writer.finish({"skipped": self._skipped}), verify=False)
        write_indices(place_map)
        return place_map

    def _domain_of(self, record: ImageRecord) -> str:
        names = self._model.domain_names()
        name = self._config.domain or record.domain
        if name in names:
            return name
        if name:
            raise MapError(
                f"model '{self._model.name}' has no encoder for domain '{name}', only for "
                f"{', '.join(names)}; choose one with --domain"
            )
        place = (self._info.latitude, self._info.longitude)
        latitude, longitude = (float("nan") if v is None else v for v in place)
        return self._domains.choose(record.stamp_ns, latitude, longitude).name

    def _encode_batch(self) -> None:
        if not self._batch:
            return
        tensors = torch.stack([tensor for _, tensor in self._batch]).to(self._device)
        domain = self._batch[0][0].domain
        coarse, fine = describe(self._model, domain, tensors, self._config.descriptor)
        rows = zip(self._batch, coarse.cpu().numpy(), fine.cpu().numpy(), strict=True)
        for (record, _), coarse_row, fine_row in rows:
            self._writer.add(record, coarse_row, fine_row)
        self._since_commit += len(self._batch)
        self._batch.clear()
