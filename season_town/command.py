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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of disam synth. Their defaults stand in the config dataclasses alone."""
    drive = DriveConfig
    add = parser.add_argument
    add("--output", required=True, help="directory to write, one folder per drive")
    add("--conditions", nargs="*", help="conditions to render; default: all")
    add("--seed", type=whole(0, SEED), default=drive.town_seed, help="seed of the town")
    add(
        "--drive-seed",
        type=whole(0, SEED),
        default=drive.drive_seed,
        help="seed of lane offset, cars and pedestrians; counts up from condition to condition",
    )
    add(
        "--spacing",
        type=number(0.01, 1e6),
        help="distance between images [m]; default: by speed and rate",
    )
    add("--length", type=number(1.0, 1e6), help="of the drive [m]; default: the whole route")
    add("--width", type=whole(16, SIDE), default=drive.width, help="image width [pixels]")
    add("--height", type=whole(16, SIDE), default=drive.height, help="image height [pixels]")
    add("--fov", type=number(10, 240), default=drive.fov_deg, help="horizontal field of view [°]")
    add("--lens", choices=tuple(LENSES), default=drive.lens, help="projection of the camera")
    add(
        "--mount-yaw",
        type=number(-180, 180),
        default=drive.mount_yaw_deg,
        help="of the camera, to the left [°]",
    )
    add(
        "--mount-height",
        type=number(0.2, 10),
        default=drive.mount_height_m,
        help="above the ground [m]",
    )
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
    numbers = {condition: number for number, condition in enumerate(CONDITIONS)}
    for condition in arguments.conditions or list(CONDITIONS):
        directory = Path(arguments.output) / condition
        config = DriveConfig(
            town_seed=arguments.seed,
            drive_seed=arguments.drive_seed + numbers.get(condition, 0),
            condition=condition,
            width=arguments.width,
            height=arguments.height,
            spacing_m=arguments.spacing,
            length_m=arguments.length,
            fov_deg=arguments.fov,
            lens=arguments.lens,
            mount_yaw_deg=arguments.mount_yaw,
            mount_height_m=arguments.mount_height,
            depth=arguments.depth,
        )
        write_drive(config, directory, overwrite=arguments.overwrite)
        if arguments.bag:
            weather, overwrite = CONDITIONS[condition].weather, arguments.overwrite
            bag = _bag_beside(directory)
            dataset_to_bag(Dataset(directory), bag, weather=weather, overwrite=overwrite)
        print(f"{condition} → {directory}")


def _render_tiles(arguments: argparse.Namespace) -> None:
    conditions = arguments.conditions or [TownAerialConfig.condition]
    if len(conditions) > 1:
        raise ConfigError(f"--aerial takes one condition, got {', '.join(conditions)}")
    config = TownAerialConfig(
        condition=conditions[0],
        town_seed=arguments.seed,
        drive_seed=arguments.drive_seed,
        metres_per_pixel=arguments.resolution,
    )
    count = write_tiles(config, arguments.output, arguments.overwrite)
    print(f"{count} tiles → {arguments.output}")


def _outputs(arguments: argparse.Namespace) -> Outputs:
    """Kind of output by path, for all paths that the command writes."""
    root = Path(arguments.output)
    if arguments.aerial:
        return {root: TILES}
    names = arguments.conditions or list(CONDITIONS)
    bags = {_bag_beside(root / name): BAG for name in names if arguments.bag}
    return dict.fromkeys((root / name for name in names), DATASET) | bags


def _bag_beside(dataset: Path) -> Path:
    """Returns the folder of the bag of a rendered drive."""
    return dataset.with_name(f"{dataset.name}_bag")
