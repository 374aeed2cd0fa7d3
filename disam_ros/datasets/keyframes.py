# SPDX-License-Identifier: Apache-2.0
"""Keyframe selection by distance and angle."""

from __future__ import annotations

from dataclasses import dataclass, field

from disam_ros import geometry
from disam_ros.geometry import Transform


@dataclass
class KeyframeSelector:
    """Keeps an image at least `distance` metres or `angle` degrees from its camera's last keyframe.

    A distance of 0 keeps all images; an angle of 0 ignores the rotation.
    """

    distance: float
    angle: float = 0.0
    _last: dict[str, Transform] = field(default_factory=dict)

    def keeps(self, camera: str, map_from_camera: Transform) -> bool:
        """Whether this image is a keyframe; if so, the next one is compared with it."""
        last = self._last.get(camera)
        if last is not None and self.distance > 0:
            metres, degrees = geometry.distance(last, map_from_camera)
            if metres < self.distance and not 0 < self.angle <= degrees:
                return False
        self._last[camera] = map_from_camera
        return True
