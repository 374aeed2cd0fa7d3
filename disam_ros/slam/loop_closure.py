# SPDX-License-Identifier: Apache-2.0
"""Is the vehicle where it was before on this drive, or at an image of the prebuilt map?

The drive's own keyframes are kept with their descriptors and odometry. A new keyframe is compared
with those that are old enough and lie far enough back along the path, coarse, then fine, as a query
is with the map (localizer.py). One match is not believed alone: matches of keyframes in a row must
lie as far apart as odometry says that the vehicle drove meanwhile, and the loop must not need more
drift than odometry is capable of. Last, points of the two images must agree on how they lie to each
other (drive_points.py). Only then is a hint given, one per place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.errors import LoopClosureError
from disam_ros.geometry import Transform, distance
from disam_ros.localization.answer import Answer
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.odometry import JUMP_SLACK
from disam_ros.localization.query import Query
from disam_ros.slam.keyframes import DriveKeyframes, Keyframe, unit
from disam_ros.slam.keypoints import PointTrail, View, relate
from disam_ros.slam.loop_hint import MAP, OWN, Hint, Relation

KEYFRAME_ANGLE = 30.0  # degrees of turn after which an image is kept although it is near
CANDIDATES = 5  # kept images from the coarse comparison that are compared finely
SLACK = 2.0  # metres, besides the distance of keyframes, by which matches in a row may disagree
SLACK_ANGLE = 15.0  # degrees by which they may
POSITION_DEVIATION = 1.5  # metres (1 sigma) from a keyframe, besides their distance, not verified
ANGLE_DEVIATION = 5.0  # degrees (1 sigma) between the headings, not verified
MAX_SPEED = 100.0  # metres a second: odometry that is faster has jumped


@dataclass(frozen=True)
class MapMatch:
    """The map image that an image was matched with.

    stamp_ns, map_from_base: of the map image. spacing: metres between map images. relation:
    verified, None where it was not.
    """

    stamp_ns: int
    map_from_base: Transform
    score: float
    spacing: float
    relation: Relation | None = None


class LoopCloser:
    """Fed with every image of a drive, in order.

    A keyframe takes its descriptors and 144 bytes a point: 23 + 37 kB with `town-lite` and 256.
    """

    def __init__(self, config: LoopClosureConfig) -> None:
        self._config, self._trail = config, PointTrail(config.points)
        self._keyframes = DriveKeyframes(config.max_keyframes)
        self._selectors = {
            kind: KeyframeSelector(config.keyframe_distance, KEYFRAME_ANGLE) for kind in (OWN, MAP)
        }
        self._runs = {kind: AgreeingRun(config) for kind in (OWN, MAP)}
        self._last: tuple[int, Transform | None] | None = None  # stamp and odometry
        self._drive_from_base, self._travelled = Transform.identity(), 0.0

    def __len__(self) -> int:
        """How many keyframes of the drive are kept."""
        return len(self._keyframes)

    def add(
        self,
        stamp_ns: int,
        odom_from_base: Transform,
        coarse: np.ndarray,
        fine: np.ndarray,
        view: View | None = None,
    ) -> list[Hint]:
        """An image of the drive. coarse: [d], fine: [D]. view: what verifies it; None: nothing.

        Gives the hints it is worth, most often none. Raises LoopClosureError for a stamp before
        the last one, or descriptors of another length, not finite or all 0; ImageError.
        """
        coarse, fine = unit(coarse), unit(fine)
        self._move(stamp_ns, odom_from_base)
        if not self._config.points:
            view = None
        selector = self._selectors[OWN]
        if not selector.keeps("", self._drive_from_base):
            if view is not None:
                self._trail.pass_by(view, self._drive_from_base, selector.distance / 2)
            return []
        points = view and self._trail.take(view, self._drive_from_base)
        here = Keyframe(stamp_ns, self._drive_from_base, self._travelled, points)
        hint = self._own_hint(here, coarse, fine)
        if self._keyframes.append(here, coarse, fine):
            selector.distance *= 2
        return [hint] if hint else []

    def map_hint(
        self, stamp_ns: int, odom_from_base: Transform, match: MapMatch | None
    ) -> list[Hint]:
        """The place of an image on the map, None: unknown. Gives hints likewise.

        May be called before or after `add` with the same image. Raises LoopClosureError likewise.
        """
        self._move(stamp_ns, odom_from_base)
        selector, run = self._selectors[MAP], self._runs[MAP]
        if not selector.keeps("", self._drive_from_base):
            return []
        if match is None:
            run.clear()
            return []
        run.extend(match.map_from_base, self._drive_from_base, match.spacing)
        if not run.believed(self._travelled):
            return []
        run.told(self._travelled)
        relation = match.relation or self._wide(match.spacing)
        return [Hint(stamp_ns, match.stamp_ns, relation, match.score, MAP, match.map_from_base)]

    def lose_odometry(self) -> None:
        """Odometry begins anew in another frame; the vehicle is taken to have stood still."""
        if self._last is not None:
            self._last = (self._last[0], None)
        self._trail.break_off()
        for run in self._runs.values():
            run.clear()

    def _own_hint(self, here: Keyframe, coarse: np.ndarray, fine: np.ndarray) -> Hint | None:
        config, run, spacing = self._config, self._runs[OWN], self._selectors[OWN].distance
        latest = replace(
            here,
            stamp_ns=here.stamp_ns - round(config.min_age * 1e9),
            travelled=here.travelled - config.min_path,
        )
        found = self._keyframes.best(coarse, fine, latest, CANDIDATES)
        if found is None or found[1] < config.score_threshold or self._drifts(found[0], here):
            run.clear()
            return None
        then, score = found
        run.extend(then.drive_from_base, here.drive_from_base, spacing)
        if not run.believed(here.travelled):
            return None
        relation = self._wide(spacing)
        if then.points is not None and here.points is not None:
            relation = relate(then.points, here.points, relation)
        if relation is None:
            return None
        run.told(here.travelled)
        return Hint(here.stamp_ns, then.stamp_ns, relation, score)

    def _drifts(self, then: Keyframe, here: Keyframe) -> bool:
        """Whether odometry would have to be worse than it can be, if these were one place."""
        gap, _ = distance(then.drive_from_base, here.drive_from_base)
        allowed = self._config.max_drift * (here.travelled - then.travelled)
        return gap > allowed + SLACK + self._selectors[OWN].distance

    def _wide(self, spacing: float) -> Relation:
        """The same place, as far as an image tells that is not verified."""
        position = POSITION_DEVIATION**2 + spacing**2 / 12  # evenly between keyframes
        angle = np.radians(ANGLE_DEVIATION) ** 2
        return Relation(Transform.identity(), np.diag([position] * 3 + [angle] * 3))

    def _move(self, stamp_ns: int, odom_from_base: Transform) -> None:
        """Follow odometry; where it jumps, the vehicle is taken to have stood still."""
        if self._last is not None:
            before, odometry = self._last
            if stamp_ns < before:
                raise LoopClosureError(
                    f"expected images in order of time, got {stamp_ns} ns after {before} ns; start "
                    "a new drive where the clock was set back"
                )
            if odometry is not None:
                self._advance(odometry.inverse() @ odom_from_base, (stamp_ns - before) / 1e9)
        self._last = (stamp_ns, odom_from_base)

    def _advance(self, motion: Transform, seconds: float) -> None:
        metres = float(np.linalg.norm(motion.translation))
        if metres > MAX_SPEED * seconds + JUMP_SLACK:
            self.lose_odometry()
            return
        self._drive_from_base = self._drive_from_base @ motion
        self._travelled += metres


class AgreeingRun:
    """Matches of keyframes in a row that odometry confirms, and where the last hint was."""

    def __init__(self, config: LoopClosureConfig) -> None:
        self._config = config
        self._matches: list[tuple[Transform, Transform]] = []
        self._told_at = -np.inf

    def clear(self) -> None:
        """The row is broken."""
        self._matches = []

    def extend(self, matched: Transform, here: Transform, spacing: float) -> None:
        """Pose of the match, in any frame that all share, and of the vehicle, by odometry."""
        reach = SLACK + spacing
        for other, there in self._matches:
            gap, turn = distance(other.inverse() @ matched, there.inverse() @ here)
            if gap > reach or turn > SLACK_ANGLE:
                self.clear()
                break
        self._matches = [*self._matches, (matched, here)][-self._config.agreeing :]

    def believed(self, travelled: float) -> bool:
        """Whether enough agree and the last hint was at another place."""
        enough = len(self._matches) >= self._config.agreeing
        return enough and travelled - self._told_at >= self._config.place_distance

    def told(self, travelled: float) -> None:
        """A hint was given here."""
        self._told_at = travelled


def map_match(localizer: Localizer, query: Query, answer: Answer) -> MapMatch | None:
    """The answer's map image as if this camera had taken it; None of an unknown place."""
    if not answer.known:
        return None
    record = answer.record
    map_from_base = record.map_from_camera @ answer.base_from_camera.inverse()
    return MapMatch(
        stamp_ns=record.stamp_ns,
        map_from_base=map_from_base,
        score=float(localizer.fine_scores(query, np.array([record.id]))[0]),
        spacing=answer.spacing,
        relation=relation_to(map_from_base, answer),
    )


def relation_to(map_from_keyframe: Transform, answer: Answer) -> Relation | None:
    """Relative pose of a tracked answer to a map image's base; None of a single image."""
    if not answer.tracked:
        return None
    relative = answer.pose.transformed(map_from_keyframe.inverse())
    return Relation(relative.pose, relative.covariance, answer.inliers)
