# SPDX-License-Identifier: Apache-2.0
"""Poses smoothed from fixes and odometry: distance to the truth on the demo's drives, and to fixes
that are held out on a real one (--husky test1.bag of robot_localization). Needs the extra `graph`.

    python -m benchmark.accuracy.fix_smoothing [--husky BAG]
"""

from __future__ import annotations

import argparse

import numpy as np

from disam_ros.datasets.bags.fixes import read_fixes, read_turns
from disam_ros.datasets.bags.images import BagImages
from disam_ros.datasets.bags.poses import read_odometry
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.smoothing import Fixes, smooth
from disam_ros.pose_buffer import PoseBuffer

DRIVES = ("demo/data/winter_snow", "demo/data/night")
SIGMA, OUTLIERS, FAR = 2.0, 0.05, 30.0  # m, share, m
SEEDS = 3
GAP = 10**9 // 2  # ns
BLOCK = 20  # fixes in a row that are held out, and kept


def town(drive: str, every: int) -> tuple[float, float]:
    """Root mean square errors in the plane [m] of the fixes that are no outliers and of the
    smoothed poses, over seeds."""
    images = BagImages(drive)
    truth, odometry = images.track, images.odometry
    assert odometry is not None
    stamps = np.array([stamp for stamp in odometry[0] if truth.at(int(stamp)) is not None])
    places = np.stack([truth.at(int(stamp)).translation for stamp in stamps])
    before, after = [], []
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        noise = random.normal(size=places.shape) * [SIGMA, SIGMA, 2 * SIGMA]
        away = random.random(len(places)) < OUTLIERS
        noise[away, :2] += random.normal(size=(away.sum(), 2)) * FAR
        rows = slice(None, None, every)
        fixes = Fixes(stamps[rows], (places + noise)[rows], np.full(len(stamps[rows]), SIGMA))
        before.append(noise[~away, :2])
        for stamp, pose in zip(*smooth(odometry, fixes, GAP), strict=True):
            there = truth.at(int(stamp))
            if there is not None:
                after.append((pose.translation - there.translation)[None, :2])
    return _rms(before), _rms(after)


def husky(path: str, gyro: bool) -> float:
    """Root mean square distance in the plane [m] of held-out fixes to the smoothed path."""
    with BagReader(path) as reader:
        fixes, *_ = read_fixes(reader)
        odometry = read_odometry(reader, "/husky_velocity_controller/odom")
        turns = read_turns(reader, odometry) if gyro else None
    held = np.arange(len(fixes.stamps)) // BLOCK % 2 == 1
    used = Fixes(fixes.stamps[~held], fixes.positions[~held], fixes.sigmas[~held])
    track = PoseBuffer.of(*smooth(odometry, used, GAP, turns), GAP)
    pairs = zip(fixes.stamps[held], fixes.positions[held], strict=True)
    found = [(track.at(int(stamp)), place) for stamp, place in pairs]
    return _rms([(at.translation - place)[None, :2] for at, place in found if at is not None])


def _rms(errors: list[np.ndarray]) -> float:
    return float(np.sqrt((np.concatenate(errors) ** 2).sum(1).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--husky", default="", help="the bag")
    arguments = parser.parse_args()
    for drive in DRIVES:
        for every in (1, 5):
            before, after = town(drive, every)
            print(f"{drive}, a fix every {0.4 * every:.1f} s: {before:.2f} m → {after:.2f} m")
    for gyro in (False, True) if arguments.husky else ():
        name = "IMU" if gyro else "odometry"
        print(f"turns of {name}: held-out fixes {husky(arguments.husky, gyro):.2f} m")


if __name__ == "__main__":
    main()
