# SPDX-License-Identifier: Apache-2.0
"""The command disam synth: drives of the season town, or its aerial tiles."""

from __future__ import annotations

import argparse
from pathlib import Path

from disam_ros.cli.arguments import SEED, SIDE, number, whole
from disam_ros.cli.outputs import Outputs, add_overwrite
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.dataset import Dataset
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import BAG, DATASET, TILES
from season_town.aerial import TownAerialConfig, write_tiles
from season_town.conditions import CONDITIONS
from season_town.drive import LENSES, DriveConfig
from season_town.writer import write_drive

OPTIONS = {  # field of DriveConfig: option, type and help
    "town_seed": ("--seed", whole(0, SEED), "seed of the town"),
    "drive_seed": (
        "--drive-seed",
        whole(0, SEED),
        "seed of lane offset, cars and pedestrians; counts up from condition to condition",
    ),
    "spacing_m": (
        "--spacing",
        number(0.01, 1e6),
        "distance between images [m]; default: by speed and rate",
    ),
    "length_m": ("--length", number(1, 1e6), "of the drive [m]; default: the whole route"),
    "width": ("--width", whole(16, SIDE), "image width [pixels]"),
    "height": ("--height", whole(16, SIDE), "image height [pixels]"),
    "fov_deg": ("--fov", number(10, 240), "horizontal field of view [°]"),
    "mount_yaw_deg": ("--mount-yaw", number(-180, 180), "of the camera, to the left [°]"),
    "mount_height_m": ("--mount-height", number(0.2, 10), "of the camera above the ground [m]"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of disam synth. Their defaults stand in the config dataclasses alone."""
    add = parser.add_argument
    add("--output", required=True, help="directory to write, one folder per drive")
    add("--conditions", nargs="*", help="conditions to render; default: all")
    for field, (option, kind, text) in OPTIONS.items():
        name = option.strip("-").replace("-", "_").upper()
        default = getattr(DriveConfig, field)
        add(option, dest=field, metavar=name, type=kind, default=default, help=text)
    add("--lens", choices=tuple(LENSES), default=DriveConfig.lens, help="projection of the camera")
    add("--depth", action="store_true", help="also write a depth map per image")
    add("--bag", action="store_true", help="also write a bag of each dataset")
    add(
        "--aerial",
        action="store_true",
        help="aerial tiles of the town in one condition (default: summer_day) instead of drives",
    )
    add(
        "--resolution",
        type=number(0.01, 100.0),
        default=TownAerialConfig.metres_per_pixel,
        help="resolution of --aerial [m/pixel]",
    )
    add_overwrite(parser, _outputs)


def run(arguments: argparse.Namespace) -> None:
    """Renders drives, one per condition, or aerial tiles."""
    if arguments.aerial:
        return _render_tiles(arguments)
    settings = {field: getattr(arguments, field) for field in (*OPTIONS, "lens", "depth")}
    numbers = {condition: number for number, condition in enumerate(CONDITIONS)}
    for condition in arguments.conditions or list(CONDITIONS):
        directory, overwrite = Path(arguments.output) / condition, arguments.overwrite
        seed = arguments.drive_seed + numbers.get(condition, 0)
        write_drive(
            DriveConfig(condition, **{**settings, "drive_seed": seed}),
            directory,
            overwrite=overwrite,
        )
        if arguments.bag:
            weather, bag = CONDITIONS[condition].weather, _bag_beside(directory)
            dataset_to_bag(Dataset(directory), bag, weather=weather, overwrite=overwrite)
        print(f"{condition} → {directory}")


def _render_tiles(arguments: argparse.Namespace) -> None:
    conditions = arguments.conditions or [TownAerialConfig.condition]
    if len(conditions) > 1:
        raise ConfigError(f"--aerial takes one condition, got {', '.join(conditions)}")
    config = TownAerialConfig(
        condition=conditions[0],
        town_seed=arguments.town_seed,
        drive_seed=arguments.drive_seed,
        metres_per_pixel=arguments.resolution,
    )
    count = write_tiles(config, arguments.output, arguments.overwrite)
    print(f"{count} tiles → {arguments.output}")


def _outputs(arguments: argparse.Namespace) -> Outputs:
    """Returns the kind of output by path, for all paths that the command writes."""
    root = Path(arguments.output)
    if arguments.aerial:
        return {root: TILES}
    drives = [root / name for name in arguments.conditions or CONDITIONS]
    bags = {_bag_beside(drive): BAG for drive in drives if arguments.bag}
    return dict.fromkeys(drives, DATASET) | bags


def _bag_beside(dataset: Path) -> Path:
    """Returns the folder of the bag of a rendered drive."""
    return dataset.with_name(f"{dataset.name}_bag")
