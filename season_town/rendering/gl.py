# SPDX-License-Identifier: Apache-2.0
"""An off-screen OpenGL context, and small helpers around moderngl."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import DisamError
from season_town.arrays import Points

if TYPE_CHECKING:
    import moderngl


# moderngl takes the name of a backend, though its type hints say otherwise.
BACKEND: dict[str, Any] = {"backend": "egl"}
# A number, a vector, a list of vectors, or an array: a vector or a matrix [4, 4].
Value = float | tuple[float, ...] | list[tuple[float, ...]] | Points


class RenderError(DisamError):
    """This machine cannot render as it is set up."""


def create_context() -> moderngl.Context:
    """Opens a context without a window; software rendering will do.

    Raises RenderError where moderngl or the OpenGL driver is missing.
    """
    try:
        import moderngl
    except ImportError as error:
        raise RenderError(
            "rendering the season town needs moderngl; install it with "
            "`pip install 'moderngl>=5.10'`"
        ) from error
    # Mesa loads its LLVM with RTLD_GLOBAL: a Triton imported later is linked to that in place of
    # its own and crashes; one imported before keeps its own. Torch's compiler and optimizers import
    # Triton, which takes 0.3 s, where torch's build brings it.
    with suppress(ImportError):
        importlib.import_module("triton")
    try:
        return moderngl.create_context(require=330, standalone=True, **BACKEND)
    except Exception as error:  # moderngl raises bare Exception
        raise RenderError(
            f"no OpenGL 3.3 context through EGL ({error}); on Debian and Ubuntu install the "
            "packages libegl1 and libgl1-mesa-dri (`apt install libegl1 libgl1-mesa-dri`)"
        ) from error


def set_uniforms(program: moderngl.Program, values: Mapping[str, Value]) -> None:
    """Sets the values that a program uses; matrices are row-major."""
    for name, value in values.items():
        uniform: Any = program.get(name, None)
        if uniform is None:
            continue
        if isinstance(value, np.ndarray) and value.shape == (4, 4):
            uniform.write(np.ascontiguousarray(value.T, np.float32).tobytes())
        elif isinstance(value, np.ndarray):
            uniform.value = tuple(float(v) for v in value)
        else:
            uniform.value = value


def projection(
    width: int, height: int, focal: float, near: float = 0.15, far: float = 900.0
) -> Points:
    """Projection matrix, clip from camera (optical axes), [4, 4]; principal point in the middle."""
    matrix = np.zeros((4, 4))
    matrix[0, 0] = 2 * focal / width
    matrix[1, 1] = -2 * focal / height
    matrix[2, 2] = (far + near) / (far - near)
    matrix[2, 3] = -2 * far * near / (far - near)
    matrix[3, 2] = 1.0
    return matrix


def metric_depth(raw: NDArray[np.float32], near: float = 0.15, far: float = 900.0) -> Points:
    """Distance along the optical axis from a depth buffer in 0..1; infinity where it is empty."""
    ndc = 2.0 * raw.astype(np.float64) - 1.0
    depth = 2 * far * near / (far + near - ndc * (far - near))
    return np.where(raw >= 1.0, np.inf, depth)


def sun_projection(direction: Points, reach: float) -> Points:
    """Projection matrix, clip from map, of parallel light from a direction over `reach` metres."""
    side = np.cross([0.0, 0.0, 1.0], direction)
    side /= np.linalg.norm(side)
    up = np.cross(direction, side)
    matrix = np.eye(4)
    matrix[0, :3], matrix[1, :3] = side / reach, up / reach
    matrix[2, :3] = -direction / (1.5 * reach)
    return matrix
