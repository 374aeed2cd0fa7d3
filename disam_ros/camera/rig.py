# SPDX-License-Identifier: Apache-2.0
"""Map cameras that see what a vehicle's camera does, the vehicle turned by quarters or not.

A map image of a camera mounted at a yaw is also an image of a vehicle that stood there turned by
some angle and has the camera mounted at the yaw less that angle. Thus the rear camera of a vehicle
that drives back sees what the front camera saw when mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.camera.camera import Camera
from disam_ros.camera.mounts import UPRIGHT, has_mount
from disam_ros.camera.views import same_view
from disam_ros.geometry import Transform

QUARTER = np.pi / 2  # [rad]
ASIDE = np.radians(45.0)  # largest angle between headings of cameras that see the same
ALIKE_DEG = 10.0  # largest angle between rays of views that are compared with each other


@dataclass(frozen=True)
class ViewMatch:
    """A map camera that sees what a vehicle's camera does, the vehicle turned."""

    camera: str  # of the map
    quarters: int  # turns of the vehicle to the left against the mapping vehicle, 0 to 3
    mapped: Camera | None  # the map camera as mounted on the turned vehicle; None: unknown

    @property
    def mount(self) -> Transform:
        """base_from_camera on the turned vehicle; identity where it is unknown."""
        return Transform.identity() if self.mapped is None else self.mapped.base_from_camera


def quarter_turn(quarters: int) -> Transform:
    """Rotation about the vehicle's vertical axis to the left."""
    turn = Rotation.from_euler("z", quarters * QUARTER)
    return Transform(np.zeros(3), turn.as_quat())


def matching_map_cameras(
    name: str, lens: Camera | None, mapped: Mapping[str, Camera | None]
) -> list[ViewMatch]:
    """Find the map cameras that see what a vehicle's camera does, the best first.

    lens: of the vehicle's camera `name`; None: the map's of that name. mapped: cameras of the map.
    Without both mounts the map's camera of the same name is the only one. The others must have
    views like the first one's, for an image is only warped into one.
    """
    lens = lens or mapped.get(name)
    namesake = [ViewMatch(name, 0, mapped[name])] if name in mapped else []
    heading = heading_of(lens)
    if heading is None or (namesake and heading_of(mapped[name]) is None):
        return namesake
    ranked = []
    for camera, mapping_camera in mapped.items():
        for quarters in range(4):
            turned = turned_mount(mapping_camera, quarters)
            yaw = heading_of(turned)
            if yaw is None:
                continue
            aside = abs((yaw - heading + np.pi) % (2 * np.pi) - np.pi)
            if aside <= ASIDE:
                match = ViewMatch(camera, quarters, turned)
                ranked.append((quarters != 0, camera != name, aside, match))
    ranked.sort(key=lambda item: item[:3])
    matches = [item[-1] for item in ranked]
    return [match for match in matches if _alike(matches[0].mapped, match.mapped)]


def turned_mount(camera: Camera | None, quarters: int) -> Camera | None:
    """The camera as it is mounted on a vehicle that was turned to the left and took it along."""
    if camera is None or not quarters:
        return camera
    return replace(camera, base_from_camera=quarter_turn(-quarters) @ camera.base_from_camera)


def heading_of(camera: Camera | None) -> float | None:
    """Yaw [rad] of the optical axis on the vehicle; None: unknown, or it looks up or down."""
    if camera is None or not has_mount(camera):
        return None
    x, y, up = camera.base_from_camera.rotation[:, 2]
    return None if abs(up) > UPRIGHT else float(np.arctan2(y, x))


@lru_cache(maxsize=64)
def _alike(first: Camera | None, other: Camera | None) -> bool:
    """Whether the views of two cameras differ in hardly more than yaw."""
    if first is None or other is None or not (first.calibrated and other.calibrated):
        return (first is None or not first.calibrated) == (other is None or not other.calibrated)
    headings = heading_of(first), heading_of(other)
    if None in headings:
        return False
    turn = Rotation.from_euler("z", headings[0] - headings[1])  # type: ignore[operator]
    mount = Transform(np.zeros(3), turn.as_quat()) @ other.base_from_camera
    return same_view(first, replace(other, base_from_camera=mount), ALIKE_DEG)
