# SPDX-License-Identifier: Apache-2.0
"""Loop closures, and the key-values of the message that carries one (docs/slam.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import DisamError, LoopClosureError
from disam_ros.geometry import PoseWithCovariance, Transform, is_covariance

OWN = "own"  # the keyframe is one of this drive
MAP = "map"  # it is an image of the prebuilt map
NAME = "localizer: loop closure"  # of the message's status
STAMP, KEYFRAME_STAMP, KIND = "stamp (ns)", "keyframe stamp (ns)", "kind"
POSE, MAP_POSE = "keyframe from base", "map from keyframe"
COVARIANCE, SCORE, INLIERS, METRIC = "covariance", "score", "inliers", "metric"

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LoopClosure:
    """An edge of a pose graph: the vehicle met a place again.

    Raises LoopClosureError unless the covariance is symmetric, positive definite.
    """

    stamp_ns: int  # of the image now
    keyframe_stamp_ns: int
    # The base frame now in the base frame then [m], covariance about the axes of the latter.
    keyframe_from_base: PoseWithCovariance
    score: float  # fine similarity of the two images
    inliers: int = 0  # keypoints that agree; 0: none were compared
    kind: str = OWN  # or MAP
    map_from_keyframe: Transform | None = None  # pose of the base at that map image; of MAP only
    # Whether the length of the translation was measured. If not, its direction was where there are
    # inliers; the covariance is as large as the uncertainty of the length.
    metric: bool = True

    def __post_init__(self) -> None:
        covariance = np.asarray(self.keyframe_from_base.covariance)
        if not is_covariance(covariance):
            raise LoopClosureError(
                f"the covariance of a loop closure expects [6, 6], finite, symmetric and positive "
                f"definite, got {covariance.tolist()}; check the relative pose of the two images"
            )
        on_map = self.map_from_keyframe is not None
        if self.kind not in (OWN, MAP) or (self.kind == MAP) != on_map:
            raise LoopClosureError(
                f"expected a loop closure of kind '{OWN}', or of kind '{MAP}' with a pose on the "
                f"map, got '{self.kind}' and {self.map_from_keyframe}"
            )


def to_values(closure: LoopClosure) -> dict[str, str]:
    """Key-values that `from_values` reads back to the same numbers.

    Poses are x y z qx qy qz qw, covariances 36 numbers row by row, separated by spaces.
    """
    values = {
        KIND: closure.kind,
        STAMP: str(closure.stamp_ns),
        KEYFRAME_STAMP: str(closure.keyframe_stamp_ns),
        POSE: _pose_text(closure.keyframe_from_base.pose),
        COVARIANCE: _text(closure.keyframe_from_base.covariance),
        SCORE: repr(float(closure.score)),
        INLIERS: str(closure.inliers),
        METRIC: str(closure.metric).lower(),
    }
    if closure.map_from_keyframe is not None:
        values[MAP_POSE] = _pose_text(closure.map_from_keyframe)
    return values


def from_values(values: Mapping[str, str]) -> LoopClosure:
    """The loop closure in a message's key-values. Raises LoopClosureError naming the fault."""
    covariance = _read(values, COVARIANCE, _numbers)
    return LoopClosure(
        stamp_ns=_read(values, STAMP, int),
        keyframe_stamp_ns=_read(values, KEYFRAME_STAMP, int),
        keyframe_from_base=PoseWithCovariance(
            _read(values, POSE, _pose),
            covariance.reshape(6, 6) if covariance.size == 36 else covariance,
        ),
        score=_read(values, SCORE, float),
        inliers=_read(values, INLIERS, int),
        kind=_read(values, KIND, str),
        map_from_keyframe=_read(values, MAP_POSE, _pose) if MAP_POSE in values else None,
        metric=_read(values, METRIC, _truth),
    )


def summary(closure: LoopClosure) -> str:
    """One line for people."""
    ago = (closure.stamp_ns - closure.keyframe_stamp_ns) / 1e9
    then = "an image of the map" if closure.kind == MAP else f"{ago:.0f} s ago"
    scale = "" if closure.metric else ", distance unknown"
    return f"same place as {then}: score {closure.score:.3f}, {closure.inliers} inliers{scale}"


def _read(values: Mapping[str, str], key: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(values[key])
    except KeyError:
        raise LoopClosureError(
            f"a loop closure without '{key}': is it of another version?"
        ) from None
    except (ValueError, DisamError) as error:
        raise LoopClosureError(f"'{key}' of a loop closure cannot be read: {error}") from error


def _truth(text: str) -> bool:
    return bool(("false", "true").index(text))


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array([float(word) for word in text.split()])


def _pose(text: str) -> Transform:
    numbers = _numbers(text)
    return Transform(numbers[:3], numbers[3:])


def _pose_text(pose: Transform) -> str:
    return _text(np.concatenate([pose.translation, pose.quaternion]))


def _text(numbers: NDArray[np.float64]) -> str:
    return " ".join(repr(value) for value in np.asarray(numbers, dtype=np.float64).ravel().tolist())
