# SPDX-License-Identifier: Apache-2.0
"""What it takes to merge two maps, against the copy of their files that it at least takes.

`python -m benchmark.performance map_merging`. Two maps of noise on the same routes, of which every
image is compared with the other map's images near it, as frames are checked before a merge.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmark.machine import fresh, load, spent
from benchmark.performance.speed import DISTINCT, SHIPPED
from benchmark.performance.synthetic_map import noise_map
from disam_ros.mapping.life.merging import merge
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model

SIZES = (1_000, 10_000)  # images of each map


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Seconds of a merge and of the copy by size of each map."""
    return {"rows": {str(images): fresh(merging, images) | {"load": load()} for images in sizes}}


def merging(images: int) -> dict[str, float]:
    """Seconds and processor time of one merge, of the copy, and MiB of files."""
    model = load_model(SHIPPED)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in ("first", "second"):
            noise_map(root / name, model, images, distinct=DISTINCT)
        copied, _ = spent(
            lambda: [shutil.copytree(root / n, root / f"copy of {n}") for n in ("first", "second")]
        )
        maps = [PlaceMap(root / name) for name in ("first", "second")]
        merged, processor = spent(lambda: merge(maps, model, root / "merged"))
        size = sum(file.stat().st_size for file in (root / "merged").iterdir())
        return {
            "merge": merged,
            "processor": processor,
            "copy": copied,
            "mib": size / 2**20,
        }
