# SPDX-License-Identifier: Apache-2.0
"""The localization pipeline: from an image to a pose on the map.

The node, `disam localize`, `disam evaluate`, `disam calibrate` and the benchmarks all run this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig
from disam_ros.device import Stopwatch
from disam_ros.localization.answer import Answer, Candidate
from disam_ros.localization.calibration import Calibration
from disam_ros.localization.candidates import Near
from disam_ros.localization.image_checks import VisibilityCheck
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame, Query
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import Tracker
from disam_ros.localization.verification import (
    MAX_CANDIDATES,
    Verification,
    Verifier,
    fuse_verified,
    lead,
    with_inliers,
    worth_verifying,
)
from disam_ros.models.cuda.fallback import OnDevice


class Pipeline:
    """Localizes the images of one vehicle, in the order in which they were taken.

    calibration: of scores and errors; None: the model's. filter_model: constants of the sequence
    filter. verify: verify places geometrically where the map has keypoints and the configuration
    wants it. query: the last image's, for further comparisons (loop closures, activation maps).
    Raises MapError or ConfigError where the map's keypoints cannot be verified.
    """

    def __init__(
        self,
        localizer: Localizer,
        calibration: Calibration | None = None,
        filter_model: FilterModel | None = None,
        verify: bool = True,
    ) -> None:
        self.localizer = localizer
        self.query: Query | None = None
        self._visibility = VisibilityCheck()
        self._tracker = Tracker(localizer, calibration, filter_model)
        wanted = verify and self.config.verify.when != "never"
        kept = localizer.map.header.keypoints is not None
        self._verifier: OnDevice[Verifier] | None = None
        if wanted and kept:
            errors = (calibration or localizer.calibration).keypoints
            settings = self.config.verify
            self._verifier = OnDevice(
                lambda device: Verifier(localizer.map, settings, device=device, errors=errors),
                localizer.device,
            )

    @property
    def config(self) -> LocalizerConfig:
        """Settings; those of `verify` were read when the pipeline was made."""
        return self.localizer.config

    @config.setter
    def config(self, config: LocalizerConfig) -> None:
        self.localizer.config = config

    def process(self, frame: Frame, odometry: Reading | None = None, prior: Near = None) -> Answer:
        """Localize one image.

        odometry: at the image's stamp; None: unknown. prior: of the position; None: the whole map
        is searched. Raises BlindError where nothing is visible, ImageError, MapError, DomainError.
        """
        localizer, watch = self.localizer, Stopwatch()
        informative = self._visibility.informative(frame, odometry)
        domain = localizer.choose_domain(frame)
        query = self.query = localizer.encode(frame, domain, watch)  # coarse and fine descriptors
        shortlist = localizer.search(query, prior)  # coarse retrieval
        watch.lap("coarse")
        candidates = localizer.rerank(query, shortlist)  # fine similarity
        watch.lap("fine")
        if self.config.sequence.enabled:  # Bayes filter
            self._tracker.update(query, candidates, odometry, self.config, informative)
            answer = self._tracked(query, candidates, informative, watch)
        else:
            answer = self._alone(query, candidates, watch)
        return replace(answer, informative=informative, timings_ms=watch.finish())

    def _alone(self, query: Query, candidates: Sequence[Candidate], watch: Stopwatch) -> Answer:
        """The answer of this image alone: candidates re-ranked by keypoints, pose by PnP."""
        localizer = self.localizer
        verified = list[Verification]()
        if worth_verifying(lead(candidates), 1.0, self.config.verify):
            rows = np.array([candidate.record.id for candidate in candidates[:MAX_CANDIDATES]])
            verified = self._verify(query, rows, watch)
        answer = localizer.of_candidates(query, with_inliers(candidates, verified))
        pose, inliers = fuse_verified(answer.pose, answer.base_from_camera, verified)
        return replace(answer, pose=pose, inliers=inliers)

    def _tracked(
        self, query: Query, candidates: Sequence[Candidate], informative: bool, watch: Stopwatch
    ) -> Answer:
        """The answer of the sequence: likeliest places verified where that can change it."""
        tracker, verified = self._tracker, list[Verification]()
        watch.lap("sequence")
        verifier = self._verifier if informative else None
        if verifier and worth_verifying(*tracker.state(query), self.config.verify):
            verified = self._verify(query, tracker.likeliest(query, MAX_CANDIDATES), watch)
        if verifier and verified:
            tracker.update_verified(query, verified, verifier.made.log_ratios(verified))
        answer = tracker.answer(query, candidates, self.config, verified)
        watch.lap("sequence")
        return answer

    def _verify(
        self, query: Query, rows: NDArray[np.int64], watch: Stopwatch
    ) -> list[Verification]:
        """Local features and PnP against map images, in this order, while the budget lasts."""
        if self._verifier is None:
            return []
        frame = query.frame
        verified = self._verifier.run(
            lambda verifier: verifier.verify(
                frame.image, frame.camera, rows, frame.lens, warp=frame.warp
            )
        )
        watch.lap("verify")
        return verified
