# SPDX-License-Identifier: Apache-2.0
"""The season town: rendered drives with exact poses under several conditions.

Needs moderngl (`pip install 'disam_ros[synth]'`) and an OpenGL driver; software rendering will do.
"""

from disam_ros.synthetic.conditions import CONDITIONS, Condition
from disam_ros.synthetic.drive import Drive, DriveConfig, Frame, simulate_drive
from disam_ros.synthetic.rendering.gl import RenderError
from disam_ros.synthetic.rendering.renderer import Renderer
from disam_ros.synthetic.town.build import build_town
from disam_ros.synthetic.town.layout import Town
from disam_ros.synthetic.writer import write_drive

__all__ = [
    "CONDITIONS",
    "Condition",
    "Drive",
    "DriveConfig",
    "Frame",
    "RenderError",
    "Renderer",
    "Town",
    "build_town",
    "simulate_drive",
    "write_drive",
]
