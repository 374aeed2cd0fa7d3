# SPDX-License-Identifier: Apache-2.0
"""Validation: recall@1 with the similarity that retrieval uses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.records import ImageRecord
from disam_ros.image import read, to_tensor
from training.data.image_store import ImageStore
from training.data.places import WHOLE, Box, fit_box, same_place
from training.data.sources import find_photos
from training.errors import TrainingError
from training.settings import CropConfig, ValidationConfig

TILE_ZOOM = 2.5  # fixed cameras are cut into tiles of this zoom, half a tile apart
TILE_ROW = (0.0, 1 / 3, 2 / 3, 1.0)  # 4×4 tiles
SAME_TILE = 0.55  # neighbours share 0.5
QUERIES_AT_ONCE = 8  # compared with the map

Encoder = Callable[[Tensor], Tensor]  # images [B, 3, H, W] → features [B, C, h, w]
Similarity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class HalfwayDrive:
    """A drive whose every n-th image is on the map, and queries halfway between these."""

    mapped: Tensor  # images of the map [M, 3, H, W]
    queries: Tensor  # images halfway [Q, 3, H, W]
    right: NDArray[Any]  # bool [Q, M]: map images as near as the two around the query


@dataclass(frozen=True)
class ValidationSet:
    """Views of places that were not trained on."""

    images: dict[str, Tensor]  # by domain [N, 3, H, W] in [−1, 1]
    places: dict[str, NDArray[Any]]  # by domain [N, 11] (data/places.py)
    reference: str  # domain of the map
    radius: float  # maximum position error of a right answer [m]
    angle: float  # maximum angular error of a right answer [deg]
    disc: float = 0.0  # radius of a perfect position prior [m]; 0: no prior
    drive: HalfwayDrive | None = None  # tried with the encoders of all domains


def load_validation(
    config: ValidationConfig,
    size: tuple[int, int],
    crops: CropConfig,
    domains: list[str],
    light: Mapping[str, Sequence[str]] | None = None,
    by_day: Collection[str] = (),
) -> ValidationSet:
    """Read the validation data; images keep the whole view, resized as in retrieval.

    light: domains of fixed cameras' images by day and by night (ImageStore). by_day: of `domains`,
    those to map by preference where the settings name none. Raises TrainingError when map or
    queries would be empty.
    """
    store = ImageStore(find_photos(config.data), size, crops, light=light)
    rows = {d: r for d, r in store.rows().items() if d in domains}
    rows = {d: [row for row in r if store.photos[row].group] for d, r in rows.items()}
    reference = config.reference or _reference(domains, rows, by_day)
    if not rows.get(reference) or not any(rows[d] for d in rows if d != reference):
        raise TrainingError(
            f"validation needs posed images of '{reference}' (the map) and of another trained "
            f"domain, found {', '.join(f'{len(r)} {d}' for d, r in rows.items()) or 'none'}"
        )
    images, places = {}, {}
    for domain, members in rows.items():
        views = _views(store, members, config, mapped=domain == reference)
        if views:
            images[domain] = torch.stack([store.crop(row, box) for row, box in views])
            places[domain] = np.stack([store.place(row, box) for row, box in views])
    drive = load_drive(Path(config.drive), config.drive_step, size) if config.drive else None
    return ValidationSet(images, places, reference, config.radius, config.angle, config.disc, drive)


def _reference(
    domains: Sequence[str], rows: Mapping[str, Sequence[int]], by_day: Collection[str]
) -> str:
    """The domain to map: of those by day, or else of all, the one with most images."""
    images = {domain: len(rows.get(domain, ())) for domain in domains}
    light = {domain: n for domain, n in images.items() if domain in by_day and n}
    return max(light or images, key=images.__getitem__)


def load_drive(directory: Path, step: int, size: tuple[int, int]) -> HalfwayDrive:
    """Read a drive, every `step`-th image for the map.

    Raises DatasetError, or TrainingError where the drive is too short or lacks poses.
    """
    dataset = Dataset(directory)
    mapped, queries = dataset.records[::step], dataset.records[step // 2 :: step]
    queries = queries[: len(mapped) - 1]
    if not queries or any(record.map_from_camera is None for record in (*mapped, *queries)):
        raise TrainingError(
            f"'validation.drive' expects a drive of more than {step} images with poses, "
            f"{directory} has {len(dataset.records)} images: lower drive_step or leave it out"
        )

    def read_all(records: Sequence[ImageRecord]) -> Tensor:
        return torch.stack([to_tensor(read(dataset.path(record)), size) for record in records])

    at, mapped_at = (
        np.stack([r.map_from_camera.translation for r in records if r.map_from_camera is not None])
        for records in (queries, mapped)
    )
    gaps = np.linalg.norm(at[:, None] - mapped_at[None], axis=-1)
    rows = np.arange(len(at))
    nearest = np.maximum(gaps[rows, rows], gaps[rows, rows + 1])
    return HalfwayDrive(read_all(mapped), read_all(queries), gaps <= nearest[:, None] + 1e-9)


@dataclass(frozen=True)
class Compared:
    """Views of a domain compared with the map's."""

    name: str  # the domain, with the kind of views where it has two
    domain: str
    queries: NDArray[Any]  # numbers of the domain's views [Q]
    mapped: NDArray[Any]  # numbers of the map's views [M]
    scores: NDArray[Any]  # similarities [Q, M]
    right: NDArray[Any]  # whether both show one place, bool [Q, M]

    def answered_right(self) -> NDArray[Any]:
        """Tells whether the best view of the map is a right one, bool [Q]."""
        result: NDArray[Any] = self.right[np.arange(len(self.scores)), self.scores.argmax(1)]
        return result


