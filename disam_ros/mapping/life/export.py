# SPDX-License-Identifier: Apache-2.0
"""Poses of a map for other programs: GeoJSON, KML, TUM, COLMAP, folders named by UTM.

GeoJSON: RFC 7946. KML: OGC 12-007r2. COLMAP: text model (cameras.txt, images.txt, points3D.txt),
colmap.github.io/format.html. UTM: image files `@ east @ north @ zone number
@ zone letter @ latitude @ longitude @ pano_id @ tile_num @ heading @ pitch @ roll @ height @
timestamp @ note @ extension`, as VPR-methods-evaluation and VPR-datasets-downloader name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.text_rows import tum_line
from disam_ros.errors import MapError
from disam_ros.files.outputs import EXPORT, atomic_directory, output_file
from disam_ros.files.printable import printable
from disam_ros.files.writing import number_text
from disam_ros.geodesy import to_utm, utm_band
from disam_ros.image import encode_jpeg, read
from disam_ros.mapping.life.assembly import Part
from disam_ros.mapping.life.regions import origin_of
from disam_ros.mapping.place_map import PlaceMap

DIGITS = 9  # decimals of degrees: 0.1 mm
PINHOLE, OPENCV = "PINHOLE", "OPENCV"  # COLMAP's camera models: 4 parameters, and 4 of distortion


def export_geojson(part: Part, path: Path, overwrite: bool = False) -> None:
    """Writes a point per image with its record. Raises MapError, OutputError."""
    degrees, headings = geodetic(part), compass(part.poses)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [longitude, latitude, altitude]},
            "properties": {
                "id": record.id,
                "stamp_ns": record.stamp_ns,
                "camera": record.camera,
                "domain": record.domain,
                "heading": round(float(heading), 2),
            },
        }
        for record, (latitude, longitude, altitude), heading in zip(
            records(part), degrees.tolist(), headings, strict=True
        )
    ]
    with output_file(path, overwrite) as file:
        json.dump({"type": "FeatureCollection", "features": features}, file, indent=1)


def export_kml(part: Part, path: Path, overwrite: bool = False) -> None:
    """Writes a placemark per image. Raises MapError, OutputError."""
    root = ElementTree.Element("kml", xmlns="http://www.opengis.net/kml/2.2")
    document = ElementTree.SubElement(root, "Document")
    ElementTree.SubElement(document, "name").text = printable(part.place_map.directory.name)
    degrees = geodetic(part).tolist()
    for record, (latitude, longitude, _) in zip(records(part), degrees, strict=True):
        mark = ElementTree.SubElement(document, "Placemark")
        ElementTree.SubElement(mark, "name").text = printable(f"{record.id} {record.camera}")
        ElementTree.SubElement(mark, "description").text = printable(record.domain)
        point = ElementTree.SubElement(mark, "Point")
        ElementTree.SubElement(point, "coordinates").text = f"{longitude},{latitude}"
    ElementTree.indent(root)
    with output_file(path, overwrite, encoding="utf-8") as file:
        file.write(ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def export_tum(part: Part, path: Path, overwrite: bool = False) -> None:
    """`timestamp tx ty tz qx qy qz qw` of map_from_camera, in seconds, by time. Raises OutputError.

    A file holds one camera: raises MapError for a map of several.
    """
    names = cameras(part)
    if len(names) > 1:
        raise MapError(
            f"a TUM file holds the poses of one camera, {part.place_map.directory} has "
            f"{', '.join(names)}: choose one with --camera"
        )
    order = np.argsort([record.stamp_ns for record in records(part)], kind="stable")
    with output_file(path, overwrite) as file:
        for record, pose in ((records(part)[i], part.poses[i]) for i in order):
            file.write(f"{tum_line(record.stamp_ns, pose)}\n")


def export_colmap(part: Part, path: Path, overwrite: bool = False) -> None:
    """COLMAP text model without points. Raises MapError for a camera without intrinsics."""
    names = cameras(part)
    with atomic_directory(path, EXPORT, overwrite) as folder:
        with (folder / "cameras.txt").open("w") as file:
            file.write("# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]\n")
            for number, name in enumerate(names, 1):
                file.write(f"{number} {_colmap_camera(part.place_map, name)}\n")
        with (folder / "images.txt").open("w") as file:
            file.write("# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then POINTS2D[]\n")
            _write_colmap_images(file, part, names)
        (folder / "points3D.txt").write_text("# no points\n")


def export_utm(part: Part, path: Path, overwrite: bool = False, images: Path | None = None) -> None:
    """Writes a folder of images named by UTM: their thumbnails, or the files that `images` holds.

    images: the dataset directory that the map was built from. Raises MapError, OutputError.
    """
    place_map = part.place_map
    if images is None and place_map.thumbnail_rows is None:
        raise MapError(
            f"{place_map.directory} has no thumbnails: name the dataset directory that it was "
            f"built from with --images"
        )
    degrees, headings = geodetic(part), compass(part.poses)
    zone = None  # of the first image, for all: a map on a border stays one plane
    with atomic_directory(path, EXPORT, overwrite) as folder:
        for record, (latitude, longitude, _), heading in zip(
            records(part), degrees.tolist(), headings, strict=True
        ):
            east, north, zone = to_utm(latitude, longitude, zone)
            cells = [f"{east:.3f}", f"{north:.3f}", f"{zone}", utm_band(latitude)]
            cells += [f"{latitude:.9f}", f"{longitude:.9f}", f"{record.id}", "", f"{heading:.2f}"]
            name = f"@{'@'.join(cells)}@@@@{record.stamp_ns}@{record.domain}@.jpg"
            (folder / name).write_bytes(_jpeg(place_map, record.id, images))


WRITERS: dict[str, Callable[..., None]] = {
    "geojson": export_geojson,
    "kml": export_kml,
    "tum": export_tum,
    "colmap": export_colmap,
    "utm": export_utm,
}


def export_map(
    directory: Path | str,
    kind: str,
    output: Path | str,
    camera: str = "",
    images: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Export a map, or its images of one camera, in one of WRITERS. Returns how many images.

    images: as of `export_utm`. Raises MapError, OutputError.
    """
    place_map = PlaceMap(directory)
    rows = place_map.rows_of(camera) if camera else np.arange(len(place_map))
    part = Part(place_map, rows)
    more = {"images": images} if kind == "utm" else {}
    WRITERS[kind](part, Path(output), overwrite, **more)
    return len(rows)


