# SPDX-License-Identifier: Apache-2.0
"""Programs, textures, buffers and targets of a renderer on the graphics device."""

from __future__ import annotations

import numpy as np

from season_town.conditions import Condition
from season_town.rendering import gl, shaders, shaders_ground, shaders_post
from season_town.textures.texture_canvas import SIZE
from season_town.textures.textures import texture_layers
from season_town.town.ground import EXTENT, light_map, splat_map
from season_town.town.layout import Town
from season_town.town.scene import Scene

SHADOW_SIZE = 4096
SHADOW_REACH = 150.0  # metres around the map origin with shadows


class Graphics:
    """Uploads everything once for a town, a condition and a drive.

    size: pixels of the picture (width, height); `factor` times as many are drawn each way.
    """

    def __init__(
        self,
        town: Town,
        condition: Condition,
        drive_seed: int,
        scene: Scene,
        size: tuple[int, int],
        factor: int,
    ) -> None:
        self.ctx = gl.create_context()
        self.size = (size[0] * factor, size[1] * factor)
        self._make_programs(condition, drive_seed)
        self._make_textures(town)
        self._make_buffers(condition, scene)
        self._make_targets(*size)
        self._make_shadow(condition)

    def _make_programs(self, condition: Condition, drive_seed: int) -> None:
        make = self.ctx.program
        self.object = make(shaders.OBJECT_VERTEX, shaders.OBJECT_FRAGMENT)
        self.ground = make(shaders_ground.GROUND_VERTEX, shaders_ground.GROUND_FRAGMENT)
        self.sky = make(shaders_ground.SKY_VERTEX, shaders_ground.SKY_FRAGMENT)
        self.flake = make(shaders_post.FLAKE_VERTEX, shaders_post.FLAKE_FRAGMENT)
        self.post = make(shaders_post.POST_VERTEX, shaders_post.POST_FRAGMENT)
        c = condition
        gain = float(np.random.default_rng([drive_seed, 9]).uniform(0.85, 1.18))
        constants: dict[str, gl.Value] = {
            "u_tex": 0,
            "u_shadow": 1,
            "u_light": 2,
            "u_splat": 3,
            "u_mirror": 4,
            "u_hdr": 5,
            "u_shadow_matrix": gl.sun_projection(c.sun_direction, SHADOW_REACH),
            "u_sun_direction": c.sun_direction,
            "u_sun": c.sun,
            "u_ambient": c.ambient,
            "u_zenith": c.zenith,
            "u_horizon": c.horizon,
            "u_fog": c.fog,
            "u_snow": c.snow,
            "u_lamps": c.lamps,
            "u_extent": EXTENT,
            "u_cloud": c.cloud,
            "u_lit_windows": c.lit_windows,
            "u_drive": float(drive_seed % 97),
            "u_wet": c.wet,
            "u_grass": c.grass,
            "u_size": tuple(float(v) for v in self.size),
            "u_litter": c.litter,
            "u_exposed_stars": float(c.zenith[2] < 0.05),
            "u_exposure": c.exposure * gain,
            "u_blur": c.blur,
            "u_bloom": 0.05 + 0.07 * min(c.lamps, 1.0) + 0.03 * c.snow,
            "u_vignette": 0.55,
            "u_aspect": self.size[0] / self.size[1],
        }
        for program in (self.object, self.ground, self.sky, self.flake, self.post):
            gl.set_uniforms(program, constants)

    def _make_textures(self, town: Town) -> None:
        ctx = self.ctx
        layers = texture_layers()[:, ::-1]
        self.tex = ctx.texture_array((SIZE, SIZE, len(layers)), 4, layers.tobytes())
        self.tex.build_mipmaps()
        self.tex.filter = (ctx.LINEAR_MIPMAP_LINEAR, ctx.LINEAR)
        splat = splat_map(town)
        self.splat = ctx.texture((splat.shape[1], splat.shape[0]), 4, splat.tobytes())
        self.splat.build_mipmaps()
        self.splat.filter = (ctx.LINEAR_MIPMAP_LINEAR, ctx.LINEAR)
        self.splat.repeat_x = self.splat.repeat_y = False
        light = light_map(town)
        self.light = ctx.texture((light.shape[1], light.shape[0]), 3, light.tobytes(), dtype="f2")
        self.light.repeat_x = self.light.repeat_y = False
        self.tex.use(0)
        self.light.use(2)
        self.splat.use(3)

    def _make_buffers(self, condition: Condition, scene: Scene) -> None:
        ctx = self.ctx
        vertices = ctx.buffer(scene.quads.tobytes())
        base = 4 * np.arange(len(scene.quads), dtype=np.uint32)[:, None]
        index = ctx.buffer((base + np.array([0, 1, 2, 0, 2, 3], np.uint32)).tobytes())
        full = (vertices, "3f 3f 3f 4f", "in_position", "in_normal", "in_texture", "in_tint")
        self.objects = ctx.vertex_array(self.object, [full], index)
        shadow = ctx.program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        part = (vertices, "3f 12x 3f 16x", "in_position", "in_texture")
        self.casters = ctx.vertex_array(shadow, [part], index)
        corners = ctx.buffer(np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], "f4").tobytes())
        self.grounds = ctx.vertex_array(self.ground, [(corners, "2f", "in_corner")])
        self.skies = ctx.vertex_array(self.sky, [(corners, "2f", "in_corner")])
        self.posts = ctx.vertex_array(self.post, [(corners, "2f", "in_corner")])
        count = condition.flakes + condition.streaks
        flakes = np.random.default_rng(3).random((max(count, 1), 4), np.float32)
        flakes[:, 3] = 0.0
        if condition.streaks:
            flakes = flakes.repeat(2, 0)
            flakes[1::2, 3] = 1.0
        self.flakes = ctx.vertex_array(
            self.flake, [(ctx.buffer(flakes.tobytes()), "4f", "in_flake")]
        )

    def _make_targets(self, width: int, height: int) -> None:
        ctx = self.ctx
        self.hdr = ctx.texture(self.size, 3, dtype="f2")
        self.hdr.filter = (ctx.LINEAR_MIPMAP_LINEAR, ctx.LINEAR)
        self.hdr.repeat_x = self.hdr.repeat_y = False
        self.depth = ctx.depth_texture(self.size)
        self.main = ctx.framebuffer([self.hdr], self.depth)
        self.out = ctx.simple_framebuffer((width, height), 3)
        half = (width, height)
        self.mirror_texture = ctx.texture(half, 3, dtype="f2")
        self.mirror_texture.repeat_x = self.mirror_texture.repeat_y = False
        self.mirror = ctx.framebuffer([self.mirror_texture], ctx.depth_renderbuffer(half))

    def _make_shadow(self, condition: Condition) -> None:
        """Draws the shadow map once: light and scene stand still during a drive."""
        ctx = self.ctx
        lit = max(condition.sun) > 0.2
        size = (SHADOW_SIZE, SHADOW_SIZE) if lit else (1, 1)
        self.shadow = ctx.depth_texture(size)
        self.shadow.compare_func = "<="
        self.shadow.filter = (ctx.LINEAR, ctx.LINEAR)
        target = ctx.framebuffer(depth_attachment=self.shadow)
        target.use()
        target.clear(depth=1.0)
        if lit:
            ctx.enable(ctx.DEPTH_TEST)
            matrix = gl.sun_projection(condition.sun_direction, SHADOW_REACH)
            gl.set_uniforms(self.casters.program, {"u_tex": 0, "u_camera": matrix})
            self.casters.render()
        self.shadow.use(1)
