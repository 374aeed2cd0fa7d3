# SPDX-License-Identifier: Apache-2.0
"""Example frames for the report: query, activation map and matched map image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import DisamError, ImageError
from disam_ros.evaluation.frames import RIGHT, WRONG, EvaluatedFrame, has_truth, verdict
from disam_ros.evaluation.judge import Condition, Evaluation
from disam_ros.evaluation.metrics import Criteria
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame

Image = NDArray[np.uint8]  # RGB [H, W, 3]

BEST = "best"
WORST = "worst"
COUNTS = {BEST: 3, WORST: 6}  # frames shown per condition
PLACE_M = 30.0  # distance from which images show another place [m]
MIN_HEAT, MAX_HEAT = 0.1, 0.75  # opacity of the activation map where it is 0 and 1


@dataclass(frozen=True)
class Choice:
    """A frame to show."""

    frame: EvaluatedFrame  # with its answer and true pose
    matched: ImageRecord  # the frame's best match
    condition: str  # name of the frame's condition
    kind: str  # BEST or WORST


@dataclass(frozen=True)
class Example(Choice):
    """A chosen frame with its images, uint8 RGB [H, W, 3]."""

    query: Image  # the frame's image
    match: Image | None  # the map image; None where it is not available
    # Activation map of the query against its match [g, g] in [0, 1]; None with a global descriptor.
    heat: NDArray[np.float32] | None


def choose(evaluation: Evaluation) -> list[Choice]:
    """Chooses the frames to show of each condition, the worst first.

    Worst: wrong answers, the most probable first, of different places. Best: probable right ones,
    spread along the route. Without true poses: the least and the most probable ones.
    """
    chosen: list[Choice] = []
    for name, condition in evaluation.conditions.items():
        if has_truth(condition.frames):
            best, worst = _by_truth(condition, evaluation.criteria)
        else:
            best, worst = _by_probability(condition)
        for kind, frames in ((WORST, worst), (BEST, best)):
            pairs = [(frame, frame.answer.best) for frame in frames]
            chosen += [Choice(frame, match, name, kind) for frame, match in pairs if match]
    return chosen


def load(
    chosen: Sequence[Choice], localizer: Localizer, references: ImageSource | None
) -> list[Example]:
    """Loads the images of chosen frames, in their order, without those that cannot be read.

    references: the drive that the map was built from, if it is available.
    """
    queries = _queries(chosen)
    matches = {} if references is None else _matches(chosen, localizer, references)
    return [
        Example(
            **vars(choice),
            query=query,
            match=matches.get(choice.matched.id),
            heat=_heat(choice, query, localizer),
        )
        for choice in chosen
        if (query := queries.get(_key(choice.frame))) is not None
    ]


def overlay(image: Image, heat: NDArray[np.float32]) -> Image:
    """Draws an activation map [g, g] in [0, 1] over the grey image (uint8 RGB [H, W, 3])."""
    size = (image.shape[1], image.shape[0])
    large = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = MIN_HEAT + (MAX_HEAT - MIN_HEAT) * large[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    mixed: Image = ((1 - share) * grey + share * colours).astype(np.uint8)
    return mixed


def _by_truth(
    condition: Condition, criteria: Criteria
) -> tuple[list[EvaluatedFrame], list[EvaluatedFrame]]:
    right = [f for f in condition.frames if verdict(f, criteria) == RIGHT]
    wrong = [f for f in condition.frames if verdict(f, criteria) == WRONG]
    worst = sorted(wrong, key=lambda f: -f.answer.probability)
    return _spread(right), _different_places(worst)[: COUNTS[WORST]]


def _by_probability(condition: Condition) -> tuple[list[EvaluatedFrame], list[EvaluatedFrame]]:
    matched = [frame for frame in condition.frames if frame.best is not None]
    best = _spread(matched)
    shown = set(map(id, best))
    worst = sorted((f for f in matched if id(f) not in shown), key=lambda f: f.answer.probability)
    return best, worst[: COUNTS[WORST]]


def _spread(frames: Sequence[EvaluatedFrame]) -> list[EvaluatedFrame]:
    """Picks the most probable frame in each of several parts of equal length."""
    parts = np.array_split(np.arange(len(frames)), COUNTS[BEST])
    return [
        max((frames[i] for i in p), key=lambda f: f.answer.probability) for p in parts if len(p)
    ]


def _different_places(frames: Sequence[EvaluatedFrame]) -> list[EvaluatedFrame]:
    """Moves frames within PLACE_M of an earlier one to the end."""
    first: list[EvaluatedFrame] = []
    later: list[EvaluatedFrame] = []
    places: list[NDArray[np.float64]] = []
    for frame in frames:
        assert frame.truth is not None  # it is wrong
        place = frame.truth.translation
        if min((np.linalg.norm(place - other) for other in places), default=np.inf) <= PLACE_M:
            later.append(frame)
            continue
        first.append(frame)
        places.append(place)
        if len(first) == COUNTS[WORST]:
            break
    return first + later


def _key(frame: EvaluatedFrame) -> tuple[int, int]:
    """Returns the key of an image: its drive and its number."""
    return id(frame.drive), frame.answer.record.id


def _queries(chosen: Sequence[Choice]) -> dict[tuple[int, int], Image]:
    """Reads images of chosen frames by key; each drive once, up to the last one needed."""
    images: dict[tuple[int, int], Image] = {}
    drives = {id(choice.frame.drive): choice.frame.drive for choice in chosen}
    for key, drive in drives.items():
        missing = {c.frame.answer.record.id for c in chosen if c.frame.drive is drive}
        for item in drive.source.images:
            if item.record.id not in missing:
                continue
            missing.remove(item.record.id)
            image = _read(item.load)
            if image is not None:
                images[key, item.record.id] = image
            if not missing:
                break
    return images


def _matches(
    chosen: Sequence[Choice], localizer: Localizer, references: ImageSource
) -> dict[int, Image]:
    """Reads the map images of the best matches by their number in the map.

    Images of the map's drive are identified by camera and stamp, else by their source if it is
    unique.
    """
    best = {choice.matched.id: choice.matched for choice in chosen}
    sources = Counter(record.source for record in localizer.map.records)
    by_stamp = {(r.camera, r.stamp_ns): r.id for r in best.values() if r.stamp_ns}
    by_source = {r.source: r.id for r in best.values() if sources[r.source] == 1}
    images: dict[int, Image] = {}
    for item in references.images:
        record = item.record
        row = by_stamp.get((record.camera, record.stamp_ns), by_source.get(record.source))
        if row is None or row in images:
            continue
        image = _read(item.load)
        if image is not None:
            images[row] = image
        if len(images) == len(best):
            break
    return images


def _heat(choice: Choice, image: Image, localizer: Localizer) -> NDArray[np.float32] | None:
    """Activation map of the query against its match; None with a global descriptor."""
    answer = choice.frame.answer
    if not localizer.has_activation_maps:
        return None
    try:
        frame = Frame(
            image,
            answer.record.camera or localizer.map.main_camera(),
            answer.record.stamp_ns or None,
            domain=answer.domain or None,
        )
        (query,) = localizer.encode([frame], localizer.choose_domain(frame))
    except DisamError:
        return None
    return localizer.activation_map(query, choice.matched)


def _read(decode: Callable[[], Image]) -> Image | None:
    try:
        return decode()
    except ImageError:
        return None
