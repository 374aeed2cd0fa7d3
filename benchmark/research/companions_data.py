# SPDX-License-Identifier: Apache-2.0
"""Drives with depth and pictures from above of four towns, for the companion systems.

Rendered once into runs/companions, some minutes. Towns 101 and 102 are trained on, town 50, whose
drives are those of docs/research/shipped_model.md, is for choices, town 7 for the tables alone.
"""

from __future__ import annotations

from pathlib import Path

from disam_ros.datasets.aerial.polar import AerialConfig, write_aerial_dataset
from disam_ros.datasets.aerial.tiles import TileSet
from disam_ros.datasets.dataset import Dataset
from season_town import CONDITIONS, DriveConfig, write_drive
from season_town.aerial import TownAerialConfig, write_tiles

ROOT = Path("runs/companions")
VALIDATION = Path("runs/validation")
TRAINED, CHOICES, TEST = (101, 102), 50, 7
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
    _drive(reference(root), TEST, "summer_day", _number("summer_day"), MAP_SPACING)
    for condition in QUERIES:
        seed = QUERY_DRIVE + _number(condition)
        _drive(queries(condition, root), TEST, condition, seed, QUERY_SPACING)
    for town in (*TRAINED, CHOICES, TEST):
        _above(town, root)


def trained(town: int, root: Path = ROOT) -> Path:
    """Drives of a town to train on, a folder each."""
    return root / "towns" / str(town)


def reference(root: Path = ROOT) -> Path:
    """The mapping drive of the town that is judged on."""
    return root / "test" / "reference"


def queries(condition: str, root: Path = ROOT) -> Path:
    """A drive to localize."""
    return root / "test" / condition


def above(town: int, root: Path = ROOT) -> Path:
    """Polar pictures from above where the mapping drive was; of trained towns every metre."""
    return root / "aerial" / str(town)


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
    is_trained = town in TRAINED
    mapped = {CHOICES: VALIDATION / "reference", TEST: reference(root)}
    poses = trained(town, root) / "summer_day" if is_trained else mapped[town]
    config = AerialConfig(spacing=ABOVE_SPACING if is_trained else 0.0)
    write_aerial_dataset(TileSet(tiles), Dataset(poses), directory, config)
