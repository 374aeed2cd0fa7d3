# SPDX-License-Identifier: Apache-2.0
"""The answer to one image: the same for a single image and for a sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord
from disam_ros.domains.domain import DomainChoice
from disam_ros.errors import MapError
from disam_ros.geometry import Transform
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.uncertainty import PoseWithCovariance

# Outcomes of an image.
KNOWN = "known"  # the place was recognized
UNKNOWN = "unknown"  # the probability of the place is below `min_probability`
UNREADABLE = "unreadable"  # the image could not be decoded or shows nothing
MISSING = "missing"  # the running node gave no answer: the image was lost or dropped


@dataclass(frozen=True)
class Candidate:
    """A map image retrieved for a query. Scores are cosine similarities in [−1, 1]."""

    record: ImageRecord
    coarse_score: float
    fine_score: float
    # Log-weight ≤ 0 that a position prior adds to the fine score (prior.py); 0 without a prior.
    prior_score: float = 0.0
    # Effect of the prior if this is the answer: USED, OVERRULED or OFF_MAP (prior.py), or empty.
    prior_effect: str = ""
    # (x, y) that moves the map image onto the query, right and down, as shares of the view.
    shift: tuple[float, float] = (0.0, 0.0)
    # Log-weight ≥ 0 that verified keypoints add to the fine score (verification.py).
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
class Candidates(Sequence[Candidate]):
    """The map images retrieved for a query, best first, as arrays; an item is a Candidate."""

    place_map: PlaceMap = field(repr=False)
    rows: NDArray[np.int64]  # of the map [n]
    coarse: NDArray[np.float32]  # similarities [n]
    fine: NDArray[np.float32]  # similarities [n]
    prior: NDArray[np.float64]  # log-weights of a position prior [n] ≤ 0
    effects: Sequence[str]  # of the prior, by image
    shifts: NDArray[np.float32]  # of the map image onto the query [n, 2]
    keypoints: NDArray[np.float64]  # log-weights of verified keypoints [n] ≥ 0

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        x, y = self.shifts[index].tolist()
        return Candidate(
            record=self.place_map.records[int(self.rows[index])],
            coarse_score=float(self.coarse[index]),
            fine_score=float(self.fine[index]),
            prior_score=float(self.prior[index]),
            prior_effect=self.effects[index],
            shift=(x, y),
            keypoint_score=float(self.keypoints[index]),
        )

    @property
    def scores(self) -> NDArray[np.float64]:
        """Sort keys [n]: fine similarities with the log-weights of prior and keypoints."""
        return self.fine.astype(np.float64) + self.prior + self.keypoints

    @property
    def positions(self) -> NDArray[np.float64]:
        """Positions of the map images [n, 3] [m]."""
        positions: NDArray[np.float64] = self.place_map.poses[self.rows, :3]
        return positions

    def sorted(self) -> Candidates:
        """Returns the candidates by decreasing score; equal ones keep their order."""
        order = np.argsort(-self.scores, kind="stable")
        return replace(
            self,
            rows=self.rows[order],
            coarse=self.coarse[order],
            fine=self.fine[order],
            prior=self.prior[order],
            effects=[self.effects[k] for k in order],
            shifts=self.shifts[order],
            keypoints=self.keypoints[order],
        )


@dataclass(frozen=True, eq=False)
class Belief:
    """The stretch of road between two map images where the vehicle most likely is."""

    row: int  # of the map image, or state of the filter, at the likelier end
    map_from_base: Transform  # mean, by probability, of the poses on stretches near the likeliest
    probability: float  # that the place is right
    on_map: float  # probability that the vehicle is anywhere on the map; nan: of a single image
    covariance: NDArray[np.float64]  # [6, 6] of these poses, and of what lies beyond a drive's end
    bend: NDArray[np.float64]  # [6, 6] of the pose's distance from the chord between both ends
    # [6, 6] second moment of the step from one end to the other, as the track runs at the pose
    # (curve.py), less the nearer that is to one of them.
    steps: NDArray[np.float64]
    spacing: float  # length of the step [m]


@dataclass(frozen=True, eq=False)
class Answer:
    """Where the vehicle is."""

    camera: str
    domain: DomainChoice
    candidates: Candidates  # retrieved map images, best first
    record: ImageRecord  # the map image that is the answer, or the likeliest one of a sequence
    pose: PoseWithCovariance = field(repr=False)  # map_from_base, of an unknown place, too
    # Mount that the pose was computed with: the camera's, or that of the view its image was warped
    # into, whose pose in the camera is `lens_from_view`.
    base_from_camera: Transform
    known: bool  # whether the probability reaches `min_probability`
    probability: float  # that the place is right and on the map
    spacing: float  # distance between map images there [m]
    tracked: bool = False  # whether this is the answer of a sequence
    on_map: float = math.nan  # probability that the vehicle is on the map, of a sequence
    # Covariance [6, 6] of where else the vehicle may be, and second moment [6, 6] of the step
    # between the map images that it lies between (Belief).
    spread: NDArray[np.float64] | None = field(default=None, repr=False)
    steps: NDArray[np.float64] | None = field(default=None, repr=False)
    inliers: int = 0  # keypoints that agree with the pose where verification gave it
    informative: bool = True  # False where the image repeats the last one and is no evidence
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # by stage
    lens_from_view: Transform | None = None  # None where the image was not warped
    upside_down: bool = False  # the last images show places of the map only turned by 180°
    odometry_fault: str = ""  # why the images contradict odometry, with the remedy
    alone: str = ""  # why the image counts for a sequence of its own, not of the vehicle's cameras
    doubt: float = 0.0  # probability that the camera sees nothing of the map, against the others

    @property
    def best(self) -> Candidate:
        """The best candidate of this image alone."""
        return self.candidates[0]

    @property
    def prior(self) -> str:
        """Effect of a position prior: USED, OVERRULED or OFF_MAP (prior.py); empty without one."""
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
        """Undoes the view warp: map_from_camera from map_from_view."""
        if self.lens_from_view is None:
            return map_from_view
        return map_from_view @ self.lens_from_view.inverse()
