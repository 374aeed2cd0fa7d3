# SPDX-License-Identifier: Apache-2.0
"""What a moment of four cameras costs, and how much of it the encoder takes.

`python -m benchmark.performance rig`. Descriptors of the map are noise, so that no place becomes
likely: as many map images as ever are scored for each image.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmark.machine import fresh, load
from benchmark.performance.speed import DISTINCT, INTERVAL, MAP_IMAGES, SHIPPED
from benchmark.performance.synthetic_map import noise_map
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.models.model import load_model

MOMENTS = 30
YAW = {"front": 0.0, "left": 90.0, "rear": 180.0, "right": -90.0}  # on the vehicle [deg]
ENCODERS = ("preprocess", "encode")  # stages
TARGET_MS = 3.0  # of a moment, besides these


def measure(images: int = MAP_IMAGES, moments: int = MOMENTS) -> dict[str, Any]:
    """Milliseconds of a moment by number of cameras: the whole, encoders, the rest."""
    threads = torch.get_num_threads()
    rows = {
        str(count): fresh(moment_times, count, images, moments, threads) | {"load": load()}
        for count in (1, len(YAW))
    }
    return {"images": images, "threads": threads, "target": TARGET_MS, "rows": rows}


def moment_times(count: int, images: int, moments: int, threads: int) -> dict[str, float]:
    """Medians [ms] over the moments of the first `count` cameras; p99 of the whole."""
    torch.set_num_threads(threads)
    cameras = dict(list(mounted().items())[:count])
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    config = LocalizerConfig(device="cpu")
    config.sequence.enabled = True
    whole, encoders = [], []
    with tempfile.TemporaryDirectory() as scratch:
        directory = shutil.copytree(SHIPPED, Path(scratch) / "model")
        model = load_model(directory)
        place_map = noise_map(
            Path(scratch) / "map", model, images, distinct=DISTINCT, cameras=cameras
        )
        pipeline = Pipeline(Localizer(model, place_map, config, directory))
        for moment in range(moments + 2):
            shots = [
                Shot(
                    Frame(
                        np.roll(picture, 8 * moment + 64 * number, axis=1),
                        name,
                        lens=lens,
                        stamp_ns=(1 + moment) * INTERVAL,
                        domain=model.domain_names()[0],
                    )
                )
                for number, (name, lens) in enumerate(cameras.items())
            ]
            begun = time.perf_counter()
            answers = [localized.answer for localized in pipeline.process(shots)]
            whole.append(1e3 * (time.perf_counter() - begun))
            stages = [answer.timings_ms for answer in answers]
            encoders.append(sum(times[stage] for times in stages for stage in ENCODERS))
    whole, encoders = whole[2:], encoders[2:]
    rest = [all_of_it - share for all_of_it, share in zip(whole, encoders, strict=True)]
    return {
        "whole": median(whole),
        "p99": float(np.percentile(whole, 99)),
        "encoders": median(encoders),
        "rest": median(rest),
    }


def mounted() -> dict[str, Camera]:
    """Four cameras that look to all sides."""
    lens = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    return {
        name: replace(
            lens,
            base_from_camera=Transform.from_xyz_rpy([0.0, 0.0, 1.5, 0.0, 0.0, np.radians(yaw)])
            @ Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL),
        )
        for name, yaw in YAW.items()
    }
