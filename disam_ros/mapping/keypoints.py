# SPDX-License-Identifier: Apache-2.0
"""Keypoints of map images: extraction, storage, depths by triangulation.

`keypoints.npy` is uint8 [N, B]: a row of fixed size per map image, divided by `row_type`. Depths
are read from the image's depth map where it has one, else triangulated from the neighbouring map
images (features/triangulation.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import PosedImage
from disam_ros.device import CPU
from disam_ros.errors import MapError
from disam_ros.features.detection import DESCRIPTOR_BYTES, unit_vectors
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.local_features import open_features, resolve, weights_of
from disam_ros.features.matching import Matches, match_both_ways
from disam_ros.features.triangulation import PIXEL_SIGMA, fuse_depths, inverse_depths
from disam_ros.geometry import Transform
from disam_ros.mapping.rows import RowFile
from disam_ros.mapping.spacing import MAX_STEP
from disam_ros.models.cuda import leave_device

logger = logging.getLogger(__name__)

FILE = "keypoints.npy"
MOST = 4096  # keypoints of an image
BASELINES = (1.0, 2.0, 4.0)  # metres to the map images, before and after, used to triangulate
KEPT = 64  # images whose unit vectors are kept while depths are triangulated, 0.5 MB each
# SHA-256 of XFeat's ONNX file of 640 × 640 pixels: of the same weights in another format.
XFEAT_ONNX = "55a50801d21564c3cf5e3afe1d360dbbe8390ab3ca2c167f08d4d476504ac473"
XFEAT = "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b"
SAME_WEIGHTS = {XFEAT_ONNX: XFEAT}


@dataclass(frozen=True)
class KeypointHeader:
    """Entry of the keypoints in map.json. Raises MapError for another detector."""

    features: str  # detector
    count: int  # of an image, at most
    weights: str = ""  # SHA-256 of the detector's file; empty where it has none
    repetition: float | None = None  # inliers between images of different places (repetition.py)

    def __post_init__(self) -> None:
        sound = self.repetition is None or self.repetition >= 0
        if self.features not in DESCRIPTOR_BYTES or not 1 <= self.count <= MOST or not sound:
            names = ", ".join(DESCRIPTOR_BYTES)
            raise MapError(f"expected keypoints of {names}, 1 to {MOST} an image, got {self}")

    @property
    def row_type(self) -> np.dtype[np.void]:
        """count; x y of each keypoint in pixels of the map's camera (of the image, if it has none),
        depth in metres along the optical axis (nan: unknown, infinite: too far to measure) and
        descriptor."""
        return np.dtype(
            [
                ("count", np.uint32),
                ("pixels", np.float32, (self.count, 2)),
                ("depths", np.float32, self.count),
                ("descriptors", np.uint8, (self.count, DESCRIPTOR_BYTES[self.features])),
            ]
        )


def keypoints_of(row: np.void, camera: Camera | None) -> Keypoints:
    """The keypoints in a row of `row_type`. camera: the map's, None without intrinsics."""
    count = int(row["count"])
    depths = row["depths"][:count].astype(np.float64)
    with np.errstate(divide="ignore"):
        inverse_depths = 1.0 / depths
    return Keypoints(
        pixels=row["pixels"][:count],
        descriptors=row["descriptors"][:count],
        inverse_depths=inverse_depths,
        precisions=np.where(np.isnan(depths), 0.0, np.inf),
        camera=camera,
    )


