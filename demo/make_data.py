# SPDX-License-Identifier: Apache-2.0
"""Renders the shipped drives: python -m demo.make_data (needs moderngl and OpenGL)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.dataset import Dataset
from disam_ros.demo.drives import DATA
from disam_ros.errors import DisamError
from disam_ros.files.outputs import atomic_directory
from season_town import CONDITIONS, DriveConfig, write_drive

TOWN_SEED = 7  # this town is for testing: nothing may be trained or tuned on it
LENGTH = 560.0  # metres of the route
REFERENCE = DriveConfig(
    "summer_day",
    TOWN_SEED,
    drive_seed=0,
    spacing_m=1.0,
    length_m=LENGTH,
    lateral_m=0.1,  # it keeps to its lane
    yaw_deg=0.5,
)
QUERIES = tuple(
    DriveConfig(condition, TOWN_SEED, drive_seed=seed, rate_hz=2.5, length_m=LENGTH)
    for seed, condition in enumerate(("night", "winter_snow"), start=1)
)
JPEG_QUALITY = 75


def make(output: Path) -> None:
    """Renders the reference drive as a dataset directory and the queries as bags.

    Drives of an earlier run are replaced. Raises OutputError for other files.
    """
    with atomic_directory(output, "set of drives", overwrite=True) as part:
        write_drive(REFERENCE, part / "reference", JPEG_QUALITY)
        for config in QUERIES:
            with tempfile.TemporaryDirectory() as scratch:
                drive = Path(scratch) / config.condition
                write_drive(config, drive, JPEG_QUALITY)
                weather = CONDITIONS[config.condition].weather
                dataset_to_bag(Dataset(drive), part / config.condition, weather=weather)


def main(argv: Sequence[str] | None = None) -> int:
    """Renders the drives. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DATA, help="directory to write")
    try:
        make(parser.parse_args(argv).output)
    except DisamError as error:
        print(f"make_data: {error} (--output)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
