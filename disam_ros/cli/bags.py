# SPDX-License-Identifier: Apache-2.0
"""Commands that extract, write and play bags."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from difflib import get_close_matches

from disam_ros.cli.arguments import add, add_image_limit, add_setting, add_shared, number, weather
from disam_ros.cli.bag_options import add_bag_options, bag_options_of
from disam_ros.cli.outputs import add_output
from disam_ros.cli.trajectory import add_trajectory, max_gap_of, poses_of
from disam_ros.config import MapBuilderConfig
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import BAG, DATASET
from disam_ros.files.printable import say
from disam_ros.node_config import ReplayConfig
from disam_ros.nodes import require_middleware

logger = logging.getLogger(__name__)

MISSPELT = 0.75  # least similarity of a name to the one that was meant


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands that extract, write and play bags."""
    extract = command("extract", extract_command, "bag → dataset directory of posed images")
    add_shared(extract, "--bag", "--pose-topic")
    add_bag_options(extract)
    add_output(extract, DATASET, "dataset directory to write")
    add_image_limit(extract)
    add(extract, "--domain", "domain of all images", required=True)
    add_trajectory(extract)
    add_setting(extract, MapBuilderConfig, "keyframe_distance", unset="0")
    add_setting(extract, MapBuilderConfig, "keyframe_angle", unset="rotations are ignored")
    text = "depth topics; default: …/CAMERA/depth/image_raw if recorded; no values: no depth"
    add(extract, "--depth-topic", text, nargs="*", metavar="CAMERA=TOPIC")
    text = "longest time between an image and its depth [s]"
    add(extract, "--depth-gap", text, number(0.0, 3600.0), default=0.02)

    to_bag = command("to-bag", to_bag_command, "dataset directory → rosbag2")
    add_shared(to_bag, "--dataset")
    add_output(to_bag, BAG, "bag directory to write")
    add_image_limit(to_bag)
    add(to_bag, "--storage", "storage format", choices=("mcap", "sqlite3"), default="mcap")
    add(to_bag, "--domain", "drive to write, if there are several", default=None)
    add(to_bag, "--weather", "word to publish on /weather", weather)

    replay = command("replay", replay_command, "play a bag onto ROS topics with /clock")
    add(replay, "bag", "rosbag2 directory or .mcap/.db3 file")
    for name in ("rate", "start_delay", "loop", "prefix"):
        add_setting(replay, ReplayConfig, name)
    add(replay, "--topics", "topics to play; default: all", nargs="*")


def _warn_of_misspelt(domain: str) -> None:
    """Warns of a domain without a rule that resembles one with a rule. Others are the user's."""
    from disam_ros.domains.domain import load_rules

    rules = load_rules()
    if domain not in rules and (near := get_close_matches(domain, rules, 1, MISSPELT)):
        logger.warning("--domain %s has no rule: did you mean '%s'?", domain, near[0])


def extract_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.bags.images import BagImages
    from disam_ros.datasets.bags.to_dataset import Extraction, bag_to_dataset
    from disam_ros.datasets.counts import in_words

    _warn_of_misspelt(arguments.domain)
    gap = max_gap_of(arguments)
    options = bag_options_of(arguments)
    images = BagImages(arguments.bag, options, poses=poses_of(arguments), max_pose_gap=gap)
    extraction = Extraction(
        arguments.domain,
        keyframe_distance=arguments.keyframe_distance or 0.0,
        keyframe_angle=arguments.keyframe_angle or 0.0,
        depth_topics=_depth_topics(arguments.depth_topic),
        max_depth_gap=arguments.depth_gap,
    )
    output, overwrite = arguments.output, arguments.overwrite
    counts = bag_to_dataset(images, output, extraction, overwrite=overwrite)
    say(f"{in_words(counts)} → {arguments.output}")


def _depth_topics(pairs: list[str] | None) -> dict[str, str] | None:
    """Splits CAMERA=TOPIC pairs; None stays None."""
    if pairs is None:
        return None
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--depth-topic {pair}: expected CAMERA=TOPIC")
    return dict(pair.split("=", 1) for pair in pairs)


def to_bag_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.bags.from_dataset import dataset_to_bag
    from disam_ros.datasets.dataset import Dataset

    count = dataset_to_bag(
        Dataset(arguments.dataset),
        arguments.output,
        arguments.storage,
        domain=arguments.domain,
        weather=arguments.weather,
        overwrite=arguments.overwrite,
    )
    say(f"{count} images of {arguments.dataset} → {arguments.output}")


def replay_command(arguments: argparse.Namespace) -> None:
    require_middleware()
    from disam_ros.nodes.replay.replay import replay

    config = ReplayConfig(
        rate=arguments.rate,
        start_delay=arguments.start_delay,
        loop=arguments.loop,
        topics=arguments.topics or [""],
        prefix=arguments.prefix,
    )
    replay(arguments.bag, config)
