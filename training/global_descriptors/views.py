# SPDX-License-Identifier: Apache-2.0
"""Augmented crops of images and of their depth maps."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disam_ros.models.global_descriptors.depth import DEPTH_LIMIT
from training.data.augment import photometric
from training.data.image_store import ImageStore, random_box, zoom_range
from training.data.places import Box, fit_box
from training.data.sources import Photo
from training.errors import TrainingError


class DepthStore:
    """Depth maps in memory, divided by DEPTH_LIMIT: NaN unknown, infinite beyond the range.

    size: (height, width) of the network's depth map. scale: size of kept maps, relative to that.
    Raises DatasetError for a damaged map.
    """

    def __init__(
        self, photos: Sequence[Photo], size: tuple[int, int], scale: float, threads: int = 2
    ) -> None:
        self.size, self._scale = size, scale
        with ThreadPoolExecutor(threads) as pool:
            self._maps = list(pool.map(self._load, photos))

    def known(self) -> NDArray[Any]:
        """Lists the rows of photos that have a depth map."""
        return np.array([k for k, depth in enumerate(self._maps) if depth is not None], dtype=int)

    def crop(self, row: int, box: Box, flip: bool = False) -> Tensor:
        """Cuts a box out of a depth map, as float32 [1, h, w]; all unknown where there is none."""
        depth = self._maps[row]
        if depth is None:
            return torch.full((1, *self.size), torch.nan)
        height, width = depth.shape
        rows = box.top + (np.arange(self.size[0]) + 0.5) / self.size[0] * (box.bottom - box.top)
        columns = box.left + (np.arange(self.size[1]) + 0.5) / self.size[1] * (box.right - box.left)
        rows = (rows * height).astype(int).clip(0, height - 1)
        columns = (columns * width).astype(int).clip(0, width - 1)
        part = depth[rows[:, None], (columns[::-1] if flip else columns)[None]]
        return torch.from_numpy(part.astype(np.float32))[None]

    def _load(self, photo: Photo) -> NDArray[Any] | None:
        depth = photo.depth() if photo.depth else None
        if depth is None:
            return None
        cover = max(self.size[0] / depth.shape[0], self.size[1] / depth.shape[1]) * self._scale
        if cover < 1:
            shape = round(depth.shape[1] * cover), round(depth.shape[0] * cover)
            depth = cv2.resize(depth, shape, interpolation=cv2.INTER_NEAREST)
        return (depth / DEPTH_LIMIT).astype(np.float16)


@dataclass(frozen=True)
class Views:
    """Images [K, 3, H, W] in [−1, 1] and, where it is trained, their depth [K, 1, h, w]."""

    images: Tensor
    depth: Tensor | None


class Viewer:
    """Makes views of rows of an image store."""

    def __init__(self, store: ImageStore, depths: DepthStore | None) -> None:
        self.store, self.depths = store, depths

    def augmented(
        self, rows: Sequence[int] | NDArray[Any], random: np.random.Generator, flip: bool
    ) -> Views:
        """Makes random crops with random photometry; all are mirrored together."""
        images, depths = [], []
        for row in np.asarray(rows).tolist():
            box = random_box(self.store, row, random)
            strength = self.store.crops.photometric
            images.append(photometric(self.store.crop(row, box, flip), strength, random))
            if self.depths is not None:
                depths.append(self.depths.crop(row, box, flip))
        return Views(torch.stack(images), torch.stack(depths) if depths else None)

    def plain(self, rows: Sequence[int] | NDArray[Any]) -> Tensor:
        """Makes centred crops [K, 3, H, W] without augmentation."""
        return torch.stack([self._plain(row) for row in np.asarray(rows).tolist()])

    def _plain(self, row: int) -> Tensor:
        zoom = zoom_range(self.store.crops, self.store.photos[row].tiled)[0]
        height, width = self.store.images[row].shape[:2]
        return self.store.crop(row, fit_box((height, width), self.store.size, zoom, 0.5, 0.5))


def require_depth(rows: NDArray[Any], depths: DepthStore | None, what: str) -> NDArray[Any]:
    """Selects the rows that have a depth map. Raises TrainingError for none."""
    kept = np.intersect1d(rows, [] if depths is None else depths.known())
    if not len(kept):
        raise TrainingError(
            f"none of {len(rows)} images of {what} has a depth map: give datasets with depth "
            f"(docs/formats.md), or turn losses.depth off"
        )
    result: NDArray[Any] = kept
    return result
