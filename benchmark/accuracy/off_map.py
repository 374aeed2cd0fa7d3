# SPDX-License-Identifier: Apache-2.0
"""How often a street that the map lacks is taken for one of its places.

`python -m benchmark.accuracy.off_map`: KITTI odometry 00, a map of its first frames, by day without
odometry and keypoints: frames of other streets, and those that come back to the mapped street and
leave it. Beside it the scores of the validation town, on which the calibration was estimated: those
of the right places, and the best of all others. Validation data; nothing that ships learns from
KITTI.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.accuracy.drives import EVERY_IMAGE, frame_of
from benchmark.accuracy.kitti import DATA, MODEL, SECOND, drive, part
from benchmark.accuracy.offline_town import MAP, QUERIES
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import PosedImage, open_dataset
from disam_ros.localization.calibration import z_scores
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model

DOMAIN = "summer_day"
CONDITIONS = (DOMAIN, "autumn_rain", "winter_snow", "night")
MAPPED = 420  # first frames of the drive, which are the map
DRIVES = {"other streets": range(600, 1500, 3), "back and beyond": range(1560, 1700)}
PERIOD_NS = SECOND // 10  # between frames
ON_M, OFF_M = 5.0, 20.0  # to the nearest map image: on the map up to, off it beyond
NEAR_M, FAR_M = 3.0, 25.0  # of a right place up to, of others beyond


def known(localizer: Localizer, frames: Sequence[tuple[int, PosedImage]]) -> str:
    """Shares of known answers on and off the map."""
    pipeline, camera = Pipeline(localizer, verify=False), localizer.only_camera()
    gaps, sure = [], []
    for number, item in frames:
        frame = replace(frame_of(item, camera, DOMAIN), stamp_ns=SECOND + number * PERIOD_NS)
        sure.append(pipeline.process(frame).known)
        truth = item.record.map_from_camera.translation
        gaps.append(np.linalg.norm(localizer.map.poses[:, :3] - truth, axis=1).min())
    answered, gap = np.array(sure), np.array(gaps)
    shares = [
        f"known {where} the map {100 * answered[rows].mean():.1f} % of {rows.sum()}"
        for where, rows in (("on", gap <= ON_M), ("off", gap > OFF_M))
        if rows.any()
    ]
    return ", ".join(shares)


def scores(localizer: Localizer, condition: str) -> str:
    """z-scores of the fine similarity: of the right places, and the best of all others."""
    camera, positions = localizer.only_camera(), localizer.map.poses[:, :3]
    right, others = [], []
    for item in open_dataset(QUERIES / condition).images:
        query = localizer.query(item.load(), domain=condition)
        sample = localizer.background_scores(query, camera)
        z = z_scores(localizer.fine_scores(query, np.arange(len(positions))), sample)
        truth = item.record.map_from_camera.translation
        gaps = np.linalg.norm(positions - truth, axis=1)
        right.append(z[gaps <= NEAR_M].max(initial=-np.inf))
        others.append(z[gaps > FAR_M].max())
    ratio = localizer.calibration.of(condition)
    return (
        f"right places {np.percentile(right, 5):.1f} (5 %), {np.median(right):.1f} (median); best "
        f"of others {np.median(others):.1f} (median); the ratio is 1 at "
        f"{-ratio.intercept / ratio.slope:.1f}"
    )


def main() -> None:
    """Print both."""
    model = load_model(MODEL)
    config = LocalizerConfig(device="cpu")
    config.sequence.enabled = True
    with tempfile.TemporaryDirectory() as scratch:
        whole = drive(DATA)
        settings = replace(EVERY_IMAGE, domain=DOMAIN)
        place_map = build_map(
            part(whole, whole.images[:MAPPED]), model, Path(scratch) / "kitti", settings
        )
        localizer = Localizer(model, place_map, config, MODEL)
        for name, numbers in DRIVES.items():
            frames = [(number, whole.images[number]) for number in numbers]
            print(f"KITTI, {name}: {known(localizer, frames)}")
        town = build_map(open_dataset(MAP), model, Path(scratch) / "town", EVERY_IMAGE)
        localizer = Localizer(model, town, config, MODEL)
        for condition in CONDITIONS:
            print(f"town, {condition}: {scores(localizer, condition)}")


if __name__ == "__main__":
    main()
