# SPDX-License-Identifier: Apache-2.0
"""Polar transform of aerial images: azimuth across, distance up, like a ground-level view.

It is the polar transform of SAFA (Shi et al., NeurIPS 2019, section 3.1). Angles are radians:
headings counter-clockwise from the map's +x (REP-103), column angles to the left of the heading.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from tqdm import tqdm

from disam_ros.camera import Camera
from disam_ros.datasets.aerial.tiles import TileSet
from disam_ros.datasets.dataset import Dataset, DatasetWriter
from disam_ros.errors import ConfigError, DatasetError
from disam_ros.geometry import Transform
from disam_ros.image import check_image, encode_jpeg
from disam_ros.pose_buffer import PoseBuffer
from disam_ros.settings import setting

logger = logging.getLogger(__name__)
MOST_PLACES = 1_000_000  # on a piece of track
MAX_GAP = 10.0  # between two poses, above which a track is interrupted [m]


def polar_view(
    tile: NDArray[np.uint8], heading: float, angles: NDArray[np.float64], height: int
) -> NDArray[np.uint8]:
    """Polar view around the centre of a tile, bilinear: [S, S, C] → [height, W, C].

    heading: [rad]. angles: of the columns [W] [rad], see `even_angles` and `pinhole_angles`. Pixel
    (i, j) comes from row S/2 − ρ sin φ, column S/2 + ρ cos φ with ρ = (S/2)(h − 1 − i)/h and φ =
    heading + angles[j]; positions beyond the last pixel take its value. Raises ConfigError,
    ImageError.
    """
    check_image(tile)
    if tile.shape[0] != tile.shape[1] or height < 1 or len(angles) < 1:
        raise ConfigError(
            f"expected a square tile and a size with pixels, got a tile {list(tile.shape)} and "
            f"{len(angles)}x{height}"
        )
    half = tile.shape[0] / 2
    radius = half * (height - 1 - np.arange(height)[:, None]) / height
    yaw = heading + angles[None]
    return _bilinear(tile, half - radius * np.sin(yaw), half + radius * np.cos(yaw))


def even_angles(fov: float, width: int) -> NDArray[np.float64]:
    """Angles [width] of columns evenly spaced over `fov` [rad], column width/2 ahead."""
    return np.asarray(fov * (0.5 - np.arange(width) / width), np.float64)


def pinhole_angles(camera: Camera) -> NDArray[np.float64]:
    """Angles [width] of the columns of a pinhole camera without distortion."""
    return np.asarray(np.arctan((camera.cx - np.arange(camera.width)) / camera.fx), np.float64)


def heading_of(map_from_camera: Transform) -> float:
    """Heading [rad] of a camera's optical axis. Raises DatasetError where it has none."""
    ahead = map_from_camera.rotation[:2, 2]
    if np.linalg.norm(ahead) < 1e-3:
        raise DatasetError("a camera that looks straight up or down has no heading")
    return float(np.arctan2(ahead[1], ahead[0]))


@dataclass(frozen=True)
class AerialConfig:
    """Polar images from aerial tiles."""

    domain: str = setting("aerial", "domain of the images")
    camera: str = setting("", "camera with the poses; default: the only one")
    pose_domain: str = setting("", "domain of the poses; default: all")
    metres: float = setting(80.0, "side of the square in view [m]", minimum=0.1, maximum=1e5)
    fov: float = setting(
        0.0, "horizontal field of view [°]; 0: the camera's columns", minimum=0.0, maximum=360.0
    )
    width: int = setting(0, "image width [pixels]; 0: by camera or --fov", minimum=0, maximum=8192)
    height: int = setting(0, "image height [pixels]; 0: likewise", minimum=0, maximum=8192)
    spacing: float = setting(
        0.0, "distance along the track [m]; 0: each pose", minimum=0.0, maximum=1e6
    )


@dataclass(frozen=True)
class AerialCounts:
    """Counts of places by outcome."""

    places: int  # the sum of the others
    kept: int
    off_tiles: int  # their square is not completely on the tiles


