# SPDX-License-Identifier: Apache-2.0
"""Keyframe selection by distance and angle."""

from __future__ import annotations

from dataclasses import dataclass, field

from disam_ros import geometry
from disam_ros.geometry import Transform


@dataclass
class KeyframeSelector:
    """Keeps an image at least a distance or an angle from its camera's last keyframe."""

    distance: float  # [m]; 0 keeps all images
    angle: float = 0.0  # [deg]; 0 ignores rotations
    _last: dict[str, Transform] = field(default_factory=dict)

    def keeps(self, camera: str, map_from_camera: Transform) -> bool:
        """Whether an image is a keyframe; if so, the next one is compared with it."""
        last = self._last.get(camera)
        if last is not None and self.distance > 0:
            metres, degrees = geometry.distance(last, map_from_camera)
            if metres < self.distance and not 0 < self.angle <= degrees:
                return False
        self._last[camera] = map_from_camera
        return True
