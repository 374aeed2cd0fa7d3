# SPDX-License-Identifier: Apache-2.0
"""The answer to one image: the same for a single image and for a sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord
from disam_ros.domains.domain import DomainChoice
from disam_ros.errors import MapError
from disam_ros.geometry import Transform
from disam_ros.uncertainty import PoseWithCovariance

# Outcomes of an image.
KNOWN = "known"  # the place was recognized
UNKNOWN = "unknown"  # the probability of the place is below `min_probability`
UNREADABLE = "unreadable"  # the image could not be decoded or shows nothing
MISSING = "missing"  # the running node gave no answer: the image was lost or dropped


@dataclass(frozen=True)
class Candidate:
    """A map image retrieved for a query. Scores are cosine similarities in [−1, 1].

    prior_score: log-weight that a position prior adds to the fine score, ≤ 0 (prior.py); 0 without
    one. prior_effect: what the prior did if this is the answer (USED, OVERRULED or OFF_MAP of
    prior.py); empty without one. shift: (x, y) that moves the map image onto the query, right and
    down, as shares of the view. keypoint_score: log-weight ≥ 0 that verified keypoints add to the
    fine score (verification.py); 0 where the image was not verified.
    """

    record: ImageRecord
    coarse_score: float
    fine_score: float
    prior_score: float = 0.0
    prior_effect: str = ""
    shift: tuple[float, float] = (0.0, 0.0)
    keypoint_score: float = 0.0

    @property
    def map_from_camera(self) -> Transform:
        """Pose of the map image. Raises MapError for a damaged map."""
        if self.record.map_from_camera is None:
            raise MapError(f"map image {self.record.id} has no pose: the map is damaged")
        return self.record.map_from_camera

    @property
    def score(self) -> float:
        """Sort key of the candidates."""
        return self.fine_score + self.prior_score + self.keypoint_score


@dataclass(frozen=True, eq=False)
class Answer:
    """Where the vehicle is.

    candidates: retrieved map images, best first. record: the map image that is the answer, or the
    likeliest one of a sequence. pose: map_from_base with its covariance [6, 6], of a place that is
    not known, too. base_from_camera: the mount that it was computed with: the camera's, or that of
    the view its image was warped into, whose pose in the camera is lens_from_view. probability:
    that the place is right and on the map. known: whether it reaches `min_probability`. spacing:
    distance between map images there [m].
    timings_ms: milliseconds by stage. inliers: keypoints that agree with the pose where
    verification gave it. upside_down: whether the camera's last images show places of the map only
    when turned by 180°.

    Of a sequence only: tracked is True; on_map: probability that the vehicle is on the map;
    spread, steps: covariance [6, 6] of where else it may be, and second moment [6, 6] of the step
    between the map images that it lies between (bayes_filter.py, Belief); informative: False where
    the image repeats the last one and is no evidence; alone: why the image counts for a sequence of
    its own instead of that of the vehicle's cameras, else empty; doubt: probability that its camera
    sees nothing of the map, as it contradicts the others.
    """

    camera: str
    domain: DomainChoice
    candidates: Sequence[Candidate]
    record: ImageRecord
    pose: PoseWithCovariance = field(repr=False)
    base_from_camera: Transform
    known: bool
    probability: float
    spacing: float
    tracked: bool = False
    on_map: float = math.nan
    spread: NDArray[np.float64] | None = field(default=None, repr=False)
    steps: NDArray[np.float64] | None = field(default=None, repr=False)
    inliers: int = 0
    informative: bool = True
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    lens_from_view: Transform | None = None
    upside_down: bool = False
    alone: str = ""
    doubt: float = 0.0

    @property
    def best(self) -> Candidate:
        """The best candidate of this image alone."""
        return self.candidates[0]

    @property
    def prior(self) -> str:
        """What a position prior did: USED, OVERRULED or OFF_MAP (prior.py); empty without one."""
        return self.best.prior_effect

    @property
    def map_from_base(self) -> Transform:
        """Pose of the vehicle, known or not."""
        return self.pose.pose

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance [6, 6] of map_from_base."""
        return self.pose.covariance

    @property
    def map_from_camera(self) -> Transform:
        """Pose of the query's camera, known or not."""
        return self.of_camera(self.map_from_base @ self.base_from_camera)

    def of_camera(self, map_from_view: Transform) -> Transform:
        """Pose of the camera itself, by that of the view which its image was warped into."""
        if self.lens_from_view is None:
            return map_from_view
        return map_from_view @ self.lens_from_view.inverse()
