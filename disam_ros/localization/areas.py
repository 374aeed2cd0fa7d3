# SPDX-License-Identifier: Apache-2.0
"""Which of several maps is the vehicle on? By satellite fixes and where each map has images."""

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

NEAR = 50.0  # metres from a map's images within which the vehicle is on it
AGREEING = 3  # fixes in a row that must say so


@dataclass(frozen=True)
class Area:
    """A map's place. tree: of the positions of its images, metres in its frame."""

    directory: str
    origin: Origin
    tree: cKDTree

    def distance(self, latitude: float, longitude: float) -> float:
        """Metres from a fix (degrees) to the nearest image; infinite where it is far away."""
        try:
            place = gnss_prior(latitude, longitude, np.eye(2), self.origin)
        except PriorError:
            return float("inf")
        return float(self.tree.query(place.mean)[0])


class Areas:
    """The maps to choose from.

    Raises MapError for a directory that is no map, ConfigError for a map that does not tell where
    on Earth it lies.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._areas = [open_area(directory) for directory in directories]
        self._wanted, self._count = "", 0

    def choose(self, latitude: float, longitude: float, current: str) -> str:
        """The map to take now, given a fix and the map in use; usually that one.

        Another is taken when several fixes in a row lie near its images and not near those of the
        map in use.
        """
        distances = {a.directory: a.distance(latitude, longitude) for a in self._areas}
        best = min(distances, key=distances.__getitem__, default=current)
        stays = distances.get(current, np.inf) <= NEAR or distances.get(best, np.inf) > NEAR
        wanted = "" if stays else best
        self._count = self._count + 1 if wanted and wanted == self._wanted else int(bool(wanted))
        self._wanted = wanted
        return wanted if self._count >= AGREEING else current


def open_area(directory: str) -> Area:
    """The place of a map. Raises MapError, ConfigError."""
    place_map = PlaceMap(Path(directory), verify=False)
    latitude, longitude = place_map.header.latitude, place_map.header.longitude
    if latitude is None or longitude is None:
        raise ConfigError(
            f"the map {directory} does not tell where on Earth it lies, which 'areas' needs: build "
            f"it from data that tell latitude and longitude"
        )
    return Area(directory, Origin(latitude, longitude), cKDTree(place_map.poses[:, :2]))
