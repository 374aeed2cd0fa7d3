# SPDX-License-Identifier: Apache-2.0
"""What warping a query of 640×480 into the map's camera costs, beside its encoder.

Table, warp and encoder are timed in turn on one thread each, so that load slows all alike.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from benchmark.machine import load, spent
from disam_ros.camera import FISHEYE, Camera, warp_between
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.image import network_input
from disam_ros.models.backend import select_backend
from disam_ros.models.model import load_model

SHIPPED = Path("models/outdoor")
DOMAIN = "summer_day"
ROUNDS = 60
MOUNT = Transform.from_rotation(np.array([0.8, 0.0, 1.5]), BODY_FROM_OPTICAL)
TARGET_MS = 2.0


def measure() -> dict[str, Any]:
    """Medians [ms] by lens; shares of the encoder's time in the same run."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = load_model(SHIPPED)
    backend = select_backend("auto", model, "cpu")
    mapped = pinhole(80.0)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    rows: dict[str, dict[str, Any]] = {}
    for name, lens in lenses().items():
        begun = time.perf_counter()
        warp = warp_between(lens, mapped)
        table = 1e3 * (time.perf_counter() - begun)
        view = network_input(warp.apply(picture), model.network.image_size)[None]
        times: dict[str, list[float]] = {"warp": [], "encode": []}
        for _ in range(ROUNDS):
            times["warp"].append(1e3 * spent(partial(warp.apply, picture))[0])
            times["encode"].append(1e3 * spent(partial(backend.encode, DOMAIN, view))[0])
        medians = {key: median(values) for key, values in times.items()}
        size = f"{warp.view.width}×{warp.view.height}"
        share = medians["warp"] / medians["encode"]
        rows[name] = {**medians, "share": share, "table": table, "view": size}
    worst = max(row["warp"] for row in rows.values())
    return {"model": model.label, "rows": rows, "worst": worst, "target": TARGET_MS, "load": load()}


def lenses() -> dict[str, Camera]:
    """Cameras of 640×480 pixels."""
    wide = Camera(
        640, 480, 203.7, 203.7, 319.5, 239.5, (0.02, -0.01, 0.003, -0.001), MOUNT, FISHEYE
    )
    rational = (0.5, 0.1, 1e-3, -2e-3, 0.01, 0.4, 0.1, 0.02)
    return {
        "60° pinhole": pinhole(60.0),
        "80° pinhole, rational_polynomial": pinhole(80.0, rational),
        "180° fisheye": wide,
    }


def pinhole(degrees: float, distortion: tuple[float, ...] = ()) -> Camera:
    """Across."""
    focal = 320.0 / np.tan(np.radians(degrees) / 2)
    return Camera(640, 480, focal, focal, 319.5, 239.5, distortion, MOUNT)