@torch.inference_mode()
def compared(
    encoders: Mapping[str, Encoder],
    similarity: Similarity,
    validation: ValidationSet,
    device: torch.device,
    batch: int = 32,
    mapper: Encoder | None = None,
) -> Iterator[Compared]:
    """Compares the views of all domains with the map's.

    Whole views and tiles of fixed cameras are maps of their own; where a domain has both, the tiles
    have an entry of their own. mapper: encodes the map's views; None: the reference's encoder.
    """
    mapper = mapper or encoders[validation.reference]
    for mapped, conditions in _parts(validation):
        reference = _encode(mapper, validation, validation.reference, mapped, device, batch)
        for name, (domain, chosen) in conditions.items():
            queries = _encode(encoders[domain], validation, domain, chosen, device, batch)
            parts = [similarity(x, reference).cpu() for x in queries.split(QUERIES_AT_ONCE)]
            places = validation.places[domain][chosen], validation.places[validation.reference]
            places = places[0], places[1][mapped]
            scores = torch.cat(parts).numpy()
            if validation.disc:
                scores[~_within(*places, validation.disc)] = -np.inf
            right = same_place(*places, validation.radius, validation.angle, SAME_TILE)
            numbers = np.flatnonzero(chosen), np.flatnonzero(mapped)
            yield Compared(name, domain, *numbers, scores, right)


def _parts(
    validation: ValidationSet,
) -> Iterator[tuple[NDArray[Any], dict[str, tuple[str, NDArray[Any]]]]]:
    """Yields the map's views, bool [N], and by name the domain and views, bool [N], to compare."""
    names: set[str] = set()
    for kind, tiled in (("", False), (" tiles", True)):
        views = {d: _tiled(p) == tiled for d, p in validation.places.items()}
        mapped = views.pop(validation.reference)
        conditions = {}
        for domain, chosen in views.items():
            if chosen.any() and mapped.any():
                name = domain if domain not in names else f"{domain}{kind}"
                names.add(name)
                conditions[name] = domain, chosen
        yield mapped, conditions


def query_counts(validation: ValidationSet) -> dict[str, int]:
    """Number of queries by name, as in `recall`, without the mean."""
    counts = {
        name: int(chosen.sum())
        for _, conditions in _parts(validation)
        for name, (_, chosen) in conditions.items()
    }
    if validation.drive is not None:
        counts |= {f"{d} drive": len(validation.drive.queries) for d in validation.images}
    return counts


@torch.inference_mode()
def recall(
    encoders: Mapping[str, Encoder],
    similarity: Similarity,
    validation: ValidationSet,
    device: torch.device,
    batch: int = 32,
    mapper: Encoder | None = None,
) -> dict[str, float]:
    """Recall@1 [%]: queries whose best candidate is right, by name of `compared`, and the `mean`.

    The drive has an entry with each domain's encoder. similarity: features of queries and of map
    images [A, C, h, w], [B, C, h, w] → [A, B]. mapper: encodes the map's views; None: the
    reference's encoder.
    """
    recalls = {
        entry.name: 100.0 * float(entry.answered_right().mean())
        for entry in compared(encoders, similarity, validation, device, batch, mapper)
    }
    if validation.drive is not None:
        mapper = mapper or encoders[validation.reference]
        recalls |= _on_drive(encoders, mapper, similarity, validation, device, batch)
    return {**recalls, "mean": float(np.mean(list(recalls.values())))}


