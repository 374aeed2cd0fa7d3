# SPDX-License-Identifier: Apache-2.0
"""Validation: recall@1 with the similarity that retrieval uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.image_store import ImageStore
from training.data.places import Box, fit_box, same_place
from training.data.sources import find_photos
from training.errors import TrainingError
from training.settings import CropConfig, ValidationConfig

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
TILE_ZOOM = 2.5  # fixed cameras are cut into tiles of this zoom, half a tile apart
TILE_ROW = (0.0, 1 / 3, 2 / 3, 1.0)  # 4×4 tiles
SAME_TILE = 0.55  # neighbours share 0.5


@dataclass(frozen=True)
class ValidationSet:
    """Views by domain: images [N, 3, H, W] in [−1, 1] and places [N, PLACE_SIZE].

    disc: radius of a perfect position prior [m]; 0: none.
    """

    images: dict[str, Tensor]
    places: dict[str, np.ndarray]
    reference: str
    radius: float
    angle: float
    disc: float = 0.0


def load_validation(
    config: ValidationConfig, size: tuple[int, int], crops: CropConfig, domains: list[str]
) -> ValidationSet:
    """Read the validation data; images keep the whole view, resized as in retrieval.

    Raises TrainingError when map or queries would be empty.
    """
    store = ImageStore(find_photos(config.data), size, crops)
    rows = {d: r for d, r in store.rows().items() if d in domains}
    rows = {d: [row for row in r if store.photos[row].group] for d, r in rows.items()}
    reference = config.reference or domains[0]
    if not rows.get(reference) or not any(rows[d] for d in rows if d != reference):
        raise TrainingError(
            f"validation needs posed images of '{reference}' (the map) and of another trained "
            f"domain, found {', '.join(f'{len(r)} {d}' for d, r in rows.items()) or 'none'}"
        )
    images, places = {}, {}
    for domain, found in rows.items():
        views = _views(store, found, config.images, 0.0 if domain == reference else config.shift)
        if views:
            images[domain] = torch.stack([store.crop(row, box) for row, box in views])
            places[domain] = np.stack([store.place(row, box) for row, box in views])
    return ValidationSet(images, places, reference, config.radius, config.angle, config.disc)


@torch.inference_mode()
def recall(
    encoders: Mapping[str, Callable[[Tensor], Tensor]],
    describe: Callable[[Tensor], Tensor],
    validation: ValidationSet,
    device: torch.device,
    batch: int = 32,
) -> dict[str, float]:
    """Percent of queries whose best candidate is right, by domain, and their `mean`.

    describe: features [B, C, h, w] → descriptors [B, D].
    """
    table = {}
    for domain, images in validation.images.items():
        parts = [describe(encoders[domain](x.to(device)).float()) for x in images.split(batch)]
        table[domain] = torch.cat(parts)
    found = {}
    reference = table.pop(validation.reference)
    for domain, queries in table.items():
        places = validation.places[domain], validation.places[validation.reference]
        scores = (queries @ reference.T).cpu().numpy()
        if validation.disc:
            scores[~_within(*places, validation.disc)] = -np.inf
        best = scores.argmax(1)
        right = same_place(*places, validation.radius, validation.angle, SAME_TILE)
        found[domain] = 100.0 * float(right[np.arange(len(best)), best].mean())
    return {**found, "mean": float(np.mean(list(found.values())))}


def _within(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Whether places a [A, PLACE_SIZE] and b [B, PLACE_SIZE] lie within `radius` m, bool [A, B]."""
    gaps = np.linalg.norm(a[:, None, 1:4] - b[None, :, 1:4], axis=-1)
    return (gaps <= radius) & (a[:, None, 0] == b[None, :, 0])


def _views(store: ImageStore, rows: list[int], count: int, shift: float) -> list[tuple[int, Box]]:
    """Evenly chosen images of one domain: whole, or as tiles where the camera is fixed.

    shift: lateral offset to the right, fraction of a tile (the last of a row: to the left).
    """
    groups: dict[str, list[int]] = {}
    for row in rows:
        tiled = store.photos[row].tiled
        groups.setdefault(store.photos[row].group if tiled else "", []).append(row)
    views = []
    for found in groups.values():
        chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
        for row in (found[k] for k in chosen):
            views += [(row, box) for box in _boxes(store, row, shift)]
    return views


def _boxes(store: ImageStore, row: int, shift: float) -> list[Box]:
    if not store.photos[row].tiled:
        return [WHOLE]
    shape = store.images[row].shape[:2]
    boxes = [fit_box(shape, store.size, TILE_ZOOM, x, y) for y in TILE_ROW for x in TILE_ROW]
    return [_moved(box, shift) for box in boxes]


def _moved(box: Box, shift: float) -> Box:
    step = shift * (box.right - box.left) * (1 if box.right < 1 - 1e-9 else -1)
    return Box(box.left + step, box.top, box.right + step, box.bottom)
