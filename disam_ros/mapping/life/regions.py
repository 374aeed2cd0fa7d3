# SPDX-License-Identifier: Apache-2.0
"""Regions of a map: polygons in metres of the map frame, or in latitude and longitude (GeoJSON)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import MapError
from disam_ros.files.reading import parse_json, parsing, read_bytes
from disam_ros.geodesy import Origin, require_place
from disam_ros.mapping.place_map import PlaceMap

Ring = NDArray[np.float64]  # corners [n, 2]


def inside(points: NDArray[np.float64], ring: Ring) -> NDArray[np.bool_]:
    """Whether points [N, 2] lie in a simple polygon, by the number of its edges to their right.

    A point on an edge is in exactly one of two polygons that share the edge (Sunday's rule).
    """
    x, y = points[:, :1], points[:, 1:]
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    crosses = (y0 <= y) != (y1 <= y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    odd: NDArray[np.bool_] = (crosses & (x < at)).sum(1) % 2 == 1
    return odd


def rows_in(place_map: PlaceMap, rings: list[Ring]) -> NDArray[np.int64]:
    """Rows of the images whose cameras stand in any of the polygons. Raises MapError for none."""
    chosen = np.zeros(len(place_map), bool)
    for ring in rings:
        chosen |= inside(place_map.poses[:, :2], ring)
    if not chosen.any():
        low, high = place_map.poses[:, :2].min(0), place_map.poses[:, :2].max(0)
        raise MapError(
            f"no image of {place_map.directory} lies in the polygon: the map reaches from "
            f"({low[0]:.1f}, {low[1]:.1f}) to ({high[0]:.1f}, {high[1]:.1f}) m"
        )
    return np.flatnonzero(chosen)


def polygon(corners: list[float]) -> Ring:
    """Makes a polygon of x y x y … [m]. Raises MapError for less than three corners."""
    if len(corners) < 6 or len(corners) % 2:
        raise MapError(
            f"a polygon has x and y of three or more corners, got {len(corners)} numbers"
        )
    return np.array(corners, np.float64).reshape(-1, 2)


def read_geojson(path: Path, place_map: PlaceMap) -> list[Ring]:
    """Outer rings of all polygons of a GeoJSON file (RFC 7946), in the map frame [m].

    Raises MapError where it holds none, and for a map that does not know its place.
    """
    origin = origin_of(place_map)
    values = parse_json(read_bytes(path, MapError), str(path), MapError)
    rings = []
    with parsing(path, MapError):
        for degrees in _outer_rings(values):
            corners = np.array([corner[:2] for corner in degrees], np.float64).reshape(-1, 2)
            for longitude, latitude in corners:
                require_place(latitude, longitude, str(path), MapError)
            if len(corners) < 3:
                raise MapError(f"{path}: a polygon has {len(corners)} corners, expected 3 or more")
            rings.append(origin.to_enu(*corners.T[::-1])[:, :2])
    if not rings:
        raise MapError(f"{path} holds no Polygon or MultiPolygon: draw one, as on geojson.io")
    return rings


def origin_of(place_map: PlaceMap) -> Origin:
    """Place of the map's origin. Raises MapError where the map does not know it."""
    latitude, longitude = place_map.header.latitude, place_map.header.longitude
    if latitude is None or longitude is None:
        raise MapError(
            f"{place_map.directory} does not know where on Earth it lies: align it to fixes or to "
            f"an origin first (disam map align)"
        )
    return Origin(latitude, longitude)


def _outer_rings(values: Any) -> list[Any]:
    """Coordinates of the outer rings in any GeoJSON object."""
    if not isinstance(values, dict):
        return []
    kind, coordinates = values.get("type"), values.get("coordinates")
    if kind == "Polygon" and isinstance(coordinates, list):
        return coordinates[:1]
    if kind == "MultiPolygon" and isinstance(coordinates, list):
        return [part[0] for part in coordinates if isinstance(part, list) and part]
    inner = [values.get("geometry")]
    for parts in (values.get("features"), values.get("geometries")):
        inner += parts if isinstance(parts, list) else []
    return [ring for part in inner for ring in _outer_rings(part)]
