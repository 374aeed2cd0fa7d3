# SPDX-License-Identifier: Apache-2.0
"""A map in another frame: another map's, east and north of fixes, or of another origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.sensor_tables import FIX_COLUMNS, read_table
from disam_ros.errors import MapError
from disam_ros.fixes import register
from disam_ros.geodesy import Origin, require_place
from disam_ros.geometry import Transform
from disam_ros.mapping.life.assembly import Part, assemble, reference
from disam_ros.mapping.life.frames import align_maps
from disam_ros.mapping.life.merging import fine_shape, moved_by, plane_from_plane
from disam_ros.mapping.life.regions import origin_of
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import Model

MAX_GAP_NS = 1_000_000_000  # between a map image and the fixes around it
LEAST_FIXES, LEAST_EXTENT = 5, 10.0  # to know the axes: images with fixes, their extent [m]


def align_to_map(
    place_map: PlaceMap,
    other: PlaceMap,
    model: Model,
    scaled: bool,
    output: Path | str,
    overwrite: bool = False,
) -> str:
    """Moves a map to the frame and the place of another, by images of the same places.

    scaled: the map is not in metres. Returns the residuals in words. Raises MapError where too few
    matches agree, OutputError.
    """
    alignment = align_maps(other, place_map, fine_shape(place_map, model), scaled)
    if not alignment.believable:
        raise MapError(
            f"{place_map.directory} cannot be aligned with {other.directory}: {alignment}; drive "
            f"more of the places of both"
        )
    header = other.header
    assemble(
        [moved_by(Part.whole(place_map), alignment)],
        output,
        {"operation": "align", "maps": [reference(other)], "frame": str(alignment)},
        overwrite,
        (header.latitude, header.longitude),
        header.map_frame,
    )
    return str(alignment)


def align_to_fixes(
    place_map: PlaceMap, path: Path, output: Path | str, overwrite: bool = False
) -> str:
    """Moves a map to the east-north plane of its first fix: rotation about z and shift, robust.

    path: a table of stamp_ns, latitude and longitude [deg], as fix.csv of a dataset. Returns the
    residuals in words. Raises MapError where too few images have fixes, OutputError.
    """
    stamps, degrees = read_fixes(path)
    rows, places = _at_images(place_map, stamps, degrees)
    origin = Origin(*degrees[0])
    enu = np.array([origin.to_enu(*place)[:2] for place in places]).reshape(-1, 2)
    driven, fixed = _extent(place_map.poses[rows, :2]), _extent(enu)
    if len(rows) < LEAST_FIXES or min(driven, fixed) < LEAST_EXTENT:
        raise MapError(
            f"{len(rows)} images of {place_map.directory} over {driven:.0f} m have fixes of {path} "
            f"within 1 s, over {fixed:.0f} m: expected {LEAST_FIXES} over {LEAST_EXTENT:g} m; are "
            "they of this drive and clock?"
        )
    yaw, shift, residuals = register(place_map.poses[rows, :2], enu)
    turn = Transform.from_xyz_rpy([shift[0], shift[1], 0.0, 0.0, 0.0, yaw])
    text = (
        f"{len(rows)} images with fixes, median residual {np.median(residuals):.2f} m, turned by "
        f"{np.degrees(yaw):.2f}°"
    )
    operation = {"operation": "align", "fixes": path.name, "frame": text}
    place = (origin.latitude, origin.longitude)
    part = Part(place_map, np.arange(len(place_map)), turn)
    assemble([part], output, operation, overwrite, place)
    return text


def align_to_origin(
    place_map: PlaceMap, place: list[float], output: Path | str, overwrite: bool = False
) -> str:
    """Moves a map that knows its place to the east-north plane of another origin [deg] near by.

    Returns the motion in words. Raises MapError for a map without place, OutputError.
    """
    origin = Origin(place[0], place[1])
    turn = plane_from_plane(origin, origin_of(place_map))
    metres = float(np.linalg.norm(turn.translation))
    if metres > 100_000.0:
        raise MapError(
            f"the origin {place[0]}, {place[1]} lies {metres / 1000:.0f} km from the map: a plane "
            f"of 100 km is the largest; are latitude and longitude in this order?"
        )
    operation = {"operation": "align", "origin": list(place)}
    part = Part(place_map, np.arange(len(place_map)), turn)
    assemble([part], output, operation, overwrite, (origin.latitude, origin.longitude))
    return f"moved by {metres:.2f} m"


def read_fixes(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stamps int64 [n], increasing, and latitude and longitude [n, 2] [deg].

    Raises DatasetError for a malformed table, MapError for one without a fix.
    """
    columns = FIX_COLUMNS[:3]
    stamps, degrees = read_table(path, columns)
    valid = np.isfinite(degrees).all(1) & degrees.any(1)
    if not valid.any():
        raise MapError(
            f"{path} holds no fix: expected a table with the columns {', '.join(columns)}"
        )
    stamps, first = np.unique(stamps[valid], return_index=True)
    degrees = degrees[valid][first]
    for latitude, longitude in degrees.tolist():
        require_place(latitude, longitude, str(path))
    return stamps, degrees


def _extent(points: NDArray[np.float64]) -> float:
    """Diagonal [m] of the box around points [n, 2]."""
    return float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0


def _at_images(
    place_map: PlaceMap, stamps: NDArray[np.int64], degrees: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of the images between two fixes near in time, and their interpolated places [deg]."""
    rows, places = [], []
    for row, record in enumerate(place_map.records):
        after = int(np.searchsorted(stamps, record.stamp_ns))
        exact = after < len(stamps) and stamps[after] == record.stamp_ns
        before = after if exact else after - 1
        if before < 0 or after >= len(stamps):
            continue
        gap = int(stamps[after] - stamps[before])
        if gap <= MAX_GAP_NS:
            share = (record.stamp_ns - int(stamps[before])) / gap if gap else 0.0
            rows.append(row)
            places.append((1 - share) * degrees[before] + share * degrees[after])
    return np.array(rows, np.int64), np.array(places).reshape(-1, 2)
