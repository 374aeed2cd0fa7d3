# SPDX-License-Identifier: Apache-2.0
"""The localization pipeline: from images to poses on the map.

It is the only way to localize: the node, the commands, the evaluation and the benchmarks run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig, VerifyConfig
from disam_ros.device import Stopwatch
from disam_ros.domains.choice import DomainChoice
from disam_ros.errors import DisamError
from disam_ros.localization.calibration import Calibration
from disam_ros.localization.checks import OdometryCheck, UpsideDownCheck, VisibilityCheck
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.prior import PositionPrior
from disam_ros.localization.query import Answer, Candidates, Frame, Query
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import Step, Tracker
from disam_ros.localization.verification import (
    MAX_CANDIDATES,
    Verification,
    Verifier,
    place_ratio,
    with_inliers,
    worth_verifying,
)


@dataclass(frozen=True, eq=False)
class Shot:
    """An image to localize."""

    frame: Frame
    odometry: Reading | None = None  # at the image's stamp; None: unknown
    prior: PositionPrior | None = None  # of the position; None: the whole map is searched


@dataclass(frozen=True, eq=False)
class Localized:
    """A shot after the pipeline."""

    shot: Shot
    query: Query | None  # its descriptors; None where the image could not be encoded
    outcome: Answer | DisamError  # the answer, or why there is none

    @property
    def answer(self) -> Answer:
        """The answer. Raises the error that took its place."""
        if isinstance(self.outcome, DisamError):
            raise self.outcome
        return self.outcome


@dataclass(eq=False)
class _Image:
    """A shot on its way, and what the steps of the pipeline made of it."""

    shot: Shot
    informative: bool = True
    odometry_fault: str = ""
    domain: DomainChoice = field(init=False)
    query: Query = field(init=False)
    watch: Stopwatch = field(init=False)
    step: Step | SingleImage = field(init=False)
    outcome: Answer | DisamError | None = None

    def attempt(self, step: Callable[[_Image], None]) -> None:
        """Takes a step unless one before failed."""
        if self.outcome is None:
            try:
                step(self)
            except DisamError as error:
                self.outcome = error

    def localized(self) -> Localized:
        """The result."""
        assert self.outcome is not None  # the last step has answered
        return Localized(self.shot, getattr(self, "query", None), self.outcome)


class Pipeline:
    """Localizes the images of one vehicle, in the order in which they were taken.

    config: settings; None: the localizer's. calibration: of scores and errors; None: the model's.
    filter_model: constants of the sequence filter. verify: False: places are never verified.
    Raises MapError or ConfigError where the map's keypoints cannot be verified.
    """

    def __init__(
        self,
        localizer: Localizer,
        config: LocalizerConfig | None = None,
        calibration: Calibration | None = None,
        filter_model: FilterModel | None = None,
        verify: bool = True,
    ) -> None:
        self.localizer, self.config = localizer, config or localizer.config
        self.calibration = calibration or localizer.calibration
        self._visibility, self._upside_down = VisibilityCheck(), UpsideDownCheck()
        self._odometry = OdometryCheck()
        self._tracker = Tracker(localizer, self.calibration, filter_model)
        verifies = verify and self.config.verify.when != "never"
        self._verifier: Verifier | None = None
        if verifies and localizer.map.header.keypoints is not None:
            self._verifier = self._open_verifier()

    @classmethod
    def open(
        cls, map_dir: Path | str, model_dir: Path | str, config: LocalizerConfig | None = None
    ) -> Pipeline:
        """Loads a model and a map from disk."""
        return cls(Localizer.open(map_dir, model_dir, config or LocalizerConfig()))

    def _open_verifier(self) -> Verifier:
        return Verifier(self.localizer.map, self.localizer.device, self.calibration.keypoints)

    def process(self, shots: Sequence[Shot]) -> list[Localized]:
        """Localizes images of different cameras that were taken together, within a second or so.

        They are joint evidence: where sequences are tracked, each answer knows of all of them. One
        bad image does not touch the others: its outcome is the error. A device that fails is left
        for the CPU, and the images are localized there.
        """
        images = [_Image(shot) for shot in shots]
        for image in images:
            image.attempt(self._admit)
        try:
            self._localize(images)
        except Exception as error:  # those of CUDA and of ONNX Runtime have no root in common
            self._continue_on_cpu(error)
            self._localize(images)
        return [image.localized() for image in images]

    def _localize(self, images: Sequence[_Image]) -> None:
        admitted = [image for image in images if image.outcome is None]
        for _, batch in groupby(admitted, key=lambda image: image.domain.name):
            self._encode(list(batch))
        for image in sorted(admitted, key=lambda image: image.shot.frame.stamp_ns or 0):
            image.attempt(self._retrieve)
        for image in admitted:  # after the evidence of all
            image.attempt(self._answer)

    def _admit(self, image: _Image) -> None:
        """Refuses images that show nothing or are of no camera of the map; chooses the domain."""
        frame = image.shot.frame
        image.informative = self._visibility.informative(frame, image.shot.odometry)
        self.localizer.view_matches(frame.camera, frame.lens)  # raises MapError
        image.domain = self.localizer.choose_domain(frame, self.config.domain)

    def _encode(self, batch: Sequence[_Image]) -> None:
        """Descriptors by the encoders of one domain, as one batch; one by one where one fails."""
        frames, watch = [image.shot.frame for image in batch], Stopwatch()
        try:
            queries = self.localizer.encode(frames, batch[0].domain, watch)
        except DisamError as error:
            if len(batch) == 1:
                batch[0].outcome = error
            for image in batch if len(batch) > 1 else ():
                self._encode([image])
            return
        for image, query in zip(batch, queries, strict=True):
            image.query, image.watch = query, watch.share(len(batch))

    def _retrieve(self, image: _Image) -> None:
        """Coarse retrieval, re-ranking by fine similarity, evidence of the sequence."""
        query, watch, shot = image.query, image.watch.resumed(), image.shot
        shortlist = self.localizer.search(query, self.config, shot.prior)
        watch.lap("coarse")
        if not self.config.sequence.enabled:
            candidates = self.localizer.rerank(query, shortlist)
            watch.lap("fine")
            image.step = SingleImage(self.localizer, query, candidates, self.calibration)
            return
        image.odometry_fault = self._odometry.fault(query, shot.odometry)
        odometry = None if image.odometry_fault else shot.odometry
        step = self._tracker.predict(query, odometry, self.config, image.informative)
        watch.lap("sequence")
        self.localizer.compare(query, np.concatenate([shortlist.rows, step.plausible, step.near]))
        candidates = self.localizer.rerank(query, shortlist)
        watch.lap("fine")
        image.step = step.update(candidates)
        watch.lap("sequence")

    def _answer(self, image: _Image) -> None:
        """Geometric verification where it can change the answer, then the pose."""
        step, watch, verified = image.step, image.watch.resumed(), list[Verification]()
        if self._verifier is not None and step.worth_verifying(self.config.verify):
            verified = self._verifier.verify(image.query.frame, step.likeliest(MAX_CANDIDATES))
        if self._verifier is not None and verified:
            ratios = self._verifier.log_ratios(verified, image.domain.name)
            step.verify(verified, ratios)
            watch.lap("verify")
        answer = step.answer(self.config, verified)
        turned = self._upside_down.is_turned(self.localizer, image.query, answer, self.config)
        watch.lap("pose")
        image.outcome = replace(
            answer,
            informative=image.informative,
            upside_down=turned,
            odometry_fault=image.odometry_fault,
            timings_ms=watch.finish(),
        )

    def _continue_on_cpu(self, error: Exception) -> None:
        """Leaves a device that has failed. Raises the error where it is no fault of the device."""
        self.localizer.continue_on_cpu(error)
        if self._verifier is not None:
            self._verifier = self._open_verifier()


class SingleImage:
    """An image that is localized by itself; takes the place of a sequence's `Step`."""

    def __init__(
        self, localizer: Localizer, query: Query, candidates: Candidates, calibration: Calibration
    ) -> None:
        self._localizer, self._query, self._calibration = localizer, query, calibration
        self.candidates = candidates
        self._ratio = 0.0  # log likelihood ratio of the first candidate's place, by keypoints

    def worth_verifying(self, config: VerifyConfig) -> bool:
        """Whether keypoints can change the answer."""
        probability = self._localizer.probability(self.candidates, self._calibration)
        return worth_verifying(probability, 1.0, config)

    def likeliest(self, count: int) -> NDArray[np.int64]:
        """Map rows to verify, int64 [≤ count], best first."""
        return self.candidates.rows[:count]

    def verify(self, verified: Sequence[Verification], ratios: NDArray[np.float64]) -> None:
        """Re-ranks the candidates by the keypoints of verified map images, whose log likelihood
        ratios [n] are evidence of the place."""
        self.candidates = with_inliers(self.candidates, verified)
        self._ratio = place_ratio(self.candidates, verified, ratios)

    def answer(self, config: LocalizerConfig, verified: Sequence[Verification] = ()) -> Answer:
        """Returns the answer: the pose between the best candidate and its neighbours."""
        localizer, query, candidates = self._localizer, self._query, self.candidates
        belief = localizer.belief(query, candidates, self._calibration, self._ratio)
        mount = localizer.base_from_camera(query.frame)
        estimate = localizer.refine(query, belief, belief.row, mount, self._calibration, verified)
        answer = localizer.answer(query, candidates, belief, belief.row, estimate.pose, config)
        return replace(answer, inliers=estimate.inliers)
