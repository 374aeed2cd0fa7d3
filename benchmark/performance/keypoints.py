# SPDX-License-Identifier: Apache-2.0
"""What keypoints of a map cost: while it is built, and of the latency of an answer.

`python -m benchmark.performance keypoints`. The demo's town: its mapping drive, and the drive by
night as a sequence with odometry, at the defaults.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.accuracy.drives import EVERY_IMAGE
from benchmark.machine import load
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.demo.drives import DATA, MODEL, REFERENCE
from disam_ros.device import threads
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model

CONDITION = "night"
KEYPOINTS = (0, MapBuilderConfig().keypoints)
FIRST = 5  # images that are not counted, until all is warm


def measure() -> dict[str, Any]:
    """Seconds to build each map, and milliseconds of the answers on it, in turn."""
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in KEYPOINTS:
            start = time.perf_counter()
            settings = replace(EVERY_IMAGE, keypoints=count)
            place_map = build_map(
                open_dataset(REFERENCE), load_model(MODEL), Path(scratch) / str(count), settings
            )
            seconds = time.perf_counter() - start
            rows[str(count)] = {"seconds": seconds, **latencies(place_map.directory)}
        images = len(place_map)
    return {"map_images": images, "rows": rows, "threads": threads(), "load": load()}


def latencies(map_dir: Path) -> dict[str, float]:
    """Percentiles of an answer's milliseconds; share of images whose keypoints were compared."""
    localizer = Localizer.open(map_dir, MODEL, LocalizerConfig(device="cpu"))
    drive = localize_drive(Pipeline(localizer), open_images(DATA / CONDITION, "map"))
    timings = [localized.answer.timings_ms for _, localized in drive if localized][FIRST:]
    totals = [laps["total"] for laps in timings]
    return {
        "p50": float(np.percentile(totals, 50)),
        "p90": float(np.percentile(totals, 90)),
        "compared": float(np.mean(["verify" in laps for laps in timings])),
    }
