# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that read a bag: its cameras, frames and clocks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from disam_ros.cli.arguments import add, whole
from disam_ros.errors import ConfigError, GeometryError

if TYPE_CHECKING:
    from disam_ros.datasets.bags.options import BagOptions
    from disam_ros.geometry import Transform

MOUNT = "x,y,z,roll,pitch,yaw"


def add_bag_options(command: argparse.ArgumentParser) -> None:
    """Adds what can be said of a bag."""
    group = command.add_argument_group(
        "what a bag does not tell rightly (disam doctor BAG shows what would be used)"
    )
    several = {"action": "append", "default": None}
    text = "topic of a camera's images, repeatable; default: those that show a camera's view"
    add(group, "--image-topic", text, str, metavar="[NAME=]TOPIC", **several)
    text = "its camera_info or a calibration file, repeatable; default: the topic beside the images"
    add(group, "--camera-info", text, str, metavar="[NAME=]TOPIC|FILE.yaml", **several)
    text = "pose of a camera's optical frame on the base [m, rad], repeatable; default: from TF"
    add(group, "--base-from-camera", text, str, metavar=f"[NAME=]{MOUNT}", **several)
    add(group, "--base-frame", "frame of the vehicle; default: base_link, or what stands for it")
    add(group, "--map-frame", "frame of the poses that are the map's; default: map")
    text = "bits that 16-bit images use, 8 to 16; default: found in the first images"
    add(group, "--bit-depth", text, whole(0, 16), default=0, metavar="BITS")
    text = "stamps of the messages, or the times at which they were recorded (default: header)"
    add(group, "--stamps", text, str, choices=("header", "recorded"), default="header")


def bag_options_of(arguments: argparse.Namespace) -> BagOptions:
    """Returns what the options say of a bag. Raises ConfigError."""
    from disam_ros.datasets.bags.options import BagOptions

    mounts = _by_camera("--base-from-camera", arguments.base_from_camera)
    return BagOptions(
        image_topics=_by_camera("--image-topic", arguments.image_topic),
        camera_infos=_by_camera("--camera-info", arguments.camera_info),
        mounts={name: _mount(text) for name, text in mounts.items()},
        map_frame=arguments.map_frame,
        base_frame=arguments.base_frame,
        bit_depth=arguments.bit_depth,
        recorded_stamps=arguments.stamps == "recorded",
    )


def _by_camera(option: str, texts: list[str] | None) -> dict[str, str]:
    """Splits [NAME=]VALUE texts. Those without a name are of the only camera."""
    values: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.rpartition("=")
        if name in values and (name or option != "--image-topic"):
            raise ConfigError(f"{option} {text}: said twice; expected NAME=… for each camera")
        if not value:
            raise ConfigError(f"{option} {text}: expected [NAME=]VALUE, the value is empty")
        if name in values:
            from disam_ros.datasets.bags.image_topics import camera_name

            name = camera_name(value)
        values[name] = value
    return values


def _mount(text: str) -> Transform:
    """Parses six numbers. Raises ConfigError."""
    from disam_ros.geometry import Transform

    try:
        return Transform.from_xyz_rpy([float(part) for part in text.split(",")])
    except (ValueError, GeometryError) as error:
        raise ConfigError(
            f"--base-from-camera {text}: expected {MOUNT} in metres and radians"
        ) from error
