# SPDX-License-Identifier: Apache-2.0
"""Replay of a rosbag2 recording with /clock, where `ros2 bag play` is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from disam_ros.datasets.bags.reader import BagReader
from disam_ros.errors import BagError, DisamError
from disam_ros.node_config import ReplayNodeConfig
from disam_ros.nodes.process import Interruption
from disam_ros.nodes.replay.player import Player
from disam_ros.nodes.starting import starting


def replay(config: ReplayNodeConfig, node: Node | None = None) -> int:
    """Publish a bag's messages as serialized as they were recorded; returns how many.

    Publishes /clock before every message and at least every 10 ms of wall time; rate 0 does not
    wait at all. Ends with the bag (`loop`: never). Every publisher is reliable, so that best-effort
    and reliable subscribers both match; latched (transient_local) where the recording was. A
    recorded /clock and types that are not installed are omitted with a log message.

    node: publishes; None makes one. Raises BagError (bag unreadable, topic unknown, nothing to
    play), KeyboardInterrupt on Ctrl-C, after a line in the log.
    """
    if not config.bag:
        raise BagError("no bag given; set the parameter 'bag' to a rosbag2 directory or file")
    with BagReader(config.bag) as reader, _given_or_own(node) as publisher_node:
        with starting():
            player = Player(publisher_node, reader, config)
        try:
            player.play()
        except (KeyboardInterrupt, ExternalShutdownException, rclpy_implementation.RCLError) as end:
            failed = isinstance(end, rclpy_implementation.RCLError)
            if failed and publisher_node.context.ok():  # else: shut down in the middle of a call
                raise
            publisher_node.get_logger().info(f"stopped after {player.published} messages")
            if isinstance(end, KeyboardInterrupt):
                raise
        finally:
            player.close()
        return player.published


def main(args: list[str] | None = None) -> int:
    """The replay_node executable."""
    from disam_ros.nodes.parameters import declare

    interruption = Interruption()
    node = None
    try:
        with starting():
            rclpy.init(args=args)
            node = rclpy.create_node("replay_node", enable_rosout=False)
        replay(declare(node, ReplayNodeConfig), node)
    except DisamError as error:
        get_logger("replay_node").fatal(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        interruption.defer()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        interruption.ignore()
    return 0


@contextmanager
def _given_or_own(node: Node | None) -> Iterator[Node]:
    """The caller's node, or a new one that is destroyed at the end."""
    if node is not None:
        yield node
        return
    started = not rclpy.ok()
    with starting():
        if started:  # Ctrl-C is KeyboardInterrupt
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        own = rclpy.create_node("replay_node", enable_rosout=False)
    try:
        yield own
    finally:
        own.destroy_node()
        if started:
            rclpy.try_shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
