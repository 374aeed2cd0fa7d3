# SPDX-License-Identifier: Apache-2.0
"""Small maps of textures along a route, for the nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.sources import PosedImage
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance
from disam_ros.mapping.builder import MapBuilder
from disam_ros.models.model import Model
from support.data import texture

START_S = 1_700_000_000  # stamp of the first image [s]
BASE_FROM_CAMERA = Transform.from_rotation(np.array([1.0, 0.2, 1.5]), BODY_FROM_OPTICAL)
CAMERA = Camera(64, 48, 50.0, 50.0, 32.0, 24.0, base_from_camera=BASE_FROM_CAMERA)


def base_pose(index: int) -> Transform:
    """`map_from_base` of the index-th map image: two metres further along x each."""
    return Transform.from_xyz_rpy([2.0 * index, 1.0, 0.0, 0.0, 0.0, 0.1 * index])


def beside(found: Transform, expected: Transform) -> bool:
    """Whether a pose is that of a map image, up to a tenth of the step to the next one: an answer
    lies between the image and its neighbours."""
    metres, degrees = distance(found, expected)
    return metres < 0.2 and degrees < 0.6


def save_tiny_map(
    directory: Path,
    model: Model,
    count: int = 6,
    cameras: tuple[str, ...] | Mapping[str, Camera] = ("front",),
    cells: int = 8,
    pose: Callable[[int], Transform] = base_pose,
    frame: str = "town",
    place: tuple[float | None, float | None] = (None, None),
    seeds: Callable[[int], int] = int,
    picture: Callable[[int], np.ndarray] = texture,
    camera: Camera = CAMERA,
) -> None:
    """A map of textures; camera number c shows picture(100 * c + seeds(index)) at `pose(index)`.

    cameras: names, all of `camera`, or each with its own. cells: of the fine
    descriptors, along the longer side. frame: the map's. place: latitude and longitude of its
    origin [degrees].
    """
    rig = dict(cameras) if isinstance(cameras, Mapping) else dict.fromkeys(cameras, camera)
    info = DatasetInfo("textures", rig, frame, *place)
    images = [
        PosedImage(
            ImageRecord(0, (START_S + i) * 10**9, name, "day", "", pose(i) @ lens.base_from_camera),
            lambda seed=100 * c + seeds(i): picture(seed),
        )
        for i in range(count)
        for c, (name, lens) in enumerate(rig.items())
    ]
    descriptor = DescriptorConfig(coarse_grid=4, fine_grid=cells)
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=descriptor)
    with MapBuilder(info, model, directory, config) as builder:
        for item in images:
            builder.add(item)
        builder.finish()
