# SPDX-License-Identifier: Apache-2.0
"""A loop closure hint, and as the key-values of the message that carries it (docs/slam.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from disam_ros.errors import DisamError, LoopClosureError
from disam_ros.geometry import Transform
from disam_ros.uncertainty import is_covariance

OWN = "own"  # the keyframe is one of this drive
MAP = "map"  # it is an image of the prebuilt map
NAME = "localizer: loop closure"  # of the message's status
STAMP, KEYFRAME_STAMP, KIND = "stamp (ns)", "keyframe stamp (ns)", "kind"
POSE, MAP_POSE = "keyframe from base", "map from keyframe"
COVARIANCE, SCORE, INLIERS = "covariance", "score", "inliers"


@dataclass(frozen=True)
class Relation:
    """Where the vehicle is, seen from where it was at a keyframe.

    keyframe_from_base: its base frame now, in its base frame then; metric. covariance: [6, 6],
    order x y z rotX rotY rotZ about the axes of the keyframe's base frame (REP-103). inliers: how
    many local features agree; 0 where none were compared.
    """

    keyframe_from_base: Transform
    covariance: np.ndarray
    inliers: int = 0


@dataclass(frozen=True)
class Hint:
    """The vehicle is where it was before.

    stamp_ns, keyframe_stamp_ns: of the image now and of the one then. score: their fine similarity.
    kind: OWN or MAP. map_from_keyframe: pose of the base on the map at that map image; of MAP only.
    Raises LoopClosureError unless the covariance is symmetric, positive definite.
    """

    stamp_ns: int
    keyframe_stamp_ns: int
    relation: Relation
    score: float
    kind: str = OWN
    map_from_keyframe: Transform | None = None

    def __post_init__(self) -> None:
        covariance = np.asarray(self.relation.covariance)
        if not is_covariance(covariance):
            raise LoopClosureError(
                f"the covariance of a loop closure expects [6, 6], finite, symmetric and positive "
                f"definite, got {covariance.tolist()}; check what relates the two images"
            )
        if self.kind not in (OWN, MAP) or (self.kind == MAP) != (
            self.map_from_keyframe is not None
        ):
            raise LoopClosureError(
                f"expected a hint of kind '{OWN}', or of kind '{MAP}' with a pose on the map, got "
                f"'{self.kind}' and {self.map_from_keyframe}"
            )


def to_values(hint: Hint) -> dict[str, str]:
    """Key-values that `from_values` reads back to the same numbers.

    Poses are x y z qx qy qz qw, covariances 36 numbers row by row, separated by spaces.
    """
    values = {
        KIND: hint.kind,
        STAMP: str(hint.stamp_ns),
        KEYFRAME_STAMP: str(hint.keyframe_stamp_ns),
        POSE: _pose_text(hint.relation.keyframe_from_base),
        COVARIANCE: _text(hint.relation.covariance),
        SCORE: repr(float(hint.score)),
        INLIERS: str(hint.relation.inliers),
    }
    if hint.map_from_keyframe is not None:
        values[MAP_POSE] = _pose_text(hint.map_from_keyframe)
    return values


def from_values(values: Mapping[str, str]) -> Hint:
    """The hint of a message's key-values. Raises LoopClosureError naming what is at fault."""
    covariance = _read(values, COVARIANCE, _numbers)
    relation = Relation(
        keyframe_from_base=_read(values, POSE, _pose),
        covariance=covariance.reshape(6, 6) if covariance.size == 36 else covariance,
        inliers=_read(values, INLIERS, int),
    )
    return Hint(
        stamp_ns=_read(values, STAMP, int),
        keyframe_stamp_ns=_read(values, KEYFRAME_STAMP, int),
        relation=relation,
        score=_read(values, SCORE, float),
        kind=_read(values, KIND, str),
        map_from_keyframe=_read(values, MAP_POSE, _pose) if MAP_POSE in values else None,
    )


def summary(hint: Hint) -> str:
    """One line for people."""
    ago = (hint.stamp_ns - hint.keyframe_stamp_ns) / 1e9
    then = "an image of the map" if hint.kind == MAP else f"{ago:.0f} s ago"
    return f"same place as {then}: score {hint.score:.3f}, {hint.relation.inliers} inliers"


def _read(values: Mapping[str, str], key: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(values[key])
    except KeyError:
        raise LoopClosureError(
            f"a loop closure without '{key}': is it of another version?"
        ) from None
    except (ValueError, DisamError) as error:
        raise LoopClosureError(f"'{key}' of a loop closure cannot be read: {error}") from error


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _pose(text: str) -> Transform:
    numbers = _numbers(text)
    return Transform(numbers[:3], numbers[3:])


def _pose_text(pose: Transform) -> str:
    return _text(np.concatenate([pose.translation, pose.quaternion]))


def _text(numbers: np.ndarray) -> str:
    return " ".join(repr(value) for value in np.asarray(numbers, dtype=np.float64).ravel().tolist())
