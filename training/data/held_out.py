# SPDX-License-Identifier: Apache-2.0
"""Validation data of a recipe that names none: one stretch of every route, held out of training.

All images of a place go together, in whatever condition, and those just before and after the
stretch serve neither: no view of a place that validates has been trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from disam_ros.datasets.dataset import Dataset, DatasetWriter
from training.data.sources import Photo

APART = 15.0  # m between places that train and places that validate
FEWEST = 10  # held-out images of a condition, below which recall says nothing


def split(photos: Sequence[Photo], share: float) -> tuple[list[Photo], list[Photo]]:
    """Splits photos into those to train on and those of the last `share` of each route.

    A route is all that shares a map frame; its longest drive defines its last stretch. Photos of
    unknown place and of fixed cameras train. A route of one condition, or too short, is not split.
    """
    groups: dict[str, list[int]] = {}
    for number, photo in enumerate(photos):
        if photo.group and photo.drive and not photo.tiled:
            groups.setdefault(photo.group, []).append(number)
    held: set[int] = set()
    between: set[int] = set()
    for rows in groups.values():
        chosen = _last_stretch([photos[r] for r in rows], share)
        places = np.array([photos[r].position for r in rows])
        counts = {photos[r].domain: 0 for r in rows}
        for row, inside in zip(rows, chosen, strict=True):
            counts[photos[row].domain] += bool(inside)
        if sum(count >= FEWEST for count in counts.values()) < 2:
            continue
        gaps = cKDTree(places[chosen]).query(places)[0]
        held |= {r for r, inside in zip(rows, chosen, strict=True) if inside}
        between |= {r for r, gap in zip(rows, gaps, strict=True) if gap < APART}
    trained = [p for n, p in enumerate(photos) if n not in held | between]
    return trained, [photos[n] for n in sorted(held)]


def _last_stretch(photos: Sequence[Photo], share: float) -> NDArray[Any]:
    """Tells which photos of a route are nearest to the last `share` of its longest drive [N]."""
    drives: dict[tuple[str, str], list[Photo]] = {}
    for photo in photos:
        drives.setdefault((photo.drive, photo.camera), []).append(photo)
    ways = []
    for drive in drives.values():
        way = np.array([p.position for p in sorted(drive, key=lambda p: p.stamp_ns)])
        along = np.concatenate([[0.0], np.linalg.norm(np.diff(way, axis=0), axis=1).cumsum()])
        ways.append((along[-1], way, along >= (1.0 - share) * along[-1]))
    _, way, last = max(ways, key=lambda item: item[0])
    nearest = cKDTree(way).query([p.position for p in photos])[1]
    result: NDArray[Any] = last[nearest]
    return result


def write(photos: Sequence[Photo], directory: Path) -> Path:
    """Write held-out photos as datasets, one for each drive, in place of earlier ones."""
    drives: dict[str, set[tuple[str, str, int]]] = {}
    for photo in photos:
        kept = drives.setdefault(photo.drive, set())
        kept.add((photo.domain, photo.camera, photo.stamp_ns))
    for number, (drive, kept) in enumerate(sorted(drives.items())):
        source = Dataset(drive)
        target = directory / f"{number}-{Path(drive).name}"
        info = replace(source.info, depth_unit=None)
        with DatasetWriter(target, info, overwrite=True) as writer:
            for r in source.records:
                if (r.domain, r.camera, r.stamp_ns) in kept:
                    data = source.path(r).read_bytes()
                    writer.add(data, r.stamp_ns, r.camera, r.domain, r.map_from_camera, r.source)
    return directory
