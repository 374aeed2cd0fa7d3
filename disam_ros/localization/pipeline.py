# SPDX-License-Identifier: Apache-2.0
"""The localization pipeline: from images to poses on the map.

The node, `disam localize`, `disam evaluate`, `disam calibrate` and the benchmarks all run this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig
from disam_ros.device import Stopwatch
from disam_ros.domains.domain import DomainChoice
from disam_ros.errors import DisamError
from disam_ros.localization.answer import Answer, Candidate
from disam_ros.localization.calibration import Calibration
from disam_ros.localization.candidates import Near
from disam_ros.localization.image_checks import VisibilityCheck
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame, Query
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import Tracker
from disam_ros.localization.upside_down import UpsideDownCheck
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


@dataclass(frozen=True, eq=False)
class Shot:
    """An image to localize. odometry: at its stamp; None: unknown. prior: of the position; None:
    the whole map is searched."""

    frame: Frame
    odometry: Reading | None = None
    prior: Near = None


@dataclass(eq=False)
class _Work:
    """A shot on its way; number: in its set."""

    number: int
    shot: Shot
    informative: bool
    domain: DomainChoice
    query: Query | None = None
    candidates: Sequence[Candidate] = ()
    watch: Stopwatch = field(default_factory=Stopwatch)


_Outcomes = list[Answer | DisamError | None]


class Pipeline:
    """Localizes the images of one vehicle, in the order in which they were taken.

    calibration: of scores and errors; None: the model's. filter_model: constants of the sequence
    filter. verify: verify places geometrically where the map has keypoints and the configuration
    wants it. queries: of the last images, for further comparisons (loop closures, activation maps).
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
        self.queries: list[Query | None] = []
        self._visibility, self._upside_down = VisibilityCheck(), UpsideDownCheck()
        self._tracker = Tracker(localizer, calibration, filter_model)
        wanted = verify and self.config.verify.when != "never"
        kept = localizer.map.header.keypoints is not None
        self._verifier: OnDevice[Verifier] | None = None
        if wanted and kept:
            errors = (calibration or localizer.calibration).keypoints
            self._verifier = OnDevice(
                lambda device: Verifier(localizer.map, device, errors),
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
        (answer,) = self.process_set([Shot(frame, odometry, prior)])
        if isinstance(answer, DisamError):
            raise answer
        return answer

    def process_set(self, shots: Sequence[Shot]) -> list[Answer | DisamError]:
        """Localize images of different cameras that were taken together, within a second or so.

        They are joint evidence: where sequences are tracked, each answer knows of all of them.
        Returns an answer to each, or why there is none: one bad image does not touch the others.
        """
        outcomes: list[Answer | DisamError | None] = [None] * len(shots)
        self.queries = [None] * len(shots)
        work: list[_Work] = []
        watch = Stopwatch()
        for number, shot in enumerate(shots):
            try:
                informative = self._visibility.informative(shot.frame, shot.odometry)
                self.localizer.looks(
                    shot.frame.camera, shot.frame.lens
                )  # raises MapError before the work
                domain = self.localizer.choose_domain(shot.frame)
                work.append(_Work(number, shot, informative, domain))
            except DisamError as error:
                outcomes[number] = error
        for _, items in groupby(work, key=lambda item: item.domain.name):
            self._encode(list(items), outcomes, watch)
            watch = Stopwatch()
        found = [item for item in work if item.query is not None]
        for item in sorted(found, key=lambda item: item.shot.frame.stamp_ns or 0):
            self._search(item, outcomes)
        for item in found:
            if outcomes[item.number] is None:
                self._answer(item, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    @property
    def query(self) -> Query | None:
        """Of the last image."""
        return self.queries[-1] if self.queries else None

    def _encode(self, items: Sequence[_Work], outcomes: _Outcomes, watch: Stopwatch) -> None:
        """Descriptors of images of one domain, as one batch; one by one where one is refused."""
        try:
            frames = [item.shot.frame for item in items]
            queries = self.localizer.encode_batch(frames, items[0].domain, watch)
        except DisamError as error:
            if len(items) == 1:
                outcomes[items[0].number] = error
            for item in items if len(items) > 1 else ():
                self._encode([item], outcomes, Stopwatch())
            return
        for item, query in zip(items, queries, strict=True):
            item.query = self.queries[item.number] = query
            item.watch = watch.share(len(items))

    def _search(self, item: _Work, outcomes: _Outcomes) -> None:
        """Candidates of an image, and its evidence."""
        localizer, shot, watch = self.localizer, item.shot, item.watch
        assert item.query is not None
        try:
            shortlist = localizer.search(item.query, shot.prior)  # coarse retrieval
            watch.lap("coarse")
            item.candidates = localizer.rerank(item.query, shortlist)  # fine similarity
            watch.lap("fine")
            if self.config.sequence.enabled:  # Bayes filter
                self._tracker.update(
                    item.query, item.candidates, shot.odometry, self.config, item.informative
                )
                watch.lap("sequence")
        except DisamError as error:
            outcomes[item.number] = error

    def _answer(self, item: _Work, outcomes: _Outcomes) -> None:
        """The answer to an image, after the evidence of all."""
        query, watch = item.query, item.watch
        assert query is not None
        watch.resume()
        try:
            if self.config.sequence.enabled:
                answer = self._tracked(query, item.candidates, item.informative, watch)
            else:
                answer = self._alone(query, item.candidates, watch)
            turned = self._upside_down.is_turned(self.localizer, query, answer)
        except DisamError as error:
            outcomes[item.number] = error
            return
        outcomes[item.number] = replace(
            answer,
            informative=item.informative,
            upside_down=turned,
            timings_ms=watch.finish(),
        )

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
        """Local features and PnP against map images, in this order."""
        if self._verifier is None or not len(rows):
            return []
        frame = query.frame
        verified = self._verifier.run(
            lambda verifier: verifier.verify(
                frame.image, frame.camera, rows, frame.lens, frame.warp
            )
        )
        watch.lap("verify")
        return verified