def _on_drive(
    encoders: Mapping[str, Encoder],
    mapper: Encoder,
    similarity: Similarity,
    validation: ValidationSet,
    device: torch.device,
    batch: int,
) -> dict[str, float]:
    """Recall@1 [%] on the drive, the map encoded by `mapper`, queries by each domain's encoder."""
    drive = validation.drive
    assert drive is not None
    mapped = _features(mapper, drive.mapped, device, batch)
    recalls = {}
    for domain in validation.images:
        queries = _features(encoders[domain], drive.queries, device, batch)
        parts = [similarity(x, mapped).cpu() for x in queries.split(QUERIES_AT_ONCE)]
        best = torch.cat(parts).numpy().argmax(1)
        right = drive.right[np.arange(len(best)), best]
        recalls[f"{domain} drive"] = 100.0 * float(right.mean())
    return recalls


def _encode(
    encoder: Encoder,
    validation: ValidationSet,
    domain: str,
    chosen: NDArray[Any],
    device: torch.device,
    batch: int,
) -> Tensor:
    """Encodes the chosen views of a domain, float32 [n, C, h, w]; [0] where none is chosen."""
    images = validation.images[domain][torch.from_numpy(chosen)]
    return _features(encoder, images, device, batch)


def _features(encoder: Encoder, images: Tensor, device: torch.device, batch: int) -> Tensor:
    """Encodes images in batches, float32 [n, C, h, w]; [0] for no image."""
    parts = [encoder(x.to(device)).float() for x in images.split(batch) if len(x)]
    return torch.cat(parts) if parts else torch.zeros(0)


def _tiled(places: NDArray[Any]) -> NDArray[Any]:
    """Tells which views [N, 11] are tiles of a fixed camera, bool [N]."""
    result: NDArray[Any] = (places[:, 9:] - places[:, 7:9]).min(1) < 1.0
    return result


def _within(a: NDArray[Any], b: NDArray[Any], radius: float) -> NDArray[Any]:
    """Tells which places a [A, 11] and b [B, 11] lie within `radius` m, bool [A, B]."""
    gaps = np.linalg.norm(a[:, None, 1:4] - b[None, :, 1:4], axis=-1)
    result: NDArray[Any] = (gaps <= radius) & (a[:, None, 0] == b[None, :, 0])
    return result


def _views(
    store: ImageStore, rows: list[int], config: ValidationConfig, mapped: bool
) -> list[tuple[int, Box]]:
    """Chooses images of one domain evenly: whole, or as tiles where the camera is fixed.

    mapped: for the map. Tiles of queries are moved by `config.shift`, and cut from other images
    than the map's where the camera took enough.
    """
    shift = 0.0 if mapped else config.shift
    groups: dict[str, list[int]] = {}
    for row in rows:
        tiled = store.photos[row].tiled
        groups.setdefault(store.photos[row].group if tiled else "", []).append(row)
    views = []
    for camera, members in groups.items():
        count = min(config.webcam_images if camera else config.images, len(members))
        chosen = np.linspace(0, len(members) - 1, count)
        if camera and not mapped:
            chosen = (np.arange(count) + 0.5) * len(members) / count - 0.5
        for row in (members[k] for k in chosen.round().astype(int)):
            views += [(row, box) for box in _boxes(store, row, shift)]
    return views


def _boxes(store: ImageStore, row: int, shift: float) -> list[Box]:
    if not store.photos[row].tiled:
        return [WHOLE]
    height, width = store.images[row].shape[:2]
    shape = height, width
    boxes = [fit_box(shape, store.size, TILE_ZOOM, x, y) for y in TILE_ROW for x in TILE_ROW]
    return [_moved(box, shift) for box in boxes]


def _moved(box: Box, shift: float) -> Box:
    step = shift * (box.right - box.left) * (1 if box.right < 1 - 1e-9 else -1)
    return Box(box.left + step, box.top, box.right + step, box.bottom)
