# SPDX-License-Identifier: Apache-2.0
"""Inliers of right and wrong places, and the models of features/inlier_evidence.py fitted to them.

    python -m benchmark.accuracy.inliers DATA [KIND ...]

with KIND of sift, orb, xfeat and aliked prints a table of keypoints per image against recall,
inliers, pose errors and time, and the constants of each kind.
DATA holds KITTI odometry 00 and folders of fixed webcams (`dnim`, `tilde`, `webcams`); the town of
seed 50 is rendered. None of these is a test drive of docs/accuracy.md, and nothing is learned from
KITTI: it is for choosing and checking.

A query is compared with images of its place and with the most similar images of other places.
KITTI: map frames 0.75, 1.5 and 3 m away, the same street on the way back to it, frames 11 m ahead,
and far ones; depths are triangulated. Webcams: crops of a day image against moved crops of the same
view by day, dusk and night, and against other cameras; without intrinsics. Town: night, snow and
rain against summer, with depths.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from benchmark.truth import truth_of
from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.datasets.formats.kitti_odometry import KittiOdometry
from disam_ros.errors import DatasetError
from disam_ros.features.inlier_evidence import MIN_REPETITION, fit_errors, fit_ratio
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.local_features import open_features
from disam_ros.features.matching import NearestNeighbours
from disam_ros.features.two_view import TwoView, compare
from disam_ros.geometry import Transform, offset
from disam_ros.mapping.keypoints import KeypointHeader, fill_depths, keypoints_of
from disam_ros.mapping.repetition import APART, QUANTILE, SIMILAR
from season_town import DriveConfig, RenderedDrive

COUNTS = (512, 1024, 2048)  # keypoints of an image
CHOSEN = 1024  # whose models are printed
LEAST = 0.05, 0.15  # errors of the map's poses [m], [deg], which a drive cannot show of itself
MAX_ERROR = 10.0  # metres, of a pose that counts
CHECKED = "KITTI"  # the set that nothing is learned from
TOWN = {"night": 1, "winter_snow": 2, "autumn_rain": 4}  # seeds of the drives


@dataclass(eq=False)
class View:
    """An image of a place."""

    pixels: NDArray[Any]
    place: NDArray[Any]  # position, or number of the webcam far from all others [m]
    pose: Transform | None = None  # map_from_camera; None: unknown
    camera: Camera | None = None  # None: unknown
    depth: NDArray[Any] | None = None  # depth map [m]
    around: tuple[View, ...] = ()  # images that its keypoints are triangulated with

    def posed(self) -> Transform:
        """Returns the pose. Raises DatasetError where it is unknown."""
        if self.pose is None:
            raise DatasetError("a view without a pose cannot be triangulated or judged")
        return self.pose

    @cached_property
    def signature(self) -> NDArray[Any]:
        """Local contrast of a small copy, to find similar images."""
        grey = cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (32, 16), interpolation=cv2.INTER_AREA).astype(float)
        small -= cv2.blur(small, (7, 7))
        small /= np.sqrt(cv2.blur(small**2, (7, 7))) + 4.0
        result: NDArray[Any] = small.ravel() / np.linalg.norm(small)
        return result


@dataclass(frozen=True, eq=False)
class Trial:
    """A query of a set and what it is compared with."""

    condition: str  # of the query
    query: View
    right: tuple[View, ...]  # images of its place
    wrong: tuple[View, ...]  # images of other places


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the comparison of a trial gave."""

    condition: str  # of the query
    right: list[int]  # inliers by image of the place
    wrong: list[int]  # inliers by image of other places
    # Errors of the pose, PnP's covariance, inliers with depth, distance of the mapped image [m].
    errors: list[tuple[NDArray[Any], NDArray[Any], int, float]]
    milliseconds: float  # of a pair