def records(part: Part) -> list[ImageRecord]:
    """Records of the part's images, with their numbers in the map."""
    return [part.place_map.records[row] for row in part.rows.tolist()]


def cameras(part: Part) -> list[str]:
    """Names of the cameras that the part has images of."""
    used = np.unique(part.place_map.camera_of[part.rows])
    return sorted(part.place_map.camera_names[number] for number in used)


def geodetic(part: Part) -> NDArray[np.float64]:
    """Latitude and longitude [deg] and height over the map's origin [m] of the images, [N, 3].

    Raises MapError where the map does not know its place.
    """
    origin, poses = origin_of(part.place_map), part.poses
    degrees = [origin.to_geodetic(position) for position in poses[:, :3]]
    places = np.column_stack([np.array(degrees), poses[:, 2]])
    return places.round(DIGITS)


def compass(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heading of the optical axes, clockwise from the map's y axis [deg] in [0, 360), [N]."""
    axes = Rotation.from_quat(poses[:, 3:]).as_matrix()[:, :, 2]
    headings: NDArray[np.float64] = np.degrees(np.arctan2(axes[:, 0], axes[:, 1])) % 360.0
    return headings


def _colmap_camera(place_map: PlaceMap, name: str) -> str:
    camera = place_map.header.cameras.get(name)
    if camera is None or not camera.calibrated:
        raise MapError(
            f"camera '{name}' of {place_map.directory} has no intrinsics, which COLMAP needs"
        )
    values = [camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5]  # pixel corners are whole
    kind = PINHOLE
    if any(camera.distortion):
        kind = OPENCV
        values += [*camera.distortion, 0.0, 0.0, 0.0, 0.0][:4]
        if any(camera.distortion[4:]):
            raise MapError(
                f"camera '{name}' has {len(camera.distortion)} coefficients of distortion, "
                f"COLMAP's {OPENCV} four; rectify the images first"
            )
    return f"{kind} {camera.width} {camera.height} {' '.join(map(number_text, values))}"


def _write_colmap_images(file: TextIO, part: Part, names: list[str]) -> None:
    for number, (record, pose) in enumerate(zip(records(part), part.poses, strict=True), 1):
        turn = Rotation.from_quat(pose[3:]).inv()
        x, y, z, w = turn.as_quat()
        tx, ty, tz = -turn.apply(pose[:3])
        values = " ".join(f"{v:.12g}" for v in (w, x, y, z, tx, ty, tz))
        name = f"{record.camera}/{record.id:06d}.jpg"
        file.write(f"{number} {values} {names.index(record.camera) + 1} {name}\n\n")


def _jpeg(place_map: PlaceMap, row: int, images: Path | None) -> bytes:
    if images is not None:
        source = images / place_map.records[row].source
        if source.suffix.lower() in (".jpg", ".jpeg") and source.is_file():
            return source.read_bytes()
        return encode_jpeg(read(source), 95)
    thumbnail = place_map.thumbnail(row)
    assert thumbnail is not None  # as was checked
    return encode_jpeg(thumbnail, 95)
