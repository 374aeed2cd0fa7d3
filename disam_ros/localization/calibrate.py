# SPDX-License-Identifier: Apache-2.0
"""Learns a calibration (calibration.py) from drives with true poses against a map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import ModelError
from disam_ros.geometry import Transform
from disam_ros.localization.calibration import (
    LOW,
    Calibration,
    ScoreScale,
    fit_errors,
    fit_ratio,
    highest_ratio,
)
from disam_ros.localization.drive import camera_mount, localizations
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.result import Localization
from disam_ros.localization.tracker import SPREAD, Tracker
from disam_ros.uncertainty import offset

NEAR_M, NEAR_DEG = 2.5, 20.0  # map images so near show the query's place
FAR_M = 10.0  # those farther show another
RIGHT_M = 5.0  # answers farther off are wrong: their error is no matter of the covariance
OTHERS = 200  # other places taken of an image


def calibrate(
    localizer: Localizer, drives: Sequence[ImageSource], show_progress: bool = True
) -> Calibration:
    """Ratio of scores and errors of right answers, over drives in the order of their images.

    The drives are followed twice: for the ratio, and with it for the errors; what the localizer was
    calibrated with before does not matter. Give drives that nothing was trained on, under the
    conditions that are expected. Raises ModelError where they teach too little.
    """
    matches, others = _all_scores(localizer, drives, show_progress)
    intercept, slope = fit_ratio(np.concatenate(matches), np.concatenate(others))
    high = highest_ratio(len(matches))
    ratio = {"intercept": intercept, "slope": slope, "low": LOW, "high": high}
    localizer = copy(localizer)
    localizer.calibration = replace(localizer.calibration, **ratio)
    offsets, spreads = _all_errors(localizer, drives, show_progress)
    horizontal, vertical, tilt, yaw = fit_errors(offsets, SPREAD * spreads)
    errors = {"horizontal": horizontal, "vertical": vertical, "tilt": tilt, "yaw": yaw}
    return Calibration(**ratio, **errors, learned_on=[drive.info.name for drive in drives])


def _all_scores(
    localizer: Localizer, drives: Sequence[ImageSource], show_progress: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """z of map images at the true place, image by image, and of some elsewhere."""
    matches: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for number, drive in enumerate(drives):
        rng, scales = np.random.default_rng(number), {}
        for record, found in _posed(localizer, drive, "scores", show_progress):
            pair = _scores(localizer, found, record.map_from_camera, rng, scales)
            if pair is not None:
                matches.append(pair[0])
                others.append(pair[1])
    if not matches:
        raise ModelError(
            "no image of the drives has a true pose on the map: are they of its frame and place?"
        )
    return matches, others


def _all_errors(
    localizer: Localizer, drives: Sequence[ImageSource], show_progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of right answers: offset from the truth [N, 6] and spread of the images [N, 6, 6]."""
    offsets, spreads = [], []
    for drive in drives:
        tracker = Tracker(localizer)
        for record, found in _posed(localizer, drive, "errors", show_progress, tracker):
            mount = camera_mount(drive, record)
            truth = record.map_from_camera @ mount.inverse()
            error = offset(truth, found.map_from_base(mount))
            if found.estimate.known and np.linalg.norm(error[:3]) <= RIGHT_M:
                offsets.append(error)
                spreads.append(found.estimate.spread)
    if not offsets:
        raise ModelError(
            f"no answer to the drives is sure and within {RIGHT_M:g} m of its true pose: are they "
            f"of the map's place, and is the model trained for them?"
        )
    return np.stack(offsets), np.stack(spreads)


def _posed(
    localizer: Localizer,
    drive: ImageSource,
    what: str,
    show_progress: bool,
    tracker: Tracker | None = None,
) -> Iterator[tuple[ImageRecord, Localization]]:
    """Localizations of the images whose true pose is known; points do not help."""
    bar = {"total": drive.total, "desc": f"{drive.info.name}: {what}", "disable": not show_progress}
    images = tqdm(drive.images, unit="img", **bar)
    for record, found in localizations(localizer, drive, images, tracker, points=False):
        if found is not None and record.map_from_camera is not None:
            yield record, found


def _scores(
    localizer: Localizer,
    found: Localization,
    truth: Transform,
    rng: np.random.Generator,
    scales: dict[str, ScoreScale],
) -> tuple[np.ndarray, np.ndarray] | None:
    """z of the map images at the true place, and of some elsewhere; None where either is empty."""
    place_map = localizer.map
    rows = place_map.rows_of(found.camera)
    if found.camera not in scales:
        codes, steps = place_map.coarse[rows], place_map.projection.steps
        scales[found.camera] = ScoreScale.of_codes(codes, steps)
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
        found_rows, scores = localizer.scores(found, some, 1)
        wanted = np.isin(found_rows, some)
        pair.append(scales[found.camera].z(found.coarse, scores[wanted]))
    return pair[0], pair[1]