def kitti(data: Path) -> tuple[list[Trial], list[View]]:
    """Trials of KITTI odometry 00, and a sample of its map."""
    dataset = KittiOdometry("00", "day", camera=0).read(data / "kitti")
    poses = [truth_of(image) for image in dataset.images]
    places = np.array([pose.translation for pose in poses])
    path = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))]
    camera = dataset.info.cameras["front"]
    views: dict[tuple[int, bool], View] = {}

    def view(number: int, mapped: bool = True) -> View:
        if (number, mapped) not in views:
            pixels = image.read(dataset.directory / dataset.images[number].source)
            near = [at(number, gap) for gap in (-4, -2, -1, 1, 2, 4)] if mapped else []
            around = tuple(view(other, False) for other in near if other != number)
            pose, place = poses[number], places[number]
            views[number, mapped] = View(pixels, place, pose, camera, around=around)
        return views[number, mapped]

    def at(number: int, metres: float) -> int:
        return int(np.abs(path - (path[number] + metres)).argmin())

    sample = [view(number) for number in range(0, 1560, 36)]
    trials = []
    for number in range(30, 1560, 34):
        query = view(number, False)
        right = tuple(view(at(number, gap)) for gap in (0.75, -1.5, 3.0))
        ahead = view(at(number, 11.5))
        trials.append(Trial("street", query, right, (*similar(query, sample), ahead)))
    for number in range(1566, 1640, 6):
        query = view(number, False)
        nearest = 100 + int(np.linalg.norm(places[100:230] - places[number], axis=1).argmin())
        trials.append(Trial("again", query, (view(nearest),), similar(query, sample)))
    return trials, sample


def webcams(data: Path) -> tuple[list[Trial], list[View]]:
    """Trials of fixed webcams: moved crops by day, dusk and night; their crops by day."""
    rng = np.random.default_rng(0)
    queries: list[tuple[str, View, View]] = []
    sample: list[View] = []
    folders = sorted([*data.glob("dnim/*/*"), *data.glob("tilde/*"), *data.glob("webcams/*")])
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
        files = [files[i] for i in rng.choice(len(files), min(24, len(files)), replace=False)]
        files.sort(key=_brightness)
        if len(files) < 8:
            continue
        place = np.array([1e3 * len(sample), 0.0, 0.0])
        sample.append(View(_crop(image.read(files[int(0.8 * len(files))]), 0.5, 0.5), place))
        for condition, share in zip(
            ("night", "night", "dusk", "dusk", "day"), _SHARES, strict=True
        ):
            pixels = image.read(files[int(share * len(files))])
            queries.append((condition, View(_crop(pixels, *rng.random(2)), place), sample[-1]))
    trials = [Trial(name, q, (reference,), similar(q, sample)) for name, q, reference in queries]
    return trials, sample


_SHARES = (0.0, 0.1, 0.35, 0.5, 0.9)  # of the images, by rising brightness


