# SPDX-License-Identifier: Apache-2.0
"""What a localization is asked and what it answers.

A frame is an image with its capture conditions, a query the frame's descriptors. The answer is the
same for a single image and for a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, ViewMatch, Warp, heading_of, warp_into
from disam_ros.datasets.records import ImageRecord
from disam_ros.domains.choice import DomainChoice
from disam_ros.errors import MapError
from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.codes import shifted_features
from disam_ros.models.similarity import ShiftedFeatures, Shifts

# Outcomes of an image.
KNOWN = "known"  # the place was recognized
UNKNOWN = "unknown"  # the probability of the place is below `min_probability`
UNREADABLE = "unreadable"  # the image could not be decoded or shows nothing
MISSING = "missing"  # the running node gave no answer: the image was lost or dropped


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a vehicle's camera.

    image: uint8 RGB [H, W, 3]. camera: its name; without a mount, that of the camera in the map.
    stamp_ns: UTC nanoseconds; None: unknown. lens: intrinsics and mount of this vehicle's camera;
    None: those of the mapping vehicle. weather, domain, latitude, longitude [deg]: override the
    configuration; None: unknown. warp: by which the image was made from the camera's (`seen_as`);
    None: it is the camera's.
    """

    image: NDArray[np.uint8]
    camera: str
    stamp_ns: int | None = None
    lens: Camera | None = None
    weather: str | None = None
    domain: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    warp: Warp | None = None

    def seen_as(self, mapped: Camera | None) -> Frame:
        """The frame as the map's camera would have taken it; itself where that sees the same, and
        where intrinsics are unknown (camera/views.py)."""
        warp = warp_into(self.lens, mapped, (self.image.shape[1], self.image.shape[0]))
        if warp is None:
            return self
        return replace(self, image=warp.apply(self.image), lens=warp.view, warp=warp)


class Comparisons:
    """Fine similarity of a query with map images and the shifts (x, y) that they have it at: each
    map image is compared once."""

    def __init__(self) -> None:
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)  # of the map, ascending
        self._results: NDArray[np.float32] = np.empty((0, 3), np.float32)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Finds the map images of `rows` [n] that it was not compared with, ascending."""
        at = np.searchsorted(self._rows, rows)
        compared = np.append(self._rows, -1)[at] == rows
        return rows[:0] if compared.all() else np.unique(rows[~compared])

    def add(self, rows: NDArray[np.int64], results: NDArray[np.float32]) -> None:
        """Takes the results [n, 3] of `rows` [n]."""
        rows = np.concatenate([self._rows, rows])
        order = np.argsort(rows, kind="stable")
        self._rows = rows[order]
        self._results = np.concatenate([self._results, results])[order]

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Similarities [n] and shifts [n, 2] of `rows`."""
        results = self._results[np.searchsorted(self._rows, rows)]
        return results[:, 0], results[:, 1:]


@dataclass(frozen=True, eq=False)
class Query:
    """A frame and its descriptors.

    shifted: coarse descriptors of the view and of views shifted sideways, float32 [K, d] in the
    map's projection (compression.py). fine: feature map less the map's mean, float32 [C, h, w]: an
    array of numpy on a CPU, a tensor on another device. seen: its cells that the camera sees, 1 or
    0 [h, w]; None: all. compared: what `Reranker.compare` found. view_matches: the map cameras that
    it is compared with, best first. shifts: over which it is compared; None: those of its grid.
    """

    frame: Frame
    domain: DomainChoice
    shifted: NDArray[np.float32] = field(repr=False)
    fine: Any = field(repr=False)
    seen: NDArray[np.float32] | None = field(default=None, repr=False)
    compared: Comparisons = field(default_factory=Comparisons, repr=False)
    view_matches: Sequence[ViewMatch] = ()
    shifts: Shifts | None = None

    @property
    def coarse(self) -> NDArray[np.float32]:
        """Coarse descriptor of the view itself, float32 [d]."""
        middle: NDArray[np.float32] = self.shifted[len(self.shifted) // 2]
        return middle

    @cached_property
    def moved(self) -> ShiftedFeatures[Any]:
        """The feature map with all its shifts, made once for all comparisons."""
        shifts = self.shifts or Shifts.of_grid(*self.fine.shape[-2:])
        return shifted_features(self.fine[None], shifts, self.seen)

    @property
    def camera(self) -> str:
        return self.frame.camera

    @property
    def cameras(self) -> list[str]:
        """Names of the map cameras that it is compared with."""
        return list(dict.fromkeys(match.camera for match in self.view_matches))

    @property
    def placed(self) -> bool:
        """Whether it is known where the camera looks on the vehicle, and on the mapping vehicle."""
        mapped = self.view_matches[0].mapped if self.view_matches else None
        return None not in (heading_of(self.frame.lens or mapped), heading_of(mapped))


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
    # (pose.py), less the nearer that is to one of them.
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
