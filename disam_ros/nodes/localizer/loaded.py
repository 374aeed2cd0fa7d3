# SPDX-License-Identifier: Apache-2.0
"""A model and a map in use: the pipeline and the extrinsics, exchanged as one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rclpy.node import Node

from disam_ros.camera import uncalibrated
from disam_ros.config import PriorConfig
from disam_ros.domains.domain import parse_weather
from disam_ros.errors import ConfigError, MapError
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.mapping.place_map import MapHeader, PlaceMap
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.tf import fixed_extrinsics, tf_installed


@dataclass(frozen=True)
class Loaded:
    """A map and a model in use."""

    localizer: Localizer
    pipeline: Pipeline
    cameras: list[str]  # names in the map
    fixed: Mapping[str, Transform]  # base_from_camera by camera, where TF has none

    @property
    def header(self) -> MapHeader:
        return self.localizer.map.header


def load(node: Node, config: LocalizerNodeConfig) -> Loaded:
    """Open the model and the map of the parameters. Raises DisamError."""
    for name in ("map", "model"):
        if not getattr(config, name):
            raise ConfigError(f"the parameter '{name}' is empty: set it to a {name} directory")
    parse_weather(config.localizer.domain.weather)
    try:
        localizer = Localizer.open(config.map, config.model, config.localizer)
    except MemoryError as error:
        raise ConfigError(
            f"{config.map} and {config.model} do not fit into the memory that is left: take "
            "smaller ones, or clean the node up before, which frees the old ones"
        ) from error
    cameras = _cameras(config.cameras, localizer.map)
    if config.cameras in ([], [""]) and len(others := localizer.map.cameras()) > 1:
        node.get_logger().info(
            f"the map's cameras {', '.join(others)} have one mount: this vehicle's only one is "
            f"taken for '{cameras[0]}'; set cameras if it has several"
        )
    map_origin(config.localizer.prior, localizer.map.header)  # raises ConfigError
    fixed = fixed_extrinsics(node, config, cameras, localizer.map.header.cameras)
    later = config.use_tf and tf_installed()  # then TF may say where a camera looks
    for camera in () if later else cameras:
        lens = uncalibrated(fixed[camera])
        localizer.view_matches(camera, lens)  # raises MapError for a camera unlike any of the map
    return Loaded(localizer, Pipeline(localizer), cameras, fixed)


def _cameras(names: list[str], place_map: PlaceMap) -> list[str]:
    """The cameras by name. Raises ConfigError where none is named, or one twice."""
    mapped = place_map.cameras()
    if names in ([], [""]):
        try:
            return [place_map.main_camera()]
        except MapError as error:
            raise ConfigError(
                f"the map has several cameras: set 'cameras' to those of this vehicle, of "
                f"{', '.join(mapped)}"
            ) from error
    if not all(names) or len(set(names)) != len(names):
        raise ConfigError(f"'cameras' expects different names, got {names}")
    return names


def map_origin(config: PriorConfig, header: MapHeader) -> Origin | None:
    """The map's place on Earth: as configured, else as stored in the map; None for half or none.

    Raises ConfigError for these where fixes are priors.
    """
    configured = config.origin_latitude, config.origin_longitude
    for place in (configured, (header.latitude, header.longitude)):
        numbers = [value for value in place if value is not None and not math.isnan(value)]
        if len(numbers) == 2:
            return Origin(numbers[0], numbers[1], config.origin_yaw)
        if numbers and config.source != "fix":
            return None
        if numbers:
            raise ConfigError(
                "the origin of the map for fixes expects latitude and longitude, got only one: set "
                "localizer.prior.origin_latitude and localizer.prior.origin_longitude"
            )
    if config.source != "fix":
        return None
    raise ConfigError(
        "localizer.prior.source is 'fix', but the map has no place on Earth: set "
        "localizer.prior.origin_latitude and localizer.prior.origin_longitude"
    )
