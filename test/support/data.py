# SPDX-License-Identifier: Apache-2.0
"""Small shared data: a textured route, an untrained model and a map of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, LocalizerConfig, SequenceConfig
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.domains.domain import Domain
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.models.model import Model, create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig

NETWORK = NetworkConfig(width=4, encoder_blocks=1, image_size=(48, 64))
CAMERA = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
DESCRIPTOR = DescriptorConfig(coarse_grid=4, fine_grid=8)


def texture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A random blotchy image, uint8 RGB [H, W, 3]; the same for the same seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def detailed(seed: int) -> np.ndarray:
    """The same at 320×240 and with enough detail for keypoints, uint8 RGB [240, 320, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    fine = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    return texture(seed, 240, 320) // 2 + fine // 2


def camera_pose(index: int) -> Transform:
    """Camera pose of the index-th image: one metre further along x each."""
    return Transform.from_rotation(np.array([index, 0.0, 1.5]), BODY_FROM_OPTICAL)


def write_dataset(directory: Path, count: int, cameras: tuple[str, ...] = ("front",)) -> Dataset:
    """A dataset of `count` textures per camera, lossless, one metre and one second apart."""
    info = DatasetInfo("textures", dict.fromkeys(cameras, CAMERA))
    with DatasetWriter(directory, info) as writer:
        for index in range(count):
            for number, camera in enumerate(cameras):
                image = cv2.cvtColor(texture(index + 1000 * number), cv2.COLOR_RGB2BGR)
                data = cv2.imencode(".png", image)[1].tobytes()
                stamp_ns = (index + 1) * 1_000_000_000
                writer.add(data, stamp_ns, camera, "day", camera_pose(index), f"image {index}")
    return Dataset(directory)


def of_single_images(**settings: Any) -> LocalizerConfig:
    """Settings, on the CPU, by which each image is judged alone and every place counts as known: an
    untrained model is sure of none."""
    alone = SequenceConfig(enabled=False)
    return LocalizerConfig(device="cpu", min_probability=0.0, sequence=alone, **settings)


def save_tiny_model(directory: Path, seed: int = 0) -> Model:
    """An untrained model with the domains day and night, saved and loaded again."""
    domains = [Domain("day", sun_elevation=(0.0, 90.0)), Domain("night", (-90.0, 0.0))]
    save_model(create_model(NETWORK, domains, seed=seed), directory)
    return load_model(directory)
