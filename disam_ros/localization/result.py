# SPDX-License-Identifier: Apache-2.0
"""The answer of a localizer for one image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from disam_ros.datasets.records import ImageRecord
from disam_ros.domains.domain import DomainChoice
from disam_ros.geometry import Transform
from disam_ros.uncertainty import candidate_covariance


@dataclass(frozen=True)
class Candidate:
    """A map image that resembles the query. Scores lie in [−1, 1].

    prior_score: what a prior of the place adds to the fine score, ≤ 0 (prior.py); 0 without one.
    """

    record: ImageRecord
    coarse_score: float
    fine_score: float
    prior_score: float = 0.0

    @property
    def score(self) -> float:
        """What candidates are ordered by."""
        return self.fine_score + self.prior_score


@dataclass(frozen=True)
class Estimate:
    """Where the vehicle is by all images so far (sequence.py).

    map_from_base: of the vehicle that made the map, whose mount of the camera is base_from_camera.
    covariance: [6, 6] of map_from_base. spread: [6, 6], how far apart the images lie that share the
    probability of that place. probability: that it is there. on_map: that it is anywhere
    on the map. record: the likeliest map image. known: whether the probability suffices.
    inliers: points that agree with the pose, where points gave it.
    """

    map_from_base: Transform
    covariance: np.ndarray
    spread: np.ndarray
    probability: float
    on_map: float
    record: ImageRecord
    known: bool
    base_from_camera: Transform
    inliers: int = 0


@dataclass(frozen=True)
class Localization:
    """The answer for one image.

    candidates: best score first. likely: whether the fine score of the best reaches the threshold.
    timings_ms: milliseconds by stage. features: the query's fine descriptor [C, g, g]. coarse: its
    coarse coordinates [d]. prior: what a prior of the place did (USED, OVERRULED or OFF_MAP of
    prior.py); empty where there was none. estimate: of the sequence, where one is followed: it is
    then the answer.
    """

    camera: str
    domain: DomainChoice
    candidates: list[Candidate]
    likely: bool
    spacing: float  # metres between map images
    timings_ms: dict[str, float]
    features: Tensor = field(repr=False)
    coarse: np.ndarray = field(repr=False)
    prior: str = ""
    estimate: Estimate | None = None

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def known(self) -> bool:
        """Whether there is an answer."""
        return self.likely if self.estimate is None else self.estimate.known

    @property
    def confidence(self) -> float:
        """Fine score of the best candidate, or the probability of the estimate."""
        return self.best.fine_score if self.estimate is None else self.estimate.probability

    @property
    def record(self) -> ImageRecord:
        """The map image that is the answer, or is nearest to it."""
        return self.best.record if self.estimate is None else self.estimate.record

    @property
    def map_from_camera(self) -> Transform | None:
        """Pose of that map image; None where the place is unknown."""
        return self.record.map_from_camera if self.known else None

    def map_from_base(self, base_from_camera: Transform) -> Transform:
        """The pose, that of the best map image or the estimate's, known or not."""
        if self.estimate is not None:
            map_from_camera = self.estimate.map_from_base @ self.estimate.base_from_camera
            return map_from_camera @ base_from_camera.inverse()
        return self.best.record.map_from_camera @ base_from_camera.inverse()

    def covariance(self, base_from_camera: Transform) -> np.ndarray:
        """Covariance [6, 6] of map_from_base: the estimate's, or from the candidates' spread."""
        if self.estimate is not None:
            return self.estimate.covariance
        camera_from_base = base_from_camera.inverse()
        poses = [c.record.map_from_camera @ camera_from_base for c in self.candidates]
        scores = np.array([c.score for c in self.candidates])
        return candidate_covariance(poses, scores, self.spacing)


KNOWN = "known"  # a place was named

UNKNOWN = "unknown"  # the best score is below the threshold

UNREADABLE = "unreadable"  # the image could not be decoded, or the node saw nothing in it

MISSING = "missing"  # the running node said nothing: the image was lost or dropped
