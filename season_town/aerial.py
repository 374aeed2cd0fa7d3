# SPDX-License-Identifier: Apache-2.0
"""The town seen from straight above (orthographic), as tiles around the route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from disam_ros.datasets.aerial.tiles import TileInfo, TileWriter
from disam_ros.errors import ConfigError
from season_town.arrays import Picture, Points
from season_town.conditions import CONDITIONS
from season_town.rendering import gl
from season_town.rendering.graphics import Graphics
from season_town.rendering.renderer import SUPERSAMPLE
from season_town.town.build import build_town
from season_town.town.layout import Town
from season_town.town.scene import build_scene

TOP, BOTTOM = 110.0, -10.0  # range of heights in the town [m]
EYE = 300.0  # height of the eye, for reflections and headlights [m]
MARGIN = 4.0  # maximum distance of a vehicle from its lane [m]


@dataclass(frozen=True)
class TownAerialConfig:
    """Settings of aerial tiles. Raises ConfigError."""

    condition: str = "summer_day"  # name in CONDITIONS
    town_seed: int = 1
    drive_seed: int = 1  # of parked cars and pedestrians
    metres_per_pixel: float = 0.2
    tile_pixels: int = 256  # side of a tile
    reach_m: float = 40.0  # metres around the route to cover

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS:
            raise ConfigError(
                f"unknown condition {self.condition!r}; choose one of {', '.join(CONDITIONS)}"
            )
        for name in ("metres_per_pixel", "tile_pixels", "reach_m"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be greater than 0")


class AerialCamera:
    """Orthographic camera over squares of the ground, without fog, precipitation, lens or noise."""

    def __init__(self, town: Town, config: TownAerialConfig) -> None:
        clear = replace(
            CONDITIONS[config.condition],
            fog=0.0,
            wet=0.0,  # no mirror image of the sky
            flakes=0,
            streaks=0,
            lens_drops=0,
            blur=0.0,
        )
        size = (config.tile_pixels, config.tile_pixels)
        self._side = config.tile_pixels * config.metres_per_pixel
        scene = build_scene(town, clear, config.drive_seed)
        self._gpu = Graphics(town, clear, config.drive_seed, scene, size, SUPERSAMPLE)
        gl.set_uniforms(self._gpu.post, {"u_bloom": 0.0, "u_vignette": 0.0, "u_drop_count": 0})

    def close(self) -> None:
        """Frees the memory of the graphics driver."""
        self._gpu.ctx.release()

    def photograph(self, west: float, south: float) -> Picture:
        """Renders the tile with this south-western corner [m], uint8 RGB [S, S, 3], north up."""
        centre = np.array([west, south]) + self._side / 2
        clip = np.eye(4)
        clip[:2] *= 2 / self._side
        clip[:2, 3] = -2 / self._side * centre
        clip[2] = [0, 0, -2 / (TOP - BOTTOM), (TOP + BOTTOM) / (TOP - BOTTOM)]
        shared: dict[str, gl.Value] = {
            "u_camera": clip,
            "u_eye": np.array([*centre, EYE]),
            "u_ahead": (0.0, 0.0, -1.0),
        }
        gpu, ctx = self._gpu, self._gpu.ctx
        with ctx:  # several renderers may take turns
            gpu.main.use()
            gpu.main.clear(0.0, 0.0, 0.0, depth=1.0)
            ctx.enable(ctx.DEPTH_TEST)
            ctx.depth_func = "<="
            for program in (gpu.object, gpu.ground):
                gl.set_uniforms(program, shared)
            gpu.objects.render()
            gpu.grounds.render(ctx.TRIANGLE_STRIP)
            gpu.hdr.build_mipmaps()
            gpu.hdr.use(5)
            gpu.out.use()
            ctx.disable(ctx.DEPTH_TEST)
            gpu.posts.render(ctx.TRIANGLE_STRIP)
            data = gpu.out.read(components=3, alignment=1)
        pixels = round(np.sqrt(len(data) / 3))
        return np.frombuffer(data, np.uint8).reshape(pixels, pixels, 3)


def write_tiles(config: TownAerialConfig, directory: Path | str, overwrite: bool = False) -> int:
    """Renders the surroundings of the town's route as a tile directory; returns their number.

    overwrite: replace tiles of an earlier run. Raises OutputError, RenderError without OpenGL.
    """
    town = build_town(config.town_seed)
    side = config.tile_pixels * config.metres_per_pixel
    reach = config.reach_m + MARGIN
    origin = np.round(np.floor((town.route.min(0) - reach) / side) * side, 6)
    info = TileInfo(
        metres_per_pixel=config.metres_per_pixel,
        tile_pixels=config.tile_pixels,
        origin=(float(origin[0]), float(origin[1])),
        source=f"rendered by season_town: {config}",
    )
    grid = list(_around(town.route, origin, side, reach))
    camera = AerialCamera(town, config)
    try:
        with TileWriter(directory, info, overwrite) as writer:
            for column, row in tqdm(grid, desc="aerial", unit="tile"):
                west, south = origin + side * np.array([column, row])
                writer.add(column, row, camera.photograph(west, south))
    finally:
        camera.close()
    return len(grid)


def _around(route: Points, origin: Points, side: float, reach: float) -> Iterator[tuple[int, int]]:
    """Yields column and row of the tiles within `reach` metres of the route [R, 2]."""
    columns, rows = (np.ceil((route.max(0) + reach - origin) / side)).astype(int)
    for row in range(rows):
        for column in range(columns):
            centre = origin + side * (np.array([column, row]) + 0.5)
            if np.abs(route - centre).max(1).min() < side / 2 + reach:
                yield column, row
