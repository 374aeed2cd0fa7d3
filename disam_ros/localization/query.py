# SPDX-License-Identifier: Apache-2.0
"""The input of a localization: an image with its capture conditions, and its descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.domains.domain import DomainChoice
from disam_ros.models.similarity import ShiftedFeatures, Shifts


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a vehicle's camera.

    image: uint8 RGB [H, W, 3]. camera: name of the camera in the map. stamp_ns: UTC nanoseconds;
    None: unknown. lens: intrinsics and mount of this vehicle's camera; None: those of the mapping
    vehicle. weather, domain, latitude, longitude [deg]: override the configuration; None: unknown.
    """

    image: NDArray[np.uint8]
    camera: str
    stamp_ns: int | None = None
    lens: Camera | None = None
    weather: str | None = None
    domain: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, eq=False)
class Query:
    """A frame and its descriptors.

    shifted: coarse descriptors of the view and of views shifted sideways, float32 [K, d] in the
    map's projection (compression.py). fine: feature map less the map's mean, float32 [C, h, w]: an
    array of numpy on a CPU, a tensor on another device.
    """

    frame: Frame
    domain: DomainChoice
    shifted: NDArray[np.float32] = field(repr=False)
    fine: Any = field(repr=False)

    @property
    def coarse(self) -> NDArray[np.float32]:
        """Coarse descriptor of the view itself, float32 [d]."""
        middle: NDArray[np.float32] = self.shifted[len(self.shifted) // 2]
        return middle

    @cached_property
    def moved(self) -> ShiftedFeatures[Any]:
        """The feature map with all its shifts, made once for all comparisons."""
        return ShiftedFeatures.of(self.fine[None], Shifts.of_grid(*self.fine.shape[-2:]))

    @property
    def camera(self) -> str:
        return self.frame.camera
