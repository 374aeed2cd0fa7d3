# SPDX-License-Identifier: Apache-2.0
"""A model and a map in use: the pipeline and the extrinsics, exchanged as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rclpy.node import Node

from disam_ros.domains.domain import parse_weather
from disam_ros.errors import ConfigError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.mapping.place_map import MapHeader
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.extrinsics import fixed_extrinsics
from disam_ros.nodes.localizer.priors import map_origin


@dataclass(frozen=True)
class Loaded:
    """fixed: base_from_camera by camera, where TF has none."""

    pipeline: Pipeline
    fixed: Mapping[str, Transform]

    @property
    def localizer(self) -> Localizer:
        return self.pipeline.localizer

    @property
    def header(self) -> MapHeader:
        return self.localizer.map.header


def load(node: Node, config: LocalizerNodeConfig) -> Loaded:
    """Open the model and the map of the parameters. Raises DisamError."""
    for name in ("map", "model"):
        if not getattr(config, name):
            raise ConfigError(f"the parameter '{name}' is empty: set it to a {name} directory")
    cameras = config.cameras
    if not all(cameras) or len(set(cameras)) != len(cameras) or not cameras:
        raise ConfigError(f"'cameras' expects different names, got {cameras}")
    parse_weather(config.localizer.domain.weather)
    try:
        localizer = Localizer.open(config.map, config.model, config.localizer)
    except MemoryError as error:
        raise ConfigError(
            f"{config.map} and {config.model} do not fit into the memory that is left: take "
            "smaller ones, or clean the node up before, which frees the old ones"
        ) from error
    for camera in cameras:
        localizer.map.rows_of(camera)  # raises MapError for a camera the map does not have
    map_origin(config.localizer.prior, localizer.map.header)  # raises ConfigError
    fixed = fixed_extrinsics(node, config, localizer.map.header.cameras)
    return Loaded(Pipeline(localizer), fixed)
