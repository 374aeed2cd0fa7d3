# SPDX-License-Identifier: Apache-2.0
"""How often a street that the map lacks is taken for one of its places.

`python -m benchmark.accuracy.off_map`, without keypoints, with and without odometry:

KITTI odometry 00, a map of its first frames, by day: frames of other streets, and those that come
back to the mapped street and leave it. Nothing that ships learns from KITTI.

The validation town, half of it mapped, and drives through all of it, rendered into runs/validation
by `disam synth --output runs/validation/dense --seed 50 --drive-seed S --spacing 3 --conditions C`,
for summer_day 60, winter_snow 61, autumn_rain 62 and night 63. Beside it the log likelihood ratios
of its calibration: at the right places, and of the best of all others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.accuracy.drives import EVERY_IMAGE, frame_of
from benchmark.accuracy.kitti import DATA, MODEL, SECOND, drifting, part
from benchmark.accuracy.kitti import drive as every_frame
from benchmark.accuracy.offline_town import MAP
from benchmark.accuracy.offline_town import QUERIES as VALIDATION
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import PosedImage, open_dataset
from disam_ros.localization.calibration import ScoreScale, z_scores
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model

DOMAIN = "summer_day"
CONDITIONS = (DOMAIN, "autumn_rain", "winter_snow", "night")
MAPPED = 420  # first frames of the drive, which are the map
DRIVES = {"other streets": range(600, 1500, 3), "back and beyond": range(1560, 1700)}
QUERIES = VALIDATION / "dense"
ON_M, OFF_M = 5.0, 20.0  # to the nearest map image: on the map up to, off it beyond
NEAR_M, FAR_M = 3.0, 25.0  # of a right place up to, of others beyond


@dataclass(frozen=True)
class Drive:
    """Images in order, and odometry of the drive."""

    items: Sequence[PosedImage]
    odometry: OdometryTrack


def known(localizer: Localizer, drive: Drive, domain: str) -> str:
    """Shares of known answers on and off the map, without and with odometry [%]."""
    camera, shares = localizer.only_camera(), []
    positions = localizer.map.poses[:, :3]
    truth = np.array([item.record.map_from_camera.translation for item in drive.items])
    gap = np.array([np.linalg.norm(positions - at, axis=1).min() for at in truth])
    for name, odometry in (("no odometry", None), ("odometry", drive.odometry)):
        pipeline, sure = Pipeline(localizer, verify=False), []
        for item in drive.items:
            frame = frame_of(item, camera, domain)
            reading = odometry.reading(frame.stamp_ns) if odometry else None
            sure.append(pipeline.process(frame, reading).known)
        answered = np.array(sure)
        for where, rows in (("on", gap <= ON_M), ("off", gap > OFF_M)):
            if rows.any():
                share = 100 * answered[rows].mean()
                shares.append(f"{name}, {where} the map {share:.1f} of {rows.sum()}")
    return "known " + "; ".join(shares)


def ratios(localizer: Localizer, drive: Drive, domain: str) -> str:
    """Log likelihood ratios of the right places, and of the best of all others: quantiles."""
    camera, place_map = localizer.only_camera(), localizer.map
    rows = np.arange(len(place_map))
    scale = ScoreScale.of_codes(place_map.coarse, place_map.steps)
    calibration = localizer.calibration.of(domain)
    right, others = [], []
    for item in drive.items:
        query = localizer.query(item.load(), domain=domain)
        sample = localizer.background_scores(query)[camera]
        fine = z_scores(localizer.fine_scores(query, rows), sample)
        coarse = scale.z(query.coarse, localizer.coarse_scores(query, rows))
        z, truth = np.column_stack([fine, coarse]), item.record.map_from_camera.translation
        gaps = np.linalg.norm(place_map.poses[:, :3] - truth, axis=1)
        right.append(calibration.log_ratio(z[gaps <= NEAR_M]).max(initial=calibration.low))
        others.append(calibration.log_ratio(z[gaps > FAR_M]).max())
    return f"right places {_quantiles(right)}; best of others {_quantiles(others)}"


def _quantiles(values: Sequence[float]) -> str:
    low, quarter, median = np.percentile(values, [5, 25, 50])
    return f"{low:.1f} (5 %), {quarter:.1f} (25 %), {median:.1f} (median)"


def main() -> None:
    """Print both."""
    model = load_model(MODEL)
    config = LocalizerConfig(device="cpu")
    config.sequence.enabled = True
    with tempfile.TemporaryDirectory() as scratch:
        whole = every_frame(DATA)
        settings = replace(EVERY_IMAGE, domain=DOMAIN)
        place_map = build_map(
            part(whole, whole.images[:MAPPED]), model, Path(scratch) / "kitti", settings
        )
        localizer = Localizer(model, place_map, config, MODEL)
        for name, numbers in DRIVES.items():
            items = [whole.images[number] for number in numbers]
            stamps = np.array([item.record.stamp_ns for item in items])
            truth = [item.record.map_from_camera for item in items]
            drive = Drive(items, OdometryTrack.of(stamps, drifting(truth), SECOND))
            print(f"KITTI, {name}: {known(localizer, drive, DOMAIN)}", flush=True)
        town = open_dataset(MAP)
        mapped = build_map(town, model, Path(scratch) / "town", EVERY_IMAGE)
        all_of_it = Localizer(model, mapped, config, MODEL)
        first = part(town, list(town.images)[: len(mapped) // 2])
        half = build_map(first, model, Path(scratch) / "half", EVERY_IMAGE)
        localizer = Localizer(model, half, config, MODEL)
        for condition in CONDITIONS:
            source = open_dataset(QUERIES / condition)
            track = OdometryTrack.of(*source.odometry, SECOND)
            drive = Drive([item for item in source.images if item.record.map_from_camera], track)
            print(f"town, {condition}: {known(localizer, drive, condition)}", flush=True)
            print(f"town, {condition}: {ratios(all_of_it, drive, condition)}", flush=True)


if __name__ == "__main__":
    main()
