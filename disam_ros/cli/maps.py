# SPDX-License-Identifier: Apache-2.0
"""Commands that build maps and localize images."""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from disam_ros.cli.arguments import (
    AS_CONFIGURED,
    add,
    add_config,
    add_image_limit,
    add_localizer_settings,
    add_setting,
    add_shared,
    configured,
)
from disam_ros.cli.bag_options import add_bag_options, bag_options_of
from disam_ros.cli.outputs import add_output
from disam_ros.cli.trajectory import add_trajectory, max_gap_of, poses_of
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.errors import ConfigError, ImageError
from disam_ros.files.outputs import FILE, MAP
from disam_ros.files.printable import say
from disam_ros.node_config import MapBuilderNodeConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from disam_ros.datasets.sources import PosedImage
    from disam_ros.evaluation.answers import QueryResult
    from disam_ros.mapping.place_map import PlaceMap

logger = logging.getLogger(__name__)

PRIVACY = (
    "the map keeps a picture of every place, and where and when it was taken: before you pass it "
    "on, read docs/security.md#privacy (disam map prune --keep 1 --no-thumbnails)"
)


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands that build maps and localize images."""
    build = command("build-map", build_map_command, "build a map, or resume an interrupted build")
    source = build.add_mutually_exclusive_group(required=True)
    add(source, "--dataset", "dataset directory")
    add(source, "--bag", "rosbag2 directory or .mcap/.db3 file")
    add_shared(build, "--model", "--pose-topic", "--ray")
    add_output(build, MAP, "map directory to write")
    add_image_limit(build)
    add_config(build, "map_builder")
    for name in ("domain", "keyframe_distance", "keypoints", "field_of_view"):
        add_setting(build, MapBuilderConfig, name, unset=AS_CONFIGURED)
    add_setting(build, MapBuilderConfig, "descriptor.retrieval", unset=AS_CONFIGURED)
    add_bag_options(build)
    add_trajectory(build)
    add_setting(build, MapBuilderNodeConfig, "device")

    localize = command("localize", localize_command, "localize images against a map, offline")
    add(localize, "images", "image files", nargs="*")
    add(localize, "--dataset", "dataset directory instead of image files")
    add_shared(localize, "--map", "--model", "--dataset-domains")
    add_output(localize, FILE, "CSV file to write", "answers.csv")
    add_image_limit(localize)
    add_localizer_settings(localize)
    add(localize, "--camera", "camera of the images; default: the only one of the map")
    add(localize, "--json", "print the answers as JSON, which are written to --output, too", bool)


def build_map_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.sources import open_bag, open_dataset
    from disam_ros.device import select_device
    from disam_ros.mapping.builder import build_map, require_domain
    from disam_ros.models.model import load_model

    config = configured(MapBuilderConfig, arguments)
    model, encoder = load_model(arguments.model), None
    require_domain(model, config.domain)
    if not arguments.dataset:
        gap, options = max_gap_of(arguments), bag_options_of(arguments)
        source = open_bag(arguments.bag, poses_of(arguments), gap, options)
    elif arguments.trajectory or arguments.poses or arguments.max_pose_gap is not None:
        raise ConfigError(
            "--trajectory and --max-pose-gap are of the poses of a --bag: a dataset has its own"
        )
    else:
        source = open_dataset(arguments.dataset)
    if arguments.ray:
        from disam_ros.mapping.ray_encoder import ray_encoder

        encoder = ray_encoder(arguments.ray, model, source, config)
    device = select_device(arguments.device)
    output, overwrite = arguments.output, arguments.overwrite
    try:
        place_map = build_map(
            source, model, output, config, device, encoder=encoder, overwrite=overwrite
        )
    except KeyboardInterrupt:
        logger.info("what is done of %s is kept: the same command resumes it", output)
        raise
    say(f"{_built(place_map)} → {arguments.output}")
    if place_map.header.thumbnails:
        logger.info(PRIVACY)


def _built(place_map: PlaceMap) -> str:
    """Says how many images a new map holds, of how many, and why not of others."""
    count, built = len(place_map), place_map.history[-1]
    near = built["of"] - built["left_out"] - count
    parts = [f"{count} in the map"]
    parts += [f"{near} nearer than the keyframe distance"] if near else []
    parts += [f"{built['left_out']} without a pose or unreadable"] if built["left_out"] else []
    return f"{built['of']} images: {', '.join(parts)}"


def localize_command(arguments: argparse.Namespace) -> None:
    """Localizes images; raises ImageError for files that cannot be read, after the others."""
    from tqdm import tqdm

    from disam_ros.datasets.sources import open_dataset, open_files
    from disam_ros.evaluation.answers import answer_values, localize_all, write_answers
    from disam_ros.evaluation.drive import as_mapped
    from disam_ros.localization.localizer import Localizer

    if bool(arguments.images) == bool(arguments.dataset):
        state = "both" if arguments.images else "neither"
        raise ConfigError(f"expected image files or --dataset DIRECTORY, got {state}")
    config = configured(LocalizerConfig, arguments)
    config.sequence.enabled = False  # the images are unrelated
    localizer = Localizer.open(arguments.map, arguments.model, config)
    if arguments.dataset:
        source = open_dataset(arguments.dataset)
    else:
        source = open_files(arguments.images, arguments.camera)
    source, notes = as_mapped(localizer.map, source)
    for note in notes:
        logger.info("%s", note)
    unread: list[str] = []
    readable = source.images if arguments.dataset else _readable(source.images, unread)
    images = tqdm(readable, total=source.total, desc="localize", unit="img")
    answers = localize_all(localizer, source, images, arguments.dataset_domains)
    domains: Counter[str] = Counter()
    values: list[dict[str, object]] = []

    def noted() -> Iterator[QueryResult]:
        for answer in answers:
            domains[answer.domain] += bool(answer.domain)
            if arguments.json:
                values.append(answer_values(answer))
            yield answer

    count = write_answers(arguments.output, noted(), arguments.overwrite)
    if arguments.json:
        print(json.dumps(values, indent=1))
    else:
        by_domain = ", ".join(f"{number} {name}" for name, number in (+domains).most_common())
        said = f"{count} of {source.total} images localized"
        say(f"{said} (as {by_domain or 'nothing'}) → {arguments.output}")
    if unread:
        raise ImageError(
            f"{len(unread)} of {source.total} files cannot be read as images, the others are "
            f"answered: {', '.join(unread)}"
        )


def _readable(images: Iterable[PosedImage], unread: list[str]) -> Iterator[PosedImage]:
    """Yields the images; the files that cannot be read are added to `unread`."""

    def load(item: PosedImage) -> NDArray[np.uint8]:
        try:
            return item.load()
        except ImageError:
            unread.append(item.record.source)
            raise

    for item in images:
        yield replace(item, load=partial(load, item))
