# SPDX-License-Identifier: Apache-2.0
"""Choice among several maps by satellite fixes and the positions of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from disam_ros.errors import ConfigError, PriorError
from disam_ros.geodesy import Origin
from disam_ros.localization.prior import gnss_prior
from disam_ros.mapping.place_map import PlaceMap

NEAR = 50.0  # distance to a map image up to which the vehicle is on the map [m]
AGREEING = 3  # consecutive fixes that must agree before the map is switched


@dataclass(frozen=True)
class Area:
    """Coverage of a map. tree: x and y of its images [m], in its frame."""

    directory: str
    origin: Origin
    tree: cKDTree

    def distance(self, latitude: float, longitude: float) -> float:
        """Distance [m] of a fix [deg] to the nearest map image; infinite beyond 100 km."""
        try:
            place = gnss_prior(latitude, longitude, np.eye(2), self.origin)
        except PriorError:
            return float("inf")
        return float(self.tree.query(place.mean)[0])


class Areas:
    """The maps to choose from.

    Raises MapError for a directory that is no map, ConfigError for a map without latitude and
    longitude.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._areas = [open_area(directory) for directory in directories]
        self._target, self._count = "", 0

    def choose(self, latitude: float, longitude: float, current: str) -> str:
        """The map to use after a fix [deg]; mostly the `current` one.

        Another is chosen when AGREEING consecutive fixes lie near its images and not near those of
        the current map (hysteresis).
        """
        distances = {a.directory: a.distance(latitude, longitude) for a in self._areas}
        best = min(distances, key=distances.__getitem__, default=current)
        stays = distances.get(current, np.inf) <= NEAR or distances.get(best, np.inf) > NEAR
        target = "" if stays else best
        self._count = self._count + 1 if target and target == self._target else int(bool(target))
        self._target = target
        return target if self._count >= AGREEING else current


def open_area(directory: str) -> Area:
    """Coverage of a map on disk. Raises MapError, ConfigError."""
    place_map = PlaceMap(Path(directory), verify=False)
    latitude, longitude = place_map.header.latitude, place_map.header.longitude
    if latitude is None or longitude is None:
        raise ConfigError(
            f"the map {directory} has no latitude and longitude, which 'areas' needs: build it "
            f"from data with satellite fixes or a place in dataset.json"
        )
    return Area(directory, Origin(latitude, longitude), cKDTree(place_map.poses[:, :2]))