def _brightness(path: Path) -> float:
    """Mean grey level of an image file. Raises DatasetError where it cannot be read."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise DatasetError(f"{path} is no image that OpenCV can read")
    return float(grey.mean())


def _crop(pixels: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    """Four fifths of an image, moved from one edge (0) to the other (1)."""
    height, width = (int(0.8 * size) for size in pixels.shape[:2])
    top, left = int(y * (pixels.shape[0] - height)), int(x * (pixels.shape[1] - width))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def town(_: Path) -> tuple[list[Trial], list[View]]:
    """Trials of the rendered town of seed 50: other conditions against summer."""
    summer = DriveConfig(
        condition="summer_day",
        town_seed=50,
        spacing_m=1.0,
        length_m=260.0,
        lateral_m=0.1,
        yaw_deg=0.5,
        depth=True,
    )
    sample, trials = list(_rendered(summer)), []
    for condition, seed in TOWN.items():
        config = DriveConfig(condition, 50, drive_seed=seed, rate_hz=0.8, length_m=260.0)
        for query in _rendered(config):
            gaps = np.array([np.linalg.norm(reference.place - query.place) for reference in sample])
            if gaps.min() < 2.0:
                near = (int(gaps.argmin()), int(np.where(gaps > 2.5, gaps, np.inf).argmin()))
                right, ahead = tuple(sample[i] for i in near), sample[_first(gaps > 10.5, near[0])]
                trials.append(Trial(condition, query, right, (*similar(query, sample), ahead)))
    return trials, sample[::5]


def _first(good: NDArray[Any], after: int) -> int:
    """The first good index after one, cyclically."""
    return int((after + 1 + np.roll(good, -after - 1).argmax()) % len(good))


def _rendered(config: DriveConfig) -> Iterator[View]:
    drive = RenderedDrive(config)
    for frame in drive:
        pose = frame.map_from_camera
        yield View(frame.image, pose.translation, pose, drive.camera, frame.depth)


def similar(query: View, sample: list[View]) -> tuple[View, ...]:
    """The most similar images of other places."""
    others = [view for view in sample if np.linalg.norm(view.place - query.place) > APART]
    gaps = cdist([query.signature], [view.signature for view in others])[0]
    return tuple(others[i] for i in np.argsort(gaps)[:SIMILAR])


class Matching:
    """Local features matched by nearest neighbours; keypoints are kept."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.features = open_features(kind)
        self.matcher = NearestNeighbours(kind)
        self._keypoints: dict[int, Keypoints] = {}
        self.milliseconds: list[float] = []

    def keypoints(self, view: View, count: int) -> Keypoints:
        """The strongest keypoints of an image, with depths where they can be had."""
        if id(view) not in self._keypoints:
            start = process_time()
            keypoints = self.features.extract(view.pixels, max(COUNTS))
            self.milliseconds.append(1e3 * (process_time() - start))
            self._keypoints[id(view)] = keypoints.seen_by(view.camera, view.pixels)
        keypoints = self._keypoints[id(view)]
        return keypoints[np.arange(min(count, len(keypoints)))]

    def known(self, view: View, count: int) -> Keypoints:
        """Keypoints of a view with depths."""
        points = self.keypoints(view, count)
        if view.depth is not None:
            x, y = np.clip(
                np.rint(points.pixels).T.astype(int),
                0,
                [[v - 1] for v in view.depth.shape[::-1]],
            )
            depths = view.depth[y, x].astype(float)
        elif view.around and view.camera is not None:
            depths = self._triangulated(view, view.camera, count)
        else:
            return points
        with np.errstate(divide="ignore"):
            inverse = 1.0 / depths
        return replace(
            points, inverse_depths=inverse, precisions=np.where(np.isnan(depths), 0.0, np.inf)
        )

    def _triangulated(self, view: View, camera: Camera, count: int) -> NDArray[Any]:
        """Depths as a map has them."""
        images = [*view.around, view]
        table = np.zeros(len(images), KeypointHeader(self.kind, count).row_type)
        table["depths"] = np.nan
        for row, source in zip(table, images, strict=True):
            points = self.keypoints(source, count)
            size = row["count"] = len(points)
            row["pixels"][:size], row["descriptors"][:size] = (
                points.pixels,
                points.descriptors,
            )
        poses = np.array([[*p.translation, *p.quaternion] for p in map(View.posed, images)])
        fill_depths(table, np.arange(len(images)), self.kind, poses, camera)
        return keypoints_of(table[-1], camera).depths

    def outcome(self, trial: Trial, count: int) -> Outcome:
        """Compare a query with all its images."""
        query = self.keypoints(trial.query, count)
        start = process_time()
        spent, errors = 0.0, []
        counts: tuple[list[int], list[int]] = ([], [])
        for which, views in zip(counts, (trial.right, trial.wrong), strict=True):
            for view in views:
                mapped = self.known(view, count)
                start = process_time()
                match = compare(self.matcher, query, mapped)
                spent += process_time() - start
                which.append(match.inliers)
                if which is counts[0] and trial.condition != "again":
                    errors += _error(match, trial.query, view)
        pairs = len(trial.right) + len(trial.wrong)
        return Outcome(trial.condition, counts[0], counts[1], errors, 1e3 * spent / pairs)

    def repetition(self, sample: list[View], count: int) -> float:
        """As a map measures it (mapping/repetition.py)."""
        most = [
            max(
                compare(self.matcher, self.keypoints(view, count), self.known(other, count)).inliers
                for other in similar(view, sample)
            )
            for view in sample
        ]
        return float(np.quantile(most, QUANTILE))


