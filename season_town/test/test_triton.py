# SPDX-License-Identifier: Apache-2.0
"""Mesa and Triton, each with an LLVM of its own, in one process."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("moderngl", reason="moderngl is not installed")

from season_town import RenderError
from season_town.rendering import gl

pytestmark = pytest.mark.slow

DRAW_TRAIN_DRAW = """
import numpy as np
import torch
from season_town import DriveConfig, RenderedDrive

def draw():
    drive = RenderedDrive(DriveConfig(width=160, height=120, spacing_m=4.0, length_m=4.0))
    return next(iter(drive)).image

before = draw()
import triton
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.Adam([weight], lr=0.5)
(3 * weight).sum().backward()
optimizer.step()
assert abs(weight.item() - 0.5) < 1e-3
np.testing.assert_array_equal(draw(), before)
"""


def test_a_process_that_has_drawn_can_train():
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed: torch's build for CPUs comes without it")
    try:
        gl.create_context().release()
    except RenderError as error:
        pytest.skip(f"no OpenGL context on this machine: {error}")
    done = subprocess.run([sys.executable, "-c", DRAW_TRAIN_DRAW], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
