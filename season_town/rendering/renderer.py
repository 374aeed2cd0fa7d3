# SPDX-License-Identifier: Apache-2.0
"""Pictures and depth of the town from a camera pose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.geometry import Transform
from season_town.arrays import Picture, Points
from season_town.conditions import Condition
from season_town.rendering import gl
from season_town.rendering.graphics import Graphics
from season_town.town.layout import Town
from season_town.town.scene import Scene, build_scene

if TYPE_CHECKING:
    import moderngl

SIGHT = 230.0  # metres; cells farther away are not drawn
STEEP = 0.9  # horizontal part of the optical axis below which what is aside may be seen
SUPERSAMPLE = 2
DROP_SECONDS = 2.5  # time between wipes of the lens


def pinhole(width: int, height: int, fov: float) -> Camera:
    """Returns a pinhole camera. fov: horizontal field of view in degrees."""
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


class Renderer:
    """Draws a town under one condition for one drive.

    fov: horizontal field of view in degrees. Raises RenderError where OpenGL is missing.
    """

    def __init__(
        self,
        town: Town,
        condition: Condition,
        drive_seed: int = 0,
        width: int = 320,
        height: int = 240,
        fov: float = 80.0,
    ) -> None:
        self.condition = condition
        self.drive_seed = drive_seed
        self.camera = pinhole(width, height, fov)
        self._scene = build_scene(town, condition, drive_seed)
        size = (width, height)
        self._gpu = Graphics(town, condition, drive_seed, self._scene, size, SUPERSAMPLE)

    def without_lens(self) -> None:
        """Leaves out vignetting and motion blur, which belong to a whole picture."""
        gl.set_uniforms(self._gpu.post, {"u_vignette": 0.0, "u_blur": 0.0})

    def close(self) -> None:
        """Frees the memory of the graphics driver."""
        self._gpu.ctx.release()

    def render(
        self, map_from_camera: Transform, time_s: float = 0.0, want_depth: bool = True
    ) -> tuple[Picture, NDArray[np.float32] | None]:
        """Renders a picture uint8 RGB [H, W, 3] and depth float32 [H, W].

        Depth is metres along the optical axis, infinite in the sky, and None unless wanted.
        time_s moves snow, rain and drops on the lens and draws new sensor noise.
        """
        view = _view(map_from_camera)
        with self._gpu.ctx:  # several renderers may take turns
            if self.condition.wet > 0:
                self._draw_mirror(map_from_camera, view)
            self._draw_scene(self._gpu.main, self._gpu.size, map_from_camera, view, ground=True)
            depth = self._read_depth() if want_depth else None
            self._draw_weather(view, map_from_camera, time_s)
            return self._develop(time_s), depth

    def _draw_mirror(self, map_from_camera: Transform, view: Points) -> None:
        """Draws the reflection in wet ground: the scene through the plane z = 0."""
        flip = np.diag([1.0, 1.0, -1.0, 1.0])
        half = (self.camera.width, self.camera.height)
        self._draw_scene(self._gpu.mirror, half, map_from_camera, view @ flip, ground=False)
        self._gpu.mirror_texture.use(4)

    def _draw_scene(
        self,
        target: moderngl.Framebuffer,
        size: tuple[int, int],
        map_from_camera: Transform,
        view: Points,
        ground: bool,
    ) -> None:
        ctx = self._gpu.ctx
        target.use()
        target.clear(0.0, 0.0, 0.0, depth=1.0)
        focal = self.camera.fx * size[0] / self.camera.width
        clip = gl.projection(*size, focal)
        ahead = map_from_camera.rotation[:, 2]
        shared: dict[str, gl.Value] = {
            "u_camera": clip @ view,
            "u_eye": map_from_camera.translation,
            "u_ahead": ahead,
            "u_ray": _rays(clip, view),
        }
        for program in (self._gpu.object, self._gpu.ground, self._gpu.sky):
            gl.set_uniforms(program, shared)
        ctx.enable(ctx.DEPTH_TEST)
        ctx.depth_func = "<="
        half_fov = float(np.arctan(self.camera.width / 2 / self.camera.fx))
        for first, count in _visible(self._scene, map_from_camera, half_fov + 0.1):
            self._gpu.objects.render(vertices=6 * count, first=6 * first)
        if ground:
            self._gpu.grounds.render(ctx.TRIANGLE_STRIP)
        self._gpu.skies.render(ctx.TRIANGLE_STRIP)

    def _draw_weather(self, view: Points, map_from_camera: Transform, time_s: float) -> None:
        c, ctx = self.condition, self._gpu.ctx
        if not c.flakes and not c.streaks:
            return
        streak = c.streaks > 0
        values: dict[str, gl.Value] = {
            "u_camera": gl.projection(*self._gpu.size, self.camera.fx * SUPERSAMPLE) @ view,
            "u_eye": map_from_camera.translation,
            "u_fall": (0.6, 0.2, -8.0) if streak else (0.7, 0.3, -1.3),
            "u_time": float(time_s),
            "u_scale": self.camera.fx * SUPERSAMPLE * 2,
            "u_streak": 1.0 if streak else 0.0,
            "u_flake": tuple(1.15 * v for v in c.horizon),
        }
        gl.set_uniforms(self._gpu.flake, values)
        ctx.enable(ctx.BLEND | ctx.PROGRAM_POINT_SIZE)
        self._gpu.flakes.render(ctx.LINES if streak else ctx.POINTS)
        ctx.disable(ctx.BLEND)

    def _develop(self, time_s: float) -> Picture:
        """Applies lens, exposure and sensor: uint8 RGB [H, W, 3]."""
        ctx, c = self._gpu.ctx, self.condition
        self._gpu.hdr.build_mipmaps()
        self._gpu.hdr.use(5)
        wipe = int(time_s / DROP_SECONDS)
        rng = np.random.default_rng([self.drive_seed, wipe, 11])
        drops = np.zeros((24, 3))
        drops[:, :2] = rng.uniform(0, 1, (24, 2))
        drops[:, 2] = rng.uniform(0.012, 0.05, 24)
        lens: dict[str, gl.Value] = {
            "u_drops": [tuple(d) for d in drops],
            "u_drop_count": c.lens_drops,
        }
        gl.set_uniforms(self._gpu.post, lens)
        self._gpu.out.use()
        ctx.disable(ctx.DEPTH_TEST)
        self._gpu.posts.render(ctx.TRIANGLE_STRIP)
        shape = (self.camera.height, self.camera.width, 3)
        data = self._gpu.out.read(components=3, alignment=1)
        image = np.frombuffer(data, np.uint8).reshape(shape)
        rng = np.random.default_rng([self.drive_seed, int(time_s * 1000), 13])
        noise = rng.standard_normal(shape, np.float32) * (255 * c.noise)
        picture: Picture = np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)
        return picture

    def _read_depth(self) -> NDArray[np.float32]:
        """Reads the depth of the pixels of the picture from the larger buffer."""
        raw = np.frombuffer(self._gpu.depth.read(), np.float32).reshape(self._gpu.size[::-1])[::-1]
        fine = gl.metric_depth(raw)
        k = SUPERSAMPLE
        blocks = fine.reshape(self.camera.height, k, self.camera.width, k).swapaxes(1, 2)
        blocks = blocks.reshape(*blocks.shape[:2], k * k)
        near, far = blocks.min(2), blocks.max(2)
        # On a plane 1/z is linear in the picture: its mean is exact in the middle of the pixel.
        smooth = 1.0 / np.maximum((1.0 / blocks).mean(2), 1e-12)
        return np.where(far < 1.2 * near, smooth, near).astype(np.float32)


def _view(map_from_camera: Transform) -> Points:
    """Returns the transform camera (optical axes) from map, [4, 4]."""
    matrix = np.eye(4)
    rotation = map_from_camera.rotation.T
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ map_from_camera.translation
    return matrix


def _rays(clip: Points, view: Points) -> Points:
    """Returns the transform of a clip position (x, y, 1, 1) to a map direction, [4, 4]."""
    to_ray = np.diag([1 / clip[0, 0], 1 / clip[1, 1], 1.0, 1.0])
    turn = np.eye(4)
    turn[:3, :3] = view[:3, :3].T
    rays: Points = turn @ to_ray
    return rays


def _visible(scene: Scene, map_from_camera: Transform, half_fov: float) -> list[tuple[int, int]]:
    """Lists first quad and count of the cells in sight, near ones first. half_fov: radians."""
    eye, ahead = map_from_camera.translation[:2], map_from_camera.rotation[:2, 2]
    if np.linalg.norm(ahead) < STEEP:
        half_fov = np.pi  # up or down: all around
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    to = scene.cells[:, 2:4] - eye
    far = np.linalg.norm(to, axis=1)
    radius = scene.cells[:, 4]
    side = np.abs(to[:, 0] * ahead[1] - to[:, 1] * ahead[0])
    front = to @ ahead
    outside = side * np.cos(half_fov) - front * np.sin(half_fov)  # metres outside the wedge of view
    seen = (outside < radius) & (far < SIGHT + radius)
    order = np.flatnonzero(seen)[np.argsort(far[seen])]
    return [(int(scene.cells[i, 0]), int(scene.cells[i, 1])) for i in order]
