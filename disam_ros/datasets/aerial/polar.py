# SPDX-License-Identifier: Apache-2.0
"""Polar transform of aerial images: azimuth across, distance up, like a ground-level view.

The polar transform is that of SAFA (Shi et al., NeurIPS 2019, section 3.1). Angles are radians:
headings counter-clockwise from the map's +x (REP-103), column angles to the left of the heading.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from disam_ros.camera import Camera
from disam_ros.datasets.aerial.tiles import TileSet
from disam_ros.datasets.dataset import Dataset, DatasetWriter
from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import ConfigError, DatasetError
from disam_ros.geometry import Transform
from disam_ros.image import check_image, encode_jpeg
from disam_ros.pose_buffer import PoseBuffer

logger = logging.getLogger(__name__)
NORTH = np.pi / 2
MAX_GAP = 10.0  # metres between two poses above which a track is interrupted


def polar_transform(tile: np.ndarray, height: int = 112, width: int = 616) -> np.ndarray:
    """360° polar view around the centre of a tile: uint8 [S, S, C] → [height, width, C], bilinear.

    Pixel (i, j) comes from row S/2 + ρ cos θ, column S/2 − ρ sin θ with ρ = (S/2)(h − 1 − i)/h and
    θ = 2π j/w: south at the left border, then west, north in the middle, and east. Positions
    beyond the last pixel take its value. Raises ConfigError, ImageError.
    """
    return polar_view(tile, NORTH, even_angles(2 * np.pi, width), height)


def polar_view(tile: np.ndarray, heading: float, angles: np.ndarray, height: int) -> np.ndarray:
    """Polar view of a limited field of view: uint8 [S, S, C] → [height, W, C].

    heading: radians; angles: [W] of the columns, see `even_angles` and `pinhole_angles`.
    """
    check_image(tile)
    if tile.shape[0] != tile.shape[1] or height < 1 or len(angles) < 1:
        raise ConfigError(
            f"expected a square tile and a size with pixels, got a tile {list(tile.shape)} and "
            f"{len(angles)}x{height}"
        )
    half = tile.shape[0] / 2
    radius = half * (height - 1 - np.arange(height)[:, None]) / height
    yaw = heading + np.asarray(angles, np.float64)[None]
    return _bilinear(tile, half - radius * np.sin(yaw), half + radius * np.cos(yaw))


def even_angles(fov: float, width: int) -> np.ndarray:
    """Angles [width] of columns evenly spaced over `fov` radians, column width/2 ahead."""
    return fov * (0.5 - np.arange(width) / width)


def pinhole_angles(camera: Camera) -> np.ndarray:
    """Angles [width] of the columns of a pinhole camera, without distortion."""
    return np.arctan((camera.cx - np.arange(camera.width)) / camera.fx)


def heading_of(map_from_camera: Transform) -> float:
    """Heading of a camera's optical axis, radians. Raises DatasetError where it has none."""
    ahead = map_from_camera.rotation[:2, 2]
    if np.linalg.norm(ahead) < 1e-3:
        raise DatasetError("a camera that looks straight up or down has no heading")
    return float(np.arctan2(ahead[1], ahead[0]))


@dataclass(frozen=True)
class AerialConfig:
    """Polar images from aerial tiles. Raises ConfigError."""

    metres: float = 80.0  # side of the square around each place
    domain: str = "aerial"
    camera: str = ""  # of the poses; empty: the only one
    pose_domain: str = ""  # whose poses; empty: all
    fov: float | None = None  # degrees, columns evenly spaced; None: the columns of the camera
    width: int = 0  # pixels; 0: as the camera's, or SAFA's 616 for 360 degrees
    height: int = 0  # pixels; 0: as the camera's, or SAFA's 112
    spacing: float | None = None  # metres between pictures along the track; None: at each pose

    def __post_init__(self) -> None:
        if not self.metres > 0 or (self.spacing is not None and not self.spacing > 0):
            raise ConfigError(f"{self.metres} and {self.spacing} metres; expected more than 0")
        if self.fov is not None and not 0 < self.fov <= 360:
            raise ConfigError(f"fov is {self.fov}; expected more than 0 and at most 360 degrees")
        if min(self.width, self.height) < 0:
            raise ConfigError(f"{self.width}x{self.height} pixels; expected 0 or more")


