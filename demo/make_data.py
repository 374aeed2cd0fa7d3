# SPDX-License-Identifier: Apache-2.0
"""Renders the shipped drives: python -m demo.make_data (needs the `synth` extra and OpenGL)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from disam_ros.datasets.bags import dataset_to_bag
from disam_ros.datasets.dataset import Dataset
from disam_ros.synthetic import CONDITIONS, DriveConfig, write_drive

DATA = Path(__file__).parent / "data"
TOWN_SEED = 7  # this town is for testing: nothing may be trained or tuned on it
LENGTH = 560.0  # metres of the route
STEADY = {"lateral_m": 0.1, "yaw_deg": 0.5}  # the mapping drive keeps to its lane
REFERENCE = DriveConfig(
    "summer_day", TOWN_SEED, drive_seed=0, spacing_m=1.0, length_m=LENGTH, **STEADY
)
QUERIES = tuple(
    DriveConfig(condition, TOWN_SEED, drive_seed=seed, rate_hz=2.5, length_m=LENGTH)
    for seed, condition in enumerate(("night", "winter_snow"), start=1)
)
JPEG_QUALITY = 75


def main() -> None:
    """Render the reference drive as a dataset directory and the queries as bags."""
    shutil.rmtree(DATA, ignore_errors=True)
    write_drive(REFERENCE, DATA / "reference", JPEG_QUALITY)
    for config in QUERIES:
        with tempfile.TemporaryDirectory() as scratch:
            drive = Path(scratch) / config.condition
            write_drive(config, drive, JPEG_QUALITY)
            weather = CONDITIONS[config.condition].weather
            dataset_to_bag(Dataset(drive), DATA / config.condition, weather=weather)


if __name__ == "__main__":
    main()
