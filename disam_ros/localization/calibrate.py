# SPDX-License-Identifier: Apache-2.0
"""Fits a calibration (calibration.py) to drives with ground-truth poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import ModelError
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer
from disam_ros.localization.calibration import (
    LOW,
    Calibration,
    ScoreScale,
    fit_errors,
    fit_ratio,
    highest_ratio,
)
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Query
from disam_ros.localization.tracker import SPREAD
from disam_ros.uncertainty import offset

NEAR_M, NEAR_DEG = 2.5, 20.0  # pose difference up to which a map image is a positive
FAR_M = 10.0  # distance from which it is a negative
CORRECT_M = 5.0  # error up to which an answer is correct: the covariance describes these
OTHERS = 200  # negatives sampled per image


def calibrate(
    localizer: Localizer, drives: Sequence[ImageSource], show_progress: bool = True
) -> Calibration:
    """Likelihood ratio of scores, and errors of correct answers, over drives in image order.

    The drives are processed twice, without verification: first for the ratio, then with that ratio
    for the errors. The localizer's own calibration has no influence. Use validation drives under
    the expected conditions. Raises ModelError where they are too short or of another place.
    """
    sequence = replace(localizer.config.sequence, enabled=True)
    localizer = localizer.with_config(replace(localizer.config, sequence=sequence))
    matches, others = _all_scores(localizer, drives, show_progress)
    intercept, slope = fit_ratio(np.concatenate(matches), np.concatenate(others))
    high = highest_ratio(len(matches))
    calibration = replace(
        localizer.calibration, intercept=intercept, slope=slope, low=LOW, high=high
    )
    offsets, spreads = _all_errors(localizer, drives, calibration, show_progress)
    horizontal, vertical, tilt, yaw = fit_errors(offsets, SPREAD * spreads)
    return replace(
        calibration,
        horizontal=horizontal,
        vertical=vertical,
        tilt=tilt,
        yaw=yaw,
        learned_on=[drive.info.name for drive in drives],
    )


def _all_scores(
    localizer: Localizer, drives: Sequence[ImageSource], show_progress: bool
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """z-scores of positives and of sampled negatives, image by image."""
    matches: list[NDArray[np.float64]] = []
    others: list[NDArray[np.float64]] = []
    for number, drive in enumerate(drives):
        rng = np.random.default_rng(number)
        scales: dict[str, ScoreScale] = {}
        pipeline = Pipeline(localizer, verify=False)
        for query, _, truth in _posed(pipeline, drive, "scores", show_progress):
            pair = _scores(localizer, query, truth, rng, scales)
            if pair is not None:
                matches.append(pair[0])
                others.append(pair[1])
    if not matches:
        raise ModelError(
            "no image of the drives has a true pose on the map: are they of its frame and place?"
        )
    return matches, others


def _all_errors(
    localizer: Localizer,
    drives: Sequence[ImageSource],
    calibration: Calibration,
    show_progress: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of correct answers: error [N, 6] and covariance of the likely map images [N, 6, 6]."""
    offsets, spreads = [], []
    for drive in drives:
        pipeline = Pipeline(localizer, calibration, verify=False)
        for _, answer, map_from_camera in _posed(pipeline, drive, "errors", show_progress):
            truth = map_from_camera @ answer.base_from_camera.inverse()
            error = offset(truth, answer.map_from_base)
            correct = answer.known and np.linalg.norm(error[:3]) <= CORRECT_M
            if correct and answer.spread is not None:
                offsets.append(error)
                spreads.append(answer.spread)
    if not offsets:
        raise ModelError(
            f"no answer to the drives is sure and within {CORRECT_M:g} m of its true pose: are "
            f"they of the map's place, and is the model trained for them?"
        )
    return np.stack(offsets), np.stack(spreads)


def _posed(
    pipeline: Pipeline, drive: ImageSource, what: str, show_progress: bool
) -> Iterator[tuple[Query, Answer, Transform]]:
    """Queries, answers and true map_from_camera of the images with ground truth."""
    images = tqdm(
        drive.images,
        unit="img",
        total=drive.total,
        desc=f"{drive.info.name}: {what}",
        disable=not show_progress,
    )
    for record, answer in localize_drive(pipeline, drive, images):
        query, truth = pipeline.query, record.map_from_camera
        if answer is not None and query is not None and truth is not None:
            yield query, answer, truth


def _scores(
    localizer: Localizer,
    query: Query,
    truth: Transform,
    rng: np.random.Generator,
    scales: dict[str, ScoreScale],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """z-scores of the positives and of sampled negatives; None without either."""
    place_map = localizer.map
    rows = place_map.rows_of(query.camera)
    if query.camera not in scales:
        codes, steps = place_map.coarse[rows], place_map.projection.steps
        scales[query.camera] = ScoreScale.of_codes(codes, steps)
    gaps = np.linalg.norm(place_map.poses[rows, :3] - truth.translation, axis=1)
    turns = Rotation.from_quat(truth.quaternion).inv() * Rotation.from_quat(
        place_map.poses[rows, 3:]
    )
    near = np.flatnonzero((gaps <= NEAR_M) & (np.degrees(turns.magnitude()) <= NEAR_DEG))
    far = np.flatnonzero(gaps > FAR_M)
    if not len(near) or not len(far):
        return None
    far = rng.choice(far, min(OTHERS, len(far)), replace=False)
    pair = []
    for some in (near, far):
        found, scores = localizer.coarse_scores(query, some, 1)
        wanted = np.isin(found, some)
        pair.append(scales[query.camera].z(query.coarse, scores[wanted]))
    return pair[0], pair[1]
