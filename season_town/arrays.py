# SPDX-License-Identifier: Apache-2.0
"""Names of the kinds of arrays."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # positions, directions, matrices and other numbers
Mesh = NDArray[np.float32]  # [Q, 4, WIDTH], see town/meshes.py
Picture = NDArray[np.uint8]  # RGB or RGBA [H, W, C]
