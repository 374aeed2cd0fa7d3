# SPDX-License-Identifier: Apache-2.0
"""Map building from posed images: keyframe selection, encoding, crash-safe writing."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.counts import warn_of_losses
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.device import CPU
from disam_ros.domains.choice import DomainChooser
from disam_ros.errors import MapError
from disam_ros.mapping.compression import model_projection
from disam_ros.mapping.encoding import BatchEncoder, Encoded, LocalEncoder, row_makers
from disam_ros.mapping.index import FLAT, write_cells
from disam_ros.mapping.keypoints import FILE, KeypointMaker
from disam_ros.mapping.place_map import MapHeader, PlaceMap
from disam_ros.mapping.views import MapViews
from disam_ros.mapping.writer import MapWriter
from disam_ros.models.model import Model
from disam_ros.models.similarity import Shifts, descriptor_shapes

logger = logging.getLogger(__name__)
MOST_SHIFTED = 2**30  # of a query's fine features with all their shifts [bytes]
PRODUCTS_PER_MS = 7e6  # multiplications of a CPU core, measured at 32x64x64 features
LOST = (
    "Of a bag, disam doctor BAG lists its sources of poses: --pose-topic and --trajectory choose, "
    "--max-pose-gap SECONDS bridges longer gaps"
)


def build_map(
    source: ImageSource,
    model: Model,
    output: Path | str,
    config: MapBuilderConfig,
    device: str = CPU,
    show_progress: bool = True,
    encoder: BatchEncoder | None = None,
    overwrite: bool = False,
) -> PlaceMap:
    """Build a map, or resume a build that was killed.

    encoder: None encodes in this process. overwrite: a map that is there is replaced in the end.
    Images without a pose or unreadable ones are skipped and counted in map.json. Raises OutputError
    (output exists), MapError (disk full, nothing usable, unknown domain).
    """
    identity, quiet = source.identity, not show_progress
    with MapBuilder(
        source.info, model, output, config, device, identity, encoder, overwrite=overwrite
    ) as builder:
        for item in tqdm(source.images, "map", source.total, unit="img", disable=quiet):
            builder.add(item)
        return builder.finish(show_progress=show_progress)


def require_domain(model: Model, name: str) -> None:
    """Raises MapError where a model has no encoder for a domain; an empty name is none."""
    if name and not DomainChooser(model.domains).find(name):
        raise MapError(
            f"model '{model.name}' has no encoder for domain '{name}', only for "
            f"{', '.join(model.domain_names())}; choose one with --domain"
        )


def write_indices(place_map: PlaceMap) -> list[Path]:
    """Write the inverted file of each camera with more than FLAT images. Returns their paths.

    There is none of whole descriptors, which are all compared.
    """
    written: list[Path] = []
    if place_map.header.descriptor.as_in_paper:
        return written
    for camera in place_map.cameras():
        rows = place_map.rows_of(camera)
        if len(rows) > FLAT:
            write_cells(place_map.index_path(camera), place_map.coarse[rows], place_map.steps)
            written.append(place_map.index_path(camera))
    return written


@dataclass
class _Batch:
    """Images being encoded, and the position in the input after the last of them."""

    records: list[ImageRecord]
    seen: int
    unposed: int
    rows: Callable[[], Encoded]


class MapBuilder:
    """Builds a map from posed images, one by one. Use as a context manager.

    encoder: None encodes in this process. live: images are from a sensor, so a resumed build
    continues with new images; else it is given all of them again and skips those it has.
    overwrite: see `build_map`.
    """

    def __init__(
        self,
        info: DatasetInfo,
        model: Model,
        output: Path | str,
        config: MapBuilderConfig,
        device: str = CPU,
        source: str = "",
        encoder: BatchEncoder | None = None,
        live: bool = False,
        overwrite: bool = False,
    ) -> None:
        if not model.identity:
            raise MapError("the model was never saved: a map refers to a model directory")
        if model.training.get("commercial_use") is False:
            licence = model.training.get("licence")
            logger.warning(
                "the licence of model '%s', %s, forbids commercial use", model.name, licence
            )
        require_domain(model, config.domain)
        self._model, self._config = model, config
        self._domains = DomainChooser(model.domains)
        self._chosen: set[str] = set()  # domains that were chosen by stamp and place
        self._views = MapViews(info.cameras, config.field_of_view)
        info = self._info = replace(info, cameras=self._views.cameras)
        makers = row_makers(config, info.cameras, device)
        keypoints = makers.get(FILE)
        shapes = descriptor_shapes(model.network, config.descriptor)
        whole = config.descriptor.as_in_paper
        if not whole:
            _check_grids(model.network.feature_size, shapes)
        projection = None if whole else model_projection(model.projection, shapes["coarse"])
        header = MapHeader(
            model_identity=model.identity,
            model_name=model.name,
            map_frame=info.map_frame,
            cameras=info.cameras,
            descriptor=config.descriptor,
            directions=projection.sha256 if projection else "",
            latitude=info.latitude,
            longitude=info.longitude,
            keypoints=keypoints.header if isinstance(keypoints, KeypointMaker) else None,
            thumbnails=config.thumbnails,
        )
        source = json.dumps([source or info.name, asdict(config)], sort_keys=True)
        self._writer = MapWriter(
            directory=output,
            header=header,
            shapes=shapes,
            source=hashlib.sha256(source.encode()).hexdigest(),
            projection=projection,
            overwrite=overwrite,
        )
        self._seen = self._writer.position if live else 0
        self._unposed = self._writer.skipped  # with those that were unreadable before a kill
        self._unreadable = 0
        self._keyframes = KeyframeSelector(config.keyframe_distance, config.keyframe_angle)
        self._encoder = encoder or LocalEncoder(
            model,
            device,
            config.descriptor,
            makers,
        )
        self._gathered: list[PosedImage] = []
        self._pending: deque[_Batch] = deque()
        self._since_commit = 0

    def __enter__(self) -> MapBuilder:
        return self

    def __exit__(self, *_: object) -> None:
        self._encoder.close()
        self._writer.close()

    @property
    def count(self) -> int:
        """Images in the map so far."""
        pending = sum(len(batch.records) for batch in self._pending)
        return self._writer.count + len(self._gathered) + pending

    @property
    def complete(self) -> bool:
        """Whether a killed build has only to be finished."""
        return self._writer.complete

    @property
    def left_out(self) -> str:
        """How many images cannot be used, and why."""
        return f"{self._unposed} without a pose, {self._unreadable} unreadable"

    def add(self, item: PosedImage) -> bool:
        """Add an image; True if it was selected as a keyframe."""
        resumed = self._seen < self._writer.position  # processed before the kill
        item = self._views.of(item)
        pose = item.record.map_from_camera
        if pose is None:
            self._seen += 1
            self._unposed += not resumed
            return False
        kept = self._keyframes.keeps(item.record.camera, pose) and not resumed
        if kept:
            record = replace(item.record, domain=self._domain_of(item))
            if self._gathered and self._gathered[-1].record.domain != record.domain:
                self._submit()
            self._gathered.append(replace(item, record=record))
        self._seen += 1
        if len(self._gathered) >= self._config.batch_size:
            self._submit()
        return kept

    def commit(self) -> None:
        """Encode and commit all images added so far."""
        self._submit()
        while self._pending:
            self._write(self._pending.popleft())
        self._writer.commit(self._seen, self._unposed + self._unreadable)
        self._since_commit = 0

    def finish(
        self, place: tuple[float, float] | None = None, show_progress: bool = False
    ) -> PlaceMap:
        """Write the remaining images and open the finished map. Raises MapError.

        place: latitude and longitude [deg] of the map frame's origin, where they became known.
        """
        self.commit()
        skipped = self._unposed + self._unreadable
        if not self._writer.count:
            raise MapError(
                f"none of {self._seen} images could be used ({self.left_out}): a map needs at "
                f"least one. {LOST}"
            )
        warn_of_losses(self._info.name, skipped, self._seen, f"{self.left_out}. {LOST}")
        built = {"operation": "build", "source": self._info.name, "images": self._writer.count}
        built |= {"of": self._seen, "left_out": skipped}
        built |= {"settings": asdict(self._config)}
        extra: dict[str, object] = {"skipped": skipped, "revision": 1, "history": [built]}
        if place is not None:
            extra["latitude"], extra["longitude"] = place
        place_map = PlaceMap(self._writer.finish(extra, show_progress), verify=False)
        try:
            write_indices(place_map)
        except MapError as error:
            logger.warning("%s", error)
        return place_map

    def _domain_of(self, item: PosedImage) -> str:
        name = self._config.domain or item.record.domain
        if domain := self._domains.find(name):
            return domain
        require_domain(self._model, name)
        place = item.place or (self._info.latitude, self._info.longitude)
        latitude, longitude = (float("nan") if v is None else v for v in place)
        choice = self._domains.choose(item.record.stamp_ns, latitude, longitude)
        if choice.name not in self._chosen:
            self._chosen.add(choice.name)
            logger.info(
                "domain of images without a name: %s. Name another one with --domain (%s)",
                choice.reason,
                ", ".join(self._model.domain_names()),
            )
        return choice.name

    def _submit(self) -> None:
        """Submit the gathered images for encoding; write finished batches."""
        if self._gathered:
            records = [item.record for item in self._gathered]
            rows = self._encoder.submit(records[0].domain, self._gathered)
            self._pending.append(_Batch(records, self._seen, self._unposed, rows))
            self._gathered = []
        while len(self._pending) > self._encoder.ahead:
            self._write(self._pending.popleft())

    def _write(self, batch: _Batch) -> None:
        """Append a batch; commit after every `checkpoint_every` images."""
        for record, row in zip(batch.records, batch.rows(), strict=True):
            if isinstance(row, str):
                logger.warning("skipped: %s", row)
                self._unreadable += 1
            else:
                self._writer.add(record, *row)
        self._since_commit += len(batch.records)
        if self._since_commit >= self._config.checkpoint_every:
            self._writer.commit(batch.seen, batch.unposed + self._unreadable)
            self._since_commit = 0


def _check_grids(features: tuple[int, int], shapes: Mapping[str, tuple[int, int, int]]) -> None:
    """Warn where features are averaged over cells: the paper compares them whole.

    features: rows and columns of the model's. Raises MapError where a query with all its shifts
    would take more than MOST_SHIFTED bytes.
    """
    size, duration = _cost_of_shifts(shapes["fine"])
    if size > MOST_SHIFTED:
        raise MapError(
            f"descriptor.fine_grid {max(shapes['fine'][1:])}: with all its shifts a query would "
            f"take {size >> 20} MiB and {duration:.0f} ms, expected at most {MOST_SHIFTED >> 20} "
            f"MiB: choose a smaller grid, or --retrieval paper, which compares whole features "
            f"without shifts"
        )
    pooled = [
        f"{stage} features of {features[0]}x{features[1]} cells are averaged to {rows}x{columns} "
        f"(descriptor.{stage}_grid {max(rows, columns)})"
        for stage, (_, rows, columns) in shapes.items()
        if (rows, columns) != features
    ]
    if shapes["fine"][1:] != features:
        size, duration = _cost_of_shifts((shapes["fine"][0], *features))
        logger.warning(
            "%s, which loses detail: grids of %d keep all, and a query with its shifts takes %d "
            "MiB and about %d ms of a core then; --retrieval paper compares whole features without "
            "shifts",
            "; ".join(pooled),
            max(features),
            size >> 20,
            duration,
        )


def _cost_of_shifts(shape: tuple[int, int, int]) -> tuple[int, float]:
    """Memory [bytes] of a query's fine features (C, h, w) with all their shifts, and time [ms] of
    its comparison with 50 candidates on a CPU core."""
    numbers = math.prod(shape) * len(Shifts.of_grid(*shape[1:]))
    return 4 * numbers, 50 * numbers / PRODUCTS_PER_MS