@dataclass
class KeypointMaker:
    """Makes the rows of images; can be sent to other processes."""

    header: KeypointHeader
    cameras: dict[str, Camera]
    device: str = CPU  # of learned features, until it fails

    def extract(self, pixels: NDArray[np.uint8]) -> Keypoints:
        """Keypoints of an image, uint8 RGB [H, W, 3]."""
        try:
            return open_features(self.header.features, self.device).extract(
                pixels, self.header.count
            )
        except Exception as error:  # those of devices have no root in common
            with leave_device(self.device, error, {}):
                self.device = CPU
        return open_features(self.header.features, CPU).extract(pixels, self.header.count)

    def row(self, item: PosedImage, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes uint8 [B] of an image, whose pixels are uint8 RGB [H, W, 3]."""
        keypoints = self.extract(pixels)
        depth = item.depth() if item.depth else None
        row = np.zeros((), self.header.row_type)
        count = row["count"] = len(keypoints)
        camera = self.cameras.get(item.record.camera)
        size = np.array(pixels.shape[1::-1])
        target = np.array([camera.width, camera.height]) if camera else size
        row["pixels"][:count] = scaled(keypoints.pixels, size, target)
        row["depths"] = np.nan
        if depth is not None:
            row["depths"][:count] = _depths_at(depth, keypoints.pixels, size)
        row["descriptors"][:count] = keypoints.descriptors
        return np.frombuffer(row.tobytes(), np.uint8)


def keypoint_maker(
    config: MapBuilderConfig, cameras: dict[str, Camera], device: str = CPU
) -> KeypointMaker | None:
    """The maker of a map's keypoints, None where the map is to have none.

    Raises ConfigError or ModelError (see open_features).
    """
    if not config.keypoints:
        return None
    for name in cameras:
        if intrinsics(cameras, name) is None:
            logger.warning(
                "camera '%s' has no intrinsics: its keypoints distinguish places, but give no "
                "poses between map images",
                name,
            )
    features = resolve(config.local_features)
    open_features(features)  # what is not installed is reported before the work begins
    header = KeypointHeader(features, config.keypoints, weights_of(features))
    return KeypointMaker(header, cameras, device)


def intrinsics(cameras: dict[str, Camera], name: str) -> Camera | None:
    """The camera of that name; None where its intrinsics are unknown."""
    camera = cameras.get(name)
    return camera if camera is not None and camera.calibrated else None


def scaled(pixels: NDArray[Any], size: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
    """Pixels [K, 2] of an image of `size` (width, height) → pixels of the same at another size."""
    scaled_pixels: NDArray[np.float64] = (pixels + 0.5) * (target / size) - 0.5
    return scaled_pixels


def fill_depths(
    table: NDArray[np.void] | RowFile,
    rows: NDArray[np.int64],
    features: str,
    poses: NDArray[np.float64],
    camera: Camera,
    show_progress: bool = False,
) -> None:
    """Triangulate the depths of images that have none.

    table: [N] of KeypointHeader.row_type, written to; features: the detector; rows: those of one
    camera, in the order of the drive; poses: their map_from_camera [n, 7].
    """
    from tqdm import tqdm

    views = _Views(table, rows, features, camera)
    transforms = [Transform(pose[:3], pose[3:]) for pose in poses]
    sigma = PIXEL_SIGMA / camera.fx
    bar = tqdm(rows, "depths of keypoints", unit="img", disable=not show_progress)
    for index, row in enumerate(bar):
        view, measurements = views[index], []
        if not view.lacks_depths:
            continue
        for other in _neighbours(poses[:, :3], index):
            matches = views.matches(index, other)
            matched = np.full((len(view.bearings), 2), np.nan)
            matched[matches[:, 0]] = views[other].bearings[matches[:, 1]]
            there_from_here = transforms[other].inverse() @ transforms[index]
            measurements.append(inverse_depths(view.bearings, matched, there_from_here, sigma))
        views.forget(index)
        filled = table[row]
        filled["depths"][: len(view.bearings)] = fuse_depths(measurements, len(view.bearings))
        table[row] = filled


@dataclass(frozen=True, eq=False)
class _View:
    """What triangulation needs of a map image: bearings [K, 2] and descriptors as unit vectors
    [K, D]; lacks_depths: whether it has keypoints, and none of known depth."""

    bearings: NDArray[np.float64]
    vectors: NDArray[np.float32]
    lacks_depths: bool


class _Views:
    """Views of the images of a drive, of which the KEPT last used ones are kept, and the matches
    between them: those of a pair are found both ways at once."""

    def __init__(
        self,
        table: NDArray[np.void] | RowFile,
        rows: NDArray[np.int64],
        features: str,
        camera: Camera,
    ) -> None:
        self._features = features
        self._matches: dict[tuple[int, int], Matches] = {}

        @lru_cache(KEPT)
        def view(index: int) -> _View:
            keypoints = keypoints_of(table[rows[index]], camera)
            vectors = unit_vectors(features, keypoints.descriptors)
            return _View(
                keypoints.bearings, vectors, len(keypoints) > 0 and not keypoints.precisions.any()
            )

        self._view = view

    def __getitem__(self, index: int) -> _View:
        return self._view(index)

    def matches(self, first: int, second: int) -> Matches:
        """Pairs of rows [M, 2] of the keypoints of two images."""
        if (first, second) not in self._matches:
            a, b = self[first].vectors, self[second].vectors
            forth, back = match_both_ways(self._features, a, b)
            self._matches[first, second], self._matches[second, first] = forth, back
        return self._matches[first, second]

    def forget(self, index: int) -> None:
        """Drop the matches of an image that is done."""
        self._matches = {
            pair: matches for pair, matches in self._matches.items() if pair[0] > index
        }


def _depths_at(
    depth: NDArray[np.float32], pixels: NDArray[np.float32], size: NDArray[Any]
) -> NDArray[np.float32]:
    """Depths float32 [K] at pixels of an image of `size`; depth: [h, w] of the same view."""
    limits = np.array(depth.shape[::-1])
    where = np.rint(scaled(pixels, size, limits)).astype(int)
    x, y = np.clip(where, 0, limits - 1).T
    depths: NDArray[np.float32] = depth[y, x]
    return depths


def _neighbours(positions: NDArray[np.float64], index: int) -> Iterator[int]:
    """The nearest images at least as far away as each of BASELINES, before and after this one."""
    for step in (-1, 1):
        baselines, other = list(BASELINES), index + step
        while baselines and 0 <= other < len(positions):
            gap = np.linalg.norm(positions[other] - positions[index])
            if gap > MAX_STEP:
                break
            if gap >= baselines[0]:
                yield other
                baselines = [baseline for baseline in baselines if baseline > gap]
            other += step
