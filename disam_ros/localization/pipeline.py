# SPDX-License-Identifier: Apache-2.0
"""The localization pipeline: from an image to a pose on the map.

The node, `disam localize`, `disam evaluate`, `disam calibrate` and the benchmarks all run this one.
"""

from __future__ import annotations

from dataclasses import replace

from disam_ros.config import LocalizerConfig
from disam_ros.device import Stopwatch
from disam_ros.localization.answer import Answer
from disam_ros.localization.bayes_filter import FilterModel
from disam_ros.localization.calibration import Calibration
from disam_ros.localization.candidates import Near
from disam_ros.localization.image_checks import VisibilityCheck
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.odometry import Reading
from disam_ros.localization.query import Frame, Query
from disam_ros.localization.tracker import Tracker
from disam_ros.localization.verification import (
    MAX_CANDIDATES,
    Verification,
    Verifier,
    worth_verifying,
)


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
        self._verifier: Verifier | None = None
        if wanted and kept:
            device = str(localizer.device)
            errors = (calibration or localizer.calibration).keypoints
            self._verifier = Verifier(
                localizer.map, self.config.verify, device=device, errors=errors
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
        answer = localizer.of_candidates(query, candidates)  # by this image alone
        if self.config.sequence.enabled:
            tracker = self._tracker  # Bayes filter
            tracker.update(query, candidates, odometry, self.config, informative)
            verified = self._verify(query) if informative else []  # local features, PnP
            answer = self._tracker.answer(query, answer, self.config, verified)
            watch.lap("sequence")
        return replace(answer, informative=informative, timings_ms=watch.finish())

    def _verify(self, query: Query) -> list[Verification]:
        """Geometric verification of the likeliest places, where it can change the answer."""
        verifier, frame = self._verifier, query.frame
        if verifier is None or not worth_verifying(*self._tracker.state(query), self.config.verify):
            return []
        rows = self._tracker.likeliest(query, MAX_CANDIDATES)
        verified = verifier.verify(frame.image, frame.camera, rows, frame.lens)
        if verified:
            self._tracker.update_verified(query, verified, verifier.log_ratios(verified))
        return verified
