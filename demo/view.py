# SPDX-License-Identifier: Apache-2.0
"""Drives through the demo's town again and again, with `disam view` beside it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.drives import BAG_HZ, CONDITIONS, DATA, MODEL, make_map
from disam_ros import entry
from disam_ros.errors import DisamError
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.replay.bag_topics import find_topics
from disam_ros.nodes.replay.child import child_process
from disam_ros.nodes.replay.localizer_process import localizer_process

MAPS = (Path("demo_output/map"), Path("demo_map"))  # of the demo, else the last is built


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the drive until Ctrl-C. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drive", choices=CONDITIONS, default="night", help="drive to replay")
    parser.add_argument("--rate", type=float, default=5.0, help="images per second [Hz]")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
    parser.add_argument("--port", type=int, default=8087, help="port to serve on")
    arguments = parser.parse_args(argv)
    for signum in entry.heeded():
        signal.signal(signum, entry.interrupt)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        from disam_ros.nodes.view.view import view

        place_map = next((PlaceMap(path) for path in MAPS if path.exists()), None)
        place_map = place_map or make_map(MAPS[-1])
        bag = DATA / arguments.drive
        rate = arguments.rate / BAG_HZ  # relative to the recording
        topics = find_topics(bag, place_map.cameras())
        settings = {"map": place_map.directory, "model": MODEL}
        with (
            localizer_process(topics.parameters | settings, topics.remappings, None),
            child_process("disam", ["replay", str(bag), "--loop", "--rate", str(rate)]),
        ):
            view(host=arguments.host, port=arguments.port)
    except KeyboardInterrupt as end:
        return 128 + entry.signal_of(end)
    except (DisamError, ModuleNotFoundError) as error:
        print(f"demo.view: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
