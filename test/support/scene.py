# SPDX-License-Identifier: Apache-2.0
"""A textured wall with a textured board before it, seen from anywhere with exact depths."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.geometry import Transform

CAMERA = Camera(320, 240, 240.0, 240.0, 159.5, 119.5)
PIXELS_PER_METRE = 40.0
HALF = 40.0  # metres that the wall reaches to each side


def pose(x: float, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> Transform:
    """world_from_camera: x right, y down, z ahead; turned to the right by so many degrees."""
    rotation = Rotation.from_euler("y", turn, degrees=True)
    return Transform(np.array([x, y, z]), rotation.as_quat())


def render(world_from_camera: Transform, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 RGB [H, W, 3] and depth float32 [H, W]. The wall stands 12 m ahead of the origin,
    the board, 4 m wide and 3 m high, at 8 m."""
    textures = [_texture(2 * seed), _texture(2 * seed + 1)]
    u, v = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], 2)
    world = rays @ world_from_camera.rotation.T
    image, depth = None, None
    for distance, texture in zip((12.0, 8.0), textures, strict=True):
        scale = (distance - world_from_camera.translation[2]) / world[..., 2]
        hit = world_from_camera.translation + scale[..., None] * world
        where = ((hit[..., :2] + HALF) * PIXELS_PER_METRE).astype(np.float32)
        seen = cv2.remap(texture, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
        if image is None:
            image, depth = seen, scale
            continue
        board = (np.abs(hit[..., 0]) < 2.0) & (np.abs(hit[..., 1]) < 1.5)
        image = np.where(board[..., None], seen, image)
        depth = np.where(board, scale, depth)
    return np.ascontiguousarray(image), depth.astype(np.float32)


def write_scene(
    directory: Path, poses: list[Transform], depth: bool, seed: int = 0, camera: Camera = CAMERA
) -> Dataset:
    """Images of the scene from these poses, lossless, one second apart."""
    info = DatasetInfo("support.scene", {"front": camera}, depth_unit=0.001 if depth else None)
    with DatasetWriter(directory, info) as writer:
        for index, map_from_camera in enumerate(poses):
            image, metres = render(map_from_camera, seed)
            data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            stamp_ns, maps = (index + 1) * 10**9, metres if depth else None
            writer.add(data, stamp_ns, "front", "day", map_from_camera, depth=maps)
    return Dataset(directory)


@lru_cache(maxsize=4)
def _texture(seed: int) -> np.ndarray:
    """Blotches of some 20 cm on the square of the wall."""
    side = int(2 * HALF * PIXELS_PER_METRE)
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
