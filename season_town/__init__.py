# SPDX-License-Identifier: Apache-2.0
"""The season town: rendered drives with exact poses under several conditions.

Needs moderngl, which `pip install ./season_town` brings, and OpenGL; software rendering will do.
"""

from season_town.conditions import CONDITIONS, Condition
from season_town.drive import DriveConfig, Frame, RenderedDrive
from season_town.rendering.gl import RenderError
from season_town.rendering.renderer import Renderer
from season_town.town.build import build_town
from season_town.town.layout import Town
from season_town.writer import write_drive

__all__ = [
    "CONDITIONS",
    "Condition",
    "DriveConfig",
    "Frame",
    "RenderError",
    "RenderedDrive",
    "Renderer",
    "Town",
    "build_town",
    "write_drive",
]