def _error(
    match: TwoView, query: View, mapped: View
) -> list[tuple[NDArray[Any], NDArray[Any], int, float]]:
    if match.there_from_here is None:
        return []
    true = mapped.posed().inverse() @ query.posed()
    error = offset(true, match.there_from_here.pose)
    close = np.linalg.norm(error[:3]) <= MAX_ERROR
    distance = float(np.linalg.norm(true.translation))
    return [(error, match.there_from_here.covariance, match.metric, distance)] if close else []


SETS: dict[str, Callable[[Path], tuple[list[Trial], list[View]]]] = {
    "KITTI": kitti,
    "webcams": webcams,
    "town": town,
}


def main(data: Path, kinds: list[str]) -> None:
    """Print the table and the models."""
    sets = {name: load(data) for name, load in SETS.items()}
    print("| set, condition | keypoints | right first | right | wrong, 95 % | error [m] | ms |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds:
        matching, outcomes = Matching(kind), {}
        for name, (trials, _) in sets.items():
            for count in COUNTS:
                outcomes[name, count] = [matching.outcome(trial, count) for trial in trials]
                _print_rows(f"{kind}: {name}", count, outcomes[name, count])
        _print_model(kind, {name: outcomes[name, CHOSEN] for name in sets}, matching, sets)


def _print_rows(name: str, count: int, outcomes: list[Outcome]) -> None:
    by_condition = defaultdict(list)
    for outcome in outcomes:
        by_condition[outcome.condition].append(outcome)
    for condition, group in by_condition.items():
        first = np.mean([max(o.right) > max(o.wrong) for o in group])
        right = np.median([max(o.right) for o in group])
        wrong = np.quantile([max(o.wrong) for o in group], 0.95)
        metres = [np.linalg.norm(error[:3]) for o in group for error, *_ in o.errors]
        error = f"{np.median(metres):.3f}" if metres else "–"
        spent = np.median([o.milliseconds for o in group])
        print(
            f"| {name}, {condition} | {count} | {100 * first:.0f} | {right:.0f} | {wrong:.0f} "
            f"| {error} | {spent:.1f} |"
        )


def _print_model(
    kind: str, of_conditions: dict[str, list[Outcome]], matching: Matching, sets: dict[str, Any]
) -> None:
    """Fit the model to all sets."""
    right: list[tuple[float, float]] = []
    wrong: list[tuple[float, float]] = []
    images, errors, repetitions = 0, [], []
    for name, outcomes in of_conditions.items():
        if name == CHECKED:
            continue
        chance = max(MIN_REPETITION, matching.repetition(sets[name][1], CHOSEN))
        repetitions.append(chance)
        images += len(outcomes)
        for outcome in outcomes:
            errors += outcome.errors
            right.extend((n, max(chance, *outcome.wrong)) for n in outcome.right)
            for i, n in enumerate(outcome.wrong):
                others = [*outcome.right, *outcome.wrong[:i], *outcome.wrong[i + 1 :]]
                wrong.append((n, max(chance, *others)))
    pairs = [tuple(np.array(rows, float).T) for rows in (right, wrong)]
    print(kind, fit_ratio(pairs[0], pairs[1], images), "repetition", max(repetitions))
    if errors:
        whole = [np.stack([row[i] for row in errors]) for i in (0, 1)]
        inliers, distances = (np.array([row[i] for row in errors], float) for i in (2, 3))
        print(kind, fit_errors(whole[0], whole[1], inliers, distances, LEAST))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["sift", "orb", "xfeat"])
