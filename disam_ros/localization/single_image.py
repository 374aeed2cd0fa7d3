# SPDX-License-Identifier: Apache-2.0
"""Localization of a single image: evidence and pose without the images before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig, VerifyConfig
from disam_ros.localization.answer import Answer, Candidates
from disam_ros.localization.calibration import Calibration
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Query
from disam_ros.localization.verification import Verification, lead, with_inliers, worth_verifying


class SingleImage:
    """An image that is localized by itself; takes the place of a sequence's `Step`."""

    def __init__(
        self, localizer: Localizer, query: Query, candidates: Candidates, calibration: Calibration
    ) -> None:
        self._localizer, self._query, self._calibration = localizer, query, calibration
        self.candidates = candidates

    def worth_verifying(self, config: VerifyConfig) -> bool:
        """Whether keypoints can change the answer."""
        return worth_verifying(lead(self.candidates), 1.0, config)

    def likeliest(self, count: int) -> NDArray[np.int64]:
        """Map rows to verify, int64 [≤ count], best first."""
        return self.candidates.rows[:count]

    def verify(self, verified: Sequence[Verification], ratios: NDArray[np.float64]) -> None:
        """Re-ranks the candidates by the keypoints of verified map images."""
        self.candidates = with_inliers(self.candidates, verified)

    def answer(self, config: LocalizerConfig, verified: Sequence[Verification] = ()) -> Answer:
        """Returns the answer: the pose between the best candidate and its neighbours."""
        localizer, query, candidates = self._localizer, self._query, self.candidates
        belief = localizer.belief(query, candidates, self._calibration)
        mount = localizer.base_from_camera(query.frame)
        estimate = localizer.refine(query, belief, belief.row, mount, self._calibration, verified)
        answer = localizer.answer(query, candidates, belief, belief.row, estimate.pose, config)
        return replace(answer, inliers=estimate.inliers)
