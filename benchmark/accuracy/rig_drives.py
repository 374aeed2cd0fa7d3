# SPDX-License-Identifier: Apache-2.0
"""Drives of a vehicle with four cameras through the test town, there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.accuracy.drives import rendered_once
from demo.make_data import TOWN_SEED
from disam_ros.datasets.sources import ImageSource, PosedImage, open_dataset
from season_town import DriveConfig
from season_town.writer import CAMERA

RENDERED = Path("runs/rig")
LENGTH = 300.0  # metres of the route
CAMERAS = {"front": 0.0, "left": 90.0, "rear": 180.0, "right": -90.0}  # yaw on the vehicle [deg]
MAPPED = DriveConfig(  # the mapping drive keeps to its lane
    "summer_day", TOWN_SEED, 0, spacing_m=2.0, length_m=LENGTH, lateral_m=0.1, yaw_deg=0.5
)
THERE, BACK = "there", "back"
DRIVES = {
    (condition, way): DriveConfig(
        condition, TOWN_SEED, seed, rate_hz=1.25, length_m=LENGTH, oncoming=way == BACK
    )
    for condition, seed in (("winter_snow", 2), ("night", 1))
    for way in (THERE, BACK)
}


def rig_drive(
    config: DriveConfig, cameras: Sequence[str] = tuple(CAMERAS), rendered: Path = RENDERED
) -> ImageSource:
    """The images of all cameras by their stamps; rendered once, a dataset for each camera.

    Raises RenderError without OpenGL.
    """
    sources = {name: _of_camera(config, name, rendered) for name in cameras}
    first = next(iter(sources.values()))
    info = replace(
        first.info, cameras={name: s.info.cameras[CAMERA] for name, s in sources.items()}
    )
    sets = zip(*(s.images for s in sources.values()), strict=True)
    images = [
        _renamed(item, name) for items in sets for name, item in zip(sources, items, strict=True)
    ]
    return replace(first, images=images, info=info, total=len(images))


def _of_camera(config: DriveConfig, camera: str, rendered: Path) -> ImageSource:
    way = BACK if config.oncoming else THERE
    directory = rendered / f"{config.condition}_{way}_{camera}"
    mounted = replace(config, mount_yaw_deg=CAMERAS[camera])
    return open_dataset(rendered_once(mounted, directory))


def _renamed(item: PosedImage, camera: str) -> PosedImage:
    return replace(item, record=replace(item.record, camera=camera))
