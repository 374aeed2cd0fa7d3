# SPDX-License-Identifier: Apache-2.0
"""Replays a rosbag2 recording with /clock, where `ros2 bag play` is not installed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from disam_ros.datasets.bags.reader import BagReader
from disam_ros.node_config import ReplayConfig
from disam_ros.nodes.rclpy_extra.starting import own_node, starting
from disam_ros.nodes.replay.player import Player


def replay(bag: Path | str, config: ReplayConfig) -> int:
    """Publishes a bag's messages as serialized as they were recorded; returns their number.

    Publishes /clock before every message and at least every 10 ms of wall time; rate 0 does not
    wait at all. Ends with the bag (`loop`: never). Every publisher is reliable, so that best-effort
    and reliable subscribers both match; latched (transient_local) where the recording was. A
    recorded /clock and types that are not installed are omitted with a log message.

    Raises BagError (bag unreadable, topic unknown, nothing to play), KeyboardInterrupt on Ctrl-C,
    after a line in the log.
    """
    with BagReader(bag) as reader, own_node("replay") as node:
        with starting():
            player = Player(node, reader, config)
        with closing(player):
            try:
                player.play()
            except KeyboardInterrupt:
                node.get_logger().info(f"stopped after {player.published} messages")
                raise
        return player.published
