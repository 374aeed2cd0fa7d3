# SPDX-License-Identifier: Apache-2.0
"""Images of the drive with their localizations and map matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import Transform
from disam_ros.slam.keypoints import View
from disam_ros.slam.loop_closure import MapMatch


@dataclass(frozen=True)
class Seen:
    """Per image: stamp, descriptors, the map image it was matched with, the true map_from_base, and
    what verifies it."""

    stamps_ns: list[int]
    coarse: np.ndarray
    fine: np.ndarray
    matches: list[MapMatch]
    truth: list[Transform]
    views: Sequence[View] = ()