def write_aerial_dataset(
    tiles: TileSet,
    poses: Dataset,
    directory: Path | str,
    config: AerialConfig,
    overwrite: bool = False,
) -> AerialCounts:
    """Write a dataset of polar images, one at each place of a drive, headed as its camera.

    Each has the pose and stamp of the place, so that it maps and trains like a camera image.
    Places whose square is not completely on the tiles are left out and counted in the log.

    Raises DatasetError (no poses, no place on the tiles, another map frame, damaged tiles),
    ConfigError (an unknown camera or domain), OutputError.
    """
    if tiles.info.map_frame != poses.info.map_frame:
        raise DatasetError(
            f"{tiles.directory} is in frame '{tiles.info.map_frame}', {poses.directory} in "
            f"'{poses.info.map_frame}'; both must share one map"
        )
    name = _camera_name(poses, config.camera)
    camera, angles = _camera(poses.info.cameras[name], config)
    info = replace(
        poses.info,
        name=f"{poses.info.name}_{config.domain}",
        cameras={name: camera},
        origin=f"polar pictures from {tiles.directory.name}: {config}; {tiles.info.source}",
        depth_unit=None,
    )
    places = list(_places(poses, name, config))
    if not places:
        raise DatasetError(f"{poses.directory} holds no image of '{name}' with a pose")
    off, half = 0, tiles.info.metres_per_pixel / 2
    with DatasetWriter(directory, info, overwrite) as writer:
        for stamp_ns, map_from_camera, source in tqdm(places, desc=config.domain, unit="image"):
            x, y = map_from_camera.translation[:2]
            if not tiles.covers(x - half, y + half, config.metres):
                off += 1
                continue
            # The transform is centred on the centre of pixel (S/2, S/2), not on its corner.
            tile = tiles.crop(x - half, y + half, config.metres)
            view = polar_view(tile, heading_of(map_from_camera), angles, camera.height)
            jpeg = encode_jpeg(view)
            writer.add(jpeg, stamp_ns, name, config.domain, map_from_camera, source)
        if off == len(places):
            raise DatasetError(
                f"not one of {off} places of {poses.directory} has all its {config.metres} m on "
                f"{tiles.directory}; do they share one map?"
            )
    if off:
        logger.warning("%d of %d places left out: not all on the tiles", off, len(places))
    return AerialCounts(len(places), len(places) - off, off)


def along_track(
    stamps_ns: NDArray[np.int64], poses: Sequence[Transform], spacing: float
) -> list[tuple[int, Transform]]:
    """Interpolate stamps and poses every `spacing` [m] along a track.

    stamps_ns: [N], strictly increasing. Gaps of more than MAX_GAP are left out; after one the
    spacing starts again.
    """
    points = np.array([pose.translation for pose in poses])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    places: list[tuple[int, Transform]] = []
    starts = [0, *(np.flatnonzero(steps > MAX_GAP) + 1), len(poses)]
    for first, end in pairwise(starts):
        way = np.concatenate([[0.0], np.cumsum(steps[first : end - 1])])
        track = PoseBuffer.of(stamps_ns[first:end], poses[first:end], int(np.ptp(stamps_ns)))
        since = (stamps_ns[first:end] - stamps_ns[first]).astype(np.float64)
        if way[-1] > MOST_PLACES * spacing:
            raise ConfigError(
                f"a place every {spacing:g} m on {way[-1]:.0f} m makes more than {MOST_PLACES} "
                "images: choose a larger spacing"
            )
        for metres in np.arange(0.0, way[-1] + 1e-9, spacing):
            stamp = int(stamps_ns[first]) + round(float(np.interp(metres, way, since)))
            if (pose := track.at(stamp)) is not None:
                places.append((stamp, pose))
    return places


def _places(
    poses: Dataset, camera: str, config: AerialConfig
) -> Iterator[tuple[int, Transform, str]]:
    """Stamp, map_from_camera and source of each image, drive by drive. Raises ConfigError."""
    names = poses.domains()
    if config.pose_domain and config.pose_domain not in names:
        raise ConfigError(f"{poses.directory} has no domain '{config.pose_domain}'; it has {names}")
    for domain in names if not config.pose_domain else [config.pose_domain]:
        drive = [
            (record.stamp_ns, record.map_from_camera, record.path)
            for record in sorted(poses.records, key=lambda record: record.stamp_ns)
            if record.camera == camera and record.domain == domain and record.map_from_camera
        ]
        if not config.spacing:
            yield from drive
        elif drive:
            stamps = np.array([stamp for stamp, _, _ in drive], np.int64)
            track = along_track(stamps, [pose for _, pose, _ in drive], config.spacing)
            yield from ((stamp, pose, domain) for stamp, pose in track)


def _camera_name(poses: Dataset, camera: str) -> str:
    """The camera of the poses; of none that is named, the only one. Raises ConfigError."""
    names = sorted(poses.info.cameras)
    if camera in names:
        return camera
    if not camera and len(names) == 1:
        return names[0]
    what = f"has no camera '{camera}'" if camera else "has several cameras: name one"
    raise ConfigError(f"{poses.directory} {what}; it has {names}")


def _camera(camera: Camera, config: AerialConfig) -> tuple[Camera, NDArray[np.float64]]:
    """The camera of the polar images, and the angles [width] [rad] of its columns."""
    if not config.fov:
        size = config.width or camera.width, config.height or camera.height
        view = replace(camera.resized(*size), distortion=())
        return view, pinhole_angles(view)
    width, height = config.width or round(616 * config.fov / 360), config.height or 112
    fov = np.radians(config.fov)
    focal = width / fov  # pixels per radian
    base = camera.base_from_camera
    view = Camera(width, height, focal, focal, width / 2, height / 2, base_from_camera=base)
    return view, even_angles(fov, width)


def _bilinear(
    tile: NDArray[np.uint8], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Interpolate at positions [h, w], counted from the middle of pixel (0, 0): [h, w, C]."""
    channels = [
        map_coordinates(channel, (rows, columns), np.float64, order=1, mode="nearest")
        for channel in np.moveaxis(tile, -1, 0)
    ]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), np.uint8)
