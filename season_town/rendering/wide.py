# SPDX-License-Identifier: Apache-2.0
"""Pictures of fisheyes and panoramas, resampled from pinhole pictures of the faces of a cube."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.geometry import Transform
from season_town.arrays import Picture, Points
from season_town.conditions import Condition
from season_town.rendering.renderer import Renderer
from season_town.town.layout import Town

NO_MAP = np.empty(0, np.float32)  # the table holds both coordinates
FACE_DEG = 94.0  # of a face across: more than a right angle, so that no pixel mixes two
DENSITY = 1.3  # pixels of a face for one of the lens, in its middle
# Axes of the faces in the lens's frame: ahead, right, left, down, up, back.
AXES = np.array(
    [[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1]], dtype=np.float64
)


class WideRenderer:
    """Draws through a lens that is no pinhole. Pixels outside its field of view are black.

    Raises RenderError where OpenGL is missing.
    """

    def __init__(self, town: Town, condition: Condition, drive_seed: int, camera: Camera) -> None:
        self.camera = camera
        half = np.tan(np.radians(FACE_DEG) / 2)
        side = int(np.ceil(2 * half * camera.fx * DENSITY))
        self._renderer = Renderer(town, condition, drive_seed, side, side, FACE_DEG)
        self._renderer.without_lens()
        x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        pixels = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
        rays = camera.rays(pixels)
        seen = camera.project(rays)[1]
        back = np.abs(camera.project(rays)[0] - pixels).max(1) < 0.1  # not clipped to the widest
        face = np.where(seen & back, (rays @ AXES.T).argmax(1), -1)
        self._faces = [k for k in range(len(AXES)) if (face == k).any()]
        self._turns = [_turn(axis) for axis in AXES]
        table, along = np.full((len(rays), 2), -10.0), np.full(len(rays), np.nan)
        for row, k in enumerate(self._faces):
            covered = face == k
            local = rays[covered] @ self._turns[k]
            table[covered] = self._renderer.camera.project(local)[0] + [0, row * side]
            along[covered] = rays[covered, 2] / local[:, 2]
        shape = camera.height, camera.width
        self._table = table.astype(np.float32).reshape(*shape, 2)
        self._along = along.astype(np.float32).reshape(shape)

    def close(self) -> None:
        """Frees the memory of the graphics driver."""
        self._renderer.close()

    def render(
        self, map_from_camera: Transform, time_s: float = 0.0, want_depth: bool = True
    ) -> tuple[Picture, NDArray[np.float32] | None]:
        """Renders a picture uint8 RGB [H, W, 3] and depth float32 [H, W] along the optical axis.

        Depth is nan where the lens looks sideways or back, and None unless wanted.
        """
        pictures: list[Picture] = []
        depths: list[NDArray[np.float32]] = []
        for k in self._faces:
            pose = map_from_camera @ Transform.from_rotation(np.zeros(3), self._turns[k])
            picture, depth = self._renderer.render(pose, time_s, want_depth)
            pictures.append(picture)
            if depth is not None:
                depths.append(depth)
        image = np.asarray(
            cv2.remap(np.vstack(pictures), self._table, NO_MAP, cv2.INTER_LINEAR), np.uint8
        )
        if not want_depth:
            return image, None
        depth = np.asarray(
            cv2.remap(
                np.vstack(depths), self._table, NO_MAP, cv2.INTER_NEAREST, borderValue=float("nan")
            ),
            np.float32,
        )
        return image, np.where(self._along > 0, depth * self._along, np.float32(np.nan))


def _turn(axis: Points) -> Points:
    """Returns the rotation [3, 3] whose third column is the axis of a face."""
    down = np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.5 else np.array([0.0, 0.0, -axis[1]])
    return np.column_stack([np.cross(down, axis), down, axis])
