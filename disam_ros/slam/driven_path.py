# SPDX-License-Identifier: Apache-2.0
"""Distance driven: by odometry, and where there is none by the change of the view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.slam.keyframes import fine_similarities


class DrivenPath:
    """Metres travelled since the start of a drive.

    changed: fine similarity below which the view has changed; step: metres that this counts as. A
    vehicle at rest sees no change.
    """

    def __init__(self, step: float, changed: float) -> None:
        self.travelled = 0.0
        self._step, self._changed = step, changed
        self._odometry: Reading | None = None  # the last
        self._there = 0.0  # metres travelled then
        self._view: NDArray[np.float32] | None = None  # since odometry is missing, the last changed

    def by_odometry(self, odometry: Reading) -> None:
        """Adds odometry at an image; where it started over, the vehicle counts as at rest."""
        moved = motion(self._odometry, odometry)
        if moved is not None:  # metres counted by the view meanwhile are no further ones
            metres = float(np.linalg.norm(moved.translation))
            self.travelled = max(self.travelled, self._there + metres)
        self._odometry, self._there, self._view = odometry, self.travelled, None

    def by_view(self, fine: NDArray[np.float32]) -> None:
        """Adds an image without odometry by its fine descriptor [C, h, w]."""
        if self._view is None:
            self._view = fine
        elif float(fine_similarities(fine, self._view[None])[0]) < self._changed:
            self.travelled, self._view = self.travelled + self._step, fine
