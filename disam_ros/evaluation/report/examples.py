# SPDX-License-Identifier: Apache-2.0
"""Example frames for the report: query, activation map and matched map image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from disam_ros.datasets.dataset import ImageRecord
from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import DisamError, ImageError
from disam_ros.evaluation.frames import RIGHT, WRONG, EvaluatedFrame, has_truth, verdict
from disam_ros.evaluation.judge import Condition, Evaluation
from disam_ros.evaluation.metrics import Criteria
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame

BEST = "best"
WORST = "worst"
COUNTS = {BEST: 3, WORST: 6}  # frames shown per condition
PLACE_M = 30.0  # distance from which images show another place [m]
MIN_HEAT, MAX_HEAT = 0.1, 0.75  # opacity of the activation map where it is 0 and 1


@dataclass(frozen=True)
class Choice:
    """A frame to show. kind: BEST or WORST."""

    frame: EvaluatedFrame
    condition: str
    kind: str


@dataclass(frozen=True)
class Example(Choice):
    """A chosen frame with its images, uint8 RGB [H, W, 3].

    heat: activation map of the query against its match, float32 [g, g] in [0, 1]; None where there
    is none. match: the map image; None where it is not available.
    """

    query: np.ndarray
    heat: np.ndarray | None
    match: np.ndarray | None


def choose(evaluation: Evaluation) -> list[Choice]:
    """The frames to show of each condition, the worst first.

    Worst: wrong answers, the most probable first, of different places. Best: probable right ones,
    spread along the route. Without true poses: the least and the most probable ones.
    """
    chosen = []
    for name, condition in evaluation.conditions.items():
        if has_truth(condition.frames):
            best, worst = _by_truth(condition, evaluation.criteria)
        else:
            best, worst = _by_probability(condition)
        chosen += [Choice(frame, name, WORST) for frame in worst]
        chosen += [Choice(frame, name, BEST) for frame in best]
    return chosen


def load(
    chosen: Sequence[Choice], localizer: Localizer, references: ImageSource | None
) -> list[Example]:
    """The images of chosen frames, in their order, without those that cannot be read.

    references: the drive that the map was built from, if it is available.
    """
    queries = _queries(chosen)
    matches = {} if references is None else _matches(chosen, localizer, references)
    return [
        Example(
            frame=choice.frame,
            condition=choice.condition,
            kind=choice.kind,
            query=query,
            heat=_heat(choice.frame, query, localizer),
            match=matches.get(choice.frame.answer.best.id),
        )
        for choice in chosen
        if (query := queries.get(_key(choice.frame))) is not None
    ]


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Activation map [g, g] in [0, 1] over the grey image (uint8 RGB [H, W, 3])."""
    size = (image.shape[1], image.shape[0])
    heat = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = MIN_HEAT + (MAX_HEAT - MIN_HEAT) * heat[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return ((1 - share) * grey + share * colours).astype(np.uint8)


def _by_truth(
    condition: Condition, criteria: Criteria
) -> tuple[list[EvaluatedFrame], list[EvaluatedFrame]]:
    right = [f for f in condition.frames if verdict(f, criteria) == RIGHT]
    wrong = [f for f in condition.frames if verdict(f, criteria) == WRONG]
    worst = sorted(wrong, key=lambda f: -f.answer.probability)
    return _spread(right), _apart(worst, PLACE_M)[: COUNTS[WORST]]


def _by_probability(condition: Condition) -> tuple[list[EvaluatedFrame], list[EvaluatedFrame]]:
    matched = [frame for frame in condition.frames if frame.best is not None]
    best = _spread(matched)
    shown = set(map(id, best))
    worst = sorted((f for f in matched if id(f) not in shown), key=lambda f: f.answer.probability)
    return best, worst[: COUNTS[WORST]]


def _spread(frames: Sequence[EvaluatedFrame]) -> list[EvaluatedFrame]:
    """The most probable frame in each of several parts of equal length."""
    parts = np.array_split(np.arange(len(frames)), COUNTS[BEST])
    return [
        max((frames[i] for i in p), key=lambda f: f.answer.probability) for p in parts if len(p)
    ]


def _apart(frames: Sequence[EvaluatedFrame], distance: float) -> list[EvaluatedFrame]:
    """The same frames, those within `distance` [m] of an earlier one last."""
    first: list[EvaluatedFrame] = []
    later: list[EvaluatedFrame] = []
    for frame in frames:
        gaps = [np.linalg.norm(frame.truth.translation - f.truth.translation) for f in first]
        (later if min(gaps, default=np.inf) <= distance else first).append(frame)
        if len(first) == COUNTS[WORST]:
            break
    return first + later


def _key(frame: EvaluatedFrame) -> tuple[int, int]:
    """Key of an image: its drive and its number."""
    return id(frame.drive), frame.answer.record.id


def _queries(chosen: Sequence[Choice]) -> dict[tuple[int, int], np.ndarray]:
    """Images of chosen frames by key; each drive is read once, up to the last one wanted."""
    found = {}
    drives = {id(choice.frame.drive): choice.frame.drive for choice in chosen}
    for key, drive in drives.items():
        wanted = {c.frame.answer.record.id for c in chosen if c.frame.drive is drive}
        for item in drive.source.images:
            if item.record.id not in wanted:
                continue
            wanted.remove(item.record.id)
            image = _read(item.load)
            if image is not None:
                found[key, item.record.id] = image
            if not wanted:
                break
    return found


def _matches(
    chosen: Sequence[Choice], localizer: Localizer, references: ImageSource
) -> dict[int, np.ndarray]:
    """Map images of the best matches by their number in the map.

    Images of the map's drive are identified by camera and stamp, else by their source if it is
    unique.
    """
    best = {choice.frame.answer.best.id: choice.frame.answer.best for choice in chosen}
    sources = Counter(record.source for record in localizer.map.records)
    by_stamp = {(r.camera, r.stamp_ns): r.id for r in best.values() if r.stamp_ns}
    by_source = {r.source: r.id for r in best.values() if sources[r.source] == 1}
    found: dict[int, np.ndarray] = {}
    for item in references.images:
        row = _row(item.record, by_stamp, by_source)
        if row is None or row in found:
            continue
        image = _read(item.load)
        if image is not None:
            found[row] = image
        if len(found) == len(best):
            break
    return found


def _row(
    record: ImageRecord, by_stamp: dict[tuple[str, int], int], by_source: dict[str, int]
) -> int | None:
    return by_stamp.get((record.camera, record.stamp_ns), by_source.get(record.source))


def _heat(frame: EvaluatedFrame, query: np.ndarray, localizer: Localizer) -> np.ndarray | None:
    """Activation map of the query against its match; None with a global descriptor."""
    answer = frame.answer
    if not localizer.has_activation_maps:
        return None
    try:
        frame = Frame(
            query,
            answer.record.camera or localizer.only_camera(),
            answer.record.stamp_ns or None,
            domain=answer.domain or None,
        )
        (described,) = localizer.encode([frame], localizer.choose_domain(frame))
    except DisamError:
        return None
    return localizer.activation_map(described, answer.best)


def _read(decode: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return decode()
    except ImageError:
        return None
