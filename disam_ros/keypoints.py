# SPDX-License-Identifier: Apache-2.0
"""The points that a map keeps of its images, with their depths.

`keypoints.npy` is uint8 [N, B]: of each map image a row of fixed size, which `row_type` divides.
Depths come from the depth map of the image where there is one, else from the neighbouring map
images that see the same points (triangulation.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disam_ros.config import MapBuilderConfig
from disam_ros.dataset import Camera
from disam_ros.errors import MapError
from disam_ros.hashing import file_sha256
from disam_ros.local_features import SIZES, open_features
from disam_ros.sources import PosedImage

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
