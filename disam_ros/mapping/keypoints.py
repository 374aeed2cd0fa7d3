# SPDX-License-Identifier: Apache-2.0
"""The points that a map keeps of its images, with their depths.

`keypoints.npy` is uint8 [N, B]: of each map image a row of fixed size, which `row_type` divides.
Depths come from the depth map of the image where there is one, else from the neighbouring map
images that see the same points (triangulation.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disam_ros.camera import Camera, directions
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import PosedImage
from disam_ros.errors import MapError
from disam_ros.features.local_features import SIZES, match, open_features
from disam_ros.features.triangulation import NOISE, fused_depths, inverse_depths
from disam_ros.files import file_sha256
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)

FILE = "keypoints.npy"


@dataclass(frozen=True)
class KeypointHeader:
    """What map.json says of them. features: their kind. count: at most, of an image. weights:
    SHA-256 of the file that finds them, empty where there is none."""

    features: str
    count: int
    weights: str = ""

    def __post_init__(self) -> None:
        if self.features not in SIZES or self.count < 1:
            raise MapError(f"expected keypoints of {', '.join(SIZES)}, one or more, got {self}")

    @property
    def row_type(self) -> np.dtype:
        """count; of each point x y in pixels of the map's camera (of the image, if it has none),
        depth in metres along the optical axis (nan: unknown, infinite: farther than can be said)
        and descriptor."""
        return np.dtype(
            [
                ("count", np.uint32),
                ("points", np.float32, (self.count, 2)),
                ("depths", np.float32, self.count),
                ("descriptors", np.uint8, (self.count, SIZES[self.features])),
            ]
        )


@dataclass(frozen=True)
class MapKeypoints:
    """Of one map image: points float32 [K, 2], depths float32 [K], descriptors uint8 [K, D]."""

    points: np.ndarray
    depths: np.ndarray
    descriptors: np.ndarray

    @classmethod
    def of_row(cls, row: np.void) -> MapKeypoints:
        count = int(row["count"])
        return cls(row["points"][:count], row["depths"][:count], row["descriptors"][:count])


@dataclass(frozen=True)
class KeypointMaker:
    """Makes the rows of images; can be sent to other processes.

    weights: path of the file that finds points, empty where there is none.
    """

    header: KeypointHeader
    cameras: dict[str, Camera]
    weights: str = ""

    def row(self, item: PosedImage, pixels: np.ndarray) -> np.ndarray:
        """Bytes uint8 [B] of an image, whose pixels are uint8 RGB [H, W, 3]."""
        features = open_features(self.header.features, self.weights)
        found = features.extract(pixels, self.header.count)
        depth = item.depth() if item.depth else None
        row = np.zeros((), self.header.row_type)
        count = row["count"] = len(found)
        camera = self.cameras.get(item.record.camera)
        size = np.array(pixels.shape[1::-1])
        target = np.array([camera.width, camera.height]) if camera else size
        row["points"][:count] = scaled(found.points, size, target)
        row["depths"] = np.nan
        if depth is not None:
            row["depths"][:count] = _depths_at(depth, found.points, size)
        row["descriptors"][:count] = found.descriptors
        return np.frombuffer(row.tobytes(), np.uint8)


def keypoint_maker(config: MapBuilderConfig, cameras: dict[str, Camera]) -> KeypointMaker | None:
    """What makes the keypoints of a map, None where it is to have none.

    Raises ConfigError or ModelError (see open_features).
    """
    if not config.keypoints:
        return None
    for name in cameras:
        if intrinsics(cameras, name) is None:
            logger.warning(
                "camera '%s' has no intrinsics: its keypoints tell places apart, but give no poses "
                "between map images",
                name,
            )
    weights = config.xfeat if config.local_features == "xfeat" else ""
    open_features(config.local_features, weights)
    sha256 = file_sha256(Path(weights)) if weights else ""
    header = KeypointHeader(config.local_features, config.keypoints, sha256)
    return KeypointMaker(header, cameras, weights)


def intrinsics(cameras: dict[str, Camera], name: str) -> Camera | None:
    """The camera of that name; None where its intrinsics are not known."""
    camera = cameras.get(name)
    return camera if camera is not None and camera.calibrated else None


def scaled(points: np.ndarray, size: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pixels [K, 2] of an image of `size` (width, height) → pixels of the same at another size."""
    return (points + 0.5) * (target / size) - 0.5


def _depths_at(depth: np.ndarray, points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Depths float32 [K] at points of an image of `size`; depth: [h, w] of the same view."""
    limits = np.array(depth.shape[::-1])
    where = np.rint(scaled(points, size, limits)).astype(int)
    x, y = np.clip(where, 0, limits - 1).T
    return depth[y, x]


BASELINES = (1.0, 2.0, 4.0)  # metres to the map images looked at, before and after

FARTHEST = 10.0  # metres beyond which none is


def fill_depths(
    table: np.ndarray, rows: np.ndarray, features: str, poses: np.ndarray, camera: Camera
) -> None:
    """Set the depths of images none of whose points has one, where other images tell them.

    table: [N] of KeypointHeader.row_type, written to; features: their kind; rows: those of one
    camera, in the order of the drive; poses: their map_from_camera [n, 7].
    """
    transforms = [Transform(pose[:3], pose[3:]) for pose in poses]
    for index, row in enumerate(rows):
        here = MapKeypoints.of_row(table[row])
        if not len(here.points) or not np.isnan(here.depths).all():
            continue
        views = directions(camera, here.points)
        found = []
        for other in _neighbours(poses[:, :3], index):
            there = MapKeypoints.of_row(table[rows[other]])
            pairs = match(features, here.descriptors, there.descriptors)
            seen = np.full((len(views), 2), np.nan)
            seen[pairs[:, 0]] = directions(camera, there.points[pairs[:, 1]])
            there_from_here = transforms[other].inverse() @ transforms[index]
            found.append(inverse_depths(views, seen, there_from_here, NOISE / camera.fx))
        here.depths[:] = fused_depths(found, len(views))


def _neighbours(positions: np.ndarray, index: int) -> Iterator[int]:
    """Images before and after this one, as far away as BASELINES."""
    for step in (-1, 1):
        wanted, other = list(BASELINES), index + step
        while wanted and 0 <= other < len(positions):
            gap = np.linalg.norm(positions[other] - positions[index])
            if gap > FARTHEST:
                break
            if gap >= wanted[0]:
                yield other
                wanted = [baseline for baseline in wanted if baseline > gap]
            other += step