@dataclass(frozen=True)
class AerialCounts:
    """Counts of places by outcome; the first is the sum of the others."""

    places: int
    kept: int
    off_tiles: int  # their square is not completely on the tiles


def write_aerial_dataset(
    tiles: TileSet,
    poses: Dataset,
    directory: Path | str,
    config: AerialConfig,
    overwrite: bool = False,
) -> AerialCounts:
    """A dataset of polar images, one at each place of a drive, with the heading of its camera.

    Each carries the pose and stamp of the place, so that it maps and trains like a camera image.
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
    stamps_ns: np.ndarray, poses: list[Transform], spacing: float
) -> list[tuple[int, Transform]]:
    """Stamps and poses every `spacing` metres along a track, interpolated.

    stamps_ns: int64 [N], strictly increasing. There is no interpolation across gaps of more than
    MAX_GAP metres; after one the spacing starts again.
    """
    points = np.array([pose.translation for pose in poses])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    found = []
    starts = [0, *(np.flatnonzero(steps > MAX_GAP) + 1), len(poses)]
    for first, end in pairwise(starts):
        way = np.concatenate([[0.0], np.cumsum(steps[first : end - 1])])
        track = PoseBuffer.of(stamps_ns[first:end], poses[first:end], int(np.ptp(stamps_ns)))
        since = (stamps_ns[first:end] - stamps_ns[first]).astype(np.float64)
        for metres in np.arange(0.0, way[-1] + 1e-9, spacing):
            stamp = int(stamps_ns[first]) + round(float(np.interp(metres, way, since)))
            found.append((stamp, track.at(stamp)))
    return found


def _places(
    poses: Dataset, camera: str, config: AerialConfig
) -> Iterator[tuple[int, Transform, str]]:
    """Stamp, map_from_camera and source of each image, drive by drive."""
    names = poses.domains()
    if config.pose_domain and config.pose_domain not in names:
        raise ConfigError(f"{poses.directory} has no domain '{config.pose_domain}'; it has {names}")
    for domain in names if not config.pose_domain else [config.pose_domain]:
        drive: list[ImageRecord] = sorted(
            (r for r in poses.records if r.camera == camera and r.domain == domain),
            key=lambda r: r.stamp_ns,
        )
        drive = [record for record in drive if record.map_from_camera is not None]
        if config.spacing is None:
            yield from ((r.stamp_ns, r.map_from_camera, r.path) for r in drive)
        elif drive:
            stamps = np.array([r.stamp_ns for r in drive], np.int64)
            track = along_track(stamps, [r.map_from_camera for r in drive], config.spacing)
            yield from ((stamp, pose, domain) for stamp, pose in track)


def _camera_name(poses: Dataset, camera: str) -> str:
    known = sorted(poses.info.cameras)
    if camera in known:
        return camera
    if not camera and len(known) == 1:
        return known[0]
    what = f"has no camera '{camera}'" if camera else "has several cameras: name one"
    raise ConfigError(f"{poses.directory} {what}; it has {known}")


def _camera(camera: Camera, config: AerialConfig) -> tuple[Camera, np.ndarray]:
    """The camera of the polar images, and the angles [width] of its columns."""
    if config.fov is None:
        size = config.width or camera.width, config.height or camera.height
        view = replace(camera.resized(*size), distortion=())
        return view, pinhole_angles(view)
    width, height = config.width or round(616 * config.fov / 360), config.height or 112
    fov = np.radians(config.fov)
    focal = width / fov  # pixels per radian
    base = camera.base_from_camera
    view = Camera(width, height, focal, focal, width / 2, height / 2, base_from_camera=base)
    return view, even_angles(fov, width)


def _bilinear(tile: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values at [h, w] positions, counted from the middle of pixel (0, 0); uint8 [h, w, C]."""
    last = tile.shape[0] - 1
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    y0, y1 = np.clip(top, 0, last), np.clip(top + 1, 0, last)
    x0, x1 = np.clip(left, 0, last), np.clip(left + 1, 0, last)
    upper = (1 - right) * tile[y0, x0] + right * tile[y0, x1]
    lower = (1 - right) * tile[y1, x0] + right * tile[y1, x1]
    return np.rint((1 - down) * upper + down * lower).astype(np.uint8)
