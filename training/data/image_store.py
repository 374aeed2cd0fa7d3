# SPDX-License-Identifier: Apache-2.0
"""In-memory store of decoded images, random crops, prefetching.

Decoding would dominate a training step on few cores, so every image is decoded once and kept as
uint8, a little larger than the crop. Random choices come from a generator made of (seed, stage,
step, process), so a resumed run draws what the interrupted one would have drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from disam_ros.errors import ImageError
from disam_ros.image import read, to_tensor
from training.data.places import Box, fit_box
from training.data.sources import Photo, day_or_night
from training.errors import TrainingError
from training.settings import CropConfig

Batch = TypeVar("Batch")

log = logging.getLogger(__name__)

TILE_ZOOM = [1.2, 2.4]  # range of zoom for fixed webcams, whose crops are places


class ImageStore:
    """Images decoded into memory.

    Raises TrainingError when none can be read or memory would not suffice.
    """

    photos: list[Photo]  # readable ones, with their domain
    images: list[NDArray[Any]]  # uint8 RGB, as large as `cache_scale` crops
    skipped: int  # how many could not be read
    small: int  # how many are smaller than a crop

    def __init__(
        self,
        photos: Sequence[Photo],
        size: tuple[int, int],
        crops: CropConfig,
        threads: int = 2,
        light: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """light: domains of fixed cameras' images by 'day' and 'night'; None: domains so named."""
        self.size, self.crops = size, crops
        self.small = 0
        with ThreadPoolExecutor(threads) as pool:
            loaded = list(pool.map(self._load, self._within_limit(photos)))
        kept = [(p, i) for p, i in zip(photos, loaded, strict=True) if i is not None]
        self.skipped = len(photos) - len(kept)
        if not kept:
            raise TrainingError(f"none of {len(photos)} images can be read, see the log")
        if self.skipped:
            log.warning("skipped %d of %d images: unreadable", self.skipped, len(photos))
        if self.small:
            log.warning(
                "%d of %d images are smaller than the crop of %dx%d and are enlarged",
                self.small,
                len(kept),
                *size,
            )
        self.images, self.photos = _with_domains(kept, light or {})
        self._groups: dict[str, int] = {}

    def rows(self) -> dict[str, list[int]]:
        """Lists the row numbers of each domain's images, in order of first appearance."""
        rows: dict[str, list[int]] = {}
        for row, photo in enumerate(self.photos):
            rows.setdefault(photo.domain, []).append(row)
        return rows

    def crop(self, row: int, box: Box, flip: bool = False) -> Tensor:
        """Cuts a box out of an image, as float32 [3, H, W] in [−1, 1]."""
        height, width = self.images[row].shape[:2]
        left, top = round(box.left * width), round(box.top * height)
        right, bottom = round(box.right * width), round(box.bottom * height)
        part = self.images[row][top : max(bottom, top + 1), left : max(right, left + 1)]
        return to_tensor(part[:, ::-1] if flip else part, self.size)

    def place(self, row: int, box: Box) -> NDArray[Any]:
        """Returns the place of a crop, [11]; an image of unknown place is a group of its own."""
        photo = self.photos[row]
        group = self._groups.setdefault(photo.group or f"{photo.path}", len(self._groups))
        corners = (box.left, box.top, box.right, box.bottom)
        return np.array([group, *photo.position, *photo.axis, *corners])

    def _within_limit(self, photos: Sequence[Photo]) -> Sequence[Photo]:
        tiled = sum(photo.tiled for photo in photos)
        pixels = tiled * self.crops.tile_cache_scale**2
        pixels += (len(photos) - tiled) * self.crops.cache_scale**2
        needed = pixels * 3 * self.size[0] * self.size[1] / 1e6
        if needed > self.crops.cache_limit_mb:
            raise TrainingError(
                f"{len(photos)} images need {needed:.0f} MB of memory, the limit is "
                f"{self.crops.cache_limit_mb:.0f}; raise crops.cache_limit_mb, lower "
                f"crops.cache_scale or train on fewer images"
            )
        return photos

    def _load(self, photo: Photo) -> NDArray[Any] | None:
        """Decode and shrink so that the image just covers `cache_scale` crops."""
        try:
            image = read(photo.path)
        except ImageError as error:
            log.warning("%s", error)
            return None
        cover = max(self.size[0] / image.shape[0], self.size[1] / image.shape[1])
        self.small += cover > 1
        cover *= self.crops.tile_cache_scale if photo.tiled else self.crops.cache_scale
        if cover >= 1:
            return image
        shape = (round(image.shape[1] * cover), round(image.shape[0] * cover))
        return cv2.resize(image, shape, interpolation=cv2.INTER_AREA)


def _with_domains(
    lit: Sequence[tuple[Photo, NDArray[Any]]], light: Mapping[str, Sequence[str]]
) -> tuple[list[NDArray[Any]], list[Photo]]:
    """Gives fixed cameras' images their domains by light: one entry for each domain."""
    views: dict[str, list[int]] = {}
    for row, (photo, _) in enumerate(lit):
        if not photo.domain:
            views.setdefault(photo.group, []).append(row)
    domains: dict[int, Sequence[str]] = {}
    for rows in views.values():
        for row, name in zip(rows, day_or_night([lit[r][1] for r in rows]), strict=True):
            domains[row] = light.get(name, [name])
    images, photos = [], []
    for row, (photo, image) in enumerate(lit):
        for domain in domains.get(row, [photo.domain]):
            images.append(image)
            photos.append(replace(photo, domain=domain))
    return images, photos


def prefetched(
    make: Callable[[int], Batch], steps: range, ahead: int
) -> Generator[Batch, None, None]:
    """Yields make(step) for every step, up to `ahead` of them computed beforehand in a thread."""
    if ahead == 0:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, step) for step in steps[:ahead]]
        try:
            for step in steps:
                ready = waiting.pop(0)
                if step + ahead in steps:
                    waiting.append(pool.submit(make, step + ahead))
                yield ready.result()
        finally:
            for future in waiting:
                future.cancel()


def random_box(store: ImageStore, row: int, random: np.random.Generator) -> Box:
    """Draws a box of random place and zoom in an image."""
    zoom, across, down = random.random(3)
    low, high = zoom_range(store.crops, store.photos[row].tiled)
    height, width = store.images[row].shape[:2]
    return fit_box((height, width), store.size, low + zoom * (high - low), across, down)


def random_view(
    store: ImageStore, row: int, zoom: tuple[float, float], random: np.random.Generator
) -> Tensor:
    """Crops an image at random place and zoom, half the time mirrored, float32 [3, H, W]."""
    chosen, across, down = random.uniform(*zoom), random.random(), random.random()
    height, width = store.images[row].shape[:2]
    box = fit_box((height, width), store.size, chosen, across, down)
    return store.crop(row, box, flip=random.random() < 0.5)


def zoom_range(crops: CropConfig, tiled: bool) -> list[float]:
    return TILE_ZOOM if tiled else crops.zoom


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """Returns an image [3, H, W] in [−1, 1] as uint8 RGB [H, W, 3]."""
    pixels = (127.5 * (image.clamp(-1, 1) + 1)).round().byte()
    return np.asarray(pixels.permute(1, 2, 0).contiguous().numpy(), np.uint8)
