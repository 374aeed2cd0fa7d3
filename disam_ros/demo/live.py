# SPDX-License-Identifier: Apache-2.0
"""Drives through the demo's night again and again, with the page of `disam view` beside it."""

from __future__ import annotations

import os
from pathlib import Path

from disam_ros.demo.drives import BAG_HZ, DATA, MODEL, make_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.replay.bag_topics import find_topics
from disam_ros.nodes.replay.child import child_process
from disam_ros.nodes.replay.localizer_process import localizer_process

DRIVE = DATA / "night"
MAP = Path("demo_map")  # is built where the demonstration has not run


def show(output: Path, rate: float, host: str, port: int) -> None:
    """Shows the drive until Ctrl-C. output: directory that the demonstration wrote, if it has run.

    rate: images per second sent to the node [Hz]. host, port: where the page is served.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    from disam_ros.nodes.view.view import view

    maps = (output / "map", MAP)
    place_map = next((PlaceMap(path) for path in maps if path.exists()), None) or make_map(MAP)
    topics = find_topics(DRIVE, place_map.cameras())
    settings = {"map": place_map.directory, "model": MODEL}
    replay = ["replay", str(DRIVE), "--loop", "--rate", str(rate / BAG_HZ)]
    with (
        localizer_process(topics.parameters | settings, topics.remappings, None),
        child_process("disam", replay),
    ):
        view(host=host, port=port)
