# SPDX-License-Identifier: Apache-2.0
"""A camera of every lens model."""

import numpy as np

from disam_ros.camera import EQUIRECTANGULAR, FISHEYE, Camera

SPHERE = 640 / (2 * np.pi)
CAMERAS = {
    "pinhole": Camera(640, 480, 400.0, 401.0, 322.0, 238.0),
    "plumb_bob": Camera(640, 480, 400.0, 401.0, 322.0, 238.0, (-0.3, 0.1, 1e-3, -2e-3, 0.01)),
    "rational": Camera(
        640, 480, 400.0, 401.0, 322.0, 238.0, (0.5, 0.1, 1e-3, -2e-3, 0.01, 0.4, 0.1, 0.02)
    ),
    "fisheye": Camera(
        640, 480, 200.0, 201.0, 322.0, 238.0, (0.1, -0.02, 3e-3, -1e-3), model=FISHEYE
    ),
    "panorama": Camera(640, 320, SPHERE, SPHERE, 319.5, 159.5, model=EQUIRECTANGULAR),
}
