# SPDX-License-Identifier: Apache-2.0
"""Drives with depth and pictures from above of six towns, for the companion systems.

Rendered once into runs/companions, about a quarter of an hour on two cores. Towns 101 to 104 are
trained on, town 50 is for choices, town 7 for the tables alone.
"""

from __future__ import annotations

from pathlib import Path

from disam_ros.datasets.aerial.polar import AerialConfig, write_aerial_dataset
from disam_ros.datasets.aerial.tiles import TileSet
from disam_ros.datasets.dataset import Dataset
from disam_ros.synthetic import CONDITIONS, DriveConfig, write_drive
from disam_ros.synthetic.aerial import TownAerialConfig, write_tiles

ROOT = Path("runs/companions")
TRAINED, CHOICES, TEST = (101, 102, 103, 104), 50, 7
SEEN = ("summer_day", "autumn_rain", "night")  # conditions of the drives that are trained on
QUERIES = ("autumn_rain", "night", "winter_snow")
TRAIN_SPACING, MAP_SPACING, QUERY_SPACING, ABOVE_SPACING = 3.0, 2.0, 4.0, 1.0  # metres
QUERY_DRIVE = 20  # seed of the first condition's offset, cars and pedestrians
ABOVE_DRIVE = 900  # + town: parked cars as on no drive


def prepare(root: Path = ROOT) -> None:
    """Render what is missing."""
    for town in TRAINED:
        for condition in SEEN:
            seed = town + _number(condition)
            _drive(trained(town, root) / condition, town, condition, seed, TRAIN_SPACING)
    for town in (CHOICES, TEST):
        _drive(reference(town, root), town, "summer_day", _number("summer_day"), MAP_SPACING)
        for condition in QUERIES:
            seed = QUERY_DRIVE + _number(condition)
            _drive(queries(town, condition, root), town, condition, seed, QUERY_SPACING)
    for town in (*TRAINED, CHOICES, TEST):
        _above(town, root)


def trained(town: int, root: Path = ROOT) -> Path:
    """Drives of a town to train on, a folder each."""
    return root / "towns" / str(town)


def reference(town: int, root: Path = ROOT) -> Path:
    """The mapping drive."""
    return root / _use(town) / "reference"


def queries(town: int, condition: str, root: Path = ROOT) -> Path:
    """A drive to localize."""
    return root / _use(town) / condition


def above(town: int, root: Path = ROOT) -> Path:
    """Polar pictures from above where the mapping drive was; of trained towns every metre."""
    return root / "aerial" / str(town)


def _use(town: int) -> str:
    return "test" if town == TEST else "validation"


def _number(condition: str) -> int:
    return list(CONDITIONS).index(condition)


def _drive(directory: Path, town: int, condition: str, seed: int, spacing: float) -> None:
    if not (directory / "images.csv").exists():
        write_drive(DriveConfig(condition, town, seed, spacing_m=spacing, depth=True), directory)


def _above(town: int, root: Path) -> None:
    directory, tiles = above(town, root), root / "aerial_tiles" / str(town)
    if (directory / "images.csv").exists():
        return
    if not (tiles / "tiles.json").exists():
        write_tiles(TownAerialConfig(town_seed=town, drive_seed=ABOVE_DRIVE + town), tiles)
    known = town in TRAINED
    poses = trained(town, root) / "summer_day" if known else reference(town, root)
    config = AerialConfig(spacing=ABOVE_SPACING if known else None)
    write_aerial_dataset(TileSet(tiles), Dataset(poses), directory, config)
