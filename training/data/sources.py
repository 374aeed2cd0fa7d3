# SPDX-License-Identifier: Apache-2.0
"""Training data sources: image files with domain and place. An entry of `data` is one of

DATASET         a dataset directory (disam_ros.datasets.dataset), domains and poses from its records
FOLDER          of dataset directories: drives of one route that share a map frame, so that images
                of different drives can be true pairs
A + B           datasets or folders of drives that share a map frame, such as drives and the aerial
                pictures of their town
FOLDER          with one folder of images per domain, named like the domain; no places known
webcams:FOLDER  with one folder of images per fixed camera (AMOS, dnim, tilde): each folder is a
                view; day and night are separated by brightness once the images are decoded. A
                camera's folder may also hold a folder of images per domain
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.dataset import Dataset
from disam_ros.files.paths import expand
from training.errors import TrainingError

SUFFIXES = (".jpg", ".jpeg", ".png")
WEBCAMS = "webcams:"
TOGETHER = " + "
TEST_ONLY = ("gardens_point",)  # folders that must never be trained or tuned on
FORWARD = (0.0, 0.0, 1.0)  # optical axis in the camera frame


@dataclass(frozen=True)
class Photo:
    """One image file with its domain and place."""

    path: Path
    domain: str  # empty: day or night, not separated yet
    group: str = ""  # what the position is relative to: a route, a fixed camera; empty: unknown
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in the group's frame [m]
    axis: tuple[float, float, float] = FORWARD  # optical axis in that frame, unit length
    tiled: bool = False  # taken by a fixed camera: its crops are different places
    drive: str = ""  # directory of the dataset; empty outside datasets
    camera: str = ""  # name in the dataset
    stamp_ns: int = 0  # time stamp in the dataset [ns]
    # Reads the depth map, float32 [H, W] in metres, or None where there is none
    depth: Callable[[], NDArray[Any] | None] | None = field(default=None, compare=False, repr=False)


def find_photos(entries: Sequence[str]) -> list[Photo]:
    """Lists all images of the entries, in the order of their names.

    Raises TrainingError for an entry that is missing, empty or reserved for tests; DatasetError
    for a damaged dataset.
    """
    if not entries:
        raise TrainingError("no data: name directories under 'data' in the config or with --data")
    photos = []
    for entry in entries:
        parts = entry.split(TOGETHER)
        for part in parts:
            part_photos = _find(part.strip())
            if not part_photos:
                raise TrainingError(f"no images ({', '.join(SUFFIXES)}) in '{part}'")
            photos += (
                part_photos if len(parts) == 1 else [_regrouped(p, entry) for p in part_photos]
            )
    return photos


def _regrouped(photo: Photo, group: str) -> Photo:
    """Move a photo into a frame that other entries share; tiles stay where they are."""
    if photo.group and not photo.tiled:
        return replace(photo, group=group)
    return photo


def _find(entry: str) -> list[Photo]:
    folder = Path(expand(entry.removeprefix(WEBCAMS)))
    if set(TEST_ONLY) & {part.lower() for part in folder.absolute().parts}:
        raise TrainingError(f"'{entry}' is test data: never train or choose a model on it")
    if not folder.is_dir():
        raise TrainingError(
            f"data '{entry}' is not a directory; make or fetch it first, or name another with "
            f"--data"
        )
    if entry.startswith(WEBCAMS):
        return [p for view in _folders(folder) for p in _webcam(view)]
    if (folder / "dataset.json").exists():
        return _drive(folder, str(folder))
    drives = [d for d in _folders(folder) if (d / "dataset.json").exists()]
    if drives:
        return [p for drive in drives for p in _drive(drive, str(folder))]
    return [Photo(path, d.name) for d in _folders(folder) for path in _images(d)]


def _webcam(folder: Path) -> list[Photo]:
    unsorted = [Photo(path, "", str(folder), tiled=True) for path in _images(folder)]
    domains = [(path, d.name) for d in _folders(folder) for path in _images(d)]
    return unsorted + [Photo(path, name, str(folder), tiled=True) for path, name in domains]


def _drive(folder: Path, group: str) -> list[Photo]:
    dataset = Dataset(folder)
    photos = []
    for record in dataset.records:
        pose, path = record.map_from_camera, dataset.path(record)
        depth = partial(dataset.depth, record) if dataset.info.depth_unit is not None else None
        if pose is None:
            photo = Photo(path, record.domain, depth=depth)
        else:
            (x, y, z), axis = pose.translation.tolist(), pose.rotation @ np.array(FORWARD)
            ahead = tuple(axis.tolist())
            photo = Photo(path, record.domain, group, (x, y, z), ahead, depth=depth)
        photos.append(
            replace(photo, drive=str(folder), camera=record.camera, stamp_ns=record.stamp_ns)
        )
    return photos


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir())


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)


def day_or_night(images: Sequence[NDArray[Any]]) -> list[str]:
    """Tells day from night in images of ONE fixed camera, by the brightness of the sky (Otsu).

    images: uint8 RGB [H, W, 3]. The blue of the upper third is bright by day and dark by night even
    where lamps make the night's picture as bright as the day's. Two clusters (Otsu) count as night
    and day where they are compact and the darker is less than 0.65 of the brighter; otherwise all
    images are of the same kind.
    """
    sky = np.array([i[: max(1, len(i) // 3), :, 2].mean() for i in images])
    threshold, ratio, compact = _otsu(sky)
    if compact < 0.8 or ratio > 0.65:
        threshold = 60.0  # a day's sky is never that dark, a night's seldom brighter
    return ["day" if value >= threshold else "night" for value in sky]


def _otsu(values: NDArray[Any]) -> tuple[float, float, float]:
    """Splits values in two (Otsu): threshold, ratio of the means, share of variance explained."""
    ordered = np.sort(values)
    count = len(ordered)
    if count < 2 or ordered[0] == ordered[-1]:
        return 0.0, 1.0, 0.0
    below = np.arange(1, count)
    sums = np.cumsum(ordered)
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) / count**2 * (high - low) ** 2
    k = int(between.argmax())
    threshold = (ordered[k] + ordered[k + 1]) / 2
    return threshold, low[k] / max(high[k], 1e-9), between[k] / ordered.var()
