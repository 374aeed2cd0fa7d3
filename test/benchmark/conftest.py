# SPDX-License-Identifier: Apache-2.0
"""Images that several tests of benchmarks share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Six different scenes of blurred noise, uint8 RGB [120, 160, 3]."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 120, 160, 3), dtype=np.uint8)
    return [cv2.normalize(cv2.GaussianBlur(n, (0, 0), 3), None, 0, 255, 32) for n in noise]
